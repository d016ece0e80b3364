//! Vault files: a vault's schema, relationships and limits as one text, in which an export is written and an import read.
//!
//! `docs/export-format.md` describes them. Both layouts are written and read piece by piece, so that their size costs no memory,
//! and a part of a file can never be taken for a whole one.

mod checksum;
mod read;
mod split;
mod write;

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

pub use self::read::{Head, Page, Reader, Totals};
pub use self::split::{Bounds, Place};
pub use self::write::Output;

/// What a vault file says it is.
pub const FORMAT: &str = "inferadb.vault";
/// The version that is written, and the only one that is read.
pub const VERSION: u64 = 1;
/// The media types of a file of lines; the first is the one that is written.
pub const LINES: [&str; 4] = [
    super::stream::NDJSON,
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
];
/// What a checksum begins with.
const CHECKSUM_KIND: &str = "sha256:";

/// How a file is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// One JSON object.
    Json,
    /// A JSON object a line: what stands before the relationships, each of them, and how they end.
    Lines,
}

/// What stands before the relationships of a file that is written.
#[derive(Debug, Serialize)]
pub struct Preface {
    format: &'static str,
    version: u64,
    /// When it was exported, as RFC 3339 UTC time.
    pub exported_at: String,
    /// The vault.
    pub vault: Option<Box<RawValue>>,
    /// The state that all is of.
    pub revision: String,
    /// The schema's text, if there is one.
    pub schema: Option<String>,
    /// The schema's language, `native` or `openfga`.
    pub schema_format: Option<&'static str>,
    /// The vault's limits, which stand within `vault` as well.
    #[serde(skip)]
    pub limits: Map<String, Value>,
}

impl Preface {
    /// What is said of an export of `vault`, whose `limits` are in it.
    pub fn new(
        exported_at: String,
        vault: &impl Serialize,
        limits: Map<String, Value>,
        revision: String,
    ) -> Self {
        Self {
            format: FORMAT,
            version: VERSION,
            exported_at,
            // Text, numbers, and maps of them are always JSON.
            vault: to_raw_value(vault).ok(),
            revision,
            schema: None,
            schema_format: None,
            limits,
        }
    }
}

impl Layout {
    /// The media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Lines => super::stream::NDJSON,
        }
    }

    /// What a file's name ends with, without the dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Lines => "ndjson",
        }
    }
}
