//! What lists should hold, found the slow and obvious way: by asking about everybody and everything that is named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use inferadb_actors::{CheckRequest, Trial, TrialMisfit, TrialSchema, VaultError};
use inferadb_engine::context::Context;
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectId, ObjectRef, Relationship, SubjectRef};

use super::membership::{Membership, differences};
use super::report::Told;
use super::run::{Halted, Run};
use super::suite::{ExpectedSubject, listed};

/// The relationships of one test, under their schema.
pub(super) struct World<'a> {
    pub(super) trial: Trial,
    schema: &'a TrialSchema,
    relationships: Vec<&'a Relationship>,
    /// The same without wildcards: who has a permission there has it not only as one of everybody.
    explicit: OnceLock<Trial>,
    /// The same as sets of subjects.
    membership: OnceLock<Membership<'a>>,
    /// Every object that a relationship names, as a resource or as a subject, by its type.
    named: OnceLock<BTreeMap<&'a Name, BTreeSet<&'a ObjectId>>>,
}

/// A decision without its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Deny,
    Conditional,
    Allow,
}

/// What is asked of many subjects.
struct Question<'q> {
    resource: &'q ObjectRef,
    permission: &'q Name,
    context: &'q Arc<Context>,
}

impl<'a> World<'a> {
    /// Puts relationships under a schema.
    pub(super) fn new(
        schema: &'a TrialSchema,
        relationships: Vec<&'a Relationship>,
    ) -> Result<Self, TrialMisfit> {
        Ok(Self {
            trial: Trial::new(schema, relationships.iter().copied())?,
            schema,
            relationships,
            explicit: OnceLock::new(),
            membership: OnceLock::new(),
            named: OnceLock::new(),
        })
    }

    /// All subjects of whatever type that have a permission, as a validation block lists them, and in what they differ from those
    /// expected.
    pub(super) async fn subjects(
        &self,
        run: &Run<'_>,
        resource: &ObjectRef,
        permission: &Name,
        expected: &[ExpectedSubject],
    ) -> Result<(Told, Vec<String>), Halted> {
        let relationships = || self.relationships.iter().copied();
        let membership = self
            .membership
            .get_or_init(|| Membership::new(self.schema.compiled(), relationships(), run));
        let members = membership.of(run, resource, permission).await?;
        let found = membership.told(&members);
        run.look_at(expected.len() + found.len())?;
        let told = Told::list(found.iter().map(ExpectedSubject::line));
        Ok((told, differences(expected, &found)))
    }

    /// All subjects of some kinds that have a permission, as a list of users holds them: exceptions are not told.
    pub(super) async fn users(
        &self,
        run: &Run<'_>,
        (resource, permission, kinds): (&ObjectRef, &Name, &[(Name, Option<Name>)]),
        context: &Arc<Context>,
        expected: &[SubjectRef],
    ) -> Result<Told, Halted> {
        run.spend(1)?;
        run.look_at(expected.len())?;
        let expected: BTreeSet<&SubjectRef> = expected.iter().collect();
        let mut named: BTreeSet<SubjectRef> = expected.iter().copied().cloned().collect();
        for (object_type, relation) in kinds {
            let objects = self.named(object_type);
            run.look_at(1 + objects.map_or(0, BTreeSet::len))?;
            let everybody = relation.is_none().then(ObjectId::wildcard);
            let ids = objects.into_iter().flatten().copied().cloned();
            named.extend(ids.chain(everybody).map(|id| SubjectRef {
                object_type: object_type.clone(),
                id,
                relation: relation.clone(),
            }));
        }
        let question = Question {
            resource,
            permission,
            context,
        };
        let wanted = |subject: &SubjectRef| expected.contains(subject).then_some(false);
        let found = self.those_with(run, &question, &named, wanted).await?;
        Ok(Told::list(found.into_iter().map(|found| {
            ExpectedSubject {
                except: Vec::new(),
                ..found
            }
            .to_string()
        })))
    }

    /// All objects of a type that a subject has a permission on.
    pub(super) async fn objects(
        &self,
        run: &Run<'_>,
        (subject, permission, object_type): (&SubjectRef, &Name, &Name),
        context: &Arc<Context>,
        expected: &[ObjectRef],
    ) -> Result<Told, Halted> {
        let objects = self.named(object_type);
        run.spend(1)?;
        run.look_at(expected.len() + objects.map_or(0, BTreeSet::len))?;
        let mut named: BTreeSet<ObjectRef> = expected.iter().cloned().collect();
        named.extend(objects.into_iter().flatten().map(|id| ObjectRef {
            object_type: object_type.clone(),
            id: (*id).clone(),
        }));
        let mut found = Vec::new();
        for resource in named {
            let question = Question {
                resource: &resource,
                permission,
                context,
            };
            match ask(run, &self.trial, &question, subject).await? {
                Level::Deny => {}
                Level::Allow => found.push(resource.to_string()),
                Level::Conditional => found.push(format!("{resource}[...]")),
            }
        }
        Ok(Told::list(found.into_iter()))
    }

    /// Those of `named` that have a permission; `wanted` says whether one is expected, and whether conditionally.
    async fn those_with(
        &self,
        run: &Run<'_>,
        question: &Question<'_>,
        named: &BTreeSet<SubjectRef>,
        wanted: impl Fn(&SubjectRef) -> Option<bool>,
    ) -> Result<Vec<ExpectedSubject>, Halted> {
        let mut found: Vec<ExpectedSubject> = Vec::new();
        let (wildcards, others): (Vec<_>, Vec<_>) = named
            .iter()
            .partition(|subject| subject.id.is_wildcard() && subject.relation.is_none());
        let mut everybody: BTreeMap<&Name, (ExpectedSubject, Level)> = BTreeMap::new();
        for wildcard in wildcards {
            let level = ask(run, &self.trial, question, wildcard).await?;
            if level != Level::Deny {
                let all = listed(wildcard, level == Level::Conditional);
                everybody.insert(&wildcard.object_type, (all, level));
            }
        }
        for subject in others {
            let level = ask(run, &self.trial, question, subject).await?;
            let everybody = match subject.relation {
                None => everybody.get_mut(&subject.object_type),
                Some(_) => None,
            };
            let Some((all, of_all)) = everybody else {
                if level != Level::Deny {
                    found.push(listed(subject, level == Level::Conditional));
                }
                continue;
            };
            if level < *of_all {
                all.except.push((subject.clone(), level == Level::Conditional));
            }
            if level == Level::Deny {
                continue;
            }
            let own = ask(run, self.explicit()?, question, subject).await?;
            let is_conditional = level == Level::Conditional;
            match wanted(subject) {
                // Both what it has with everybody and what it has by itself are fair to say.
                Some(wanted) if wanted == is_conditional || wanted == (own == Level::Conditional) => {
                    found.push(listed(subject, wanted));
                }
                Some(_) => found.push(listed(subject, is_conditional)),
                None if own != Level::Deny || level > *of_all => found.push(listed(subject, is_conditional)),
                None => {}
            }
        }
        found.extend(everybody.into_values().map(|(mut all, _)| {
            all.except.sort();
            all
        }));
        Ok(found)
    }

    fn explicit(&self) -> Result<&Trial, Halted> {
        if let Some(trial) = self.explicit.get() {
            return Ok(trial);
        }
        let explicit = self.relationships.iter().copied();
        let explicit = explicit.filter(|stored| !stored.subject.id.is_wildcard());
        // All of them fitted when there were more of them.
        let trial = Trial::new(self.schema, explicit).map_err(|misfit| VaultError::Misfit {
            at: "relationships".to_owned(),
            misfit: misfit.misfit,
        })?;
        Ok(self.explicit.get_or_init(|| trial))
    }

    /// The objects of a type that the relationships name.
    fn named(&self, object_type: &Name) -> Option<&BTreeSet<&'a ObjectId>> {
        self.named.get_or_init(|| self.all_named()).get(object_type)
    }

    fn all_named(&self) -> BTreeMap<&'a Name, BTreeSet<&'a ObjectId>> {
        let mut named: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for stored in &self.relationships {
            let (resource, subject) = (&stored.resource, &stored.subject);
            named
                .entry(&resource.object_type)
                .or_default()
                .insert(&resource.id);
            if !subject.id.is_wildcard() {
                named.entry(&subject.object_type).or_default().insert(&subject.id);
            }
        }
        named
    }
}

async fn ask(
    run: &Run<'_>,
    trial: &Trial,
    question: &Question<'_>,
    subject: &SubjectRef,
) -> Result<Level, Halted> {
    let request = CheckRequest {
        subject: subject.clone(),
        resource: question.resource.clone(),
        permission: question.permission.clone(),
        context: Arc::clone(question.context),
        contextual: Arc::default(),
        trace: false,
    };
    Ok(match run.ask(trial, &request).await?.decision {
        Decision::Allow => Level::Allow,
        Decision::Deny => Level::Deny,
        Decision::Conditional { .. } => Level::Conditional,
    })
}
