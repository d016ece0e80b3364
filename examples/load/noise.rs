//! What a noisy vault is asked: one kind of request after the other.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;

use clap::ValueEnum;
use serde_json::{Value, json};

use super::Failure;
use super::client::{Connection, write_request};
use super::world::{
    Api, DOCUMENTS, MAX_CHANGES, Random, TEAMS, World, push_batch, push_check, push_write, relationships,
};

/// Groups that may view the crowded document.
const CROWD: u64 = 4_000;

/// What a neighbour's noise is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Noise {
    /// Checks that are in the decision cache.
    Checks,
    /// Checks that are in no cache and look at thousands of rows.
    DeepChecks,
    /// Lists of all documents of a vault, each one verified.
    Lists,
    /// Batches of a thousand checks.
    Batches,
    /// Writes of one relationship.
    Writes,
    /// Writes of a thousand relationships.
    LargeWrites,
    /// Schemas of some 100 KB that are compiled and thrown away.
    Schemas,
    /// Imports of all that the vault holds, which merge it and replace it in turn.
    Imports,
}

impl Noise {
    /// All of it, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::Checks,
        Self::DeepChecks,
        Self::Lists,
        Self::Batches,
        Self::Writes,
        Self::LargeWrites,
        Self::Schemas,
        Self::Imports,
    ];

    /// What the report calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Checks => "cached checks",
            Self::DeepChecks => "deep checks",
            Self::Lists => "lists",
            Self::Batches => "batches of 1,000",
            Self::Writes => "writes of 1",
            Self::LargeWrites => "writes of 1,000",
            Self::Schemas => "schemas of 100 KB",
            Self::Imports => "imports",
        }
    }
}

/// The noise that one vault makes. What is large is made once.
pub struct Noisy<'a> {
    world: &'a World,
    vault: usize,
    imports: [Arc<Vec<u8>>; 2],
    schema: Arc<Vec<u8>>,
}

impl<'a> Noisy<'a> {
    /// Makes the vault one whose checks and lists can be as heavy as noise is.
    pub fn new(world: &'a World, address: SocketAddr, vault: usize) -> Result<Self, Failure> {
        let mut api = Api {
            connection: Connection::open(address)?,
            request: Vec::new(),
        };
        let token = world.vaults.get(vault).and_then(|tokens| tokens.first());
        let token = token.map(String::as_str).unwrap_or_default();
        let crowd = crowd();
        for changes in crowd.chunks(MAX_CHANGES) {
            let body = json!({ "touch": changes });
            api.ask("POST", "/v1/relationships/write", token, &body)?;
        }
        let all: Vec<Value> = relationships().into_iter().chain(crowd).collect();
        let file = json!({ "relationships": all }).to_string();
        let id = world.ids.get(vault).map(String::as_str).unwrap_or_default();
        let imports = ["merge", "replace"].map(|mode| {
            let path = format!("/v1/vaults/{id}/import?mode={mode}");
            let mut request = Vec::new();
            write_request(&mut request, "POST", &path, &world.admin, file.as_bytes());
            Arc::new(request)
        });
        let mut request = Vec::new();
        let body = json!({ "schema": large_schema() }).to_string();
        write_request(
            &mut request,
            "POST",
            "/v1/schema/validate",
            token,
            body.as_bytes(),
        );
        Ok(Self {
            world,
            vault,
            imports,
            schema: Arc::new(request),
        })
    }

    /// Draws the `number`th piece of noise.
    pub fn draw(&self, noise: Noise, number: usize, random: &mut Random, body: &mut String) -> Arc<Vec<u8>> {
        body.clear();
        let path = match noise {
            Noise::Checks => {
                push_check(body, random.below(self.world.hot_checks));
                "/v1/check"
            }
            Noise::DeepChecks => {
                let stranger = random.next();
                // Writing to a string does not fail.
                let _ = write!(
                    body,
                    r#"{{"subject":"user:stranger-{stranger}","resource":"document:crowded","permission":"view"}}"#
                );
                "/v1/check"
            }
            Noise::Lists => {
                let team = random.below(TEAMS);
                let _ = write!(
                    body,
                    r#"{{"subject":"user:member-{team}","resource_type":"document","permission":"view","limit":1000}}"#
                );
                "/v1/resources/list"
            }
            Noise::Batches => {
                push_batch(body, random, MAX_CHANGES);
                "/v1/check/batch"
            }
            Noise::Writes => {
                push_write(body, random);
                "/v1/relationships/write"
            }
            Noise::LargeWrites => {
                push_large_write(body, random);
                "/v1/relationships/write"
            }
            Noise::Schemas => return Arc::clone(&self.schema),
            Noise::Imports => {
                let [merge, replace] = &self.imports;
                return Arc::clone(if number.is_multiple_of(2) { merge } else { replace });
            }
        };
        let mut request = Vec::new();
        self.world
            .address_to(self.vault, random, path, body, &mut request);
        Arc::new(request)
    }
}

/// Some thousand types that refer to each other.
fn large_schema() -> String {
    let mut text = "definition user {}\n".to_owned();
    let mut number = 0_u32;
    while text.len() < 100_000 {
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "definition kind{number} {{\n relation owner: user\n relation viewer: user | kind{number}#owner\n permission view = viewer + owner\n}}\n"
        );
        number += 1;
    }
    text
}

/// Writes as many changes as one write takes.
fn push_large_write(body: &mut String, random: &mut Random) {
    body.push_str(r#"{"touch":["#);
    let first = random.below(1_000_000);
    for number in 0..MAX_CHANGES as u64 {
        let comma = if number > 0 { "," } else { "" };
        let document = random.below(DOCUMENTS);
        let _ = write!(
            body,
            r#"{comma}{{"resource":"document:report-{document}","relation":"owner","subject":"user:owner-{}"}}"#,
            first + number
        );
    }
    body.push_str("]}");
}

/// A document that thousands of groups may view by way of its folder.
fn crowd() -> Vec<Value> {
    let add = |resource: String, relation: &str, subject: String| json!({ "resource": resource, "relation": relation, "subject": subject });
    let groups = (0..CROWD).flat_map(|group| {
        [
            add(
                "folder:crowded".into(),
                "viewer",
                format!("group:crowd-{group}#member"),
            ),
            add(
                format!("group:crowd-{group}"),
                "member",
                format!("user:one-of-{group}"),
            ),
        ]
    });
    let document = add("document:crowded".into(), "parent", "folder:crowded".into());
    groups.chain([document]).collect()
}
