//! What lists should hold, found the slow and obvious way: by asking about everybody and everything that is named.

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

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
    explicit: OnceCell<Trial>,
    /// The same as sets of subjects.
    membership: OnceCell<Membership<'a>>,
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
            explicit: OnceCell::new(),
            membership: OnceCell::new(),
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
        let mut named: BTreeSet<SubjectRef> = expected.iter().cloned().collect();
        for (object_type, relation) in kinds {
            let of_type = |object: &ObjectRef| object.object_type == *object_type;
            named.extend(self.named_objects().filter(of_type).map(|object| SubjectRef {
                relation: relation.clone(),
                ..plain(object)
            }));
            if relation.is_none() {
                named.insert(SubjectRef {
                    object_type: object_type.clone(),
                    id: ObjectId::wildcard(),
                    relation: None,
                });
            }
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
        let mut named: BTreeSet<ObjectRef> = expected.iter().cloned().collect();
        named.extend(
            self.named_objects()
                .filter(|object| object.object_type == *object_type),
        );
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
        let mut everybody: Vec<(ExpectedSubject, Level)> = Vec::new();
        for wildcard in wildcards {
            let level = ask(run, &self.trial, question, wildcard).await?;
            if level != Level::Deny {
                everybody.push((listed(wildcard, level == Level::Conditional), level));
            }
        }
        for subject in others {
            let level = ask(run, &self.trial, question, subject).await?;
            let is_one = |(all, _): &&mut (ExpectedSubject, Level)| {
                subject.relation.is_none() && all.subject.object_type == subject.object_type
            };
            let Some((all, of_all)) = everybody.iter_mut().find(is_one) else {
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
        found.extend(everybody.into_iter().map(|(mut all, _)| {
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

    /// Every object that a relationship names, as a resource or as a subject.
    fn named_objects(&self) -> impl Iterator<Item = ObjectRef> {
        let resources = self.relationships.iter().map(|stored| stored.resource.clone());
        let subjects = self.relationships.iter().map(|stored| &stored.subject);
        let subjects = subjects.filter(|subject| !subject.id.is_wildcard());
        resources.chain(subjects.map(|subject| ObjectRef {
            object_type: subject.object_type.clone(),
            id: subject.id.clone(),
        }))
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

fn plain(object: ObjectRef) -> SubjectRef {
    SubjectRef {
        object_type: object.object_type,
        id: object.id,
        relation: None,
    }
}
