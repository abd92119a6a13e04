//! Search: what is said is found by whoever may see it, once it is indexed.

use std::sync::Arc;
use std::time::Duration;

use switchboard::conversation::Status;
use switchboard::dispatch::Actor;
use switchboard::dispatch::verbs::{Target, Verb};
use switchboard::ids::ConversationId;
use switchboard::search::Query;
use switchboard::store::Doing;
use switchboard::store::search::{SearchRequest, Searched};
use switchboard::store::surgery::Order;

use crate::support::{
    Backend, Desk, KEEP, agent_of, channel_id, chat, delete, edit, mail, queue_id, supervisor,
};

async fn index_all(desk: &Desk) {
    while desk.store().index(3).await.unwrap().behind > 0 {}
}

fn asked(text: &str, actor: Actor) -> SearchRequest {
    SearchRequest::new(actor, Query::parse(text).unwrap(), 100)
}

/// The numbers of the messages found (the first one said is 1), and the contacts' names.
async fn found(desk: &Desk, request: SearchRequest) -> (Vec<i64>, Vec<String>) {
    let Searched::Found { hits, contacts } = desk.store().search(request).await.unwrap() else {
        panic!("too broad");
    };
    let mut all: Vec<(i64, i64)> = Vec::new();
    for conversation in desk.conversations().await {
        let messages = desk
            .store()
            .messages(supervisor(), conversation.id, None, 100)
            .await
            .unwrap();
        let messages = messages.unwrap();
        all.extend((messages.iter()).map(|message| (message.arrived_at, message.id.0)));
    }
    all.sort_unstable();
    let number = |id: i64| all.iter().position(|known| known.1 == id).unwrap() as i64 + 1;
    let hits = hits.iter().map(|hit| number(hit.message.id.0)).collect();
    let addresses = contacts
        .iter()
        .map(|contact| contact.identities[0].address.clone());
    (hits, addresses.collect())
}

async fn hits(desk: &Desk, text: &str) -> Vec<i64> {
    found(desk, asked(text, supervisor())).await.0
}

pub async fn what_is_said_is_found_by_its_words(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my parcel 4711? It was lost.").subject("Order A-1042"),
        mail(
            "bob@example.com",
            "Die R\u{fc}ckerstattung fehlt, bitte pr\u{fc}fen.",
        ),
        chat(
            "cust-1",
            "\u{8bf7}\u{95ee}\u{9000}\u{6b3e}\u{4ec0}\u{4e48}\u{65f6}\u{5019}\u{5230}\u{8d26}",
        ),
        chat("cust-2", "see the picture").attachment("broken-vase.jpg", b"jpg"),
        chat("cust-3", "parcel parcel, it is lost was it?"),
    ])
    .await;
    assert_eq!(
        hits(&desk, "parcel").await,
        Vec::<i64>::new(),
        "not indexed yet"
    );
    desk.reply(1, "Your parcel left yesterday.").await;
    let note = desk.reply_to(desk.conversation(1).await.id, supervisor(), "a loyal one");
    desk.store().note(note).await.unwrap();
    index_all(&desk).await;
    for (text, expected) in [
        ("parcel", vec![6, 5, 1]),
        ("PARCEL lost", vec![5, 1]),
        ("\"was lost\"", vec![1]),
        ("par*", vec![6, 5, 1]),
        ("\"my par\"*", vec![1]),
        ("a-1042", vec![6, 1]),
        ("ruckerstattung", vec![2]),
        ("R\u{dc}CKERSTATTUNG", vec![2]),
        ("\u{9000}\u{6b3e}", vec![3]),
        ("\u{6b3e}\u{9000}", vec![]),
        ("vase", vec![4]),
        ("loyal", vec![7]),
        ("4711 OR refund", vec![]),
        ("parc", vec![]),
    ] {
        assert_eq!(hits(&desk, text).await, expected, "{text}");
    }
    // What follows is indexed on top.
    desk.deliver([chat("cust-9", "one more parcel")]).await;
    index_all(&desk).await;
    assert_eq!(hits(&desk, "parcel").await, [8, 6, 5, 1]);
    desk.crash().await;
    assert_eq!(hits(&desk, "parcel").await, [8, 6, 5, 1]);
}

pub async fn edits_and_deletions_take_effect(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        chat("cust-1", "the old words").key("a"),
        chat("cust-2", "the secret words").key("b"),
    ])
    .await;
    index_all(&desk).await;
    assert_eq!(hits(&desk, "words").await, [2, 1]);
    desk.deliver([edit("a", "the new words"), delete("b")])
        .await;
    index_all(&desk).await;
    assert_eq!(hits(&desk, "words").await, [1]);
    assert_eq!(hits(&desk, "old").await, Vec::<i64>::new());
    assert_eq!(hits(&desk, "new").await, [1]);
    assert_eq!(hits(&desk, "secret").await, Vec::<i64>::new());
}

pub async fn who_may_not_see_a_message_or_a_contact_does_not_find_it(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "To frontline, ada."),
        chat("ada-7", "To backoffice, ada.").on("other-chat"),
        chat("ada-8", "To the outlet, ada.").on("outlet-chat"),
    ])
    .await;
    index_all(&desk).await;
    let cases = [
        (
            supervisor(),
            vec![3, 2, 1],
            vec!["ada-8", "ada-7", "ada@example.com"],
        ),
        (
            agent_of("eve", &["frontline"], &[]),
            vec![1],
            vec!["ada@example.com"],
        ),
        (agent_of("eve", &[], &["outlet"]), vec![3], vec!["ada-8"]),
        (
            agent_of("eve", &["backoffice"], &["outlet"]),
            vec![],
            vec![],
        ),
    ];
    for (actor, messages, contacts) in cases {
        let (hits, names) = found(&desk, asked("ada", actor.clone())).await;
        assert_eq!(
            (hits, names),
            (messages, contacts.iter().map(ToString::to_string).collect()),
            "{actor:?}"
        );
    }
    for role in [
        switchboard::dispatch::Role::Admin,
        switchboard::dispatch::Role::Connector,
    ] {
        let actor = Actor {
            role,
            ..supervisor()
        };
        assert_eq!(
            found(&desk, asked("ada", actor)).await,
            (vec![], vec![]),
            "{role:?}"
        );
    }
    // Whoever holds it sees it, in whatever queue it is.
    let held = agent_of("eve", &["outlet"], &[]);
    desk.claim("backoffice", agent_of("eve", &["backoffice"], &[]))
        .await
        .unwrap();
    assert_eq!(
        found(&desk, asked("ada", held.clone())).await,
        (vec![3, 2], vec!["ada-8".to_owned(), "ada-7".to_owned()])
    );
    assert_eq!(
        found(&desk, asked("\"backoffice ad\"*", held.clone()))
            .await
            .0,
        [2]
    );
    let elsewhere = SearchRequest {
        queue: Some(queue_id("outlet")),
        ..asked("ada", held.clone())
    };
    assert_eq!(found(&desk, elsewhere).await.0, [3]);
    let one = SearchRequest {
        limit: 1,
        ..asked("ada", held)
    };
    assert_eq!(found(&desk, one).await.0, [3]);
}

/// How many messages with `word` an agent finds who sees one queue only, and whether the customer.
async fn found_in(desk: &Desk, queue: &str) -> (usize, usize) {
    let seen = agent_of("eve", &[queue], &[]);
    let request = SearchRequest {
        limit: 1_000,
        ..asked("word", seen.clone())
    };
    let Searched::Found { hits, .. } = desk.store().search(request).await.unwrap() else {
        panic!("too broad");
    };
    let named = desk.store().search(asked("cust-1", seen)).await.unwrap();
    let Searched::Found { contacts, .. } = named else {
        panic!("too broad");
    };
    (hits.len(), contacts.len())
}

async fn hand_on(desk: &Desk, conversation: ConversationId, queue: &str) {
    let doing = Doing {
        conversation,
        actor: supervisor(),
        verb: Verb::Transfer(Target::Queue(queue_id(queue))),
        version: None,
        at: desk.now(),
    };
    desk.store().perform(doing).await.unwrap();
}

pub async fn what_goes_to_another_queue_is_found_there_and_not_where_it_was(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    // More than one step indexes again.
    desk.deliver((0..300).map(|number| chat("cust-1", &format!("word {number}"))))
        .await;
    index_all(&desk).await;
    let first = desk.conversation(1).await;
    assert_eq!(found_in(&desk, "frontline").await, (300, 1));
    hand_on(&desk, first.id, "backoffice").await;
    index_all(&desk).await;
    assert_eq!(found_in(&desk, "frontline").await, (0, 0));
    assert_eq!(found_in(&desk, "backoffice").await, (300, 1));
    // The last message becomes a conversation of its own, which stays there.
    let order = || Order {
        actor: supervisor(),
        version: None,
        other_version: None,
        idempotency: None,
        at: desk.now(),
    };
    let last = vec![first.last_message.unwrap()];
    let split = desk.store().split_conversation(first.id, last, order());
    let split = split.await.unwrap().conversations[1].id;
    hand_on(&desk, first.id, "frontline").await;
    index_all(&desk).await;
    assert_eq!(found_in(&desk, "frontline").await, (299, 1));
    assert_eq!(found_in(&desk, "backoffice").await, (1, 1));
    let merged = desk
        .store()
        .merge_conversations(split, first.id, order())
        .await
        .unwrap();
    index_all(&desk).await;
    assert_eq!(found_in(&desk, "frontline").await.0, 300);
    assert_eq!(found_in(&desk, "backoffice").await.0, 0);
    desk.store().undo(merged.event, order()).await.unwrap();
    index_all(&desk).await;
    assert_eq!(found_in(&desk, "frontline").await.0, 299);
    assert_eq!(found_in(&desk, "backoffice").await.0, 1);
}

pub async fn filters_all_hold_and_pages_give_every_hit_once(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "word"),
        chat("cust-1", "word").on("other-chat"),
    ])
    .await;
    desk.hours_later(1);
    let later = desk.now();
    desk.deliver([
        mail("Bob@example.com", "word"),
        mail("bob@example.com", "word again"),
    ])
    .await;
    desk.resolve(1).await;
    index_all(&desk).await;
    let all = || asked("word", supervisor());
    let cases = [
        (all(), vec![4, 3, 2, 1]),
        (
            SearchRequest {
                queue: Some(queue_id("backoffice")),
                ..all()
            },
            vec![2],
        ),
        (
            SearchRequest {
                status: Some(Status::Resolved),
                ..all()
            },
            vec![1],
        ),
        (
            SearchRequest {
                channel: Some(channel_id("support-mail")),
                ..all()
            },
            vec![4, 3, 1],
        ),
        (
            SearchRequest {
                from: Some("BOB@example.com".to_owned()),
                ..all()
            },
            vec![4, 3],
        ),
        (
            SearchRequest {
                after: Some(later),
                ..all()
            },
            vec![4, 3],
        ),
        (
            SearchRequest {
                before: Some(later),
                ..all()
            },
            vec![2, 1],
        ),
        (
            SearchRequest {
                before: Some(later),
                channel: Some(channel_id("support-mail")),
                ..all()
            },
            vec![1],
        ),
    ];
    for (request, expected) in cases {
        assert_eq!(
            found(&desk, request.clone()).await.0,
            expected,
            "{request:?}"
        );
    }
    let mut paged = Vec::new();
    let mut below = None;
    loop {
        let request = SearchRequest {
            below,
            limit: 1,
            ..all()
        };
        let Searched::Found { hits, .. } = desk.store().search(request).await.unwrap() else {
            panic!("too broad");
        };
        let Some(hit) = hits.first() else { break };
        below = Some(hit.message.id);
        paged.push(hit.message.id);
    }
    assert!(
        paged.len() == 4 && paged.is_sorted_by(|a, b| a > b),
        "{paged:?}"
    );
}

pub async fn contacts_are_found_by_name_and_address_and_a_merged_one_no_more(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada.lovelace@example.com", "hello"),
        chat("cust-7", "hello"),
    ])
    .await;
    index_all(&desk).await;
    let contacts = async |text: &str| found(&desk, asked(text, supervisor())).await.1;
    assert_eq!(contacts("lovelace").await, ["ada.lovelace@example.com"]);
    assert_eq!(contacts("ada.lovelace@example.com").await.len(), 1);
    assert_eq!(contacts("cust-7").await, ["cust-7"]);
    desk.deliver([chat("cust-7", "It is me.").with_email("ada.lovelace@example.com")])
        .await;
    index_all(&desk).await;
    let contacts = async |text: &str| found(&desk, asked(text, supervisor())).await.1;
    assert_eq!(contacts("lovelace").await, contacts("cust-7").await);
    assert_eq!(contacts("cust-7").await.len(), 1);
}

pub async fn the_index_is_made_anew_where_the_log_does_not_reach_back(backend: Arc<dyn Backend>) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut desk = Desk::on(backend).await;
    desk.deliver((0..8).map(|number| chat(&format!("cust-{number}"), "word")))
        .await;
    desk.later(8 * DAY);
    desk.deliver([chat("cust-9", "word")]).await;
    desk.store().sweep(KEEP, desk.now()).await.unwrap();
    index_all(&desk).await;
    assert_eq!(hits(&desk, "word").await, [9, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(
        found(&desk, asked("cust-3", supervisor())).await.1,
        ["cust-3"]
    );
}
