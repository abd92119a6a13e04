//! Requests that nobody signed, or somebody long ago.

use std::collections::BTreeMap;
use std::sync::Arc;

use connector_api::{
    BrandId, BuildContext, Bytes, Capabilities, Clock, Connector, Error, HttpClient, HttpRequest,
    HttpResponse, Result, SecretRef, SecretResolver, SecretString, Timestamp, WebhookRequest,
    async_trait,
};
use serde_json::{Value, json};
use switchboard::api::{HookAnswer, Hooks};
use switchboard::channels::Channel;
use switchboard::clock::{micros, timestamp};
use switchboard::inbound::Webhooks;
use switchboard::router::Verdict;

use crate::support::{Desk, ManualClock, random};

const SECRET: &str = "whsec_dGVzdC1zZWNyZXQtb2YtdGhlLXdlYmhvb2stY2hhbm5lbA==";
const FORGERIES: usize = 100_000;
const REPLAYS: usize = 10_000;
/// Deliveries that are replayed.
const DELIVERIES: usize = 500;

struct Nowhere;

#[async_trait]
impl HttpClient for Nowhere {
    async fn execute(&self, _: HttpRequest) -> Result<HttpResponse> {
        Err(Error::unavailable("there is no network here"))
    }
}

/// What every secret of a configuration is.
struct Known(&'static str);

impl SecretResolver for Known {
    fn resolve(&self, _: &SecretRef) -> Result<SecretString> {
        Ok(SecretString::from(self.0))
    }
}

fn build(kind: &str, config: Value, secret: &'static str) -> Result<Box<dyn Connector>> {
    let context = BuildContext::new(
        "shop-chat".parse().unwrap(),
        BrandId::default(),
        Arc::new(ManualClock::new()),
        Arc::new(Nowhere),
        Arc::new(Known(secret)),
    );
    let known = switchboard::channels::builtin();
    let registration = known.iter().find(|known| known.kind == kind).unwrap();
    (registration.build)(config, context)
}

fn webhook() -> Box<dyn Connector> {
    build("webhook", json!({ "secrets": [{ "env": "A" }] }), SECRET).unwrap()
}

fn request(id: &str, signature: &str, body: &str, signed_at: i64, at: Timestamp) -> WebhookRequest {
    let headers = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", signed_at.to_string()),
        ("webhook-signature", signature.to_owned()),
    ];
    WebhookRequest {
        method: "POST".to_owned(),
        query: String::new(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), Bytes::from(value)))
            .into(),
        body: Bytes::from(body.to_owned()),
        received_at: at,
    }
}

fn said(number: usize) -> String {
    json!({
        "type": "message", "id": format!("m-{number}"),
        "from": { "id": "cust-7" }, "text": format!("Message {number}"),
    })
    .to_string()
}

/// Every kind of channel that is pushed to, with what its configuration needs, and without a secret.
fn pushed() -> Vec<(&'static str, &'static str, Value)> {
    let hook = |webhook: Value| json!({ "address": "support@shop.example", "smtp": { "host": "smtp.example" }, "webhook": webhook });
    vec![
        ("webhook", "secrets", json!({ "secrets": [{ "env": "A" }] })),
        ("webhook", "token", json!({ "token": { "env": "A" } })),
        (
            "email",
            "password",
            hook(json!({ "provider": "postmark", "user": "hook", "password": { "env": "A" } })),
        ),
        (
            "email",
            "signing_keys",
            hook(json!({ "provider": "mailgun", "signing_keys": [{ "env": "A" }] })),
        ),
        (
            "email",
            "token",
            hook(json!({ "provider": "sendgrid", "token": { "env": "A" } })),
        ),
        (
            "email",
            "topics",
            hook(
                json!({ "provider": "ses", "topics": ["arn:aws:sns:eu-west-1:123456789012:mail"] }),
            ),
        ),
    ]
}

/// Typebot took what anybody posted for what WhatsApp had signed.
#[test]
fn cve_2026_39969_no_channel_takes_what_nobody_signed() {
    let bodies = [
        said(1),
        String::new(),
        "{}".to_owned(),
        json!({ "Type": "Notification", "TopicArn": "arn:aws:sns:eu-west-1:123456789012:mail", "Message": "{}" }).to_string(),
        json!({ "RawEmail": "From: a@b.example\r\n\r\nx" }).to_string(),
    ];
    for (kind, proof, config) in pushed() {
        let channel = build(kind, config.clone(), SECRET).unwrap();
        let source = channel.webhook_source().unwrap();
        for body in &bodies {
            let mut bare = request("x", "", body, 0, Timestamp::UNIX_EPOCH);
            assert!(source.verify(&bare).is_err(), "{kind} {proof}: {body}");
            bare.headers.clear();
            assert!(
                source.verify(&bare).is_err(),
                "{kind} {proof}, bare: {body}"
            );
            for authorization in [
                "Bearer",
                "Bearer ",
                "Basic ",
                "Basic Og==",
                "Basic aG9vazo=",
            ] {
                bare.headers = vec![("authorization".to_owned(), Bytes::from(authorization))];
                assert!(
                    source.verify(&bare).is_err(),
                    "{kind} {proof}, {authorization:?}"
                );
            }
        }
        // Without a secret, or with an empty one, there is no channel.
        let mut without = config;
        match without.get_mut("webhook") {
            Some(hook) => drop(hook.as_object_mut().unwrap().remove(proof)),
            None => drop(without.as_object_mut().unwrap().remove(proof)),
        }
        assert!(
            build(kind, without, SECRET).is_err(),
            "{kind} without {proof}"
        );
    }
    for (kind, proof, config) in pushed() {
        // What SNS signs with is public.
        for empty in ["", " ", "\n"] {
            let built = build(kind, config.clone(), empty);
            assert_eq!(
                built.is_ok(),
                proof == "topics",
                "{kind} with {proof} {empty:?}"
            );
        }
    }
    let secrets = json!({ "secrets": [{ "env": "A" }] });
    assert!(
        build("webhook", secrets, "whsec_").is_err(),
        "a prefix without a key"
    );
}

#[test]
fn of_a_hundred_thousand_changed_signatures_none_holds() {
    let channel = webhook();
    let source = channel.webhook_source().unwrap();
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let body = said(1);
    let signed = connector_webhook::sign(SECRET, "x", now.as_second(), body.as_bytes()).unwrap();
    let genuine = request("x", &signed, &body, now.as_second(), now);
    assert!(source.verify(&genuine).is_ok());
    let mut seed = 20;
    let mut tried = 0;
    while tried < FORGERIES {
        let (mut signature, mut body, mut id) = (
            signed.clone().into_bytes(),
            body.clone().into_bytes(),
            b"x".to_vec(),
        );
        let mut signed_at = now.as_second();
        let spoil = |bytes: &mut Vec<u8>, seed: &mut u64| {
            let at = (random(seed) % (bytes.len() as u64 + 1)) as usize;
            let byte = (random(seed) % 256) as u8;
            match random(seed) % 4 {
                0 => bytes.insert(at, byte),
                1 => bytes.truncate(at),
                2 if at < bytes.len() => drop(bytes.remove(at)),
                _ if at < bytes.len() => bytes[at] = byte,
                _ => bytes.push(byte),
            }
        };
        match random(&mut seed) % 5 {
            0 | 1 => spoil(&mut signature, &mut seed),
            2 => spoil(&mut body, &mut seed),
            3 => spoil(&mut id, &mut seed),
            _ => signed_at += 1 + (random(&mut seed) % 299) as i64,
        }
        let is_same = signature == signed.as_bytes() && body == genuine.body && id == b"x";
        // Behind a whole signature anything may stand, as another signature: only what is before counts.
        let has_genuine = signature
            .split(|byte| *byte == b' ')
            .any(|one| one == signed.as_bytes());
        let is_content = body == genuine.body && id == b"x" && signed_at == now.as_second();
        if (is_same || has_genuine) && is_content {
            continue;
        }
        let mut forged = genuine.clone();
        for (name, value) in &mut forged.headers {
            *value = Bytes::from(match name.as_str() {
                "webhook-id" => id.clone(),
                "webhook-timestamp" => signed_at.to_string().into_bytes(),
                _ => signature.clone(),
            });
        }
        forged.body = Bytes::from(body);
        assert!(source.verify(&forged).is_err(), "{forged:?}");
        tried += 1;
    }
}

#[tokio::test]
async fn of_ten_thousand_replayed_requests_each_is_filed_once_and_none_after_its_window() {
    let mut desk = Desk::new().await;
    let channel = Channel {
        id: "shop-chat".parse().unwrap(),
        brand: "main".parse().unwrap(),
        vouches: Vec::new(),
        attachment_hosts: Vec::new(),
        connector: webhook(),
        capabilities: Capabilities::default(),
    };
    let channels = BTreeMap::from([(channel.id.clone(), Arc::new(channel))]);
    let webhooks = Webhooks {
        channels: Arc::new(channels).into(),
        intake: desk.intake().clone(),
    };
    let begun = desk.clock.now();
    let captured: Vec<WebhookRequest> = (0..DELIVERIES)
        .map(|number| {
            let (id, body) = (format!("d-{number}"), said(number));
            let signed =
                connector_webhook::sign(SECRET, &id, begun.as_second(), body.as_bytes()).unwrap();
            request(&id, &signed, &body, begun.as_second(), begun)
        })
        .collect();
    for one in &captured {
        let answer = webhooks.deliver("shop-chat", one.clone()).await;
        assert!(matches!(answer, HookAnswer::Accepted(_)), "{answer:?}");
    }
    desk.accepted_elsewhere(DELIVERIES);
    assert_eq!(desk.route(500).await, vec![Verdict::Filed; DELIVERIES]);
    let (mut seed, mut late, mut taken) = (21, 0, 0);
    for at in 0..REPLAYS {
        let mut again = captured[at % DELIVERIES].clone();
        let seconds = (random(&mut seed) % 601) as i64;
        again.received_at = timestamp(micros(begun) + seconds * 1_000_000);
        match webhooks.deliver("shop-chat", again).await {
            HookAnswer::Accepted(_) if seconds <= 300 => taken += 1,
            HookAnswer::Unauthorized { .. } if seconds > 300 => late += 1,
            answer => panic!("{seconds} s later: {answer:?}"),
        }
    }
    assert!(late > 0 && taken > 0);
    desk.accepted_elsewhere(taken);
    assert_eq!(desk.route(500).await, vec![Verdict::Duplicate; taken]);
}
