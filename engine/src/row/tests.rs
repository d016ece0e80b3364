//! Rows of any width beside sorted vectors.

use proptest::prelude::*;

use super::*;

fn id(number: u16) -> ObjectId {
    ObjectId::parse(&format!("u{number:05}")).unwrap()
}

fn entry(number: u16, marked: bool) -> Entry {
    let terms = marked.then(|| {
        Arc::new(Terms {
            caveat: None,
            expires_at: Some(Timestamp(i64::from(number))),
        })
    });
    Entry {
        subject: id(number),
        terms,
    }
}

fn check(row: &Row, model: &[Entry]) {
    assert_eq!(row.len(), model.len());
    assert_eq!(row.is_empty(), model.is_empty());
    assert!(row.entries().eq(model));
    assert_eq!(*row, Row::new(model.to_vec()), "equal however it came to be");
    for number in (0..600).step_by(29) {
        let held = model.iter().find(|entry| entry.subject == id(number));
        assert_eq!(row.find(&id(number)), held);
        for start in [
            Bound::Included(id(number)),
            Bound::Excluded(id(number)),
            Bound::Unbounded,
        ] {
            let bounds = (start.as_ref(), Bound::Unbounded);
            let beyond = model
                .iter()
                .filter(|entry| std::ops::RangeBounds::contains(&bounds, &entry.subject));
            assert!(row.entries_from(&start).eq(beyond));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(80))]

    #[test]
    fn a_row_is_as_a_sorted_vector(
        start in prop::collection::vec(0u16..600, 0..200),
        steps in prop::collection::vec((0u16..600, 0u8..5), 0..400),
        down in any::<bool>(),
    ) {
        let mut row = Row::new(start.iter().map(|number| entry(*number, false)).collect());
        let mut model: Vec<Entry> = row.entries().cloned().collect();
        let mut copies = Vec::new();
        for (number, what) in steps {
            let at = model.binary_search_by(|held| held.subject.cmp(&id(number)));
            let adds = if down { what == 0 } else { what > 1 };
            match (adds, at) {
                (true, Ok(at)) => {
                    let before = std::mem::replace(&mut model[at], entry(number, true));
                    prop_assert_eq!(row.put(entry(number, true)), Some(before));
                }
                (true, Err(at)) => {
                    model.insert(at, entry(number, false));
                    prop_assert_eq!(row.put(entry(number, false)), None);
                }
                (false, Ok(at)) => prop_assert_eq!(row.remove(&id(number)), Some(model.remove(at))),
                (false, Err(_)) => prop_assert_eq!(row.remove(&id(number)), None),
            }
            if number < 5 {
                copies.push((row.clone(), model.clone()));
            }
        }
        check(&row, &model);
        for (row, model) in &copies {
            check(row, model);
        }
    }
}

#[test]
fn of_two_entries_with_one_subject_the_later_one_counts() {
    let row = Row::new(vec![entry(1, false), entry(2, false), entry(1, true)]);
    assert_eq!(row.len(), 2);
    assert!(row.find(&id(1)).is_some_and(|entry| entry.terms.is_some()));
}

#[test]
fn a_row_of_one_entry_is_no_larger_than_the_entry() {
    assert_eq!(size_of::<Entry>(), 32);
    assert_eq!(size_of::<Row>(), 32);
    assert_eq!(size_of::<Option<Row>>(), 32);
}
