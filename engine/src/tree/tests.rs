//! Trees beside `BTreeMap`s: the same after any sequence of changes, and copies left as they were.

use std::collections::BTreeMap;

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
    check(&tree.root, true);
}

/// That no node is larger or emptier than it may be, and that all leaves are equally deep; answers how deep.
fn check(node: &Node<Item>, is_root: bool) -> usize {
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
            0
        }
        Node::Branch(children) => {
            let depths: Vec<usize> = children.iter().map(|child| check(&child.node, false)).collect();
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
            check(&tree.root, true);
        }
        assert!(tree.is_empty());
        assert!(tree.iter().next().is_none());
    }
}
