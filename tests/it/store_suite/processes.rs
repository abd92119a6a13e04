//! The processes of an installation: who is there, and what all of them hold for true.

use std::collections::HashMap;
use std::sync::Arc;

use switchboard::conversation::Delivery;
use switchboard::store::Declared;

use crate::support::{Backend, Desk, mail, queue_id, supervisor};

const HOUR: i64 = 3_600_000_000;

async fn there(desk: &Desk, within_us: i64) -> Vec<(String, String)> {
    let all = desk.store().processes(within_us, desk.now()).await.unwrap();
    all.into_iter()
        .map(|one| (one.instance, one.said))
        .collect()
}

pub async fn a_process_is_there_until_it_ends_or_says_nothing_more(backend: Arc<dyn Backend>) {
    let desk = Desk::on(backend).await;
    let say = async |instance: &str, said: &str, kept_us: i64| {
        let noted = desk
            .store()
            .note_process(instance, said.to_owned(), kept_us, desk.now());
        noted.await.unwrap();
    };
    let said = |instance: &str, said: &str| (instance.to_owned(), said.to_owned());
    say("a", "1", HOUR).await;
    say("b", "1", HOUR).await;
    say("a", "2", HOUR).await;
    assert_eq!(there(&desk, HOUR).await, [said("a", "2"), said("b", "1")]);
    // Of the future: nobody was seen since.
    assert_eq!(there(&desk, -HOUR).await, []);
    desk.store().forget_process("b").await.unwrap();
    desk.store().forget_process("never there").await.unwrap();
    assert_eq!(there(&desk, HOUR).await, [said("a", "2")]);
    // One that comes forgets those that were silent for too long.
    say("c", "1", -HOUR).await;
    assert_eq!(there(&desk, HOUR).await, []);
}

pub async fn what_several_processes_agree_on_is_what_the_first_one_said(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    assert_eq!(desk.store().agree("colour", 7).await, Ok(7));
    assert_eq!(desk.store().agree("colour", 8).await, Ok(7));
    assert_eq!(desk.store().agree("taste", 8).await, Ok(8));
    desk.crash().await;
    assert_eq!(desk.store().agree("colour", 9).await, Ok(7));
}

pub async fn what_another_process_has_is_left_alone_until_nobody_has_it(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Hello?"),
        mail("bob@example.com", "Hi"),
    ])
    .await;
    let unsent = desk.reply(1, "Hello.").await.id;
    let stands = async |desk: &Desk| {
        let reply = desk.store().message(supervisor(), unsent).await.unwrap();
        let waits = desk.conversation(2).await.queue;
        (reply.expect("it is there").delivery, waits.to_string())
    };
    // This process has neither the channel nor the queue.
    let (store, now) = (desk.store().clone(), desk.now());
    let queues = vec![queue_id("backoffice")];
    store.declare(Vec::new(), queues).await.unwrap();
    let elsewhere = Declared {
        channels: ["support-mail".parse().unwrap()].into(),
        queues: [queue_id("frontline")].into(),
    };
    let senders = store.set_senders(HashMap::new(), elsewhere.clone(), now);
    senders.await.unwrap();
    store.adopt_stranded(elsewhere, now).await.unwrap();
    let queued = Some(Delivery::Queued);
    assert_eq!(stands(&desk).await, (queued, "frontline".to_owned()));

    let rings = store.adopt_stranded(Declared::default(), now).await;
    let refused = Some(Delivery::Refused);
    assert_eq!(stands(&desk).await, (refused, "backoffice".to_owned()));
    assert!(rings.unwrap().queues.contains(&queue_id("backoffice")));
}
