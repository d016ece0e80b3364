//! A vault's own limits: which there are, what they may be, and how they override the configured ones.

use serde_json::{Map, Value};

use crate::error::VaultError;
use crate::settings::Limits;

/// A limit that a vault may override: its name and the values it may take.
struct Overridable {
    name: &'static str,
    least: u64,
    most: u64,
    set: fn(&mut Limits, u64),
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const OVERRIDABLE: [Overridable; 7] = [
    Overridable {
        name: "max_depth",
        least: 1,
        most: 1_000,
        set: |limits, value| limits.max_depth = narrow(value),
    },
    Overridable {
        name: "max_work",
        least: 1,
        most: 1_000_000_000,
        set: |limits, value| limits.max_work = value,
    },
    Overridable {
        name: "checks_per_second",
        least: 0,
        most: 10_000_000,
        set: |limits, value| limits.checks_per_second = narrow(value),
    },
    Overridable {
        name: "writes_per_second",
        least: 0,
        most: 10_000_000,
        set: |limits, value| limits.writes_per_second = narrow(value),
    },
    Overridable {
        name: "max_watches",
        least: 0,
        most: 100_000,
        set: |limits, value| limits.max_watches = narrow(value),
    },
    Overridable {
        name: "max_concurrent_requests",
        least: 1,
        most: 1_000_000,
        set: |limits, value| limits.max_concurrent_requests = narrow(value),
    },
    Overridable {
        name: "mailbox_capacity",
        least: 1,
        most: 1_000_000,
        set: |limits, value| limits.mailbox_capacity = narrow(value),
    },
];

/// The limits of a vault whose record overrides some of the `defaults`.
pub fn overridden(defaults: Limits, overrides: Option<&Map<String, Value>>) -> Limits {
    let mut limits = defaults;
    let Some(overrides) = overrides else { return limits };
    for limit in &OVERRIDABLE {
        if let Some(value) = overrides.get(limit.name).and_then(Value::as_u64) {
            (limit.set)(&mut limits, value);
        }
    }
    limits
}

/// Applies the members of `patch` to a vault's overrides; a `null` takes one back. Refuses unknown limits and values
/// out of range, naming them.
pub fn patch(overrides: &mut Map<String, Value>, patch: &Map<String, Value>) -> Result<(), VaultError> {
    for (name, value) in patch {
        let field = format!("limits.{name}");
        let Some(limit) = OVERRIDABLE.iter().find(|limit| limit.name == name) else {
            let known: Vec<String> = OVERRIDABLE
                .iter()
                .map(|limit| format!("`{}`", limit.name))
                .collect();
            let message = format!(
                "unknown limit `{name}`; a vault's limits are {}",
                known.join(", ")
            );
            return Err(VaultError::Invalid {
                code: "unknown_field",
                field,
                message,
            });
        };
        if value.is_null() {
            overrides.remove(name);
            continue;
        }
        match value.as_u64() {
            Some(number) if (limit.least..=limit.most).contains(&number) => {
                overrides.insert(name.clone(), value.clone());
            }
            _ => {
                let message = format!(
                    "`{name}` must be a whole number from {} to {}, or null for the configured default",
                    limit.least, limit.most
                );
                return Err(VaultError::Invalid {
                    code: "invalid_value",
                    field,
                    message,
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_sets_and_takes_back() {
        let mut overrides = Map::new();
        let object = |value: Value| value.as_object().unwrap().clone();
        patch(
            &mut overrides,
            &object(json!({"max_depth": 7, "checks_per_second": 0})),
        )
        .unwrap();
        assert_eq!(overridden(Limits::default(), Some(&overrides)).max_depth, 7);
        patch(&mut overrides, &object(json!({"max_depth": null}))).unwrap();
        assert_eq!(overridden(Limits::default(), Some(&overrides)), Limits::default());
        for bad in [
            json!({"depth": 1}),
            json!({"max_depth": 0}),
            json!({"max_work": "9"}),
            json!({"max_depth": 1.5}),
        ] {
            assert!(patch(&mut overrides, &object(bad.clone())).is_err(), "{bad}");
        }
    }
}
