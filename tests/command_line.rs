//! The command line from outside: exit codes, the one line on standard error, closed pipes.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot start its subject has failed"
)]

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn inferadb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inferadb"));
    command
        .args(arguments)
        .env_clear()
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null());
    command
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
    told(
        inferadb(arguments)
            .envs(variables.iter().copied())
            .output()
            .unwrap(),
    )
}

fn told(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn written(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_good_configuration_is_summed_up() {
    let keys = ("INFERADB__AUTH__JWKS_URL", "https://keys.example.com/");
    let (code, out, err) = run(&["config", "check", "--config", "config/inferadb.yaml"], &[keys]);
    assert_eq!(
        (code, out.as_str(), err.as_str()),
        (
            0,
            "config/inferadb.yaml: ok: serves 127.0.0.1:8080, metrics on 127.0.0.1:9090, storage embedded, tokens required\n",
            ""
        )
    );
}

#[test]
fn a_backend_that_is_not_built_in_is_a_warning() {
    let (code, out, err) = run(&["config", "check", "--config", "config/multi-tenant.yaml"], &[]);
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("storage foundationdb"), "{out}");
    let warned = err.starts_with("warning: storage.backend: this build has no FoundationDB client");
    assert_eq!(warned, !cfg!(feature = "foundationdb"), "{err}");
}

#[test]
fn a_bad_configuration_is_one_line_and_verbose_tells_more() {
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "c.yaml", "server:\n  prot: 1\n");
    for command in [&["config", "check"][..], &["serve"]] {
        let arguments = [command, &["--config", &path]].concat();
        let (code, out, err) = run(&arguments, &[]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert_eq!(
            err,
            format!("error: {path}:2: unknown key `server.prot`, did you mean `server.port`?\n")
        );
    }
    let (code, _, err) = run(&["config", "check", "--config", "absent.yaml", "--verbose"], &[]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("error: absent.yaml: cannot be read: ") && err.contains("\n  caused by: "),
        "{err}"
    );

    let (code, _, err) = run(&["config", "check"], &[("INFERADB__SERVER__PORT", "eighty")]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("error: environment variable INFERADB__SERVER__PORT: server.port: `eighty` "),
        "{err}"
    );
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn schemas_are_validated_with_places() {
    let directory = tempfile::tempdir().unwrap();
    let good = written(
        directory.path(),
        "good.zed",
        "definition user {}\ndefinition document {\n  relation viewer: user\n  permission view = viewer\n}\n",
    );
    let bad = written(
        directory.path(),
        "bad.zed",
        "definition document {\n  relation viewer: nobody\n}\n",
    );
    let (code, out, err) = run(&["schema", "validate", &good], &[]);
    assert_eq!(
        (code, out, err),
        (0, format!("{good}: ok: 2 types\n"), String::new())
    );

    let (code, out, err) = run(&["schema", "validate", &good, &bad], &[]);
    assert_eq!((code, out), (1, format!("{good}: ok: 2 types\n")));
    assert!(err.starts_with(&format!("{bad}:2:20: ")), "{err}");
    assert!(err.ends_with("error: 1 of 2 schemas does not compile\n"), "{err}");

    let (code, _, err) = run(&["schema", "validate", "absent.zed"], &[]);
    assert_eq!(code, 1);
    assert!(err.starts_with("error: absent.zed: cannot be read: "), "{err}");

    let mut child = inferadb(&["schema", "validate", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"definition user {")
        .unwrap();
    let (code, _, err) = told(child.wait_with_output().unwrap());
    assert_eq!(code, 1);
    assert!(err.starts_with("<stdin>:1:"), "{err}");
}

#[test]
fn mistakes_are_2_and_questions_are_0() {
    for mistake in [
        &[][..],
        &["no-such-thing"],
        &["serve", "--port"],
        &["schema", "validate"],
    ] {
        let (code, out, err) = run(mistake, &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{mistake:?}");
        assert!(!err.is_empty());
    }
    for question in ["--help", "--version"] {
        let (code, out, err) = run(&[question], &[]);
        assert_eq!((code, err.as_str()), (0, ""), "{question}");
        assert!(
            out.contains("inferadb") || out.contains("authorization server"),
            "{out}"
        );
    }
    let (_, version, _) = run(&["--version"], &[]);
    assert_eq!(version, format!("inferadb {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_the_commands_and_a_closed_pipe_is_no_failure() {
    for shell in ["bash", "zsh", "fish"] {
        let (code, out, _) = run(&["completions", shell], &[]);
        assert_eq!(code, 0);
        assert!(out.contains("validate") && out.contains("completions"), "{shell}");
    }
    let mut child = inferadb(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(err, "");
}

const MODEL: &str = "model
  schema 1.1
type user
type folder
  relations
    define viewer: [user]
type document
  relations
    define parent: [folder]
    define owner: [user]
    define viewer: [user, user:*] or owner or viewer from parent
";

#[test]
fn openfga_models_are_validated_by_their_extension() {
    let directory = tempfile::tempdir().unwrap();
    let model = written(directory.path(), "model.fga", MODEL);
    let plain = written(directory.path(), "model.txt", MODEL);
    let bad = written(
        directory.path(),
        "bad.json",
        "{\"schema_version\": \"1.1\",\n \"types\": []}",
    );
    let (code, out, err) = run(&["schema", "validate", &model], &[]);
    assert_eq!(
        (code, out, err),
        (0, format!("{model}: ok: 3 types\n"), String::new())
    );
    let (code, out, _) = run(&["schema", "validate", "--format", "openfga", &plain], &[]);
    assert_eq!((code, out), (0, format!("{plain}: ok: 3 types\n")));
    assert_eq!(run(&["schema", "validate", &plain], &[]).0, 1);
    let (code, _, err) = run(&["schema", "validate", &bad], &[]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with(&format!("{bad}:2:2: there is no member `types` here")),
        "{err}"
    );
}

#[test]
fn modules_are_one_model() {
    let directory = tempfile::tempdir().unwrap();
    let core = written(directory.path(), "core.fga", "module core\ntype user\ntype org\n");
    let wiki = written(
        directory.path(),
        "wiki.fga",
        "module wiki\nextend type org\n  relations\n    define admin: [user]\n",
    );
    let list = written(
        directory.path(),
        "fga.mod",
        "schema: '1.2'\ncontents:\n  - core.fga\n  - wiki.fga\n",
    );
    let (code, out, err) = run(&["schema", "validate", &core, &wiki], &[]);
    assert_eq!(
        (code, out, err),
        (0, "the modules: ok: 2 types\n".to_owned(), String::new())
    );
    let (code, out, err) = run(&["schema", "validate", &list], &[]);
    assert_eq!(
        (code, out, err),
        (0, format!("{list}: ok: 2 types\n"), String::new())
    );
    let (code, _, err) = run(&["schema", "validate", &wiki], &[]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with(&format!("{wiki}:2:13: there is no type `org`")),
        "{err}"
    );
    let broken = written(
        directory.path(),
        "broken.mod",
        "schema: '1.2'\ncontents: [absent.fga]\n",
    );
    let (code, _, err) = run(&["schema", "validate", &broken], &[]);
    assert_eq!(code, 1);
    assert!(err.contains("absent.fga: cannot be read"), "{err}");
    let broken = written(directory.path(), "other.mod", "schema: '1.2'\n");
    let (code, _, err) = run(&["schema", "validate", &broken], &[]);
    assert_eq!(code, 1);
    assert!(err.contains("missing field `contents`"), "{err}");
}

#[test]
fn a_model_is_converted_where_it_can_be() {
    let directory = tempfile::tempdir().unwrap();
    let model = written(directory.path(), "model.fga", MODEL);
    let (code, native, err) = run(&["schema", "convert", &model], &[]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(
        native,
        "definition user {}

definition folder {
    relation viewer: user
}

definition document {
    relation parent: folder
    relation owner: user
    // What is related directly as `viewer` is written here.
    relation direct_viewer: user | user:*
    permission viewer = direct_viewer + owner + parent->viewer
}
"
    );
    assert_eq!(
        err,
        format!(
            "{model}: note: relationships of `document#viewer` are to be written to `document#direct_viewer`; checks \
             ask for `viewer` as before\n"
        )
    );
    let converted = written(directory.path(), "model.zed", &native);
    assert_eq!(run(&["schema", "validate", &converted], &[]).0, 0);
    let odd = written(
        directory.path(),
        "odd.fga",
        &MODEL
            .replace("owner", "the-owner")
            .replace("folder", "permission"),
    );
    let (code, out, err) = run(&["schema", "convert", &odd], &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains(
            "relation `document#the-owner` has no native equivalent: a name there holds only letters"
        ) && err.contains("type `permission` has no native equivalent: `permission` is a keyword there")
            && err.ends_with("cannot be converted: 2 of its parts have no native equivalent\n"),
        "{err}"
    );
    let bad = written(directory.path(), "bad.fga", "model\n  schema 1.1\ntype");
    let (code, out, err) = run(&["schema", "convert", &bad], &[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with(&format!("{bad}:3:5: ")), "{err}");
    let (code, _, err) = run(&["schema", "convert", &model, &odd], &[]);
    assert_eq!(code, 1);
    assert!(err.contains("one schema is converted at a time"), "{err}");
}
