//! The description of the API, held against all that the tests ask and are answered.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};

use super::Answer;

const ADDRESS: &str = "urn:inferadb:openapi";
const JSON: &str = "application/json";

static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_yaml::from_str(include_str!("../../../docs/openapi.yaml")).unwrap());
static REGISTRY: LazyLock<Registry<'static>> = LazyLock::new(|| {
    let draft = Registry::new().draft(Draft::Draft202012);
    draft.add(ADDRESS, DOCUMENT.clone()).unwrap().prepare().unwrap()
});
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// A request as it was sent.
pub struct Sent<'r> {
    pub method: &'r str,
    pub path: &'r str,
    pub headers: &'r [(String, String)],
    pub body: Option<&'r [u8]>,
}

/// The description as it is written.
pub fn document() -> &'static Value {
    &DOCUMENT
}

/// Panics where a request that was granted, or any answer, is not as the description has it.
pub fn verify(sent: &Sent<'_>, answer: &Answer) {
    let (path, query) = sent.path.split_once('?').unwrap_or((sent.path, ""));
    let Some(template) = template_of(path) else {
        assert!(
            answer.status >= 400,
            "the description has no path `{path}`: {answer:?}"
        );
        return;
    };
    let method = sent.method.to_ascii_lowercase();
    let item = &DOCUMENT["paths"][template];
    let Some(operation) = item.get(&method) else {
        let described = [405, 503].contains(&answer.status);
        assert!(
            described,
            "the description has no {method} of `{template}`: {answer:?}"
        );
        return;
    };
    let at = format!("/paths/{}/{method}", escaped(template));
    verify_answer(&at, operation, &method, answer);
    if (200..300).contains(&answer.status) {
        verify_query(item, operation, query);
        verify_body(&at, operation, sent);
    }
}

fn verify_answer(at: &str, operation: &'static Value, method: &str, answer: &Answer) {
    let status = answer.status.to_string();
    let Some(response) = operation["responses"].get(&status) else {
        panic!("{at} can answer {status}, which the description does not say: {answer:?}");
    };
    let (at, response) = followed(format!("{at}/responses/{status}"), response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let (_, header) = followed(String::new(), header);
        let is_there = answer.header(&name.to_ascii_lowercase()).is_some();
        assert!(
            is_there || header["required"] != json!(true),
            "{at} lacks its header `{name}`: {answer:?}"
        );
    }
    let Some(content) = response.get("content") else {
        assert!(answer.body.is_empty(), "{at} is said to have no body: {answer:?}");
        return;
    };
    let given = essence(answer.header("content-type").unwrap_or_default());
    assert!(
        content.get(given).is_some(),
        "{at} is not said to be `{given}`: {answer:?}"
    );
    if is_json(given) && method != "head" {
        verify_value(&format!("{at}/content/{}/schema", escaped(given)), &answer.json());
    }
}

fn verify_query(item: &'static Value, operation: &'static Value, query: &str) {
    let lists = [&item["parameters"], &operation["parameters"]];
    let described: Vec<&'static Value> = lists
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .collect();
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let is_described = described.iter().any(|parameter| {
            let (_, parameter) = followed(String::new(), parameter);
            parameter["in"] == "query" && parameter["name"] == json!(name)
        });
        assert!(
            is_described,
            "the description has no parameter `{name}` of {}",
            operation["operationId"]
        );
    }
}

fn verify_body(at: &str, operation: &Value, sent: &Sent<'_>) {
    let Some(content) = operation["requestBody"]["content"].as_object() else {
        return;
    };
    let header = sent
        .headers
        .iter()
        .rfind(|(name, _)| name.eq_ignore_ascii_case("content-type"));
    let given = header.map_or("", |(_, value)| essence(value));
    // What is sent as something else is read as JSON.
    let kind = match content.contains_key(given) {
        true => given,
        false => JSON,
    };
    if !is_json(kind) || !content.contains_key(kind) {
        return;
    }
    // `Sent` bodies that are no JSON were not granted, or were read as text.
    if let Some(Ok(body)) = sent.body.map(serde_json::from_slice::<Value>) {
        verify_value(
            &format!("{at}/requestBody/content/{}/schema", escaped(kind)),
            &body,
        );
    }
}

fn verify_value(at: &str, value: &Value) {
    let validator = {
        let mut validators = VALIDATORS.lock().unwrap();
        let entry = validators.entry(at.to_owned());
        Arc::clone(entry.or_insert_with(|| {
            let options = jsonschema::options().with_draft(Draft::Draft202012);
            let schema = json!({ "$ref": format!("{ADDRESS}#{at}") });
            Arc::new(options.with_registry(&REGISTRY).build(&schema).unwrap())
        }))
    };
    let faults: Vec<String> = validator
        .iter_errors(value)
        .map(|fault| format!("{}: {fault}", fault.instance_path()))
        .collect();
    assert!(
        faults.is_empty(),
        "not as {at} says: {}\n{value}",
        faults.join("; ")
    );
}

/// The path of the description that a path is one of; one without parameters comes before one with.
fn template_of(path: &str) -> Option<&'static str> {
    let templates = DOCUMENT["paths"].as_object().unwrap().keys();
    let fits = |template: &&String| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given => {}
                (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => {}
                _ => return false,
            }
        }
    };
    let mut fitting: Vec<&String> = templates.filter(fits).collect();
    fitting.sort_by_key(|template| template.contains('{'));
    fitting.first().map(|template| template.as_str())
}

/// What a part of the description refers to, and where that is.
fn followed(at: String, part: &'static Value) -> (String, &'static Value) {
    match part["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'))
    {
        Some(pointer) => (pointer.to_owned(), DOCUMENT.pointer(pointer).unwrap()),
        None => (at, part),
    }
}

/// A part of a JSON pointer in an address.
fn escaped(part: &str) -> String {
    let pointer = part.replace('~', "~0").replace('/', "~1");
    pointer.replace('{', "%7B").replace('}', "%7D")
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

fn is_json(essence: &str) -> bool {
    essence == JSON || essence.ends_with("+json")
}
