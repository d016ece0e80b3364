//! The description of the API is of this API, and is there to be read. That it is true is looked at with every request of these tests
//! (`harness/description.rs`).

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Server, description};

#[test]
fn the_description_has_every_route_and_no_other() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/");
    let read = |name: &str| fs::read_to_string(format!("{source}{name}")).unwrap();
    let (routes, requests) = (read("mod.rs"), read("request.rs"));
    let constant = |name: &str| {
        let name = name.rsplit("::").next().unwrap();
        let rest = requests
            .split(&format!("const {name}: &str = \""))
            .nth(1)
            .unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let mut routed = BTreeSet::new();
    for resource in routes.split("web::resource(").skip(1) {
        let (path, rest) = resource.split_once(')').unwrap();
        let path = match path.strip_prefix('"') {
            Some(path) => path.trim_end_matches('"').to_owned(),
            None => constant(path),
        };
        // Up to the next resource, or the end of the routes.
        let rest = rest.split("\n}\n").next().unwrap();
        for method in ["get", "head", "post", "put", "patch", "delete"] {
            if rest.contains(&format!("web::{method}()")) {
                routed.insert(format!("{method} {path}"));
            }
        }
    }
    assert!(routed.len() > 40, "{routed:?}");
    let mut described = BTreeSet::new();
    for (path, item) in description::document()["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys();
        let methods = methods.filter(|key| !["parameters", "summary", "description"].contains(&key.as_str()));
        described.extend(methods.map(|method| format!("{method} {path}")));
    }
    assert_eq!(described, routed);
}

#[test]
fn whoever_asks_is_given_the_description() {
    let server = Server::shared();
    let answer = server.request("GET", "/openapi.json").send();
    let mut given = answer.expect(200);
    assert_eq!(given["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(given["servers"][0]["url"], "/");
    given["info"]["version"] = description::document()["info"]["version"].clone();
    assert_eq!(&given, description::document());
    let named = Server::with(
        json!({"server": {"public_url": "https://authz.example.com/"}, "storage": {"backend": "memory"}}),
    );
    let given = named.request("GET", "/openapi.json").send().expect(200);
    assert_eq!(given["servers"], json!([{"url": "https://authz.example.com"}]));
}

#[test]
fn whatever_the_description_refers_to_is_in_it_and_its_names_are_one_each() {
    fn walk(value: &Value, see: &mut impl FnMut(&Value)) {
        see(value);
        match value {
            Value::Array(items) => items.iter().for_each(|item| walk(item, see)),
            Value::Object(members) => members.values().for_each(|member| walk(member, see)),
            _ => {}
        }
    }
    let document = description::document();
    let (mut references, mut operations) = (0, BTreeSet::new());
    walk(document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let found = document.pointer(reference.strip_prefix('#').unwrap());
            assert!(found.is_some(), "{reference}");
            references += 1;
        }
        if let Some(id) = value.get("operationId").and_then(Value::as_str) {
            assert!(operations.insert(id.to_owned()), "{id} twice");
        }
    });
    assert!(references > 100 && operations.len() > 40);
}

#[test]
fn the_page_brings_all_that_it_needs() {
    let server = Server::shared();
    let page = server.request("GET", "/docs").send();
    assert_eq!(
        (page.status, page.header("content-type")),
        (200, Some("text/html; charset=utf-8"))
    );
    let text = page.text();
    let mut files = 0;
    for attribute in ["src=\"", "href=\""] {
        for file in text.split(attribute).skip(1) {
            let file = file.split('"').next().unwrap();
            let answer = server.request("GET", &format!("/{file}")).send();
            assert_eq!(answer.status, 200, "{file}");
            assert!(!answer.body.is_empty(), "{file}");
            files += 1;
        }
    }
    assert_eq!(files, 5);
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for file in [
        "index.html",
        "swagger-initializer.js",
        "..%2f..%2fetc%2fpasswd",
        "nothing",
    ] {
        server
            .request("GET", &format!("/docs/{file}"))
            .send()
            .problem(404, "not_found");
    }
}

#[test]
fn what_is_compiled_in_reaches_the_image() {
    let read = |name: &str| fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let compiled_in = read("src/http/documentation.rs");
    let compiled_in = compiled_in.split("include_str!(\"../../").skip(1);
    let files: Vec<&str> = compiled_in.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(files, ["docs/openapi.yaml"]);
    let left_out = read(".dockerignore");
    for file in files {
        let folder = file.split('/').next().unwrap();
        assert!(!left_out.lines().any(|line| line == folder), "{folder}");
        assert!(left_out.lines().any(|line| line == format!("!{file}")), "{file}");
    }
}
