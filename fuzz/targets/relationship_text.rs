//! Relationships and questions as text: what is read is written and read again as the same.
#![no_main]

use inferadb::notation::{parse_check, parse_relationship};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(relationship) = parse_relationship(text) {
        let key = relationship.key();
        // An id that ends with a bracket reads as one with terms.
        if !key.subject.id.as_str().ends_with(']') {
            let again = parse_relationship(&key.to_string())
                .expect("what was read is written so that it can be read");
            assert_eq!(again.key(), key);
        }
    }
    if let Ok(check) = parse_check(text) {
        let written = format!("{}#{}@{}", check.resource, check.permission, check.subject);
        let again = parse_check(&written).expect("what was read is written so that it can be read");
        assert_eq!((again.resource, again.subject), (check.resource, check.subject));
    }
});
