//! The slow and obvious reference: all members of all objects at once, again and again until nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Class, Edge, Expr, OBJECTS, Who, World};

/// 0 false, 1 unknown, 2 true.
pub type Level = u8;
/// Type, member, object.
pub type Node = (usize, String, usize);
type Values = BTreeMap<Node, Level>;

/// What the reference says of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Deny,
    Conditional(BTreeSet<String>),
    /// Neither answer is right: an exclusion excludes itself.
    Undefined,
}

pub struct Reference {
    world: World,
    /// The relationships that have not expired, by what they are stored under.
    edges: BTreeMap<Node, Vec<Edge>>,
    subject: Who,
}

impl Reference {
    /// What holds of every node for one subject.
    pub fn answers(world: &World, subject: &Who, now: i64) -> BTreeMap<Node, Answer> {
        let mut world = world.clone();
        name_exclusions(&mut world);
        let mut edges: BTreeMap<Node, Vec<Edge>> = BTreeMap::new();
        for edge in &world.edges {
            if edge.expires_at.is_none_or(|expires_at| expires_at > now) {
                let node = (edge.object_type, edge.relation.clone(), edge.object);
                edges.entry(node).or_default().push(edge.clone());
            }
        }
        let this = Self {
            world,
            edges,
            subject: subject.clone(),
        };
        let (low, high) = this.well_founded();
        let names = this.names(&low);
        let answer = |node: &Node| match (low[node], high[node]) {
            (2, 2) => Answer::Allow,
            (0, 0) => Answer::Deny,
            (1, 1) => Answer::Conditional(names[node].clone()),
            _ => Answer::Undefined,
        };
        low.keys().map(|node| (node.clone(), answer(node))).collect()
    }

    fn nodes(&self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for (at, held) in self.world.types.iter().enumerate() {
            for name in held.names() {
                nodes.extend((0..OBJECTS).map(|object| (at, name.clone(), object)));
            }
        }
        nodes
    }

    /// The alternating fixpoint: lower bounds by what is excluded at most, upper bounds by what is excluded at least.
    fn well_founded(&self) -> (Values, Values) {
        let all = |level| -> Values { self.nodes().into_iter().map(|node| (node, level)).collect() };
        let mut high = all(2);
        loop {
            let low = self.least_fixpoint(&high);
            let next = self.least_fixpoint(&low);
            if next == high {
                return (low, high);
            }
            high = next;
        }
    }

    fn least_fixpoint(&self, opposite: &Values) -> Values {
        let nodes = self.nodes();
        let mut values: Values = nodes.iter().map(|node| (node.clone(), 0)).collect();
        loop {
            let mut moved = false;
            for node in &nodes {
                let next = self.node(node, &values, opposite);
                moved |= values.insert(node.clone(), next) != Some(next);
            }
            if !moved {
                return values;
            }
        }
    }

    fn is_subject(&self, node: &Node) -> bool {
        self.subject.object == node.2 && self.subject.class == Class::Userset(node.0, node.1.clone())
    }

    fn node(&self, node: &Node, values: &Values, opposite: &Values) -> Level {
        if self.is_subject(node) {
            return 2;
        }
        let held = &self.world.types[node.0];
        match held.permissions.get(&node.1) {
            Some(expr) => self.expr(expr, node, values, opposite),
            None => {
                let edges = self.edges(node);
                let levels = edges.map(|edge| match &edge.who.class {
                    Class::Object(of) => {
                        let same = self.subject.class == Class::Object(*of);
                        if same && self.subject.object == edge.who.object {
                            self.terms(edge)
                        } else {
                            0
                        }
                    }
                    Class::Wildcard(of) => {
                        let plain = self.subject.class == Class::Object(*of);
                        if plain || self.subject.class == Class::Wildcard(*of) {
                            self.terms(edge)
                        } else {
                            0
                        }
                    }
                    Class::Userset(of, name) => {
                        values[&(*of, name.clone(), edge.who.object)].min(self.terms(edge))
                    }
                });
                levels.max().unwrap_or(0)
            }
        }
    }

    fn expr(&self, expr: &Expr, node: &Node, values: &Values, opposite: &Values) -> Level {
        let go = |expr: &Expr| self.expr(expr, node, values, opposite);
        match expr {
            Expr::Nil => 0,
            Expr::Itself => {
                let same = self.subject.class == Class::Object(node.0) && self.subject.object == node.2;
                2 * u8::from(same)
            }
            Expr::Member(name) => values[&(node.0, name.clone(), node.2)],
            Expr::Union(operands) => operands.iter().map(go).max().unwrap_or(0),
            Expr::Intersection(operands) => operands.iter().map(go).min().unwrap_or(2),
            Expr::Exclusion(left, right) => {
                let right = self.expr(right, node, opposite, values);
                go(left).min(2 - right)
            }
            Expr::Any(left, right) => self.behind(node, left, right, values).max().unwrap_or(0),
            Expr::All(left, right) => self.behind(node, left, right, values).min().unwrap_or(0),
        }
    }

    /// What an arrow finds, subject by subject.
    fn behind<'s>(
        &'s self,
        node: &'s Node,
        left: &'s str,
        right: &'s str,
        values: &'s Values,
    ) -> impl Iterator<Item = Level> + 's {
        self.edges_of(node, left).map(move |edge| {
            let target = (edge.who.class.of(), right.to_owned(), edge.who.object);
            values.get(&target).copied().unwrap_or(0).min(self.terms(edge))
        })
    }

    fn edges(&self, node: &Node) -> impl Iterator<Item = &Edge> {
        self.edges.get(node).into_iter().flatten()
    }

    /// Those of another relation of the same object.
    fn edges_of(&self, node: &Node, relation: &str) -> impl Iterator<Item = &Edge> {
        let node = (node.0, relation.to_owned(), node.2);
        self.edges.get(&node).into_iter().flatten()
    }

    fn terms(&self, edge: &Edge) -> Level {
        let Some((caveat, stored)) = edge.caveat else {
            return 2;
        };
        match stored.or(self.world.request[caveat]) {
            Some(true) => 2,
            Some(false) => 0,
            None => 1,
        }
    }

    /// The names that matter: those of all undecided operands of undecided nodes.
    fn names(&self, values: &Values) -> BTreeMap<Node, BTreeSet<String>> {
        let mut names: BTreeMap<Node, BTreeSet<String>> = values
            .keys()
            .map(|node| (node.clone(), BTreeSet::new()))
            .collect();
        loop {
            let mut next = names.clone();
            for (node, held) in &mut next {
                if values[node] == 1 {
                    self.node_names(node, values, &names, held);
                }
            }
            if next == names {
                return names;
            }
            names = next;
        }
    }

    fn node_names(
        &self,
        node: &Node,
        values: &Values,
        names: &BTreeMap<Node, BTreeSet<String>>,
        into: &mut BTreeSet<String>,
    ) {
        if let Some(expr) = self.world.types[node.0].permissions.get(&node.1) {
            return self.expr_names(expr, node, values, names, into);
        }
        for edge in self.edges(node) {
            match &edge.who.class {
                Class::Object(_) | Class::Wildcard(_) => {
                    let class = &self.subject.class;
                    let meant = match &edge.who.class {
                        Class::Object(_) => {
                            *class == edge.who.class && self.subject.object == edge.who.object
                        }
                        of => *class == *of || *class == Class::Object(of.of()),
                    };
                    if meant && self.terms(edge) == 1 {
                        self.edge_name(edge, into);
                    }
                }
                Class::Userset(of, name) => {
                    self.edge_names(edge, &(*of, name.clone(), edge.who.object), values, names, into);
                }
            }
        }
    }

    fn edge_name(&self, edge: &Edge, into: &mut BTreeSet<String>) {
        if let Some((caveat, _)) = edge.caveat {
            into.insert(format!("v{caveat}"));
        }
    }

    fn edge_names(
        &self,
        edge: &Edge,
        target: &Node,
        values: &Values,
        names: &BTreeMap<Node, BTreeSet<String>>,
        into: &mut BTreeSet<String>,
    ) {
        let behind = values.get(target).copied().unwrap_or(0);
        if self.terms(edge).min(behind) != 1 {
            return;
        }
        if self.terms(edge) == 1 {
            self.edge_name(edge, into);
        }
        if behind == 1 {
            into.extend(names[target].iter().cloned());
        }
    }

    fn expr_names(
        &self,
        expr: &Expr,
        node: &Node,
        values: &Values,
        names: &BTreeMap<Node, BTreeSet<String>>,
        into: &mut BTreeSet<String>,
    ) {
        if self.expr(expr, node, values, values) != 1 {
            return;
        }
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(name) => into.extend(names[&(node.0, name.clone(), node.2)].iter().cloned()),
            Expr::Union(operands) | Expr::Intersection(operands) => {
                for operand in operands {
                    self.expr_names(operand, node, values, names, into);
                }
            }
            Expr::Exclusion(left, right) => {
                self.expr_names(left, node, values, names, into);
                self.expr_names(right, node, values, names, into);
            }
            Expr::Any(left, right) | Expr::All(left, right) => {
                for edge in self.edges_of(node, left) {
                    let target = (edge.who.class.of(), right.clone(), edge.who.object);
                    self.edge_names(edge, &target, values, names, into);
                }
            }
        }
    }
}

/// Gives each exclusion a permission of its own, so that an expression means the same as if its parts were named: without that,
/// in `a - (b - c)` the two exclusions would cancel out where `c` is recursive, and in `a - d`, `d = b - c` they would not.
fn name_exclusions(world: &mut World) {
    for held in &mut world.types {
        let mut named = BTreeMap::new();
        for (name, expr) in &held.permissions {
            let expr = name_in(expr, &mut named);
            named.insert(name.clone(), expr);
        }
        held.permissions = named;
    }
}

fn name_in(expr: &Expr, named: &mut BTreeMap<String, Expr>) -> Expr {
    let mut all = |operands: &[Expr]| operands.iter().map(|operand| name_in(operand, named)).collect();
    match expr {
        Expr::Union(operands) => Expr::Union(all(operands)),
        Expr::Intersection(operands) => Expr::Intersection(all(operands)),
        Expr::Exclusion(left, right) => {
            let left = Box::new(name_in(left, named));
            let right = Box::new(name_in(right, named));
            let name = format!("exclusion{}", named.len());
            named.insert(name.clone(), Expr::Exclusion(left, right));
            Expr::Member(name)
        }
        Expr::Nil | Expr::Itself | Expr::Member(_) | Expr::Any(..) | Expr::All(..) => expr.clone(),
    }
}
