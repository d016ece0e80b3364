//! Log levels as `observability.logging.level` writes them: a level, or levels for targets.

use tracing::level_filters::LevelFilter;

/// What `info,inferadb::http=debug` says: a level for everything, and levels for some targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLevels {
    /// The level of every target that is not named.
    pub default: LevelFilter,
    /// Levels by target; a target stands for every target that begins with it.
    pub targets: Vec<(String, LevelFilter)>,
}

impl LogLevels {
    /// Reads a comma-separated list of `LEVEL` (at most one) and `TARGET=LEVEL`; without a lone level it is `info`.
    ///
    /// `None` if the text is anything else. A lone word that is no level is refused, not taken for a target: a
    /// misspelt level must not switch a log off.
    pub fn parse(text: &str) -> Option<Self> {
        let mut default = None;
        let mut targets = Vec::new();
        for directive in text.split(',') {
            match directive.split_once('=') {
                None if default.is_none() => default = Some(level(directive)?),
                None => return None,
                Some((target, word)) => {
                    let target = target.trim();
                    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-' | '.');
                    if target.is_empty() || !target.chars().all(fits) {
                        return None;
                    }
                    targets.push((target.to_owned(), level(word)?));
                }
            }
        }
        Some(Self {
            default: default.unwrap_or(LevelFilter::INFO),
            targets,
        })
    }
}

fn level(word: &str) -> Option<LevelFilter> {
    match word.trim().to_ascii_lowercase().as_str() {
        "off" => Some(LevelFilter::OFF),
        "error" => Some(LevelFilter::ERROR),
        "warn" => Some(LevelFilter::WARN),
        "info" => Some(LevelFilter::INFO),
        "debug" => Some(LevelFilter::DEBUG),
        "trace" => Some(LevelFilter::TRACE),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_and_levels_for_targets() {
        assert_eq!(
            LogLevels::parse("warn, inferadb::http=DEBUG,h2=off"),
            Some(LogLevels {
                default: LevelFilter::WARN,
                targets: vec![
                    ("inferadb::http".to_owned(), LevelFilter::DEBUG),
                    ("h2".to_owned(), LevelFilter::OFF)
                ],
            })
        );
        assert_eq!(
            LogLevels::parse("inferadb=trace").map(|l| l.default),
            Some(LevelFilter::INFO)
        );
    }

    #[test]
    fn what_is_no_level_is_refused() {
        for text in [
            "",
            "verbose",
            "info,debug",
            "info,",
            "a=b",
            "=info",
            "a b=info",
            "info=",
            "a[span]=info",
        ] {
            assert_eq!(LogLevels::parse(text), None, "{text:?}");
        }
    }
}
