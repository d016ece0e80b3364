//! What a watch shows: every change, in order, once, whole, and of its own vault only.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::harness::{ALL_SCOPES, Event, Server, Stream, Tenant, relationship, until, written};

/// A watch of the tenant's vault, with these parameters and headers.
pub fn watch(tenant: &Tenant<&Server>, parameters: &str, headers: &[(&str, &str)]) -> Stream {
    let token = tenant.token(ALL_SCOPES);
    let path = format!("/v1/watch{parameters}");
    Stream::open(tenant.server, &token, "GET", &path, headers, "")
}

/// A watch that was accepted, and the revision that it begins at.
pub fn watching(tenant: &Tenant<&Server>, parameters: &str, headers: &[(&str, &str)]) -> (Stream, String) {
    let mut stream = watch(tenant, parameters, headers);
    assert_eq!(stream.status, 200, "{}", stream.headers);
    let ready = stream.event().unwrap();
    assert_eq!(ready.kind, "ready");
    let revision = ready.id.unwrap();
    assert_eq!(ready.data, json!({ "revision": revision }));
    (stream, revision)
}

/// A change's parts as `operation resource#relation@subject`.
pub fn parts(event: &Event) -> Vec<String> {
    assert_eq!(event.kind, "change", "{event:?}");
    assert_eq!(event.data["revision"].as_str(), event.id.as_deref());
    let changes = event.data["changes"].as_array().unwrap();
    changes
        .iter()
        .map(|change| {
            let operation = change["operation"].as_str().unwrap();
            format!("{operation} {}", written(&change["relationship"]))
        })
        .collect()
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % most
    }
}

/// Writes at random and notes what each revision is to show. Nobody else writes to documents of this writer.
fn write_at_random(
    tenant: &Tenant<&Server>,
    writer: u64,
    writes: usize,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut dice = Dice(writer);
    let mut held: Vec<String> = Vec::new();
    let mut expected = BTreeMap::new();
    for round in 0..writes {
        let mut shown = BTreeSet::new();
        let mut touched: Vec<Value> = Vec::new();
        let mut deleted: Vec<Value> = Vec::new();
        for at in 0..=dice.below(3) {
            let text = format!("document:w{writer}#viewer@user:r{round}-{at}");
            shown.insert(format!("create {text}"));
            touched.push(relationship(&text));
            held.push(text);
        }
        while dice.below(2) == 0 && held.len() > 5 {
            let at = usize::try_from(dice.below(held.len() as u64 - 4)).unwrap();
            let text = held.remove(at);
            shown.insert(format!("delete {text}"));
            deleted.push(relationship(&text));
        }
        let revision = tenant.change(json!({ "touch": touched, "delete": deleted }));
        assert_eq!(expected.insert(revision, shown), None);
    }
    expected
}

#[test]
fn nothing_is_lost_and_nothing_repeated_over_cuts_and_concurrent_writers() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let tenant = Tenant::with_documents(&server, "watched");
    let start = watching(&tenant, "", &[]).1;
    let (expected, events) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let tenant = &tenant;
                scope.spawn(move || write_at_random(tenant, writer, 60))
            })
            .collect();
        let reader = scope.spawn(|| read_with_cuts(&tenant, &start, 240));
        let expected: BTreeMap<_, _> = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect();
        (expected, reader.join().unwrap())
    });
    assert_eq!(expected.len(), 240);
    let mut state = BTreeSet::new();
    let mut last = start;
    for event in &events {
        let revision = event.id.clone().unwrap();
        assert!(revision > last, "in order and once");
        let shown: BTreeSet<String> = parts(event).into_iter().collect();
        assert_eq!(
            Some(&shown),
            expected.get(&revision),
            "a commit is whole, and nobody's else"
        );
        for part in &shown {
            let (operation, text) = part.split_once(' ').unwrap();
            match operation {
                "create" => assert!(state.insert(text.to_owned())),
                "delete" => assert!(state.remove(text)),
                _ => panic!("{part}"),
            }
        }
        last = revision;
    }
    assert_eq!(events.len(), expected.len());
    assert_eq!(state, tenant.read(json!({})).into_iter().collect());
}

/// Reads so many changes through many watches, each of which goes on where the one before was cut.
fn read_with_cuts(tenant: &Tenant<&Server>, start: &str, changes: usize) -> Vec<Event> {
    let mut dice = Dice(99);
    let mut events: Vec<Event> = Vec::new();
    while events.len() < changes {
        let since = events
            .last()
            .map_or(start, |event| event.id.as_deref().unwrap())
            .to_owned();
        let (mut stream, ready) = match dice.below(3) {
            0 => watching(tenant, "", &[("Last-Event-ID", &since)]),
            // As a browser does: its address is still that of the first time.
            1 => watching(tenant, &format!("?since={start}"), &[("Last-Event-ID", &since)]),
            _ => watching(tenant, &format!("?since={since}"), &[]),
        };
        assert_eq!(ready, since);
        for _ in 0..=dice.below(40) {
            if events.len() < changes {
                events.push(stream.news().unwrap());
            }
        }
        stream.close();
    }
    events
}

#[test]
fn operations_say_what_became_of_a_relationship() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "operations");
    let (mut stream, _) = watching(&tenant, "", &[]);
    assert!(
        stream.headers.contains("content-type: text/event-stream\r\n"),
        "{}",
        stream.headers
    );
    assert!(
        stream.headers.contains("cache-control: no-store\r\n"),
        "{}",
        stream.headers
    );
    let plain = "document:d#viewer@user:alice";
    let mut expiring = relationship(plain);
    expiring["expires_at"] = json!("2099-01-01T00:00:00Z");
    let first = tenant.touch(&[plain]);
    // What changes nothing is no change.
    assert_eq!(tenant.touch(&[plain]), first);
    tenant.change(json!({ "touch": [expiring.clone()] }));
    tenant.untouch(&[plain]);
    tenant.change(json!({ "create": [expiring.clone()] }));
    let event = stream.news().unwrap();
    assert_eq!(event.id.as_deref(), Some(first.as_str()));
    assert_eq!(parts(&event), [format!("create {plain}")]);
    assert!(event.data["at"].as_str().unwrap().ends_with('Z'));
    let event = stream.news().unwrap();
    assert_eq!(parts(&event), [format!("touch {plain}")]);
    assert_eq!(event.data["changes"][0]["relationship"], expiring);
    assert_eq!(parts(&stream.news().unwrap()), [format!("delete {plain}")]);
    let event = stream.news().unwrap();
    assert_eq!(
        event.data["changes"],
        json!([{"operation": "create", "relationship": expiring}])
    );
}

#[test]
fn a_delete_by_filter_shows_each_of_its_commits_whole() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "mass");
    for block in 0..3 {
        let texts: Vec<String> = (0..900)
            .map(|at| format!("document:d{block}-{at}#viewer@user:u"))
            .collect();
        tenant.touch(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let (mut stream, _) = watching(&tenant, "", &[]);
    let deleted = tenant
        .post("/v1/relationships/delete", json!({"filter": {"subject_id": "u"}}))
        .expect(200);
    assert_eq!(deleted["deleted"], 2700);
    let mut seen = BTreeSet::new();
    let mut commits = 0;
    while seen.len() < 2700 {
        let event = stream.news().unwrap();
        commits += 1;
        for part in parts(&event) {
            assert!(seen.insert(part));
        }
        if seen.len() == 2700 {
            assert_eq!(event.id.as_deref(), deleted["revision"].as_str());
        }
    }
    assert_eq!(commits, 3);
}

#[test]
fn filters_leave_what_matches_and_heartbeats_move_the_place_to_go_on_from() {
    let server = Server::with(json!({"storage": {"backend": "memory"}, "watch": {"heartbeat_seconds": 1}}));
    let tenant = Tenant::with_documents(&server, "filtered");
    let cases = [
        (
            "?resource_type=document&resource_id=a",
            vec!["document:a#viewer@user:x", "document:a#owner@user:y"],
        ),
        ("?resource_type=folder", vec!["folder:a#viewer@group:g#member"]),
        (
            "?resource_type=folder&resource_type=group",
            vec!["folder:a#viewer@group:g#member", "group:g#member@user:x"],
        ),
        ("?relation=owner", vec!["document:a#owner@user:y"]),
        (
            "?resource_type=document&resource_id_prefix=b",
            vec!["document:b1#viewer@user:y"],
        ),
        (
            "?subject_type=user&subject_id=y",
            vec!["document:a#owner@user:y", "document:b1#viewer@user:y"],
        ),
        ("?subject_relation=member", vec!["folder:a#viewer@group:g#member"]),
        ("?subject_id=%2A", vec!["document:c#viewer@user:*"]),
        ("?resource_type=document&subject_id=nobody", vec![]),
    ];
    let mut streams: Vec<_> = cases
        .iter()
        .map(|(parameters, _)| watching(&tenant, parameters, &[]).0)
        .collect();
    let all = [
        "document:a#viewer@user:x",
        "folder:a#viewer@group:g#member",
        "document:a#owner@user:y",
        "document:b1#viewer@user:y",
        "group:g#member@user:x",
        "document:c#viewer@user:*",
    ];
    // One commit, of which each watch sees its part, and then the same one by one.
    let revision = tenant.touch(&all);
    let mut last = revision.clone();
    for text in all {
        last = tenant.untouch(&[text]);
    }
    for ((parameters, expected), stream) in cases.iter().zip(&mut streams) {
        let mut seen = Vec::new();
        loop {
            let event = stream.event().unwrap();
            match event.kind.as_str() {
                "change" => seen.push((event.id.clone(), parts(&event))),
                "heartbeat" if event.id.as_ref() == Some(&last) => break,
                "heartbeat" => assert!(event.data == json!({"revision": event.id})),
                kind => panic!("{kind}"),
            }
        }
        let whole: BTreeSet<String> = expected.iter().map(|text| format!("create {text}")).collect();
        if expected.is_empty() {
            assert_eq!(seen, [], "{parameters}");
            continue;
        }
        assert_eq!(seen[0].0.as_deref(), Some(revision.as_str()), "{parameters}");
        assert_eq!(
            seen[0].1.iter().cloned().collect::<BTreeSet<_>>(),
            whole,
            "{parameters}"
        );
        let deleted: BTreeSet<String> = seen[1..].iter().flat_map(|(_, parts)| parts.clone()).collect();
        assert_eq!(seen.len() - 1, expected.len());
        assert_eq!(
            deleted,
            expected.iter().map(|text| format!("delete {text}")).collect(),
            "{parameters}"
        );
    }
    // Who goes on from a heartbeat has missed nothing and sees nothing twice.
    let (mut stream, _) = watching(&tenant, &format!("?relation=owner&since={last}"), &[]);
    let next = tenant.touch(&["document:z#viewer@user:x", "document:z#owner@user:x"]);
    let event = stream.news().unwrap();
    assert_eq!(
        (event.id.clone(), parts(&event)),
        (Some(next), vec!["create document:z#owner@user:x".to_owned()])
    );
}

#[test]
fn schema_and_settings_changes_are_told_whatever_the_filter() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "schemas");
    let (mut stream, _) = watching(&tenant, "?resource_type=folder", &[]);
    let schema = tenant.put_schema("definition user {}\ndefinition folder {\nrelation viewer: user\n}");
    let event = stream.news().unwrap();
    assert_eq!(event.id.as_deref(), schema["revision"].as_str());
    assert_eq!(
        (&event.data["schema_changed"], &event.data["changes"]),
        (&json!(true), &json!([]))
    );
    assert!(event.data.get("settings_changed").is_none());
    let path = format!("/v1/vaults/{}", tenant.vault);
    server
        .admin("PATCH", &path, Some(json!({"name": "renamed"})))
        .expect(200);
    let event = stream.news().unwrap();
    assert_eq!(event.data["settings_changed"], true);
    assert!(!event.data.to_string().contains("renamed"), "{event:?}");
    // The feed goes on after the vault was read anew.
    tenant.touch(&["folder:f#viewer@user:x"]);
    assert_eq!(parts(&stream.news().unwrap()), ["create folder:f#viewer@user:x"]);
}

#[test]
fn lines_of_json_say_the_same() {
    let server = Server::with(json!({"storage": {"backend": "memory"}, "watch": {"heartbeat_seconds": 1}}));
    let tenant = Tenant::with_documents(&server, "lines");
    let mut stream = watch(&tenant, "", &[("Accept", "application/x-ndjson")]);
    assert_eq!(stream.status, 200);
    assert!(
        stream.headers.contains("content-type: application/x-ndjson\r\n"),
        "{}",
        stream.headers
    );
    let ready = stream.json().unwrap();
    assert_eq!(ready["event"], "ready");
    let revision = tenant.touch(&["document:d#viewer@user:x"]);
    let change = stream.json().unwrap();
    assert_eq!(
        (&change["event"], &change["revision"]),
        (&json!("change"), &json!(revision))
    );
    assert_eq!(
        written(&change["changes"][0]["relationship"]),
        "document:d#viewer@user:x"
    );
    assert_eq!(
        stream.json().unwrap(),
        json!({"event": "heartbeat", "revision": revision})
    );
}

#[test]
fn two_vaults_never_mix() {
    let server = Server::shared();
    let one = Tenant::with_documents(&*server, "one");
    let other = Tenant::in_account(&*server, one.account.clone(), "other");
    other.put_schema(crate::harness::DOCUMENTS);
    let (mut first, start) = watching(&one, "", &[]);
    let (mut second, _) = watching(&other, "", &[]);
    std::thread::scope(|scope| {
        for (tenant, name) in [(&one, "one"), (&other, "other")] {
            scope.spawn(move || {
                for at in 0..50 {
                    tenant.touch(&[&format!("document:{name}#viewer@user:u{at}")]);
                }
            });
        }
    });
    for (stream, name) in [(&mut first, "one"), (&mut second, "other")] {
        for at in 0..50 {
            assert_eq!(
                parts(&stream.news().unwrap()),
                [format!("create document:{name}#viewer@user:u{at}")]
            );
        }
    }
    let answer = other.get(&format!("/v1/watch?since={start}"));
    assert_eq!(answer.problem(400, "invalid_revision")["field"], "since");
}

#[test]
fn senseless_questions_are_refused_before_anything_is_sent() {
    let server = Server::shared();
    let tenant = Tenant::with_documents(&*server, "senseless");
    for (parameters, field, code) in [
        ("?sinse=x", "sinse", "unknown_field"),
        ("?since=", "since", "invalid_revision"),
        ("?since=zzz", "since", "invalid_revision"),
        ("?resource_type=", "resource_type", "invalid_value"),
        ("?resource_type=a%20b", "resource_type", "invalid_value"),
        ("?resource_id=a%23b", "resource_id", "invalid_value"),
        (
            "?resource_id=a&resource_id_prefix=a",
            "resource_id_prefix",
            "invalid_value",
        ),
        ("?relation=a&relation=b", "relation", "invalid_value"),
        ("?subject_relation=a%20b", "subject_relation", "invalid_value"),
    ] {
        let answer = tenant.get(&format!("/v1/watch{parameters}"));
        let problem = answer.problem(400, code);
        assert_eq!(problem["field"], field, "{parameters}");
    }
    let types: String = (0..200).map(|at| format!("&resource_type=t{at}")).collect();
    tenant.get(&format!("/v1/watch?{types}")).problem(400, "too_many");
    let answer = server
        .request("GET", "/v1/watch")
        .bearer(&tenant.token(ALL_SCOPES))
        .header("Last-Event-ID", "nonsense")
        .send();
    assert_eq!(answer.problem(400, "invalid_revision")["field"], "Last-Event-ID");
    for (scopes, status) in [
        ("inferadb.watch", 200),
        ("inferadb.read", 200),
        ("inferadb.check inferadb.write inferadb.schema", 403),
        ("inferadb.admin", 403),
    ] {
        let stream = Stream::open(&server, &tenant.token(scopes), "GET", "/v1/watch", &[], "");
        assert_eq!(stream.status, status, "{scopes}");
    }
    let answer = server.request("GET", "/v1/watch").send();
    answer.problem(401, "missing_token");
}

#[test]
fn many_watches_of_one_vault_see_the_same() {
    let server = Server::with(json!({"storage": {"backend": "memory"}, "limits": {"max_watches": 60}}));
    let tenant = Tenant::with_documents(&server, "crowd");
    let mut streams: Vec<_> = (0..60).map(|_| watching(&tenant, "", &[]).0).collect();
    let refused = tenant.get("/v1/watch").problem(429, "rate_limited");
    assert!(
        refused["detail"].as_str().unwrap().contains("max_watches"),
        "{refused}"
    );
    let revisions: Vec<String> = (0..20)
        .map(|at| tenant.touch(&[&format!("document:d#viewer@user:u{at}")]))
        .collect();
    for stream in &mut streams {
        for revision in &revisions {
            assert_eq!(stream.news().unwrap().id.as_ref(), Some(revision));
        }
    }
    let series = format!("inferadb_vault_watches{{vault=\"{}\"}}", tenant.vault);
    assert_eq!(server.metric(&series), Some(60.0));
    let series = format!("inferadb_vault_watch_events_total{{vault=\"{}\"}}", tenant.vault);
    assert_eq!(server.metric(&series), Some(1200.0));
    // A vault's own limit overrides the configured one.
    let path = format!("/v1/vaults/{}", tenant.vault);
    let limits = json!({"limits": {"max_watches": 61}});
    server.admin("PATCH", &path, Some(limits)).expect(200);
    let (last, _) = watching(&tenant, "", &[]);
    tenant.get("/v1/watch").problem(429, "rate_limited");
    drop(last);
    drop(streams);
    let series = format!("inferadb_vault_watches{{vault=\"{}\"}}", tenant.vault);
    until("the watches end with their readers", || {
        tenant.touch(&["document:d#viewer@user:again"]);
        tenant.untouch(&["document:d#viewer@user:again"]);
        (server.metric(&series) == Some(0.0)).then_some(())
    });
}
