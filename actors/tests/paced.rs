//! Pace: what is read and written takes turns by what it comes to, not by how many pieces it is in, and is charged to its vault.
#![allow(missing_docs)]
#![expect(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use inferadb_actors::{
    Consistency, Pass, RelationshipFilter, SchemaWrite, Settings, Vault, WriteRequest, now,
};
use inferadb_engine::context::{Context, Value};
use inferadb_engine::noun::{CaveatRef, Name, Relationship};
use inferadb_engine::schema::Format;

use support::{Stage, relationship};

const SCHEMA: &str = "
caveat among(numbers list<int>) {
    numbers.exists(number, number == 1)
}
definition user {}
definition document {
    relation reader: user | user with among
    permission read = reader
}
";

/// How many relationships there are.
const STORED: usize = 1_000;

/// A vault with its relationships, on a stage where turns are as short as they can be.
async fn furnished() -> (Stage, Arc<Vault>, Pass) {
    let stage = Stage::new(Settings {
        turn: Duration::ZERO,
        ..Settings::default()
    })
    .await;
    let id = stage.vault().await;
    let (vault, pass) = stage.platform.enter(id, stage.account).await.unwrap();
    let schema = SchemaWrite {
        text: SCHEMA.into(),
        format: Format::Native,
        force: false,
    };
    vault.put_schema(schema).await.unwrap();
    let all = (0..STORED).map(|at| relationship(&format!("document:d{at:04}#reader@user:ann")));
    vault.write(touch(all.collect())).await.unwrap();
    (stage, vault, pass)
}

fn touch(relationships: Vec<Relationship>) -> WriteRequest {
    WriteRequest {
        touch: relationships,
        ..WriteRequest::default()
    }
}

fn turns(stage: &Stage) -> f64 {
    stage.metric("inferadb_turns_total")
}

#[actix::test]
async fn relationships_are_read_in_turns_and_charged() {
    let (stage, vault, _pass) = furnished().await;
    let all = RelationshipFilter::default();
    let before = turns(&stage);
    vault.end_window();
    let page = vault
        .read(&all, None, STORED, Consistency::default(), now())
        .await;
    assert_eq!(page.unwrap().relationships.len(), STORED);
    let taken = turns(&stage) - before;
    assert!(taken >= 4.0, "{taken} turns for a page");
    assert!(vault.end_window() > 0, "a page costs nothing");

    let before = turns(&stage);
    let reading = vault.read_all(all, None, Consistency::default(), now());
    let mut stream = reading.await.unwrap();
    let mut read = 0;
    while let Some(piece) = stream.next(500).await.unwrap() {
        assert!(piece.len() <= 250, "{} in one piece", piece.len());
        read += piece.len();
    }
    assert_eq!(read, STORED);
    let taken = turns(&stage) - before;
    assert!(taken >= 4.0, "{taken} turns for a stream");
    assert!(vault.end_window() > 0, "a stream costs nothing");
}

#[actix::test]
async fn a_write_takes_turns_by_its_size() {
    let (stage, vault, _pass) = furnished().await;
    let numbers = Value::List((0..500).map(Value::Int).collect());
    let large = |at| Relationship {
        caveat: Some(CaveatRef {
            name: Name::parse("among").unwrap(),
            context: Context::from([("numbers".to_owned(), numbers.clone())]),
        }),
        ..relationship(&format!("document:large#reader@user:u{at}"))
    };
    let before = turns(&stage);
    vault.write(touch((0..100).map(large).collect())).await.unwrap();
    let taken = turns(&stage) - before;
    assert!(taken >= 100.0, "{taken} turns for a hundred large changes");
}
