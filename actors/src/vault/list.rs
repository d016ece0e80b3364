//! Lists: the resources on which a subject has a permission, and the subjects that have one on a resource, page by page.
//!
//! A page is searched on a frame as a check is, and starts again where the vault moves on under it. A stream holds one storage
//! snapshot from its first page on, so that all of it is of one revision.

use std::sync::Arc;

use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Subject;
use inferadb_engine::list::{
    Breadth, Class, ListPage as EnginePage, ListStep, Listed, Plan, Position, ResourceQuestion,
    ResourceSearch, Search, SubjectPlans, SubjectQuestion, SubjectSearch,
};
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, Relationship, SubjectRef, Timestamp};
use inferadb_engine::overlay::{Laid, Overlay};
use inferadb_engine::row::Rows;
use inferadb_engine::schema::MemberId;
use inferadb_storage::Revision;
use inferadb_storage::token::{Cursor, fingerprint};

use super::check::{MANY_TERMS_BYTES, member_named, type_named};
use super::contextual;
use super::frame::{Frame, Interrupted};
use super::list_read::terms;
use super::{Consistency, Vault};
use crate::error::VaultError;
use crate::turn::{PIECE, Turn};
use crate::view::{VaultSchema, View};

/// On what resources of a type does a subject have a permission?
#[derive(Debug, Clone)]
pub struct ResourcesRequest {
    /// Who.
    pub subject: SubjectRef,
    /// The relation or permission.
    pub permission: Name,
    /// The type of the resources.
    pub resource_type: Name,
    /// Values for caveats.
    pub context: Arc<Context>,
    /// Relationships that count for this list alone.
    pub contextual: Arc<[Relationship]>,
}

/// What subjects of a class have a permission on a resource?
#[derive(Debug, Clone)]
pub struct SubjectsRequest {
    /// On what.
    pub resource: ObjectRef,
    /// The relation or permission.
    pub permission: Name,
    /// The type of the subjects.
    pub subject_type: Name,
    /// The relation of usersets; `None` for plain subjects and the wildcard.
    pub subject_relation: Option<Name>,
    /// Values for caveats.
    pub context: Arc<Context>,
    /// Relationships that count for this list alone.
    pub contextual: Arc<[Relationship]>,
}

/// A list that is asked for.
#[derive(Debug, Clone)]
pub enum ListRequest {
    /// Of resources.
    Resources(ResourcesRequest),
    /// Of subjects.
    Subjects(SubjectsRequest),
}

/// Which part of a list.
#[derive(Debug, Clone)]
pub struct Paging {
    /// The most entries of one page, 1 at least.
    pub limit: usize,
    /// Where an earlier page ended.
    pub cursor: Option<String>,
    /// How fresh it must be.
    pub consistency: Consistency,
    /// The moment at which expiry is judged.
    pub now: Timestamp,
}

/// One page of a list.
#[derive(Debug, Clone)]
pub struct ListPage {
    /// Sorted by id, a wildcard first. Their type, and relation, is the request's.
    pub items: Vec<Listed>,
    /// Where the next page goes on; `None` at the end. A page can be short, or empty, although more follows.
    pub cursor: Option<String>,
    /// The state they are of.
    pub revision: Revision,
}

/// A search for one list on one frame.
enum AnySearch<'a> {
    Resources(Box<ResourceSearch<'a>>),
    Subjects(Box<SubjectSearch<'a>>),
}

impl Vault {
    /// One page of a list. It counts as one check.
    ///
    /// # Errors
    /// `limit_exceeded` where the work limit ends the page before anything of it is certain; a page that it ends later is short.
    pub async fn list(&self, request: &ListRequest, paging: &Paging) -> Result<ListPage, VaultError> {
        self.take_checks(1)?;
        let from = self.position(request, paging.cursor.as_deref())?;
        let mut turn = self.turn();
        let mut frame = Frame::of(self.view_for(paging.consistency).await?);
        for attempt in 1.. {
            match self
                .first_page(&frame, request, from.clone(), paging, &mut turn)
                .await
            {
                Ok(page) => return Ok(self.page(request, page, frame.view.revision)),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => {
                    frame = turn.during(self.next_frame(attempt, revision)).await?;
                }
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    async fn first_page(
        &self,
        frame: &Frame,
        request: &ListRequest,
        from: Option<Position>,
        paging: &Paging,
        turn: &mut Turn<'_>,
    ) -> Result<EnginePage, Interrupted> {
        turn.begin().await;
        let mut search = self.search(frame, request, from, paging.now, turn).await?;
        let overlay = self.overlay(frame, request)?;
        let laid = overlay.over(&*frame.view);
        self.next_page(frame, &laid, &mut search, paging.limit, turn)
            .await
    }

    /// A whole list, page after page, all at one revision. `take` gets each page and answers the limit of the next one, or
    /// `None` for enough; the next page is not searched for before it did. Where the state can no longer be read, the last
    /// page is empty and has a cursor.
    pub async fn list_each(
        &self,
        request: &ListRequest,
        paging: &Paging,
        mut take: impl AsyncFnMut(ListPage) -> Option<usize>,
    ) -> Result<(), VaultError> {
        self.take_checks(1)?;
        let from = self.position(request, paging.cursor.as_deref())?;
        let mut turn = self.turn();
        let mut frame = Frame::of(self.view_for(paging.consistency).await?);
        for attempt in 1.. {
            match self
                .stream_in(&frame, request, paging, from.clone(), &mut take, &mut turn)
                .await
            {
                Ok(()) => return Ok(()),
                Err(Interrupted::Failed(error)) => return Err(error),
                Err(Interrupted::Moved(revision)) => {
                    frame = turn.during(self.next_frame(attempt, revision)).await?;
                }
            }
        }
        Err(VaultError::Overloaded("the vault keeps changing"))
    }

    /// A whole list on one frame; interrupted only as long as no page was answered.
    async fn stream_in(
        &self,
        frame: &Frame,
        request: &ListRequest,
        paging: &Paging,
        from: Option<Position>,
        take: &mut impl AsyncFnMut(ListPage) -> Option<usize>,
        turn: &mut Turn<'_>,
    ) -> Result<(), Interrupted> {
        turn.begin().await;
        // Opened at once: nothing that is written later can end the stream's hold on its revision.
        turn.during(frame.snapshot(self)).await?;
        let mut search = self.search(frame, request, from, paging.now, turn).await?;
        let overlay = self.overlay(frame, request)?;
        let laid = overlay.over(&*frame.view);
        let mut reached: Option<Position> = None;
        let mut limit = paging.limit;
        loop {
            // A reader that takes its time keeps nobody from reading wide rows.
            let own = frame.anew();
            let found = self.next_page(&own, &laid, &mut search, limit, turn).await;
            drop(own);
            let page = match found {
                Ok(page) => page,
                Err(Interrupted::Moved(_)) if reached.is_some() => {
                    // What follows can be asked for with the cursor, at a later revision.
                    let page = EnginePage {
                        items: Vec::new(),
                        next: reached,
                    };
                    turn.pause();
                    take(self.page(request, page, frame.view.revision)).await;
                    return Ok(());
                }
                Err(interrupted) => return Err(interrupted),
            };
            reached = page.next.clone();
            let is_last = reached.is_none();
            let page = self.page(request, page, frame.view.revision);
            match turn.during(take(page)).await {
                Some(next) if !is_last => limit = next,
                _ => return Ok(()),
            }
        }
    }

    async fn search<'a>(
        &self,
        frame: &'a Frame,
        request: &'a ListRequest,
        from: Option<Position>,
        now: Timestamp,
        turn: &mut Turn<'_>,
    ) -> Result<AnySearch<'a>, VaultError> {
        let schema = &frame.view.schema;
        let limits = self.limits.load().for_engine(PIECE);
        Ok(match request {
            ListRequest::Resources(request) => {
                let resource_type = type_named(schema, "resource_type", &request.resource_type)?;
                let target = member_named(schema, "permission", resource_type, &request.permission)?;
                let subject = resolve_subject(schema, &request.subject)?;
                let class = Class {
                    object_type: subject.object_type,
                    relation: subject.relation,
                };
                let plan = plan(schema, target, class, Breadth::Selected, turn).await;
                let question = ResourceQuestion {
                    subject,
                    after: from.as_ref().and_then(Position::after).cloned(),
                };
                let (compiled, context) = (&schema.compiled, &*request.context);
                let search = ResourceSearch::new(compiled, plan, question, context, now, limits);
                AnySearch::Resources(Box::new(search))
            }
            ListRequest::Subjects(request) => {
                let resource_type = type_named(schema, "resource", &request.resource.object_type)?;
                let target = member_named(schema, "permission", resource_type, &request.permission)?;
                let object_type = type_named(schema, "subject_type", &request.subject_type)?;
                let relation = match &request.subject_relation {
                    Some(name) => Some(member_named(schema, "subject_relation", object_type, name)?),
                    None => None,
                };
                let class = Class {
                    object_type,
                    relation,
                };
                let plans = SubjectPlans {
                    selected: plan(schema, target, class, Breadth::Selected, turn).await,
                    everything: plan(schema, target, class, Breadth::Everything, turn).await,
                };
                let question = SubjectQuestion {
                    resource: request.resource.id.clone(),
                    from,
                };
                let (compiled, context) = (&schema.compiled, &*request.context);
                let search = SubjectSearch::new(compiled, plans, question, context, now, limits);
                AnySearch::Subjects(Box::new(search))
            }
        })
    }

    /// The relationships that count for the list alone, to be laid over what is stored.
    fn overlay(&self, frame: &Frame, request: &ListRequest) -> Result<Overlay, VaultError> {
        let schema = &frame.view.schema.compiled;
        contextual::overlay(schema, &Overlay::new(), request.contextual())
    }

    async fn next_page(
        &self,
        frame: &Frame,
        laid: &Laid<'_, View>,
        search: &mut AnySearch<'_>,
        limit: usize,
        turn: &mut Turn<'_>,
    ) -> Result<EnginePage, Interrupted> {
        search.set_limit(limit);
        let mut bytes = 0;
        loop {
            match search.step(laid).map_err(VaultError::from)? {
                ListStep::Page(page) => {
                    turn.count(page.items.len() as u64);
                    return Ok(page);
                }
                ListStep::Yield => turn.pace(PIECE).await,
                ListStep::Need(demands) => {
                    for (demand, supply) in self.fetch_for_list(frame, demands, turn).await? {
                        bytes += terms(&supply);
                        let supply = laid.lay_listed(&demand, supply);
                        search.supply(demand, supply);
                    }
                    if bytes > MANY_TERMS_BYTES {
                        turn.during(frame.hold_wide(self)).await?;
                    }
                }
            }
        }
    }

    fn page(&self, request: &ListRequest, page: EnginePage, revision: Revision) -> ListPage {
        let query = request.query();
        let cursor = page.next.map(|next| Cursor {
            position: encode(&next),
            query,
        });
        ListPage {
            items: page.items,
            cursor: cursor.map(|cursor| cursor.encode(self.id.0)),
            revision,
        }
    }

    fn position(&self, request: &ListRequest, cursor: Option<&str>) -> Result<Option<Position>, VaultError> {
        let Some(text) = cursor else { return Ok(None) };
        let invalid = |message: String| VaultError::Invalid {
            code: "invalid_cursor",
            field: "cursor".into(),
            message,
        };
        let position =
            Cursor::decode(self.id.0, request.query(), text).map_err(|error| invalid(error.to_string()))?;
        let malformed = || invalid("the token is malformed".into());
        decode(&position).map(Some).ok_or_else(malformed)
    }
}

impl ListRequest {
    fn contextual(&self) -> &[Relationship] {
        match self {
            Self::Resources(request) => &request.contextual,
            Self::Subjects(request) => &request.contextual,
        }
    }

    /// Tells a list from every other one. The context is no part of it: a caller's clock may go on from page to page. Nor are
    /// the contextual relationships: like those that are stored they may change meanwhile, and a position stays one.
    fn query(&self) -> u64 {
        let subject;
        let resource;
        let parts: [&str; 6] = match self {
            Self::Resources(request) => {
                subject = request.subject.to_string();
                let (permission, of) = (request.permission.as_str(), request.resource_type.as_str());
                ["resources", &subject, permission, of, "", ""]
            }
            Self::Subjects(request) => {
                resource = request.resource.to_string();
                let relation = request.subject_relation.as_ref().map_or("", Name::as_str);
                let (permission, of) = (request.permission.as_str(), request.subject_type.as_str());
                ["subjects", &resource, permission, of, relation, ""]
            }
        };
        fingerprint(parts.iter().map(|part| part.as_bytes()))
    }
}

impl AnySearch<'_> {
    fn set_limit(&mut self, limit: usize) {
        match self {
            Self::Resources(search) => search.set_limit(limit),
            Self::Subjects(search) => search.set_limit(limit),
        }
    }

    fn step(&mut self, rows: &impl Rows) -> Result<ListStep, inferadb_engine::evaluate::EvaluationError> {
        match self {
            Self::Resources(search) => search.step(rows),
            Self::Subjects(search) => search.step(rows),
        }
    }

    fn supply(
        &mut self,
        demand: inferadb_engine::list::ListDemand,
        supply: inferadb_engine::list::ListSupply,
    ) {
        match self {
            Self::Resources(search) => search.supply(demand, supply),
            Self::Subjects(search) => search.supply(demand, supply),
        }
    }
}

/// A plan of a schema. One that takes long to make is made in a turn of the vault's own, which is charged for it.
async fn plan(
    schema: &VaultSchema,
    target: MemberId,
    class: Class,
    breadth: Breadth,
    turn: &mut Turn<'_>,
) -> Arc<Plan> {
    let is_heavy = schema.is_heavy_to_plan(target, class, breadth);
    if is_heavy {
        turn.pace(PIECE).await;
    }
    let plan = schema.plan(target, class, breadth);
    if is_heavy {
        turn.pace(PIECE).await;
    }
    plan
}

/// Resolves a subject's names against the schema.
pub(super) fn resolve_subject(schema: &VaultSchema, subject: &SubjectRef) -> Result<Subject, VaultError> {
    let object_type = type_named(schema, "subject", &subject.object_type)?;
    let relation = match &subject.relation {
        Some(name) => Some(member_named(schema, "subject", object_type, name)?),
        None => None,
    };
    Ok(Subject {
        object_type,
        id: subject.id.clone(),
        relation,
    })
}

/// A position in a cursor: 0 alone after the wildcard, 1 and then the last id.
fn encode(position: &Position) -> Vec<u8> {
    match position {
        Position::AfterWildcard => vec![0],
        Position::After(id) => [&[1], id.as_str().as_bytes()].concat(),
    }
}

fn decode(bytes: &[u8]) -> Option<Position> {
    match bytes.split_first()? {
        (0, []) => Some(Position::AfterWildcard),
        (1, id) => {
            let id = std::str::from_utf8(id).ok()?;
            Some(Position::After(ObjectId::parse(id).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_survive_and_nothing_else_is_one() {
        let after = |id: &str| Position::After(ObjectId::parse(id).unwrap());
        for position in [Position::AfterWildcard, after("a"), after("ä:*/x")] {
            assert_eq!(decode(&encode(&position)), Some(position));
        }
        for bad in [
            &b""[..],
            b"\x00a",
            b"\x01",
            b"\x01*",
            b"\x01a b",
            b"\x01\xff",
            b"\x02a",
        ] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }
}
