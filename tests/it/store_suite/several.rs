//! One answer to several recipients: what became of it with one is not what became of it with all.

use std::sync::Arc;

use connector_api::DeliveryStage::{self, Accepted, Delivered, Failed};
use connector_api::{Event, Namespace, RefusedRecipient};
use switchboard::conversation::{Delivery, Status};
use switchboard::store::{Settlement, Written};

use super::desk::{desk, write};
use crate::support::{Backend, Desk, Said, agent, mail, receipt};

/// A report that names whom it speaks for.
fn report(recipient: &str, stage: DeliveryStage, reason: &str) -> Said {
    let mut said = receipt("a-1@shop", stage);
    if let Event::Receipt {
        recipient: of,
        reason: why,
        ..
    } = &mut said.event.event
    {
        *of = Some(recipient.to_owned());
        *why = Some(reason.to_owned());
    }
    said
}

/// Ada, with a copy to Bob and a blind one to the boss; the attempt is under way.
async fn sending(backend: Arc<dyn Backend>) -> (Desk, switchboard::store::Leased) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?").cc("bob@example.com")])
        .await;
    desk.claim("frontline", agent("sue")).await.unwrap();
    let all = Written {
        reply_all: true,
        bcc: vec!["boss@shop.example".to_owned()],
        ..Written::text("Here.")
    };
    write(&desk, 1, agent("sue"), all).await.unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    (desk, leased)
}

fn sent(refused: Vec<RefusedRecipient>) -> Settlement {
    Settlement::Sent {
        provider_ids: vec!["a-1@shop".to_owned()],
        namespace: Some(Namespace::email()),
        refused,
    }
}

/// The message, then its recipients: how far, and why not further; then where its conversation is.
async fn shown(desk: &Desk) -> String {
    let message = desk.messages(1).await.pop().unwrap();
    let each = message.recipients.iter().map(|one| {
        let (name, _) = one.address.split_once('@').unwrap();
        let delivery = one.delivery.map_or("-", Delivery::as_str);
        let reason = one.reason.as_deref().unwrap_or_default();
        format!(" {name} {delivery} {reason}").trim_end().to_owned()
    });
    let each = each.collect::<Vec<_>>().join(",");
    let status = desk.conversation(1).await.status.as_str();
    let delivery = message.delivery.unwrap().as_str();
    format!("{delivery}:{each} | {status}")
}

pub async fn a_bounce_of_one_is_theirs_and_brings_the_conversation_back(backend: Arc<dyn Backend>) {
    let (mut desk, leased) = sending(backend).await;
    desk.settle(&leased, sent(Vec::new())).await;
    assert_eq!(shown(&desk).await, "sent: ada -, bob -, boss - | pending");
    desk.deliver([report("bob@example.com", Failed, "5.1.1 gone")])
        .await;
    let one_gone = "sent: ada -, bob refused 5.1.1 gone, boss - | assigned";
    assert_eq!(shown(&desk).await, one_gone);
    // Said again, by another server.
    desk.deliver([report("Bob@Example.com", Failed, "5.0.0 still gone")])
        .await;
    assert_eq!(shown(&desk).await, one_gone);
    desk.deliver([
        report("ada@example.com", Delivered, "2.0.0"),
        report("#3", Failed, "5.2.2 full"),
    ])
    .await;
    assert_eq!(
        shown(&desk).await,
        "delivered: ada delivered 2.0.0, bob refused 5.1.1 gone, boss refused 5.2.2 full | assigned"
    );
    desk.crash().await;
    assert!(shown(&desk).await.starts_with("delivered: ada delivered"));
}

pub async fn a_message_is_refused_once_all_its_recipients_are(backend: Arc<dyn Backend>) {
    let (mut desk, leased) = sending(backend).await;
    let no = RefusedRecipient::new(
        "boss@shop.example".to_owned(),
        "550 no such user".to_owned(),
    );
    desk.settle(&leased, sent(vec![no])).await;
    assert_eq!(
        shown(&desk).await,
        "sent: ada -, bob -, boss refused 550 no such user | assigned"
    );
    desk.deliver([report("bob@example.com", Failed, "5.1.1")])
        .await;
    desk.deliver([report("ada@example.com", Failed, "5.1.1")])
        .await;
    assert_eq!(
        shown(&desk).await,
        "refused: ada refused 5.1.1, bob refused 5.1.1, boss refused 550 no such user | assigned"
    );
}

/// The server's answer about one copy was lost.
pub async fn who_perhaps_did_not_get_it_is_unknown_and_never_refused(backend: Arc<dyn Backend>) {
    let (mut desk, leased) = sending(backend).await;
    let lost = RefusedRecipient::unknown(
        "bob@example.com".to_owned(),
        "no answer came back".to_owned(),
    );
    let no = RefusedRecipient::new("boss@shop.example".to_owned(), "550 no".to_owned());
    desk.settle(&leased, sent(vec![lost, no])).await;
    assert_eq!(
        shown(&desk).await,
        "sent: ada -, bob unknown no answer came back, boss refused 550 no | assigned"
    );
    let message = desk.messages(1).await.pop().unwrap();
    assert_eq!(
        message.reason.as_deref(),
        Some(
            "it did not go to boss@shop.example: 550 no; nobody knows whether it went to bob@example.com: no answer came back"
        )
    );
    // A report settles it.
    desk.deliver([report("bob@example.com", Delivered, "2.0.0")])
        .await;
    assert_eq!(
        shown(&desk).await,
        "sent: ada -, bob delivered 2.0.0, boss refused 550 no | assigned"
    );
}

pub async fn what_is_late_is_told_and_what_fails_after_it_is_refused(backend: Arc<dyn Backend>) {
    let (mut desk, leased) = sending(backend).await;
    desk.settle(&leased, sent(Vec::new())).await;
    desk.deliver([report("bob@example.com", Accepted, "delayed: 4.4.1")])
        .await;
    assert_eq!(
        shown(&desk).await,
        "sent: ada -, bob - delayed: 4.4.1, boss - | pending"
    );
    desk.deliver([report("bob@example.com", Failed, "4.4.7 expired")])
        .await;
    assert_eq!(
        shown(&desk).await,
        "sent: ada -, bob refused 4.4.7 expired, boss - | assigned"
    );
}

/// chatwoot #13377: "delivered" here, "sent" there and an error, at once.
pub async fn a_late_answer_to_one_says_so_until_it_is_there(backend: Arc<dyn Backend>) {
    let mut desk = desk(backend).await;
    desk.deliver([mail("ada@example.com", "Where is it?")])
        .await;
    desk.claim("frontline", agent("sue")).await.unwrap();
    write(&desk, 1, agent("sue"), Written::text("Here."))
        .await
        .unwrap();
    let leased = desk.lease("support-mail").await.pop().unwrap();
    desk.settle(&leased, sent(Vec::new())).await;
    let said = async |desk: &Desk| {
        let message = desk.messages(1).await.pop().unwrap();
        (message.delivery.unwrap(), message.reason)
    };
    desk.deliver([report("ada@example.com", Accepted, "delayed: 4.4.1")])
        .await;
    let late = (Delivery::Sent, Some("delayed: 4.4.1".to_owned()));
    assert_eq!(said(&desk).await, late);
    assert_eq!(desk.conversation(1).await.status, Status::Pending);
    desk.deliver([report("ada@example.com", Delivered, "2.0.0")])
        .await;
    assert_eq!(said(&desk).await, (Delivery::Delivered, None));
    // A delay that is told late changes nothing.
    desk.deliver([report("ada@example.com", Accepted, "delayed: 4.4.2")])
        .await;
    assert_eq!(said(&desk).await, (Delivery::Delivered, None));
}

/// Nobody is guessed: the words of the bounce name somebody whom we did not write to.
pub async fn a_bounce_that_names_none_of_them_refuses_nobody_and_is_looked_at(
    backend: Arc<dyn Backend>,
) {
    let (mut desk, leased) = sending(backend).await;
    desk.settle(&leased, sent(Vec::new())).await;
    desk.deliver([report("forwarded@elsewhere.example", Failed, "5.1.1")])
        .await;
    assert_eq!(shown(&desk).await, "sent: ada -, bob -, boss - | assigned");
}

/// The server's answer names the message; a report may be faster.
pub async fn a_report_on_one_that_overtakes_the_answer_is_theirs_alone(backend: Arc<dyn Backend>) {
    let (mut desk, leased) = sending(backend).await;
    desk.deliver([report("bob@example.com", Failed, "5.1.1")])
        .await;
    assert_eq!(
        shown(&desk).await,
        "sending: ada -, bob -, boss - | pending"
    );
    desk.settle(&leased, sent(Vec::new())).await;
    assert_eq!(
        shown(&desk).await,
        "sent: ada -, bob refused 5.1.1, boss - | assigned"
    );
}
