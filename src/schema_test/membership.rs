//! Who has a permission and where their relationships stand, for validation blocks: all relationships are at hand, so sets are built
//! from below, each once, and cycles to their least fixpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use inferadb_actors::VaultError;
use inferadb_engine::evaluate::EvaluationError;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::{ArrowMode, Expr, MemberId, Schema, TypeId};

use super::members::{Found, Members, Place};
use super::run::{Halted, Run};
use super::suite::{ExpectedSubject, listed};

/// The relationships by where they stand, each subject with whether it is under a caveat.
#[derive(Debug)]
pub(super) struct Membership<'s> {
    schema: &'s Schema,
    rows: BTreeMap<Place, BTreeMap<SubjectRef, bool>>,
}

/// What has been found so far.
#[derive(Debug, Default)]
struct Progress {
    /// What each place is decided by, and what is excluded by.
    needs: BTreeMap<Place, Needs>,
    /// Which places wait for one.
    users: BTreeMap<Place, Vec<Place>>,
    known: BTreeMap<Place, Arc<Members>>,
    /// How many more each place waits for.
    waiting: BTreeMap<Place, usize>,
    ready: Vec<Place>,
}

/// The places that a place is decided by.
#[derive(Debug, Default)]
struct Needs {
    all: BTreeSet<Place>,
    /// Those of them behind an exclusion.
    excluding: BTreeSet<Place>,
    /// How many relationships were looked at to find them.
    looks: usize,
}

impl<'s> Membership<'s> {
    /// Puts relationships in their places. Of two with the same resource, relation and subject the later one counts, and one that
    /// has expired does not.
    pub(super) fn new<'r>(
        schema: &'s Schema,
        relationships: impl IntoIterator<Item = &'r Relationship>,
        run: &Run<'_>,
    ) -> Self {
        let mut rows: BTreeMap<Place, BTreeMap<SubjectRef, bool>> = BTreeMap::new();
        for relationship in relationships {
            let object_type = schema.type_named(&relationship.resource.object_type);
            let member = object_type.and_then(|of| schema.member_named(of, &relationship.relation));
            let Some(member) = member else { continue };
            let row = rows
                .entry((member, relationship.resource.id.clone()))
                .or_default();
            if run.has_expired(relationship.expires_at) {
                row.remove(&relationship.subject);
            } else {
                row.insert(relationship.subject.clone(), relationship.caveat.is_some());
            }
        }
        Self { schema, rows }
    }

    /// Everybody who has a permission.
    pub(super) async fn of(
        &self,
        run: &Run<'_>,
        resource: &ObjectRef,
        permission: &Name,
    ) -> Result<Arc<Members>, Halted> {
        let root = (self.member(resource, permission)?, resource.id.clone());
        let mut progress = Progress::default();
        self.discover(run, &root, &mut progress).await?;
        loop {
            while let Some(place) = progress.ready.pop() {
                run.turn().await;
                let members = self.decided(run, &place, &progress)?;
                progress.know(&place, Arc::new(members));
            }
            if let Some(members) = progress.known.get(&root) {
                return Ok(Arc::clone(members));
            }
            let cycle = progress.cycle(run)?;
            self.settle(run, &cycle, &mut progress).await?;
        }
    }

    fn member(&self, resource: &ObjectRef, permission: &Name) -> Result<MemberId, Halted> {
        let invalid = |code, field: &str, message| {
            let field = field.to_owned();
            Halted::Failed(VaultError::Invalid { code, field, message })
        };
        let named = &resource.object_type;
        let object_type = self.schema.type_named(named).ok_or_else(|| {
            invalid(
                "unknown_type",
                "resource",
                format!("the schema has no type `{named}`"),
            )
        })?;
        self.schema.member_named(object_type, permission).ok_or_else(|| {
            let message = format!("the type `{named}` has no relation or permission `{permission}`");
            invalid("unknown_permission", "permission", message)
        })
    }

    /// Finds all places that decide `root`.
    async fn discover(&self, run: &Run<'_>, root: &Place, progress: &mut Progress) -> Result<(), Halted> {
        let mut found = vec![root.clone()];
        while let Some(place) = found.pop() {
            if progress.needs.contains_key(&place) {
                continue;
            }
            run.turn().await;
            let mut needs = Needs::default();
            if let Some(member) = self.schema.members().get(place.0.index()) {
                self.needs(&place, &member.expr, false, &mut needs);
            }
            run.look_at(needs.looks)?;
            run.spend(1 + needs.all.len())?;
            for needed in &needs.all {
                found.push(needed.clone());
                progress
                    .users
                    .entry(needed.clone())
                    .or_default()
                    .push(place.clone());
            }
            match needs.all.len() {
                0 => progress.ready.push(place.clone()),
                count => drop(progress.waiting.insert(place.clone(), count)),
            }
            progress.needs.insert(place, needs);
        }
        Ok(())
    }

    /// Adds what an expression is decided by. A schema's expressions are not deep.
    fn needs(&self, place: &Place, expr: &Expr, excluding: bool, needs: &mut Needs) {
        let mut looks = 0;
        let mut need = |needed: Place| {
            if excluding {
                needs.excluding.insert(needed.clone());
            }
            needs.all.insert(needed);
        };
        match expr {
            Expr::Nil | Expr::Itself => {}
            Expr::Member(member) => need((*member, place.1.clone())),
            Expr::This => {
                for (subject, _) in self.row(place) {
                    looks += 1;
                    self.userset(subject).into_iter().for_each(&mut need);
                }
            }
            Expr::Arrow {
                relation, targets, ..
            } => {
                for (subject, _) in self.row(&(*relation, place.1.clone())) {
                    looks += 1;
                    self.target(subject, targets).into_iter().for_each(&mut need);
                }
            }
            Expr::Union(parts) | Expr::Intersection(parts) => {
                for part in parts {
                    self.needs(place, part, excluding, needs);
                }
            }
            Expr::Exclusion(base, excluded) => {
                self.needs(place, base, excluding, needs);
                self.needs(place, excluded, true, needs);
            }
        }
        needs.looks += looks;
    }

    /// Who is in a place, given who is in those that it is decided by.
    fn decided(&self, run: &Run<'_>, place: &Place, progress: &Progress) -> Result<Members, Halted> {
        let members = match self.schema.members().get(place.0.index()) {
            Some(member) => self.members(run, place, &member.expr, progress)?,
            None => Members::default(),
        };
        run.spend(1 + members.size())?;
        Ok(members)
    }

    fn members(
        &self,
        run: &Run<'_>,
        place: &Place,
        expr: &Expr,
        progress: &Progress,
    ) -> Result<Members, Halted> {
        let mut members = Members::default();
        // A wildcard that is added is compared with everybody who is there.
        let unite = |members: &mut Members, part: &Members| -> Result<(), Halted> {
            run.look_at(part.wildcards().saturating_mul(members.len()))?;
            members.unite(part);
            Ok(())
        };
        let behind = |needed: &Place, is_conditional: bool| -> Result<Members, Halted> {
            let mut behind = progress
                .known
                .get(needed)
                .map(|known| (**known).clone())
                .unwrap_or_default();
            run.spend(behind.size())?;
            if is_conditional {
                behind.condition();
            }
            Ok(behind)
        };
        match expr {
            Expr::Nil => {}
            Expr::Itself => {
                if let Some(object_type) = self.type_of(place.0) {
                    let itself = SubjectRef {
                        object_type: object_type.clone(),
                        id: place.1.clone(),
                        relation: None,
                    };
                    members.add(&itself, &Found::at(place, false));
                }
            }
            Expr::Member(member) => members = behind(&(*member, place.1.clone()), false)?,
            Expr::This => {
                for (subject, is_conditional) in self.row(place) {
                    run.look_at(1)?;
                    if subject.id.is_wildcard() {
                        run.look_at(members.len())?;
                    }
                    members.add(subject, &Found::at(place, is_conditional));
                    if let Some(userset) = self.userset(subject) {
                        unite(&mut members, &behind(&userset, is_conditional)?)?;
                    }
                }
            }
            Expr::Arrow {
                relation,
                mode,
                targets,
            } => {
                for (index, (subject, is_conditional)) in self.row(&(*relation, place.1.clone())).enumerate()
                {
                    run.look_at(1)?;
                    let part = match self.target(subject, targets) {
                        Some(target) => behind(&target, is_conditional)?,
                        None => Members::default(),
                    };
                    match mode {
                        ArrowMode::All if index > 0 => {
                            run.spend(members.len())?;
                            members = members.intersect(&part);
                        }
                        ArrowMode::Any | ArrowMode::All => unite(&mut members, &part)?,
                    }
                }
            }
            Expr::Union(parts) => {
                for part in parts {
                    unite(&mut members, &self.members(run, place, part, progress)?)?;
                }
            }
            Expr::Intersection(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    let part = self.members(run, place, part, progress)?;
                    run.spend(members.len())?;
                    members = if index == 0 {
                        part
                    } else {
                        members.intersect(&part)
                    };
                }
            }
            Expr::Exclusion(base, excluded) => {
                members = self.members(run, place, base, progress)?;
                let excluded = self.members(run, place, excluded, progress)?;
                run.look_at((1 + excluded.wildcards()).saturating_mul(members.len()))?;
                members.exclude(&excluded);
            }
        }
        Ok(members)
    }

    /// Finds who is in places that are decided by each other.
    async fn settle(
        &self,
        run: &Run<'_>,
        cycle: &BTreeSet<Place>,
        progress: &mut Progress,
    ) -> Result<(), Halted> {
        for place in cycle {
            let needs = progress.needs.get(place);
            if needs.is_some_and(|needs| !needs.excluding.is_disjoint(cycle)) {
                return Err(Halted::Failed(VaultError::Evaluation(
                    EvaluationError::RecursiveExclusion {
                        member: self.text_of(place.0),
                        object: place.1.to_string(),
                    },
                )));
            }
        }
        loop {
            let mut has_grown = false;
            for place in cycle {
                run.turn().await;
                let members = self.decided(run, place, progress)?;
                if progress.known.get(place).is_none_or(|known| **known != members) {
                    progress.known.insert(place.clone(), Arc::new(members));
                    has_grown = true;
                }
            }
            if !has_grown {
                break;
            }
        }
        for place in cycle {
            if let Some(members) = progress.known.get(place).cloned() {
                progress.know(place, members);
            }
        }
        // What is ready now may be within the cycle itself.
        progress.ready.retain(|place| !cycle.contains(place));
        Ok(())
    }

    /// The subjects in a place, and whether each is under a caveat.
    fn row(&self, place: &Place) -> impl Iterator<Item = (&SubjectRef, bool)> {
        let row = self.rows.get(place).into_iter().flatten();
        row.map(|(subject, is_conditional)| (subject, *is_conditional))
    }

    /// The place that a userset names.
    fn userset(&self, subject: &SubjectRef) -> Option<Place> {
        let object_type = self.schema.type_named(&subject.object_type)?;
        let member = self
            .schema
            .member_named(object_type, subject.relation.as_ref()?)?;
        Some((member, subject.id.clone()))
    }

    /// The place that an arrow leads to by way of a subject.
    fn target(&self, subject: &SubjectRef, targets: &[(TypeId, MemberId)]) -> Option<Place> {
        let object_type = self.schema.type_named(&subject.object_type)?;
        let (_, target) = targets.iter().find(|(of, _)| *of == object_type)?;
        Some((*target, subject.id.clone()))
    }

    fn type_of(&self, member: MemberId) -> Option<&Name> {
        let member = self.schema.members().get(member.index())?;
        let object_type = self.schema.types().get(member.object_type.index())?;
        Some(&object_type.name)
    }

    /// `type#member`
    fn text_of(&self, member: MemberId) -> String {
        let named = self.schema.members().get(member.index());
        let (of, name) = (self.type_of(member), named.map(|member| &member.name));
        format!(
            "{}#{}",
            of.map_or("", Name::as_str),
            name.map_or("", Name::as_str)
        )
    }

    /// `type:id#member`
    fn place_text(&self, place: &Place) -> String {
        let text = self.text_of(place.0);
        let (of, member) = text.split_once('#').unwrap_or((&text, ""));
        format!("{of}:{}#{member}", place.1)
    }

    /// Members in the form in which a file expects them.
    pub(super) fn told(&self, members: &Members) -> Vec<ExpectedSubject> {
        let told = |(subject, found): (&SubjectRef, &Found)| {
            let except = found.except.iter().map(|(id, exception)| {
                let left_out = SubjectRef {
                    id: id.clone(),
                    ..subject.clone()
                };
                (left_out, exception.conditional)
            });
            ExpectedSubject {
                except: except.collect(),
                through: found.through.iter().map(|place| self.place_text(place)).collect(),
                ..listed(subject, found.conditional)
            }
        };
        members.iter().map(told).collect()
    }
}

impl Progress {
    /// Keeps who is in a place, and finds what has waited for that alone.
    fn know(&mut self, place: &Place, members: Arc<Members>) {
        self.known.insert(place.clone(), members);
        self.waiting.remove(place);
        for user in self.users.get(place).into_iter().flatten() {
            if let Some(count) = self.waiting.get_mut(user) {
                *count -= 1;
                if *count == 0 {
                    self.waiting.remove(user);
                    self.ready.push(user.clone());
                }
            }
        }
    }

    /// Places that are decided by each other and by nothing else that is not known. Nothing is ready: there is a cycle.
    fn cycle(&self, run: &Run<'_>) -> Result<BTreeSet<Place>, Halted> {
        let mut reached = match self.waiting.keys().next() {
            Some(place) => self.reach(place, run)?,
            None => BTreeSet::new(),
        };
        let mut left: Vec<Place> = reached.iter().cloned().collect();
        while let Some(place) = left.pop() {
            let below = self.reach(&place, run)?;
            if below.len() < reached.len() {
                left = below.iter().cloned().collect();
                reached = below;
            }
        }
        Ok(reached)
    }

    /// The places that decide one and are not known, itself if it is in a cycle.
    fn reach(&self, place: &Place, run: &Run<'_>) -> Result<BTreeSet<Place>, Halted> {
        let mut reached = BTreeSet::new();
        let mut left = vec![place];
        while let Some(place) = left.pop() {
            for needed in self.needs.get(place).into_iter().flat_map(|needs| &needs.all) {
                run.spend(1)?;
                if !self.known.contains_key(needed) && reached.insert(needed.clone()) {
                    left.push(needed);
                }
            }
        }
        Ok(reached)
    }
}

/// What two lists of subjects differ in, a sentence each. Nobody is found twice.
pub(super) fn differences(expected: &[ExpectedSubject], found: &[ExpectedSubject]) -> Vec<String> {
    let there: BTreeMap<&SubjectRef, &ExpectedSubject> =
        found.iter().map(|found| (&found.subject, found)).collect();
    let named: BTreeSet<&SubjectRef> = expected.iter().map(|wanted| &wanted.subject).collect();
    let mut sentences = Vec::new();
    for wanted in expected {
        let subject = &wanted.subject;
        let Some(there) = there.get(subject) else {
            sentences.push(format!("`{subject}` is expected and not found"));
            continue;
        };
        if there.through != wanted.through {
            let (expected, found) = (wanted.path(), there.path());
            sentences.push(match expected.as_str() {
                "" => format!("`{subject}` is found through {found}, and no way is expected"),
                _ => format!("`{subject}` is found through {found}, expected through {expected}"),
            });
        }
        match (wanted.conditional, there.conditional) {
            (true, false) => {
                sentences.push(format!(
                    "`{subject}` does not depend on a caveat, expected `[...]`"
                ));
            }
            (false, true) => sentences.push(format!(
                "`{subject}` depends on a caveat, `[...]` is not expected"
            )),
            _ => {}
        }
        if there.exceptions() != wanted.exceptions() {
            let (found, expected) = (there.exceptions(), wanted.exceptions());
            sentences.push(format!(
                "`{subject}` leaves out {{{found}}}, expected {{{expected}}}"
            ));
        }
    }
    let unexpected = found.iter().filter(|found| !named.contains(&found.subject));
    sentences.extend(unexpected.map(|found| format!("`{}` is found and not expected", found.line())));
    sentences
}
