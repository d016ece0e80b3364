//! What is asked about: vaults of documents in nested folders, shared with people and teams, and checks whose answers are known.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::ValueEnum;
use inferadb_actors::auth::development::SigningKey;
use serde_json::{Value, json};

use super::Failure;
use super::client::{Connection, write_request};

const SCHEMA: &str = include_str!("../documents/schema.zed");
pub(super) const DOCUMENTS: u64 = 400;
const FOLDERS: u64 = 60;
pub(super) const TEAMS: u64 = 20;
/// People without any relationship; so many that their checks outnumber any cache.
const STRANGERS: u64 = 1_000_000;
/// Changes in one write.
pub(super) const MAX_CHANGES: usize = 1_000;
/// How long the tokens are good for.
const TOKEN_SECONDS: u64 = 24 * 3600;

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A few checks over and over: the decision cache answers nearly all.
    Cached,
    /// All kinds of checks, with the decision cache off: each is evaluated on rows in memory.
    Resident,
    /// As `resident`, a hundred in one request: the server's work outweighs the generator's.
    Batch,
    /// Four of five checks from the few, the others from all, and one request in a thousand a write.
    Mixed,
    /// Quiet vaults at a steady rate, first alone, then beside a vault that is driven far beyond its share, by one kind of
    /// request after the other.
    Neighbours,
}

/// Checks in one batch.
pub const BATCH: usize = 100;

impl Scenario {
    /// Whether the server's decision cache is on.
    pub const fn caches(self) -> bool {
        matches!(self, Self::Cached | Self::Mixed | Self::Neighbours)
    }
}

/// The vaults, each with its tokens.
pub struct World {
    scenario: Scenario,
    pub(super) hot_checks: u64,
    pub(super) vaults: Vec<Vec<String>>,
    /// Their ids, in the same order.
    pub(super) ids: Vec<String>,
    /// An administrator's token.
    pub(super) admin: String,
}

/// A request that was drawn, and the decision its answer must bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// A check that is allowed.
    Allow,
    /// A check that is denied.
    Deny,
    /// A batch of [`BATCH`] checks, of which so many are allowed.
    Batch(usize),
    /// A write.
    Written,
}

impl World {
    /// Makes `vaults` vaults with `tokens` tokens each on the server at `address`, which trusts `key`.
    pub fn set_up(
        address: SocketAddr,
        key: &SigningKey,
        scenario: Scenario,
        vaults: usize,
        tokens: usize,
        hot_checks: u64,
    ) -> Result<Self, Failure> {
        let mut api = Api {
            connection: Connection::open(address)?,
            request: Vec::new(),
        };
        let admin = token(key, "admin", "inferadb.admin", None)?;
        let account = api.ask("POST", "/v1/accounts", &admin, &json!({ "name": "load" }))?;
        let account = id(&account)?;
        let relationships = relationships();
        let mut made = Vec::with_capacity(vaults);
        let mut ids = Vec::with_capacity(vaults);
        for number in 0..vaults {
            let path = format!("/v1/accounts/{account}/vaults");
            let name = json!({ "name": format!("load-{number}") });
            let vault = id(&api.ask("POST", &path, &admin, &name)?)?;
            let within = Some((vault.as_str(), account.as_str()));
            let owner = token(key, "owner", "inferadb.schema inferadb.write", within)?;
            api.ask("PUT", "/v1/schema", &owner, &json!({ "schema": SCHEMA }))?;
            for changes in relationships.chunks(MAX_CHANGES) {
                api.ask(
                    "POST",
                    "/v1/relationships/write",
                    &owner,
                    &json!({ "touch": changes }),
                )?;
            }
            let scopes = "inferadb.check inferadb.read inferadb.write";
            let tokens = (0..tokens).map(|number| token(key, &format!("client-{number}"), scopes, within));
            made.push(tokens.collect::<Result<Vec<_>, _>>()?);
            ids.push(vault);
        }
        Ok(Self {
            scenario,
            hot_checks,
            vaults: made,
            ids,
            admin,
        })
    }

    /// Draws a request into `request`, by way of `body`; answers what must come back.
    pub fn draw(&self, random: &mut Random, request: &mut Vec<u8>, body: &mut String) -> Expected {
        let vault = self.vaults.get(random.below(self.vaults.len() as u64) as usize);
        let tokens = vault.map(Vec::as_slice).unwrap_or_default();
        let token = tokens.get(random.below(tokens.len() as u64) as usize);
        body.clear();
        let hot = match self.scenario {
            Scenario::Cached => true,
            Scenario::Resident | Scenario::Batch => false,
            Scenario::Mixed | Scenario::Neighbours => random.below(5) < 4,
        };
        let writes = self.scenario == Scenario::Mixed && random.below(1_000) == 0;
        let (path, expected) = if writes {
            ("/v1/relationships/write", push_write(body, random))
        } else if self.scenario == Scenario::Batch {
            ("/v1/check/batch", push_batch(body, random, BATCH))
        } else {
            let number = if hot {
                random.below(self.hot_checks)
            } else {
                random.next() >> 1
            };
            ("/v1/check", push_check(body, number))
        };
        let token = token.map(String::as_str).unwrap_or_default();
        write_request(request, "POST", path, token, body.as_bytes());
        expected
    }
}

/// A quiet vault's requests.
impl World {
    /// Draws a quiet vault's request: four of five checks from the few, the others from all, and one request in fifty a write.
    pub fn draw_quiet(
        &self,
        vault: usize,
        random: &mut Random,
        request: &mut Vec<u8>,
        body: &mut String,
    ) -> Expected {
        body.clear();
        let (path, expected) = match (random.below(50), random.below(5) < 4) {
            (0, _) => ("/v1/relationships/write", push_write(body, random)),
            (_, true) => ("/v1/check", push_check(body, random.below(self.hot_checks))),
            (_, false) => ("/v1/check", push_check(body, random.next() >> 1)),
        };
        self.address_to(vault, random, path, body, request);
        expected
    }

    pub(super) fn address_to(
        &self,
        vault: usize,
        random: &mut Random,
        path: &str,
        body: &str,
        request: &mut Vec<u8>,
    ) {
        let tokens = self.vaults.get(vault).map(Vec::as_slice).unwrap_or_default();
        let token = tokens.get(random.below(tokens.len() as u64) as usize);
        let token = token.map(String::as_str).unwrap_or_default();
        write_request(request, "POST", path, token, body.as_bytes());
    }
}

/// Writes the check of a number: five kinds in turn, from the cheapest to those that must look everywhere.
pub(super) fn push_check(body: &mut String, number: u64) -> Expected {
    let (kind, number) = (number % 5, number / 5);
    let (document, number) = (number % DOCUMENTS, number / DOCUMENTS);
    let (who, whose, expected) = match kind {
        0 => ("viewer", document, Expected::Allow),
        1 => ("reader", document % FOLDERS, Expected::Allow),
        2 => ("member", number % TEAMS, Expected::Allow),
        3 => ("stranger", number % STRANGERS, Expected::Deny),
        _ => ("banned", document, Expected::Deny),
    };
    // Writing to a string does not fail.
    let _ = write!(
        body,
        r#"{{"subject":"user:{who}-{whose}","resource":"document:report-{document}","permission":"view"}}"#
    );
    expected
}

/// Writes a batch of checks.
pub(super) fn push_batch(body: &mut String, random: &mut Random, count: usize) -> Expected {
    let mut allowed = 0;
    body.push_str(r#"{"checks":["#);
    for number in 0..count {
        if number > 0 {
            body.push(',');
        }
        if push_check(body, random.next() >> 1) == Expected::Allow {
            allowed += 1;
        }
    }
    body.push_str("]}");
    Expected::Batch(allowed)
}

/// Writes a change that no check's answer depends on, but that the permission could read.
pub(super) fn push_write(body: &mut String, random: &mut Random) -> Expected {
    let document = random.below(DOCUMENTS);
    let _ = write!(
        body,
        r#"{{"touch":[{{"resource":"document:report-{document}","relation":"viewer","subject":"user:newcomer"}}]}}"#
    );
    Expected::Written
}

/// A tree of folders below the one that all teams may view; each has a reader of its own, each document a viewer and
/// somebody who could view it but is banned.
pub(super) fn relationships() -> Vec<Value> {
    let mut all = Vec::new();
    let mut add = |resource: String, relation: &str, subject: String| {
        all.push(json!({ "resource": resource, "relation": relation, "subject": subject }));
    };
    for team in 0..TEAMS {
        add(
            format!("group:team-{team}"),
            "member",
            format!("user:member-{team}"),
        );
        add(
            "group:staff".into(),
            "member",
            format!("group:team-{team}#member"),
        );
    }
    add("folder:0".into(), "viewer", "group:staff#member".into());
    for folder in 0..FOLDERS {
        add(
            format!("folder:{folder}"),
            "viewer",
            format!("user:reader-{folder}"),
        );
        if folder > 0 {
            add(
                format!("folder:{folder}"),
                "parent",
                format!("folder:{}", (folder - 1) / 4),
            );
        }
    }
    for document in 0..DOCUMENTS {
        let resource = format!("document:report-{document}");
        add(
            resource.clone(),
            "parent",
            format!("folder:{}", document % FOLDERS),
        );
        add(resource.clone(), "viewer", format!("user:viewer-{document}"));
        add(resource.clone(), "viewer", format!("user:banned-{document}"));
        add(resource, "banned", format!("user:banned-{document}"));
    }
    all
}

fn token(
    key: &SigningKey,
    subject: &str,
    scope: &str,
    within: Option<(&str, &str)>,
) -> Result<String, Failure> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let mut claims = json!({
        "iss": "load", "sub": subject, "aud": "inferadb", "iat": now, "exp": now + TOKEN_SECONDS, "scope": scope,
    });
    if let (Some((vault, account)), Some(members)) = (within, claims.as_object_mut()) {
        members.insert("vault".into(), vault.into());
        members.insert("account".into(), account.into());
    }
    Ok(key.sign(&claims))
}

fn id(made: &Value) -> Result<String, Failure> {
    let id = made.get("id").and_then(Value::as_str);
    Ok(id.ok_or("the server made something without an `id`")?.to_owned())
}

/// The calls that set the world up.
pub(super) struct Api {
    pub(super) connection: Connection,
    pub(super) request: Vec<u8>,
}

impl Api {
    pub(super) fn ask(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        write_request(
            &mut self.request,
            method,
            path,
            token,
            body.to_string().as_bytes(),
        );
        let answer = self.connection.exchange(&self.request)?;
        if !(200..300).contains(&answer.status) {
            let body = String::from_utf8_lossy(answer.body);
            return Err(format!("{method} {path} answered {}: {body}", answer.status).into());
        }
        Ok(serde_json::from_slice(answer.body)?)
    }
}

/// A small generator of numbers (SplitMix64) that repeats from the same seed.
pub struct Random(u64);

impl Random {
    /// Starts from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0 where that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next()) * u128::from(bound);
        (product >> 64) as u64
    }
}
