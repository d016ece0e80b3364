//! A sorted collection whose copies share what did not change: a B+ tree, of which a write copies one path and no more.

use std::cmp::Ordering;
use std::fmt;
use std::slice;
use std::sync::Arc;

/// The most items of a leaf, and the most children of a branch: what a write to a shared tree copies at each level.
const MOST: usize = 32;
/// A node that holds no more than this is joined to a neighbour.
const FEW: usize = MOST / 4;
/// How much room is added to a node that grows. Little: most nodes stay as they are.
const ROOM: usize = 4;

/// Something that has its place in an order; no two in one tree have the same.
pub trait Placed: Clone {
    /// What the order goes by.
    type Place: Ord + Clone;

    /// Its place.
    fn place(&self) -> &Self::Place;
}

/// Items in the order of their places. A clone costs nothing and shares every node until one of the two is written to.
pub struct Tree<T: Placed> {
    root: Arc<Node<T>>,
    len: usize,
}

enum Node<T: Placed> {
    Leaf(Vec<T>),
    Branch(Vec<Child<T>>),
}

struct Child<T: Placed> {
    /// Nothing in the node lies before it, and all that the children before this one hold does. That of a branch's first
    /// child is not looked at and may be wrong: a child that becomes the first takes in what lies before its `first`.
    first: T::Place,
    node: Arc<Node<T>>,
}

/// The items of a tree in their order, all or from a place on.
pub struct Iter<'t, T: Placed> {
    leaf: slice::Iter<'t, T>,
    above: Vec<slice::Iter<'t, Child<T>>>,
}

/// What putting an item into a node came to.
struct Put<T: Placed> {
    replaced: Option<T>,
    /// What no longer found room in the node, and follows it.
    split: Option<Child<T>>,
}

impl<T: Placed> Tree<T> {
    /// A tree of items that are sorted by place already, each place once. Its nodes are full.
    pub fn from_sorted(items: impl IntoIterator<Item = T>) -> Self {
        let mut items = items.into_iter().peekable();
        let mut len = 0;
        let mut level: Vec<Child<T>> = Vec::new();
        while let Some(next) = items.peek() {
            let first = next.place().clone();
            let mut leaf = Vec::with_capacity(MOST.min(items.size_hint().0.max(1)));
            leaf.extend(items.by_ref().take(MOST));
            leaf.shrink_to_fit();
            len += leaf.len();
            let node = Arc::new(Node::Leaf(leaf));
            level.push(Child { first, node });
        }
        while level.len() > 1 {
            let mut children = level.into_iter().peekable();
            level = Vec::new();
            while let Some(next) = children.peek() {
                let first = next.first.clone();
                let node = Arc::new(Node::Branch(children.by_ref().take(MOST).collect()));
                level.push(Child { first, node });
            }
        }
        let root = level.pop().map(|child| child.node);
        Self {
            root: root.unwrap_or_default(),
            len,
        }
    }

    /// What an item takes beside its own size, in bytes: its share of its node's header, of the way there, and of the room
    /// that is left in nodes, which are two thirds full to wholly full.
    pub const OVERHEAD_BYTES: usize = {
        let header = 16 + size_of::<Node<T>>() + size_of::<Child<T>>();
        let room = ROOM / 2 * size_of::<T>();
        (header + room) / (MOST * 3 / 4)
    };

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The item whose place compares as equal; `order` says how a place compares to the one that is sought.
    pub fn find(&self, order: impl Fn(&T::Place) -> Ordering) -> Option<&T> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    let at = items.binary_search_by(|item| order(item.place())).ok()?;
                    return items.get(at);
                }
                Node::Branch(children) => node = &children.get(child_at(children, &order))?.node,
            }
        }
    }

    /// As [`Tree::find`], for changing the item where it is. What of its path is shared is copied, found or not.
    pub fn find_mut(&mut self, order: impl Fn(&T::Place) -> Ordering) -> Option<&mut T> {
        let mut node = &mut self.root;
        loop {
            match Arc::make_mut(node) {
                Node::Leaf(items) => {
                    let at = items.binary_search_by(|item| order(item.place())).ok()?;
                    return items.get_mut(at);
                }
                Node::Branch(children) => {
                    let at = child_at(children, &order);
                    node = &mut children.get_mut(at)?.node;
                }
            }
        }
    }

    /// Puts an item in; answers the one that was in its place.
    pub fn put(&mut self, item: T) -> Option<T> {
        let Put { replaced, split } = put(&mut self.root, item);
        if let Some(second) = split {
            let node = std::mem::take(&mut self.root);
            // Never looked at: it is the first.
            let first = second.first.clone();
            self.root = Arc::new(Node::Branch(vec![Child { first, node }, second]));
        }
        self.len += usize::from(replaced.is_none());
        replaced
    }

    /// Takes the item out whose place compares as equal.
    pub fn remove(&mut self, order: impl Fn(&T::Place) -> Ordering) -> Option<T> {
        self.find(&order)?;
        let removed = remove(&mut self.root, &order);
        self.len -= usize::from(removed.is_some());
        while let Node::Branch(children) = &*self.root
            && let [only] = children.as_slice()
        {
            self.root = Arc::clone(&only.node);
        }
        removed
    }

    /// All items in their order.
    pub fn iter(&self) -> Iter<'_, T> {
        let mut iter = Iter {
            leaf: [].iter(),
            above: Vec::new(),
        };
        iter.descend(&self.root);
        iter
    }

    /// The items from the first one on whose place does not compare as less.
    pub fn iter_from(&self, order: impl Fn(&T::Place) -> Ordering) -> Iter<'_, T> {
        let mut above = Vec::new();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(items) => {
                    let at = items.partition_point(|item| order(item.place()).is_lt());
                    let leaf = items.get(at..).unwrap_or_default().iter();
                    return Iter { leaf, above };
                }
                Node::Branch(children) => {
                    // Of several places that compare as equal, the first may be in an earlier child.
                    let at = last_child(children, |first| order(first).is_lt());
                    let rest = children.get(at..).unwrap_or_default();
                    let mut rest = rest.iter();
                    let Some(child) = rest.next() else {
                        return Iter {
                            leaf: [].iter(),
                            above,
                        };
                    };
                    above.push(rest);
                    node = &child.node;
                }
            }
        }
    }
}

/// The child that a place belongs into.
fn child_at<T: Placed>(children: &[Child<T>], order: impl Fn(&T::Place) -> Ordering) -> usize {
    last_child(children, |first| order(first).is_le())
}

/// The last child of which `is_before` holds, or the first child, of which it is not asked.
fn last_child<T: Placed>(children: &[Child<T>], is_before: impl Fn(&T::Place) -> bool) -> usize {
    let others = children.get(1..).unwrap_or_default();
    others.partition_point(|child| is_before(&child.first))
}

fn put<T: Placed>(node: &mut Arc<Node<T>>, item: T) -> Put<T> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => match items.binary_search_by(|held| held.place().cmp(item.place())) {
            Ok(at) => Put {
                replaced: items.get_mut(at).map(|held| std::mem::replace(held, item)),
                split: None,
            },
            Err(at) => {
                let split = insert(items, at, item).and_then(|rest| {
                    let first = rest.first()?.place().clone();
                    let node = Arc::new(Node::Leaf(rest));
                    Some(Child { first, node })
                });
                Put {
                    replaced: None,
                    split,
                }
            }
        },
        Node::Branch(children) => {
            let at = child_at(children, |first| first.cmp(item.place()));
            let Some(child) = children.get_mut(at) else {
                // A branch has children.
                return Put {
                    replaced: None,
                    split: None,
                };
            };
            let Put { replaced, split } = put(&mut child.node, item);
            let split = split.and_then(|split| {
                let rest = insert(children, at + 1, split)?;
                let first = rest.first()?.first.clone();
                let node = Arc::new(Node::Branch(rest));
                Some(Child { first, node })
            });
            Put { replaced, split }
        }
    }
}

/// Inserts into a node's items; answers those that are to follow in a node of their own, if they are too many now.
fn insert<I>(items: &mut Vec<I>, at: usize, item: I) -> Option<Vec<I>> {
    let is_last = at == items.len();
    if items.len() == items.capacity() {
        items.reserve_exact(ROOM.min((MOST + 1).saturating_sub(items.len())).max(1));
    }
    items.insert(at, item);
    if items.len() <= MOST {
        return None;
    }
    // What grows at its end is likely to go on doing so: the full node is left full.
    let rest = items.split_off(if is_last { MOST } else { MOST / 2 });
    items.shrink_to_fit();
    Some(rest)
}

fn remove<T: Placed>(node: &mut Arc<Node<T>>, order: &impl Fn(&T::Place) -> Ordering) -> Option<T> {
    match Arc::make_mut(node) {
        Node::Leaf(items) => {
            let at = items.binary_search_by(|item| order(item.place())).ok()?;
            Some(items.remove(at))
        }
        Node::Branch(children) => {
            let at = child_at(children, order);
            let removed = remove(&mut children.get_mut(at)?.node, order)?;
            join(children, at);
            Some(removed)
        }
    }
}

/// Joins a child that has become small to a neighbour, where both fit into one node and leave room.
fn join<T: Placed>(children: &mut Vec<Child<T>>, at: usize) {
    let len = |at: usize| children.get(at).map(|child| child.node.len());
    let Some(own) = len(at).filter(|len| *len <= FEW) else {
        return;
    };
    if own == 0 {
        children.remove(at);
        return;
    }
    let fits = |other: Option<usize>| other.is_some_and(|other| own + other <= MOST * 3 / 4);
    let first = match at.checked_sub(1) {
        Some(before) if fits(len(before)) => before,
        _ if fits(len(at + 1)) => at,
        _ => return,
    };
    let second = children.remove(first + 1);
    if let Some(child) = children.get_mut(first) {
        match (Arc::make_mut(&mut child.node), Arc::unwrap_or_clone(second.node)) {
            (Node::Leaf(items), Node::Leaf(more)) => {
                items.reserve_exact(more.len());
                items.extend(more);
            }
            (Node::Branch(children), Node::Branch(mut more)) => {
                // It is not a first child any more: its `first` is looked at from here on.
                if let Some(child) = more.first_mut() {
                    child.first = second.first;
                }
                children.reserve_exact(more.len());
                children.extend(more);
            }
            // All leaves are equally deep.
            (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {}
        }
    }
}

impl<T: Placed> Node<T> {
    fn len(&self) -> usize {
        match self {
            Self::Leaf(items) => items.len(),
            Self::Branch(children) => children.len(),
        }
    }
}

impl<'t, T: Placed> Iter<'t, T> {
    fn descend(&mut self, mut node: &'t Node<T>) {
        loop {
            match node {
                Node::Leaf(items) => {
                    self.leaf = items.iter();
                    return;
                }
                Node::Branch(children) => {
                    let mut rest = children.iter();
                    let Some(child) = rest.next() else { return };
                    self.above.push(rest);
                    node = &child.node;
                }
            }
        }
    }
}

impl<'t, T: Placed> Iterator for Iter<'t, T> {
    type Item = &'t T;

    fn next(&mut self) -> Option<&'t T> {
        loop {
            if let Some(item) = self.leaf.next() {
                return Some(item);
            }
            match self.above.last_mut()?.next() {
                Some(child) => self.descend(&child.node),
                None => {
                    self.above.pop();
                }
            }
        }
    }
}

impl<T: Placed + fmt::Debug> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<T: Placed> Clone for Iter<'_, T> {
    fn clone(&self) -> Self {
        Self {
            leaf: self.leaf.clone(),
            above: self.above.clone(),
        }
    }
}

impl<T: Placed> Clone for Tree<T> {
    fn clone(&self) -> Self {
        Self {
            root: Arc::clone(&self.root),
            len: self.len,
        }
    }
}

impl<T: Placed> Default for Tree<T> {
    fn default() -> Self {
        Self {
            root: Arc::default(),
            len: 0,
        }
    }
}

impl<T: Placed + fmt::Debug> fmt::Debug for Tree<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<T: Placed> Default for Node<T> {
    fn default() -> Self {
        Self::Leaf(Vec::new())
    }
}

impl<T: Placed> Clone for Node<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Leaf(items) => Self::Leaf(items.clone()),
            Self::Branch(children) => Self::Branch(children.clone()),
        }
    }
}

impl<T: Placed> Clone for Child<T> {
    fn clone(&self) -> Self {
        Self {
            first: self.first.clone(),
            node: Arc::clone(&self.node),
        }
    }
}

#[cfg(test)]
mod tests;
