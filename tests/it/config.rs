//! The configuration as operators meet it: what they write, and what they are told.

use connector_api::{BuildContext, Connector, ConnectorKind, Error, Registration, SecretRef};
use expect_test::Expect;
use schemars::JsonSchema;
use serde::Deserialize;
use switchboard::config::{Config, ConfigErrors, Flag, Sources, load};

// Both are in the binary or neither is: the words differ without.
#[cfg(all(feature = "kafka", feature = "postgres"))]
mod cluster;
mod files;
mod layers;
mod mistakes;

/// Keys of every kind that connectors have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde and schemars only")]
struct Settings {
    host: String,
    port: Option<u16>,
    #[serde(default)]
    tls: Tls,
    secret: Option<SecretRef>,
    #[serde(default)]
    secrets: Vec<SecretRef>,
    #[serde(default)]
    idle: bool,
    login: Option<Login>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Tls {
    /// From the first byte.
    #[default]
    Implicit,
    /// After a command.
    Starttls,
}

#[derive(Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "lowercase", deny_unknown_fields)]
#[expect(dead_code, reason = "read by serde and schemars only")]
enum Login {
    Password { user: String, password: SecretRef },
    Oauth { client: String, token: SecretRef },
}

struct Pigeon;

impl ConnectorKind for Pigeon {
    const KIND: &'static str = "pigeon";
    const EXAMPLE: &'static str = "host = \"loft.example\"";
    type Config = Settings;

    fn build(_: Settings, _: BuildContext) -> connector_api::Result<Box<dyn Connector>> {
        Err(Error::config("pigeons are not built here"))
    }
}

struct Kite;

impl ConnectorKind for Kite {
    const KIND: &'static str = "webhook";
    const EXAMPLE: &'static str = "";
    type Config = Empty;

    fn build(_: Empty, _: BuildContext) -> connector_api::Result<Box<dyn Connector>> {
        Err(Error::config("kites are not built here"))
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Empty {}

const CONNECTORS: &[Registration] = &[Registration::of::<Pigeon>(), Registration::of::<Kite>()];

fn load_text(text: &str, env: &[(&str, &str)], flags: &[Flag]) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("switchboard.toml");
    std::fs::write(&file, text).expect("the folder was just made");
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sources = Sources {
        file: Some(file),
        env: env.collect(),
        flags: flags.to_vec(),
    };
    load(&sources, CONNECTORS)
}

/// Compares everything said about a configuration; paths are shortened to the file's name.
fn check_all(text: &str, env: &[(&str, &str)], flags: &[Flag], expected: Expect) {
    let said = match load_text(text, env, flags) {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(errors) => errors.to_string(),
    };
    let lines: Vec<&str> = said
        .lines()
        .map(|line| {
            line.split_once("/switchboard.toml")
                .map_or(line, |(_, rest)| rest)
        })
        .collect();
    expected.assert_eq(&lines.join("\n"));
}

fn check(text: &str, expected: Expect) {
    check_all(text, &[], &[], expected);
}
