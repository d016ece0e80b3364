//! What a vault holds, and what follows from it, said as simply as can be.

use std::collections::BTreeSet;

use inferadb_actors::{AccountId, VaultId};

use crate::world::Dice;

pub const SCHEMA: &str = "
definition user {}

definition group {
    relation member: user
}

definition document {
    relation viewer: user | group#member
    relation banned: user
    permission view = viewer - banned
}
";
/// The same answers under another text.
pub const OTHER_SCHEMA: &str = "
definition user {}
definition group {
    relation member: user
}
definition document {
    relation viewer: user | group#member
    relation banned: user
    permission shown = viewer
    permission view = shown - banned
}
";
/// How many users, groups and documents of each name there are. One more user and document carry the vault's own mark; all others
/// have the same names in every vault, where they mean others.
const NAMES: usize = 5;

/// A vault as it should be.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub id: VaultId,
    pub account: AccountId,
    /// What no other vault knows.
    pub mark: String,
    pub archived: bool,
    /// Relationships, as `type:id#relation@subject`.
    pub held: BTreeSet<String>,
}

impl Tenant {
    pub fn new(id: VaultId, account: AccountId, mark: String) -> Self {
        Self {
            id,
            account,
            mark,
            archived: false,
            held: BTreeSet::new(),
        }
    }

    fn named(&self, dice: &mut Dice, letter: char) -> String {
        match dice.below(NAMES + 1) {
            NAMES => format!("{letter}-{}", self.mark),
            at => format!("{letter}{at}"),
        }
    }

    pub fn user(&self, dice: &mut Dice) -> String {
        format!("user:{}", self.named(dice, 'u'))
    }

    pub fn document(&self, dice: &mut Dice) -> String {
        format!("document:{}", self.named(dice, 'd'))
    }

    /// Every document there can be.
    pub fn documents(&self) -> Vec<String> {
        let common = (0..NAMES).map(|at| format!("document:d{at}"));
        common.chain([format!("document:d-{}", self.mark)]).collect()
    }

    pub fn relationship(&self, dice: &mut Dice) -> String {
        let group = format!("group:g{}", dice.below(3));
        match dice.below(8) {
            0..=2 => format!("{}#viewer@{}", self.document(dice), self.user(dice)),
            3..=4 => format!("{}#viewer@{group}#member", self.document(dice)),
            5..=6 => format!("{group}#member@{}", self.user(dice)),
            _ => format!("{}#banned@{}", self.document(dice), self.user(dice)),
        }
    }

    pub fn may_view(&self, user: &str, document: &str) -> bool {
        let has = |text: String| self.held.contains(&text);
        let through = |group: usize| {
            has(format!("{document}#viewer@group:g{group}#member"))
                && has(format!("group:g{group}#member@{user}"))
        };
        let viewer = has(format!("{document}#viewer@{user}")) || (0..3).any(through);
        viewer && !has(format!("{document}#banned@{user}"))
    }
}
