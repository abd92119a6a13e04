//! The processes of an installation: who is there, and what all of them hold for true.

use std::sync::Arc;

use crate::support::{Backend, Desk};

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
