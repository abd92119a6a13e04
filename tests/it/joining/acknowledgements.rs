//! One acknowledgement per human conversation, at most one per address and channel in a day, and
//! none to machines, history or spam.

use connector_api::Automatic;
use expect_test::expect;
use switchboard::router::Policy;

use super::{Crash, HoursLater, Resolve, check_with, together};
use crate::support::{Desk, echo, mail};

fn acknowledging(policy: &mut Policy) {
    for channel in policy.channels.values_mut() {
        channel.acknowledge = Some("We got it.".to_owned());
    }
}

#[tokio::test]
async fn a_conversation_is_acknowledged_once() {
    check_with(
        acknowledging,
        [together([
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .subject("Order 17"),
            mail("ada@example.com", "Any news?").refers_to("a-1@x"),
            mail("bob@example.com", "Where is mine?"),
        ])],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact | acknowledged: sent
              - automation: to ada@example.com: We got it. | queued
              m2 ada@example.com: Any news? | 2 reference
            #2 queued frontline normal [bob@example.com dmarc]
              m3 bob@example.com: Where is mine? | 6 first_of_contact | acknowledged: sent
              - automation: to bob@example.com: We got it. | queued
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_mail_that_answers_ours_is_not_acknowledged_whoever_sends_it() {
    check_with(
        acknowledging,
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("ticket-7@example.net", "Your request was received.")
                .token("#1")
                .into(),
            mail("ticket-8@example.net", "Your request was received.")
                .token("forged #1")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact | acknowledged: sent
              - automation: to ada@example.com: We got it. | queued
            #2 queued frontline normal [ticket-7@example.net dmarc] -> #1 not_a_participant
              m2 ticket-7@example.net: Your request was received. | 6 not_a_participant, not by reply_token | acknowledged: answers_ours
            #3 queued frontline normal [ticket-8@example.net dmarc]
              m3 ticket-8@example.net: Your request was received. | 6 first_of_contact | acknowledged: sent
              - automation: to ticket-8@example.net: We got it. | queued
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_ticket_system_gets_one_acknowledgement_whatever_its_addresses_are() {
    let text = "Your request was received as ticket number";
    check_with(
        acknowledging,
        [
            mail("help+1@example.net", &format!("{text} 17.")).into(),
            mail("help+2@example.net", "Quite another text.").into(),
            mail("ticket-3@example.net", &format!("{text} 18.")).into(),
            mail("ticket-3@example.com", &format!("{text} 19.")).into(),
        ],
        expect![[r#"
            #1 queued frontline normal [help+1@example.net dmarc]
              m1 help+1@example.net: Your request was received as ticket number 17. | 6 first_of_contact | acknowledged: sent
              - automation: to help+1@example.net: We got it. | queued
            #2 queued frontline normal [help+2@example.net dmarc]
              m2 help+2@example.net: Quite another text. | 6 first_of_contact | acknowledged: recently
            #3 queued frontline normal [ticket-3@example.net dmarc]
              m3 ticket-3@example.net: Your request was received as ticket number 18. | 6 first_of_contact | acknowledged: recently
            #4 queued frontline normal [ticket-3@example.com dmarc]
              m4 ticket-3@example.com: Your request was received as ticket number 19. | 6 first_of_contact | acknowledged: sent
              - automation: to ticket-3@example.com: We got it. | queued
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_address_gets_one_acknowledgement_a_day_and_channel() {
    check_with(
        acknowledging,
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("ada@example.com", "See below.").forward().into(),
            mail("ada@example.com", "To sales, too.")
                .forward()
                .on("sales-mail")
                .into(),
            Crash,
            HoursLater(23),
            mail("ada@example.com", "See below, again.")
                .forward()
                .into(),
            HoursLater(2),
            mail("ada@example.com", "See below, at last.")
                .forward()
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact | acknowledged: sent
              - automation: to ada@example.com: We got it. | queued
            #2 queued own-matter frontline normal [ada@example.com dmarc]
              m2 ada@example.com: See below. | 6 forward | acknowledged: recently
            #3 queued own-matter frontline normal [ada@example.com dmarc]
              m3 ada@example.com: To sales, too. | 6 forward | acknowledged: sent
              - automation: to ada@example.com: We got it. | queued
            #4 queued own-matter frontline normal [ada@example.com dmarc]
              m4 ada@example.com: See below, again. | 6 forward | acknowledged: recently
            #5 queued own-matter frontline normal [ada@example.com dmarc]
              m5 ada@example.com: See below, at last. | 6 forward | acknowledged: sent
              - automation: to ada@example.com: We got it. | queued
        "#]],
    )
    .await;
}

#[tokio::test]
async fn reopening_is_no_new_conversation_to_acknowledge() {
    check_with(
        acknowledging,
        [
            mail("ada@example.com", "Where is my order?").into(),
            Resolve(1),
            HoursLater(48),
            mail("ada@example.com", "It came broken.").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact | acknowledged: sent
              - automation: to ada@example.com: We got it. | queued
              m2 ada@example.com: It came broken. | 5 reopened
        "#]],
    )
    .await;
}

#[tokio::test]
async fn machines_history_and_our_own_words_are_not_acknowledged() {
    let kinds = [
        Automatic::AutoReply,
        Automatic::Bounce,
        Automatic::FeedbackReport,
        Automatic::ReadReceipt,
        Automatic::Bulk,
        Automatic::Generated,
        Automatic::Loop,
    ];
    let mut desk = Desk::new().await;
    desk.configure(acknowledging);
    for (number, kind) in kinds.into_iter().enumerate() {
        desk.deliver([mail(&format!("machine-{number}@example.com"), "Beep.").automatic(kind)])
            .await;
    }
    desk.deliver([
        mail("ada@example.com", "An old story.").history(),
        echo("cust-7", "We wrote first."),
    ])
    .await;
    assert_eq!(desk.conversations().await.len(), kinds.len() + 2);
    assert_eq!(desk.store().counts().await.unwrap().outbox, [0, 0, 0]);
    desk.deliver([mail("ada@example.com", "A human's mail.")])
        .await;
    assert_eq!(
        desk.store().counts().await.unwrap().outbox,
        [1, 0, 0],
        "a human's is"
    );
}

#[tokio::test]
async fn an_acknowledgement_goes_to_the_writer_and_its_answer_comes_back() {
    let mut desk = Desk::new().await;
    desk.configure(acknowledging);
    desk.deliver([mail("ada@example.com", "Where is my order?")
        .message_id("a-1@x")
        .subject("Order 17")])
        .await;
    let [leased] = &desk.lease("support-mail").await[..] else {
        panic!("one acknowledgement is due")
    };
    let to = leased.draft.to.as_ref().unwrap();
    expect![[r#"
        (
            "We got it.",
            true,
            Destination {
                namespace: Namespace(
                    "email",
                ),
                address: "ada@example.com",
                name: None,
                thread: None,
                subject: Some(
                    "Re: Order 17",
                ),
                references: [
                    "a-1@x",
                ],
                also_to: [],
                cc: [],
                bcc: [],
                answers: Some(
                    MessageId(
                        1,
                    ),
                ),
            },
        )
    "#]]
    .assert_debug_eq(&(&leased.draft.text, leased.draft.automatic, to));
}

#[tokio::test]
async fn spam_is_labelled_and_queued_and_not_acknowledged() {
    check_with(
        acknowledging,
        [
            mail("ada@example.com", "You have won an order.")
                .spam("x-spam-flag")
                .into(),
            mail("bob@example.com", "Where is my order?").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: You have won an order. | 6 first_of_contact | acknowledged: spam
            #2 queued frontline normal [bob@example.com dmarc]
              m2 bob@example.com: Where is my order? | 6 first_of_contact | acknowledged: sent
              - automation: to bob@example.com: We got it. | queued
        "#]],
    )
    .await;
    let mut desk = Desk::new().await;
    desk.deliver([mail("ada@example.com", "You have won.").spam("x-spam-flag")])
        .await;
    let labels = &desk.messages(1).await[0].labels;
    assert_eq!(
        labels["spam"],
        serde_json::json!(["yes", 90, ["provider", "x-spam-flag"]])
    );
}

#[tokio::test]
async fn whoever_asks_for_no_automatic_answers_gets_none_and_is_queued_like_a_human() {
    check_with(
        acknowledging,
        [mail("ada@example.com", "Where is my order?")
            .suppressing_answers()
            .into()],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact | acknowledged: not_wanted
        "#]],
    )
    .await;
}
