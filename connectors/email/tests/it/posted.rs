//! What services post in other shapes than a whole mail of a customer: bounces, fields and files, forms
//! of both kinds.

use connector_api::{ErrorKind, Event, InboundEvent};
use serde_json::json;

use crate::fake_hook::{
    FakeHook, Service, as_urlencoded, mailgun, postmark, request, signed_sendgrid,
};
use crate::hooks::{MAIL, SERVICES, build, deliver, message};

const BOUNCE: &str = include_str!("../fixtures/bounce_of_ours.eml");

/// The receipts among events: of which mail, for whom.
fn receipts(events: &[InboundEvent]) -> Vec<(&str, Option<&str>)> {
    let receipts = events.iter().map(|event| match &event.event {
        Event::Receipt {
            target, recipient, ..
        } => (target.as_str(), recipient.as_deref()),
        other => panic!("{other:?}"),
    });
    receipts.collect()
}

#[tokio::test]
async fn a_bounce_that_is_posted_settles_what_it_settles_in_a_mailbox() {
    for service in SERVICES {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let events = deliver(connector.as_ref(), &request(service, BOUNCE.as_bytes())).await;
        let ours = "sbk3k3k3k3k3k3k3k3k3k3k3k3k3.msg_02@shop.example";
        let expected = [(ours, Some("gone@example.org"))];
        assert_eq!(receipts(&events.unwrap()), expected, "{service:?}");
    }
}

/// A service that posts fields gives the parts of a report as files.
#[tokio::test]
async fn a_bounce_in_fields_is_told_by_the_report_among_its_files() {
    let status = "Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; gone@example.org\r\nAction: failed\r\nStatus: 5.1.1\r\n";
    let ours = "sbk3k3k3k3k3k3k3k3k3k3k3k3k3.msg_02@shop.example";
    let returned =
        format!("From: support@shop.example\r\nMessage-ID: <{ours}>\r\n\r\nOn its way.\r\n");
    let types = ["message/delivery-status", "message/rfc822"];
    let from = "Mail Delivery System <MAILER-DAEMON@mx.example.org>";
    let info = json!({ "attachment1": { "type": types[0] }, "attachment2": { "type": types[1] } });
    let info = info.to_string();
    let encoded = |text: &str| {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(text)
    };
    let of_postmark = json!({
        "From": from, "Subject": "Undelivered Mail Returned to Sender", "TextBody": "Not delivered.",
        "Attachments": [
            { "Name": "status", "ContentType": types[0], "Content": encoded(status) },
            { "Name": "mail.eml", "ContentType": types[1], "Content": encoded(&returned) },
        ],
    });
    let of_sendgrid: [(&str, &[u8]); 5] = [
        ("from", from.as_bytes()),
        ("text", b"Not delivered."),
        ("attachment-info", info.as_bytes()),
        ("attachment1", status.as_bytes()),
        ("attachment2", returned.as_bytes()),
    ];
    for (service, request) in [
        (Service::Postmark, postmark(&of_postmark)),
        (Service::Sendgrid, signed_sendgrid(&of_sendgrid)),
    ] {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let events = deliver(connector.as_ref(), &request).await.unwrap();
        let expected = [(ours, Some("gone@example.org"))];
        assert_eq!(receipts(&events), expected, "{service:?}");
    }
}

/// With `verp = true` a bounce tells its mail by where it came to, which not every header repeats.
#[tokio::test]
async fn a_posted_bounce_is_told_by_the_recipient_of_its_envelope() {
    let id = format!("msg_{}", "0190abcd".repeat(4));
    let path = format!("support+{id}.2@shop.example");
    let bounce = "From: MAILER-DAEMON@mx.example.org\r\nTo: undisclosed-recipients:;\r\nSubject: Undelivered Mail Returned to Sender\r\nMessage-ID: <b-9@mx.example.org>\r\n\r\n550 5.1.1 user unknown\r\n";
    let envelope = json!({ "to": [path], "from": "" }).to_string();
    let of_sendgrid: [(&str, &[u8]); 2] = [
        ("envelope", envelope.as_bytes()),
        ("email", bounce.as_bytes()),
    ];
    let of_mailgun: [(&str, &[u8]); 3] = [
        ("recipient", path.as_bytes()),
        ("sender", b""),
        ("body-mime", bounce.as_bytes()),
    ];
    let of_postmark = json!({ "OriginalRecipient": path, "RawEmail": bounce });
    for (service, request) in [
        (Service::Sendgrid, signed_sendgrid(&of_sendgrid)),
        (Service::Mailgun, mailgun("token-v", &of_mailgun)),
        (Service::Postmark, postmark(&of_postmark)),
    ] {
        let fake = FakeHook::start(service).await;
        let connector = build(&fake, |_| {}).unwrap();
        let events = deliver(connector.as_ref(), &request).await.unwrap();
        assert_eq!(receipts(&events), [(&*id, Some("#2"))], "{service:?}");
    }
}

/// Its real deliveries have `Content`, its trial has `Data`.
#[tokio::test]
async fn files_of_postmark_are_read_by_either_name() {
    let fake = FakeHook::start(Service::Postmark).await;
    let connector = build(&fake, |_| {}).unwrap();
    for key in ["Content", "Data"] {
        let mut file = json!({ "Name": "a.pdf", "ContentType": "application/pdf" });
        file[key] = json!("aGVs\r\nbG8=");
        let mail =
            json!({ "From": "ada@example.org", "TextBody": "See \"it\".", "Attachments": [file] });
        let events = deliver(connector.as_ref(), &postmark(&mail)).await.unwrap();
        let message = message(&events[0]);
        assert_eq!(message.text.trim(), "See \"it\".");
        let sizes: Vec<_> = message.attachments.iter().map(|it| it.size_bytes).collect();
        assert_eq!(sizes, [Some(5)], "{key}");
    }
}

#[tokio::test]
async fn a_form_of_mailgun_is_read_urlencoded_too_and_bound_to_its_token_all_the_same() {
    let fake = FakeHook::start(Service::Mailgun).await;
    let connector = build(&fake, |_| {}).unwrap();
    let fields: [(&str, &[u8]); 2] = [
        ("recipient", b"support@shop.example"),
        ("body-mime", MAIL.as_bytes()),
    ];
    let posted = deliver(connector.as_ref(), &mailgun("token-1", &fields)).await;
    let urlencoded = |token: &str, fields: &[(&str, &[u8])]| {
        let parts = mailgun(token, fields);
        as_urlencoded(&parts)
    };
    let again = deliver(connector.as_ref(), &urlencoded("token-1", &fields)).await;
    assert_eq!(posted, again);
    let other = MAIL.replace("lost", "won");
    let forged: [(&str, &[u8]); 2] = [fields[0], ("body-mime", other.as_bytes())];
    let replayed = deliver(connector.as_ref(), &urlencoded("token-1", &forged)).await;
    assert_eq!(replayed, Err(ErrorKind::Auth));
}
