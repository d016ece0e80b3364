//! Sets of subjects as validation blocks tell them: each with the places where it stands, and whether a caveat lies on the way.
//!
//! Caveats are not evaluated here, whatever context is stored: as in SpiceDB, a block says of whom it depends on one. What the
//! operations do with wildcards and their exceptions is SpiceDB's, too, so that one file says the same to both.

use std::collections::{BTreeMap, BTreeSet};

use inferadb_engine::noun::{Name, ObjectId, SubjectRef};
use inferadb_engine::schema::MemberId;

/// A relation or permission of an object.
pub(super) type Place = (MemberId, ObjectId);

/// What is known of a subject that is in a set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Whether a caveat lies on every way.
    pub(super) conditional: bool,
    /// Where the relationships stand that name it.
    pub(super) through: BTreeSet<Place>,
    /// Of a wildcard: for whom it does not hold.
    pub(super) except: BTreeMap<ObjectId, Found>,
}

/// A set of subjects. A wildcard stands beside those who are in it by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members(BTreeMap<SubjectRef, Found>);

impl Found {
    /// A subject that a relationship at `place` names.
    pub(super) fn at(place: &Place, conditional: bool) -> Self {
        Self {
            conditional,
            through: BTreeSet::from([place.clone()]),
            except: BTreeMap::new(),
        }
    }

    /// What two ways come to.
    fn with(&self, other: &Self, conditional: bool) -> Self {
        Self {
            conditional,
            through: self.through.union(&other.through).cloned().collect(),
            except: BTreeMap::new(),
        }
    }

    /// Takes back what a wildcard says of a subject that is there by itself, too.
    fn admit(&mut self, id: &ObjectId, own: &Self) {
        if !own.conditional {
            self.except.remove(id);
        } else if let Some(exception) = self.except.get_mut(id) {
            *exception = exception.with(own, true);
        }
    }

    /// Whether this wildcard lets a subject in that is `own` elsewhere, and how.
    fn narrow(&self, id: &ObjectId, own: &Self) -> Option<Self> {
        match self.except.get(id) {
            None if !self.conditional => Some(own.clone()),
            None => Some(own.with(self, true)),
            Some(exception) if exception.conditional => Some(own.with(self, true).with(exception, true)),
            Some(_) => None,
        }
    }

    fn size(&self) -> usize {
        let except = self.except.values();
        1 + self.through.len() + except.map(|found| 1 + found.through.len()).sum::<usize>()
    }
}

impl Members {
    /// The subjects in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SubjectRef, &Found)> {
        self.0.iter()
    }

    /// How many subjects are in it.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// How many of them are wildcards.
    pub(super) fn wildcards(&self) -> usize {
        self.0.keys().filter(|subject| subject.id.is_wildcard()).count()
    }

    /// How much it holds: subjects, places and exceptions.
    pub(super) fn size(&self) -> usize {
        self.0.values().map(Found::size).sum()
    }

    /// Adds a subject.
    pub(super) fn add(&mut self, subject: &SubjectRef, found: &Found) {
        if !subject.id.is_wildcard() {
            if let Some(all) = self.0.get_mut(&everybody(&subject.object_type))
                && subject.relation.is_none()
            {
                all.admit(&subject.id, found);
            }
            let own = match self.0.get(subject) {
                Some(own) => own.with(found, own.conditional && found.conditional),
                None => found.clone(),
            };
            self.0.insert(subject.clone(), own);
            return;
        }
        let mut all = match self.0.get(subject) {
            None => found.clone(),
            Some(all) => {
                let both = |(id, left): (&ObjectId, &Found)| {
                    let right = found.except.get(id)?;
                    Some((
                        id.clone(),
                        left.with(right, left.conditional || right.conditional),
                    ))
                };
                Found {
                    except: all.except.iter().filter_map(both).collect(),
                    ..all.with(found, all.conditional && found.conditional)
                }
            }
        };
        for (subject, own) in self.plain(&subject.object_type) {
            all.admit(&subject.id, own);
        }
        self.0.insert(subject.clone(), all);
    }

    /// Adds whoever is in another set.
    pub(super) fn unite(&mut self, other: &Self) {
        for (subject, found) in &other.0 {
            self.add(subject, found);
        }
    }

    /// Those who are in both sets.
    pub(super) fn intersect(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (subject, left) in &self.0 {
            let all = everybody(&subject.object_type);
            if subject.id.is_wildcard() {
                if let Some(right) = other.0.get(subject) {
                    both.0.insert(subject.clone(), meet(left, right));
                }
                for (named, right) in other.plain(&subject.object_type) {
                    if let Some(found) = left.narrow(&named.id, right) {
                        both.keep(named, found);
                    }
                }
                continue;
            }
            if let Some(right) = other.0.get(subject) {
                both.keep(subject, left.with(right, left.conditional || right.conditional));
            }
            if let Some(right) = other.0.get(&all).filter(|_| subject.relation.is_none())
                && let Some(found) = right.narrow(&subject.id, left)
            {
                both.keep(subject, found);
            }
        }
        both
    }

    /// Takes out whoever is in another set.
    pub(super) fn exclude(&mut self, other: &Self) {
        let (wildcards, named): (Vec<_>, Vec<_>) =
            other.0.iter().partition(|(subject, _)| subject.id.is_wildcard());
        for (subject, removed) in named {
            match self.0.get(subject) {
                Some(own) if removed.conditional => {
                    let own = own.with(removed, true);
                    self.0.insert(subject.clone(), own);
                }
                _ => {
                    self.0.remove(subject);
                }
            }
            if subject.relation.is_none()
                && let Some(all) = self.0.get_mut(&everybody(&subject.object_type))
            {
                let exception = match all.except.get(&subject.id) {
                    Some(there) => there.with(removed, there.conditional && removed.conditional),
                    None => removed.clone(),
                };
                all.except.insert(subject.id.clone(), exception);
            }
        }
        for (wildcard, removed) in wildcards {
            self.exclude_everybody(wildcard, removed);
        }
    }

    fn exclude_everybody(&mut self, wildcard: &SubjectRef, removed: &Found) {
        let named: Vec<SubjectRef> = self
            .plain(&wildcard.object_type)
            .map(|(named, _)| named.clone())
            .collect();
        for subject in named {
            match removed.except.get(&subject.id) {
                None if !removed.conditional => {
                    self.0.remove(&subject);
                }
                Some(exception) if !exception.conditional => {}
                _ => {
                    if let Some(own) = self.0.get_mut(&subject) {
                        own.conditional = true;
                    }
                }
            }
        }
        let Some(mut all) = self.0.remove(wildcard) else {
            return;
        };
        // Whom the one wildcard lets in and the other leaves out stays, and by name.
        for (id, exception) in &removed.except {
            let there = all.except.get(id);
            if there.is_none_or(|there| there.conditional) {
                let conditional =
                    all.conditional || removed.conditional || exception.conditional || there.is_some();
                let subject = SubjectRef {
                    id: id.clone(),
                    ..wildcard.clone()
                };
                let found = Found {
                    conditional,
                    ..exception.clone()
                };
                self.keep(&subject, found);
            }
        }
        if removed.conditional {
            let except = std::mem::take(&mut all.except);
            all = Found {
                except,
                ..all.with(removed, true)
            };
            self.0.insert(wildcard.clone(), all);
        }
    }

    /// Puts all of it behind a caveat.
    pub(super) fn condition(&mut self) {
        for found in self.0.values_mut() {
            found.conditional = true;
        }
    }

    /// Adds one without a look at the wildcard: another way to somebody.
    fn keep(&mut self, subject: &SubjectRef, found: Found) {
        let found = match self.0.get(subject) {
            Some(own) => own.with(&found, own.conditional && found.conditional),
            None => found,
        };
        self.0.insert(subject.clone(), found);
    }

    /// Those of a type who are there by themselves.
    fn plain<'m>(&'m self, object_type: &'m Name) -> impl Iterator<Item = (&'m SubjectRef, &'m Found)> {
        let is_plain = |subject: &SubjectRef| subject.relation.is_none() && !subject.id.is_wildcard();
        let of_type = move |subject: &SubjectRef| subject.object_type == *object_type;
        self.0
            .iter()
            .filter(move |(subject, _)| of_type(subject) && is_plain(subject))
    }
}

/// A wildcard that is in both of two sets: who is left out of either is left out.
fn meet(left: &Found, right: &Found) -> Found {
    let mut except = left.except.clone();
    for (id, exception) in &right.except {
        let merged = match except.get(id) {
            Some(there) => there.with(exception, there.conditional && exception.conditional),
            None => exception.clone(),
        };
        except.insert(id.clone(), merged);
    }
    Found {
        except,
        ..left.with(right, left.conditional || right.conditional)
    }
}

/// The wildcard of a type.
fn everybody(object_type: &Name) -> SubjectRef {
    SubjectRef {
        object_type: object_type.clone(),
        id: ObjectId::wildcard(),
        relation: None,
    }
}
