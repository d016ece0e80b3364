//! The graph of sub-checks: gates whose values only ever rise, and the edges along which they do.
//!
//! A gate's value is a lower bound, at first false. Raising one raises, through counters, exactly the gates above it
//! that follow from it, so that cyclic data ends with the least fixpoint and every edge is walked at most twice, however
//! dense the cycles. What an exclusion takes away is no edge but a cap on its gate, which rises as the *upper* bound
//! of what is excluded sinks; see [`Graph::upper_bounds`].

use std::ops::{Index, IndexMut};

use super::level::{Bounds, Level};

/// A list of which every position is handed out by [`Arena::push`]; it never shrinks.
#[derive(Debug, Clone)]
pub(super) struct Arena<T>(Vec<T>);

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(super) fn push(&mut self, item: T) -> u32 {
        // A work limit bounds the graph far below this; saturating keeps the arithmetic honest all the same.
        let at = u32::try_from(self.0.len()).unwrap_or(NONE);
        self.0.push(item);
        at
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Index<u32> for Arena<T> {
    type Output = T;

    #[expect(
        clippy::indexing_slicing,
        reason = "positions come from `push` of the same arena, which never shrinks"
    )]
    fn index(&self, at: u32) -> &T {
        &self.0[at as usize]
    }
}

impl<T> IndexMut<u32> for Arena<T> {
    #[expect(
        clippy::indexing_slicing,
        reason = "positions come from `push` of the same arena, which never shrinks"
    )]
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.0[at as usize]
    }
}

/// The end of a list of edges; the task of a gate that has none.
pub(super) const NONE: u32 = u32::MAX;

/// A gate's position.
pub(super) type GateId = u32;

/// How a gate's value follows from its operands'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The greatest of them.
    Any,
    /// The least of them and of its cap.
    All,
}

/// How far a gate's operands are explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    /// All are linked.
    Open,
    /// Its task is in the queue.
    Queued,
    /// Its task was put aside because nothing that needs it is undecided.
    Dormant,
    /// Its task waits for rows.
    Waiting,
    /// It lies deeper than the limit.
    Beyond,
}

#[derive(Debug)]
pub(super) struct Gate {
    kind: Kind,
    pub(super) status: Status,
    pub(super) task: u32,
    up: u32,
    down: u32,
}

/// The part of a gate that changes while values rise, apart, so that upper bounds can be computed on a copy.
#[derive(Debug, Clone, Copy)]
struct State {
    value: Level,
    cap: Level,
    /// Of an `All` gate: how many operands are still false, and how many not yet true.
    below_unknown: u32,
    below_true: u32,
}

impl State {
    /// The value of an `All` gate by its counters and cap.
    fn least(&self) -> Level {
        let operands = if self.below_true == 0 {
            Level::True
        } else if self.below_unknown == 0 {
            Level::Unknown
        } else {
            Level::False
        };
        operands.min(self.cap)
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Edge {
    parent: GateId,
    pub(super) child: GateId,
    /// The child is what the parent, an exclusion, takes away: its value does not rise along here.
    excluded: bool,
    /// Leads to another object.
    pub(super) hop: bool,
    next_up: u32,
    next_down: u32,
}

/// An exclusion whose right side is a gate.
#[derive(Debug, Clone, Copy)]
struct Exclusion {
    gate: GateId,
    excluded: GateId,
}

/// A rise of one gate that is still to be told to the gates above it.
type Rise = (GateId, Level, Level);

/// See the module's text.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) gates: Arena<Gate>,
    edges: Arena<Edge>,
    states: Arena<State>,
    exclusions: Vec<Exclusion>,
    rises: Vec<Rise>,
    has_all: bool,
}

impl Graph {
    pub(super) const fn new() -> Self {
        Self {
            gates: Arena::new(),
            edges: Arena::new(),
            states: Arena::new(),
            exclusions: Vec::new(),
            rises: Vec::new(),
            has_all: false,
        }
    }

    fn add(&mut self, kind: Kind, state: State) -> GateId {
        self.states.push(state);
        self.gates.push(Gate {
            kind,
            status: Status::Open,
            task: NONE,
            up: NONE,
            down: NONE,
        })
    }

    /// A gate that is the greatest of its operands; false without any.
    pub(super) fn add_any(&mut self) -> GateId {
        let state = State {
            value: Level::False,
            cap: Level::True,
            below_unknown: 0,
            below_true: 0,
        };
        self.add(Kind::Any, state)
    }

    /// A gate that is the least of its operands and `cap`. It stays false until it is [sealed](Self::seal).
    pub(super) fn add_all(&mut self, cap: Level) -> GateId {
        let state = State {
            value: Level::False,
            cap,
            below_unknown: 1,
            below_true: 1,
        };
        self.has_all = true;
        self.add(Kind::All, state)
    }

    /// Declares that an `All` gate has all its operands.
    pub(super) fn seal(&mut self, gate: GateId) {
        let state = &mut self.states[gate];
        state.below_unknown -= 1;
        state.below_true -= 1;
        let least = state.least();
        self.raise(gate, least);
    }

    /// Makes `child` an operand of `parent`.
    pub(super) fn link(&mut self, parent: GateId, child: GateId, hop: bool) {
        let value = self.states[child].value;
        if self.gates[parent].kind == Kind::Any && self.is_latest(parent, child, hop) {
            return;
        }
        self.add_edge(parent, child, hop, false);
        match self.gates[parent].kind {
            Kind::Any => self.raise(parent, value),
            Kind::All => {
                let state = &mut self.states[parent];
                state.below_unknown += u32::from(value < Level::Unknown);
                state.below_true += u32::from(value < Level::True);
            }
        }
    }

    /// Whether the gate's latest operand is this one: an expression can name the same one very often.
    fn is_latest(&self, parent: GateId, child: GateId, hop: bool) -> bool {
        let latest = self.gates[parent].down;
        latest != NONE && {
            let edge = self.edges[latest];
            edge.child == child && edge.hop == hop
        }
    }

    /// How many gates it has, or as many as its edges are worth: most gates have one or two, and they are much cheaper.
    pub(super) fn size(&self) -> u64 {
        self.gates.len().max(self.edges.len() / 4) as u64
    }

    /// Gives up an `All` gate that turned out false before it was sealed, so that nothing is explored for it.
    pub(super) fn abandon(&mut self, gate: GateId) {
        // Nothing is above it: called decided, it needs no operand any more.
        self.raise(gate, Level::True);
    }

    /// Takes an operand that is true into the gate: it decides an `Any` gate and adds nothing to an `All` gate.
    pub(super) fn put_true(&mut self, gate: GateId) {
        if self.gates[gate].kind == Kind::Any {
            self.raise(gate, Level::True);
        }
    }

    /// A gate for `left` (true where it is `None`) without `excluded`.
    pub(super) fn add_exclusion(&mut self, left: Option<GateId>, excluded: GateId) -> GateId {
        let gate = self.add_all(Level::False);
        if let Some(left) = left {
            self.link(gate, left, false);
        }
        self.add_edge(gate, excluded, false, true);
        self.exclusions.push(Exclusion { gate, excluded });
        self.seal(gate);
        gate
    }

    fn add_edge(&mut self, parent: GateId, child: GateId, hop: bool, excluded: bool) {
        let edge = self.edges.push(Edge {
            parent,
            child,
            excluded,
            hop,
            next_up: self.gates[child].up,
            next_down: self.gates[parent].down,
        });
        self.gates[child].up = edge;
        self.gates[parent].down = edge;
    }

    /// What is certain of the gate so far.
    pub(super) fn value(&self, gate: GateId) -> Level {
        self.states[gate].value
    }

    /// Raises the gate to `level` if it is lower, and all that follows.
    pub(super) fn raise(&mut self, gate: GateId, level: Level) {
        raise(&mut self.states, &mut self.rises, gate, level);
        settle(&self.gates, &self.edges, &mut self.states, &mut self.rises);
    }

    /// Whether any gate above this one could still change.
    pub(super) fn is_needed(&self, gate: GateId) -> bool {
        self.edges_above(gate)
            .any(|edge| self.states[edge.parent].value < Level::True)
    }

    fn edges_above(&self, gate: GateId) -> impl Iterator<Item = Edge> {
        let first = self.gates[gate].up;
        let edge = move |at: u32| (at != NONE).then(|| (at, self.edges[at]));
        std::iter::successors(edge(first), move |(_, held)| edge(held.next_up)).map(|(_, held)| held)
    }

    /// The edges to a gate's operands and to what it excludes.
    pub(super) fn edges_below(&self, gate: GateId) -> impl Iterator<Item = Edge> {
        let first = self.gates[gate].down;
        let edge = move |at: u32| (at != NONE).then(|| (at, self.edges[at]));
        std::iter::successors(edge(first), move |(_, held)| edge(held.next_down)).map(|(_, held)| held)
    }

    pub(super) fn has_exclusions(&self) -> bool {
        !self.exclusions.is_empty()
    }

    /// Whether every gate is an `Any`: then each of them can decide the first.
    pub(super) const fn is_one_union(&self) -> bool {
        !self.has_all
    }

    /// The highest value that each gate could still come to, whatever the unexplored ones turn out to be: the least
    /// fixpoint in which those are true and each exclusion takes away only what is certain.
    pub(super) fn upper_bounds(&self) -> UpperBounds {
        let mut states = self.states.clone();
        let mut rises = Vec::new();
        for gate in 0..u32::try_from(self.gates.len()).unwrap_or(NONE) {
            if self.gates[gate].status != Status::Open {
                raise(&mut states, &mut rises, gate, Level::True);
            }
        }
        for exclusion in &self.exclusions {
            let state = &mut states[exclusion.gate];
            state.cap = self.states[exclusion.excluded].value.not();
            let least = state.least();
            raise(&mut states, &mut rises, exclusion.gate, least);
        }
        settle(&self.gates, &self.edges, &mut states, &mut rises);
        UpperBounds(states)
    }

    /// Lets each exclusion rise as far as the upper bound of what it takes away allows; says whether that was
    /// further than before. In turn with [`upper_bounds`](Self::upper_bounds) this is the alternating fixpoint: it ends with
    /// the well-founded answer, also where exclusions are recursive.
    pub(super) fn lift_exclusions(&mut self, upper: &UpperBounds) -> bool {
        let mut lifted = false;
        for exclusion in &self.exclusions {
            let cap = upper.of(exclusion.excluded).not();
            let state = &mut self.states[exclusion.gate];
            if cap > state.cap {
                lifted = true;
                state.cap = cap;
                let least = state.least();
                raise(&mut self.states, &mut self.rises, exclusion.gate, least);
            }
        }
        settle(&self.gates, &self.edges, &mut self.states, &mut self.rises);
        lifted
    }

    /// Between what bounds the gate's value lies.
    pub(super) fn bounds(&self, gate: GateId, upper: &UpperBounds) -> Bounds {
        Bounds {
            low: self.value(gate),
            high: upper.of(gate),
        }
    }
}

/// What [`Graph::upper_bounds`] found.
#[derive(Debug)]
pub(super) struct UpperBounds(Arena<State>);

impl UpperBounds {
    pub(super) fn of(&self, gate: GateId) -> Level {
        self.0[gate].value
    }
}

fn raise(states: &mut Arena<State>, rises: &mut Vec<Rise>, gate: GateId, level: Level) {
    let state = &mut states[gate];
    if level > state.value {
        rises.push((gate, state.value, level));
        state.value = level;
    }
}

/// Tells every rise to the gates above, until nothing rises any more.
fn settle(gates: &Arena<Gate>, edges: &Arena<Edge>, states: &mut Arena<State>, rises: &mut Vec<Rise>) {
    while let Some((gate, from, to)) = rises.pop() {
        let mut at = gates[gate].up;
        while at != NONE {
            let edge = edges[at];
            at = edge.next_up;
            if edge.excluded {
                continue;
            }
            let level = match gates[edge.parent].kind {
                Kind::Any => to,
                Kind::All => {
                    let state = &mut states[edge.parent];
                    state.below_unknown -= u32::from(from < Level::Unknown && to >= Level::Unknown);
                    state.below_true -= u32::from(from < Level::True && to >= Level::True);
                    state.least()
                }
            };
            raise(states, rises, edge.parent, level);
        }
    }
}
