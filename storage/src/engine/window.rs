//! What was committed lately: decides whether a transaction read something that has changed since.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::committer::ReadRange;
use crate::background;
use crate::kv::KvError;

/// The most that written keys and cleared ranges may weigh, in bytes. Older versions are forgotten first.
const MAX_BYTES: usize = 24 << 20;
/// What remembering a key or a range takes beside its bytes: its places in the map and in what its version wrote, and what the
/// allocator adds.
const ENTRY_BYTES: usize = 160;

/// A bounded memory of the write sets of recent commits.
#[derive(Debug)]
pub(super) struct Window {
    /// Each key written lately, with the last version that wrote it.
    keys: BTreeMap<Bytes, u64>,
    /// What each version wrote, oldest first.
    versions: VecDeque<Written>,
    bytes: usize,
    /// Transactions that read an older version cannot be judged any more.
    floor: u64,
}

#[derive(Debug)]
struct Written {
    version: u64,
    keys: Vec<Bytes>,
    ranges: Vec<Range<Bytes>>,
}

impl Window {
    /// An empty window over a store whose last version is `floor`.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            keys: BTreeMap::new(),
            versions: VecDeque::new(),
            bytes: 0,
            floor,
        }
    }

    /// Whether what was read at `version` still holds.
    pub(super) fn check(&self, version: u64, reads: &[ReadRange]) -> Result<(), KvError> {
        if reads.is_empty() {
            return Ok(());
        }
        if version < self.floor {
            return Err(KvError::TooOld);
        }
        let changed = reads.iter().any(|read| {
            background::breathe();
            match read {
                ReadRange::Key(key) => self.keys.get(key).is_some_and(|at| *at > version),
                ReadRange::Range(range) => self.keys.range(range.clone()).any(|(_, at)| *at > version),
            }
        });
        let cleared = || {
            let later = self
                .versions
                .iter()
                .rev()
                .take_while(|written| written.version > version);
            later.flat_map(|written| &written.ranges).any(|range| {
                reads.iter().any(|read| match read {
                    ReadRange::Key(key) => range.start <= key && key < &range.end,
                    ReadRange::Range(read) => range.start < read.end && read.start < range.end,
                })
            })
        };
        if changed || cleared() {
            Err(KvError::Conflict)
        } else {
            Ok(())
        }
    }

    /// Remembers what `version`, the newest so far, wrote. May be called several times for one version.
    pub(super) fn remember(&mut self, version: u64, mut keys: Vec<Bytes>, mut ranges: Vec<Range<Bytes>>) {
        if keys.is_empty() && ranges.is_empty() {
            return;
        }
        // They are kept for long: without the room that they were collected in.
        keys.shrink_to_fit();
        ranges.shrink_to_fit();
        self.bytes += weight(&keys, &ranges);
        for key in &keys {
            background::breathe();
            self.keys.insert(key.clone(), version);
        }
        match self.versions.back_mut() {
            Some(last) if last.version == version => {
                last.keys.extend(keys);
                last.ranges.extend(ranges);
            }
            _ => self.versions.push_back(Written {
                version,
                keys,
                ranges,
            }),
        }
        while self.bytes > MAX_BYTES && self.versions.len() > 1 {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.versions.pop_front() else {
            return;
        };
        self.floor = oldest.version;
        self.bytes -= weight(&oldest.keys, &oldest.ranges);
        for key in oldest.keys {
            background::breathe();
            if self.keys.get(&key) == Some(&oldest.version) {
                self.keys.remove(&key);
            }
        }
    }
}

fn weight(keys: &[Bytes], ranges: &[Range<Bytes>]) -> usize {
    let keys = keys.iter().map(|key| ENTRY_BYTES + key.len());
    let ranges = ranges
        .iter()
        .map(|range| ENTRY_BYTES + range.start.len() + range.end.len());
    keys.sum::<usize>() + ranges.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn conflicts_only_with_later_writes_to_what_was_read() {
        let mut window = Window::new(10);
        window.remember(11, vec![key("b")], vec![]);
        window.remember(12, vec![], vec![key("m")..key("p")]);
        let reads = |read| vec![read];
        assert_eq!(
            window.check(10, &reads(ReadRange::Key(key("b")))),
            Err(KvError::Conflict)
        );
        assert_eq!(window.check(11, &reads(ReadRange::Key(key("b")))), Ok(()));
        assert_eq!(
            window.check(10, &reads(ReadRange::Range(key("a")..key("b")))),
            Ok(())
        );
        assert_eq!(
            window.check(10, &reads(ReadRange::Range(key("a")..key("c")))),
            Err(KvError::Conflict)
        );
        assert_eq!(
            window.check(11, &reads(ReadRange::Key(key("n")))),
            Err(KvError::Conflict)
        );
        assert_eq!(window.check(11, &reads(ReadRange::Key(key("p")))), Ok(()));
        assert_eq!(
            window.check(12, &reads(ReadRange::Range(key("a")..key("z")))),
            Ok(())
        );
    }

    #[test]
    fn what_is_older_than_the_window_is_too_old_and_blind_writes_never_are() {
        for length in [10, 1_000, 10_000] {
            let mut window = Window::new(0);
            let half = MAX_BYTES / 2 / (ENTRY_BYTES + length);
            for version in 1..=3 {
                let keys = (0..half)
                    .map(|n| Bytes::from(format!("{version}/{n:0>width$}", width = length - 2)))
                    .collect();
                window.remember(version, keys, vec![]);
            }
            assert_eq!(window.check(0, &[ReadRange::Key(key("x"))]), Err(KvError::TooOld));
            assert_eq!(window.check(1, &[ReadRange::Key(key("x"))]), Ok(()));
            assert_eq!(window.check(0, &[]), Ok(()));
            assert_eq!(window.keys.len(), half * 2);
            let mut roomy = Vec::with_capacity(half);
            roomy.push(key("c"));
            window.remember(4, roomy, vec![]);
            assert!(window.versions.back().unwrap().keys.capacity() < 10);
            window.remember(5, vec![], vec![]);
            let wide = key("a")..Bytes::from(vec![b'b'; MAX_BYTES / 4]);
            window.remember(6, vec![], vec![wide]);
            assert_eq!(window.keys.len(), half + 1, "ranges are weighed too");
        }
    }
}
