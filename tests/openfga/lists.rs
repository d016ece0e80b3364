//! Assertions of lists, run through the vault's lists of resources and of subjects.

use std::collections::BTreeSet;
use std::sync::Arc;

use inferadb_actors::{Consistency, ListRequest, Paging, ResourcesRequest, SubjectsRequest, Vault, now};
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::list::Listed;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use serde::Deserialize;

use super::{
    Contextual, How, Model, RESOLUTION_TOO_COMPLEX, Tally, Tuple, VALIDATION_ERROR, context_of, told,
};

/// An assertion of either kind of list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, bound = "Q: Deserialize<'de>")]
pub struct ListAssertion<Q> {
    request: Q,
    #[serde(default)]
    contextual_tuples: Option<Vec<Tuple>>,
    #[serde(default)]
    context: Option<serde_json::Value>,
    #[serde(default)]
    expectation: Option<Vec<String>>,
    #[serde(default)]
    error_code: Option<u32>,
    /// Of the wildcard.
    #[serde(default)]
    excluded: Option<Vec<String>>,
    /// Those that are listed, but as conditional.
    #[serde(default)]
    conditional: Option<Vec<String>>,
}

/// On what does a user have a relation?
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectsQuestion {
    user: String,
    #[serde(rename = "type")]
    object_type: String,
    relation: String,
}

/// Who has a relation to an object?
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsersQuestion {
    filters: Vec<String>,
    object: String,
    relation: String,
    /// Where one of OpenFGA's assertions has it.
    #[serde(default)]
    expectation: Option<Vec<String>>,
}

/// What is asked, as a list of ours.
pub trait Question: std::fmt::Debug {
    fn list(&self, context: Arc<Context>, contextual: Arc<[Relationship]>) -> Result<ListRequest, String>;

    fn expectation(&self) -> Option<&Vec<String>> {
        None
    }
}

impl Question for ObjectsQuestion {
    fn list(&self, context: Arc<Context>, contextual: Arc<[Relationship]>) -> Result<ListRequest, String> {
        Ok(ListRequest::Resources(ResourcesRequest {
            subject: SubjectRef::parse(&self.user).map_err(told)?,
            permission: Name::parse(&self.relation).map_err(told)?,
            resource_type: Name::parse(&self.object_type).map_err(told)?,
            context,
            contextual,
        }))
    }
}

impl Question for UsersQuestion {
    fn list(&self, context: Arc<Context>, contextual: Arc<[Relationship]>) -> Result<ListRequest, String> {
        let [filter] = self.filters.as_slice() else {
            return Err("not one filter".to_owned());
        };
        let (subject_type, relation) = match filter.split_once('#') {
            Some((name, relation)) => (name, Some(Name::parse(relation).map_err(told)?)),
            None => (filter.as_str(), None),
        };
        Ok(ListRequest::Subjects(SubjectsRequest {
            resource: ObjectRef::parse(&self.object).map_err(told)?,
            permission: Name::parse(&self.relation).map_err(told)?,
            subject_type: Name::parse(subject_type).map_err(told)?,
            subject_relation: relation,
            context,
            contextual,
        }))
    }

    fn expectation(&self) -> Option<&Vec<String>> {
        self.expectation.as_ref()
    }
}

/// What lists of one stage are asked of.
pub struct Listing<'l> {
    pub vault: &'l Vault,
    pub model: &'l Model,
    pub how: How,
    /// How many entries a page has.
    pub page: usize,
}

/// A whole list.
#[derive(Debug, Default)]
struct Whole {
    allowed: BTreeSet<String>,
    conditional: BTreeSet<String>,
    /// Of the wildcard, if that is listed.
    excluded: Option<BTreeSet<String>>,
}

impl Listing<'_> {
    /// Runs one assertion.
    pub async fn judge<Q: Question>(&self, assertion: &ListAssertion<Q>, label: &str, tally: &mut Tally) {
        tally.lists += 1;
        let found = self.whole(assertion).await;
        if !assertion.holds(&found, self.how) {
            tally
                .failures
                .push(format!("{label}: {assertion:?}: found {found:?}"));
        }
    }

    async fn whole<Q: Question>(&self, assertion: &ListAssertion<Q>) -> Result<Whole, String> {
        let context = context_of(assertion.context.as_ref())?.into();
        let tuples = assertion.contextual_tuples.as_deref();
        let contextual = Contextual::of(self.vault, tuples, self.model, self.how).await?;
        let whole = match assertion.request.list(context, Arc::clone(&contextual.brought)) {
            Ok(request) => self.pages(&request).await,
            Err(error) => Err(error),
        };
        contextual.end(self.vault).await?;
        whole
    }

    async fn pages(&self, request: &ListRequest) -> Result<Whole, String> {
        let mut whole = Whole::default();
        let mut cursor = None;
        loop {
            let paging = Paging {
                limit: self.page,
                cursor,
                consistency: Consistency::default(),
                now: now(),
            };
            let page = self.vault.list(request, &paging).await.map_err(told)?;
            for item in &page.items {
                whole.add(request, item)?;
            }
            cursor = page.cursor;
            if cursor.is_none() {
                return Ok(whole);
            }
        }
    }
}

impl Whole {
    fn add(&mut self, request: &ListRequest, item: &Listed) -> Result<(), String> {
        let name = |id| match request {
            ListRequest::Resources(request) => format!("{}:{id}", request.resource_type),
            ListRequest::Subjects(request) => match &request.subject_relation {
                Some(relation) => format!("{}:{id}#{relation}", request.subject_type),
                None => format!("{}:{id}", request.subject_type),
            },
        };
        if item.id.is_wildcard() {
            self.excluded = Some(item.excluded.iter().map(name).collect());
        }
        let of = match item.decision {
            Decision::Allow => &mut self.allowed,
            Decision::Conditional { .. } => &mut self.conditional,
            Decision::Deny => return Err(format!("{} is listed with a deny", item.id)),
        };
        match of.insert(name(&item.id)) {
            true => Ok(()),
            false => Err(format!("{} is listed twice", item.id)),
        }
    }
}

impl<Q: Question> ListAssertion<Q> {
    fn holds(&self, found: &Result<Whole, String>, how: How) -> bool {
        let expected = || self.expectation.as_ref().or(self.request.expectation());
        match (found, self.error_code) {
            (_, Some(RESOLUTION_TOO_COMPLEX)) | (Err(_), Some(_)) => true,
            // A condition that lacks a value: the entry is there, as a conditional one. OpenFGA asks for every value,
            // even for one that could change nothing.
            (Ok(whole), Some(VALIDATION_ERROR)) => {
                !whole.conditional.is_empty() || (how.is_elsewhere && self.context.is_some())
            }
            // Where OpenFGA denies, the native language finds that there is no answer.
            (Err(error), None) => how.is_converted && error.contains("excludes itself"),
            (Ok(whole), None) => {
                let expected: BTreeSet<String> = expected().into_iter().flatten().cloned().collect();
                let conditional: BTreeSet<String> = self.conditional.iter().flatten().cloned().collect();
                whole.agrees(&expected, self.excluded.as_ref()) && whole.conditional == conditional
            }
            (Ok(_), Some(_)) => false,
        }
    }
}

impl Whole {
    /// Whether the same are meant. A wildcard of OpenFGA's stands for everybody but some whom it does not tell; beside it stand those
    /// whom tuples of their own let in. Here every named subject is either listed beside it or excluded.
    fn agrees(&self, expected: &BTreeSet<String>, excluded: Option<&Vec<String>>) -> bool {
        let is_wildcard = |name: &&String| name.ends_with(":*");
        let everybody = self.allowed.iter().find(is_wildcard);
        let (Some(everybody), Some(left_out)) = (everybody, &self.excluded) else {
            return self.allowed == *expected && excluded.is_none();
        };
        let is_exact = |excluded: &Vec<String>| excluded.iter().eq(left_out);
        expected.contains(everybody)
            && expected.is_disjoint(left_out)
            && self.allowed.is_disjoint(left_out)
            && excluded.is_none_or(is_exact)
    }
}
