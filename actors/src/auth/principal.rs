//! The caller, as the token describes it: who, for which vault and account, with which scopes, until when.

use std::fmt;
use std::ops::BitOr;

use uuid::Uuid;

/// What a verified token says. Whether the vault exists and is the account's is for the caller to find out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// `sub`: the provider's name for the caller.
    pub subject: Option<String>,
    /// The vault that the token opens; tokens of administrators may have none.
    pub vault: Option<Uuid>,
    /// The account that the vault must belong to.
    pub account: Option<Uuid>,
    /// Everything the token allows.
    pub scopes: Scopes,
    /// `exp` in whole Unix seconds, rounded down.
    pub expires_at: i64,
    /// `jti`: the provider's name for this token.
    pub token_id: Option<String>,
}

/// A set of our scopes. Scopes that are not ours cannot be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// No scope at all.
    pub const NONE: Self = Self(0);
    /// `inferadb.check`
    pub const CHECK: Self = Self(1);
    /// `inferadb.read`
    pub const READ: Self = Self(1 << 1);
    /// `inferadb.write`
    pub const WRITE: Self = Self(1 << 2);
    /// `inferadb.schema`
    pub const SCHEMA: Self = Self(1 << 3);
    /// `inferadb.watch`
    pub const WATCH: Self = Self(1 << 4);
    /// `inferadb.admin`
    pub const ADMIN: Self = Self(1 << 5);
    /// `inferadb.account.admin`
    pub const ACCOUNT_ADMIN: Self = Self(1 << 6);

    /// Every scope with its name in tokens, in the order of the documentation.
    pub const NAMES: [(Self, &'static str); 7] = [
        (Self::CHECK, "inferadb.check"),
        (Self::READ, "inferadb.read"),
        (Self::WRITE, "inferadb.write"),
        (Self::SCHEMA, "inferadb.schema"),
        (Self::WATCH, "inferadb.watch"),
        (Self::ADMIN, "inferadb.admin"),
        (Self::ACCOUNT_ADMIN, "inferadb.account.admin"),
    ];

    /// The scope with exactly this name; anything else, and that includes other cases and patterns, is no scope.
    pub fn named(name: &str) -> Self {
        let known = Self::NAMES.iter().find(|(_, known)| *known == name);
        known.map_or(Self::NONE, |(scope, _)| *scope)
    }

    /// Whether at least one of `others` is in this set.
    pub fn any_of(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Whether all of `others` are in this set.
    pub fn all_of(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names in the set, in the order of the documentation.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES
            .into_iter()
            .filter(move |(scope, _)| self.all_of(*scope))
            .map(|(_, name)| name)
    }
}

impl BitOr for Scopes {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<Self> for Scopes {
    fn from_iter<I: IntoIterator<Item = Self>>(scopes: I) -> Self {
        scopes.into_iter().fold(Self::NONE, BitOr::bitor)
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.names().enumerate() {
            let separator = if index == 0 { "" } else { " " };
            write!(formatter, "{separator}{name}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_bits_agree() {
        for (scope, name) in Scopes::NAMES {
            assert_eq!(Scopes::named(name), scope);
            assert_eq!(scope.to_string(), name);
            let others = Scopes::NAMES.into_iter().filter(|(other, _)| *other != scope);
            assert!(
                others.into_iter().all(|(other, _)| !scope.any_of(other)),
                "{name} overlaps another"
            );
        }
    }

    #[test]
    fn only_the_exact_name_matches() {
        for name in [
            "",
            "inferadb",
            "inferadb.",
            "inferadb.rea",
            "inferadb.read ",
            "inferadb.reader",
            "Inferadb.read",
        ] {
            assert!(Scopes::named(name).is_empty(), "{name}");
        }
        for name in [
            "inferadb.*",
            "read",
            "xinferadb.read",
            "inferadb.read\0",
            "inferadb．read",
            "inferadb.account",
        ] {
            assert!(Scopes::named(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn sets_answer_any_and_all() {
        let set = Scopes::CHECK | Scopes::WRITE;
        assert!(set.any_of(Scopes::READ | Scopes::WRITE));
        assert!(!set.any_of(Scopes::READ | Scopes::ADMIN));
        assert!(set.all_of(Scopes::CHECK));
        assert!(!set.all_of(Scopes::CHECK | Scopes::READ));
        assert_eq!(set.to_string(), "inferadb.check inferadb.write");
        assert!(!Scopes::NONE.any_of(Scopes::NONE));
    }
}
