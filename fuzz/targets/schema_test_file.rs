//! Test files: any text is read, or refused at a place that lies within it.
#![no_main]

use inferadb::schema_test::{NoFiles, Unfit, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Err(Unfit::Malformed(flaw)) = parse(text, None, &NoFiles) {
        let lines = text.lines().count() as u32 + 1;
        assert!((1..=lines).contains(&flaw.place.line), "{flaw:?}");
    }
});
