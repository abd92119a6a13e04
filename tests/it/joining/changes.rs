//! Edits, deletions and reactions change a message and are never new ones, whichever comes first;
//! one event comes once, and its key with other content is kept and flagged.

use expect_test::expect;

use super::{Crash, check, together};
use crate::support::{Desk, chat, delete, edit, mail, reaction};

#[tokio::test]
async fn changes_after_their_message_are_applied() {
    check(
        [
            chat("cust-7", "Where is my ordr?").key("m-1").into(),
            together([
                edit("m-1", "Where is my order?"),
                reaction("m-1", "+"),
                reaction("m-1", "!"),
            ]),
            chat("cust-7", "Oops.").key("m-2").into(),
            delete("m-2").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Where is my order? | 6 first_of_contact | edited | +!
              m-2 cust-7: Oops. | 4 open_conversation | deleted
        "#]],
    )
    .await;
}

#[tokio::test]
async fn changes_before_their_message_wait_for_it() {
    check(
        [
            edit("m-1", "Where is my order?").into(),
            together([reaction("m-1", "+"), delete("m-2")]),
            Crash,
            together([
                chat("cust-7", "Where is my ordr?").key("m-1"),
                chat("cust-7", "Oops.").key("m-2"),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Where is my order? | 6 first_of_contact | edited | +
              m-2 cust-7: Oops. | 4 open_conversation | deleted
        "#]],
    )
    .await;
}

#[tokio::test]
async fn changes_in_one_batch_with_their_message_are_applied() {
    check(
        [together([
            edit("m-1", "Where is my order?"),
            chat("cust-7", "Where is my ordr?").key("m-1"),
            reaction("m-1", "+"),
            delete("m-1"),
        ])],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Where is my order? | 6 first_of_contact | deleted | edited | +
        "#]],
    )
    .await;
}

#[tokio::test]
async fn changes_that_come_with_their_messages_redelivery_are_applied() {
    check(
        [
            chat("cust-7", "Where is my ordr?").key("m-1").into(),
            together([
                chat("cust-7", "Where is my ordr?").key("m-1"),
                edit("m-1", "Where is my order?"),
                reaction("m-1", "+"),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Where is my order? | 6 first_of_contact | edited | +
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_reaction_taken_back_is_gone() {
    let mut taken_back = reaction("m-1", "+");
    if let connector_api::Event::Reaction { removed, .. } = &mut taken_back.event.event {
        *removed = true;
    }
    check(
        [
            chat("cust-7", "Thanks!").key("m-1").into(),
            together([reaction("m-1", "+"), reaction("m-1", "!"), taken_back]),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Thanks! | 6 first_of_contact | !
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_change_names_messages_of_its_own_channel_only() {
    check(
        [
            chat("cust-7", "Hello?").key("m-1").into(),
            together([
                edit("m-1", "Pay to this account.").on("other-chat"),
                delete("m-1").on("outlet-chat"),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Hello? | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_second_delivery_of_an_event_changes_nothing() {
    let day = [
        mail("ada@example.com", "Where is my order?")
            .key("m-1")
            .message_id("a-1@x"),
        chat("cust-7", "Hello?").key("c-1"),
        edit("c-1", "Hello!").key("c-1-edit"),
        reaction("c-1", "+").key("c-1-reaction"),
    ];
    check(
        [
            together(day.clone()),
            together(day.clone()),
            Crash,
            together(day.clone()),
            together(day),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m-1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [cust-7 signed]
              c-1 cust-7: Hello! | 6 first_of_contact | edited | +
        "#]],
    )
    .await;
}

#[tokio::test]
async fn one_key_on_two_channels_or_brands_is_two_events() {
    check(
        [together([
            mail("ada@example.com", "To support.").key("k"),
            mail("ada@example.com", "To sales.")
                .key("k")
                .on("sales-mail"),
            mail("ada@example.com", "To the outlet.")
                .key("k")
                .on("outlet-mail"),
        ])],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              k ada@example.com: To support. | 6 first_of_contact
              k ada@example.com: To sales. | 4 open_conversation
            #2 queued outlet normal [ada@example.com dmarc]
              k ada@example.com: To the outlet. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn other_content_under_a_known_key_is_kept_and_flagged() {
    let said = |text: &str| chat("cust-7", text).key("m-1");
    check(
        [
            together([said("Where is my order?"), said("I want a refund.")]),
            together([
                said("I want a refund."),
                said("Where is my order?"),
                said("A third thing."),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m-1 cust-7: Where is my order? | 6 first_of_contact
              m-1 cust-7: I want a refund. | 4 open_conversation | conflicting
              m-1 cust-7: A third thing. | 4 open_conversation | conflicting
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_a_transport_changes_on_the_way_is_not_other_content() {
    let said = |text: &str| mail("ada@example.com", text).key("m-1");
    check(
        [together([
            said("Where is\nmy  order?"),
            said("Where is my order?\r\n"),
        ])],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m-1 ada@example.com: Where is my  order? | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_change_of_a_key_that_was_used_twice_changes_what_was_said_first() {
    let mut desk = Desk::new().await;
    // Which of two digests is the smaller one is chance: over so many keys both happen.
    for number in 0..16 {
        let key = format!("k-{number}");
        for said in [
            chat("cust-7", &format!("First {number}.")).key(&key),
            chat("cust-7", &format!("Other words {number}.")).key(&key),
            reaction(&key, "+").key(&format!("r-{number}")),
        ] {
            desk.deliver([said]).await;
        }
    }
    for message in desk.messages(1).await {
        assert_eq!(message.reactions.is_empty(), message.conflicting);
    }
}
