//! A channel's lane: whatever becomes of one send, the lane goes on.

use std::sync::Arc;

use connector_api::{
    CancellationToken, Capabilities, Connector, Health as ChannelHealth, OutboundMessage, Result,
    SendReceipt, Sender, async_trait,
};
use switchboard::channels::Channel;
use switchboard::conversation::Delivery;
use switchboard::health::{Health, State};
use switchboard::outbound::{Lane, health_name};
use switchboard::wake::Wakes;

use crate::support::{Desk, chat, supervisor, within_patience};

/// A provider whose connector has a bug.
struct Buggy;

#[async_trait]
impl Connector for Buggy {
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    async fn health(&self) -> ChannelHealth {
        ChannelHealth::Ready
    }

    fn sender(&self) -> Option<&dyn Sender> {
        Some(self)
    }
}

#[async_trait]
impl Sender for Buggy {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        assert_ne!(message.text, "poison", "a bug in a connector");
        Ok(SendReceipt::accepted(vec![message.id.clone()]))
    }
}

fn lane(desk: &Desk, health: &Arc<Health>) -> Lane {
    let capabilities = Buggy.capabilities();
    let channel = Channel {
        id: "shop-chat".parse().unwrap(),
        brand: "main".parse().unwrap(),
        vouches: Vec::new(),
        connector: Box::new(Buggy),
        capabilities,
    };
    Lane {
        channel: Arc::new(channel),
        store: desk.store().clone(),
        clock: desk.clock.clone(),
        wakes: Arc::new(Wakes::default()),
        health: health.clone(),
        ids: desk.keys.ids.clone(),
        reply_tokens: desk.keys.reply_tokens.clone(),
    }
}

#[tokio::test]
async fn a_sender_that_panics_leaves_one_reply_unknown_and_the_others_are_sent() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Hello?"), chat("cust-8", "Hello?")])
        .await;
    let poison = desk.reply(1, "poison").await;
    let other = desk.reply(2, "It leaves today.").await;
    let later = desk.reply(1, "Sorry for the wait.").await;
    let (health, stop) = (Arc::new(Health::default()), CancellationToken::new());
    let lane = lane(&desk, &health);
    let name = health_name(&lane.channel.id);
    let stopped = stop.clone();
    let running = tokio::spawn(async move { lane.run(stopped).await });
    for (message, expected) in [
        (&poison, Delivery::Unknown),
        (&other, Delivery::Sent),
        (&later, Delivery::Sent),
    ] {
        let delivered = async {
            loop {
                let found = desk
                    .store()
                    .message(supervisor(), message.id)
                    .await
                    .unwrap();
                match found.unwrap().delivery {
                    Some(Delivery::Queued | Delivery::Sending) => tokio::task::yield_now().await,
                    other => return other,
                }
            }
        };
        let delivered = within_patience("sending", delivered).await;
        assert_eq!(delivered, Some(expected));
    }
    let found = desk.store().message(supervisor(), poison.id).await.unwrap();
    assert_eq!(
        found.unwrap().reason.as_deref(),
        Some("sending it panicked")
    );
    stop.cancel();
    within_patience("stopping the lane", running).await.unwrap();
    assert!(matches!(
        health.snapshot().get(&name),
        Some(State::Ready | State::Unreachable { .. })
    ));
}
