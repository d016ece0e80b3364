//! Pauses in long work: a thread that does such work can be told what to do now and then, such as letting others have its core.
//!
//! What takes long here, and is not cut into steps by its caller, is compiling a schema.

use std::cell::Cell;

/// So many small pieces of work are done between two pauses: a few microseconds' worth.
const PIECES: u32 = 32;

thread_local! {
    static PAUSE: Cell<Option<fn()>> = const { Cell::new(None) };
    static PIECES_DONE: Cell<u32> = const { Cell::new(0) };
}

/// Has the calling thread do `pause` every few microseconds of long work, from now on.
pub fn with(pause: fn()) {
    PAUSE.set(Some(pause));
}

/// To be called before a piece of long work that is not small.
pub(crate) fn now() {
    if let Some(pause) = PAUSE.get() {
        pause();
    }
}

/// To be called at each small piece of long work.
pub(crate) fn at_piece() {
    let done = PIECES_DONE.get() + 1;
    PIECES_DONE.set(done % PIECES);
    if done == PIECES {
        now();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use crate::schema::Format;

    thread_local! {
        static PAUSES: Cell<u32> = const { Cell::new(0) };
    }

    /// How often compiling a text pauses.
    fn pauses(format: Format, text: &str) -> u32 {
        super::with(|| PAUSES.set(PAUSES.get() + 1));
        PAUSES.set(0);
        format.compile(text).unwrap();
        PAUSES.get()
    }

    #[test]
    fn compiling_pauses_as_often_as_the_text_is_long() {
        let native = |count: usize| {
            let definition = |number| {
                format!("definition d{number} {{ relation a: d{number}\n permission b = a + a->b\n }}\n")
            };
            (0..count).map(definition).collect::<String>()
        };
        let model = |count: usize| {
            let kind =
                |number| format!("type t{number}\n  relations\n    define a: [t{number}]\n    define b: a\n");
            let types: String = (0..count).map(kind).collect();
            format!("model\n  schema 1.1\n{types}")
        };
        let json = |count: usize| {
            let kind = |number| {
                format!(
                    r#"{{"type":"t{number}","relations":{{"a":{{"this":{{}}}}}},"metadata":{{"relations":{{"a":{{"directly_related_user_types":[{{"type":"t{number}"}}]}}}}}}}}"#
                )
            };
            let types: Vec<String> = (0..count).map(kind).collect();
            format!(
                r#"{{"schema_version":"1.1","type_definitions":[{}]}}"#,
                types.join(",")
            )
        };
        for (format, of_size) in [
            (Format::Native, &native as &dyn Fn(usize) -> String),
            (Format::OpenFga, &model),
            (Format::OpenFga, &json),
        ] {
            let (some, more) = (pauses(format, &of_size(50)), pauses(format, &of_size(500)));
            assert!(some > 20 && more > 8 * some, "{some} and {more}");
        }
    }
}
