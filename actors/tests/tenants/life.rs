//! The steps of a random life, each of which is compared with the model at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use inferadb_actors::{
    AccountId, CheckRequest, Consistency, DeleteRequest, ImportMode, ListRequest, Paging, Pass, Reach,
    RelationshipFilter, ResourcesRequest, SchemaWrite, Settings, Vault, VaultChange, VaultError, VaultId,
    WriteRequest, now,
};
use inferadb_engine::evaluate::Decision;
use inferadb_engine::noun::{Name, ObjectRef, Relationship, SubjectRef};
use inferadb_engine::schema::Format;

use crate::model::{OTHER_SCHEMA, SCHEMA, Tenant};
use crate::support::{Fault, Stage, relationship};
use crate::world::Dice;

/// How many vaults there are at a time.
const VAULTS: usize = 200;
/// Relationships of a large import: more than go into one transaction.
const LARGE: usize = 2_500;

/// Long enough for whatever should happen at all on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Many vaults, and what they should be.
pub struct Life {
    stage: Stage,
    dice: Dice,
    accounts: Vec<AccountId>,
    living: Vec<Tenant>,
    dead: Vec<(VaultId, AccountId)>,
    made: usize,
    tally: BTreeMap<&'static str, usize>,
    step: usize,
}

/// Few vaults fit into memory at once: the others come and go.
fn settings() -> Settings {
    Settings {
        max_active: 40,
        total_memory_bytes: 4 << 20,
        memory_budget_bytes: 1 << 20,
        idle_timeout: Some(Duration::from_secs(1)),
        ..Settings::default()
    }
}

fn text_of(relationship: &Relationship) -> String {
    relationship.key().to_string()
}

fn written(schema: &str) -> SchemaWrite {
    SchemaWrite {
        text: schema.into(),
        format: Format::Native,
        force: false,
    }
}

fn question(user: &str, document: &str) -> CheckRequest {
    CheckRequest {
        subject: SubjectRef::parse(user).unwrap(),
        resource: ObjectRef::parse(document).unwrap(),
        permission: Name::parse("view").unwrap(),
        context: Arc::default(),
        contextual: Arc::default(),
        trace: false,
    }
}

fn decided(allowed: bool) -> Decision {
    if allowed { Decision::Allow } else { Decision::Deny }
}

impl Life {
    pub async fn begin(seed: u64) -> Self {
        let stage = Stage::new(settings()).await;
        let mut accounts = vec![stage.account];
        for name in ["second", "third"] {
            accounts.push(stage.platform.create_account(name).await.unwrap().id);
        }
        Self {
            stage,
            dice: Dice(seed),
            accounts,
            living: Vec::new(),
            dead: Vec::new(),
            made: 0,
            tally: BTreeMap::new(),
            step: 0,
        }
    }

    pub async fn step(&mut self, step: usize) {
        self.step = step;
        if self.living.len() < 3 {
            return self.create().await;
        }
        match self.dice.below(1_000) {
            0..30 => self.create().await,
            30..300 => self.check().await,
            300..360 => self.checks_at_once().await,
            360..420 => self.list().await,
            420..470 => self.read().await,
            470..650 => self.write().await,
            650..670 => self.delete_matching().await,
            670..690 => self.archive().await,
            690..720 => self.unarchive().await,
            720..770 => self.evict().await,
            770..790 => self.kill().await,
            790..800 => self.delete().await,
            800..850 => self.import().await,
            850..890 => self.export().await,
            890..905 => self.clone().await,
            905..945 => self.stats().await,
            945..975 => self.strangers().await,
            975..985 => self.change_schema().await,
            985..997 => self.refused().await,
            _ => self.metrics().await,
        }
        if step % 997 == 996 {
            self.restart().await;
        }
    }

    /// Every vault once more, wholly, and what happened how often.
    pub async fn end(mut self) {
        self.restart().await;
        for at in 0..self.living.len() {
            if !self.living[at].archived {
                self.read_of(at).await;
            }
        }
        self.metrics().await;
        eprintln!("{} vaults: {:?}", self.made, self.tally);
        for what in [
            "kill",
            "import",
            "export",
            "clone",
            "delete",
            "restart",
            "evict",
            "strangers",
        ] {
            assert!(
                self.step < 5_000 || self.tally.contains_key(what),
                "{what} never happened"
            );
        }
        self.stage.platform.stop(Duration::from_secs(20)).await;
    }

    fn did(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// One of the living that is not archived.
    fn pick(&mut self) -> Option<usize> {
        let at = self.dice.below(self.living.len());
        (!self.living[at].archived).then_some(at)
    }

    async fn enter(&self, at: usize) -> (Arc<Vault>, Pass) {
        let tenant = &self.living[at];
        match self.stage.platform.enter(tenant.id, tenant.account).await {
            Ok(entered) => entered,
            Err(error) => panic!("step {}: {error:?}", self.step),
        }
    }

    async fn furnish(&mut self, id: VaultId, account: AccountId) {
        let (vault, _pass) = self.stage.platform.enter(id, account).await.unwrap();
        vault.put_schema(written(SCHEMA)).await.unwrap();
    }

    fn adopt(&mut self, id: VaultId, account: AccountId) -> usize {
        self.made += 1;
        let mark = format!("secret{}x", self.made);
        self.living.push(Tenant::new(id, account, mark));
        self.living.len() - 1
    }

    async fn create(&mut self) {
        if self.living.len() >= VAULTS {
            return;
        }
        let account = self.accounts[self.dice.below(self.accounts.len())];
        let id = self
            .stage
            .platform
            .create_vault(account, "tenant")
            .await
            .unwrap()
            .id;
        self.furnish(id, account).await;
        let at = self.adopt(id, account);
        let (vault, _pass) = self.enter(at).await;
        self.write_to(at, &vault, 6).await;
        self.did("create");
    }

    async fn check(&mut self) {
        let Some(at) = self.pick() else { return };
        let (vault, _pass) = self.enter(at).await;
        let tenant = &self.living[at];
        let (user, document) = (tenant.user(&mut self.dice), tenant.document(&mut self.dice));
        let consistency = match self.dice.below(4) {
            0 => Consistency::FullyConsistent,
            _ => Consistency::MinimizeLatency,
        };
        let answer = vault
            .check(&question(&user, &document), consistency, now())
            .await
            .unwrap();
        let expected = decided(tenant.may_view(&user, &document));
        assert_eq!(answer.decision, expected, "step {}: {document} {user}", self.step);
        self.did("check");
    }

    /// Checks of several vaults under way together.
    async fn checks_at_once(&mut self) {
        let mut asked = Vec::new();
        for _ in 0..8 {
            if let Some(at) = self.pick() {
                let tenant = &self.living[at];
                let (user, document) = (tenant.user(&mut self.dice), tenant.document(&mut self.dice));
                let expected = decided(tenant.may_view(&user, &document));
                asked.push((at, question(&user, &document), expected));
            }
        }
        let life = &*self;
        let ask = async |(at, question, expected): &(usize, CheckRequest, Decision)| {
            let (vault, _pass) = life.enter(*at).await;
            let answer = vault
                .check(question, Consistency::default(), now())
                .await
                .unwrap();
            assert_eq!(answer.decision, *expected, "step {}: {question:?}", life.step);
        };
        join_all(asked.iter().map(ask)).await;
        self.did("checks at once");
    }

    async fn list(&mut self) {
        let Some(at) = self.pick() else { return };
        let (vault, _pass) = self.enter(at).await;
        let tenant = &self.living[at];
        let user = tenant.user(&mut self.dice);
        let request = ListRequest::Resources(ResourcesRequest {
            subject: SubjectRef::parse(&user).unwrap(),
            permission: Name::parse("view").unwrap(),
            resource_type: Name::parse("document").unwrap(),
            context: Arc::default(),
            contextual: Arc::default(),
        });
        let paging = Paging {
            limit: 1_000,
            cursor: None,
            consistency: Consistency::MinimizeLatency,
            now: now(),
        };
        let page = vault.list(&request, &paging).await.unwrap();
        let listed: BTreeSet<String> = page.items.iter().map(|item| item.id.to_string()).collect();
        let documents = tenant.documents().into_iter();
        let expected: BTreeSet<String> = documents
            .filter(|document| tenant.may_view(&user, document))
            .map(|document| document.trim_start_matches("document:").to_owned())
            .collect();
        assert_eq!(listed, expected, "step {}: {user}", self.step);
        self.did("list");
    }

    async fn read(&mut self) {
        if let Some(at) = self.pick() {
            self.read_of(at).await;
            self.did("read");
        }
    }

    async fn read_of(&self, at: usize) {
        let (vault, _pass) = self.enter(at).await;
        let mut stream = vault
            .read_all(
                RelationshipFilter::default(),
                None,
                Consistency::MinimizeLatency,
                now(),
            )
            .await
            .unwrap();
        let mut found = BTreeSet::new();
        while let Some(page) = stream.next(500).await.unwrap() {
            found.extend(page.iter().map(text_of));
        }
        assert_eq!(found, self.living[at].held, "step {}", self.step);
    }

    async fn write(&mut self) {
        let Some(at) = self.pick() else { return };
        let (vault, _pass) = self.enter(at).await;
        let most = 1 + self.dice.below(3);
        self.write_to(at, &vault, most).await;
        self.did("write");
    }

    async fn write_to(&mut self, at: usize, vault: &Vault, most: usize) {
        let mut request = WriteRequest::default();
        let mut changed = BTreeSet::new();
        for _ in 0..most {
            let text = self.living[at].relationship(&mut self.dice);
            if !changed.insert(text.clone()) {
                continue;
            }
            let held = &mut self.living[at].held;
            if self.dice.chance(35) {
                request.delete.push(relationship(&text).key());
                held.remove(&text);
            } else {
                request.touch.push(relationship(&text));
                held.insert(text);
            }
        }
        vault.write(request).await.unwrap();
    }

    async fn delete_matching(&mut self) {
        let Some(at) = self.pick() else { return };
        let (vault, _pass) = self.enter(at).await;
        let tenant = &mut self.living[at];
        let document = tenant.document(&mut self.dice);
        let resource = ObjectRef::parse(&document).unwrap();
        let request = DeleteRequest {
            filter: RelationshipFilter {
                resource_type: Some(resource.object_type),
                resource_id: Some(resource.id),
                ..RelationshipFilter::default()
            },
            limit: None,
            preconditions: Vec::new(),
        };
        let before = tenant.held.len();
        tenant
            .held
            .retain(|text| !text.starts_with(&format!("{document}#")));
        let gone = before - tenant.held.len();
        assert_eq!(
            vault.delete(request).await.unwrap().deleted,
            gone,
            "step {}",
            self.step
        );
        self.did("delete matching");
    }

    async fn set_archived(&mut self, at: usize, archived: bool) {
        let change = VaultChange {
            archived: Some(archived),
            ..VaultChange::default()
        };
        let id = self.living[at].id;
        let updated = self
            .stage
            .platform
            .update_vault(id, Reach::Everything, change)
            .await;
        assert_eq!(updated.unwrap().archived, archived);
        self.living[at].archived = archived;
    }

    async fn archive(&mut self) {
        let Some(at) = self.pick() else { return };
        self.set_archived(at, true).await;
        let tenant = &self.living[at];
        let entered = self.stage.platform.enter(tenant.id, tenant.account).await;
        assert!(
            matches!(entered, Err(VaultError::AccessDenied)),
            "step {}",
            self.step
        );
        self.did("archive");
    }

    async fn unarchive(&mut self) {
        if let Some(at) = self.living.iter().position(|tenant| tenant.archived) {
            self.set_archived(at, false).await;
            self.read_of(at).await;
            self.did("unarchive");
        }
    }

    async fn evict(&mut self) {
        let Some(at) = self.pick() else { return };
        let id = self.living[at].id;
        self.stage
            .platform
            .deactivate(id, Reach::Everything)
            .await
            .unwrap();
        self.did("evict");
    }

    /// The vault's actor panics; whoever comes next notices nothing.
    async fn kill(&mut self) {
        let Some(at) = self.pick() else { return };
        {
            let (vault, _pass) = self.enter(at).await;
            self.stage.switch.arm(Some(self.living[at].id), Fault::Panic, 1);
            let question = question("user:u0", "document:d0");
            let lost = vault.check(&question, Consistency::FullyConsistent, now()).await;
            assert!(
                matches!(lost, Err(VaultError::ActorFailed)),
                "step {}: {lost:?}",
                self.step
            );
            self.stage.switch.disarm();
        }
        self.read_of(at).await;
        self.did("kill");
    }

    async fn delete(&mut self) {
        let at = self.dice.below(self.living.len());
        let tenant = self.living.swap_remove(at);
        self.stage
            .platform
            .delete_vault(tenant.id, Reach::Everything)
            .await
            .unwrap();
        // A sweep may be at it too, and hold it for a moment yet.
        self.eventually("its series go", |stage| stage.series_of(tenant.id).is_empty())
            .await;
        self.dead.push((tenant.id, tenant.account));
        self.did("delete");
    }

    async fn import(&mut self) {
        let Some(at) = self.pick() else { return };
        let mode = match self.dice.below(2) {
            0 => ImportMode::Merge,
            _ => ImportMode::Replace,
        };
        let most = if self.dice.chance(5) { LARGE } else { 30 };
        let mut imported = BTreeSet::new();
        for at_of_import in 0..self.dice.below(most) {
            imported.insert(match most {
                LARGE => format!("document:d0#viewer@user:imported{at_of_import}"),
                _ => self.living[at].relationship(&mut self.dice),
            });
        }
        let id = self.living[at].id;
        let mut import = self
            .stage
            .platform
            .import(id, Reach::Everything, mode)
            .await
            .unwrap();
        if self.dice.chance(50) {
            import.schema(Format::Native, SCHEMA).await.unwrap();
        }
        let pages: Vec<Relationship> = imported.iter().map(|text| relationship(text)).collect();
        for page in pages.chunks(1_000) {
            import.add(page.to_vec()).await.unwrap();
        }
        if self.dice.chance(30) {
            // Somebody writes meanwhile, and sees nothing of the import.
            let (vault, _pass) = self.enter(at).await;
            self.write_to(at, &vault, 3).await;
            self.read_of(at).await;
        }
        if self.dice.chance(20) {
            drop(import);
            self.did("import given up");
        } else {
            let done = import.finish().await.unwrap();
            assert_eq!(done.relationships, imported.len() as u64, "step {}", self.step);
            let held = &mut self.living[at].held;
            match mode {
                ImportMode::Replace => {
                    assert_eq!(done.removed, Some(held.len() as u64), "step {}", self.step);
                    *held = imported;
                }
                ImportMode::Merge => {
                    let new = imported.difference(held).count();
                    assert_eq!(done.created, new as u64, "step {}", self.step);
                    held.extend(imported);
                }
            }
            self.did("import");
        }
        self.read_of(at).await;
    }

    async fn export(&mut self) {
        let Some(at) = self.pick() else { return };
        let id = self.living[at].id;
        let mut export = self.stage.platform.export(id, Reach::Everything).await.unwrap();
        let expected = self.living[at].held.clone();
        if self.dice.chance(50) {
            let (vault, _pass) = self.enter(at).await;
            self.write_to(at, &vault, 3).await;
        }
        let mut found = Vec::new();
        while let Some(page) = export.next().await.unwrap() {
            found.extend(page.iter().map(text_of));
        }
        let count = found.len();
        assert_eq!(
            found.into_iter().collect::<BTreeSet<_>>(),
            expected,
            "step {}",
            self.step
        );
        assert_eq!(count, expected.len(), "step {}: something came twice", self.step);
        self.did("export");
    }

    async fn clone(&mut self) {
        if self.living.len() >= VAULTS {
            return;
        }
        let Some(at) = self.pick() else { return };
        let (id, account) = (
            self.living[at].id,
            self.accounts[self.dice.below(self.accounts.len())],
        );
        let made = self
            .stage
            .platform
            .clone_vault(id, Reach::Everything, "clone", Some(account), None);
        let made = made.await.unwrap();
        assert_eq!(made.account, account);
        // What was secret of the first is in both now, as it should be.
        let (mark, held) = (self.living[at].mark.clone(), self.living[at].held.clone());
        let clone = self.adopt(made.id, account);
        self.living[clone].mark = mark;
        self.living[clone].held = held;
        self.read_of(clone).await;
        self.did("clone");
    }

    async fn stats(&mut self) {
        let at = self.dice.below(self.living.len());
        let tenant = &self.living[at];
        let stats = self
            .stage
            .platform
            .stats(tenant.id, Reach::Everything)
            .await
            .unwrap();
        assert_eq!(
            stats.relationships,
            tenant.held.len() as u64,
            "step {}",
            self.step
        );
        assert_eq!(stats.record.archived, tenant.archived);
        self.did("stats");
    }

    /// The dead, and the living of others, look alike.
    async fn strangers(&mut self) {
        let at = self.dice.below(self.living.len());
        let tenant = &self.living[at];
        let other = *self
            .accounts
            .iter()
            .find(|account| **account != tenant.account)
            .unwrap();
        let mut doors = vec![(tenant.id, other)];
        doors.extend(self.dead.iter().rev().take(2));
        for (id, account) in doors {
            let entered = self.stage.platform.enter(id, account).await;
            assert!(
                matches!(entered, Err(VaultError::AccessDenied)),
                "step {}",
                self.step
            );
            let seen = self.stage.platform.vault(id, Reach::Account(other)).await;
            assert!(matches!(seen, Err(VaultError::NotFound(_))) || account == other && id != tenant.id);
        }
        self.did("strangers");
    }

    async fn change_schema(&mut self) {
        let Some(at) = self.pick() else { return };
        let (vault, _pass) = self.enter(at).await;
        let schema = [SCHEMA, OTHER_SCHEMA][self.dice.below(2)];
        vault.put_schema(written(schema)).await.unwrap();
        self.did("change schema");
    }

    /// What is refused says so in words of its own vault.
    async fn refused(&mut self) {
        let Some(at) = self.pick() else { return };
        let (vault, _pass) = self.enter(at).await;
        let tenant = &self.living[at];
        let document = tenant.document(&mut self.dice);
        let misfit = WriteRequest {
            touch: vec![relationship(&format!("{document}#owner@user:u-{}", tenant.mark))],
            ..WriteRequest::default()
        };
        let twice = tenant.held.first().map(|text| WriteRequest {
            create: vec![relationship(text)],
            ..WriteRequest::default()
        });
        for request in [Some(misfit), twice].into_iter().flatten() {
            let error = vault.write(request).await.unwrap_err();
            let said = format!("{error} {error:?}");
            let own = said.matches(&tenant.mark).count();
            assert_eq!(said.matches("secret").count(), own, "step {}: {said}", self.step);
        }
        self.did("refused");
    }

    async fn metrics(&mut self) {
        let vaults: BTreeSet<String> = self.living.iter().map(|tenant| tenant.id.to_string()).collect();
        for family in self.stage.metrics.gather() {
            for label in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
                assert!(!label.value().contains("secret"), "step {}: {label:?}", self.step);
                assert!(
                    label.name() != "vault" || vaults.contains(label.value()),
                    "step {}: a series of a vault that is no more: {} {label:?}",
                    self.step,
                    family.name()
                );
            }
        }
        // Whoever comes is let in; room is made right after.
        let most = settings().max_active;
        self.eventually("few are active", |stage| stage.platform.active_count() <= most)
            .await;
        self.did("metrics");
    }

    /// Waits for what comes to be by itself.
    async fn eventually(&self, what: &str, holds: impl Fn(&Stage) -> bool) {
        let begun = Instant::now();
        while !holds(&self.stage) {
            assert!(
                begun.elapsed() < PATIENCE,
                "step {}: never came to be: {what}",
                self.step
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn restart(&mut self) {
        self.stage.restart(settings()).await;
        self.did("restart");
    }
}
