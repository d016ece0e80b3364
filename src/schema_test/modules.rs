//! OpenFGA models in several files: what `fga.mod` lists, and the one text that modules are given to the compiler as.

use std::path::Path;

use inferadb_engine::schema::MAX_SOURCE_BYTES;
use serde_json::{Value, json};

use super::flaw::{Flaw, Place};
use super::yaml::Node;
use super::{Files, unknown};

const MEMBERS: [&str; 2] = ["schema", "contents"];

/// What an `fga.mod` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleList {
    /// The version of the schema.
    pub(crate) version: String,
    /// The files of the modules, as seen from the list's own directory.
    pub(crate) files: Vec<String>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// What it is called in messages.
    pub(crate) name: String,
    /// Its text.
    pub(crate) text: String,
}

impl ModuleList {
    /// Reads an `fga.mod`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and where.
    pub(crate) fn parse(text: &str) -> Result<Self, Flaw> {
        let start = Place { line: 1, column: 1 };
        let absent = |name: &str| Flaw::at(start, format!("a list of modules has a member `{name}`"));
        let (mut version, mut files) = (None, None);
        let root = Node::parse(text)?;
        let members = root
            .as_ref()
            .map_or(Ok(&[][..]), |root| root.members("fga.mod"))?;
        for (key, node) in members {
            match key.text.as_str() {
                "schema" => version = Some(node.text("schema")?.text.clone()),
                "contents" => {
                    let items = node.items("contents")?.iter();
                    let items = items.map(|item| Ok(item.text("contents")?.text.clone()));
                    files = Some(items.collect::<Result<Vec<_>, Flaw>>()?);
                }
                _ => return Err(unknown(key, &MEMBERS)),
            }
        }
        Ok(Self {
            version: version.ok_or_else(|| absent("schema"))?,
            files: files.ok_or_else(|| absent("contents"))?,
        })
    }
}

/// The one text that modules are given to the compiler as.
pub(crate) fn joined(version: Option<&str>, modules: &[Module]) -> String {
    let modules = modules.iter();
    let modules: Vec<Value> = modules
        .map(|module| json!({ "name": module.name, "text": module.text }))
        .collect();
    let mut model = json!({ "modules": modules });
    if let (Some(version), Some(members)) = (version, model.as_object_mut()) {
        members.insert("schema_version".to_owned(), version.into());
    }
    model.to_string()
}

/// Whether a file's name says that it is a list of modules.
pub(super) fn is_list(path: &str) -> bool {
    Path::new(path.trim()).extension().is_some_and(|end| end == "mod")
}

/// The model of the list `text`, which was read from `path`; the files that it names are seen from there.
pub(super) fn of_list(path: &str, text: &str, files: &dyn Files) -> Result<String, Flaw> {
    let within = |flaw: Flaw| Flaw {
        file: Some(path.to_owned()),
        ..flaw
    };
    let list = ModuleList::parse(text).map_err(within)?;
    let folder = Path::new(path.trim()).parent().unwrap_or(Path::new(""));
    let named = list.files.iter().map(|file| {
        let path = folder.join(file.trim()).display().to_string();
        (path, Place { line: 1, column: 1 })
    });
    let modules = read(named, files, "contents").map_err(within)?;
    Ok(joined(Some(&list.version), &modules))
}

/// The model of modules that are listed in the test file itself.
pub(super) fn of_items(items: &[Node], what: &str, files: &dyn Files) -> Result<String, Flaw> {
    let named = items
        .iter()
        .map(|item| Ok((item.text(what)?.text.clone(), item.place)));
    let named = named.collect::<Result<Vec<_>, Flaw>>()?;
    Ok(joined(None, &read(named, files, what)?))
}

fn read(
    named: impl IntoIterator<Item = (String, Place)>,
    files: &dyn Files,
    what: &str,
) -> Result<Vec<Module>, Flaw> {
    let mut modules = Vec::new();
    let mut length = 0;
    for (name, place) in named {
        let text = files
            .read(&name)
            .map_err(|error| Flaw::at(place, format!("`{what}`: {error}")))?;
        length += text.len();
        modules.push(Module { name, text });
        // The compiler says that this is too long; the rest need not be read for it.
        if length > MAX_SOURCE_BYTES {
            break;
        }
    }
    Ok(modules)
}
