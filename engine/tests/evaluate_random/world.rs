//! Random worlds: a schema, relationships, and both as the engine wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{Name, ObjectId, Timestamp};
use inferadb_engine::row::{Entry, Row, RowKey, Terms};
use inferadb_engine::schema::{MemberId, Schema, SlotSubject, TypeId};

/// The moment of all checks.
pub const NOW: i64 = 100;
/// How many objects each type has.
pub const OBJECTS: usize = 4;
/// How many caveats there are: `c0(v0 bool) { v0 }` and so on.
pub const CAVEATS: usize = 3;

/// A small generator of numbers (splitmix64): the same on every machine.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A class of subjects of a relation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    Object(usize),
    Wildcard(usize),
    Userset(usize, String),
}

#[derive(Debug, Clone)]
pub enum Expr {
    Nil,
    Itself,
    Member(String),
    Union(Vec<Expr>),
    Intersection(Vec<Expr>),
    Exclusion(Box<Expr>, Box<Expr>),
    Any(String, String),
    All(String, String),
}

#[derive(Debug, Clone, Default)]
pub struct Type {
    pub relations: BTreeMap<String, Vec<Class>>,
    pub permissions: BTreeMap<String, Expr>,
}

/// A relationship's subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    pub class: Class,
    /// The object; of no meaning for a wildcard.
    pub object: usize,
}

#[derive(Debug, Clone)]
pub struct Edge {
    pub object_type: usize,
    pub object: usize,
    pub relation: String,
    pub who: Who,
    /// The caveat and the value stored with it.
    pub caveat: Option<(usize, Option<bool>)>,
    pub expires_at: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct World {
    pub types: Vec<Type>,
    pub edges: Vec<Edge>,
    /// The request's values.
    pub request: [Option<bool>; CAVEATS],
}

impl World {
    pub fn random(dice: &mut Dice) -> Self {
        let mut types = vec![Type::default(); 2 + dice.below(2)];
        let with_wildcards = dice.chance(40);
        for at in 0..types.len() {
            for relation in 0..1 + dice.below(3) {
                let classes = random_classes(dice, types.len(), with_wildcards);
                types[at].relations.insert(format!("r{relation}"), classes);
            }
        }
        let exclusions = dice.chance(60);
        for at in 0..types.len() {
            let count = dice.below(4);
            let names: Vec<String> = (0..count).map(|at| format!("p{at}")).collect();
            for name in &names {
                let expr = random_expr(dice, &types, at, &names, 3, exclusions);
                types[at].permissions.insert(name.clone(), expr);
            }
        }
        let mut world = Self {
            types,
            edges: Vec::new(),
            request: [None; CAVEATS],
        };
        world.prune();
        let caveats = dice.chance(35);
        if caveats {
            for value in &mut world.request {
                *value = dice.chance(20).then(|| dice.chance(50));
            }
        }
        world.relate(dice, caveats);
        world
    }

    /// Random relationships that fit a schema.
    #[allow(dead_code, reason = "for tests that write again and again")]
    pub fn related(dice: &mut Dice, types: &[Type]) -> Vec<Edge> {
        let mut world = Self {
            types: types.to_vec(),
            edges: Vec::new(),
            request: [None; CAVEATS],
        };
        let caveats = dice.chance(50);
        world.relate(dice, caveats);
        world.edges
    }

    /// Takes out what the language does not allow, or what leads nowhere: usersets and arrows to members that are not there,
    /// usersets of relations with wildcards, arrows over relations with wildcards.
    fn prune(&mut self) {
        let public: BTreeSet<(usize, String)> = (0..self.types.len())
            .flat_map(|at| {
                let relations = self.types[at].relations.iter();
                let public = relations
                    .filter(|(_, classes)| classes.iter().any(|class| matches!(class, Class::Wildcard(_))));
                public.map(move |(name, _)| (at, name.clone()))
            })
            .collect();
        let known: Vec<BTreeSet<String>> = self.types.iter().map(Type::names).collect();
        for (at, held) in self.types.iter_mut().enumerate() {
            for classes in held.relations.values_mut() {
                classes.retain(|class| match class {
                    Class::Object(_) | Class::Wildcard(_) => true,
                    Class::Userset(of, name) => {
                        known[*of].contains(name) && !public.contains(&(*of, name.clone()))
                    }
                });
                if classes.is_empty() {
                    classes.push(Class::Object(0));
                }
            }
            let relations = held.relations.clone();
            for expr in held.permissions.values_mut() {
                prune_expr(expr, &mut |left, right| {
                    let Some(classes) = relations.get(left) else {
                        return false;
                    };
                    !public.contains(&(at, left.to_owned()))
                        && classes.iter().any(|class| known[class.of()].contains(right))
                });
            }
        }
    }

    fn relate(&mut self, dice: &mut Dice, caveats: bool) {
        let expiry = dice.chance(30);
        let density = 1 + dice.below(4);
        let mut seen = BTreeSet::new();
        for (at, held) in self.types.iter().enumerate() {
            for (relation, classes) in &held.relations {
                for _ in 0..OBJECTS * density {
                    let class = classes[dice.below(classes.len())].clone();
                    let who = Who {
                        object: match class {
                            Class::Wildcard(_) => 0,
                            _ => dice.below(OBJECTS),
                        },
                        class,
                    };
                    let object = dice.below(OBJECTS);
                    if !seen.insert((at, object, relation.clone(), who.clone())) {
                        continue;
                    }
                    let caveated = caveats && dice.chance(40);
                    self.edges.push(Edge {
                        object_type: at,
                        object,
                        relation: relation.clone(),
                        who,
                        caveat: caveated.then(|| {
                            let stored = dice.chance(40).then(|| dice.chance(60));
                            (dice.below(CAVEATS), stored)
                        }),
                        expires_at: (expiry && dice.chance(40)).then(|| NOW - 20 + dice.below(60) as i64),
                    });
                }
            }
        }
    }

    /// The schema in the native language. Every class may be under any caveat and may expire.
    pub fn text(&self) -> String {
        let mut text = String::from("use expiration\nuse self\n\n");
        for at in 0..CAVEATS {
            writeln!(text, "caveat c{at}(v{at} bool) {{\n    v{at}\n}}\n").unwrap();
        }
        for (at, held) in self.types.iter().enumerate() {
            writeln!(text, "definition t{at} {{").unwrap();
            for (name, classes) in &held.relations {
                let classes: Vec<String> = classes.iter().flat_map(Class::texts).collect();
                writeln!(text, "    relation {name}: {}", classes.join(" | ")).unwrap();
            }
            for (name, expr) in &held.permissions {
                writeln!(text, "    permission {name} = {}", expr.text()).unwrap();
            }
            text.push_str("}\n\n");
        }
        text
    }

    pub fn context(&self) -> Context {
        let given = self.request.iter().enumerate();
        given
            .filter_map(|(at, value)| Some((format!("v{at}"), Value::Bool((*value)?))))
            .collect()
    }

    /// All rows that have entries.
    pub fn rows(&self, schema: &Schema) -> BTreeMap<(u32, ObjectId), Arc<Row>> {
        let mut entries: BTreeMap<(u32, ObjectId), Vec<Entry>> = BTreeMap::new();
        for edge in &self.edges {
            let relation = member_id(schema, edge.object_type, &edge.relation);
            let slots = &schema.members()[relation.index()].slots;
            let slot = slots.iter().find(|slot| {
                let slot = &schema.slots()[slot.index()];
                slot.subject_type == type_id(schema, edge.who.class.of())
                    && match (&edge.who.class, slot.subject) {
                        (Class::Object(_), SlotSubject::Object) => true,
                        (Class::Wildcard(_), SlotSubject::Wildcard) => true,
                        (Class::Userset(of, name), SlotSubject::Userset(member)) => {
                            member == member_id(schema, *of, name)
                        }
                        _ => false,
                    }
            });
            let terms = Terms {
                caveat: edge.caveat.map(|(caveat, stored)| {
                    let id = schema.caveat_named(&Name::parse(&format!("c{caveat}")).unwrap());
                    let stored = stored.map(|value| (format!("v{caveat}"), Value::Bool(value)));
                    (id.unwrap(), stored.into_iter().collect())
                }),
                expires_at: edge.expires_at.map(Timestamp),
            };
            let plain = terms == Terms::default();
            entries
                .entry((slot.unwrap().0, object_id(edge.object)))
                .or_default()
                .push(Entry {
                    subject: edge.who.id(),
                    terms: (!plain).then(|| Arc::new(terms)),
                });
        }
        let rows = entries.into_iter();
        rows.map(|(key, entries)| (key, Arc::new(Row::new(entries))))
            .collect()
    }
}

impl Type {
    pub fn names(&self) -> BTreeSet<String> {
        self.relations
            .keys()
            .chain(self.permissions.keys())
            .cloned()
            .collect()
    }
}

impl Class {
    /// The type of the subjects.
    pub fn of(&self) -> usize {
        match self {
            Self::Object(of) | Self::Wildcard(of) | Self::Userset(of, _) => *of,
        }
    }

    /// The class alone, and under every term there can be.
    fn texts(&self) -> Vec<String> {
        let plain = match self {
            Self::Object(of) => format!("t{of}"),
            Self::Wildcard(of) => format!("t{of}:*"),
            Self::Userset(of, name) => format!("t{of}#{name}"),
        };
        let mut texts = vec![plain.clone(), format!("{plain} with expiration")];
        for caveat in 0..CAVEATS {
            texts.push(format!("{plain} with c{caveat}"));
            texts.push(format!("{plain} with c{caveat} and expiration"));
        }
        texts
    }
}

impl Who {
    pub fn id(&self) -> ObjectId {
        match self.class {
            Class::Wildcard(_) => ObjectId::wildcard(),
            _ => object_id(self.object),
        }
    }
}

impl Expr {
    fn text(&self) -> String {
        let join = |operands: &[Self], sign: &str| {
            let operands: Vec<String> = operands.iter().map(Self::text).collect();
            format!("({})", operands.join(sign))
        };
        match self {
            Self::Nil => "nil".into(),
            Self::Itself => "self".into(),
            Self::Member(name) => name.clone(),
            Self::Union(operands) => join(operands, " + "),
            Self::Intersection(operands) => join(operands, " & "),
            Self::Exclusion(left, right) => format!("({} - {})", left.text(), right.text()),
            Self::Any(left, right) => format!("{left}->{right}"),
            Self::All(left, right) => format!("{left}.all({right})"),
        }
    }
}

pub fn object_id(at: usize) -> ObjectId {
    ObjectId::parse(&format!("o{at}")).unwrap()
}

pub fn type_id(schema: &Schema, at: usize) -> TypeId {
    schema
        .type_named(&Name::parse(&format!("t{at}")).unwrap())
        .unwrap()
}

pub fn member_id(schema: &Schema, at: usize, name: &str) -> MemberId {
    let name = Name::parse(name).unwrap();
    schema.member_named(type_id(schema, at), &name).unwrap()
}

pub fn key_of(key: &RowKey) -> (u32, ObjectId) {
    (key.slot.0, key.object.clone())
}

fn random_classes(dice: &mut Dice, types: usize, with_wildcards: bool) -> Vec<Class> {
    let mut classes = BTreeSet::new();
    for _ in 0..1 + dice.below(3) {
        let of = dice.below(types);
        classes.insert(match dice.below(10) {
            0..4 => Class::Object(of),
            4 if with_wildcards => Class::Wildcard(of),
            5 | 6 => Class::Userset(of, format!("p{}", dice.below(3))),
            _ => Class::Userset(of, format!("r{}", dice.below(3))),
        });
    }
    classes.into_iter().collect()
}

fn random_expr(
    dice: &mut Dice,
    types: &[Type],
    at: usize,
    permissions: &[String],
    depth: usize,
    exclusions: bool,
) -> Expr {
    let relations: Vec<&String> = types[at].relations.keys().collect();
    let kind = if depth == 0 {
        dice.below(60)
    } else {
        dice.below(100)
    };
    let operand = |dice: &mut Dice| random_expr(dice, types, at, permissions, depth - 1, exclusions);
    match kind {
        0..3 => Expr::Nil,
        3..7 => Expr::Itself,
        7..25 => Expr::Member(relations[dice.below(relations.len())].clone()),
        25..35 => Expr::Member(permissions[dice.below(permissions.len())].clone()),
        35..60 => {
            let left = relations[dice.below(relations.len())].clone();
            let right = if dice.chance(50) {
                format!("r{}", dice.below(3))
            } else {
                format!("p{}", dice.below(3))
            };
            if dice.chance(65) {
                Expr::Any(left, right)
            } else {
                Expr::All(left, right)
            }
        }
        60..78 => Expr::Union((0..2 + dice.below(2)).map(|_| operand(dice)).collect()),
        78..88 => Expr::Intersection((0..2 + dice.below(2)).map(|_| operand(dice)).collect()),
        _ if exclusions => Expr::Exclusion(Box::new(operand(dice)), Box::new(operand(dice))),
        _ => Expr::Union(vec![operand(dice), operand(dice)]),
    }
}

fn prune_expr(expr: &mut Expr, fits: &mut impl FnMut(&str, &str) -> bool) {
    match expr {
        Expr::Any(left, right) | Expr::All(left, right) => {
            if !fits(left, right) {
                *expr = Expr::Member(left.clone());
            }
        }
        Expr::Union(operands) | Expr::Intersection(operands) => {
            operands.iter_mut().for_each(|operand| prune_expr(operand, fits));
        }
        Expr::Exclusion(left, right) => {
            prune_expr(left, fits);
            prune_expr(right, fits);
        }
        Expr::Nil | Expr::Itself | Expr::Member(_) => {}
    }
}
