//! Which conversation a mail joins.

use expect_test::expect;
use switchboard::dispatch::Refusal;
use switchboard::dispatch::surgery::Refused;
use switchboard::store::surgery::Order;
use switchboard::store::{StoreError, StoredContent};

use super::{answered, check, claimed, proven, shown};
use crate::support::{Desk, supervisor};

async fn ada_writes(desk: &mut Desk, head: &str, text: &str) {
    let head = format!("From: ada@example.com\n{head}");
    desk.deliver([proven(&head, text)]).await;
}

#[tokio::test]
async fn chatwoot_3868_8572_an_answer_by_reference_stays_in_its_conversation() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    for refers in [
        format!("In-Reply-To: <{id}>"),
        format!("References: <a1@example.com>\n <{id}>"),
        format!(
            "To: Support <support+{}@shop.example>",
            id.split('.').next().unwrap()
        ),
    ] {
        ada_writes(&mut desk, &refers, "Thank you.").await;
    }
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
          sha256 ada@example.com: Thank you. | 1 reply_token
          sha256 ada@example.com: Thank you. | 1 reply_token
          sha256 ada@example.com: Thank you. | 1 reply_token
    "#]]
    .assert_eq(&shown(&desk).await);
}

#[tokio::test]
async fn chatwoot_10028_outlook_answers_without_references_stay_together() {
    let index = |more: &str| format!("Thread-Index: AdT4vqGCXoJv0yyfQbq2N1JLNzU5NwAA{more}");
    check(
        [
            proven(&format!("From: ada@example.com\n{}", index("KxQA")), "One."),
            proven(
                &format!(
                    "From: ada@example.com\nSubject: RE: x\n{}",
                    index("KxQAAAAA")
                ),
                "Two.",
            ),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              sha256 ada@example.com: One. | 6 first_of_contact
              sha256 ada@example.com: Two. | 2 reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn chatwoot_15869_another_subject_with_another_matter_is_a_conversation_of_its_own() {
    check(
        [
            proven(
                "From: ada@example.com\nSubject: Where is my order 17?",
                "Where is my parcel? The tracking shows nothing.",
            ),
            proven(
                "From: ada@example.com\nSubject: Invoice missing",
                "Please send me the invoice for my payment.",
            ),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] -> #2 another_matter
              sha256 ada@example.com: Where is my parcel? The tracking shows nothing. | 6 first_of_contact
            #2 queued own-matter frontline normal [ada@example.com dmarc] -> #1 another_matter
              sha256 ada@example.com: Please send me the invoice for my payment. | 6 another_matter
        "#]],
    )
    .await;
}

#[tokio::test]
async fn chatwoot_13502_answers_to_one_newsletter_of_two_customers_never_meet() {
    let answer = |from: &str| {
        proven(
            &format!(
                "From: {from}\nSubject: Re: News\nIn-Reply-To: <news-1@shop.example>\nReferences: <news-1@shop.example>"
            ),
            "My order, please.",
        )
    };
    check(
        [answer("ada@example.com"), answer("bob@example.com")],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              sha256 ada@example.com: My order, please. | 6 first_of_contact
            #2 queued frontline normal [bob@example.com dmarc]
              sha256 bob@example.com: My order, please. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn zammad_5064_a_ticket_number_in_the_subject_gives_nobody_a_conversation() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let subject = format!("From: eve@example.net\nSubject: Re: Order 17 [Ticket#1] {id}");
    desk.deliver([
        proven(&subject, "Send it to my house."),
        proven(
            &format!("From: eve@example.net\nIn-Reply-To: <{id}>"),
            "And this.",
        ),
        claimed(
            "From: ada@example.com\nIn-Reply-To: <a1@example.com>",
            "I am Ada.",
        ),
    ])
    .await;
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
        #2 queued frontline normal [eve@example.net dmarc]
          sha256 eve@example.net: Send it to my house. | 6 first_of_contact
        #3 queued own-matter frontline normal [eve@example.net dmarc] -> #1 not_a_participant
          sha256 eve@example.net: And this. | 6 not_a_participant, not by reply_token
        #4 queued frontline normal [ada@example.com claimed] -> #1 not_a_participant
          sha256 ada@example.com: I am Ada. | 6 not_a_participant, not by reference
    "#]]
    .assert_eq(&shown(&desk).await);
}

#[tokio::test]
async fn libredesk_176_references_that_a_client_rewrote_still_name_the_conversation() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let (one, two) = id.split_at(20);
    for head in [
        format!("In-Reply-To: {id}"),
        format!("References: <{one}\n {two}>"),
        format!("References: <x@y.example>,<mailto:{id}>;<z@y.example>"),
        format!("In-Reply-To: <{}>", id.to_uppercase()),
    ] {
        ada_writes(&mut desk, &head, "Still me.").await;
    }
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
          sha256 ada@example.com: Still me. | 1 reply_token
          sha256 ada@example.com: Still me. | 1 reply_token
          sha256 ada@example.com: Still me. | 1 reply_token
          sha256 ada@example.com: Still me. | 1 reply_token
    "#]]
    .assert_eq(&shown(&desk).await);
}

#[tokio::test]
async fn chatwoot_14993_a_marketplaces_equal_subjects_of_two_buyers_are_two_conversations() {
    let subject = "Subject: Question about your item";
    check(
        [
            proven(
                &format!("From: b1@market.example\n{subject}"),
                "Is it blue?",
            ),
            proven(&format!("From: b2@market.example\n{subject}"), "Is it red?"),
            proven(&format!("From: b1@market.example\n{subject}"), "Or green?"),
        ],
        expect![[r#"
            #1 queued frontline normal [b1@market.example dmarc]
              sha256 b1@market.example: Is it blue? | 6 first_of_contact
              sha256 b1@market.example: Or green? | 4 open_conversation
            #2 queued frontline normal [b2@market.example dmarc]
              sha256 b2@market.example: Is it red? | 6 first_of_contact
        "#]],
    )
    .await;
}

/// After a merge, answers went to the customer of the other ticket.
#[tokio::test]
async fn zammad_1929_after_a_merge_every_answer_goes_to_whom_it_was_written_for() {
    let mut desk = Desk::new().await;
    desk.deliver([
        proven(
            "From: ada@example.com\nMessage-ID: <a1@example.com>",
            "From home.",
        ),
        proven(
            "From: ada@work.example\nCc: eve@example.net\nMessage-ID: <w1@work.example>",
            "From work.",
        ),
    ])
    .await;
    desk.reply(1, "To home, before.").await;
    let [home, work] = [desk.conversation(1).await, desk.conversation(2).await];
    let order = || Order {
        actor: supervisor(),
        version: None,
        other_version: None,
        idempotency: None,
        at: desk.now(),
    };
    let merge = || desk.store().merge_conversations(home.id, work.id, order());
    let refused = merge().await.unwrap_err();
    let of_others = Refusal::Surgery(Refused::AnotherContact);
    assert_eq!(refused, StoreError::Refused(of_others), "two customers");
    let contacts = desk.store();
    contacts
        .merge_contacts(home.contact, work.contact, order())
        .await
        .unwrap();
    merge().await.unwrap();
    desk.reply(1, "To work, who wrote last.").await;
    desk.deliver([proven(
        "From: ada@example.com\nIn-Reply-To: <a1@example.com>",
        "From home again.",
    )])
    .await;
    desk.reply(1, "To home, after.").await;
    expect![[r#"
        #1 queued own-matter frontline normal [ada@example.com dmarc, ada@work.example dmarc] with eve@example.net -> #? merged -> #? same_person
          mid:a1@example.com ada@example.com: From home. | 6 first_of_contact
          mid:w1@work.example ada@work.example: From work. | 6 first_of_contact
          - @sue: to ada@example.com: To home, before. | queued
          - @sue: to ada@work.example: To work, who wrote last. | queued
          sha256 ada@example.com: From home again. | 2 reference
          - @sue: to ada@example.com: To home, after. | queued
    "#]]
    .assert_eq(&shown(&desk).await);
    for message in desk.messages(1).await {
        let StoredContent::Written(draft) = message.content else {
            continue;
        };
        let to = draft.to.unwrap();
        assert!(to.cc.is_empty() && to.also_to.is_empty(), "{to:?}");
    }
}

/// Answers to a merged ticket opened it again, or got lost in it.
#[tokio::test]
async fn zammad_983_answers_to_a_merged_conversation_come_to_where_it_went() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let forward = "From: ada@example.com\nSubject: Fwd: Lamp\nMessage-ID: <l1@example.com>";
    desk.deliver([proven(forward, "The lamp is broken.")]).await;
    let [merged, into] = [desk.conversation(1).await.id, desk.conversation(2).await.id];
    let order = Order {
        actor: supervisor(),
        version: None,
        other_version: None,
        idempotency: None,
        at: desk.now(),
    };
    let store = desk.store().clone();
    store
        .merge_conversations(merged, into, order)
        .await
        .unwrap();
    for head in [
        format!("In-Reply-To: <{id}>"),
        "References: <a1@example.com>".to_owned(),
        format!("To: support+{}@shop.example", id.split('.').next().unwrap()),
    ] {
        let head = format!("From: ada@example.com\nSubject: Re: Order 17\n{head}");
        desk.deliver([proven(&head, "And the parcel?")]).await;
    }
    let husk = store.conversation(supervisor(), merged).await.unwrap();
    assert_eq!(husk.unwrap().status.as_str(), "closed");
    expect![[r#"
        #1 queued own-matter frontline normal [ada@example.com dmarc] -> #? merged
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
          mid:l1@example.com ada@example.com: The lamp is broken. | 6 forward
          sha256 ada@example.com: And the parcel? | 1 reply_token
          sha256 ada@example.com: And the parcel? | 2 reference | duplicate of sha256
          sha256 ada@example.com: And the parcel? | 1 reply_token | duplicate of sha256
    "#]]
    .assert_eq(&shown(&desk).await);
}
