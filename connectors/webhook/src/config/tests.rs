//! What a configuration may be, and how it is refused.

use std::sync::Arc;

use connector_api::{ConnectorKind, ErrorKind};
use connector_testkit::{FixedClock, LoopbackHttp, StaticSecrets};
use serde_json::json;

use crate::{REGISTRATION, Webhook};

fn build(config: serde_json::Value) -> connector_api::Result<Box<dyn connector_api::Connector>> {
    let secrets = StaticSecrets::new([
        ("GOOD", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("RAW", "a raw secret"),
        ("EMPTY", ""),
        ("EMPTY_KEY", "whsec_"),
        ("BROKEN", "whsec_hunter2!"),
    ]);
    let context = connector_api::BuildContext::new(
        "shop-chat".parse().unwrap(),
        connector_api::BrandId::default(),
        Arc::new(FixedClock::default()),
        Arc::new(LoopbackHttp::new()),
        Arc::new(secrets),
    );
    (REGISTRATION.build)(config, context)
}

fn refused(config: serde_json::Value, expected: &str) {
    let Err(error) = build(config.clone()) else {
        panic!("{config} was accepted");
    };
    assert_eq!(error.kind, ErrorKind::Config, "{config}");
    assert!(error.message.contains(expected), "{config}: {error}");
    assert!(!error.message.contains("hunter2"), "{config}: {error}");
}

#[test]
fn nothing_is_taken_unproven() {
    refused(json!({}), "secrets or token is needed");
    refused(json!({ "secrets": [] }), "secrets or token is needed");
    refused(
        json!({ "secrets": [{ "env": "EMPTY" }] }),
        "secrets[0]: is empty",
    );
    refused(
        json!({ "secrets": [{ "env": "GOOD" }, { "env": "EMPTY_KEY" }] }),
        "secrets[1]: is empty",
    );
    refused(
        json!({ "secrets": [{ "env": "BROKEN" }] }),
        "secrets[0]: is not base64",
    );
    refused(json!({ "token": { "env": "EMPTY" } }), "token: is empty");
    let three = [
        json!({ "env": "GOOD" }),
        json!({ "env": "RAW" }),
        json!({ "env": "GOOD" }),
    ];
    refused(json!({ "secrets": three }), "at most 2");
}

#[test]
fn no_reply_leaves_unsigned_or_for_an_address_that_cannot_be() {
    let with = |key: &str, value: serde_json::Value| {
        let mut config =
            json!({ "secrets": [{ "env": "GOOD" }], "deliver_url": "https://shop.example/in" });
        config[key] = value;
        config
    };
    refused(
        json!({ "token": { "env": "RAW" }, "deliver_url": "https://shop.example" }),
        "needs deliver_secret or secrets",
    );
    refused(
        json!({ "token": { "env": "RAW" }, "deliver_secret": { "env": "RAW" } }),
        "no use without deliver_url",
    );
    refused(
        with("deliver_url", json!("shop.example/in")),
        "must start with https://",
    );
    refused(with("deliver_url", json!("https://")), "names no host");
    refused(
        with("deliver_url", json!("https://me:hunter2@shop.example")),
        "user or password",
    );
    refused(
        with("deliver_url", json!("https://shop.example/a b")),
        "spaces",
    );
    refused(with("deliver_timeout", json!("0s")), "more than 0s");
    refused(with("deliver_timeout", json!("61s")), "at most 60s");
    refused(with("deliver_timeout", json!("soon")), "duration");
    refused(
        with("deliver_secret", json!({ "env": "EMPTY" })),
        "deliver_secret: is empty",
    );
}

#[test]
fn everything_wrong_is_said_at_once() {
    let Err(error) = build(
        json!({ "secrets": [{ "env": "EMPTY" }, { "env": "ABSENT" }], "token": { "env": "EMPTY" },
        "deliver_url": "shop.example", "deliver_timeout": "0s" }),
    ) else {
        panic!("was accepted");
    };
    let places: Vec<_> = error
        .message
        .lines()
        .filter_map(|line| line.split(':').next())
        .collect();
    let expected = [
        "deliver_timeout",
        "deliver_url",
        "secrets[0]",
        "secrets[1]",
        "token",
    ];
    assert_eq!(places, expected, "{error}");
}

#[test]
fn surfaces_follow_the_configuration() {
    let receiving = build(json!({ "secrets": [{ "env": "RAW" }] })).unwrap();
    assert!(receiving.sender().is_none() && !receiving.capabilities().send);
    let token = json!({ "env": "RAW" });
    let config = json!({ "token": token, "deliver_url": "https://shop.example", "deliver_secret": token,
        "idempotent_receiver": false, "deliver_timeout": "2s" });
    let both = build(config).unwrap();
    assert!(both.sender().is_some() && both.capabilities().send);
    assert!(!both.capabilities().send_idempotent);
    assert_eq!(Webhook::KIND, REGISTRATION.kind);
}
