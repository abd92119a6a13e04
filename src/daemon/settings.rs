//! What the parts are built from: keys of the installation, its store, and the router's settings.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use aws_lc_rs::hmac;
use connector_api::{BrandId, QueueId};
use tracing::warn;

use crate::api::ChannelFacts;
use crate::channels::{self, Channel, Channels};
use crate::config::{Across, Config, QUEUE_DEFAULT};
use crate::credentials::Vault;
use crate::ids::IdCodec;
use crate::intake::IntakeKeys;
use crate::router::Policy;
use crate::router::keys::DigestKey;
use crate::router::policy::{ChannelPolicy, Joining, Rule};
use crate::router::reply_token::ReplyTokens;
use crate::store::retention::Periods;
use crate::store::{IDEMPOTENCY_KEPT, Retention};

/// Keys of the installation, each for one purpose.
pub struct Keys {
    pub ids: IdCodec,
    pub reply_tokens: ReplyTokens,
    pub intake: IntakeKeys,
    /// Of links to files.
    pub links: hmac::Key,
    /// Under which credentials of channels are sealed.
    pub vault: Vault,
}

impl Keys {
    pub fn derive(installation_key: &[u8]) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, installation_key);
        let derive = |purpose: &str| hmac::sign(&root, purpose.as_bytes());
        Self {
            ids: IdCodec::new(derive("public-ids").as_ref()),
            links: hmac::Key::new(hmac::HMAC_SHA256, derive("file-links").as_ref()),
            reply_tokens: ReplyTokens::new(derive("reply-tokens").as_ref()),
            intake: IntakeKeys {
                record: hmac::Key::new(hmac::HMAC_SHA256, derive("record-keys").as_ref()),
                digest: DigestKey::new(derive("digests").as_ref()),
            },
            vault: Vault::new(derive("credentials").as_ref())
                .expect("HMAC-SHA256 gives the 32 bytes that AES-256 takes"),
        }
    }
}

/// The names that the store gives numbers to, and the queues.
pub fn names(config: &Config) -> (Vec<String>, Vec<QueueId>) {
    let brands = config.brands.keys().map(|brand| brand.as_str().to_owned());
    let names: Vec<String> = config
        .channels
        .keys()
        .map(|channel| channel.as_str().to_owned())
        .chain(brands)
        .collect();
    let mut queues: Vec<QueueId> = config.queues.keys().cloned().collect();
    // The first one adopts what waits in a queue that is gone.
    queues.sort_by_key(|queue| queue.as_str() != QUEUE_DEFAULT);
    (names, queues)
}

/// The configured brands: a channel may be of one that is nowhere else.
pub fn brands(config: &Config) -> Vec<BrandId> {
    let of_channels = config.channels.values().map(|channel| &channel.brand);
    let all: BTreeSet<&BrandId> = config.brands.keys().chain(of_channels).collect();
    all.into_iter().cloned().collect()
}

/// Logs what is taken of the channels' settings and is probably not meant.
pub fn warn_of(config: &Config, channels: &Channels) {
    for (key, warning) in channels::warnings(config, channels) {
        warn!(key, "{key}: {warning}");
    }
}

/// What the API says of the channels.
pub fn channel_facts(config: &Config, channels: &Channels) -> Vec<ChannelFacts> {
    let facts = |channel: &Arc<Channel>| {
        let settings = config.channels.get(&channel.id)?;
        Some(ChannelFacts {
            id: channel.id.clone(),
            brand: channel.brand.clone(),
            connector: settings.connector.clone(),
            can: channel.capabilities.clone(),
        })
    };
    channels.values().filter_map(facts).collect()
}

/// The router's settings out of the configuration.
pub fn policy(config: &Config, channels: &Channels, keys: &Keys) -> Policy {
    let channel_policies = config.channels.iter().map(|(id, channel)| {
        let replayable = channels
            .get(id)
            .is_some_and(|built| built.capabilities.replayable);
        let policy = ChannelPolicy {
            brand: channel.brand.clone(),
            queue: channel.queue.clone(),
            // Where nothing can be sent, nothing is promised.
            acknowledge: channel.acknowledge.clone().filter(|_| {
                channels
                    .get(id)
                    .is_some_and(|built| built.connector.sender().is_some())
            }),
            replayable,
        };
        (id.clone(), policy)
    });
    let rules: Vec<Rule> = config
        .rules
        .iter()
        .map(|rule| Rule {
            name: rule.name.clone(),
            channels: rule.when.channel.clone(),
            languages: rule
                .when
                .language
                .iter()
                .map(|language| language.as_str().to_owned())
                .collect(),
            keywords: rule
                .when
                .keywords
                .iter()
                .map(|keyword| keyword.to_lowercase())
                .collect(),
            intents: rule.when.intent.clone(),
            labels: rule.when.labels.iter().map(ToString::to_string).collect(),
            automatic: rule.when.automatic,
            queue: rule.queue.clone(),
            priority: rule.priority,
            tags: rule.tags.clone(),
        })
        .collect();
    let text = format!("{rules:?}");
    let version: String = crate::blobs::hex(&crate::blobs::sha256(text.as_bytes()))
        .chars()
        .take(12)
        .collect();
    let default: QueueId = QUEUE_DEFAULT
        .parse()
        .expect("the default queue is a valid id");
    let declared = config.queues.contains_key(&default);
    let first = config.queues.keys().next().cloned();
    let fallback = first.filter(|_| !declared).unwrap_or(default);
    Policy {
        channels: channel_policies.collect(),
        fallback_queue: fallback,
        priorities: config
            .queues
            .iter()
            .map(|(id, queue)| (id.clone(), queue.priority))
            .collect::<HashMap<_, _>>(),
        rules,
        rules_version: version,
        joining: Joining {
            unify_window: config.joining.unify_window,
            reopen_window: config.joining.reopen_window,
            duplicate_window: config.joining.duplicate_window,
            across_channels: config.joining.across == Across::Brand,
            apart: config.joining.apart.iter().cloned().collect::<HashSet<_>>(),
        },
        reply_tokens: keys.reply_tokens.clone(),
        ids: keys.ids.clone(),
    }
}

/// How long each kind is kept.
#[derive(Debug, Clone, Copy)]
pub struct Kept {
    pub swept: Retention,
    pub forgotten: Periods,
    /// How long backups are kept, as the configuration says.
    pub backups: std::time::Duration,
}

pub fn retention(config: &Config) -> Kept {
    let kept = &config.retention;
    Kept {
        swept: Retention {
            raw: kept.raw,
            bus: kept.bus,
            idempotency: IDEMPOTENCY_KEPT,
            events: kept.events,
            audit: kept.audit,
        },
        forgotten: Periods {
            resolved: kept.resolved,
            dead_letters: kept.dead_letters,
            drafts: kept.drafts,
            audit: kept.audit,
        },
        backups: kept.backups,
    }
}
