//! What customers write, as a bus would bring it: 1.2 KB each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use connector_api::{
    DedupeKey, Event, Evidence, IdentityClaim, InboundEvent, InboundMessage, MessageSender, Method,
    Namespace, ThreadHints,
};
use switchboard::bus::{Carried, ENVELOPE_MAJOR, Envelope};
use switchboard::daemon::Keys;
use switchboard::router::policy::{ChannelPolicy, Joining};
use switchboard::router::{Policy, Prepared};

pub const QUEUE: &str = "frontline";
const BRAND: &str = "main";
const CHANNEL: &str = "support-mail";
const PARTITION_BITS: u32 = 12;
const TEXT_BYTES: usize = 800;

pub fn names() -> Vec<String> {
    [BRAND, CHANNEL].map(str::to_owned).to_vec()
}

pub fn policy(keys: &Keys) -> Result<Policy> {
    let channel = ChannelPolicy {
        brand: BRAND.parse()?,
        queue: QUEUE.parse()?,
        acknowledge: None,
        replayable: false,
    };
    Ok(Policy {
        channels: HashMap::from([(CHANNEL.parse()?, channel)]),
        fallback_queue: QUEUE.parse()?,
        priorities: HashMap::new(),
        rules: Vec::new(),
        rules_version: "bench".to_owned(),
        joining: Joining {
            unify_window: Duration::from_secs(72 * 3600),
            reopen_window: Duration::from_secs(14 * 24 * 3600),
            duplicate_window: Duration::from_secs(15 * 60),
            across_channels: true,
            apart: HashSet::new(),
        },
        reply_tokens: keys.reply_tokens.clone(),
        ids: keys.ids.clone(),
    })
}

/// The mail at an offset of partition 0, by one of the customers.
pub fn record(offset: i64, customer: usize) -> Result<Prepared> {
    let text = format!("Where is my order {offset}? ").repeat(TEXT_BYTES / 26);
    let message = InboundMessage {
        from: MessageSender {
            identities: vec![IdentityClaim {
                namespace: Namespace::email(),
                address: format!("customer-{customer}@example.com"),
                evidence: Evidence::Verified(Method::Dmarc),
            }],
            name: Some(format!("Customer {customer}")),
        },
        participants: Vec::new(),
        subject: Some("Where is my order?".to_owned()),
        text,
        html: None,
        thread: ThreadHints {
            message_id: Some(format!("{offset}@example.com")),
            ..ThreadHints::default()
        },
        attachments: Vec::new(),
    };
    let envelope = Envelope {
        major: ENVELOPE_MAJOR,
        brand: BRAND.parse()?,
        channel: CHANNEL.parse()?,
        arrived_at: offset * 1_000,
        digest: offset as u64,
        imported: false,
        event: InboundEvent::new(
            DedupeKey::new(format!("m{offset}")),
            Event::Message(Box::new(message)),
        ),
        full_text: None,
    };
    let carried = Carried {
        body: serde_json::to_vec(&envelope)?.into(),
        raw: None,
        blobs: Vec::new(),
        arrived_at: envelope.arrived_at,
        headers: Vec::new(),
    };
    Ok(Prepared {
        carried: Some(Arc::new(carried)),
        ..Prepared::new(offset << PARTITION_BITS, Arc::new(envelope))
    })
}
