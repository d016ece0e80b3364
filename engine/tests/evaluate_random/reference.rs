//! The slow and obvious reference: all members of all objects at once, again and again until nothing changes.

use std::collections::{BTreeMap, BTreeSet};

use super::world::{Class, Edge, Expr, OBJECTS, Who, World};

/// 0 false, 1 unknown, 2 true.
pub type Level = u8;
/// Type, member, object.
pub type Node = (usize, String, usize);
/// By the places of the nodes.
type Values = Vec<Level>;

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
    nodes: Vec<Node>,
    /// Where the nodes of each type's members begin.
    places: Vec<BTreeMap<String, usize>>,
    /// The relationships that have not expired, by the places of what they are stored under.
    edges: Vec<Vec<Edge>>,
    subject: Who,
}

impl Reference {
    /// What holds of every node for one subject.
    pub fn answers(world: &World, subject: &Who, now: i64) -> BTreeMap<Node, Answer> {
        let mut world = world.clone();
        name_exclusions(&mut world);
        let mut this = Self {
            world,
            nodes: Vec::new(),
            places: Vec::new(),
            edges: Vec::new(),
            subject: subject.clone(),
        };
        this.place_nodes(now);
        let (low, high) = this.well_founded();
        let names = this.names(&low);
        let answer = |at: usize| match (low[at], high[at]) {
            (2, 2) => Answer::Allow,
            (0, 0) => Answer::Deny,
            (1, 1) => Answer::Conditional(names[at].clone()),
            _ => Answer::Undefined,
        };
        let nodes = this.nodes.iter().enumerate();
        nodes.map(|(at, node)| (node.clone(), answer(at))).collect()
    }

    fn place_nodes(&mut self, now: i64) {
        for (of, held) in self.world.types.iter().enumerate() {
            let mut places = BTreeMap::new();
            for name in held.names() {
                places.insert(name.clone(), self.nodes.len());
                self.nodes
                    .extend((0..OBJECTS).map(|object| (of, name.clone(), object)));
            }
            self.places.push(places);
        }
        self.edges = vec![Vec::new(); self.nodes.len()];
        for edge in &self.world.edges {
            if edge.expires_at.is_none_or(|expires_at| expires_at > now) {
                let at = self.places[edge.object_type][&edge.relation] + edge.object;
                self.edges[at].push(edge.clone());
            }
        }
    }

    fn place(&self, of: usize, name: &str, object: usize) -> Option<usize> {
        Some(self.places[of].get(name)? + object)
    }

    /// The alternating fixpoint: lower bounds by what is excluded at most, upper bounds by what is excluded at least.
    fn well_founded(&self) -> (Values, Values) {
        let mut high = vec![2; self.nodes.len()];
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
        let mut values = vec![0; self.nodes.len()];
        loop {
            let mut moved = false;
            for (at, node) in self.nodes.iter().enumerate() {
                let next = self.node(node, &values, opposite);
                moved |= std::mem::replace(&mut values[at], next) != next;
            }
            if !moved {
                return values;
            }
        }
    }

    fn is_subject(&self, node: &Node) -> bool {
        let is_class = |of: &usize, name: &String| (*of, name) == (node.0, &node.1);
        self.subject.object == node.2
            && matches!(&self.subject.class, Class::Userset(of, name) if is_class(of, name))
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
                        let behind = self.place(*of, name, edge.who.object);
                        behind.map_or(0, |at| values[at]).min(self.terms(edge))
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
            Expr::Member(name) => self.place(node.0, name, node.2).map_or(0, |at| values[at]),
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
            let target = self.place(edge.who.class.of(), right, edge.who.object);
            target.map_or(0, |at| values[at]).min(self.terms(edge))
        })
    }

    fn edges(&self, node: &Node) -> impl Iterator<Item = &Edge> {
        self.edges_of(node, &node.1)
    }

    /// Those of another relation of the same object.
    fn edges_of(&self, node: &Node, relation: &str) -> impl Iterator<Item = &Edge> {
        let at = self.place(node.0, relation, node.2);
        at.into_iter().flat_map(|at| &self.edges[at])
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
    fn names(&self, values: &Values) -> Vec<BTreeSet<String>> {
        let mut names = vec![BTreeSet::new(); self.nodes.len()];
        loop {
            let mut moved = false;
            for (at, node) in self.nodes.iter().enumerate() {
                if values[at] == 1 {
                    let mut held = names[at].clone();
                    self.node_names(node, values, &names, &mut held);
                    moved |= held != names[at];
                    names[at] = held;
                }
            }
            if !moved {
                return names;
            }
        }
    }

    fn node_names(
        &self,
        node: &Node,
        values: &Values,
        names: &[BTreeSet<String>],
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
                    let target = self.place(*of, name, edge.who.object);
                    self.edge_names(edge, target, values, names, into);
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
        target: Option<usize>,
        values: &Values,
        names: &[BTreeSet<String>],
        into: &mut BTreeSet<String>,
    ) {
        let behind = target.map_or(0, |at| values[at]);
        if self.terms(edge).min(behind) != 1 {
            return;
        }
        if self.terms(edge) == 1 {
            self.edge_name(edge, into);
        }
        if let Some(at) = target.filter(|_| behind == 1) {
            into.extend(names[at].iter().cloned());
        }
    }

    fn expr_names(
        &self,
        expr: &Expr,
        node: &Node,
        values: &Values,
        names: &[BTreeSet<String>],
        into: &mut BTreeSet<String>,
    ) {
        if self.expr(expr, node, values, values) != 1 {
            return;
        }
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(name) => {
                let at = self.place(node.0, name, node.2);
                into.extend(at.iter().flat_map(|at| names[*at].iter().cloned()));
            }
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
                    let target = self.place(edge.who.class.of(), right, edge.who.object);
                    self.edge_names(edge, target, values, names, into);
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
