//! Each operator of the language by a case that would fail without it.
#![allow(missing_docs, reason = "tests")]

mod evaluate_support;

use evaluate_support::Vault;

fn documents(permission: &str, relationships: &str) -> Vault {
    let schema = format!(
        "use self
        caveat open(open bool) {{ open }}
        caveat late(late bool) {{ late }}
        caveat odd(odd int) {{ 1 / odd == 1 }}
        definition user {{
            relation friend: user
            permission me = self + friend
        }}
        definition group {{
            relation member: user | group#member | user with open | group#member with late
            permission all_members = member
        }}
        definition folder {{
            relation parent: folder
            relation viewer: user | user:* | group#member
            relation banned: user | group#member
            permission view = (viewer + parent->view) - banned
        }}
        definition document {{
            relation parent: folder | folder with open
            relation owner: user | user with open
            relation viewer: user | user:* | group#member | group#all_members | user with open | user with late | user with odd
            relation banned: user | user:* | group#member | user with open
            relation friend: user
            permission test = {permission}
            permission nobody = nil
        }}"
    );
    Vault::new(&schema, relationships)
}

#[test]
fn a_relation_holds_its_subjects() {
    let vault = documents("viewer", "document:1#viewer@user:a");
    vault.allows("document:1#viewer@user:a");
    vault.allows("document:1#test@user:a");
    vault.denies("document:1#viewer@user:b");
    vault.denies("document:2#viewer@user:a");
    vault.denies("document:1#owner@user:a");
    vault.denies("document:1#viewer@group:a");
}

#[test]
fn a_wildcard_holds_every_plain_object_of_its_type() {
    let vault = documents("viewer", "document:1#viewer@user:*");
    vault.allows("document:1#test@user:a");
    vault.allows("document:1#test@user:*");
    vault.denies("document:1#test@group:a");
    vault.denies("document:1#test@user:a#friend");
    // And the wildcard as the subject matches stored wildcards only.
    let vault = documents("viewer", "document:1#viewer@user:a");
    vault.denies("document:1#test@user:*");
}

#[test]
fn usersets_nest_and_are_subjects_themselves() {
    let vault = documents(
        "viewer",
        "document:1#viewer@group:x#member
         group:x#member@group:y#member
         group:y#member@user:a
         document:2#viewer@group:x#all_members",
    );
    vault.allows("document:1#test@user:a");
    vault.allows("document:1#test@group:x#member");
    vault.allows("document:1#test@group:y#member");
    vault.denies("document:1#test@group:z#member");
    vault.denies("document:1#test@group:x");
    vault.allows("document:2#test@user:a");
    vault.allows("document:2#test@group:x#all_members");
    vault.allows("document:2#test@group:y#member");
    vault.denies("document:1#test@group:x#all_members");
}

#[test]
fn a_userset_has_itself() {
    let vault = documents("viewer", "");
    vault.allows("group:x#member@group:x#member");
    vault.allows("group:x#all_members@group:x#member");
    vault.denies("group:x#member@group:x#all_members");
    vault.denies("group:x#member@group:y#member");
}

#[test]
fn a_union_needs_one() {
    let vault = documents(
        "owner + viewer",
        "document:1#owner@user:a\ndocument:1#viewer@user:b",
    );
    vault.allows("document:1#test@user:a");
    vault.allows("document:1#test@user:b");
    vault.denies("document:1#test@user:c");
}

#[test]
fn an_intersection_needs_all() {
    let vault = documents(
        "owner & viewer",
        "document:1#owner@user:a
         document:1#viewer@group:x#member
         group:x#member@user:a
         group:x#member@user:b",
    );
    vault.allows("document:1#test@user:a");
    vault.denies("document:1#test@user:b");
}

#[test]
fn an_exclusion_takes_away() {
    let vault = documents(
        "viewer - banned",
        "document:1#viewer@user:*
         document:1#banned@group:x#member
         group:x#member@group:y#member
         group:y#member@user:b
         document:2#viewer@user:a
         document:2#banned@user:*",
    );
    vault.allows("document:1#test@user:a");
    vault.denies("document:1#test@user:b");
    vault.denies("document:2#test@user:a");
}

#[test]
fn an_exclusion_under_an_arrow_takes_from_its_own_parent_only() {
    let vault = documents(
        "parent->view",
        "document:1#parent@folder:x
         document:1#parent@folder:y
         folder:x#viewer@user:a
         folder:x#banned@user:a
         folder:y#viewer@user:a
         folder:y#viewer@user:b
         folder:y#banned@user:b",
    );
    vault.allows("document:1#test@user:a");
    vault.denies("document:1#test@user:b");
}

#[test]
fn an_arrow_needs_one_and_all_needs_every_one() {
    let relationships = "document:1#parent@folder:x
         document:1#parent@folder:y
         folder:x#viewer@user:a
         folder:y#viewer@user:b
         folder:x#viewer@user:b
         document:2#parent@folder:x";
    let vault = documents("parent->view", relationships);
    vault.allows("document:1#test@user:a");
    vault.allows("document:1#test@user:b");
    vault.denies("document:3#test@user:a");
    let vault = documents("parent.any(view)", relationships);
    vault.allows("document:1#test@user:a");
    let vault = documents("parent.all(view)", relationships);
    vault.denies("document:1#test@user:a");
    vault.allows("document:1#test@user:b");
    vault.allows("document:2#test@user:a");
    // None at all is never enough.
    vault.denies("document:3#test@user:a");
}

#[test]
fn nil_is_nobody_and_self_is_the_object() {
    let vault = documents(
        "friend->me + nobody",
        "document:1#friend@user:a\nuser:a#friend@user:b",
    );
    vault.allows("document:1#test@user:a");
    vault.allows("document:1#test@user:b");
    vault.denies("document:1#test@user:c");
    vault.denies("document:1#nobody@user:a");
    vault.allows("user:a#me@user:a");
    vault.denies("user:a#friend@user:a");
    vault.denies("user:a#me@user:c");
}

#[test]
fn what_has_expired_does_not_count() {
    let vault = documents(
        "viewer & owner",
        "document:1#viewer@user:a until 1001
         document:1#owner@user:a until 1500
         document:1#viewer@user:b until 1000
         document:1#owner@user:b",
    );
    vault.allows("document:1#test@user:a");
    vault.denies("document:1#test@user:b");
    let until = |text| {
        vault
            .verdict(text)
            .map(|verdict| verdict.valid_until.map(|until| until.0))
    };
    assert_eq!(until("document:1#test@user:a"), Ok(Some(1_001)));
    assert_eq!(until("document:1#test@user:b"), Ok(None));
    assert_eq!(until("document:1#owner@user:a"), Ok(Some(1_500)));
}

#[test]
fn a_subject_that_has_expired_does_not_break_all() {
    let vault = documents(
        "parent.all(view)",
        "document:1#parent@folder:x
         document:1#parent@folder:y until 900
         folder:x#viewer@user:a
         document:2#parent@folder:x until 900",
    );
    vault.allows("document:1#test@user:a");
    vault.denies("document:2#test@user:a");
}

#[test]
fn what_is_missing_is_named_where_it_matters() {
    let relationships = "document:1#viewer@user:a if open
         document:1#owner@user:b
         document:1#banned@user:b if open
         document:1#viewer@group:x#member
         group:x#member@group:y#member if late
         group:y#member@user:c if open
         document:1#viewer@user:d if late
         document:1#owner@user:d if open
         document:1#viewer@user:e if open=true
         document:1#viewer@user:f if open=false";
    let vault = documents("viewer", relationships);
    vault.misses("document:1#test@user:a", &["open"]);
    vault.misses("document:1#test@user:c", &["late", "open"]);
    vault.allows("document:1#test@user:e");
    vault.denies("document:1#test@user:f");
    let vault = documents("owner - banned", relationships);
    vault.misses("document:1#test@user:b", &["open"]);
    let vault = documents("owner & viewer", relationships);
    vault.misses("document:1#test@user:d", &["late", "open"]);
    // Nothing that is missing could change these.
    vault.denies("document:1#test@user:a");
    let vault = documents(
        "viewer + owner",
        &format!("{relationships}\ndocument:1#owner@user:a"),
    );
    vault.allows("document:1#test@user:a");
}

#[test]
fn a_request_gives_what_is_missing_and_stored_values_win() {
    use inferadb_engine::context::Value;
    let mut vault = documents(
        "viewer",
        "document:1#viewer@user:a if open\ndocument:2#viewer@user:a if open=false",
    );
    vault.context.insert("open".into(), Value::Bool(true));
    vault.allows("document:1#test@user:a");
    vault.denies("document:2#test@user:a");
    assert!(
        vault
            .verdict("document:1#test@user:a")
            .is_ok_and(|verdict| verdict.used_context)
    );
    assert!(
        vault
            .verdict("document:1#test@user:b")
            .is_ok_and(|verdict| !verdict.used_context)
    );
}

#[test]
fn a_failing_caveat_is_an_error_where_it_matters_only() {
    use inferadb_engine::context::Value;
    use inferadb_engine::evaluate::EvaluationError;
    let mut vault = documents("viewer + owner", "document:1#viewer@user:a if odd");
    vault.context.insert("odd".into(), Value::Int(0));
    let found = vault.verdict("document:1#test@user:a");
    assert!(
        matches!(&found, Err(EvaluationError::Caveat { name, .. }) if name == "odd"),
        "{found:?}"
    );
    vault.relate("document:1#owner@user:a");
    vault.allows("document:1#test@user:a");
    vault.denies("document:1#test@user:b");
}
