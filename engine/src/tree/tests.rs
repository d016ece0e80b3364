//! Trees beside `BTreeMap`s: the same after any sequence of changes, and copies left as they were.

use std::collections::BTreeMap;
use std::ops::Range;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Item(u16, u32);

impl Placed for Item {
    type Place = u16;

    fn place(&self) -> &u16 {
        &self.0
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u16),
    Remove(u16),
    Raise(u16),
    /// Copies the tree; what follows must leave the copy as it is.
    Copy,
}

fn steps(places: u16) -> impl Strategy<Value = Vec<Step>> {
    let place = 0..places;
    let step = prop_oneof![
        6 => place.clone().prop_map(Step::Put),
        5 => place.clone().prop_map(Step::Remove),
        2 => place.prop_map(Step::Raise),
        1 => Just(Step::Copy),
    ];
    prop::collection::vec(step, 0..3_000)
}

fn same(tree: &Tree<Item>, model: &BTreeMap<u16, u32>) {
    assert_eq!(tree.len(), model.len());
    assert_eq!(tree.is_empty(), model.is_empty());
    let held: Vec<(u16, u32)> = tree.iter().map(|item| (item.0, item.1)).collect();
    let wanted: Vec<(u16, u32)> = model.iter().map(|(place, value)| (*place, *value)).collect();
    assert_eq!(held, wanted);
    check(tree);
}

/// That the tree is as it has to be; answers how deep its leaves are.
fn check(tree: &Tree<Item>) -> usize {
    if let Node::Branch(children) = &*tree.root {
        assert!(children.len() > 1, "a root with one child");
    }
    check_node(&tree.root, true, 0, u32::MAX)
}

/// That no node is larger or emptier than it may be, that all leaves are equally deep, and that what is in it, and the
/// `first` of all children but the first, lies from `low` on, before `high` and in order; answers how deep the leaves are.
fn check_node(node: &Node<Item>, is_root: bool, low: u32, high: u32) -> usize {
    assert!(node.len() <= MOST);
    assert!(is_root || node.len() > 0);
    match node {
        Node::Leaf(items) => {
            assert!(
                items.capacity() <= MOST + ROOM,
                "{} items in {}",
                items.len(),
                items.capacity()
            );
            let places: Vec<u32> = items.iter().map(|item| u32::from(item.0)).collect();
            assert!(places.is_sorted_by(|one, next| one < next));
            assert!(
                places.iter().all(|place| (low..high).contains(place)),
                "{places:?} in a leaf of {low} to {high}"
            );
            0
        }
        Node::Branch(children) => {
            let firsts = children.iter().skip(1).map(|child| u32::from(child.first));
            let bounds: Vec<u32> = std::iter::once(low).chain(firsts).chain([high]).collect();
            assert!(bounds.is_sorted(), "children from {bounds:?}");
            let depths: Vec<usize> = children
                .iter()
                .zip(bounds.windows(2))
                .map(|(child, bounds)| check_node(&child.node, false, bounds[0], bounds[1]))
                .collect();
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
            depths[0] + 1
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn is_as_a_map_whatever_is_done(steps in prop_oneof![steps(40), steps(5_000)], sorted in any::<bool>()) {
        let (mut tree, mut model) = (Tree::default(), BTreeMap::new());
        let mut copies: Vec<(Tree<Item>, BTreeMap<u16, u32>)> = Vec::new();
        if sorted {
            model = (0..2_000).step_by(2).map(|place| (place, 0)).collect();
            tree = Tree::from_sorted(model.keys().map(|place| Item(*place, 0)));
        }
        for (at, step) in steps.iter().enumerate() {
            let value = at as u32;
            match *step {
                Step::Put(place) => {
                    let replaced = tree.put(Item(place, value)).map(|item| item.1);
                    prop_assert_eq!(replaced, model.insert(place, value));
                }
                Step::Remove(place) => {
                    let removed = tree.remove(|held| held.cmp(&place)).map(|item| item.1);
                    prop_assert_eq!(removed, model.remove(&place));
                }
                Step::Raise(place) => {
                    let found = tree.find_mut(|held| held.cmp(&place)).map(|item| { item.1 += 7; item.1 });
                    prop_assert_eq!(found, model.get_mut(&place).map(|value| { *value += 7; *value }));
                }
                Step::Copy if copies.len() < 5 => copies.push((tree.clone(), model.clone())),
                Step::Copy => {}
            }
        }
        same(&tree, &model);
        for (tree, model) in &copies {
            same(tree, model);
        }
        for place in (0..5_100).step_by(37) {
            let found = tree.find(|held| held.cmp(&place)).map(|item| item.1);
            prop_assert_eq!(found, model.get(&place).copied());
            let rest: Vec<u16> = tree.iter_from(|held| held.cmp(&place)).map(|item| item.0).collect();
            let wanted: Vec<u16> = model.range(place..).map(|(place, _)| *place).collect();
            prop_assert_eq!(rest, wanted);
        }
    }
}

/// A change to many places that lie together: it empties and fills whole leaves and branches.
#[derive(Debug, Clone)]
enum Sweep {
    /// Puts items into every so many-th place of a range.
    Put(Range<u16>, usize),
    /// Takes out what a range holds, forwards or backwards.
    Remove(Range<u16>, bool),
    /// Leaves of what a range holds only every so many-th place.
    Thin(Range<u16>, u16),
}

fn sweeps(places: u16) -> impl Strategy<Value = Vec<Sweep>> {
    let range = |longest: u16| {
        (0..places, prop_oneof![3 => 1..=40_u16, 2 => 1..=longest])
            .prop_map(move |(from, length)| from..from.saturating_add(length).min(places))
    };
    let sweep = prop_oneof![
        4 => (range(places / 8), prop_oneof![Just(1), 1..50_usize]).prop_map(|(range, by)| Sweep::Put(range, by)),
        4 => (range(places / 2), any::<bool>()).prop_map(|(range, backwards)| Sweep::Remove(range, backwards)),
        1 => (range(places / 2), 2..80_u16).prop_map(|(range, by)| Sweep::Thin(range, by)),
    ];
    prop::collection::vec(sweep, 0..40)
}

fn is_as_a_map_after(sorted: u16, sweeps: &[Sweep]) {
    let mut model: BTreeMap<u16, u32> = (0..sorted).map(|place| (place, 0)).collect();
    let mut tree = Tree::from_sorted((0..sorted).map(|place| Item(place, 0)));
    check(&tree);
    for (at, sweep) in (1..).zip(sweeps) {
        let before = (tree.clone(), model.clone());
        match sweep.clone() {
            Sweep::Put(range, by) => {
                for place in range.step_by(by) {
                    let replaced = tree.put(Item(place, at)).map(|item| item.1);
                    assert_eq!(replaced, model.insert(place, at), "putting {place}");
                }
            }
            Sweep::Remove(range, backwards) => {
                let mut places: Vec<u16> = range.collect();
                if backwards {
                    places.reverse();
                }
                take_out(&mut tree, &mut model, places);
            }
            Sweep::Thin(range, by) => {
                take_out(&mut tree, &mut model, range.filter(|place| place % by != 0));
            }
        }
        same(&tree, &model);
        same(&before.0, &before.1);
        for place in (0..sorted).step_by(usize::from(sorted / 50).max(1)) {
            let held = |held: &u16| held.cmp(&place);
            assert_eq!(
                tree.find(held).map(|item| item.1),
                model.get(&place).copied(),
                "finding {place}"
            );
            let rest: Vec<u16> = tree.iter_from(held).take(40).map(|item| item.0).collect();
            let wanted: Vec<u16> = model.range(place..).take(40).map(|(place, _)| *place).collect();
            assert_eq!(rest, wanted, "from {place} on");
        }
    }
    // Every one that is there can be found and taken out.
    let places: Vec<u16> = model.keys().copied().collect();
    take_out(&mut tree, &mut model, places);
    same(&tree, &model);
}

fn take_out(tree: &mut Tree<Item>, model: &mut BTreeMap<u16, u32>, places: impl IntoIterator<Item = u16>) {
    for place in places {
        let removed = tree.remove(|held| held.cmp(&place)).map(|item| item.1);
        assert_eq!(removed, model.remove(&place), "taking {place} out");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn is_as_a_map_when_ranges_come_and_go(sweeps in sweeps(5_000)) {
        is_as_a_map_after(5_000, &sweeps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// Of leaves below three levels of branches.
    #[test]
    fn is_as_a_map_when_ranges_of_a_deep_tree_come_and_go(sweeps in sweeps(40_000)) {
        is_as_a_map_after(40_000, &sweeps);
    }
}

#[test]
fn joined_branches_keep_what_was_put_before_the_first_leaf_of_the_second() {
    let mut tree = Tree::from_sorted((0..2_048).map(|place| Item(place, 0)));
    let take = |tree: &mut Tree<Item>, places: Range<u16>| {
        for place in places {
            assert!(
                tree.remove(|held| held.cmp(&place)).is_some(),
                "taking {place} out"
            );
        }
    };
    // The first leaf of the second branch goes, and the next one takes in what lies before its own `first`.
    take(&mut tree, 1_024..1_056);
    tree.put(Item(1_030, 1));
    // Both branches become small enough to be joined.
    take(&mut tree, 1_100..2_048);
    take(&mut tree, 0..800);
    check(&tree);
    assert_eq!(tree.find(|held| held.cmp(&1_030)).map(|item| item.1), Some(1));
    assert_eq!(
        tree.iter_from(|held| held.cmp(&1_024)).next(),
        Some(&Item(1_030, 1))
    );
    assert_eq!(tree.put(Item(1_030, 2)), Some(Item(1_030, 1)));
}

#[test]
fn a_walk_starts_at_the_first_of_several_that_compare_as_equal() {
    let tree = Tree::from_sorted((0..5_000).map(|place| Item(place, 0)));
    for (hundred, from) in (0..50).zip((0..).step_by(100)) {
        let first = tree.iter_from(|held| (held / 100).cmp(&hundred)).next();
        assert_eq!(first.map(|item| item.0), Some(from));
    }
}

#[test]
fn a_write_to_a_copy_leaves_nearly_all_nodes_shared() {
    let tree = Tree::from_sorted((0..10_000).map(|place| Item(place, 0)));
    let mut copy = tree.clone();
    copy.put(Item(4_321, 1));
    let (Node::Branch(before), Node::Branch(after)) = (&*tree.root, &*copy.root) else {
        panic!("ten thousand items fit no leaf");
    };
    let copied = before
        .iter()
        .zip(after)
        .filter(|(before, after)| !Arc::ptr_eq(&before.node, &after.node));
    assert_eq!(copied.count(), 1);
}

#[test]
fn what_is_put_in_order_fills_its_nodes() {
    let mut tree = Tree::default();
    for place in 0..10_000 {
        tree.put(Item(place, 0));
    }
    let mut leaves = 0;
    let mut nodes = vec![Arc::clone(&tree.root)];
    while let Some(node) = nodes.pop() {
        match &*node {
            Node::Leaf(_) => leaves += 1,
            Node::Branch(children) => nodes.extend(children.iter().map(|child| Arc::clone(&child.node))),
        }
    }
    assert_eq!(leaves, 10_000_usize.div_ceil(MOST));
}

#[test]
fn all_can_be_removed_again() {
    for backwards in [false, true] {
        let mut tree = Tree::from_sorted((0..5_000).map(|place| Item(place, 0)));
        let places: Vec<u16> = match backwards {
            true => (0..5_000).rev().collect(),
            false => (0..5_000).collect(),
        };
        for place in places {
            assert!(tree.remove(|held| held.cmp(&place)).is_some());
            check(&tree);
        }
        assert!(tree.is_empty());
        assert!(tree.iter().next().is_none());
    }
}
