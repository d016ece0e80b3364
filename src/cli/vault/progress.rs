//! How far a transfer is: a bar on standard error with rate and time left, if that is a terminal.

use std::fmt;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often the bar is drawn, in hertz.
const HERTZ: u8 = 8;
/// Bars whose end is known, and bars whose end is not.
const RELATIONSHIPS: [&str; 2] = [
    "{elapsed_precise} [{bar:30}] {human_pos} of {human_len} relationships, {rate}, {eta} left",
    "{elapsed_precise} {spinner} {human_pos} relationships, {rate}",
];
const BYTES: [&str; 2] = [
    "{elapsed_precise} [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left{msg}",
    "{elapsed_precise} {spinner} {bytes}, {bytes_per_sec}{msg}",
];

/// A bar over so many relationships; how many is not always known.
pub(super) fn over_relationships(all: Option<u64>) -> ProgressBar {
    bar(all, RELATIONSHIPS)
}

/// A bar over the bytes of a file; how many is not always known.
pub(super) fn over_bytes(all: Option<u64>) -> ProgressBar {
    bar(all, BYTES)
}

fn bar(all: Option<u64>, [known, unknown]: [&str; 2]) -> ProgressBar {
    // Draws nothing where standard error is no terminal.
    let bar = ProgressBar::with_draw_target(all, ProgressDrawTarget::stderr_with_hz(HERTZ));
    let template = if all.is_some() { known } else { unknown };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.with_key("rate", rate));
    }
    bar
}

/// How many a second, as a person reads it.
fn rate(state: &ProgressState, text: &mut dyn fmt::Write) {
    // A string takes everything.
    let _ = write!(text, "{:.0} a second", state.per_sec());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_sound() {
        for template in RELATIONSHIPS.into_iter().chain(BYTES) {
            ProgressStyle::with_template(template).unwrap();
        }
        for all in [None, Some(3)] {
            over_relationships(all).inc(1);
            over_bytes(all).inc(1);
        }
    }
}
