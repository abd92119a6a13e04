//! The event log: everything that changes is in it, once, in order, for whoever may see it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Automatic, DeliveryStage};
use expect_test::expect;
use switchboard::dispatch::{Action, Actor, Role};
use switchboard::ids::{ConversationId, MessageId};
use switchboard::router::effects::EventType;
use switchboard::store::events::{EventFilter, StoredEvent};
use switchboard::store::{SettleAs, Settlement, Settling};

use crate::support::{
    Backend, Desk, KEEP, agent, agent_of, chat, delete, edit, mail, reaction, receipt, supervisor,
    system,
};

async fn all(desk: &Desk, actor: Option<Actor>, limit: u32) -> Vec<StoredEvent> {
    let (mut events, mut after) = (Vec::new(), 0);
    loop {
        let filter = EventFilter {
            actor: actor.clone(),
            limit,
            ..EventFilter::default()
        };
        let page = desk.store().events(after, filter).await.unwrap();
        events.extend(page.events);
        if page.through == after {
            return events;
        }
        after = page.through;
    }
}

fn numbers(events: &[StoredEvent]) -> Vec<i64> {
    events.iter().map(|event| event.seq).collect()
}

/// What there is to see of everything, by conversation and by message.
async fn snapshot(desk: &Desk) -> (HashMap<ConversationId, String>, HashMap<MessageId, String>) {
    let (mut conversations, mut messages) = (HashMap::new(), HashMap::new());
    for conversation in desk.conversations().await {
        let links = conversation.detail.links.len();
        let shown = (
            conversation.status,
            conversation.queue.clone(),
            conversation.assignee.clone(),
            conversation.contact,
            links,
        );
        conversations.insert(conversation.id, format!("{shown:?}"));
        let of = desk
            .store()
            .messages(supervisor(), conversation.id, None, 100)
            .await
            .unwrap()
            .unwrap();
        for message in of {
            let shown = (
                message.delivery,
                message.deleted,
                message.edited,
                message.reactions,
            );
            messages.insert(message.id, format!("{shown:?}"));
        }
    }
    (conversations, messages)
}

/// A desk whose every step is compared with what the log says of it.
struct Watched {
    desk: Desk,
    seen: usize,
    told: BTreeMap<&'static str, BTreeSet<&'static str>>,
}

impl Watched {
    /// Checks that whatever differs from `before` has an event after `before`.
    async fn check(
        &mut self,
        step: &'static str,
        before: (HashMap<ConversationId, String>, HashMap<MessageId, String>),
    ) {
        let after = snapshot(&self.desk).await;
        let events = all(&self.desk, None, 1_000).await;
        let new = events.get(self.seen..).unwrap_or_default();
        self.seen = events.len();
        for (id, shown) in &after.0 {
            let told = new
                .iter()
                .any(|event| event.conversation.as_ref().is_some_and(|(of, _)| of == id));
            let changed = before.0.get(id) != Some(shown);
            assert!(
                !changed || told,
                "{step}: {id:?} is {shown} and nothing says so"
            );
        }
        for (id, shown) in &after.1 {
            let told = new.iter().any(|event| event.message == Some(*id));
            let changed = before.1.get(id) != Some(shown);
            assert!(
                !changed || told,
                "{step}: {id:?} is {shown} and nothing says so"
            );
        }
        let kinds = new.iter().map(|event| event.kind.as_str());
        self.told.entry(step).or_default().extend(kinds);
    }
}

macro_rules! step {
    ($watched:ident, $name:literal, |$desk:ident| $work:expr) => {{
        let before = snapshot(&$watched.desk).await;
        {
            let $desk = &mut $watched.desk;
            $work;
        }
        $watched.check($name, before).await;
    }};
}

pub async fn every_change_has_an_event_of_its_own(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.configure(|policy| {
        let channel = policy.channels.get_mut(&"support-mail".parse().unwrap());
        channel.unwrap().acknowledge = Some("Thank you.".to_owned());
    });
    let mut watched = Watched {
        desk,
        seen: 0,
        told: BTreeMap::new(),
    };
    let ada = || agent("ada");
    step!(watched, "01 a mail, acknowledged", |desk| desk
        .deliver([mail("ada@example.com", "Where is my order?").message_id("<m1@example.com>")])
        .await);
    step!(watched, "02 the acknowledgement leaves", |desk| {
        for leased in desk.lease("support-mail").await {
            let provider_ids = vec!["<ack@shop>".to_owned()];
            let namespace = None;
            desk.settle(
                &leased,
                Settlement::Sent {
                    provider_ids,
                    namespace,
                    refused: Vec::new(),
                },
            )
            .await;
        }
    });
    step!(watched, "03 claimed", |desk| desk
        .claim("frontline", ada())
        .await);
    step!(watched, "04 noted", |desk| {
        let note = desk.reply_to(desk.conversation(1).await.id, ada(), "looks odd");
        desk.store().note(note).await.unwrap();
    });
    step!(watched, "05 answered", |desk| {
        let reply = desk.reply_to(desk.conversation(1).await.id, ada(), "On its way.");
        desk.store().reply(reply).await.unwrap();
    });
    let mut leased = Vec::new();
    step!(watched, "06 the answer is leased", |desk| leased
        .extend(desk.lease("support-mail").await));
    step!(watched, "07 and has to wait", |desk| {
        let at = desk.now();
        let reason = "busy".to_owned();
        desk.settle(&leased[0], Settlement::Retry { at, reason })
            .await;
    });
    step!(watched, "08 and is unknown", |desk| {
        let leased = desk.lease("support-mail").await;
        let reason = "lost".to_owned();
        desk.settle(&leased[0], Settlement::Unknown { reason })
            .await;
    });
    step!(watched, "09 and is settled as sent", |desk| {
        let settling = Settling {
            message: leased[0].id,
            by: Some(ada()),
            outcome: SettleAs::Sent,
            idempotency: None,
            at: desk.now(),
        };
        desk.store().settle_held(settling).await.unwrap();
    });
    step!(watched, "10 answered again, and sent", |desk| desk
        .answer(1, "Sorry.", "<a2@shop>")
        .await);
    step!(watched, "11 delivered", |desk| desk
        .deliver([receipt("<a2@shop>", DeliveryStage::Delivered)])
        .await);
    step!(watched, "12 answered, resolved, bounced", |desk| {
        desk.answer(1, "Bye.", "<a3@shop>").await;
        desk.resolve(1).await;
        desk.deliver([receipt("<a3@shop>", DeliveryStage::Failed)])
            .await;
    });
    step!(watched, "13 claimed and answered", |desk| {
        desk.claim("frontline", ada()).await;
        desk.answer(1, "Once more.", "<a4@shop>").await;
    });
    step!(watched, "14 the customer writes back", |desk| desk
        .deliver([mail("ada@example.com", "Thanks!")])
        .await);
    step!(watched, "15 released", |desk| desk
        .act(1, ada(), Action::Release)
        .await
        .unwrap());
    step!(watched, "16 resolved", |desk| desk.resolve(1).await);
    step!(watched, "17 reopened by hand", |desk| desk
        .act(1, supervisor(), Action::Reopen)
        .await
        .unwrap());
    step!(
        watched,
        "18 resolved, and reopened by the customer",
        |desk| {
            desk.resolve(1).await;
            desk.deliver([mail("ada@example.com", "It broke again.")])
                .await;
        }
    );
    step!(watched, "19 a chat with a thread", |desk| desk
        .deliver([chat("cust-7", "Hello").key("c1").thread("t1")])
        .await);
    step!(watched, "20 edited", |desk| desk
        .deliver([edit("c1", "Hello!")])
        .await);
    step!(watched, "21 a reaction", |desk| desk
        .deliver([reaction("c1", "+1")])
        .await);
    step!(watched, "22 deleted", |desk| desk
        .deliver([delete("c1")])
        .await);
    step!(watched, "23 joined", |desk| desk
        .deliver([system("t1", "cust-7 joined")])
        .await);
    step!(watched, "24 an edit before its message", |desk| desk
        .deliver([edit("c9", "late"), chat("cust-9", "early").key("c9")])
        .await);
    step!(watched, "25 one person after all", |desk| desk
        .deliver([chat("cust-7", "It is me.").with_email("ada@example.com")])
        .await);
    step!(watched, "26 a suggestion", |desk| desk
        .deliver([
            chat("cust-3", "Hi").on("other-chat"),
            chat("cust-3", "Hi again")
                .on("other-chat")
                .with_email("eve@example.com"),
        ])
        .await);
    step!(watched, "27 a forward", |desk| desk
        .deliver([mail("ada@example.com", "Fwd")
            .refers_to("<m1@example.com>")
            .forward()])
        .await);
    step!(watched, "28 an absence note", |desk| desk
        .deliver([mail("ada@example.com", "I am away.").automatic(Automatic::AutoReply)])
        .await);
    step!(watched, "29 held as restored", |desk| {
        desk.reply(1, "Unsent.").await;
        desk.store().hold_unsent(true, desk.now()).await.unwrap();
    });
    let told = watched.told.iter().map(|(step, kinds)| {
        let kinds: Vec<&str> = kinds.iter().copied().collect();
        format!("{step}: {}", kinds.join(" "))
    });
    expect![[r#"
        01 a mail, acknowledged: conversation.created conversation.queued message.created
        02 the acknowledgement leaves: message.delivery
        03 claimed: conversation.assigned
        04 noted: message.created
        05 answered: conversation.updated message.created
        06 the answer is leased: message.delivery
        07 and has to wait: message.delivery
        08 and is unknown: conversation.updated message.delivery
        09 and is settled as sent: message.delivery
        10 answered again, and sent: conversation.updated message.created message.delivery
        11 delivered: message.changed message.delivery
        12 answered, resolved, bounced: conversation.queued conversation.resolved message.changed message.created message.delivery
        13 claimed and answered: conversation.assigned conversation.updated message.created message.delivery
        14 the customer writes back: conversation.updated message.created
        15 released: conversation.released
        16 resolved: conversation.resolved
        17 reopened by hand: conversation.reopened
        18 resolved, and reopened by the customer: conversation.queued conversation.reopened conversation.resolved message.created
        19 a chat with a thread: conversation.created conversation.queued message.created
        20 edited: message.changed
        21 a reaction: message.changed
        22 deleted: message.changed
        23 joined: message.created
        24 an edit before its message: conversation.created conversation.queued message.changed message.created
        25 one person after all: contact.merged conversation.updated message.created
        26 a suggestion: conversation.created conversation.queued message.created
        27 a forward: conversation.created conversation.queued conversation.updated message.created
        28 an absence note: message.created
        29 held as restored: message.created message.delivery"#]].assert_eq(&told.collect::<Vec<_>>().join("\n"));
}

/// One conversation in each queue; ada holds the first.
async fn three_queues(backend: Arc<dyn Backend>) -> Desk {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "To frontline."),
        chat("cust-7", "To backoffice.").on("other-chat"),
        chat("cust-7", "To the outlet.").on("outlet-chat"),
    ])
    .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    desk
}

pub async fn pages_give_every_event_once_in_order_and_only_what_may_be_seen(
    backend: Arc<dyn Backend>,
) {
    let desk = three_queues(backend).await;
    let whole = numbers(&all(&desk, None, 1_000).await);
    let count = i64::try_from(whole.len()).unwrap();
    assert_eq!(whole, (1..=count).collect::<Vec<_>>());
    for limit in 1..=3 {
        assert_eq!(
            numbers(&all(&desk, None, limit).await),
            whole,
            "pages of {limit}"
        );
    }
    let reader = |role| Actor {
        role,
        ..supervisor()
    };
    let actors = [
        supervisor(),
        agent_of("ada", &["backoffice"], &[]),
        agent_of("bob", &["backoffice"], &[]),
        agent_of("bob", &[], &["outlet"]),
        reader(Role::Reader),
        reader(Role::Admin),
        reader(Role::Connector),
    ];
    for actor in actors {
        for limit in [2, 1_000] {
            let seen = all(&desk, Some(actor.clone()), limit).await;
            let mut expected = all(&desk, None, limit).await;
            expected.retain(|event| {
                let place = event.conversation.as_ref();
                place.is_some_and(|(_, place)| place.is_seen_by(&actor))
            });
            assert_eq!(numbers(&seen), numbers(&expected), "{actor:?}");
        }
    }
    assert_eq!(newest(&desk).await, count);
}

/// The number of the newest event: all that was written has its own once the log was read.
async fn newest(desk: &Desk) -> i64 {
    all(desk, None, 1_000).await;
    desk.store().moved().borrow().last_event
}

pub async fn what_left_a_queue_or_an_agent_is_told_with_where_it_was(backend: Arc<dyn Backend>) {
    let desk = three_queues(backend).await;
    let before = newest(&desk).await;
    desk.act(1, agent("ada"), Action::Release).await.unwrap();
    let filter = EventFilter {
        limit: 100,
        ..EventFilter::default()
    };
    let page = desk.store().events(before, filter).await.unwrap();
    let [released] = page.events.as_slice() else {
        panic!("one event: {:?}", page.events);
    };
    let [left] = page.departures.as_slice() else {
        panic!("one departure: {:?}", page.departures);
    };
    assert_eq!(released.kind, EventType::ConversationReleased);
    assert_eq!(
        (left.seq, left.conversation),
        (released.seq, desk.conversation(1).await.id)
    );
    assert_eq!(left.before.assignee.as_deref(), Some("ada"));
    assert_eq!(left.now.assignee, None);
}

pub async fn routine_events_go_after_their_time_and_numbers_go_on(backend: Arc<dyn Backend>) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut desk = three_queues(backend).await;
    let first = newest(&desk).await;
    desk.later(6 * DAY);
    desk.deliver([mail("eve@example.com", "Later.")]).await;
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    let floor = |desk: &Desk| {
        let store = desk.store().clone();
        async move {
            store
                .events(
                    0,
                    EventFilter {
                        limit: 1,
                        ..EventFilter::default()
                    },
                )
                .await
                .unwrap()
                .floor
        }
    };
    assert_eq!(floor(&desk).await, 0, "nothing is due");
    desk.later(2 * DAY);
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    assert_eq!(floor(&desk).await, first, "what is a week old");
    let kept = all(&desk, None, 100).await;
    let kinds: Vec<&str> = kept.iter().map(|event| event.kind.as_str()).collect();
    let routine = [
        "conversation.created",
        "conversation.queued",
        "message.created",
    ];
    assert_eq!(kinds, [&["conversation.assigned"][..], &routine].concat());
    // However old everything is: the next number is a new one.
    desk.later(400 * DAY);
    let last = newest(&desk).await;
    for _ in 0..3 {
        desk.store().sweep(KEEP, desk.now()).await.unwrap();
    }
    desk.crash().await;
    assert_eq!(newest(&desk).await, last);
    desk.deliver([mail("eve@example.com", "Much later.")]).await;
    let events = numbers(&all(&desk, None, 100).await);
    assert_eq!(events.first(), Some(&last));
    assert!(events.len() > 1 && events.is_sorted_by(|a, b| a < b));
}
