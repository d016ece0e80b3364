//! An account with a vault, and the calls of those who have a token for it.

use std::ops::Deref;

use serde_json::{Value, json};

use super::{ALL_SCOPES, Answer, Keys, Server, claims};

/// A schema with most of what checks can rest on.
pub const DOCUMENTS: &str = "use expiration

definition user {}

definition group {
    relation member: user | group#member
}

definition folder {
    relation parent: folder
    relation viewer: user | user:* | group#member
    permission view = viewer + parent->view
}

definition document {
    relation parent: folder
    relation owner: user
    relation viewer: user | user:* | group#member | user with expiration
    relation banned: user | user with expiration
    relation approver: user
    permission edit = owner
    permission view = (owner + viewer + parent->view) - banned
    permission publish = edit & approver
}
";

/// A vault of an account of its own, with a token that has every scope inside it.
pub struct Tenant<S> {
    pub server: S,
    pub account: String,
    pub vault: String,
    token: String,
}

impl<S: Deref<Target = Server>> Tenant<S> {
    /// Makes an account and an empty vault.
    pub fn new(server: S, name: &str) -> Self {
        let account = server
            .admin("POST", "/v1/accounts", Some(json!({ "name": name })))
            .expect(201);
        let account = account["id"].as_str().unwrap().to_owned();
        Self::in_account(server, account, name)
    }

    /// Makes an empty vault in an account.
    pub fn in_account(server: S, account: String, name: &str) -> Self {
        let path = format!("/v1/accounts/{account}/vaults");
        let vault = server
            .admin("POST", &path, Some(json!({ "name": name })))
            .expect(201);
        let vault = vault["id"].as_str().unwrap().to_owned();
        Self::of(server, account, vault)
    }

    /// A vault that is there already.
    pub fn of(server: S, account: String, vault: String) -> Self {
        let token = token_for(&account, &vault, ALL_SCOPES);
        Self {
            server,
            account,
            vault,
            token,
        }
    }

    /// Makes a vault with [`DOCUMENTS`] in it.
    pub fn with_documents(server: S, name: &str) -> Self {
        let tenant = Self::new(server, name);
        tenant.put_schema(DOCUMENTS);
        tenant
    }

    pub fn token(&self, scopes: &str) -> String {
        token_for(&self.account, &self.vault, scopes)
    }

    pub fn post(&self, path: &str, body: Value) -> Answer {
        self.server
            .request("POST", path)
            .bearer(&self.token)
            .json(&body)
            .send()
    }

    /// A body that need not be JSON.
    pub fn post_raw(&self, path: &str, body: &[u8]) -> Answer {
        self.server
            .request("POST", path)
            .bearer(&self.token)
            .bytes(body)
            .send()
    }

    pub fn get(&self, path: &str) -> Answer {
        self.server.request("GET", path).bearer(&self.token).send()
    }

    pub fn put_schema_as(&self, path: &str, content_type: &str, body: &str) -> Answer {
        self.server
            .request("PUT", path)
            .bearer(&self.token)
            .header("Content-Type", content_type)
            .bytes(body.as_bytes())
            .send()
    }

    #[track_caller]
    pub fn put_schema(&self, text: &str) -> Value {
        self.put_schema_as("/v1/schema", "text/plain", text).expect(200)
    }

    pub fn write(&self, body: Value) -> Answer {
        self.post("/v1/relationships/write", body)
    }

    /// Touches relationships written as `resource#relation@subject`; answers the revision.
    #[track_caller]
    pub fn touch(&self, relationships: &[&str]) -> String {
        let touched: Vec<Value> = relationships.iter().map(|text| relationship(text)).collect();
        self.change(json!({ "touch": touched }))
    }

    #[track_caller]
    pub fn change(&self, body: Value) -> String {
        let answer = self.write(body).expect(200);
        answer["revision"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn untouch(&self, relationships: &[&str]) -> String {
        let deleted: Vec<Value> = relationships.iter().map(|text| relationship(text)).collect();
        self.change(json!({ "delete": deleted }))
    }

    /// The decision of one check written as `subject permission resource`.
    #[track_caller]
    pub fn check(&self, question: &str) -> String {
        let answer = self.post("/v1/check", question_body(question)).expect(200);
        assert!(!answer["revision"].as_str().unwrap().is_empty());
        answer["decision"].as_str().unwrap().to_owned()
    }

    /// Everything stored that matches, in however many pages, as `resource#relation@subject`.
    #[track_caller]
    pub fn read(&self, filter: Value) -> Vec<String> {
        let mut found = Vec::new();
        let mut body = json!({ "filter": filter });
        loop {
            let page = self.post("/v1/relationships/read", body.clone()).expect(200);
            found.extend(page["relationships"].as_array().unwrap().iter().map(written));
            match page.get("cursor") {
                Some(cursor) => body["cursor"] = cursor.clone(),
                None => return found,
            }
        }
    }
}

pub fn token_for(account: &str, vault: &str, scopes: &str) -> String {
    let more = json!({ "account": account, "vault": vault, "scope": scopes });
    Keys::shared().ed.sign(&claims(more))
}

/// `resource#relation@subject` in JSON.
pub fn relationship(text: &str) -> Value {
    let (resource, rest) = text.split_once('#').unwrap();
    let (relation, subject) = rest.split_once('@').unwrap();
    json!({ "resource": resource, "relation": relation, "subject": subject })
}

/// A relationship in JSON as `resource#relation@subject`.
pub fn written(relationship: &Value) -> String {
    let member = |name: &str| relationship[name].as_str().unwrap();
    format!(
        "{}#{}@{}",
        member("resource"),
        member("relation"),
        member("subject")
    )
}

/// `subject permission resource` in JSON.
pub fn question_body(question: &str) -> Value {
    let [subject, permission, resource] = question.split(' ').collect::<Vec<_>>()[..] else {
        panic!("not `subject permission resource`: {question}")
    };
    json!({ "subject": subject, "permission": permission, "resource": resource })
}
