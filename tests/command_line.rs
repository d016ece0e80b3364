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
fn validation_reads_many_and_answers_json() {
    let directory = tempfile::tempdir().unwrap();
    let good = written(directory.path(), "good.zed", "definition user {}\n");
    let bad = written(
        directory.path(),
        "bad.zed",
        "definition d {\n  relation r: nobody\n}\n",
    );
    let (code, out, err) = run(&["schema", "validate", "--format", "json", &good, &bad], &[]);
    assert_eq!(
        (code, err.as_str()),
        (1, "error: 1 of 2 schemas does not compile\n")
    );
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        told[0],
        serde_json::json!({"file": good, "valid": true, "errors": [], "warnings": []})
    );
    assert_eq!(
        (&told[1]["valid"], &told[1]["errors"][0]["line"]),
        (&false.into(), &2.into())
    );
}

const SUITE: &str = "schema: |
  definition user {}
  definition document {
    relation viewer: user
    relation banned: user
    permission view = viewer - banned
  }
relationships: |
  document:1#viewer@user:alice
  document:1#banned@user:alice
assertions:
  assertTrue:
    - document:1#view@user:alice
  assertFalse:
    - document:1#view@user:bob
";

#[test]
fn schema_tests_pass_fail_or_cannot_be_run() {
    let directory = tempfile::tempdir().unwrap();
    let failing = written(directory.path(), "failing.yaml", SUITE);
    let passing = written(
        directory.path(),
        "passing.yaml",
        &SUITE.replace("  document:1#banned@user:alice\n", ""),
    );
    let (code, out, err) = run(&["schema", "test", &passing], &[]);
    assert_eq!(
        (code, out, err.as_str()),
        (0, format!("{passing}: 2 passed, 0 failed\n"), "")
    );
    let (code, out, err) = run(&["schema", "test", &passing, &failing], &[]);
    assert_eq!(
        (code, err.as_str()),
        (1, "error: 1 of 4 assertions does not hold\n")
    );
    assert!(
        out.contains(&format!(
            "{failing}:13:7: failed: document:1#view@user:alice\n  expected allow\n  found    deny\n"
        )),
        "{out}"
    );
    assert!(!out.contains("banned"), "{out}");
    let (_, out, _) = run(&["schema", "test", "--verbose", &failing], &[]);
    assert!(out.contains("document:1#banned@user:alice: allow"), "{out}");

    let (code, out, _) = run(&["schema", "test", "--format", "json", &passing, &failing], &[]);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &told["passed"], &told["failed"]),
        (1, &3.into(), &1.into())
    );
    assert_eq!(told["files"][1]["assertions"][0]["actual"], "deny");

    // A file of its own for the schema, read from beside the test.
    written(
        directory.path(),
        "own.zed",
        "definition user {}\ndefinition d {\n  relation r: user\n}\n",
    );
    let own =
        "schemaFile: own.zed\nrelationships: 'd:1#r@user:a'\nassertions: {assertTrue: ['d:1#r@user:a']}\n";
    let beside = written(directory.path(), "beside.yaml", own);
    assert_eq!(run(&["schema", "test", &beside], &[]).0, 0);
    for (name, text, words) in [
        (
            "outside",
            own.replace("own.zed", "../own.zed"),
            "outside.yaml:1:13: `schemaFile`",
        ),
        (
            "absent",
            own.replace("own.zed", "absent.zed"),
            "absent.yaml:1:13: `schemaFile`",
        ),
        (
            "unfit",
            own.replace("@user:a'\n", "@robot:a'\n"),
            "unfit.yaml:2:16: the relationship does not fit",
        ),
        (
            "broken",
            SUITE.replace("viewer - banned", "viewer - bannd"),
            "broken.yaml:6:32: ",
        ),
        (
            "typo",
            SUITE.replace("assertions", "asertions"),
            "typo.yaml:11:1: unknown member `asertions`",
        ),
    ] {
        let path = written(directory.path(), &format!("{name}.yaml"), &text);
        let (code, out, err) = run(&["schema", "test", &passing, &path], &[]);
        assert_eq!(
            (code, out),
            (2, format!("{passing}: 2 passed, 0 failed\n")),
            "{name}: {err}"
        );
        assert!(err.contains(words), "{name}: {err}");
        assert!(err.ends_with("error: 1 of 2 test files cannot be run\n"), "{err}");
    }
    let (code, _, err) = run(&["schema", "test", "absent.yaml"], &[]);
    assert_eq!(code, 2);
    assert!(err.starts_with("absent.yaml: cannot be read: "), "{err}");
}

#[test]
fn the_documented_test_file_passes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema-tools.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) = text.split_once("```yaml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = written(directory.path(), "example.yaml", example);
    let (code, out, err) = run(&["schema", "test", &path], &[]);
    assert_eq!(
        (code, out, err.as_str()),
        (0, format!("{path}: 6 passed, 0 failed\n"), "")
    );
}

#[test]
fn a_schema_diff_is_told_like_diff_tells() {
    let directory = tempfile::tempdir().unwrap();
    let old = "definition user {}\ndefinition d {\n  relation r: user | user:*\n  permission p = r\n}\n";
    let old_file = written(directory.path(), "old.zed", old);
    let new_file = written(directory.path(), "new.zed", &old.replace(" | user:*", ""));
    let same_file = written(
        directory.path(),
        "same.zed",
        &old.replace("user | user:*", "user:* | user"),
    );
    let stored = written(
        directory.path(),
        "stored.txt",
        "// all there is\nd:1#r@user:a\nd:1#r@user:*\n",
    );
    let (code, out, err) = run(&["schema", "diff", &old_file, &same_file], &[]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "no differences\n", ""));
    let (code, out, err) = run(
        &["schema", "diff", &old_file, &new_file, "--relationships", &stored],
        &[],
    );
    assert_eq!((code, err.as_str()), (1, ""));
    for line in [
        "  d#r: subjects no longer allowed: `user:*`\n",
        "permissions that may answer differently:\n  d#p\n",
        "relationships that would no longer fit:\n  d#r@user:*\n",
        "1 of 2 given relationships do not fit:\n  line 3: d:1#r@user:*: relation `d#r` does not allow",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    let (code, out, _) = run(
        &[
            "schema",
            "diff",
            "--format",
            "json",
            &new_file,
            &old_file,
            "--relationships",
            &stored,
        ],
        &[],
    );
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 1);
    assert_eq!(
        told["changes"],
        serde_json::json!([{"change": "subjects_widened", "at": "d#r", "old": null, "new": "user:*"}])
    );
    assert_eq!(told["relationships"]["misfits"], 0);
    let broken = written(directory.path(), "broken.zed", "definition {\n");
    for arguments in [
        &["schema", "diff", &old_file, "absent.zed"][..],
        &["schema", "diff", &old_file, &broken],
        &["schema", "diff", "-", "-"],
        &[
            "schema",
            "diff",
            &old_file,
            &new_file,
            "--relationships",
            &old_file,
        ],
        &["schema", "diff", &old_file],
    ] {
        let (code, out, err) = run(arguments, &[]);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("error: "), "{err}");
    }
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
    let (code, out, _) = run(&["schema", "validate", "--language", "openfga", &plain], &[]);
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
    let words = "other.mod:1:1: a list of modules has a member `contents`";
    assert!(err.contains(words), "{err}");
}

#[test]
fn a_store_tests_a_model_in_modules() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("models")).unwrap();
    written(
        directory.path(),
        "models/core.fga",
        "module core\ntype user\ntype org\n  relations\n    define owner: [user]\n",
    );
    let wiki = "module wiki\nextend type org\n  relations\n    define admin: [user] or owner\n";
    written(directory.path(), "models/wiki.fga", wiki);
    let list = "schema: '1.2'\ncontents:\n  - core.fga\n  - wiki.fga\n";
    written(directory.path(), "models/fga.mod", list);
    let store = "model_file: models/fga.mod
tuples:
  - {user: user:a, relation: admin, object: org:o}
  - {user: user:b, relation: owner, object: org:o}
tests:
  - check:
      - {user: user:a, object: org:o, assertions: {admin: true, owner: false}}
      - {user: user:b, object: org:o, assertions: {admin: true, owner: true}}
";
    let listed = "model_file: [models/wiki.fga, models/core.fga]";
    for (name, text) in [
        ("list.fga.yaml", store.to_owned()),
        (
            "modules.fga.yaml",
            store.replace("model_file: models/fga.mod", listed),
        ),
    ] {
        let path = written(directory.path(), name, &text);
        let (code, out, err) = run(&["schema", "test", &path], &[]);
        let told = (code, out, err.as_str());
        assert_eq!(told, (0, format!("{path}: 4 passed, 0 failed\n"), ""));
    }
    // An error is told in the module that it is in, what is wrong with the list in the list.
    written(
        directory.path(),
        "models/broken.fga",
        &wiki.replace("or owner", "or owners"),
    );
    written(
        directory.path(),
        "models/broken.mod",
        &list.replace("wiki", "broken"),
    );
    written(
        directory.path(),
        "models/absent.mod",
        &list.replace("wiki", "absent"),
    );
    written(
        directory.path(),
        "models/outside.mod",
        &list.replace("wiki.fga", "../../wiki.fga"),
    );
    written(
        directory.path(),
        "models/typo.mod",
        &list.replace("contents", "content"),
    );
    for (list, words) in [
        (
            "models/broken.mod",
            "models/broken.fga:4:29: type `org` has no relation `owners`",
        ),
        (
            "models/absent.mod",
            "models/absent.mod:1:1: `contents`: `models/absent.fga` cannot be read",
        ),
        ("models/outside.mod", "must lie in the test file's directory"),
        ("models/typo.mod", "models/typo.mod:2:1: unknown member `content`"),
        (
            "models/none.mod",
            "store.fga.yaml:1:13: `model_file`: `models/none.mod` cannot be read",
        ),
        (
            "[models/core.fga, {}]",
            "store.fga.yaml:1:31: `model_file` must be a text",
        ),
    ] {
        let text = store.replace("models/fga.mod", list);
        let path = written(directory.path(), "store.fga.yaml", &text);
        let (code, _, err) = run(&["schema", "test", &path], &[]);
        assert_eq!(code, 2, "{err}");
        assert!(err.contains(words), "{err}");
    }
}

/// What a diff says changes, and its exit code.
fn changes_between(old: &str, new: &str) -> (i32, Vec<String>) {
    let (code, out, err) = run(&["schema", "diff", "--format", "json", old, new], &[]);
    assert!(code < 2, "{err}");
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    let changes = told
        .get("changes")
        .and_then(|changes| changes.as_array())
        .unwrap()
        .iter();
    let changes = changes.map(|change| {
        let side = |side: &str| {
            change
                .get(side)
                .and_then(|text| text.as_str())
                .unwrap_or("-")
                .to_owned()
        };
        format!(
            "{} {}: {} -> {}",
            side("change"),
            side("at"),
            side("old"),
            side("new")
        )
    });
    (code, changes.collect())
}

#[test]
fn models_are_compared_in_every_form_and_with_the_native_language() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| written(directory.path(), name, text);
    let model = file("model.fga", MODEL);
    let reordered = file(
        "reordered.fga",
        &MODEL.replace("[user, user:*] or owner", "[user:*, user] or owner"),
    );
    assert_eq!(changes_between(&model, &reordered), (0, vec![]));
    let (body, documents) = MODEL.split_once("type document").unwrap();
    file("core.fga", &body.replace("model\n  schema 1.1", "module core"));
    file("docs.fga", &format!("module docs\ntype document{documents}"));
    let modules = file("fga.mod", "schema: '1.2'\ncontents: [docs.fga, core.fga]\n");
    assert_eq!(changes_between(&model, &modules), (0, vec![]));

    // The same, said in the native language.
    let plain = "model\n  schema 1.1\ntype user\ntype folder\n  relations\n    define owner: [user]
    define banned: [user with open]\n    define view: (owner or view from parent) but not banned
    define parent: [folder]\ncondition open(hour: int) {\n  hour > 8\n}\n";
    let plain = file("plain.fga", plain);
    let native = "caveat open(hour int) {\n  hour > 8\n}\ndefinition user {}\ndefinition folder {
    relation owner: user\n    relation parent: folder\n    relation banned: user with open
    permission view = (owner + parent->view) - banned\n}\n";
    let native_file = file("native.zed", native);
    assert_eq!(changes_between(&plain, &native_file), (0, vec![]));
    assert_eq!(changes_between(&native_file, &plain), (0, vec![]));
    let widened = file(
        "widened.zed",
        &native
            .replace("owner: user", "owner: user | user:*")
            .replace("hour > 8", "hour > 9")
            .replace(") - banned", ")"),
    );
    assert_eq!(
        changes_between(&plain, &widened),
        (
            1,
            vec![
                "subjects_widened folder#owner: - -> user:*".to_owned(),
                "expression_changed folder#view: (owner + parent->view) - banned -> owner + parent->view"
                    .to_owned(),
                "caveat_expression_changed open: hour > 8 -> hour > 9".to_owned(),
            ]
        )
    );

    // On standard input a model is told by how it begins; tuples are tried as relationships are.
    let tuples = "- {user: user:a, relation: viewer, object: document:1}
- {user: 'user:*', relation: viewer, object: document:2}
- {user: user:a, relation: parent, object: document:1}
";
    let narrowed = file("narrowed.fga", &MODEL.replace("[user, user:*]", "[user]"));
    for (name, tuples) in [
        ("tuples.yaml", tuples.to_owned()),
        ("store.fga.yaml", format!("tuples:\n{tuples}")),
    ] {
        let tuples = file(name, &tuples);
        let mut child = inferadb(&["schema", "diff", "-", &narrowed, "--relationships", &tuples])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(MODEL.as_bytes()).unwrap();
        drop(input);
        let (code, out, err) = told(child.wait_with_output().unwrap());
        assert_eq!(code, 1, "{err}");
        assert!(
            out.contains("document#viewer: subjects no longer allowed: `user:*`"),
            "{out}"
        );
        assert!(out.contains("2 of 3 given relationships do not fit"), "{out}");
        assert!(
            out.contains("document:1#parent@user:a: ") && out.contains("(nor did it before)"),
            "{out}"
        );
    }
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

/// Answers one request with these bytes and closes; answers the address, and the request's head once it came.
fn one_answer(bytes: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && socket.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        socket.write_all(&bytes).unwrap();
        String::from_utf8(head).unwrap()
    });
    (address, serving)
}

#[test]
fn an_export_that_is_not_whole_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("dump.json");
    let vault = "1a2b3c4d-5e6f-4a8b-9c0d-1e2f3a4b5c6d";
    let relationship = r#"{"resource":"document:1","relation":"viewer","subject":"user:a"}"#;
    let sum = "0".repeat(64);
    let chunked = |body: &str, end: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        format!("{head}{:x}\r\n{body}\r\n{end}", body.len()).into_bytes()
    };
    let half = format!("{{\"format\":\"inferadb.vault\",\"version\":1,\"relationships\":[\n{relationship}");
    for (answer, words) in [
        (chunked(&half, ""), "broke the connection off: "),
        (
            chunked(&half, "0\r\n\r\n"),
            "is not a whole vault file: the file ends before its end",
        ),
        (
            chunked(&format!("{half}],\"checksum\":\"sha256:{sum}\"}}"), "0\r\n\r\n"),
            "is not a whole vault file: the file's checksum is not that of its contents",
        ),
        (
            chunked(&format!("{half}]}}"), "0\r\n\r\n"),
            "what the server sent has no checksum",
        ),
        (
            chunked("<html>", "0\r\n\r\n"),
            "is not a whole vault file: expected `{`, found `<`",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 6\r\n\r\n<html>".to_vec(),
            "the server answered 502 and no reason",
        ),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n".to_vec(),
            "the server answered 302 and no reason",
        ),
    ] {
        let (address, serving) = one_answer(answer);
        let output = path.to_str().unwrap();
        let arguments = ["vault", "export", vault, "--output", output, "--server", &address];
        let (code, out, err) = run(&arguments, &[("INFERADB_TOKEN", "a.secret.token")]);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(
            err.starts_with("error: ") && err.contains(words) && err.lines().count() == 1,
            "{words}: {err}"
        );
        let head = serving.join().unwrap();
        assert!(
            head.starts_with(&format!("GET /v1/vaults/{vault}/export HTTP/1.1\r\n")),
            "{head}"
        );
        assert!(
            head.to_lowercase()
                .contains("authorization: bearer a.secret.token\r\n"),
            "{head}"
        );
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_server_that_is_not_there_is_said_in_one_line() {
    let vault = "1a2b3c4d-5e6f-4a8b-9c0d-1e2f3a4b5c6d";
    for (arguments, words) in [
        (
            &["export", vault, "--server", "http://127.0.0.1:1"][..],
            "http://127.0.0.1:1/: cannot be reached: ",
        ),
        (
            &["clone", vault, "x", "--server", "http://127.0.0.1:1"],
            "http://127.0.0.1:1/: cannot be reached: ",
        ),
        (
            &["import", vault, "-", "--server", "http://127.0.0.1:1"],
            "http://127.0.0.1:1/: cannot be reached: ",
        ),
        (
            &["export", vault, "--server", "ftp://127.0.0.1"],
            "--server: `ftp://127.0.0.1/` is not an http or https address",
        ),
        (
            &["export", vault, "--token-file", "Cargo.toml"],
            "the token has characters that no token has",
        ),
    ] {
        let (code, out, err) = run(&[&["vault"], arguments].concat(), &[]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(
            err.starts_with(&format!("error: {words}")) && err.lines().count() == 1,
            "{err}"
        );
    }
    for mistake in [
        &["vault"][..],
        &["vault", "export", "nonsense"],
        &["vault", "import", vault],
        &["vault", "import", vault, "x", "--mode", "overwrite"],
        &["vault", "export", vault, "--token", "secret"],
        &["vault", "clone", vault],
    ] {
        assert_eq!(run(mistake, &[]).0, 2, "{mistake:?}");
    }
}
