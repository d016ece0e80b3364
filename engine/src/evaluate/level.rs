//! Three-valued logic: what is known of a sub-check, and between which bounds.

/// A truth value in Kleene's logic, ordered: a union is the maximum, an intersection the minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// The subject does not have it.
    False,
    /// It depends on caveats that could not be decided.
    Unknown,
    /// The subject has it.
    True,
}

impl Level {
    /// The opposite; what is unknown stays unknown.
    pub(super) const fn not(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

/// What is known of a value that may not be wholly explored: it lies between the two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) low: Level,
    pub(super) high: Level,
}

impl Bounds {
    /// Nothing is known yet.
    pub(super) const OPEN: Self = Self {
        low: Level::False,
        high: Level::True,
    };

    /// The value is known.
    pub(super) const fn exactly(level: Level) -> Self {
        Self {
            low: level,
            high: level,
        }
    }

    /// The value, if the bounds meet.
    pub(super) fn exact(self) -> Option<Level> {
        (self.low == self.high).then_some(self.low)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self {
            low: self.low.max(other.low),
            high: self.high.max(other.high),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            low: self.low.min(other.low),
            high: self.high.min(other.high),
        }
    }

    pub(super) const fn not(self) -> Self {
        Self {
            low: self.high.not(),
            high: self.low.not(),
        }
    }
}
