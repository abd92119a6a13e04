//! Leases: one holder of all processes, and an epoch that no other holder ever had.

use std::sync::Arc;

use switchboard::store::leases::Lease;

use crate::support::{Backend, Desk};

const HOUR: i64 = 3_600_000_000;
/// Over when it is looked at next, by whichever clock.
const OVER: i64 = 0;

async fn take(desk: &Desk, holder: &str, for_us: i64) -> Option<Lease> {
    let taken = desk.store().take_lease("relay", holder, for_us, desk.now());
    taken.await.unwrap()
}

async fn epoch(desk: &Desk, holder: &str, for_us: i64) -> Option<i64> {
    take(desk, holder, for_us).await.map(|lease| lease.epoch)
}

pub async fn a_lease_has_one_holder_until_it_is_over_or_given_up(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    let mine = take(&desk, "a", HOUR).await.expect("it is free");
    assert_eq!(take(&desk, "b", HOUR).await, None);
    let other = desk.store().take_lease("mailbox", "b", HOUR, desk.now());
    assert!(other.await.unwrap().is_some(), "each name is its own");
    desk.crash().await;
    assert_eq!(take(&desk, "b", HOUR).await, None, "it is kept");
    assert!(take(&desk, "a", HOUR).await.is_some());

    desk.store().give_up_lease(&mine).await.unwrap();
    assert!(take(&desk, "b", OVER).await.is_some());
    desk.store().give_up_lease(&mine).await.unwrap();
    let held = desk.store().leases().await.unwrap();
    let held: Vec<_> = held
        .iter()
        .map(|lease| (lease.name.as_str(), lease.holder.as_str()))
        .collect();
    assert_eq!(held, [("mailbox", "b"), ("relay", "b")]);
    assert!(take(&desk, "a", HOUR).await.is_some(), "b's is over");
    assert_eq!(take(&desk, "b", HOUR).await, None);
}

pub async fn an_epoch_rises_with_every_change_of_holder_and_fences_off_the_last_one(
    backend: Arc<dyn Backend>,
) {
    let desk = Desk::on(backend).await;
    let first = take(&desk, "a", OVER).await.unwrap();
    assert_eq!(epoch(&desk, "a", OVER).await, Some(first.epoch));
    let renewed = desk.store().renew_lease(&first, OVER, desk.now());
    let renewed = renewed.await.unwrap().expect("nobody had it since");
    assert_eq!(renewed.epoch, first.epoch);
    assert!(renewed.until >= first.until);

    let second = take(&desk, "b", OVER).await.unwrap();
    assert!(second.epoch > first.epoch);
    let late = desk.store().renew_lease(&first, HOUR, desk.now());
    assert_eq!(late.await.unwrap(), None);
    let again = take(&desk, "a", OVER).await.unwrap();
    assert!(again.epoch > second.epoch);
    let late = desk.store().renew_lease(&first, HOUR, desk.now());
    assert_eq!(late.await.unwrap(), None, "its own, of another time");
    desk.store().give_up_lease(&again).await.unwrap();
    let anew = take(&desk, "a", HOUR).await.unwrap();
    assert!(anew.epoch > again.epoch, "another could have had it");
}

pub async fn of_many_who_want_a_lease_at_once_one_gets_it(backend: Arc<dyn Backend>) {
    let desk = Desk::on(backend).await;
    for round in 0..10 {
        let for_us = if round % 2 == 0 { OVER } else { HOUR };
        let names: Vec<String> = (0..8).map(|one| format!("{round}-{one}")).collect();
        let asked = names.iter().map(|holder| take(&desk, holder, HOUR));
        let got: Vec<Lease> = futures::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
            .collect();
        assert_eq!(got.len(), 1, "{got:?}");
        let ended = desk.store().renew_lease(&got[0], for_us, desk.now());
        let ended = ended.await.unwrap().unwrap();
        if for_us == HOUR {
            desk.store().give_up_lease(&ended).await.unwrap();
        }
    }
}
