//! The candidates of an intersection: the ids that the merges of several operands have in common.
//!
//! Each merge is sent ahead to the furthest of the others, so that the sparsest one sets the pace and the others are read only
//! where it stands.

use std::ops::Bound;

use super::judge::Judge;
use super::merge::{Merge, Next};
use super::{ListDemand, Part};
use crate::noun::ObjectId;
use crate::row::Rows;

/// See the module's text. Of one merge it is that merge.
#[derive(Debug)]
pub(super) struct Join {
    merges: Vec<Merge>,
    /// The next id of each merge, and whether it is sure there.
    heads: Vec<Option<(ObjectId, bool)>>,
    /// Whether an id that all merges are sure of is sure.
    is_joint: bool,
}

impl Join {
    /// A join of at least one merge.
    pub(super) fn new(merges: Vec<Merge>, is_joint: bool) -> Self {
        Self {
            heads: merges.iter().map(|_| None).collect(),
            merges,
            is_joint,
        }
    }

    /// Hands over a stretch that was demanded. Several merges may have asked for it.
    pub(super) fn supply(&mut self, demand: &ListDemand, part: &Part) {
        for merge in &mut self.merges {
            merge.supply(demand, part);
        }
    }

    /// The next candidate.
    pub(super) fn next(&mut self, judge: &mut Judge<'_>, rows: &impl Rows) -> Next {
        loop {
            let mut is_hungry = false;
            for (merge, head) in self.merges.iter_mut().zip(&mut self.heads) {
                if head.is_none() {
                    match merge.next(judge, rows) {
                        Next::Candidate(id, sure) => *head = Some((id, sure)),
                        // The others are asked as well: what they all lack is read at once.
                        Next::Hungry => is_hungry = true,
                        Next::End => return Next::End,
                    }
                }
            }
            if is_hungry {
                return Next::Hungry;
            }
            let heads = self.heads.iter().flatten();
            let Some(furthest) = heads.clone().map(|(id, _)| id).max().cloned() else {
                return Next::End;
            };
            let is_common = heads.clone().all(|(id, _)| *id == furthest);
            if is_common || judge.is_spent() {
                // Where the work is spent, what was passed over is progress all the same: a check of this id will tell.
                let sure = is_common && self.is_joint && heads.clone().all(|(_, sure)| *sure);
                self.pass(&Bound::Excluded(furthest.clone()));
                return Next::Candidate(furthest, sure);
            }
            judge.charge(1);
            self.pass(&Bound::Included(furthest));
        }
    }

    /// Leaves out what lies before `start`.
    fn pass(&mut self, start: &Bound<ObjectId>) {
        for (merge, head) in self.merges.iter_mut().zip(&mut self.heads) {
            if head
                .as_ref()
                .is_some_and(|(id, _)| super::judge::is_before(id, start))
            {
                *head = None;
                if let Bound::Included(_) = start {
                    merge.seek(start);
                }
            }
        }
    }
}
