//! The outbox at start: what was under way is settled, and health says for as long as something restored
//! waits for a person.

use std::sync::Arc;

use tracing::warn;

use super::elsewhere::Elsewhere;
use crate::channels::{Channel, Channels};
use crate::config::Config;
use crate::health::{Health, State};
use crate::store::{Counts, Senders, Sending, StoreError};
use crate::words::counted;

use super::Installation;

/// Settles what can never be sent; and what was being sent when the process ended, where nobody else sends.
/// Where others do, each lane settles what the one before it left, once it is its own.
pub async fn begin(
    installation: &Installation,
    config: &Config,
    channels: &Channels,
    elsewhere: &Elsewhere,
    now: i64,
) -> Result<(), StoreError> {
    let store = installation.store();
    if !installation.is_shared() {
        let idempotent: Vec<_> = channels
            .values()
            .filter(|channel| channel.capabilities.send_idempotent)
            .map(|channel| channel.id.clone())
            .collect();
        let recovered = store.recover_outbox(idempotent, now).await?;
        if recovered > 0 {
            warn!(
                recovered,
                "{recovered} replies were being sent when the process ended"
            );
        }
    }
    let others = elsewhere.declared().await?;
    store
        .set_senders(senders(config, channels), others, now)
        .await
}

/// The channels that can send, as the desk asks for them.
pub fn senders(config: &Config, channels: &Channels) -> Senders {
    let of = |channel: &Arc<Channel>| {
        channel.connector.sender()?;
        let settings = config.channels.get(&channel.id)?;
        let reader = channel.clone();
        let read = move |address: &str| match reader.connector.sender() {
            Some(sender) => sender.recipient(address).map_err(|error| error.message),
            None => Err("this channel cannot send".to_owned()),
        };
        let sending = Sending {
            can: channel.capabilities.clone(),
            brand: channel.brand.clone(),
            queue: settings.queue.clone(),
            read: Arc::new(read),
        };
        Some((channel.id.clone(), sending))
    };
    channels.values().filter_map(of).collect()
}

/// Degraded while replies of a restored backup wait for a person; everything else goes on.
pub fn tell(health: &Health, counts: &Counts) {
    let state = match counts.restored {
        0 => State::Ready,
        held => State::Degraded {
            reason: format!(
                "a backup was restored: {}",
                counted(
                    held,
                    "unsent reply is held until a person settles it",
                    "unsent replies are held until a person settles them",
                )
            ),
        },
    };
    health.set("outbox", state);
}
