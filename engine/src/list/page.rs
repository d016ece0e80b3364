//! Pages: candidates taken in order, those that need it verified side by side, and put together as far as they are decided.

use std::collections::VecDeque;

use super::join::Join;
use super::judge::{Ask, Judge, Ruling};
use super::merge::Next;
use super::{ListPage, Listed, Position};
use crate::evaluate::{Check, Decision, EvaluationError, Subject};
use crate::noun::ObjectId;
use crate::row::Rows;
use crate::schema::{MemberId, TypeId};

/// The fewest and the most candidates that are verified side by side.
const AHEAD: std::ops::RangeInclusive<usize> = 8..=128;

/// How many candidates beyond a full page are decided at most, to tell whether the list ends with it.
const MAX_LOOKS: usize = 64;

/// What is asked about each candidate.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// Whether the subject has the member of the candidate.
    Resource { member: MemberId, subject: Subject },
    /// Whether the candidate has the member of the object.
    Subject {
        member: MemberId,
        object: ObjectId,
        object_type: TypeId,
        relation: Option<MemberId>,
    },
}

impl Question {
    pub(super) fn about(&self, candidate: &ObjectId) -> Check {
        match self {
            Self::Resource { member, subject } => Check {
                member: *member,
                object: candidate.clone(),
                subject: subject.clone(),
            },
            Self::Subject {
                member,
                object,
                object_type,
                relation,
            } => Check {
                member: *member,
                object: object.clone(),
                subject: Subject {
                    object_type: *object_type,
                    id: candidate.clone(),
                    relation: *relation,
                },
            },
        }
    }
}

/// The candidates under way, in order.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    pub(super) join: Join,
    question: Question,
    window: VecDeque<Candidate<'a>>,
    exhausted: bool,
}

#[derive(Debug)]
struct Candidate<'a> {
    id: ObjectId,
    state: State<'a>,
}

#[derive(Debug)]
enum State<'a> {
    Ruled(Ruling),
    Asked(Box<Ask<'a>>),
}

/// How it stands with the first candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    Ruled,
    Waiting,
    Tired,
    None,
}

/// What became of the first candidate.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is decided.
    Decided(ObjectId, Decision),
    /// It waits for rows.
    Waiting,
    /// There is more to do, but the step is over.
    Tired,
    /// There is none.
    End,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(join: Join, question: Question) -> Self {
        Self {
            join,
            question,
            window: VecDeque::new(),
            exhausted: false,
        }
    }

    /// Takes the first candidate if it is decided, and goes on with it and up to `ahead` others if not.
    pub(super) fn next(
        &mut self,
        judge: &mut Judge<'a>,
        rows: &impl Rows,
        ahead: usize,
    ) -> Result<Turn, EvaluationError> {
        // Where one after the other is decided at once, nothing else ends the step.
        if judge.is_tired() && !judge.is_spent() {
            return Ok(Turn::Tired);
        }
        Ok(match self.decide(judge, rows, ahead) {
            Front::Ruled => match self.window.pop_front() {
                Some(Candidate {
                    id,
                    state: State::Ruled(ruling),
                }) => Turn::Decided(id, ruling?),
                _ => Turn::End,
            },
            Front::Waiting => Turn::Waiting,
            Front::Tired => Turn::Tired,
            Front::None => Turn::End,
        })
    }

    /// Whether there is more to answer; `None` where that is not known yet. Looks at so many candidates and no further: then
    /// more may follow.
    fn has_more(&mut self, judge: &mut Judge<'a>, rows: &impl Rows, looks: &mut usize) -> Option<bool> {
        while *looks > 0 && !judge.is_spent() {
            match self.decide(judge, rows, *AHEAD.start()) {
                Front::Ruled => {}
                Front::None => return Some(false),
                Front::Tired if judge.is_spent() => break,
                Front::Waiting | Front::Tired => return None,
            }
            match self.window.front().map(|candidate| &candidate.state) {
                Some(State::Ruled(Ok(Decision::Deny))) => self.window.pop_front(),
                _ => return Some(true),
            };
            *looks -= 1;
        }
        Some(!self.window.is_empty() || !self.exhausted)
    }

    /// Goes on until the first candidate is decided, and side by side with up to `ahead` others.
    fn decide(&mut self, judge: &mut Judge<'a>, rows: &impl Rows, ahead: usize) -> Front {
        loop {
            self.fill(judge, rows, ahead.clamp(*AHEAD.start(), *AHEAD.end()));
            match self.window.front().map(|candidate| &candidate.state) {
                Some(State::Ruled(_)) => return Front::Ruled,
                Some(State::Asked(_)) => {}
                None if self.exhausted => return Front::None,
                None => return Front::Waiting,
            }
            let mut moved = false;
            for candidate in &mut self.window {
                if let State::Asked(ask) = &mut candidate.state
                    && let Some(ruling) = judge.pursue(rows, ask)
                {
                    candidate.state = State::Ruled(ruling);
                    moved = true;
                }
                if judge.is_tired() || judge.is_spent() {
                    break;
                }
            }
            let is_ruled = |candidate: &Candidate<'_>| matches!(candidate.state, State::Ruled(_));
            if self.window.front().is_some_and(is_ruled) {
                return Front::Ruled;
            }
            if judge.is_tired() || judge.is_spent() {
                return Front::Tired;
            }
            if !moved {
                return Front::Waiting;
            }
        }
    }

    fn fill(&mut self, judge: &mut Judge<'a>, rows: &impl Rows, ahead: usize) {
        while self.window.len() < ahead && !self.exhausted {
            let (id, sure) = match self.join.next(judge, rows) {
                Next::Candidate(id, sure) => (id, sure),
                Next::Hungry => return,
                Next::End => {
                    self.exhausted = true;
                    return;
                }
            };
            let state = if sure {
                State::Ruled(Ok(Decision::Allow))
            } else {
                State::Asked(judge.ask(self.question.about(&id)))
            };
            self.window.push_back(Candidate { id, state });
            if judge.is_spent() {
                return;
            }
        }
    }
}

/// The page in the making.
#[derive(Debug)]
pub(super) struct Tray {
    pub(super) limit: usize,
    pub(super) items: Vec<Listed>,
    /// The last candidate that was decided.
    position: Option<ObjectId>,
    progressed: bool,
    /// How many candidates were denied since one was not: where so many are, more are decided side by side than are missing.
    denied: usize,
    /// How many candidates may still be looked at for the sake of knowing whether there is a next page.
    looks: usize,
}

impl Tray {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            items: Vec::new(),
            position: None,
            progressed: false,
            denied: 0,
            looks: MAX_LOOKS,
        }
    }

    /// Goes on until the page is full, or cut by the work limit; `None` where rows are missing or the step is over.
    pub(super) fn step<'a>(
        &mut self,
        candidates: &mut Candidates<'a>,
        judge: &mut Judge<'a>,
        rows: &impl Rows,
    ) -> Result<Option<ListPage>, EvaluationError> {
        loop {
            let missing = self.limit.saturating_sub(self.items.len());
            if missing == 0 {
                let more = candidates.has_more(judge, rows, &mut self.looks);
                return Ok(more.map(|more| self.page(more)));
            }
            if judge.is_spent() {
                if !self.progressed {
                    return Err(judge.spent());
                }
                return Ok(Some(self.page(true)));
            }
            match candidates.next(judge, rows, missing.max(self.denied))? {
                Turn::Decided(id, decision) => {
                    self.position = Some(id.clone());
                    self.progressed = true;
                    if decision == Decision::Deny {
                        self.denied += 1;
                    } else {
                        self.denied = 0;
                        self.items.push(Listed {
                            id,
                            decision,
                            excluded: Vec::new(),
                        });
                    }
                }
                Turn::End => return Ok(Some(self.page(false))),
                Turn::Tired if judge.is_spent() => {}
                Turn::Waiting | Turn::Tired => return Ok(None),
            }
        }
    }

    fn page(&mut self, more: bool) -> ListPage {
        self.progressed = false;
        self.looks = MAX_LOOKS;
        ListPage {
            items: std::mem::take(&mut self.items),
            next: self.position.clone().filter(|_| more).map(Position::After),
        }
    }
}
