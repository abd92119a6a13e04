//! Contacts merged and told apart again by people.

use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use switchboard::dispatch::Refusal;
use switchboard::store::StoreError;

use crate::support::{Backend, Desk, agent, chat, mail, supervisor};

use super::{id, order, state, undo};

async fn shows(desk: &Desk, expected: Expect) {
    expected.assert_eq(&desk.shows().await);
}

pub async fn evidence_that_a_person_took_back_links_no_more(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    let before = state(&desk).await.comparable();
    let [mail_contact, chat_contact] = [
        desk.conversation(1).await.contact,
        desk.conversation(2).await.contact,
    ];
    desk.later(Duration::from_secs(1));
    desk.deliver([chat("cust-7", "It is me.")
        .with_email("ada@example.com")
        .key("same")])
        .await;
    let merged = desk
        .store()
        .contact(supervisor(), chat_contact)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(merged.merged_into, Some(mail_contact));
    let not_theirs = desk
        .store()
        .unmerge_contact(chat_contact, order(&desk, agent("ada")))
        .await;
    assert!(matches!(
        not_theirs.unwrap_err(),
        StoreError::Refused(Refusal::Role { .. })
    ));
    let undone = desk
        .store()
        .unmerge_contact(chat_contact, order(&desk, supervisor()))
        .await
        .unwrap();
    assert_eq!(undone.contacts.len(), 2);
    let after = state(&desk).await.comparable();
    assert_eq!(after[&id(&desk, 1).await], before[&id(&desk, 1).await]);
    desk.deliver([chat("cust-7", "Me again.").with_email("ada@example.com")])
        .await;
    shows(
        &desk,
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [cust-7 signed]
              m2 cust-7: Hello? | 6 first_of_contact
              same cust-7: It is me. | 4 open_conversation
              m4 cust-7: Me again. | 4 open_conversation
        "#]],
    )
    .await;
    // The person may change their mind.
    undo(&desk, undone.event).await;
    let merged = desk
        .store()
        .contact(supervisor(), chat_contact)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(merged.merged_into, Some(mail_contact));
}

pub async fn a_claimed_sender_whom_a_person_merged_still_joins_only_what_such_senders_wrote(
    backend: Arc<dyn Backend>,
) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?").message_id("a-1"),
        mail("ada@example.com", "Please send it elsewhere.")
            .claimed()
            .message_id("f-1"),
    ])
    .await;
    let before = state(&desk).await.comparable();
    let [verified, claimed] = [
        desk.conversation(1).await.contact,
        desk.conversation(2).await.contact,
    ];
    // In either direction.
    for (from, into) in [(claimed, verified), (verified, claimed)] {
        let merged = desk
            .store()
            .merge_contacts(from, into, order(&desk, supervisor()))
            .await
            .unwrap();
        assert!(merged.contacts[1].verified);
        let methods = merged.contacts[1]
            .identities
            .iter()
            .map(|one| one.method.as_str());
        assert_eq!(methods.filter(|method| *method == "claimed").count(), 1);
        undo(&desk, merged.event).await;
        assert_eq!(state(&desk).await.comparable(), before);
    }
    let merging = desk
        .store()
        .merge_contacts(claimed, verified, order(&desk, supervisor()));
    merging.await.unwrap();
    desk.deliver([
        mail("ada@example.com", "Urgently!").claimed(),
        mail("ada@example.com", "As I wrote.")
            .claimed()
            .refers_to("a-1"),
        mail("ada@example.com", "As I said.")
            .claimed()
            .refers_to("f-1"),
    ])
    .await;
    shows(
        &desk,
        expect![[r#"
            #1 queued frontline normal [ada@example.com claimed, ada@example.com dmarc] -> #2 same_person
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued own-matter frontline normal [ada@example.com claimed, ada@example.com dmarc] -> #1 same_person
              m2 ada@example.com: Please send it elsewhere. | 6 first_of_contact
              m3 ada@example.com: Urgently! | 4 open_conversation
              m5 ada@example.com: As I said. | 2 own_reference
            #3 queued own-matter frontline normal [ada@example.com claimed, ada@example.com dmarc] -> #1 not_a_participant
              m4 ada@example.com: As I wrote. | 6 not_a_participant, not by reference
        "#]],
    )
    .await;
}

pub async fn an_identity_proven_with_another_goes_back_with_it(backend: Arc<dyn Backend>) {
    let mut desk = Desk::on(backend).await;
    desk.deliver([
        mail("ada@example.com", "Where is my order?"),
        chat("cust-7", "Hello?"),
    ])
    .await;
    let [ada, cust] = [
        desk.conversation(1).await.contact,
        desk.conversation(2).await.contact,
    ];
    let merged = desk
        .store()
        .merge_contacts(cust, ada, order(&desk, supervisor()))
        .await
        .unwrap();
    desk.later(Duration::from_secs(1));
    desk.deliver([
        chat("cust-7", "And by mail.").with_email("eve@example.com"),
        mail("eve@example.com", "Here.").forward(),
    ])
    .await;
    undo(&desk, merged.event).await;
    shows(
        &desk,
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [cust-7 signed, eve@example.com vouched]
              m2 cust-7: Hello? | 6 first_of_contact
              m3 cust-7: And by mail. | 4 open_conversation
            #3 queued own-matter frontline normal [cust-7 signed, eve@example.com vouched]
              m4 eve@example.com: Here. | 6 forward
        "#]],
    )
    .await;
}
