//! What an actor may not see does not exist for it.

use std::sync::Arc;

use expect_test::expect;
use switchboard::dispatch::verbs::{Target, Verb};
use switchboard::dispatch::{Actor, Role};
use switchboard::ids::ConversationId;
use switchboard::router::facts::Conversation;
use switchboard::store::{ConversationFilter, ConversationSort, Doing, StoreError};

use crate::support::{Backend, Desk, agent, agent_of, chat, mail, supervisor};

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

async fn sees(desk: &Desk, actor: &Actor) -> String {
    let mut seen = Vec::new();
    for (number, found) in desk.conversations().await.into_iter().enumerate() {
        let by_id = desk
            .store()
            .conversation(actor.clone(), found.id)
            .await
            .unwrap()
            .is_some();
        let messages = desk
            .store()
            .messages(actor.clone(), found.id, None, 10)
            .await
            .unwrap();
        let message = desk
            .store()
            .message(actor.clone(), found.last_message.unwrap())
            .await
            .unwrap();
        let contact = desk
            .store()
            .contact(actor.clone(), found.contact)
            .await
            .unwrap();
        let filter = ConversationFilter {
            limit: 100,
            ..ConversationFilter::default()
        };
        let listed = desk
            .store()
            .conversations(actor.clone(), filter)
            .await
            .unwrap();
        let ways = [
            by_id,
            messages.is_some(),
            message.is_some(),
            contact.is_some(),
            listed.iter().any(|listed| listed.id == found.id),
        ];
        assert!(
            ways.iter().all(|way| *way == by_id),
            "every way of reading agrees: {ways:?} for {actor:?}"
        );
        if by_id {
            seen.push((number + 1).to_string());
        }
    }
    let queues = desk.store().queues(actor.clone()).await.unwrap();
    let queues: Vec<String> = queues.iter().map(|queue| queue.id.to_string()).collect();
    format!("{} of {}", seen.join(" "), queues.join(" "))
}

pub async fn what_an_actor_may_not_see_does_not_exist_for_it(backend: Arc<dyn Backend>) {
    let desk = three_queues(backend).await;
    let of_role = |role| Actor {
        role,
        agent: None,
        ..supervisor()
    };
    let mut table = String::new();
    for (who, actor) in [
        ("supervisor", supervisor()),
        ("agent", agent("bob")),
        ("agent of backoffice", agent_of("bob", &["backoffice"], &[])),
        (
            "agent of backoffice who holds one elsewhere",
            agent_of("ada", &["backoffice"], &[]),
        ),
        (
            "agent of the outlet brand",
            agent_of("bob", &[], &["outlet"]),
        ),
        (
            "agent of a queue of another brand",
            agent_of("bob", &["outlet"], &["main"]),
        ),
        ("reader", of_role(Role::Reader)),
        ("admin", of_role(Role::Admin)),
        ("connector", of_role(Role::Connector)),
    ] {
        table += &format!("{who}: {}\n", sees(&desk, &actor).await);
    }
    expect![[r#"
        supervisor: 1 2 3 of frontline backoffice outlet
        agent: 1 2 3 of frontline backoffice outlet
        agent of backoffice: 2 of backoffice
        agent of backoffice who holds one elsewhere: 1 2 of backoffice
        agent of the outlet brand: 3 of frontline backoffice outlet
        agent of a queue of another brand:  of outlet
        reader: 1 2 3 of frontline backoffice outlet
        admin:  of frontline backoffice outlet
        connector:  of frontline backoffice outlet
    "#]]
    .assert_eq(&table);
    let elsewhere = agent_of("bob", &["backoffice"], &[]);
    let refused = desk
        .store()
        .claim(&"outlet".parse().unwrap(), elsewhere, None, desk.now())
        .await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    let other_brand = agent_of("bob", &[], &["main"]);
    assert!(
        desk.claim("outlet", other_brand).await.is_none(),
        "the queue's conversation is another brand's"
    );
}

fn page_behind(before: Option<(i64, ConversationId)>, limit: u32) -> ConversationFilter {
    ConversationFilter {
        sort: ConversationSort::Opened { before },
        limit,
        ..ConversationFilter::default()
    }
}

/// When each was opened, and its id.
async fn listed(desk: &Desk, filter: ConversationFilter) -> Vec<(i64, ConversationId)> {
    let found = desk.store().conversations(supervisor(), filter).await;
    let place = |found: Conversation| (found.opened_at, found.id);
    found.unwrap().into_iter().map(place).collect()
}

/// History is filed after what it is older than, as another process's conversations are.
pub async fn a_list_is_in_the_order_of_opening_and_its_pages_give_each_once_while_others_are_added(
    backend: Arc<dyn Backend>,
) {
    const DAY: i64 = 24 * 60 * 60 * 1_000_000;
    let mut desk = Desk::on(backend).await;
    let before = |days: i64, from: &str| {
        let said = mail(from, "Where is my parcel?").message_id(from);
        said.sent_at(desk.now() - days * DAY).history().imported()
    };
    // The last one is from before 1970.
    let old = [before(3, "c@example.com"), before(30_000, "e@example.com")];
    let older = before(4, "d@example.com");
    desk.deliver([mail("b@example.com", "Hi")]).await;
    desk.deliver(old).await;
    desk.deliver([older]).await;
    desk.hours_later(1);
    desk.deliver([mail("a@example.com", "Hi")]).await;
    let all = desk.conversations().await;
    let [b, c, e, d, a] = &all[..] else {
        panic!("five conversations: {all:?}");
    };
    let expected = [a, b, c, d, e].map(|one| (one.opened_at, one.id));
    assert_eq!(listed(&desk, page_behind(None, 9)).await, expected);
    let mut paged = Vec::new();
    for round in 0..expected.len() {
        paged.extend(listed(&desk, page_behind(paged.last().copied(), 1)).await);
        desk.hours_later(1);
        desk.deliver([mail(&format!("new-{round}@example.com"), "Hi")])
            .await;
    }
    assert_eq!(paged, expected);
    let status = Some(switchboard::conversation::Status::Closed);
    let closed = ConversationFilter {
        status,
        ..page_behind(None, 9)
    };
    let (_, history) = expected.split_at(2);
    assert_eq!(listed(&desk, closed).await, history);
}

pub async fn lists_are_filtered_and_paged(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver((0..7).map(|number| mail(&format!("customer-{number}@example.com"), "Hi")))
        .await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    desk.resolve(2).await;
    let list = async |filter: ConversationFilter| {
        let found = listed(&desk, filter).await;
        found.into_iter().map(|(_, id)| id).collect::<Vec<_>>()
    };
    let all: Vec<_> = desk
        .conversations()
        .await
        .into_iter()
        .map(|found| found.id)
        .collect();
    let mut paged = Vec::new();
    loop {
        let next = listed(&desk, page_behind(paged.last().copied(), 3)).await;
        if next.is_empty() {
            break;
        }
        paged.extend(next);
    }
    let paged: Vec<_> = paged.into_iter().map(|(_, id)| id).rev().collect();
    assert_eq!(paged, all, "newest first, each once");
    let any = || ConversationFilter {
        limit: 100,
        ..ConversationFilter::default()
    };
    let queue = |queue: &str| Some(queue.parse().unwrap());
    let resolved = Some(switchboard::conversation::Status::Resolved);
    assert_eq!(
        list(ConversationFilter {
            status: resolved,
            ..any()
        })
        .await,
        [all[1]]
    );
    assert_eq!(
        list(ConversationFilter {
            assignee: Some("ada".to_owned()),
            ..any()
        })
        .await,
        [all[0]]
    );
    assert_eq!(
        list(ConversationFilter {
            queue: queue("frontline"),
            ..any()
        })
        .await
        .len(),
        7
    );
    assert_eq!(
        list(ConversationFilter {
            queue: queue("outlet"),
            ..any()
        })
        .await,
        []
    );
    let contact = Some(desk.conversation(3).await.contact);
    assert_eq!(
        list(ConversationFilter { contact, ..any() }).await,
        [all[2]]
    );
}

pub async fn queues_tell_how_many_wait_and_since_when(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Hi"), mail("bob@example.com", "Hi")])
        .await;
    let since = desk.conversation(2).await.enqueued_at;
    desk.hours_later(1);
    desk.deliver([mail("cy@example.com", "Hi")]).await;
    desk.claim("frontline", agent("ada")).await.unwrap();
    let depths = desk.store().queues(supervisor()).await.unwrap();
    let told: Vec<_> = depths
        .iter()
        .map(|queue| (queue.id.as_str(), queue.waiting, queue.oldest_enqueued_at))
        .collect();
    assert_eq!(
        told,
        [
            ("frontline", 2, Some(since)),
            ("backoffice", 0, None),
            ("outlet", 0, None)
        ]
    );
}

pub async fn queues_tell_nothing_of_other_brands(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([mail("ada@example.com", "Hi")]).await;
    desk.hours_later(1);
    desk.deliver([chat("cust-7", "Hi").on("outlet-chat")]).await;
    let of_outlet = desk.conversation(2).await;
    let told = async |brands: &[&str]| {
        let depths = desk.store().queues(agent_of("bob", &[], brands)).await;
        let told = depths.unwrap().into_iter();
        told.map(|queue| {
            (
                queue.id.to_string(),
                queue.waiting,
                queue.oldest_enqueued_at,
            )
        })
        .collect::<Vec<_>>()
    };
    // Another brand's conversation waits in a queue of both.
    let handed = Doing {
        conversation: of_outlet.id,
        actor: supervisor(),
        verb: Verb::Transfer(Target::Queue("frontline".parse().unwrap())),
        version: None,
        at: desk.now(),
    };
    desk.store().perform(handed).await.unwrap();
    let first = desk.conversation(1).await.enqueued_at;
    let second = of_outlet.enqueued_at;
    for (brands, waiting, oldest) in [
        (&[][..], 2, first),
        (&["main", "outlet"][..], 2, first),
        (&["main"][..], 1, first),
        (&["outlet"][..], 1, second),
    ] {
        let frontline = ("frontline".to_owned(), waiting, Some(oldest));
        assert_eq!(told(brands).await[0], frontline, "{brands:?}");
    }
}
