//! The native schema language: any text compiles or is refused with places that lie within it, and what compiles does
//! not differ from itself.
#![no_main]

use inferadb_engine::schema::{SchemaDiff, compile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    match compile(source) {
        Ok(compiled) => {
            let diff = SchemaDiff::between(&compiled.schema, &compiled.schema);
            assert!(diff.is_empty() && diff.affected.is_empty(), "{diff:?}");
        }
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = source.lines().count() as u32 + 1;
            for error in errors {
                assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error:?}");
            }
        }
    }
});
