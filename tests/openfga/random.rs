//! Random models: each decides every check as its native equivalent does, which other tests hold against a reference.

use std::fmt::Write as _;
use std::sync::Arc;

use inferadb_actors::{
    Backend, CheckRequest, Consistency, Limits, Platform, SchemaWrite, Vault, WriteRequest, now,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{CaveatRef, Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::{self, Allowed, Format, Schema, SlotSubject};

use super::settings;

const SEEDS: u64 = 40;
const OBJECTS: u64 = 3;
const TYPES: [&str; 3] = ["group", "folder", "doc"];
const RELATIONS: u64 = 4;

/// A small generator of numbers (splitmix64): the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// The text of a model. Relations name relations of the same object with lower numbers only, so that most models are sound.
fn model(dice: &mut Dice) -> String {
    let mut text = "model\n  schema 1.1\ntype user\n".to_owned();
    for name in TYPES {
        write!(
            text,
            "type {name}\n  relations\n    define up: [folder, group, doc]\n"
        )
        .unwrap();
        for at in 0..RELATIONS {
            let restrictions = restrictions(dice);
            let rewrite = rewrite(dice, at, 2, Some(&restrictions));
            writeln!(text, "    define r{at}: {rewrite}").unwrap();
        }
    }
    text.push_str("condition ok(ok: bool) {\n  ok\n}\n");
    text
}

fn restrictions(dice: &mut Dice) -> String {
    let mut list = vec!["user".to_owned()];
    for _ in 0..dice.below(3) {
        let of = TYPES[dice.below(3) as usize];
        let subject = match dice.below(4) {
            0 => "user:*".to_owned(),
            1 => of.to_owned(),
            _ => format!("{of}#r{}", dice.below(RELATIONS)),
        };
        let condition = if dice.chance(30) { " with ok" } else { "" };
        list.push(format!("{subject}{condition}"));
    }
    if dice.chance(30) {
        list.push("user with ok".to_owned());
    }
    list.sort();
    list.dedup();
    format!("[{}]", list.join(", "))
}

/// The rewrite of `r{at}`; `first` is what can stand in its first place alone.
fn rewrite(dice: &mut Dice, at: u64, depth: u64, first: Option<&str>) -> String {
    if depth == 0 || dice.chance(30) {
        return match first {
            Some(restrictions) if dice.chance(70) || at == 0 => restrictions.to_owned(),
            _ if at > 0 && dice.chance(60) => format!("r{}", dice.below(at)),
            _ => format!("r{} from up", dice.below(RELATIONS)),
        };
    }
    let operand = |dice: &mut Dice, first| {
        let text = rewrite(dice, at, depth - 1, first);
        match text.contains(" or ") || text.contains(" and ") || text.contains(" but ") {
            true => format!("({text})"),
            false => text,
        }
    };
    let base = operand(dice, first);
    match dice.below(4) {
        0 => format!("{base} and {}", operand(dice, None)),
        1 => format!("{base} but not {}", operand(dice, None)),
        _ => format!("{base} or {} or {}", operand(dice, None), operand(dice, None)),
    }
}

fn object(dice: &mut Dice, of: &str) -> ObjectRef {
    ObjectRef::parse(&format!("{of}:{}", dice.below(OBJECTS))).unwrap()
}

/// Relationships that fit the schema, some for each slot.
fn relationships(dice: &mut Dice, schema: &Schema) -> Vec<Relationship> {
    let mut found: Vec<Relationship> = Vec::new();
    for slot in schema.slots() {
        let member = &schema.members()[slot.relation.index()];
        let of = schema.types()[member.object_type.index()].name.as_str();
        let subject_type = &schema.types()[slot.subject_type.index()].name;
        for _ in 0..dice.below(4) {
            let subject = match slot.subject {
                SlotSubject::Wildcard => format!("{subject_type}:*"),
                SlotSubject::Object => object(dice, subject_type.as_str()).to_string(),
                SlotSubject::Userset(userset) => {
                    let userset = &schema.members()[userset.index()].name;
                    format!("{}#{userset}", object(dice, subject_type.as_str()))
                }
            };
            let Allowed { caveat, .. } = slot.allowed[dice.below(slot.allowed.len() as u64) as usize];
            let relationship = Relationship {
                resource: object(dice, of),
                relation: member.name.clone(),
                subject: SubjectRef::parse(&subject).unwrap(),
                caveat: caveat.map(|_| CaveatRef {
                    name: Name::parse("ok").unwrap(),
                    context: Context::new(),
                }),
                expires_at: None,
            };
            if !found.iter().any(|held| held.key() == relationship.key()) {
                found.push(relationship);
            }
        }
    }
    found
}

/// Every question about every object.
fn questions(dice: &mut Dice, schema: &Schema) -> Vec<CheckRequest> {
    let mut questions = Vec::new();
    for member in schema.members() {
        let of = schema.types()[member.object_type.index()].name.as_str();
        for id in 0..OBJECTS {
            let of_userset = TYPES[dice.below(3) as usize];
            let userset = format!("{}#r{}", object(dice, of_userset), dice.below(RELATIONS));
            for subject in ["user:0", "user:1", "user:2", "user:*", userset.as_str()] {
                for context in [
                    Context::new(),
                    Context::from([("ok".to_owned(), Value::Bool(true))]),
                ] {
                    questions.push(CheckRequest {
                        subject: SubjectRef::parse(subject).unwrap(),
                        resource: ObjectRef::parse(&format!("{of}:{id}")).unwrap(),
                        permission: member.name.clone(),
                        context: context.into(),
                        contextual: Default::default(),
                        trace: false,
                    });
                }
            }
        }
    }
    questions
}

async fn fill(vault: &Arc<Vault>, format: Format, text: String, touch: &[Relationship]) {
    let force = false;
    vault
        .put_schema(SchemaWrite { text, format, force })
        .await
        .unwrap();
    for touch in touch.chunks(500) {
        let request = WriteRequest {
            touch: touch.to_vec(),
            ..WriteRequest::default()
        };
        vault.write(request).await.unwrap();
    }
}

#[test]
fn a_model_and_its_native_equivalent_decide_alike() {
    let (mut models, mut asked, mut allowed, mut conditional, mut paradoxes) = (0, 0, 0, 0, 0);
    actix_web::rt::System::new().block_on(async {
        let settings = inferadb_actors::Settings {
            limits: Limits {
                max_depth: 1_000,
                ..settings(true, 64 << 20).limits
            },
            ..settings(true, 64 << 20)
        };
        let metrics = prometheus::Registry::new();
        let platform = Platform::start(Backend::Memory, settings, &metrics)
            .await
            .unwrap();
        let account = platform.create_account("random").await.unwrap().id;
        for seed in 0..SEEDS {
            let mut dice = Dice(seed);
            let text = model(&mut dice);
            let Ok(compiled) = Format::OpenFga.compile(&text) else {
                continue;
            };
            models += 1;
            let printed = schema::print(&compiled.schema).unwrap();
            let relationships = relationships(&mut dice, &compiled.schema);
            let moved: Vec<Relationship> = relationships
                .iter()
                .map(|held| {
                    let split = printed.splits.iter().find(|split| {
                        split.object_type == held.resource.object_type && split.member == held.relation
                    });
                    let relation = split.map_or(&held.relation, |split| &split.relation).clone();
                    Relationship {
                        relation,
                        ..held.clone()
                    }
                })
                .collect();
            let written = platform.create_vault(account, "written").await.unwrap().id;
            let converted = platform.create_vault(account, "converted").await.unwrap().id;
            let (written, _pass) = platform.enter(written, account).await.unwrap();
            let (converted, _other) = platform.enter(converted, account).await.unwrap();
            fill(&written, Format::OpenFga, text.clone(), &relationships).await;
            fill(&converted, Format::Native, printed.text.clone(), &moved).await;
            for question in questions(&mut dice, &compiled.schema) {
                let found = written.check(&question, Consistency::default(), now()).await;
                let wanted = converted.check(&question, Consistency::default(), now()).await;
                asked += 1;
                match (
                    found.map(|answer| answer.decision),
                    wanted.map(|answer| answer.decision),
                ) {
                    (Ok(found), Ok(wanted)) => {
                        allowed += usize::from(found == Decision::Allow);
                        conditional += usize::from(matches!(found, Decision::Conditional { .. }));
                        assert_eq!(
                            found, wanted,
                            "seed {seed}: {question:?}\n{text}\n{relationships:#?}\n{}",
                            printed.text
                        );
                    }
                    (Ok(found), Err(error)) => {
                        paradoxes += 1;
                        assert!(
                            error.to_string().contains("excludes itself"),
                            "seed {seed}: {error}"
                        );
                        if let Decision::Conditional { missing } = &found {
                            assert_eq!(missing, &["ok"], "seed {seed}: {question:?}");
                        }
                        assert_ne!(found, Decision::Allow, "seed {seed}: {question:?}\n{text}");
                    }
                    (found, wanted) => panic!("seed {seed}: {question:?}: {found:?}, {wanted:?}"),
                }
            }
        }
        platform.stop(std::time::Duration::from_secs(30)).await;
    });
    eprintln!(
        "{models} models, {asked} checks, {allowed} allowed, {conditional} conditional, {paradoxes} paradoxes"
    );
    assert!(
        models > SEEDS / 4 && allowed > 1_000 && conditional > 100,
        "the worlds are too plain"
    );
}
