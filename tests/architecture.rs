//! The rooms and their arrows: `src → actors → engine, storage`; `storage → engine`'s nouns only. What the crates'
//! dependencies cannot rule out is ruled out here.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's own helpers")]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(directory)];
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {directory}");
    found
}

/// The crates of ours that a manifest names.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest);
    let text = fs::read_to_string(path).unwrap();
    let start = text
        .find("\n[dependencies]")
        .unwrap_or_else(|| panic!("{manifest} has no dependencies"));
    let section = text[start + 1..].split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.strip_prefix("inferadb-"));
    let mut names: Vec<String> = names
        .map(|line| line.split(['.', ' ', '=']).next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn refuse(directory: &str, forbidden: &[&str]) {
    for (path, text) in sources(directory) {
        // A room's own tests may use what the room may not.
        if path.file_stem().is_some_and(|stem| stem == "tests")
            || path.components().any(|part| part.as_os_str() == "tests")
        {
            continue;
        }
        for word in forbidden {
            assert!(!text.contains(word), "{} must not use `{word}`", path.display());
        }
    }
}

#[test]
fn the_arrows_point_one_way() {
    assert!(own_dependencies("engine/Cargo.toml").is_empty());
    assert_eq!(own_dependencies("storage/Cargo.toml"), ["engine"]);
    assert_eq!(own_dependencies("actors/Cargo.toml"), ["engine", "storage"]);
    assert_eq!(
        own_dependencies("Cargo.toml"),
        ["actors", "engine"],
        "the server reaches storage through the actors"
    );
}

#[test]
fn the_engine_never_waits() {
    let forbidden = [
        "async fn",
        "tokio",
        "std::fs",
        "net::Tcp",
        "net::Udp",
        "std::time",
        "SystemTime",
        "serde",
    ];
    refuse("engine/src", &forbidden);
    // Expressions are parsed on a stack of their own, which is a thread that is waited for while it computes. No other file has threads.
    for (path, text) in sources("engine/src") {
        let is_the_stack = path.ends_with("caveat/stack.rs");
        let is_of_tests = path.components().any(|part| part.as_os_str() == "tests");
        assert!(
            is_the_stack || is_of_tests || !text.contains("std::thread"),
            "{} must not use threads",
            path.display()
        );
    }
}

#[test]
fn storage_never_decides() {
    refuse(
        "storage/src",
        &[
            "inferadb_engine::schema",
            "inferadb_engine::evaluate",
            "inferadb_engine::row",
        ],
    );
}

#[test]
fn storage_does_not_know_the_time_of_day() {
    // Servers share what is stored, and no clock: what one of them says of its own means nothing to another.
    refuse("storage/src", &["SystemTime", "UNIX_EPOCH", "chrono", "Utc::now"]);
}

#[test]
fn nothing_below_the_surface_knows_http_or_the_command_line() {
    for room in ["engine/src", "storage/src", "actors/src"] {
        refuse(room, &["actix_web", "clap"]);
    }
}
