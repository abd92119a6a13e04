use connector_api::{
    Attachment, AttachmentBody, DedupeKey, Evidence, IdentityClaim, MessageSender, Namespace,
    Participant, ParticipantRole, ThreadHints,
};
use proptest::prelude::*;
use serde_json::json;

use super::*;

const PAN: &str = "4111 1111 1111 1111";
const REDACTED: &str = "411111******1111";

fn message(text: &str, html: Option<&str>) -> InboundMessage {
    InboundMessage {
        from: MessageSender {
            identities: vec![IdentityClaim {
                namespace: Namespace::email(),
                address: "ada@customer.example".to_owned(),
                evidence: Evidence::Claimed,
            }],
            name: Some("Ada".to_owned()),
        },
        participants: Vec::new(),
        subject: None,
        text: text.to_owned(),
        html: html.map(str::to_owned),
        thread: ThreadHints::default(),
        attachments: Vec::new(),
    }
}

fn event(message: InboundMessage) -> InboundEvent {
    InboundEvent::new(DedupeKey::new("m-1"), Event::Message(Box::new(message)))
}

fn normalised(message: InboundMessage) -> (InboundMessage, Normalised, Vec<String>) {
    let mut event = event(message);
    let normalised = normalise(&mut event);
    let codes = event
        .defects
        .iter()
        .map(|defect| defect.code.clone())
        .collect();
    let Event::Message(message) = event.event else {
        panic!("a message stays a message");
    };
    (*message, normalised, codes)
}

#[test]
fn chat_text_passes_untouched() {
    let before = message("Where is my parcel?", None);
    let (after, found, defects) = normalised(before.clone());
    assert_eq!(after, before);
    assert_eq!(found.full_text, None);
    assert!(defects.is_empty());
}

#[test]
fn a_reply_keeps_its_new_words_and_its_full_text() {
    let full = "Blue, please.\n\nOn 3 Mar 2026 10:12, Shop wrote:\n> Which one?";
    let (after, found, _) = normalised(message(full, None));
    assert_eq!(after.text, "Blue, please.");
    assert_eq!(found.full_text.as_deref(), Some(full));
    assert_eq!(found.split.quoted.len(), 1);
}

#[test]
fn text_is_made_from_html_where_there_is_none() {
    let html = "<p>Blue, please.</p><blockquote>Which one?<br>The shop</blockquote>";
    let (after, found, _) = normalised(message(" \r\n", Some(html)));
    assert_eq!(after.text, "Blue, please.");
    assert_eq!(
        found.full_text.as_deref(),
        Some("Blue, please.\n\n> Which one?\n> The shop")
    );
    assert_eq!(after.html.as_deref(), Some(html));
}

#[test]
fn card_numbers_leave_every_readable_field() {
    let mut message = message(&format!("Card {PAN}"), Some(&format!("<b>Card {PAN}</b>")));
    message.subject = Some(format!("Fwd: {PAN}"));
    message.from.name = Some(format!("Ada {PAN}"));
    message.participants.push(Participant {
        namespace: Namespace::email(),
        address: "bob@customer.example".to_owned(),
        name: Some(PAN.to_owned()),
        role: ParticipantRole::Cc,
    });
    message.attachments.push(Attachment {
        name: Some(format!("{PAN}.pdf")),
        content_type: "application/pdf".to_owned(),
        size_bytes: None,
        content_id: None,
        inline: false,
        body: AttachmentBody::Missing {
            reason: "test".to_owned(),
        },
    });
    let mut event = event(message);
    event.extra = serde_json::from_value(json!({
        "note": PAN, "list": [{ "card": 4111111111111111u64 }], PAN: "key",
    }))
    .expect("an object");
    let found = normalise(&mut event);
    let json = serde_json::to_string(&event).expect("events are JSON");
    assert_eq!(found.card_numbers, 9);
    assert_eq!(json.matches(REDACTED).count(), 9, "{json}");
    assert!(
        !json.contains("1111 1111") && !json.contains("4111111111111111"),
        "{json}"
    );
    assert!(
        event
            .defects
            .contains(&Defect::new("card_number_redacted", "9"))
    );
}

#[test]
fn html_with_a_card_number_between_its_tags_is_not_kept() {
    for html in [
        "<p>4111 <b>1111</b> 1111 1111</p>",
        "<td>4111</td><td>1111</td><td>1111</td><td>1111</td>",
        "4111&nbsp;1111&nbsp;1111&nbsp;1111",
        "&#52;111 1111 1111 1111",
    ] {
        let (after, found, defects) = normalised(message("see below", Some(html)));
        assert_eq!(after.html, None, "{html}");
        assert_eq!(found.card_numbers, 1, "{html}");
        assert!(defects.contains(&"html_dropped".to_owned()), "{html}");
    }
}

#[test]
fn numbers_that_the_provider_gave_as_ids_stay() {
    let mut event = event(message("hi", None));
    event.extra =
        serde_json::from_value(json!({ "page_id": "4111111111111111", "id": 4111111111111111u64 }))
            .expect("an object");
    let before = event.clone();
    assert_eq!(normalise(&mut event).card_numbers, 0);
    assert_eq!(event, before);
}

#[test]
fn edits_receipts_and_system_notes_are_cleaned_too() {
    let key = || DedupeKey::new("e-1");
    let text = format!("{PAN}\0");
    for event in [
        Event::Edit {
            target: "m-1".to_owned(),
            text: text.clone(),
            html: None,
        },
        Event::System {
            thread: ThreadHints::default(),
            text: text.clone(),
        },
        Event::Receipt {
            target: "m-1".to_owned(),
            stage: connector_api::DeliveryStage::Failed,
            reason: Some(text.clone()),
            recipient: None,
        },
    ] {
        let mut event = InboundEvent::new(key(), event);
        assert_eq!(normalise(&mut event).card_numbers, 1, "{event:?}");
        assert!(format!("{event:?}").contains(REDACTED), "{event:?}");
    }
}

#[test]
fn too_long_and_too_deep_is_cut_and_flagged() {
    let (after, _, defects) = normalised(message(&"ä".repeat(TEXT_CHARS_MAX + 1), None));
    assert_eq!(after.text.chars().count(), TEXT_CHARS_MAX);
    assert_eq!(defects, ["text_cut"]);

    let mut deep = json!("leaf");
    for _ in 0..EXTRA_DEPTH_MAX + 10 {
        deep = json!([deep]);
    }
    let mut event = event(message("hi", None));
    event.extra.insert("deep".to_owned(), deep);
    normalise(&mut event);
    assert!(!event.extra["deep"].to_string().contains("leaf"));
}

#[test]
fn what_is_compared_stays_as_different_as_it_came() {
    // Composed or not, with and without invisible, bidi and control characters, long or cut.
    let values = [
        "ada\u{e9}".to_owned(),
        "adae\u{301}".to_owned(),
        "a\u{200b}da".to_owned(),
        "\u{202e}ada".to_owned(),
        "\u{ad}ada".to_owned(),
        "ada\u{7}".to_owned(),
        "ada\r\n".to_owned(),
        "x".repeat(NAME_CHARS_MAX + 1),
    ];
    for value in values {
        let stored = |value: &str| {
            let value = || value.to_owned();
            let thread = ThreadHints {
                native: Some(value()),
                message_id: Some(value()),
                references: vec![value()],
                reply_tokens: vec![value()],
                forward: false,
            };
            let mut said = message("hi", None);
            said.from.identities[0].address = value();
            said.participants.push(Participant {
                namespace: Namespace::email(),
                address: value(),
                name: None,
                role: ParticipantRole::Cc,
            });
            said.thread = thread.clone();
            let from = said.from.identities.first().cloned();
            [
                Event::Message(Box::new(said)),
                Event::System {
                    thread,
                    text: "hi".to_owned(),
                },
                Event::Edit {
                    target: value(),
                    text: "hi".to_owned(),
                    html: None,
                },
                Event::Delete { target: value() },
                Event::Reaction {
                    target: value(),
                    emoji: "+".to_owned(),
                    removed: false,
                    from,
                },
                Event::Receipt {
                    target: value(),
                    stage: connector_api::DeliveryStage::Read,
                    reason: None,
                    recipient: Some(value()),
                },
            ]
        };
        let with_nul = stored(&format!("{value}\0"));
        for (kept, with_nul) in stored(&value).into_iter().zip(with_nul) {
            for sent in [kept.clone(), with_nul] {
                let mut event = InboundEvent::new(DedupeKey::new("e-1"), sent);
                normalise(&mut event);
                assert_eq!(event.event, kept, "{value:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn anything_is_survived_and_a_second_pass_changes_nothing(
        text in "(?s)[\\PC\\r\\n\\t <>&;/=\"'>-]{0,400}",
        html in "(?s)(<[a-z/!-]{0,12}|[ a-z0-9&#;\"'=>]{0,9}|\\PC){0,60}",
    ) {
        let mut first = event(message(&text, Some(&html)));
        let found = normalise(&mut first);
        let Event::Message(once) = &first.event else { panic!("a message stays a message") };
        let full = found.full_text.clone().unwrap_or_else(|| once.text.clone());
        prop_assert!(found.split.own.iter().all(|part| full.get(part.clone()).is_some()));
        // Every word of the new words is in the full text.
        for word in once.text.split_whitespace() {
            prop_assert!(full.contains(word));
        }
        let mut second = event(message(&full, once.html.as_deref()));
        let again = normalise(&mut second);
        prop_assert_eq!(again.card_numbers, 0);
        prop_assert_eq!(again.full_text, found.full_text);
    }
}
