//! Mail by webhook: the same event as from a mailbox, and nothing that a service did not send.

use std::path::PathBuf;
use std::sync::Arc;

use connector_api::{
    BrandId, BuildContext, Bytes, Connector, ErrorKind, Event, Evidence, InboundEvent,
    WebhookOutcome, WebhookRequest,
};
use connector_email::parse::{OwnAddresses, ParseSettings, parse};
use connector_testkit::{FakeProvider, FixedClock, LoopbackHttp, StaticSecrets, now, post};
use serde_json::{Value, json};

use crate::fake_hook::{
    FakeHook, Service, TOPIC, confirmation, mailgun, multipart, postmark, request, sns,
};
use crate::shared_mails::shared;

pub const SERVICES: [Service; 4] = [
    Service::Sendgrid,
    Service::Postmark,
    Service::Mailgun,
    Service::Ses,
];

pub const MAIL: &str = "Received: by mx.example; Mon, 5 Jan 2026 09:00:00 +0000\r\nFrom: Ada <ada@example.org>\r\nTo: support@shop.example\r\nSubject: Lost\r\nDate: Mon, 5 Jan 2026 09:00:00 +0000\r\nMessage-ID: <lost-1@example.org>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nMy parcel is lost.\r\n--b\r\nContent-Type: image/png; name=p.png\r\nContent-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--b--\r\n";

pub fn build(
    fake: &FakeHook,
    change: impl FnOnce(&mut Value),
) -> connector_api::Result<Box<dyn Connector>> {
    let mut config = fake.config();
    change(&mut config);
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::new(FixedClock::default()),
        Arc::new(LoopbackHttp::new()),
        Arc::new(StaticSecrets::new(fake.secrets()).with_fallback("another-secret")),
    );
    (connector_email::REGISTRATION.build)(config, context)
}

/// Verifies and reads as the daemon does.
pub async fn deliver(
    connector: &dyn Connector,
    request: &WebhookRequest,
) -> Result<Vec<InboundEvent>, ErrorKind> {
    let source = connector.webhook_source().unwrap();
    if let Err(error) = source.verify(request) {
        if error.kind != ErrorKind::KeysStale {
            return Err(error.kind);
        }
        source.refresh().await.map_err(|error| error.kind)?;
        source.verify(request).map_err(|error| error.kind)?;
    }
    match source.parse(request.clone()).map_err(|error| error.kind)? {
        WebhookOutcome::Events { events, .. } => Ok(events),
        WebhookOutcome::Handshake(_) => Ok(Vec::new()),
    }
}

pub fn message(event: &InboundEvent) -> &connector_api::InboundMessage {
    match &event.event {
        Event::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_posted_mail_makes_the_event_that_a_mailbox_makes_of_it() {
    let settings = ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: Some("mx.shop.example".to_owned()),
        mail_bytes_max: 1_000_000,
    };
    let fetched = parse(Bytes::from_static(MAIL.as_bytes()), &settings);
    assert_eq!(fetched.dedupe_key.as_str(), "mid:lost-1@example.org");
    for service in SERVICES {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let events = deliver(connector.as_ref(), &request(service, MAIL.as_bytes())).await;
        let [mut event] = <[_; 1]>::try_from(events.unwrap()).unwrap();
        event.extra.clear();
        assert_eq!(event, fetched, "{service:?}");
    }
}

#[tokio::test]
async fn a_token_of_mailgun_is_good_for_one_mail_however_often_it_is_delivered() {
    let fake = FakeHook::start(Service::Mailgun).await;
    let connector = build(&fake, |_| {}).unwrap();
    let fields: [(&str, &[u8]); 2] = [
        ("body-mime", MAIL.as_bytes()),
        ("recipient", b"support@shop.example"),
    ];
    let other = MAIL.replace("lost", "won");
    let forged: [(&str, &[u8]); 2] = [("body-mime", other.as_bytes()), fields[1]];
    let reordered = [fields[1], fields[0]];
    let first = deliver(connector.as_ref(), &mailgun("token-1", &fields)).await;
    let again = deliver(connector.as_ref(), &mailgun("token-1", &reordered)).await;
    assert_eq!(first.unwrap()[0].dedupe_key, again.unwrap()[0].dedupe_key);
    let replayed = deliver(connector.as_ref(), &mailgun("token-1", &forged)).await;
    assert_eq!(replayed, Err(ErrorKind::Auth));
    let signed = deliver(connector.as_ref(), &mailgun("token-2", &forged)).await;
    assert_eq!(signed.unwrap().len(), 1);
}

/// At-least-once deliveries had made three to five conversations of one.
#[tokio::test]
async fn chatwoot_6046_a_mail_that_is_posted_again_is_the_same_event() {
    for service in SERVICES {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let mail = request(service, MAIL.as_bytes());
        let first = deliver(connector.as_ref(), &mail).await.unwrap();
        assert_eq!(first.len(), 1);
        let mut again = vec![mail];
        if service == Service::Mailgun {
            // Signed anew, with its fields in another order.
            let fields: [(&str, &[u8]); 2] = [
                ("body-mime", MAIL.as_bytes()),
                ("recipient", b"support@shop.example"),
            ];
            again.push(mailgun("of-another-try", &fields));
        }
        // The next one comes after a restart.
        let restarted = build(&fake, |_| {}).unwrap();
        for request in again {
            for connector in [&connector, &restarted] {
                let event = deliver(connector.as_ref(), &request).await.unwrap();
                let parts = |event: &InboundEvent| (event.dedupe_key.clone(), event.event.clone());
                let now: Vec<_> = event.iter().map(parts).collect();
                assert_eq!(now, [parts(&first[0])], "{service:?}");
            }
        }
    }
}

#[tokio::test]
async fn only_a_configured_topic_signed_with_a_certificate_of_sns_is_let_in() {
    let fake = FakeHook::start(Service::Ses).await;
    let connector = build(&fake, |_| {}).unwrap();
    let notice = |change: Value| {
        let mut message = json!({ "Type": "Notification", "Message": "{}" });
        for (name, value) in change.as_object().unwrap() {
            message[name] = value.clone();
        }
        sns(message)
    };
    assert_eq!(
        deliver(connector.as_ref(), &notice(json!({}))).await,
        Ok(vec![])
    );
    let elsewhere = "/SimpleNotificationService-1a2b.pem";
    for change in [
        json!({ "TopicArn": TOPIC.replace("123456789012", "999999999999") }),
        json!({ "SigningCertURL": format!("https://sns.eu-west-1.amazonaws.com.evil.example{elsewhere}") }),
        json!({ "SigningCertURL": format!("https://evil.example/sns.eu-west-1.amazonaws.com{elsewhere}") }),
        json!({ "SigningCertURL": format!("http://sns.eu-west-1.amazonaws.com{elsewhere}") }),
        json!({ "SigningCertURL": format!("https://sns.us-east-1.amazonaws.com{elsewhere}") }),
        json!({ "SigningCertURL": format!("https://s3.eu-west-1.amazonaws.com/bucket{elsewhere}") }),
        json!({ "SigningCertURL": "https://sns.eu-west-1.amazonaws.com/upload/mine.pem" }),
        json!({ "SignatureVersion": "3" }),
        json!({ "Type": "Alarm" }),
        json!({ "Timestamp": "2025-12-31T00:00:00Z" }),
    ] {
        let refused = deliver(connector.as_ref(), &notice(change.clone())).await;
        assert_eq!(refused, Err(ErrorKind::Auth), "{change}");
    }
    let mut raw = notice(json!({}));
    raw.headers
        .push(("x-amz-sns-rawdelivery".to_owned(), "true".into()));
    assert_eq!(
        deliver(connector.as_ref(), &raw).await,
        Err(ErrorKind::Auth)
    );
}

#[tokio::test]
async fn a_subscription_is_confirmed_only_where_its_request_is_signed() {
    let fake = FakeHook::start(Service::Ses).await;
    let connector = build(&fake, |_| {}).unwrap();
    let mut forged = confirmation();
    let body = String::from_utf8(forged.body.to_vec()).unwrap();
    forged.body = body.replace("t-0815", "t-4711").into();
    let refused = deliver(connector.as_ref(), &forged).await;
    assert_eq!(refused, Err(ErrorKind::Auth));
    // A refusal of SNS keeps us from asking again for a moment; another channel object has none.
    let connector = build(&fake, |_| {}).unwrap();
    assert_eq!(
        deliver(connector.as_ref(), &confirmation()).await,
        Ok(vec![])
    );
    assert_eq!(
        deliver(connector.as_ref(), &confirmation()).await,
        Ok(vec![])
    );
}

#[tokio::test]
async fn no_field_of_a_service_but_the_verdict_of_ses_proves_who_wrote() {
    let stamp = "mx.shop.example; dmarc=pass header.from=example.org";
    let fields: [(&str, &[u8]); 5] = [
        ("from", b"ada@example.org"),
        ("text", b"hello"),
        ("SPF", b"pass"),
        ("dkim", b"{@example.org : pass}"),
        (
            "headers",
            b"Authentication-Results: mx.shop.example; dmarc=pass header.from=example.org\nFrom: ada@example.org\n",
        ),
    ];
    let mail = json!({
        "From": "ada@example.org", "TextBody": "hello",
        "Headers": [{ "Name": "Authentication-Results", "Value": stamp }],
    });
    let ses = |from: &str, verdict: &str, spoken_of: &str| {
        let notification = json!({
            "notificationType": "Received",
            "receipt": { "dmarcVerdict": { "status": verdict } },
            "mail": { "commonHeaders": { "from": [spoken_of] } },
            "content": format!("From: {from}\r\n\r\nhello"),
        });
        sns(json!({ "Type": "Notification", "Message": notification.to_string() }))
    };
    for (service, request, is_proven) in [
        (
            Service::Sendgrid,
            crate::fake_hook::signed_sendgrid(&fields),
            false,
        ),
        (Service::Postmark, postmark(&mail), false),
        (
            Service::Ses,
            ses("ada@example.org", "PASS", "Ada <ada@example.org>"),
            true,
        ),
        (
            Service::Ses,
            ses("ada@example.org", "GRAY", "ada@example.org"),
            false,
        ),
        (
            Service::Ses,
            ses("ada@example.org", "PASS", "eve@example.com"),
            false,
        ),
        (
            Service::Ses,
            ses(
                "ada@example.org, eve@example.com",
                "PASS",
                "ada@example.org",
            ),
            false,
        ),
    ] {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let events = deliver(connector.as_ref(), &request).await.unwrap();
        let identity = &message(&events[0]).from.identities[0];
        assert_eq!(identity.address, "ada@example.org");
        assert_eq!(
            identity.evidence != Evidence::Claimed,
            is_proven,
            "{service:?} {request:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_this_services_mail_is_malformed_and_not_lost_in_silence() {
    for (service, body) in [
        (Service::Postmark, "{\"RecordType\":\"Bounce\"}"),
        (Service::Postmark, "[]"),
        (Service::Sendgrid, "--xYzZY\r\n\r\n--xYzZY--"),
        (Service::Mailgun, "event=delivered"),
    ] {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let content_type = match body.starts_with("--") {
            true => "multipart/form-data; boundary=xYzZY",
            false => "application/x-www-form-urlencoded",
        };
        let request = post([("content-type", content_type.to_owned())], body);
        let source = connector.webhook_source().unwrap();
        let Err(error) = source.parse(request) else {
            panic!("{service:?} read {body}");
        };
        assert_eq!(error.kind, ErrorKind::Malformed, "{service:?} {body}");
    }
}

#[tokio::test]
async fn a_channel_has_one_way_in_and_only_the_keys_of_its_service() {
    let fake = FakeHook::start(Service::Postmark).await;
    for (change, complaint) in [
        (json!({ "webhook": null }), "one of imap and webhook"),
        (
            json!({ "imap": { "host": "127.0.0.1", "user": "u", "password": { "env": "X" } } }),
            "exclude each other",
        ),
        (
            json!({ "webhook": { "provider": "postmark" } }),
            "postmark needs user",
        ),
        (
            json!({ "webhook": { "provider": "sendgrid" } }),
            "sendgrid needs public_key",
        ),
        (
            json!({ "webhook": { "provider": "sendgrid", "public_key": "AAAA" } }),
            "no P-256 key",
        ),
        (
            json!({ "webhook": { "provider": "mailgun" } }),
            "one or two signing_keys",
        ),
        (
            json!({ "webhook": { "provider": "ses" } }),
            "ses needs topics",
        ),
        (
            json!({ "webhook": { "provider": "ses", "topics": ["mail"] } }),
            "no ARN of an SNS topic",
        ),
        (
            json!({ "webhook": { "provider": "ses", "topics": [TOPIC], "sns_endpoint": "http://10.0.0.1:80" } }),
            "loopback",
        ),
        (
            json!({ "webhook": { "provider": "mailgun", "signing_keys": [{ "env": "X" }], "topics": [TOPIC] } }),
            "webhook.topics is for ses only",
        ),
        (
            json!({ "webhook": { "provider": "postmark", "user": "hook" } }),
            "belong together",
        ),
    ] {
        let built = build(&fake, |config| {
            for (key, value) in change.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        let error = built.err().unwrap_or_else(|| panic!("{change} is taken"));
        assert!(error.message.contains(complaint), "{change}: {error}");
    }
}

/// Captured by others: read from beside this checkout.
#[tokio::test]
async fn captured_payloads_of_others_become_mails() {
    let fake = FakeHook::start(Service::Postmark).await;
    let connector = build(&fake, |_| {}).unwrap();
    for (file, from, subject, text) in [
        (
            "anymail-postmark-inbound-test-payload.json",
            "support@postmarkapp.com",
            "Test subject",
            "This is a test text body.",
        ),
        (
            "anymail-postmark-inbound-test-payload-with-raw.json",
            "support@postmarkapp.com",
            "Test subject",
            "This is a test text body.",
        ),
        (
            "sendgrid-raw_data.txt",
            "test@example.com",
            "Inbound Parse Test Raw Data",
            "Hello Twilio SendGrid!",
        ),
    ] {
        let path: PathBuf = shared().join("fixtures/inbound_parse").join(file);
        let request = WebhookRequest {
            body: std::fs::read(path).unwrap().into(),
            received_at: now(),
            ..WebhookRequest::default()
        };
        let events = connector.parse_captured(&request).unwrap();
        let message = message(&events[0]);
        assert_eq!(message.from.identities[0].address, from, "{file}");
        assert_eq!(message.subject.as_deref(), Some(subject), "{file}");
        assert_eq!(message.text.trim(), text, "{file}");
        let is_rebuilt = events[0]
            .defects
            .iter()
            .any(|it| it.code == "rebuilt_from_fields");
        assert_eq!(is_rebuilt, file.ends_with("payload.json"), "{file}");
    }
    let (_, files) = multipart(&[]);
    assert!(
        connector
            .parse_captured(&post([("a", String::new())], files))
            .is_ok()
    );
}
