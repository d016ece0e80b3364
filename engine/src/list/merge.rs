//! The candidates of a list in the order of their ids: a lazy merge of sorted rows, each read from after the list's position on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::ops::Bound;

use rustc_hash::{FxHashMap, FxHashSet};

use super::explore::MAX_READINGS;
use super::judge::{Judge, Weight, is_before};
use super::{ListDemand, Opposite, Part, Stretch};
use crate::noun::ObjectId;
use crate::row::{RowKey, Rows};
use crate::schema::SlotId;

/// The fewest and the most entries that are read of one source at once.
const CHUNKS: std::ops::RangeInclusive<usize> = 16..=1_000;

/// Which way a source's stretches are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The resources of a subject.
    Resources,
    /// The subjects of a resource.
    Subjects,
}

/// What the search before the merge found: rows still to be read, and ids that it has in hand. Each is sure or not.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) rows: FxHashMap<(SlotId, ObjectId), bool>,
    pub(super) ids: BTreeMap<ObjectId, bool>,
}

impl Found {
    pub(super) fn note_row(&mut self, slot: SlotId, of: &ObjectId, sure: bool) {
        *self.rows.entry((slot, of.clone())).or_default() |= sure;
    }

    pub(super) fn note_id(&mut self, id: &ObjectId, sure: bool) {
        *self.ids.entry(id.clone()).or_default() |= sure;
    }
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Merge {
    side: Side,
    sources: Vec<Source>,
    /// The next entry of every source that has one at hand.
    heads: BinaryHeap<Reverse<(ObjectId, usize)>>,
    /// The sources whose next entry is not at hand.
    hungry: Vec<usize>,
    asked: FxHashSet<Stretch>,
    fed: FxHashMap<Stretch, Part>,
}

#[derive(Debug)]
struct Source {
    /// The row that is read; `None`: all is at hand.
    row: Option<(SlotId, ObjectId)>,
    sure: bool,
    at_hand: VecDeque<Opposite>,
    ended: bool,
    start: Bound<ObjectId>,
    chunk: usize,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// An id, and whether the way it was found proves that it belongs in the list.
    Candidate(ObjectId, bool),
    /// Rows are missing, and were demanded.
    Hungry,
    /// Nothing.
    End,
}

impl Merge {
    /// A merge from `start` on, for pages of about `limit`.
    pub(super) fn new(side: Side, found: Found, start: &Bound<ObjectId>, limit: usize) -> Self {
        let count = found.rows.len().max(1);
        let enough = limit.saturating_add(1);
        // Of many sources each has but a share in a page.
        let chunk = if count <= 4 {
            enough
        } else {
            enough.saturating_mul(4) / count
        };
        let mut sources: Vec<Source> = found
            .rows
            .into_iter()
            .map(|(row, sure)| Source {
                row: Some(row),
                sure,
                at_hand: VecDeque::new(),
                ended: false,
                start: start.clone(),
                chunk: chunk.clamp(*CHUNKS.start(), *CHUNKS.end()),
            })
            .collect();
        for sure in [true, false] {
            let ids = found.ids.iter();
            let ids = ids.filter(|(id, held)| **held == sure && !is_before(id, start));
            sources.push(Source {
                row: None,
                sure,
                at_hand: ids
                    .map(|(id, _)| Opposite {
                        id: id.clone(),
                        terms: None,
                    })
                    .collect(),
                ended: true,
                start: Bound::Unbounded,
                chunk: 0,
            });
        }
        let mut merge = Self {
            side,
            hungry: Vec::new(),
            heads: BinaryHeap::with_capacity(sources.len()),
            sources,
            asked: FxHashSet::default(),
            fed: FxHashMap::default(),
        };
        (0..merge.sources.len()).for_each(|at| merge.line_up(at));
        merge
    }

    /// Hands over a stretch that was demanded.
    pub(super) fn supply(&mut self, demand: &ListDemand, part: &Part) {
        let (ListDemand::Resources(stretch) | ListDemand::Subjects(stretch)) = demand else {
            return;
        };
        if self.asked.remove(stretch) {
            self.fed.insert(stretch.clone(), part.clone());
        }
    }

    /// Leaves out what lies before `start`. What is left out is not read either, but for the rest of its chunk.
    pub(super) fn seek(&mut self, start: &Bound<ObjectId>) {
        while let Some(at) = self.pop_if(|id| is_before(id, start)) {
            if let Some(source) = self.sources.get_mut(at) {
                source.skip(start);
            }
            self.line_up(at);
        }
        for at in &self.hungry {
            if let Some(source) = self.sources.get_mut(*at) {
                source.skip(start);
            }
        }
    }

    /// The next candidate.
    pub(super) fn next(&mut self, judge: &mut Judge<'_>, rows: &impl Rows) -> Next {
        loop {
            if !self.feed(judge, rows) {
                return Next::Hungry;
            }
            let Some(Reverse((id, first))) = self.heads.pop() else {
                return Next::End;
            };
            let mut counts = None;
            let mut of_same = vec![first];
            while let Some(at) = self.pop_if(|held| *held == id) {
                of_same.push(at);
            }
            for at in of_same {
                let Some(source) = self.sources.get_mut(at) else {
                    continue;
                };
                if let Some(entry) = source.at_hand.pop_front() {
                    let weight = judge.weigh(entry.terms.as_deref());
                    let sure = source.sure && weight == Weight::Counts;
                    if weight != Weight::Void {
                        counts = Some(counts.unwrap_or(false) || sure);
                    }
                }
                self.line_up(at);
            }
            judge.charge(1);
            if let Some(sure) = counts {
                return Next::Candidate(id, sure);
            }
            if judge.is_spent() {
                // The caller looks after the limit; it must not wait for a live entry among millions of expired ones.
                return Next::Candidate(id, false);
            }
        }
    }

    /// Takes the source with the first id, if that is as it should be.
    fn pop_if(&mut self, fits: impl Fn(&ObjectId) -> bool) -> Option<usize> {
        let Reverse((id, at)) = self.heads.peek()?;
        let at = fits(id).then_some(*at)?;
        self.heads.pop();
        Some(at)
    }

    /// Puts a source where its next entry belongs.
    fn line_up(&mut self, at: usize) {
        let Some(source) = self.sources.get(at) else {
            return;
        };
        match source.at_hand.front() {
            Some(entry) => self.heads.push(Reverse((entry.id.clone(), at))),
            None if !source.ended => self.hungry.push(at),
            None => {}
        }
    }

    /// Gets the next entries of the sources that have none at hand; `false` where some are missing.
    fn feed(&mut self, judge: &mut Judge<'_>, rows: &impl Rows) -> bool {
        if self.hungry.is_empty() {
            return true;
        }
        let mut missing = Vec::new();
        let mut hungry = std::mem::take(&mut self.hungry).into_iter();
        // The others come to their turn when these are fed.
        while missing.len() < MAX_READINGS
            && let Some(at) = hungry.next()
        {
            let Some(source) = self.sources.get_mut(at) else {
                continue;
            };
            match source.read(self.side, &mut self.asked, &mut self.fed, judge, rows) {
                Some(part) => {
                    source.ended = part.is_last || part.entries.is_empty();
                    if let Some(last) = part.entries.last() {
                        source.start = Bound::Excluded(last.id.clone());
                    }
                    source.at_hand = part.entries.into();
                    source.chunk = source.chunk.saturating_mul(2).min(*CHUNKS.end());
                    self.line_up(at);
                }
                None => missing.push(at),
            }
        }
        self.hungry.extend(missing);
        self.hungry.extend(hungry);
        self.hungry.is_empty()
    }
}

impl Source {
    /// Drops what lies before `start`, and goes on there where nothing is left at hand.
    fn skip(&mut self, start: &Bound<ObjectId>) {
        while self
            .at_hand
            .front()
            .is_some_and(|entry| is_before(&entry.id, start))
        {
            self.at_hand.pop_front();
        }
        let (Bound::Included(id) | Bound::Excluded(id)) = start else {
            return;
        };
        let is_ahead = match &self.start {
            Bound::Unbounded => false,
            Bound::Included(held) | Bound::Excluded(held) => held >= id,
        };
        if self.at_hand.is_empty() && !is_ahead {
            self.start = start.clone();
            // Nearby ids are no likelier to be wanted than those that were left out.
            self.chunk = *CHUNKS.start();
        }
    }

    /// The next stretch, if it is at hand; otherwise it is demanded.
    fn read(
        &self,
        side: Side,
        asked: &mut FxHashSet<Stretch>,
        fed: &mut FxHashMap<Stretch, Part>,
        judge: &mut Judge<'_>,
        rows: &impl Rows,
    ) -> Option<Part> {
        let (slot, of) = self.row.clone()?;
        if side == Side::Subjects {
            let key = RowKey {
                slot,
                object: of.clone(),
            };
            if let Some((entries, is_last)) = judge.entries(rows, &key, &self.start, self.chunk) {
                let entries = entries.into_iter().map(|entry| Opposite {
                    id: entry.subject,
                    terms: entry.terms,
                });
                return Some(Part {
                    entries: entries.collect(),
                    is_last,
                });
            }
        }
        let stretch = Stretch {
            slot,
            of,
            start: self.start.clone(),
            limit: self.chunk,
        };
        if let Some(part) = fed.remove(&stretch) {
            judge.charge(1 + part.entries.len() as u64);
            return Some(part);
        }
        asked.insert(stretch.clone());
        judge.want(match side {
            Side::Resources => ListDemand::Resources(stretch),
            Side::Subjects => ListDemand::Subjects(stretch),
        });
        None
    }
}
