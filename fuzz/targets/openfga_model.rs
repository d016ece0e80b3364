//! OpenFGA models, in all their forms: any text compiles or is refused with places that lie within it; what compiles
//! does not differ from itself, and what is printed of it is native text that compiles and is printed as the same.
#![no_main]

use inferadb_engine::schema::{Format, SchemaDiff, print};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|source: &str| {
    let compiled = match Format::OpenFga.compile(source) {
        Ok(compiled) => compiled,
        Err(errors) => {
            assert!(!errors.is_empty());
            let lines = source.lines().count() as u32 + 1;
            for error in errors {
                assert!(error.column >= 1, "{error:?}");
                // The lines of a module are its own, and written with escapes in the source.
                assert!(
                    error.file.is_some() || (1..=lines).contains(&error.line),
                    "{error:?}"
                );
            }
            return;
        }
    };
    let diff = SchemaDiff::between(&compiled.schema, &compiled.schema);
    assert!(diff.is_empty() && diff.affected.is_empty(), "{diff:?}");
    match print(&compiled.schema) {
        Ok(printed) => {
            let native = Format::Native
                .compile(&printed.text)
                .expect("what is printed compiles");
            let again = print(&native.schema).expect("a native schema is printed in its own language");
            assert!(again.splits.is_empty(), "{:?}", again.splits);
            // Comments are trimmed on the way in, and only then.
            let native = Format::Native
                .compile(&again.text)
                .expect("what is printed compiles");
            assert_eq!(print(&native.schema).map(|printed| printed.text), Ok(again.text));
        }
        Err(reasons) => assert!(!reasons.is_empty()),
    }
});
