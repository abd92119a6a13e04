//! The made-up configuration of a desk: its channels, queues and policy.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Capabilities, ChannelId, Connector, Health, Namespace, QueueId, Recipient, async_trait,
};
use switchboard::blobs::Blobs;
use switchboard::channels::Channel;
use switchboard::config::Vouch;
use switchboard::conversation::Priority;
use switchboard::daemon::Keys;
use switchboard::intake::Intake;
use switchboard::router::Policy;
use switchboard::router::policy::{ChannelPolicy, Joining};
use switchboard::store::{Senders, Sending};

use super::{ManualClock, Opened};

/// Channel, brand, queue, whether its source can show items again, whether it vouches.
const CHANNELS: [(&str, &str, &str, bool, bool); 6] = [
    ("support-mail", "main", "frontline", true, false),
    ("sales-mail", "main", "frontline", true, false),
    ("shop-chat", "main", "frontline", false, true),
    ("other-chat", "main", "backoffice", false, false),
    ("outlet-mail", "outlet", "outlet", true, false),
    ("outlet-chat", "outlet", "outlet", false, true),
];
const QUEUES: [&str; 3] = ["frontline", "backoffice", "outlet"];

pub fn queue_id(queue: &str) -> QueueId {
    queue.parse().expect("a queue id")
}

pub fn channel_id(channel: &str) -> ChannelId {
    channel.parse().expect("a channel id")
}

pub fn queues() -> Vec<QueueId> {
    QUEUES.iter().map(|queue| queue_id(queue)).collect()
}

pub fn names() -> Vec<String> {
    let channels = CHANNELS
        .iter()
        .flat_map(|(channel, brand, ..)| [*channel, *brand]);
    let distinct: HashSet<&str> = channels.collect();
    distinct.into_iter().map(str::to_owned).collect()
}

pub fn policy(keys: &Keys) -> Policy {
    let channel = |(channel, brand, queue, replayable, _): (&str, &str, &str, bool, bool)| {
        let policy = ChannelPolicy {
            brand: brand.parse().expect("a brand id"),
            queue: queue_id(queue),
            acknowledge: None,
            replayable,
        };
        (channel_id(channel), policy)
    };
    Policy {
        channels: CHANNELS.into_iter().map(channel).collect(),
        fallback_queue: queue_id("frontline"),
        priorities: HashMap::<QueueId, Priority>::new(),
        rules: Vec::new(),
        rules_version: "test".to_owned(),
        joining: Joining {
            unify_window: Duration::from_secs(72 * 3600),
            reopen_window: Duration::from_secs(14 * 24 * 3600),
            duplicate_window: Duration::from_secs(15 * 60),
            across_channels: true,
            apart: HashSet::new(),
        },
        reply_tokens: keys.reply_tokens.clone(),
        ids: keys.ids.clone(),
    }
}

pub fn intake(opened: &Opened, keys: &Keys, blobs: Blobs, clock: Arc<ManualClock>) -> Arc<Intake> {
    Arc::new(Intake::new(
        opened.bus.clone(),
        opened.store.clone(),
        blobs,
        clock,
        keys.intake.clone(),
    ))
}

pub fn channels() -> HashMap<&'static str, Channel> {
    let channel = |(id, brand, _, replayable, vouches): (&'static str, &str, &str, bool, bool)| {
        let capabilities = Capabilities {
            replayable,
            ..Capabilities::default()
        };
        let channel = Channel {
            id: channel_id(id),
            brand: brand.parse().expect("a brand id"),
            vouches: if vouches {
                vec![Vouch::Email]
            } else {
                Vec::new()
            },
            attachment_hosts: vec!["127.0.0.1".to_owned()],
            connector: Box::new(Silent),
            capabilities,
        };
        (id, channel)
    };
    CHANNELS.into_iter().map(channel).collect()
}

/// The channels of this desk that can send, each with these capabilities: mail channels read mail
/// addresses, chats their customers' ids.
pub fn senders(can: impl IntoIterator<Item = (&'static str, Capabilities)>) -> Senders {
    let sending = |(id, can): (&'static str, Capabilities)| {
        let known = CHANNELS.iter().find(|(channel, ..)| *channel == id);
        let (_, brand, queue, ..) = known.expect("a channel of the desk");
        let read = move |address: &str| match (id.ends_with("mail"), address.contains('@')) {
            (true, false) => Err(format!("{address:?} is no mail address")),
            (mail, _) => Ok(Recipient {
                namespace: match mail {
                    true => Namespace::email(),
                    false => Namespace::account("webhook", id),
                },
                // As the connector does.
                address: match mail {
                    true => address.to_lowercase(),
                    false => address.to_owned(),
                },
                name: None,
            }),
        };
        let sending = Sending {
            can,
            brand: brand.parse().expect("a brand id"),
            queue: queue_id(queue),
            read: Arc::new(read),
        };
        (channel_id(id), sending)
    };
    can.into_iter().map(sending).collect()
}

/// A connector that is never asked: tests speak for it.
struct Silent;

#[async_trait]
impl Connector for Silent {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> Health {
        Health::Ready
    }
}
