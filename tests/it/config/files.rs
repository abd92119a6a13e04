//! The files under `config/` say what the code does.

use switchboard::channels::builtin;
use switchboard::config;

use super::*;

const DEFAULTS: &str = include_str!("../../../config/default.toml");
const EXAMPLE: &str = include_str!("../../../config/example.toml");

/// The default configuration with its example keys (lines `#key`) taken in.
fn defaults_with_examples() -> String {
    let example = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| !rest.starts_with(' '))
            .map(str::to_owned)
    };
    Vec::from_iter(
        DEFAULTS
            .lines()
            .map(|line| example(line).unwrap_or_else(|| line.to_owned())),
    )
    .join("\n")
}

#[test]
fn the_example_loads_with_the_connectors_that_are_built_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("example.toml");
    std::fs::write(&file, EXAMPLE).unwrap();
    let sources = Sources {
        file: Some(file),
        ..Sources::default()
    };
    let config = load(&sources, &builtin()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(
        (
            config.channels.len(),
            config.queues.len(),
            config.rules.len()
        ),
        (2, 2, 1)
    );
}

#[test]
fn the_examples_of_the_built_in_connectors_load() {
    for registration in builtin() {
        let text = format!("[channels.example]\n{}", registration.example);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("example.toml");
        std::fs::write(&file, text).unwrap();
        let sources = Sources {
            file: Some(file),
            ..Sources::default()
        };
        let loaded = load(&sources, &builtin()).map_err(|errors| errors.to_string());
        assert_eq!(loaded.err(), None, "{}", registration.kind);
    }
}

#[test]
fn the_labels_of_rules_are_those_of_triage() {
    let triage = switchboard::router::triage::Labels::default();
    let mut names = Vec::from_iter(triage.iter().map(|(name, _)| name));
    names.sort_unstable();
    assert_eq!(names, config::LABELS);
}

/// `UPDATE=1 cargo test` writes the file.
#[test]
fn the_schema_file_is_what_the_types_say() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schema.json");
    let schema = serde_json::to_string_pretty(&config::schema(&builtin())).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &schema).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        written == schema,
        "config/schema.json is stale: write it with UPDATE=1 cargo test the_schema_file"
    );
}

#[test]
fn the_schema_for_editors_takes_the_examples_and_refuses_mistakes() {
    let schema = config::schema(&builtin());
    let validator = jsonschema::validator_for(&schema).unwrap();
    let said = |text: &str| {
        let table: toml::Table = toml::from_str(text).unwrap();
        let document = serde_json::to_value(table).unwrap();
        let errors = validator.iter_errors(&document);
        Vec::from_iter(errors.map(|error| error.instance_path().to_string()))
    };
    assert_eq!(said(EXAMPLE), [""; 0]);
    assert_eq!(said(DEFAULTS), [""; 0]);
    for (text, place) in [
        ("[server]\nlistn = \"x\"", "/server"),
        ("[channels.a]\nconnector = \"fax\"", "/channels/a/connector"),
        (
            "[channels.a]\nconnector = \"webhook\"\nprot = 1",
            "/channels/a",
        ),
        (
            "[channels.a]\nconnector = \"webhook\"\ntoken = \"x\"",
            "/channels/a/token",
        ),
        ("[channels.A]\nconnector = \"webhook\"", "/channels"),
        ("[queues.a]\nmode = \"push\"", "/queues/a/mode"),
    ] {
        assert_eq!(said(text), [place], "{text}");
    }
}

#[test]
fn no_key_of_a_connector_hides_one_that_every_channel_has() {
    let every_channel = ["connector", "brand", "queue", "vouches", "acknowledge"];
    for registration in builtin() {
        let schema = (registration.schema)().to_value();
        let own = schema["properties"].as_object().unwrap();
        let hidden = every_channel.iter().filter(|key| own.contains_key(**key));
        assert_eq!(hidden.count(), 0, "{}", registration.kind);
    }
}

#[test]
fn the_default_configuration_is_the_built_in_one_and_its_examples_load() {
    let built_in = load(&Sources::default(), CONNECTORS).unwrap();
    let default = Config::default();
    let written = load_text(DEFAULTS, &[], &[]).unwrap();
    for loaded in [&built_in, &written] {
        assert_eq!(loaded.server, default.server);
        assert_eq!(loaded.run, default.run);
        assert_eq!(loaded.joining, default.joining);
        assert_eq!(loaded.retention, default.retention);
        assert_eq!(loaded.log, default.log);
        assert!(loaded.channels.is_empty() && loaded.rules.is_empty());
        assert_eq!((loaded.brands.len(), loaded.queues.len()), (1, 1));
    }
    // Of the two places for files one is configured, and of the ways to say who we are. Not every build knows all.
    let is_left_out = |line: &&str| {
        let places = match cfg!(feature = "postgres") {
            true => "blobs_dir",
            false => "blobs_",
        };
        let names: &[&str] = match cfg!(feature = "kafka-secured") {
            true => &["token_", "client_", "scope"],
            false => &[
                "token_",
                "client_",
                "scope",
                "tls",
                "ca_file",
                "cert_file",
                "key_file",
                "sasl",
                "username",
                "password",
            ],
        };
        line.starts_with(places) || names.iter().any(|name| line.starts_with(name))
    };
    let examples = defaults_with_examples();
    let examples: Vec<&str> = examples.lines().filter(|line| !is_left_out(line)).collect();
    let examples = load_text(&examples.join("\n"), &[], &[]).unwrap();
    assert_eq!((examples.channels.len(), examples.rules.len()), (1, 1));
}

#[test]
fn the_default_configuration_shows_every_key_of_the_schema_with_a_comment() {
    let document: toml::Table = toml::from_str(&defaults_with_examples()).unwrap();
    let document = serde_json::to_value(document).unwrap();
    let schema = config::schema(&[]);
    let mut missing = Vec::new();
    collect_missing(&schema, &schema, &document, "", &mut missing);
    assert!(
        missing.is_empty(),
        "config/default.toml does not show {missing:?}"
    );

    let lines: Vec<&str> = DEFAULTS.lines().collect();
    for pair in lines.windows(2) {
        let [before, line] = pair else {
            unreachable!("windows of two")
        };
        let shown = line
            .strip_prefix('#')
            .filter(|rest| !rest.starts_with(' '))
            .unwrap_or(line);
        let is_key = shown.contains(" = ") && !shown.starts_with("# ");
        assert!(
            !is_key || before.starts_with("# "),
            "no comment before: {line}"
        );
    }
}

/// Walks schema and document side by side; a table of ids is represented by its first one.
fn collect_missing(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    shown: &serde_json::Value,
    path: &str,
    missing: &mut Vec<String>,
) {
    let reference = schema["$ref"]
        .as_str()
        .and_then(|target| root.pointer(target.trim_start_matches('#')));
    let schema = reference.unwrap_or(schema);
    if let Some(properties) = schema["properties"].as_object() {
        for (key, property) in properties {
            let path = format!("{path}.{key}");
            match shown.get(key) {
                Some(value) => collect_missing(root, property, value, &path, missing),
                None => missing.push(path),
            }
        }
        return;
    }
    let ids = schema["patternProperties"]
        .as_object()
        .and_then(|all| all.values().next());
    let member = ids.or(Some(&schema["additionalProperties"]).filter(|inner| inner.is_object()));
    let first = shown.as_object().and_then(|table| table.values().next());
    if let (Some(member), Some(first)) = (member.filter(|inner| inner.get("$ref").is_some()), first)
    {
        collect_missing(root, member, first, &format!("{path}.<id>"), missing);
    }
    if let (Some(items), Some(first)) = (
        schema["items"].get("$ref").map(|_| &schema["items"]),
        shown.get(0),
    ) {
        collect_missing(root, items, first, &format!("{path}[]"), missing);
    }
}
