//! Shapes that are read, and the place named for those that are not. Whole bodies with their
//! normalised events lie in `tests/fixtures`.

use connector_api::ErrorKind;
use expect_test::expect;
use proptest::prelude::*;

use super::*;

fn read(body: &str) -> Result<(Vec<InboundEvent>, Value)> {
    let namespace = Namespace::account("webhook", "shop-chat");
    let WebhookOutcome::Events { events, reply } = parse(&namespace, body.as_bytes())? else {
        panic!("no handshake is known");
    };
    assert_eq!(
        (reply.status, reply.content_type),
        (200, "application/json")
    );
    Ok((events, serde_json::from_slice(&reply.body).unwrap()))
}

fn message_with(member: &str) -> String {
    format!(r#"{{"type":"message","id":"m-1","from":{{"id":"c"}},"text":"hi",{member}}}"#)
}

/// Reads one message with one more member and shows its only event.
fn one(member: &str) -> InboundEvent {
    let (mut events, _) = read(&message_with(member)).unwrap();
    assert_eq!(events.len(), 1, "{member}");
    events.remove(0)
}

fn said(event: &InboundEvent) -> &InboundMessage {
    match &event.event {
        Event::Message(message) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_refusal_names_its_place() {
    let refusals = [
        "",
        "[]",
        "{",
        "{}",
        r#"{"events":7}"#,
        r#"{"events":[7]}"#,
        r#"{"events":[{"type":"message"}]}"#,
        r#"{"type":"poll","id":"1"}"#,
        r#"{"type":"message","id":7}"#,
        r#"{"type":"message","id":""}"#,
        r#"{"type":"message","id":"a\u0000"}"#,
        r#"{"type":"message","id":"\ud800"}"#,
        r#"{"type":"message","id":"1","text":"hi"}"#,
        r#"{"type":"message","id":"1","from":"ada"}"#,
        r#"{"type":"message","id":"1","from":{},"text":"hi"}"#,
        r#"{"type":"message","id":"1","from":{"id":"c"}}"#,
        r#"{"type":"message","id":"1","from":{"id":"c"},"text":["a secret"]}"#,
        r#"{"type":"message","id":"a\u200bb"}"#,
        r#"{"type":"message","id":"1","from":{"id":"ada\u00ad"},"text":"hi"}"#,
        &message_with(r#""thread":"t\u202e1""#),
        &message_with(r#""thread":"t\u00851""#),
        r#"{"events":[{"type":"delete","id":"1","target":"\ufeffm-1"}]}"#,
        r#"{"type":"receipt","id":"1","target":"m\u20601","stage":"read"}"#,
        &message_with(r#""sent_at":"yesterday""#),
        &message_with(r#""attachments":{}"#),
        &message_with(r#""attachments":["a.txt"]"#),
        &message_with(r#""attachments":[{"name":"a.txt"}]"#),
        &message_with(r#""attachments":[{"base64":"***"}]"#),
        &message_with(r#""attachments":[{"url":"file:///etc/passwd"}]"#),
        &message_with(r#""attachments":[{"url":"https://a.example","base64":"YQ=="}]"#),
        &message_with(r#""automatic":"yes""#),
        r#"{"type":"edit","id":"1","target":"m-1"}"#,
        r#"{"type":"delete","id":"1"}"#,
        r#"{"type":"reaction","id":"1","target":"m-1"}"#,
        r#"{"type":"receipt","id":"1","target":"m-1","stage":"seen"}"#,
    ];
    let mut seen = String::new();
    for body in refusals {
        let error = read(body).expect_err(body);
        assert_eq!(error.kind, ErrorKind::Malformed, "{body}");
        seen += &format!("{}\n", error.message);
    }
    expect![[r#"
        body: expected an object
        body: expected an object
        body: not JSON: EOF while parsing an object at line 1 column 1
        type: missing
        events: expected an array
        events[0]: expected an object
        events[0].id: missing
        type: none of message, edit, delete, reaction, receipt
        id: expected a string, found a number
        id: missing
        id: contains control characters
        body: not JSON: unexpected end of hex escape at line 1 column 31
        from: missing
        from: expected an object, found a string
        from.id: missing
        text: missing, and there is no html and no attachment
        text: expected a string, found an array
        id: contains invisible format characters
        from.id: contains invisible format characters
        thread: contains invisible format characters
        thread: contains control characters
        events[0].target: contains invisible format characters
        target: contains invisible format characters
        sent_at: not a time with its offset (RFC 3339)
        attachments: expected an array, found an object
        attachments[0]: expected an object, found a string
        attachments[0].url: missing, and there is no base64
        attachments[0].base64: not base64
        attachments[0].url: must start with https:// or http://
        attachments[0].url: given together with base64
        automatic: expected true or false, found a string
        text: missing
        target: missing
        emoji: missing
        stage: none of accepted, delivered, read, failed
    "#]]
    .assert_eq(&seen);
}

#[test]
fn a_bad_event_spoils_only_itself() {
    let good = r#"{"type":"delete","id":"d-1","target":"m-1"}"#;
    let bad = r#"{"type":"message","id":"m-2","from":{"id":"c"},"text":"\ud800"}"#;
    let (events, reply) = read(&format!(r#"{{"events":[{good},{bad},7,{good}]}}"#)).unwrap();
    let keys: Vec<&str> = events
        .iter()
        .map(|event| event.dedupe_key.as_str())
        .collect();
    assert_eq!(keys, ["delete:d-1", "delete:d-1"]);
    expect![[r#"
        {
          "results": [
            {
              "dedupe_key": "delete:d-1",
              "error": null
            },
            {
              "dedupe_key": null,
              "error": "events[1]: not JSON: unexpected end of hex escape at line 1 column 62"
            },
            {
              "dedupe_key": null,
              "error": "events[2]: expected an object"
            },
            {
              "dedupe_key": "delete:d-1",
              "error": null
            }
          ]
        }
    "#]]
    .assert_eq(&format!("{reply:#}\n"));
}

#[test]
fn a_batch_may_be_empty_or_full_but_not_larger() {
    let batch = |count: usize| {
        let event = r#"{"type":"delete","id":"1","target":"2"}"#;
        format!(r#"{{"events":[{}]}}"#, vec![event; count].join(","))
    };
    assert_eq!(read(&batch(0)).unwrap().0.len(), 0);
    assert_eq!(read(&batch(EVENTS_MAX)).unwrap().0.len(), EVENTS_MAX);
    let error = read(&batch(EVENTS_MAX + 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge);
    assert!(error.message.contains("at most 500"), "{error}");
}

#[test]
fn a_target_is_a_message_of_the_customer_except_in_receipts() {
    for (body, expected) in [
        (
            r#"{"type":"edit","id":"1","target":"m-1","text":"x"}"#,
            "message:m-1",
        ),
        (
            r#"{"type":"delete","id":"1","target":"m-1"}"#,
            "message:m-1",
        ),
        (
            r#"{"type":"reaction","id":"1","target":"m-1","emoji":"👍"}"#,
            "message:m-1",
        ),
        (
            r#"{"type":"receipt","id":"1","target":"msg_1","stage":"read"}"#,
            "msg_1",
        ),
    ] {
        let (events, _) = read(body).unwrap();
        let target = match &events[0].event {
            Event::Edit { target, .. } | Event::Delete { target } => target,
            Event::Reaction { target, .. } | Event::Receipt { target, .. } => target,
            other => panic!("{other:?}"),
        };
        assert_eq!(target, expected, "{body}");
    }
}

#[test]
fn the_signed_id_is_verified_and_the_rest_is_claimed() {
    let body = r#"{"type":"message","id":"1","text":"hi",
        "from":{"id":"cust-7","email":"Ada@Shop.Example","phone":"0049 (30) 123-456","name":"Ada"}}"#;
    let (events, _) = read(body).unwrap();
    let from = &said(&events[0]).from;
    let shown: Vec<String> = from
        .identities
        .iter()
        .map(|claim| format!("{} {} {:?}", claim.namespace, claim.address, claim.evidence))
        .collect();
    assert_eq!(
        shown,
        [
            "webhook:shop-chat cust-7 Verified(Signed)",
            "email ada@shop.example Claimed",
            "phone +4930123456 Claimed",
        ]
    );
}

#[test]
fn addresses_that_cannot_be_read_are_kept_and_flagged() {
    let body = r#"{"type":"message","id":"1","text":"hi","from":{"id":"c","email":"ada","phone":"030 123"}}"#;
    let (events, _) = read(body).unwrap();
    let codes: Vec<&str> = events[0]
        .defects
        .iter()
        .map(|defect| defect.code.as_str())
        .collect();
    assert_eq!(codes, ["email_unreadable", "phone_unreadable"]);
    assert_eq!(said(&events[0]).from.identities.len(), 1);
    assert_eq!(
        events[0].extra["from"],
        json!({ "email": "ada", "phone": "030 123" })
    );
    for (given, expected) in [
        ("+49 30 123456", Some("+4930123456")),
        ("+1 (555) 010-9999", Some("+15550109999")),
        ("+12345", None),
        ("+1234567890123456", None),
        ("+049301234567", None),
        ("+49 30 CALL ME", None),
        ("+٤٩٣٠١٢٣٤٥٦", None),
    ] {
        assert_eq!(phone_number(given).as_deref(), expected, "{given}");
    }
    for (given, expected) in [
        (" ADA@Shop.Example ", Some("ada@shop.example")),
        ("@shop.example", None),
        ("ada@", None),
        ("ada@shop.example, eve@evil.example", None),
        ("Ada <ada@shop.example>", None),
    ] {
        assert_eq!(email_address(given).as_deref(), expected, "{given}");
    }
}

#[test]
fn unknown_members_are_kept_wherever_they_are() {
    let body = r#"{"type":"message","id":"1","text":"hi","shop":{"cart":3},"reply_to":null,
        "from":{"id":"c","vip":true},"attachments":[{"url":"https://a.example/1","alt":"a cat"}]}"#;
    let (events, _) = read(body).unwrap();
    let expected = json!({ "shop": { "cart": 3 }, "from": { "vip": true }, "attachments": [{ "alt": "a cat" }] });
    assert_eq!(Value::Object(events[0].extra.clone()), expected);
}

#[test]
fn hints_and_flags_arrive_where_the_router_looks() {
    let event = one(
        r#""thread":"t-1","reply_to":"m-0","automatic":true,"spam":true,"sent_at":"2026-01-05T10:00:00+01:00""#,
    );
    assert_eq!(event.automatic, Some(Automatic::Generated));
    assert_eq!(event.sent_at.unwrap().to_string(), "2026-01-05T09:00:00Z");
    let thread = &said(&event).thread;
    assert_eq!(thread.native.as_deref(), Some("t-1"));
    assert_eq!(thread.message_id.as_deref(), Some("message:m-1"));
    assert_eq!(thread.references, ["message:m-0", "m-0"]);
    assert_eq!(event.provider_spam.as_deref(), Some("sender"));
    assert_eq!(one(r#""spam":false"#).provider_spam, None);
    assert_eq!(one(r#""automatic":false"#).automatic, None);
}

#[test]
fn attachments_are_bytes_or_references_and_bounded_together() {
    let event = one(
        r#""attachments":[{"name":"../a","base64":"aGk="},{"url":"https://a.example/1","content_type":"image/png"}]"#,
    );
    let attachments = &said(&event).attachments;
    assert_eq!(attachments[0].body, AttachmentBody::Bytes("hi".into()));
    assert_eq!(attachments[0].content_type, "application/octet-stream");
    let reference = "https://a.example/1".to_owned();
    assert_eq!(attachments[1].body, AttachmentBody::Reference { reference });
    let half = "A".repeat(ATTACHMENT_BYTES_MAX / 3 * 2 + 4);
    let item = format!(r#"{{"base64":"{half}"}}"#);
    assert!(read(&message_with(&format!(r#""attachments":[{item}]"#))).is_ok());
    let error = read(&message_with(&format!(
        r#""attachments":[{item},{item},{item}]"#
    )))
    .unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    assert!(
        error.message.starts_with("attachments[1].base64"),
        "{error}"
    );
}

#[test]
fn nesting_is_bounded_below_what_the_parser_itself_bears() {
    // The message's own object is one level.
    let nested = |levels: usize| {
        let value = format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        message_with(&format!(r#""cart":{value}"#))
    };
    assert!(read(&nested(JSON_DEPTH_MAX - 1)).is_ok());
    let error = read(&nested(JSON_DEPTH_MAX)).unwrap_err();
    assert_eq!(error.message, "body: nested deeper than 64 levels");
}

#[test]
fn the_last_of_two_equal_members_wins() {
    let (events, _) = read(r#"{"type":"delete","id":"1","id":"2","target":"m-1"}"#).unwrap();
    assert_eq!(events[0].dedupe_key.as_str(), "delete:2");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let namespace = Namespace::account("webhook", "shop-chat");
        if let Err(error) = parse(&namespace, &body) {
            prop_assert_eq!(error.kind, ErrorKind::Malformed);
        }
    }

    #[test]
    fn any_text_arrives_unchanged(text in "\\PC{1,40}", id in "[^\\pC]{1,40}") {
        let body = json!({ "type": "message", "id": id, "from": { "id": "c" }, "text": text });
        let (events, _) = read(&body.to_string()).unwrap();
        prop_assert_eq!(&said(&events[0]).text, &text);
        prop_assert_eq!(events[0].dedupe_key.as_str(), format!("message:{id}"));
    }
}
