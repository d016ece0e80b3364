//! What a vault file says beside its relationships: each member once, and whether it is true.

use actix_web::http::StatusCode;
use inferadb_engine::schema::Format;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::http::body;
use crate::http::problem::Problem;
use crate::http::schema::refuse_long;
use crate::http::vault_file::checksum::Checksum;
use crate::http::vault_file::split::{MAX_MEMBER_BYTES, Place, SCHEMA};
use crate::http::vault_file::{CHECKSUM_KIND, FORMAT, VERSION};

/// The most that is told of a text that is wrong, in characters.
const MAX_TOLD_CHARS: usize = 64;

/// What was said so far.
#[derive(Default)]
pub struct Said {
    /// The members that were met.
    met: Vec<String>,
    schema: Option<Schema>,
    schema_format: Option<Format>,
    limits: Option<Map<String, Value>>,
    count: Option<u64>,
    checksum: Option<String>,
}

struct Schema {
    text: String,
    /// What it says of its own language.
    format: Option<Format>,
}

/// A schema as `{"format","text"}`, or an OpenFGA model.
#[derive(Deserialize)]
struct SchemaObject<'a> {
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    text: Option<String>,
    #[serde(borrow, default)]
    type_definitions: Option<&'a RawValue>,
}

/// What is taken from the vault's own record: the rest is for people.
#[derive(Deserialize)]
struct VaultBody {
    #[serde(default)]
    limits: Option<Map<String, Value>>,
}

impl Said {
    /// Notes a member; refuses one that is given twice.
    pub fn meet(&mut self, name: &str, place: Place) -> Result<(), Problem> {
        if self.met.iter().any(|met| met == name) {
            let name = told(name);
            let detail = format!("the member `{name}` is given twice");
            return Err(place.of(Problem::invalid("invalid_value", name, detail)));
        }
        self.met.push(name.to_owned());
        Ok(())
    }

    /// Takes in a member, if it is one of those that are known. A schema has `most` bytes at most.
    pub fn member(&mut self, name: &str, value: &[u8], place: Place, most: usize) -> Result<(), Problem> {
        let wrong = |problem: Problem| Problem {
            field: Some(match &problem.field {
                Some(inner) => format!("{name}.{inner}"),
                None => name.to_owned(),
            }),
            ..within(place, problem)
        };
        let refused = |code, detail: String| place.of(Problem::invalid(code, told(name), detail));
        if name != SCHEMA && value.len() > MAX_MEMBER_BYTES {
            let detail = format!("a member is at most {MAX_MEMBER_BYTES} bytes long, but for `{SCHEMA}`");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(place.of(Problem {
                field: Some(told(name)),
                ..Problem::new(status, "too_large", detail)
            }));
        }
        match name {
            "format" => {
                let format: String = body::json(value).map_err(wrong)?;
                if format != FORMAT {
                    let detail = format!("`format` is `{FORMAT}`, this is `{}`", told(&format));
                    return Err(refused("unknown_format", detail));
                }
            }
            "version" => {
                let version: u64 = body::json(value).map_err(wrong)?;
                if version != VERSION {
                    let detail =
                        format!("this server reads version {VERSION} of vault files, this is {version}");
                    return Err(refused("unsupported_version", detail));
                }
            }
            "exported_at" | "revision" => {
                let _: Option<String> = body::json(value).map_err(wrong)?;
            }
            "vault" if value.starts_with(b"[") => {
                return Err(refused("invalid_value", "`vault` is a JSON object".to_owned()));
            }
            "vault" => {
                let vault: Option<VaultBody> = body::json(value).map_err(wrong)?;
                self.limits = vault.and_then(|vault| vault.limits);
            }
            "schema" => self.schema = schema(value, most).map_err(wrong)?,
            "schema_format" => {
                let format: Option<String> = body::json(value).map_err(wrong)?;
                self.schema_format = format.as_deref().map(language).transpose().map_err(wrong)?;
            }
            "relationship_count" => self.count = Some(body::json(value).map_err(wrong)?),
            "checksum" => {
                let checksum: String = body::json(value).map_err(wrong)?;
                let digest = checksum.strip_prefix(CHECKSUM_KIND);
                if digest.is_none_or(|digest| digest.len() != 64) {
                    let detail = format!("`checksum` must be `{CHECKSUM_KIND}` and 64 hexadecimal digits");
                    return Err(refused("invalid_value", detail));
                }
                self.checksum = Some(checksum.to_ascii_lowercase());
            }
            other => {
                let detail = format!("a vault file has no member `{}`", told(other));
                return Err(refused("unknown_field", detail));
            }
        }
        self.meet(name, place)
    }

    /// The schema and its language, once all was said of it.
    pub fn schema(&mut self, place: Place) -> Result<Option<(Format, String)>, Problem> {
        let said = self.schema.as_ref().and_then(|schema| schema.format);
        let format = match (said, self.schema_format) {
            (Some(said), Some(beside)) if said != beside => {
                let detail = "`schema_format` and the schema name different languages";
                return Err(place.of(Problem::invalid("invalid_value", "schema_format", detail)));
            }
            (said, beside) => said.or(beside).unwrap_or(Format::Native),
        };
        self.schema_format = self.schema.as_ref().map(|_| format);
        Ok(self.schema.as_ref().map(|schema| (format, schema.text.clone())))
    }

    /// The vault's own limits.
    pub const fn limits(&self) -> Option<&Map<String, Value>> {
        self.limits.as_ref()
    }

    /// Compares what is said of the relationships with what came: their number and their checksum. Answers whether there
    /// was one. `place` is the file's end.
    pub fn compare(&self, came: u64, sum: Checksum, place: Place) -> Result<bool, Problem> {
        if let Some(count) = self.count.filter(|count| *count != came) {
            let detail = format!("the file is said to have {count} relationships, and has {came}");
            return Err(place.of(Problem::invalid("count_mismatch", "relationship_count", detail)));
        }
        let schema = self.schema.as_ref().map(|schema| schema.text.as_str());
        let limits = self.limits.clone().unwrap_or_default();
        let sum = sum.finish(schema, self.schema_format.map(Format::name), &limits);
        if self.checksum.as_ref().is_some_and(|checksum| *checksum != sum) {
            let detail = "the file's checksum is not that of its contents: it was damaged, or changed without taking \
                          `checksum` out";
            return Err(place.of(Problem::invalid("checksum_mismatch", "checksum", detail)));
        }
        Ok(self.checksum.is_some())
    }
}

/// A schema's text as it is, as `{"format","text"}`, or the JSON of an OpenFGA model.
fn schema(value: &[u8], most: usize) -> Result<Option<Schema>, Problem> {
    let schema = match value.first() {
        Some(b'{') => {
            let object: SchemaObject<'_> = body::json(value)?;
            let format = object.format.as_deref().map(language).transpose()?;
            match (object.text, object.type_definitions) {
                (Some(text), None) => Schema { text, format },
                (None, Some(_)) => Schema {
                    text: String::from_utf8_lossy(value).into_owned(),
                    format: Some(Format::OpenFga),
                },
                _ => {
                    let detail = "a schema is a text, `{\"format\",\"text\"}`, or an OpenFGA model";
                    return Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_value", detail));
                }
            }
        }
        _ => match body::json::<Option<String>>(value)? {
            Some(text) => Schema { text, format: None },
            None => return Ok(None),
        },
    };
    refuse_long(&schema.text, most)?;
    Ok(Some(schema))
}

/// A problem with a part of the file that begins at `place`: where that knows its position, it is one within the part.
pub fn within(place: Place, problem: Problem) -> Problem {
    let place = match problem.position {
        Some((line, column)) => place.within(line, column),
        None => place,
    };
    Problem {
        detail: problem.detail.replacen("the request's body: ", "", 1),
        ..place.of(problem)
    }
}

/// A text of the file as it is told again: no more than shows what it is.
fn told(text: &str) -> String {
    let mut told: String = text.chars().take(MAX_TOLD_CHARS).collect();
    if told.len() < text.len() {
        told.push('…');
    }
    told.escape_debug().to_string()
}

fn language(name: &str) -> Result<Format, Problem> {
    Format::named(name).ok_or_else(|| {
        let detail = format!(
            "a schema's language is `native` or `openfga`, this is `{}`",
            told(name)
        );
        Problem::new(StatusCode::BAD_REQUEST, "invalid_value", detail)
    })
}
