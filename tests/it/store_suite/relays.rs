//! What relays copy for others, and how far they are.

use std::sync::Arc;

use switchboard::bus::Carried;
use switchboard::store::StoreError;
use switchboard::store::relays::Letter;

use crate::support::{Backend, Desk, chat, mail};

pub async fn a_relay_moves_from_where_it_is_under_its_own_epoch(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let own = async |desk: &Desk, epoch| desk.store().own_relay("events", epoch).await;
    let moves = async |desk: &Desk, epoch, from, to| {
        desk.store().move_relay("events", epoch, from, to).await
    };
    assert_eq!(own(&desk, 3).await, Ok(0));
    assert_eq!(moves(&desk, 3, 0, 7).await, Ok(()));
    let stale = moves(&desk, 3, 0, 9).await;
    assert!(matches!(stale, Err(StoreError::StaleEpoch(_))), "{stale:?}");
    desk.crash().await;
    assert_eq!(own(&desk, 3).await, Ok(7), "its own, again");
    assert_eq!(own(&desk, 4).await, Ok(7));
    let deposed = moves(&desk, 3, 7, 9).await;
    assert!(
        matches!(deposed, Err(StoreError::StaleEpoch(_))),
        "{deposed:?}"
    );
    let deposed = own(&desk, 3).await;
    assert!(
        matches!(deposed, Err(StoreError::StaleEpoch(_))),
        "{deposed:?}"
    );
    assert_eq!(moves(&desk, 4, 7, 9).await, Ok(()));
    assert_eq!(own(&desk, 4).await, Ok(9));
    let other = desk.store().own_relay("another", 1).await;
    assert_eq!(other, Ok(0), "each relay is its own");
}

pub async fn what_is_told_comes_with_its_conversations_and_messages(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    // More than fits in memory at once.
    let long = "word ".repeat(150_000);
    let many = (0..40).map(|number| chat(&format!("cust-{number}"), &format!("{number} {long}")));
    desk.deliver([mail("ada@customer.example", "Refund")]).await;
    desk.deliver(many).await;
    let (mut after, mut pages, mut seqs) = (0, 0, Vec::new());
    loop {
        let told = desk.store().told_after(after, 100, true).await.unwrap();
        if told.page.through == after {
            break;
        }
        pages += 1;
        after = told.page.through;
        for event in &told.page.events {
            seqs.push(event.seq);
            let (id, _) = event.conversation.as_ref().unwrap();
            assert!(told.conversations.contains_key(id));
            let message = event.message.map(|id| told.messages.contains_key(&id));
            assert_ne!(message, Some(false));
        }
    }
    assert!(pages > 1, "one page would be all of it in memory");
    let all = desk.store().told_after(0, 1_000, false).await.unwrap();
    let expected: Vec<i64> = all.page.events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, expected);
    assert!(all.messages.is_empty() && all.conversations.is_empty());
}

pub async fn a_letter_is_to_be_copied_until_it_is_and_again_once_it_is_buried_again(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.accept([chat("cust-7", "Where is my order?")])
        .await
        .unwrap();
    let commit = desk.next_commit(1).await;
    let record = commit.batch[0].offset;
    let body = br#"{"major":1}"#;
    let headers = vec![("trace".to_owned(), b"\xff\x00".to_vec())];
    let carried = |body: &'static [u8]| {
        let carried = Carried {
            body: bytes::Bytes::from_static(body),
            raw: None,
            blobs: Vec::new(),
            arrived_at: 1,
            headers: headers.clone(),
        };
        Some(Arc::new(carried))
    };
    // Where the bus is a log in the store the body is there already.
    let log = desk.backend().has_log();
    let brought = carried(body).filter(|_| !log);
    let bury = |why: &str, ownership, brought, now| {
        let store = desk.store().clone();
        let why = why.to_owned();
        async move { store.bury(ownership, record, why, 1, brought, now).await }
    };
    bury("first", commit.ownership, brought, desk.now())
        .await
        .unwrap();
    let letters = async || desk.store().uncopied_letters(9).await.unwrap();
    let (found, count) = letters().await;
    let [letter] = &found[..] else {
        panic!("one letter: {found:?}")
    };
    assert_eq!((letter.reason.as_str(), count), ("first", 1));
    assert!(letter.body.is_some());
    if !log {
        assert_eq!(letter.body.as_deref(), Some(&body[..]));
        assert_eq!(letter.headers, headers);
    }
    let again = Letter {
        at: letter.at - 1,
        ..letter.clone()
    };
    desk.store().letters_copied(vec![again]).await.unwrap();
    assert_eq!(letters().await.1, 1, "it was buried since");
    desk.store().letters_copied(found).await.unwrap();
    assert_eq!(letters().await, (Vec::new(), 0));
}
