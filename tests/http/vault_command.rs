//! `inferadb vault export | import | clone`, spoken to a server that runs.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Server, Tenant, admin_token, exported, relationship, state, token_for};

/// Runs the command with a token in the environment; answers exit code, standard output and standard error.
fn vault(server: &Server, token: &str, arguments: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let address = format!("http://127.0.0.1:{}", server.port);
    let mut child = Command::new(env!("CARGO_BIN_EXE_inferadb"))
        .arg("vault")
        .args(arguments)
        .args(["--server", &address])
        .env_clear()
        .env("INFERADB_TOKEN", token)
        .current_dir(server.directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that has seen enough takes no more.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn filled<'a>(server: &'a Server, name: &str) -> Tenant<&'a Server> {
    let tenant = Tenant::with_documents(server, name);
    let touched: Vec<Value> = (0..900)
        .map(|at| relationship(&format!("document:{at}#viewer@user:é{at}")))
        .collect();
    tenant.change(json!({ "touch": touched }));
    tenant
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_vault_goes_through_files_and_pipes() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let source = filled(&server, "source");
    let admin = admin_token();
    let run = |arguments: &[&str], stdin: &[u8]| vault(&server, &admin, arguments, stdin);
    let checksum = state(&server, &source.vault)["checksum"].clone();
    for (name, more) in [
        ("dump.json", &[][..]),
        ("dump.ndjson", &[]),
        ("json", &["--format", "json"]),
        ("lines", &["--format", "ndjson"]),
    ] {
        let arguments = [&["export", &source.vault, "--output", name], more].concat();
        assert_eq!(
            run(&arguments, b""),
            (0, format!("{name}: ok: 900 relationships\n"), String::new())
        );
        let target = Tenant::new(&server, "target");
        let (code, out, err) = run(&["import", &target.vault, name], b"");
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(
            out.starts_with(&format!(
                "{name}: ok: 900 relationships: 900 created, 0 updated, and a new schema; revision "
            )),
            "{out}"
        );
        assert_eq!(state(&server, &target.vault)["checksum"], checksum);
        let (code, out, err) = run(&["import", &target.vault, name, "--mode", "replace"], b"");
        assert_eq!(code, 0, "{err}");
        assert!(
            out.contains(": ok: 900 relationships in place of 900; revision "),
            "{out}"
        );
    }
    // Standard output has the file and nothing else; standard input takes it, of either layout.
    for (format, layout) in [("json", crate::harness::JSON), ("ndjson", crate::harness::NDJSON)] {
        let (code, out, err) = run(&["export", &source.vault, "--format", format], b"");
        assert_eq!((code, err.as_str()), (0, ""));
        assert_eq!(
            out.lines().count(),
            exported(&server, &source.vault, layout).lines().count()
        );
        let target = Tenant::new(&server, "target");
        let (code, out, err) = run(&["import", &target.vault, "-"], out.as_bytes());
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.starts_with("<stdin>: ok: 900 relationships"), "{out}");
        assert_eq!(state(&server, &target.vault)["checksum"], checksum);
    }
    let (code, out, err) = run(&["clone", &source.vault, "a copy"], b"");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(state(&server, out.trim())["checksum"], checksum);
    assert_eq!(state(&server, out.trim())["vault"]["name"], "a copy");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_cannot_be_read_is_not_taken_for_a_broken_connection() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let target = Tenant::new(&server, "target");
    // It can be opened, and every read of its beginning fails.
    let unreadable = "/proc/self/mem";
    let arguments = ["import", &target.vault, unreadable, "--format", "json"];
    let (code, out, err) = vault(&server, &admin_token(), &arguments, b"");
    assert_ne!(code, 0);
    assert!(out.is_empty() && err.lines().count() == 1, "{out}{err}");
    assert!(
        err.contains(unreadable) && err.contains("Input/output error"),
        "{err}"
    );
}

#[test]
fn what_fails_is_one_line_and_leaves_nothing() {
    let server = Server::with(json!({"storage": {"backend": "memory"}}));
    let source = filled(&server, "source");
    let admin = admin_token();
    let before = files(server.directory.path());
    let unknown = uuid::Uuid::new_v4().to_string();
    let visitor = token_for(&source.account, &source.vault, "inferadb.read");
    for (token, arguments, words) in [
        (
            &admin,
            &["export", unknown.as_str(), "--output", "x.json"][..],
            "(404 not_found, request ",
        ),
        (
            &visitor,
            &["export", &source.vault, "--output", "x.json"],
            "(403 insufficient_scope, request ",
        ),
        (
            &String::new(),
            &["export", &source.vault, "--output", "x.json"],
            "(401 missing_token, request ",
        ),
        (
            &admin,
            &["export", &source.vault, "--output", "no/such/x.json"],
            "no/such/x.json: cannot be written: ",
        ),
        (
            &admin,
            &["import", &source.vault, "absent.json"],
            "absent.json: cannot be read: ",
        ),
        (&admin, &["import", &source.vault, "."], ".: cannot be read: "),
        (&admin, &["clone", &unknown, "x"], "(404 not_found, request "),
        (
            &admin,
            &["export", &source.vault, "--token-file", "absent"],
            "absent: cannot be read: ",
        ),
    ] {
        let (code, out, err) = vault(&server, token, arguments, b"");
        assert_eq!((code, out.as_str()), (1, ""), "{arguments:?}");
        assert!(
            err.starts_with("error: ") && err.contains(words),
            "{arguments:?}: {err}"
        );
        assert_eq!(err.lines().count(), 1, "{err}");
        assert!(!err.contains(&admin[..20]), "{err}");
        assert_eq!(files(server.directory.path()), before);
    }
    let file = exported(&server, &source.vault, crate::harness::JSON);
    let revision = state(&server, &source.vault)["revision"].clone();
    for (text, words) in [
        (file.replace("user:é7\"", "user:é8\""), "<stdin>:903:1: "),
        (
            "{\"relationships\":[\n{\"resource\":\"document:1\",\"relation\":\"none\",\"subject\":\"user:a\"}]}".to_owned(),
            "<stdin>:2:1: ",
        ),
        (file[..file.len() / 2].to_owned(), "(400 truncated, request "),
        (
            "{\"schema\":\"definition {\",\"relationships\":[]}".to_owned(),
            "(422 schema_invalid, request ",
        ),
        (String::new(), "(400 malformed_json, request "),
    ] {
        let (code, out, err) = vault(
            &server,
            &admin,
            &["import", &source.vault, "-", "--mode", "replace"],
            text.as_bytes(),
        );
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(words), "{err}");
        assert_eq!(state(&server, &source.vault)["revision"], revision);
    }
    // What is wrong is said even while much more is on its way.
    let long = format!("{{\"version\":7}}\n{}", " \n".repeat(10 << 20));
    let (code, _, err) = vault(
        &server,
        &admin,
        &["import", &source.vault, "-", "--format", "ndjson"],
        long.as_bytes(),
    );
    assert_eq!(code, 1);
    assert!(
        err.contains("unsupported_version") || err.contains("broke the connection off"),
        "{err}"
    );
}

#[test]
fn tokens_come_from_files_too() {
    let server = Server::shared();
    let source = filled(&server, "token file");
    let path = server.directory.path().join("token");
    std::fs::write(&path, format!("{}\n", admin_token())).unwrap();
    let arguments = ["export", &source.vault, "--token-file", path.to_str().unwrap()];
    let (code, out, err) = vault(&server, "nonsense", &arguments, b"");
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(serde_json::from_str::<Value>(&out).is_ok());
}
