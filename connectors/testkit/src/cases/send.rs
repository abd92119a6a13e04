//! Messages out: what arrives is what was written, where it was meant to go, once.

use connector_api::{
    DeliveryStage, Event, Evidence, IdentityClaim, InboundEvent, InboundMessage, MessageSender,
    Method, Namespace, OutboundMessage, TextUnit, ThreadHints,
};

use crate::kit::{Kit, Verdict, as_message, ensure, outbound_reply, same_text};
use crate::line::Line;
use crate::provider::Delivered;

/// Length of the long text for a channel without a limit of its own, in characters.
const LONG_TEXT_CHARS: usize = 10_000;

pub(crate) async fn text_arrives_unchanged(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let can = connector.capabilities();
    let long = longest_text(can.text_max, can.text_unit);
    for text in [
        "Grüße 👩‍👩‍👧\n\nשלום <b>&amp;</b> \"x\"",
        ".\n.\nFrom here\n..",
        "\u{1f600}",
        &long,
    ] {
        if text.chars().count() > long.chars().count() {
            continue;
        }
        let sent = sender.send(&reply_to_someone(text)).await;
        sent.map_err(|error| format!("cannot send {} characters: {error}", text.chars().count()))?;
        let delivered = last_delivered(kit).await?;
        ensure(same_text(&delivered.text, text), || {
            let shown: String = delivered.text.chars().take(200).collect();
            format!("{} characters became {shown:?}", text.chars().count())
        })?;
    }
    Ok(())
}

fn longest_text(max: Option<u32>, unit: TextUnit) -> String {
    let units = max.map_or(LONG_TEXT_CHARS, |max| (max as usize).min(LONG_TEXT_CHARS));
    let (word, units_each) = match unit {
        TextUnit::Bytes => ("ab ", 3),
        _ => ("wö ", 3),
    };
    let mut text = word.repeat(units / units_each);
    text.push_str(&"x".repeat(units % units_each));
    text
}

pub(crate) async fn reply_lands_in_its_thread(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let id = kit.provider.customer_says("a question").await;
    let question = line.receive(&id).await?;
    let reply = outbound_reply(&question, "an answer");
    let sender = line.connector.sender().ok_or("no sender")?;
    sender
        .send(&reply)
        .await
        .map_err(|error| format!("cannot reply: {error}"))?;
    let delivered = last_delivered(kit).await?;
    let hints = &as_message(&question)?.thread;
    let lands = delivered.thread.is_some()
        && (delivered.thread == hints.native || delivered.thread == hints.message_id);
    ensure(lands, || {
        format!("arrived in {:?}, asked in {hints:?}", delivered.thread)
    })?;
    only_to(&delivered, &reply)?;
    line.stop().await.map(drop)
}

/// Without an id that the provider knows, no receipt ever finds its message.
pub(crate) async fn provider_ids_are_returned(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let message = reply_to_someone("hello");
    let sender = connector.sender().ok_or("no sender")?;
    let receipt = sender.send(&message).await.map_err(|error| error.message)?;
    let id = last_delivered(kit).await?.provider_id;
    let known = receipt.provider_message_ids.contains(&id) || message.id == id;
    ensure(known, || {
        format!(
            "the provider calls it {id}, the receipt {:?}",
            receipt.provider_message_ids
        )
    })?;
    ensure(receipt.stage != DeliveryStage::Failed, || {
        "a sent message counts as failed".to_owned()
    })
}

pub(crate) async fn receipts_follow_sends(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let message = reply_to_someone("hello");
    let sender = line.connector.sender().ok_or("no sender")?;
    let receipt = sender.send(&message).await.map_err(|error| error.message)?;
    let delivered = last_delivered(kit).await?;
    let mut keys = Vec::new();
    for expected in [DeliveryStage::Delivered, DeliveryStage::Read] {
        let id = kit.provider.reports(&delivered, expected).await;
        let event = line.receive(&id).await?;
        let Event::Receipt { target, stage, .. } = &event.event else {
            return Err(format!(
                "a report is read as a {}",
                event.event.kind().as_str()
            ));
        };
        ensure(*stage == expected, || {
            format!("{expected:?} is read as {stage:?}")
        })?;
        let ours = receipt.provider_message_ids.contains(target) || *target == message.id;
        ensure(ours, || {
            format!(
                "the report names {target}, the send {:?}",
                receipt.provider_message_ids
            )
        })?;
        ensure(!keys.contains(&event.dedupe_key), || {
            format!("two stages have the key {}", event.dedupe_key)
        })?;
        keys.push(event.dedupe_key);
    }
    line.stop().await.map(drop)
}

pub(crate) async fn same_key_twice_delivers_once(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let message = reply_to_someone("only once");
    let first = sender.send(&message).await.map_err(|error| error.message)?;
    // Much later, from a new process.
    kit.clock.advance(std::time::Duration::from_secs(3_600));
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let again = sender
        .send(&message)
        .await
        .map_err(|error| format!("the repeat is refused: {error}"))?;
    let delivered = kit.provider.delivered().await.len();
    ensure(delivered == 1, || {
        format!("one message sent twice arrived {delivered} times")
    })?;
    ensure(
        first.provider_message_ids == again.provider_message_ids,
        || {
            format!(
                "{:?} became {:?}",
                first.provider_message_ids, again.provider_message_ids
            )
        },
    )?;
    let other = reply_to_someone("only once");
    sender.send(&other).await.map_err(|error| error.message)?;
    let delivered = kit.provider.delivered().await.len();
    ensure(delivered == 2, || {
        format!("two messages with one text arrived {delivered} times")
    })
}

/// Names, subjects and threads come from customers; a line break in them must stay a character.
pub(crate) async fn hostile_header_text_adds_no_recipient(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let attack = "Hello\r\nBcc: eve@evil.example\r\nwebhook-id: forged\r\n\r\ninjected";
    let mut message = reply_to_someone("hello");
    message.subject = Some(attack.to_owned());
    message.to.name = Some(attack.to_owned());
    message.references = vec!["a@b>\r\nBcc: <eve@evil.example".to_owned()];
    message.thread = message
        .thread
        .map(|thread| format!("{thread}\r\nBcc: eve@evil.example"));
    let before = kit.provider.delivered().await.len();
    if sender.send(&message).await.is_err() {
        let after = kit.provider.delivered().await.len();
        return ensure(before == after, || {
            "refused, and delivered all the same".to_owned()
        });
    }
    let delivered = last_delivered(kit).await?;
    only_to(&delivered, &message)?;
    ensure(same_text(&delivered.text, "hello"), || {
        format!("the text became {:?}", delivered.text)
    })
}

pub(crate) fn only_to(delivered: &Delivered, message: &OutboundMessage) -> Verdict {
    ensure(delivered.to == [message.to.address.clone()], || {
        format!("was for {}, went to {:?}", message.to.address, delivered.to)
    })
}

pub(crate) async fn last_delivered(kit: &Kit) -> Verdict<Delivered> {
    let delivered = kit.provider.delivered().await;
    let last = delivered.into_iter().next_back();
    last.ok_or_else(|| "accepted, and nothing arrived".to_owned())
}

/// A reply to a customer whom no case has met: sending must not need an earlier message.
pub(crate) fn reply_to_someone(text: &str) -> OutboundMessage {
    let email = IdentityClaim {
        namespace: Namespace::email(),
        address: "customer@example.org".to_owned(),
        evidence: Evidence::Verified(Method::Platform),
    };
    let message = InboundMessage {
        from: MessageSender {
            identities: vec![email],
            name: Some("Ada Customer".to_owned()),
        },
        participants: Vec::new(),
        subject: Some("A question".to_owned()),
        text: "a question".to_owned(),
        html: None,
        thread: ThreadHints {
            native: Some("thread-1".to_owned()),
            message_id: Some("question-1@example.org".to_owned()),
            ..ThreadHints::default()
        },
        attachments: Vec::new(),
    };
    let key = connector_api::DedupeKey::new("message:question-1");
    outbound_reply(
        &InboundEvent::new(key, Event::Message(Box::new(message))),
        text,
    )
}
