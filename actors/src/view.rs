//! The read view of a vault: one revision's schema and rows, published by the vault's actor and read without a lock.
//!
//! A view never changes once it is published. The maps in it are persistent: the next view shares all of this one
//! that did not change, so that publishing costs what changed and not what is held.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use inferadb_engine::list::{Breadth, Class, Plan};
use inferadb_engine::noun::{CaveatRef, Name, ObjectId, Relationship, Timestamp};
use inferadb_engine::row::{Entry, Found, Row, RowKey, Rows, Terms};
use inferadb_engine::schema::{Allowed, Format, MemberId, Schema, SlotId, SlotSubject};
use inferadb_storage::{Revision, Shape, SubjectClass, background};

use crate::rows::RowTable;
use crate::weight;

/// What the plans that are kept for one schema may weigh, in bytes.
const MAX_PLANS_BYTES: usize = 2 << 20;
/// The heaviest plan that is kept, in bytes: some thousands of permissions. One that weighs more is made for every list.
const MAX_PLAN_BYTES: usize = 512 << 10;
/// Schemas of more members can take a thread much longer to plan for than a turn lasts.
const MANY_MEMBERS: usize = 1_000;

/// The plans of lists that were asked for under one schema.
#[derive(Debug, Default)]
struct Plans(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    plans: HashMap<(MemberId, Class, Breadth), Arc<Plan>>,
    bytes: usize,
}

impl Plans {
    fn get(&self, key: (MemberId, Class, Breadth), make: impl FnOnce() -> Plan) -> Arc<Plan> {
        if let Some(plan) = self.held().plans.get(&key) {
            return Arc::clone(plan);
        }
        // Made without the lock: two who ask at the same time both make it, and one of them is kept.
        let plan = Arc::new(make());
        let bytes = Self::weight(&plan);
        if bytes <= MAX_PLAN_BYTES {
            let mut kept = self.held();
            if kept.bytes + bytes > MAX_PLANS_BYTES {
                *kept = Kept::default();
            }
            kept.bytes += bytes;
            if let Some(other) = kept.plans.insert(key, Arc::clone(&plan)) {
                kept.bytes = kept.bytes.saturating_sub(Self::weight(&other));
            }
        }
        plan
    }

    /// What keeping a plan takes, in bytes.
    fn weight(plan: &Plan) -> usize {
        plan.bytes() + 2 * size_of::<((MemberId, Class, Breadth), Arc<Plan>)>()
    }

    fn has(&self, key: (MemberId, Class, Breadth)) -> bool {
        self.held().plans.contains_key(&key)
    }

    /// What they weigh, in bytes, about.
    fn bytes(&self) -> usize {
        self.held().bytes
    }

    /// Drops all of them: they can be made again.
    fn clear(&self) {
        *self.held() = Kept::default();
    }

    fn held(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A compiled schema together with what the actors need to know of it.
#[derive(Debug)]
pub struct VaultSchema {
    /// What other vaults with the same text may share.
    parts: Arc<SchemaParts>,
    /// The revision it was written at; `None`: the vault has no schema yet.
    pub revision: Option<Revision>,
    /// Tells this reading of a schema from every other one of this process.
    pub generation: u64,
    plans: Plans,
}

/// What a schema's text alone makes of it.
#[derive(Debug)]
pub struct SchemaParts {
    /// The compiled form.
    pub compiled: Schema,
    /// The text it was compiled from.
    pub text: String,
    /// The language of the text.
    pub format: Format,
    /// For each member that is a relation: the members whose checks can read it.
    readers: Vec<Vec<MemberId>>,
    /// What all of this weighs, in bytes.
    bytes: usize,
}

impl Deref for VaultSchema {
    type Target = SchemaParts;

    fn deref(&self) -> &SchemaParts {
        &self.parts
    }
}

impl VaultSchema {
    /// Wraps a schema that was compiled from `text`, which is in the native language unless
    /// [`VaultSchema::in_format`] says otherwise.
    pub fn new(compiled: Schema, text: String, revision: Option<Revision>) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        let mut readers = vec![Vec::new(); compiled.members().len()];
        for (at, member) in compiled.members().iter().enumerate() {
            background::breathe();
            for read in &member.reads {
                if let (Some(list), Ok(reader)) = (readers.get_mut(read.index()), u32::try_from(at)) {
                    list.push(MemberId(reader));
                }
            }
        }
        let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
        let bytes = weight::schema_bytes(&compiled, &text, &readers);
        Self {
            parts: Arc::new(SchemaParts {
                compiled,
                text,
                format: Format::Native,
                readers,
                bytes,
            }),
            revision,
            generation,
            plans: Plans::default(),
        }
    }

    /// The same with the parts of an equal one.
    pub fn with_parts(mut self, parts: Arc<SchemaParts>) -> Self {
        self.parts = parts;
        self
    }

    /// Its parts, for whoever wants to share them for as long as somebody holds them.
    pub fn weak_parts(&self) -> Weak<SchemaParts> {
        Arc::downgrade(&self.parts)
    }

    /// What it weighs, in bytes, whoever shares it.
    pub fn bytes(&self) -> usize {
        self.parts.bytes + self.plans.bytes()
    }

    /// Its part of what it weighs: all who share it bear it together.
    pub fn shared_bytes(&self) -> usize {
        self.parts.bytes / Arc::strong_count(&self.parts).max(1) + self.plans.bytes()
    }

    /// The same, from a text in that language.
    pub fn in_format(mut self, format: Format) -> Self {
        // It was only just made: nobody shares it yet.
        if let Some(parts) = Arc::get_mut(&mut self.parts) {
            parts.format = format;
        }
        self
    }

    /// The plan of lists of `target` and `class`, worked out at the first use.
    pub fn plan(&self, target: MemberId, class: Class, breadth: Breadth) -> Arc<Plan> {
        self.plans.get((target, class, breadth), || {
            Plan::new(&self.compiled, target, class, breadth)
        })
    }

    /// Drops the plans that were worked out: each is worked out again at its next use.
    pub fn forget_plans(&self) {
        self.plans.clear();
    }

    /// Whether a plan has to be made first, for a schema that is large.
    pub fn is_heavy_to_plan(&self, target: MemberId, class: Class, breadth: Breadth) -> bool {
        self.compiled.members().len() > MANY_MEMBERS && !self.plans.has((target, class, breadth))
    }

    fn readers_of(&self, relation: MemberId) -> &[MemberId] {
        self.readers.get(relation.index()).map_or(&[], Vec::as_slice)
    }

    /// The row and entry that a stored relationship is, or `None` where it does not fit the schema (which only a
    /// forced schema change can bring about): such a relationship is ignored by every answer.
    pub fn row_entry(&self, relationship: &Relationship) -> Option<(RowKey, Entry)> {
        let slot = self.slot_of(relationship)?;
        let subject = relationship.subject.id.clone();
        let entry = self.entry_in(
            slot,
            subject,
            relationship.caveat.as_ref(),
            relationship.expires_at,
        )?;
        Some((
            RowKey {
                slot,
                object: relationship.resource.id.clone(),
            },
            entry,
        ))
    }

    /// The entry that a stored relationship of `slot` is, or `None` where the slot does not allow its terms.
    pub fn entry_in(
        &self,
        slot: SlotId,
        subject: ObjectId,
        caveat: Option<&CaveatRef>,
        expires_at: Option<Timestamp>,
    ) -> Option<Entry> {
        let caveat = match caveat {
            Some(caveat) => Some((self.compiled.caveat_named(&caveat.name)?, caveat.context.clone())),
            None => None,
        };
        let terms = Allowed {
            caveat: caveat.as_ref().map(|(caveat, _)| *caveat),
            expiration: expires_at.is_some(),
        };
        if !self.compiled.slots().get(slot.index())?.allowed.contains(&terms) {
            return None;
        }
        if let Some((id, context)) = &caveat {
            let held = self.compiled.caveats().get(id.index())?;
            held.program.accepts(context).ok()?;
        }
        let has_terms = caveat.is_some() || expires_at.is_some();
        Some(Entry {
            subject,
            terms: has_terms.then(|| Arc::new(Terms { caveat, expires_at })),
        })
    }

    /// Whether stored relationships of a shape fit the schema.
    pub fn fits_shape(&self, shape: &Shape) -> bool {
        let schema = &self.compiled;
        let fits = || {
            let relation = schema.member_named(schema.type_named(&shape.resource_type)?, &shape.relation)?;
            let subject_type = schema.type_named(&shape.subject_type)?;
            let subject = match &shape.subject_class {
                SubjectClass::Object => SlotSubject::Object,
                SubjectClass::Wildcard => SlotSubject::Wildcard,
                SubjectClass::Userset(name) => SlotSubject::Userset(schema.member_named(subject_type, name)?),
            };
            let slot = schema
                .slots()
                .get(schema.slot_for(relation, subject_type, subject)?.index())?;
            let caveat = match &shape.caveat {
                Some(name) => Some(schema.caveat_named(name)?),
                None => None,
            };
            Some(slot.allowed.contains(&Allowed {
                caveat,
                expiration: shape.expires,
            }))
        };
        fits().unwrap_or(false)
    }

    /// The slot that a relationship belongs to by its names alone, whatever its terms.
    pub fn slot_of(&self, relationship: &Relationship) -> Option<SlotId> {
        let schema = &self.compiled;
        let resource_type = schema.type_named(&relationship.resource.object_type)?;
        let relation = schema.member_named(resource_type, &relationship.relation)?;
        let subject_type = schema.type_named(&relationship.subject.object_type)?;
        let subject = match &relationship.subject.relation {
            Some(name) => SlotSubject::Userset(schema.member_named(subject_type, name)?),
            None if relationship.subject.id.is_wildcard() => SlotSubject::Wildcard,
            None => SlotSubject::Object,
        };
        schema.slot_for(relation, subject_type, subject)
    }

    /// The names that the relationships of a slot are stored under.
    pub fn slot_names(&self, slot: SlotId) -> Option<SlotNames<'_>> {
        let schema = &self.compiled;
        let slot = schema.slots().get(slot.index())?;
        let relation = schema.members().get(slot.relation.index())?;
        let subject_class = match slot.subject {
            SlotSubject::Userset(member) => {
                SubjectClass::Userset(schema.members().get(member.index())?.name.clone())
            }
            SlotSubject::Object => SubjectClass::Object,
            SlotSubject::Wildcard => SubjectClass::Wildcard,
        };
        Some(SlotNames {
            resource_type: &schema.types().get(relation.object_type.index())?.name,
            relation: &relation.name,
            subject_type: &schema.types().get(slot.subject_type.index())?.name,
            subject_class,
        })
    }
}

/// The names that the relationships of one slot are stored under.
#[derive(Debug, Clone)]
pub struct SlotNames<'a> {
    /// The type of the resource.
    pub resource_type: &'a Name,
    /// The relation.
    pub relation: &'a Name,
    /// The type of the subjects.
    pub subject_type: &'a Name,
    /// The class of the subjects.
    pub subject_class: SubjectClass,
}

/// The relations that the changes of one revision touch.
#[derive(Debug, Default)]
pub struct Touched {
    relations: HashSet<MemberId>,
    /// How many readers of them were gone through.
    readers: usize,
}

/// One state of a vault, as its reads see it.
#[derive(Debug, Clone)]
pub struct View {
    /// The revision everything here is of.
    pub revision: Revision,
    /// The schema in force.
    pub schema: Arc<VaultSchema>,
    /// How many relationships are stored.
    pub relationships: u64,
    rows: RowTable,
    /// Whether every row that is not in `rows` is empty.
    complete: bool,
    /// For each member: the latest revision that changed a relation it can read.
    changed_at: imbl::Vector<Revision>,
    tick: u32,
}

impl View {
    /// A view that holds no rows yet.
    pub fn new(revision: Revision, schema: Arc<VaultSchema>, relationships: u64) -> Self {
        let changed_at = std::iter::repeat_n(revision, schema.compiled.members().len()).collect();
        Self {
            revision,
            schema,
            relationships,
            rows: RowTable::default(),
            complete: relationships == 0,
            changed_at,
            tick: 0,
        }
    }

    /// Whether the vault is wholly resident.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// What the resident rows weigh, in bytes.
    pub fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// How many rows are resident.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// The latest revision that changed anything a check of `member` can read.
    pub fn changed_at(&self, member: MemberId) -> Revision {
        self.changed_at
            .get(member.index())
            .copied()
            .unwrap_or(self.revision)
    }

    /// Whether the row is known to be too wide to be held.
    pub fn is_wide(&self, key: &RowKey) -> bool {
        self.rows.get(key).is_some_and(|held| held.row().is_none())
    }

    /// Notes that something a relation's readers can see changed at `revision`.
    /// `touched` are the relations of which that was noted already, at the same revision: each can have very many readers.
    pub fn touch_relation(&mut self, slot: SlotId, revision: Revision, touched: &mut Touched) {
        let schema = Arc::clone(&self.schema);
        let Some(slot) = schema.compiled.slots().get(slot.index()) else {
            return;
        };
        if !touched.relations.insert(slot.relation) {
            return;
        }
        touched.readers += schema.readers_of(slot.relation).len();
        for reader in schema.readers_of(slot.relation) {
            if let Some(changed) = self.changed_at.get_mut(reader.index()) {
                *changed = revision;
            }
        }
    }

    /// Applies a stored relationship: adds it to its row or replaces it there, if the row is resident.
    pub fn put(&mut self, key: RowKey, entry: Entry) {
        if let Err(entry) = self.rows.put(&key, entry)
            && self.complete
        {
            self.admit(key, Some(Row::new(vec![entry])));
        }
    }

    /// Applies stored relationships of one row, as [`View::put`] does each.
    pub fn put_all(&mut self, key: RowKey, entries: Vec<Entry>) {
        if self.complete && self.rows.get(&key).is_none() {
            self.admit(key, Some(Row::new(entries)));
            return;
        }
        for entry in entries {
            self.put(key.clone(), entry);
        }
    }

    /// Applies a removed relationship.
    pub fn remove(&mut self, key: &RowKey, subject: &ObjectId) {
        self.rows.remove(key, subject, self.complete);
    }

    /// Takes in a row that was read at this view's revision; `None` marks it as too wide to be held.
    pub fn admit(&mut self, key: RowKey, row: Option<Row>) {
        if self.rows.admit(key, row, self.tick) {
            self.complete = false;
        }
    }

    /// Replaces all rows by those of a loaded vault, which hold everything there is at this view's revision: unless one displaced
    /// another while it was loaded, since when it took in no more.
    pub fn complete_with(&mut self, loaded: View) {
        self.rows = loaded.rows;
        // Two rows that cannot be told apart make it partial, however wholly it was read.
        self.complete = loaded.complete;
    }

    /// Makes a view under construction count as holding everything, so that what is put into it is kept.
    pub fn assume_complete(&mut self) {
        self.complete = true;
    }

    /// Drops the least recently used rows until at most `budget_bytes` are held. The view is partial afterwards.
    pub fn shrink_to(&mut self, budget_bytes: usize) {
        if self.rows.bytes() > budget_bytes {
            self.complete = false;
            self.rows.shrink_to(budget_bytes, self.tick);
        }
    }

    /// Advances the clock that rows' uses are told by.
    pub fn advance_tick(&mut self) {
        self.tick = self.tick.wrapping_add(1);
    }
}

impl Rows for View {
    fn row(&self, key: &RowKey) -> Found<'_> {
        match self.rows.get(key) {
            Some(held) => {
                held.touch(self.tick);
                match held.row() {
                    Some(row) if row.is_empty() => Found::Empty,
                    Some(row) => Found::Row(row),
                    None => Found::Unknown,
                }
            }
            None if self.complete => Found::Empty,
            None => Found::Unknown,
        }
    }
}

#[cfg(test)]
mod tests;
