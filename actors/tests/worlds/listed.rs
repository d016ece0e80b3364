//! Lists against the reference: in pages with writes, evictions and new schemas between them, with little work allowed, in streams
//! that are written under, and all permissions of one subject on one resource.
//!
//! Each page is judged at the revision it names; of the whole, that each id is answered at most once, and that one which is
//! missing was to be missing in a page that it could have stood in.

use std::collections::BTreeSet;

use inferadb_actors::{
    Consistency, ListPage, ListRequest, Paging, PermissionsRequest, Reach, ResourcesRequest, Revision,
    SubjectsRequest, Vault, VaultChange, VaultError,
};
use inferadb_engine::evaluate::EvaluationError;
use inferadb_engine::list::Listed;
use inferadb_engine::noun::{Name, ObjectId};
use serde_json::{Value, json};

use crate::Trial;
use crate::past::{self, Question, State, base, decided, is_undefined};
use crate::reference::{Answer, Node};
use crate::world::{CAVEATS, Class, Dice, OBJECTS, Who};
use crate::{random_request, random_subject};

/// What is listed.
#[derive(Debug, Clone)]
enum Asked {
    /// The objects of a type on which somebody has a member.
    Resources(Who, usize, String),
    /// Who of a class has a member of an object.
    Subjects(Node, Class),
}

/// A list that is followed from its beginning.
#[derive(Debug)]
struct Walk {
    asked: Asked,
    request: [Option<bool>; CAVEATS],
    now: i64,
    pages: Vec<Page>,
}

#[derive(Debug)]
struct Page {
    items: Vec<Listed>,
    revision: Revision,
    /// Whether it had as many entries as it could.
    is_full: bool,
    has_more: bool,
}

impl Walk {
    fn random(dice: &mut Dice, state: &State, now: i64) -> Self {
        let nodes = state.nodes();
        let node = nodes[dice.below(nodes.len())].clone();
        let asked = if dice.chance(50) {
            Asked::Resources(random_subject(dice, state), node.0, node.1)
        } else {
            let class = match random_subject(dice, state).class {
                Class::Wildcard(of) => Class::Object(of),
                class => class,
            };
            Asked::Subjects(node, class)
        };
        Self {
            asked,
            request: random_request(dice),
            now,
            pages: Vec::new(),
        }
    }

    fn list(&self) -> ListRequest {
        let context = past::context(self.request).into();
        match &self.asked {
            Asked::Resources(who, of, member) => ListRequest::Resources(ResourcesRequest {
                subject: past::subject(who),
                permission: Name::parse(member).unwrap(),
                resource_type: past::object(*of, 0).object_type,
                context,
                contextual: Default::default(),
            }),
            Asked::Subjects(node, class) => ListRequest::Subjects(SubjectsRequest {
                resource: past::object(node.0, node.2),
                permission: Name::parse(&node.1).unwrap(),
                subject_type: past::object(class.of(), 0).object_type,
                subject_relation: match class {
                    Class::Userset(_, name) => Some(Name::parse(name).unwrap()),
                    _ => None,
                },
                context,
                contextual: Default::default(),
            }),
        }
    }

    /// The check behind an entry; `None` is the wildcard.
    fn question(&self, at: Option<usize>) -> Question {
        let (node, who) = match &self.asked {
            Asked::Resources(who, of, member) => ((*of, member.clone(), at.unwrap_or(0)), who.clone()),
            Asked::Subjects(node, class) => {
                let class = match at {
                    Some(_) => class.clone(),
                    None => Class::Wildcard(class.of()),
                };
                let object = at.unwrap_or(0);
                (node.clone(), Who { class, object })
            }
        };
        Question {
            node,
            who,
            request: self.request,
            now: self.now,
        }
    }

    /// Whether a wildcard can stand in it.
    fn has_wildcard(&self) -> bool {
        matches!(self.asked, Asked::Subjects(_, Class::Object(_)))
    }

    fn take(&mut self, page: ListPage, limit: usize) -> Option<String> {
        self.pages.push(Page {
            is_full: page.items.len() == limit,
            has_more: page.cursor.is_some(),
            items: page.items,
            revision: page.revision,
        });
        page.cursor
    }
}

/// The object of an id, `None` of the wildcard's.
fn place(id: &ObjectId) -> Option<usize> {
    (!id.is_wildcard()).then(|| id.as_str()[1..].parse().unwrap())
}

impl Trial {
    /// How fresh an answer is asked to be, and the revision that it may not be older than.
    pub fn consistency(&mut self) -> (Consistency, Revision) {
        match self.dice.below(5) {
            0 => (Consistency::FullyConsistent, self.head),
            1 => (Consistency::AtLeast(self.head), self.head),
            2 => (Consistency::AtLeast(self.answered), self.answered),
            _ => (Consistency::MinimizeLatency, self.answered),
        }
    }

    /// A list that is worth following, if one is soon found.
    fn plan_walk(&mut self) -> Walk {
        let state = self.state();
        let mut walk = Walk::random(&mut self.dice, &state, self.now);
        for _ in 0..8 {
            if self.dice.chance(25) {
                walk = self.wildcards_walk(&state).unwrap_or(walk);
            }
            let listed = (0..OBJECTS).filter(|at| {
                let answer = self.past.answer(self.head, &walk.question(Some(*at)));
                answer != Some(Answer::Deny)
            });
            if listed.count() > 1 {
                break;
            }
            walk = Walk::random(&mut self.dice, &state, self.now);
        }
        walk
    }

    /// A list with a wildcard in it, if there is one of a random type: rather one with exclusions.
    fn wildcards_walk(&mut self, state: &State) -> Option<Walk> {
        let class = Class::Object(self.dice.below(state.types.len()));
        let request = random_request(&mut self.dice);
        let walk = |node: Node| Walk {
            asked: Asked::Subjects(node, class.clone()),
            request,
            now: self.now,
            pages: Vec::new(),
        };
        let answer = |walk: &Walk, at| self.past.answer(self.head, &walk.question(at));
        let mut walks: Vec<Walk> = state.nodes().into_iter().map(walk).collect();
        walks.retain(|walk| matches!(answer(walk, None), Some(Answer::Allow | Answer::Conditional(_))));
        let excludes = |walk: &Walk| (0..OBJECTS).any(|at| answer(walk, Some(at)) == Some(Answer::Deny));
        if let Some(at) = walks.iter().position(excludes).filter(|_| self.dice.chance(70)) {
            return Some(walks.swap_remove(at));
        }
        let count = walks.len();
        (count > 0).then(|| walks.swap_remove(self.dice.below(count)))
    }

    /// Follows one list's cursors to its end.
    pub async fn walk(&mut self) {
        let mut walk = self.plan_walk();
        let list = walk.list();
        let is_still = self.dice.chance(30);
        let mut budget = self.dice.chance(40).then(|| 1 + self.dice.below(30));
        if let Some(budget) = budget {
            self.hold_work_to(json!(budget)).await;
        }
        let mut cursor = None;
        let ended = loop {
            let (id, account) = (self.id, self.stage.account);
            let (vault, pass) = self.stage.platform.enter(id, account).await.unwrap();
            let (consistency, least) = self.consistency();
            let limit = [1, 2, 3, 1_000][self.dice.below(4)];
            let paging = Paging {
                limit,
                cursor: cursor.clone(),
                consistency,
                now: base(walk.now),
            };
            match vault.list(&list, &paging).await {
                Ok(page) => {
                    assert!(page.revision >= least, "seed {}: a page from before", self.seed);
                    cursor = walk.take(page, limit);
                    if cursor.is_none() {
                        break true;
                    }
                }
                Err(VaultError::Evaluation(EvaluationError::LimitExceeded { .. })) => {
                    let enough = budget.unwrap() * 2;
                    assert!(enough < 10_000, "seed {}: {walk:?} is never done", self.seed);
                    budget = Some(enough);
                    self.tally.exceeded += 1;
                    drop((vault, pass));
                    self.hold_work_to(json!(enough)).await;
                    continue;
                }
                Err(error) => {
                    self.judge_error(&walk, &error);
                    break false;
                }
            }
            if !is_still && self.dice.chance(70) {
                self.change(&vault).await;
            }
            drop((vault, pass));
            if !is_still && self.dice.chance(20) {
                self.evict().await;
            }
        };
        if budget.is_some() {
            self.hold_work_to(Value::Null).await;
        }
        self.judge_walk(&walk, ended);
    }

    /// Takes a stream while the vault is written to: it is of one revision all the same.
    pub async fn stream(&mut self, vault: &std::sync::Arc<Vault>) {
        let mut walk = self.plan_walk();
        let list = walk.list();
        let (consistency, least) = self.consistency();
        let mut limit = 1 + self.dice.below(3);
        let paging = Paging {
            limit,
            cursor: None,
            consistency,
            now: base(walk.now),
        };
        let before = self.answered;
        let streamed = vault
            .list_each(&list, &paging, async |page| {
                walk.take(page, limit);
                if self.dice.chance(60) {
                    self.change(vault).await;
                }
                limit = 1 + self.dice.below(3);
                Some(limit)
            })
            .await;
        if let Err(error) = &streamed {
            self.answered = before;
            self.judge_error(&walk, error);
        }
        for page in &walk.pages {
            assert!(page.revision >= least);
            assert_eq!(
                page.revision, walk.pages[0].revision,
                "a stream is of one revision"
            );
        }
        self.tally.streams += 1;
        self.judge_walk(&walk, streamed.is_ok());
    }

    /// All permissions of one subject on one object of each type.
    pub async fn permit(&mut self, vault: &Vault, who: &Who, request: [Option<bool>; CAVEATS]) {
        let object = self.dice.below(OBJECTS);
        for of in 0..self.state().types.len() {
            let list = PermissionsRequest {
                subject: past::subject(who),
                resource: past::object(of, object),
                context: past::context(request).into(),
                contextual: Default::default(),
                relations: true,
            };
            let (consistency, least) = self.consistency();
            let found = vault.permissions(&list, consistency, base(self.now)).await;
            let found = found.unwrap();
            assert!(found.revision >= least);
            let names = self.past.at(found.revision).types[of].names();
            let found_names = found.permissions.iter().map(|held| held.name.as_str().to_owned());
            assert_eq!(found_names.collect::<BTreeSet<_>>(), names);
            assert_eq!(found.permissions.len(), names.len());
            for held in &found.permissions {
                let question = Question {
                    node: (of, held.name.as_str().to_owned(), object),
                    who: who.clone(),
                    request,
                    now: self.now,
                };
                let expected = self.past.answer(found.revision, &question).unwrap();
                assert!(
                    decided(held.outcome.as_ref(), &expected),
                    "seed {}: {question:?} among all permissions\nexpected {expected:?}\nfound {held:?}\n{}",
                    self.seed,
                    self.past.at(found.revision).describe()
                );
                self.tally.permitted += 1;
            }
        }
    }

    /// Evicts the vault.
    pub async fn evict(&mut self) {
        let reach = Reach::Everything;
        self.stage.platform.deactivate(self.id, reach).await.unwrap();
        self.answered = self.head;
        self.tally.evictions += 1;
    }

    /// Changes the vault's work limit; `null` takes the change back.
    async fn hold_work_to(&mut self, max_work: Value) {
        let limits = json!({ "max_work": max_work }).as_object().cloned();
        let change = VaultChange {
            limits,
            ..VaultChange::default()
        };
        let platform = &self.stage.platform;
        platform
            .update_vault(self.id, Reach::Everything, change)
            .await
            .unwrap();
        let state = self.state();
        self.head = self.stage.store.snapshot(self.id).await.unwrap().revision();
        self.past.note(self.head, state);
        // The actor takes the limit in with the head.
        let (vault, _pass) = platform.enter(self.id, self.stage.account).await.unwrap();
        let question = Question {
            node: self.state().nodes()[0].clone(),
            who: Who {
                class: Class::Object(0),
                object: 0,
            },
            request: [None; CAVEATS],
            now: self.now,
        };
        let fresh = Consistency::FullyConsistent;
        let _ = vault.check(&question.check(), fresh, base(self.now)).await;
        self.answered = self.head;
    }

    /// An error of a list is right where the schema of the time does not know its names, or a check of it has no answer.
    fn judge_error(&mut self, walk: &Walk, error: &VaultError) {
        let mut questions: Vec<Question> = (0..OBJECTS).map(|at| walk.question(Some(at))).collect();
        questions.extend(walk.has_wildcard().then(|| walk.question(None)));
        let mut revisions = self.past.between(self.answered, self.head);
        let is_right = match error {
            VaultError::Invalid { code, .. } => {
                let unknown = ["unknown_type", "unknown_permission"].contains(code);
                unknown
                    && revisions.any(|at| questions.iter().any(|question| !self.past.at(at).knows(question)))
            }
            error if is_undefined(error) => revisions.any(|at| {
                let answers = questions.iter().map(|question| self.past.answer(at, question));
                answers
                    .into_iter()
                    .any(|answer| answer == Some(Answer::Undefined))
            }),
            _ => false,
        };
        assert!(
            is_right,
            "seed {}: {walk:?}\nfound {error:?}\n{}",
            self.seed,
            self.state().describe()
        );
        self.tally.refused += 1;
    }

    fn judge_walk(&mut self, walk: &Walk, ended: bool) {
        let wrong = |what: &str, at: Option<usize>, revision: Revision| {
            panic!(
                "seed {}: {what} {at:?} at {revision:?}\nexpected {:?}\n{walk:#?}\n{}",
                self.seed,
                self.past.answer(revision, &walk.question(at)),
                self.past.at(revision).describe()
            )
        };
        let answer = |at, revision| self.past.answer(revision, &walk.question(at)).unwrap();
        let mut last: Option<Option<usize>> = None;
        for (number, page) in walk.pages.iter().enumerate() {
            for item in &page.items {
                let at = place(&item.id);
                if last.is_some_and(|last| at <= last) || (at.is_none() && !walk.has_wildcard()) {
                    wrong("out of order:", at, page.revision);
                }
                last = Some(at);
                let expected = answer(at, page.revision);
                if expected == Answer::Deny || !decided(Ok(&item.decision), &expected) {
                    wrong("a wrong entry", at, page.revision);
                }
                let excluded: Vec<_> = item.excluded.iter().map(place).collect();
                for object in (0..OBJECTS).map(Some).filter(|_| at.is_none()) {
                    let lesser = match answer(object, page.revision) {
                        Answer::Deny => true,
                        Answer::Conditional(_) => expected == Answer::Allow,
                        _ => false,
                    };
                    if excluded.contains(&object) != lesser {
                        wrong("the wildcard's exclusion of", object, page.revision);
                    }
                }
                self.tally.listed += 1;
                self.tally.wildcards += u64::from(at.is_none());
                self.tally.excluded += excluded.len() as u64;
            }
            let first = page.items.first().map(|item| place(&item.id));
            let begins_with_it = number == 0 && first == Some(None);
            if number == 0 && walk.has_wildcard() && !begins_with_it {
                let is_listed = !matches!(answer(None, page.revision), Answer::Deny | Answer::Undefined);
                // A page that the work limit cut short may not have come so far: then nothing else is in it either.
                if is_listed {
                    wrong("not listed:", None, page.revision);
                }
            }
        }
        let listed: BTreeSet<Option<usize>> = walk
            .pages
            .iter()
            .flat_map(|page| page.items.iter().map(|item| place(&item.id)))
            .collect();
        let mut compared = 0;
        for object in (0..OBJECTS).map(Some).filter(|object| !listed.contains(object)) {
            // A list that ended with an error says nothing of what would have followed.
            if !ended && last.is_none_or(|last| last < object) {
                continue;
            }
            let mut could = possible(&walk.pages, object).into_iter().peekable();
            assert!(could.peek().is_some(), "{walk:?}");
            let is_right = could.any(|revision| {
                let expected = answer(object, revision);
                // Whom nothing names is meant by the wildcard.
                let implied = || walk.has_wildcard() && answer(None, revision) == expected;
                expected == Answer::Deny || (expected != Answer::Undefined && implied())
            });
            if !is_right {
                wrong("not listed:", object, walk.pages[walk.pages.len() - 1].revision);
            }
            compared += 1;
        }
        self.tally.listed += compared;
        self.tally.pages += walk.pages.len() as u64;
        let moved = |pair: &[Page]| pair[0].revision != pair[1].revision;
        self.tally.moved += u64::from(walk.pages.windows(2).any(moved));
    }
}

/// The revisions of the pages in which an id that is in none could have stood: the last one with an entry before it, if there was
/// room behind that, and those that follow up to the first one with an entry after it.
fn possible(pages: &[Page], object: Option<usize>) -> Vec<Revision> {
    let before = |page: &Page| page.items.iter().any(|item| place(&item.id) < object);
    let after = |page: &Page| page.items.iter().any(|item| place(&item.id) > object);
    let first = pages.iter().rposition(before).unwrap_or(0);
    let last = pages.iter().position(after).unwrap_or(pages.len() - 1);
    let full = |page: &Page| page.is_full && page.has_more && before(page) && !after(page);
    let some = pages.iter().take(last + 1).skip(first);
    some.filter(|page| !full(page))
        .map(|page| page.revision)
        .collect()
}
