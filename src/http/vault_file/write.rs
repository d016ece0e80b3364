//! Writes vault files, a relationship at a time.

use std::mem::take;

use inferadb_engine::noun::Relationship;
use serde_json::json;

use super::checksum::{Checksum, line_of};
use super::{Layout, Preface};

/// A file in the making.
pub struct Output {
    layout: Layout,
    checksum: Checksum,
    preface: Preface,
    count: u64,
}

impl Output {
    /// A file that begins with `preface`.
    pub fn new(layout: Layout, preface: Preface) -> Self {
        Self {
            layout,
            checksum: Checksum::new(),
            preface,
            count: 0,
        }
    }

    /// What the file begins with.
    pub fn begin(&self) -> Vec<u8> {
        // Text, numbers, and maps of them are always JSON.
        let mut text = serde_json::to_vec(&self.preface).unwrap_or_default();
        if self.layout == Layout::Json {
            // The object goes on.
            text.pop();
            text.extend_from_slice(b",\"relationships\":[");
        }
        text.push(b'\n');
        text
    }

    /// The next relationship, on a line of its own.
    pub fn relationship(&mut self, relationship: &Relationship) -> Vec<u8> {
        let mut line = line_of(relationship);
        self.checksum.add(relationship, &line);
        match self.layout {
            Layout::Json if self.count > 0 => line.splice(0..0, *b",\n").for_each(drop),
            Layout::Json => {}
            Layout::Lines => line.push(b'\n'),
        }
        self.count += 1;
        line
    }

    /// How many there are so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// What the file ends with; without it, it is no vault file.
    pub fn end(mut self) -> Vec<u8> {
        let limits = take(&mut self.preface.limits);
        let (schema, format) = (self.preface.schema.as_deref(), self.preface.schema_format);
        let checksum = self.checksum.finish(schema, format, &limits);
        let count = self.count;
        match self.layout {
            Layout::Json => {
                format!("\n],\"relationship_count\":{count},\"checksum\":\"{checksum}\"}}\n").into_bytes()
            }
            Layout::Lines => {
                let last = json!({ "checksum": checksum, "relationship_count": count });
                format!("{last}\n").into_bytes()
            }
        }
    }
}
