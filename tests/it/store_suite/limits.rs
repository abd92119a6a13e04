//! Replies against what their channel takes: said where they are written, and checked again before
//! they leave.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{Capabilities, TextUnit, Timestamp};
use switchboard::clock::timestamp;
use switchboard::conversation::Delivery;
use switchboard::dispatch::Refusal;
use switchboard::store::{Declared, Settlement, StoreError};

use crate::support::{Backend, Desk, Said, chat, mail, senders, supervisor};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A desk whose chat takes this much and whose mail takes everything.
async fn desk(backend: Arc<dyn Backend>, chat: Capabilities) -> Desk {
    let desk = Desk::on(backend).await;
    let senders = senders([
        ("shop-chat", chat),
        ("support-mail", Capabilities::default()),
    ]);
    desk.store()
        .set_senders(senders, Declared::default(), desk.now())
        .await
        .unwrap();
    desk
}

fn window() -> Capabilities {
    Capabilities {
        reply_window: Some(DAY),
        ..Capabilities::default()
    }
}

fn short() -> Capabilities {
    Capabilities {
        text_max: Some(4),
        text_unit: TextUnit::Utf16Units,
        ..Capabilities::default()
    }
}

/// What answering the `number`th conversation comes to.
async fn answer(desk: &Desk, number: usize, text: &str) -> Result<(), StoreError> {
    let id = desk.conversation(number).await.id;
    let reply = desk.reply_to(id, supervisor(), text);
    desk.store().reply(reply).await.map(drop)
}

fn sent_at(mut said: Said, at: Timestamp) -> Said {
    said.event.sent_at = Some(at);
    said
}

pub async fn a_text_that_is_too_long_is_refused_where_it_is_written(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend, short()).await;
    desk.deliver([chat("cust-7", "Hello?"), mail("ada@example.com", "Hello?")])
        .await;
    let refused = answer(&desk, 1, "\u{1f44d}\u{1f44d}\u{1f44d}").await;
    assert_eq!(
        refused.unwrap_err(),
        StoreError::Refused(Refusal::TooLong {
            channel: "shop-chat".parse().unwrap(),
            length: 6,
            max: 4,
            unit: "UTF-16 units",
        })
    );
    assert_eq!(desk.messages(1).await.len(), 1, "nothing is kept of it");
    assert_eq!(answer(&desk, 1, "\u{1f44d}\u{1f44d}").await, Ok(()));
    assert_eq!(answer(&desk, 2, "As long as it takes.").await, Ok(()));
}

pub async fn an_answer_after_the_reply_window_is_refused(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend, window()).await;
    let closed = StoreError::Refused(Refusal::WindowClosed {
        channel: "shop-chat".parse().unwrap(),
        window_seconds: DAY.as_secs(),
    });
    // Said an hour before it came here: the provider counts from then.
    let said = timestamp(desk.now() - 3_600_000_000);
    desk.deliver([sent_at(chat("cust-7", "Hello?"), said)])
        .await;
    desk.later(DAY - Duration::from_secs(3_700));
    assert_eq!(answer(&desk, 1, "Hello.").await, Ok(()));
    desk.later(Duration::from_secs(200));
    assert_eq!(answer(&desk, 1, "Hello?").await, Err(closed.clone()));
    // A provider's clock that is ahead opens no longer window.
    let ahead = timestamp(desk.now() + 3_600_000_000);
    desk.deliver([sent_at(chat("cust-7", "Hello?"), ahead)])
        .await;
    desk.later(DAY);
    assert_eq!(answer(&desk, 1, "Hello.").await, Ok(()));
    desk.later(Duration::from_secs(1));
    assert_eq!(answer(&desk, 1, "Hello?").await, Err(closed));
}

pub async fn a_message_anywhere_on_the_channel_opens_the_window_again(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend, window()).await;
    desk.deliver([chat("cust-7", "Hello?").thread("t-1")]).await;
    desk.later(DAY * 4);
    desk.deliver([chat("cust-7", "Something else.").thread("t-2")])
        .await;
    assert_eq!(desk.conversations().await.len(), 2, "another matter");
    assert_eq!(answer(&desk, 1, "Hello.").await, Ok(()));
    desk.later(DAY * 2);
    // Another customer's, or one on another channel, opens nothing.
    desk.deliver([
        chat("cust-8", "Hello?").thread("t-3"),
        mail("cust-7@example.com", "Hello?"),
    ])
    .await;
    let refused = answer(&desk, 1, "Hello?").await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Refused(Refusal::WindowClosed { .. }))
        ),
        "{refused:?}"
    );
}

pub async fn what_does_not_fit_any_more_is_refused_before_it_leaves_and_stops_nobody(
    backend: Arc<dyn Backend>,
) {
    let mut desk = desk(backend, window()).await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    assert_eq!(answer(&desk, 1, "Hello.").await, Ok(()));
    let leased = desk.lease("shop-chat").await.pop().unwrap();
    let again = Settlement::Retry {
        at: desk.now(),
        reason: "refused connection".to_owned(),
    };
    desk.settle(&leased, again).await;
    desk.later(DAY * 2);
    desk.deliver([chat("cust-8", "Hello?")]).await;
    assert_eq!(answer(&desk, 2, "Hello!").await, Ok(()));
    let channel = "shop-chat".parse().unwrap();
    let taken = desk.store().lease(&channel, 10, desk.now()).await.unwrap();
    let texts: Vec<&str> = taken
        .leased
        .iter()
        .map(|leased| leased.draft.text.as_str())
        .collect();
    assert_eq!(texts, ["Hello!"]);
    let late = desk.messages(1).await.pop().unwrap();
    assert_eq!(late.delivery, Some(Delivery::Refused));
    assert_eq!(
        late.reason.as_deref(),
        Some(
            "the channel shop-chat takes answers for 86400 seconds after the customer's last message; that time is over"
        )
    );
}
