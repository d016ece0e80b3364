//! The dashboard against the documentation: every series it asks for is one that the server has.
#![expect(
    clippy::unwrap_used,
    reason = "data that is not as expected has failed the test"
)]

use std::collections::HashSet;

use serde_json::Value;

fn text_of(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    targets
        .map(|target| target["expr"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn every_series_is_documented() {
    let dashboard: Value = serde_json::from_str(&text_of("grafana/multi-tenant-dashboard.json")).unwrap();
    let documentation = text_of("docs/observability.md");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 20);
    for expression in expressions {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = expression
            .split(|c| !is_of_name(c))
            .filter(|word| word.starts_with("inferadb_") || word.starts_with("process_"));
        let mut found = 0;
        for name in names {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            let documented = [format!("`{name}`"), format!("`{name}{{")];
            assert!(
                documented.iter().any(|form| documentation.contains(form)),
                "{name} is not documented"
            );
            found += 1;
        }
        assert!(found > 0, "{expression}");
    }
}

#[test]
fn panels_have_ids_places_and_the_chosen_data_source() {
    let dashboard: Value = serde_json::from_str(&text_of("grafana/multi-tenant-dashboard.json")).unwrap();
    let variables: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| &variable["name"])
        .collect();
    assert!(
        ["datasource", "vault"]
            .iter()
            .all(|name| variables.iter().any(|known| *known == name)),
        "{variables:?}"
    );
    let mut ids = HashSet::new();
    let mut cells = HashSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(cells.insert((x, y)), "{title} lies over another panel");
            }
        }
        if panel["type"] != "row" {
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        }
    }
}
