//! Rules 4 to 6: what the contact has open or had, by the clock; matters; what nobody waits for.

use connector_api::Automatic;
use expect_test::expect;

use super::{Answer, HoursLater, MinutesLater, Resolve, check, check_with, together};
use crate::support::{chat, echo, mail, system};

#[tokio::test]
async fn an_open_conversation_takes_what_comes_within_the_unify_window() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            HoursLater(71),
            mail("ada@example.com", "Any news?").into(),
            HoursLater(71),
            chat("cust-7", "Hello?")
                .with_email("ada@example.com")
                .into(),
            HoursLater(73),
            mail("ada@example.com", "Is anybody there?").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, cust-7 signed]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: Any news? | 4 open_conversation
              m3 cust-7: Hello? | 4 open_conversation
            #2 queued own-matter frontline normal [ada@example.com dmarc, cust-7 signed]
              m4 ada@example.com: Is anybody there? | 6 nothing_within_window
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_resolved_conversation_reopens_within_its_window() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            HoursLater(24),
            Resolve(1),
            HoursLater(24 * 14 - 1),
            mail("ada@example.com", "It came, and is broken.").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: It came, and is broken. | 5 reopened
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_conversation_resolved_too_long_ago_is_continued_by_a_new_one() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Resolve(1),
            HoursLater(24 * 14 + 1),
            mail("ada@example.com", "It came, and is broken.").into(),
        ],
        expect![[r#"
            #1 resolved frontline normal [ada@example.com dmarc] -> #2 continues
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [ada@example.com dmarc] -> #1 continues
              m2 ada@example.com: It came, and is broken. | 5 continues
        "#]],
    )
    .await;
}

#[tokio::test]
async fn the_conversation_that_was_resolved_last_reopens_and_not_the_one_opened_last() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .subject("Order 1")
                .into(),
            mail("ada@example.com", "I want a refund.")
                .subject("Refund")
                .into(),
            Resolve(2),
            HoursLater(24 * 13),
            Resolve(1),
            HoursLater(24 * 2),
            mail("ada@example.com", "It came.")
                .subject("Order 1")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] -> #2 another_matter
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m3 ada@example.com: It came. | 5 reopened
            #2 resolved own-matter frontline normal [ada@example.com dmarc] -> #1 another_matter
              m2 ada@example.com: I want a refund. | 6 another_matter
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_new_subject_with_another_known_intent_opens_a_second_matter() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .subject("Order 17")
                .into(),
            mail("ada@example.com", "I want a refund.")
                .subject("Something else")
                .into(),
            mail("ada@example.com", "Please give me my money back.")
                .subject("Re: Something else")
                .into(),
            mail("ada@example.com", "It has not arrived.")
                .subject("Re: Order 17")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] -> #2 another_matter
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m4 ada@example.com: It has not arrived. | 4 open_conversation
            #2 queued own-matter frontline normal [ada@example.com dmarc] -> #1 another_matter
              m2 ada@example.com: I want a refund. | 6 another_matter
              m3 ada@example.com: Please give me my money back. | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_unknown_intent_or_the_same_subject_never_splits() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .subject("Order 17")
                .into(),
            mail("ada@example.com", "I want a refund.")
                .subject("AW: Re:  order 17")
                .into(),
            mail("ada@example.com", "Well, hm.")
                .subject("Something else")
                .into(),
            mail("ada@example.com", "I want a refund.").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: I want a refund. | 4 open_conversation
              m3 ada@example.com: Well, hm. | 4 open_conversation
              m4 ada@example.com: I want a refund. | 4 open_conversation | duplicate of m2
        "#]],
    )
    .await;
}

#[tokio::test]
async fn different_senders_are_never_joined_by_a_subject() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .subject("Order 17")
                .into(),
            mail("bob@example.com", "Where is my order?")
                .subject("Re: Order 17")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [bob@example.com dmarc]
              m2 bob@example.com: Where is my order? | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn channels_that_the_policy_keeps_apart_join_only_themselves() {
    check_with(
        |policy| {
            policy.joining.apart.insert("shop-chat".parse().unwrap());
        },
        [
            mail("ada@example.com", "Where is my order?").into(),
            chat("cust-7", "Hello?")
                .with_email("ada@example.com")
                .into(),
            mail("ada@example.com", "To sales.").on("sales-mail").into(),
            chat("cust-7", "Are you there?").into(),
            Resolve(1),
            Resolve(2),
            mail("ada@example.com", "By mail again.").into(),
            chat("cust-7", "By chat again.").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, cust-7 signed]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m3 ada@example.com: To sales. | 4 open_conversation
              m5 ada@example.com: By mail again. | 5 reopened
            #2 queued own-matter frontline normal [ada@example.com dmarc, cust-7 signed]
              m2 cust-7: Hello? | 6 nothing_within_window
              m4 cust-7: Are you there? | 4 open_conversation
              m6 cust-7: By chat again. | 5 reopened
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_text_said_twice_within_fifteen_minutes_is_marked() {
    check(
        [
            mail("ada@example.com", "Where is my order number 17?").into(),
            MinutesLater(14),
            chat("cust-7", "where is my order, number 17")
                .with_email("ada@example.com")
                .into(),
            MinutesLater(2),
            mail("ada@example.com", "Where is my order number 17?").into(),
            chat("cust-7", "ok").into(),
            chat("cust-7", "ok").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc, cust-7 signed]
              m1 ada@example.com: Where is my order number 17? | 6 first_of_contact
              m2 cust-7: where is my order, number 17 | 4 open_conversation | duplicate of m1
              m3 ada@example.com: Where is my order number 17? | 4 open_conversation
              m4 cust-7: ok | 4 open_conversation
              m5 cust-7: ok | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn history_is_filed_closed_and_joined_by_nothing() {
    check(
        [
            mail("ada@example.com", "An old story.")
                .history()
                .message_id("old-1@x")
                .into(),
            mail("ada@example.com", "And its sequel.")
                .history()
                .refers_to("old-1@x")
                .into(),
            mail("ada@example.com", "Where is my order?").into(),
            mail("ada@example.com", "A late old story.")
                .history()
                .into(),
            mail("ada@example.com", "About the old story.")
                .refers_to("old-1@x")
                .into(),
        ],
        expect![[r#"
            #1 closed frontline normal [ada@example.com dmarc] -> #4 continues
              m1 ada@example.com: An old story. | 6 first_of_contact
              m2 ada@example.com: And its sequel. | 2 reference
            #2 queued frontline normal [ada@example.com dmarc]
              m3 ada@example.com: Where is my order? | 6 first_of_contact
            #3 closed frontline normal [ada@example.com dmarc]
              m4 ada@example.com: A late old story. | 6 history
            #4 queued own-matter frontline normal [ada@example.com dmarc] -> #1 continues
              m5 ada@example.com: About the old story. | 5 continues
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_answering_machine_wakes_nobody() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Answer(1, "On its way.", "answer-1@shop"),
            mail("ada@example.com", "I am on holiday.")
                .automatic(Automatic::AutoReply)
                .into(),
            Resolve(1),
            HoursLater(1),
            mail("ada@example.com", "I am still on holiday.")
                .automatic(Automatic::AutoReply)
                .token("#1")
                .into(),
            mail("bob@example.com", "I am on holiday, too.")
                .automatic(Automatic::AutoReply)
                .into(),
        ],
        expect![[r#"
            #1 resolved frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | sent
              m2 ada@example.com: I am on holiday. | 4 open_conversation
              m3 ada@example.com: I am still on holiday. | 1 reply_token
            #2 closed frontline normal [bob@example.com dmarc]
              m4 bob@example.com: I am on holiday, too. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_bounce_and_bulk_mail_wait_for_a_person() {
    check(
        [together([
            mail("mailer-daemon@example.com", "Undeliverable.").automatic(Automatic::Bounce),
            mail("news@example.com", "Buy now.").automatic(Automatic::Bulk),
        ])],
        expect![[r#"
            #1 queued frontline normal [mailer-daemon@example.com dmarc]
              m1 mailer-daemon@example.com: Undeliverable. | 6 first_of_contact
            #2 queued frontline normal [news@example.com dmarc]
              m2 news@example.com: Buy now. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_our_side_wrote_elsewhere_is_shown_and_wakes_nobody() {
    check(
        [
            chat("cust-7", "Hello?").into(),
            Answer(1, "Yes?", "chat-1"),
            echo("cust-7", "We also called you.").into(),
            echo("cust-8", "We wrote first.").into(),
            chat("cust-8", "Oh, thanks.").into(),
        ],
        expect![[r#"
            #1 pending frontline normal [cust-7 signed]
              m1 cust-7: Hello? | 6 first_of_contact
              - @sue: to cust-7: Yes? | sent
              m2 cust-7: We also called you. | 4 open_conversation
            #2 queued frontline normal [cust-8 signed]
              m3 cust-8: We wrote first. | 6 first_of_contact
              m4 cust-8: Oh, thanks. | 4 open_conversation
        "#]],
    )
    .await;
}

/// chatwoot #10028: staff answered from Outlook, and the thread broke for ever.
#[tokio::test]
async fn what_a_colleague_answers_in_a_mail_program_joins_by_token_reference_or_customer() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1")
                .into(),
            mail("bob@example.com", "And mine?")
                .claimed()
                .message_id("b-1")
                .into(),
            mail("ada@example.com", "From Outlook.")
                .by_us()
                .token("#1")
                .message_id("o-1")
                .into(),
            mail("ada@example.com", "From a phone.")
                .by_us()
                .refers_to("a-1")
                .into(),
            mail("ada@example.com", "A new mail.").by_us().into(),
            mail("bob@example.com", "Where nobody is proven.")
                .claimed()
                .by_us()
                .refers_to("b-1")
                .into(),
            mail("ada@example.com", "Thank you.")
                .refers_to("o-1")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m3 ada@example.com: From Outlook. | 1 reply_token
              m4 ada@example.com: From a phone. | 2 reference
              m5 ada@example.com: A new mail. | 4 open_conversation
              m7 ada@example.com: Thank you. | 2 reference
            #2 pending frontline normal [bob@example.com claimed]
              m2 bob@example.com: And mine? | 6 first_of_contact
              m6 bob@example.com: Where nobody is proven. | 2 own_reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_nobody_wrote_is_shown_in_its_thread() {
    check(
        [together([
            chat("cust-7", "Hello?").thread("t-1"),
            system("t-1", "Ada joined."),
        ])],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m1 cust-7: Hello? | 6 first_of_contact
              m2 system: Ada joined. | 3 native_thread
        "#]],
    )
    .await;
}
