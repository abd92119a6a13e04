//! What our own side writes elsewhere: in a mail program, in the provider's own app. Where it answers
//! the customer, the conversation waits for nobody any more.

use connector_api::Automatic;
use expect_test::expect;

use super::Step::{MinutesLater, Resolve};
use super::check;
use crate::support::{Desk, agent, chat, echo, mail};

#[tokio::test]
async fn an_answer_from_outside_takes_the_conversation_out_of_its_queue_until_the_customer_writes()
{
    check(
        [
            chat("cust-7", "Hello?").into(),
            MinutesLater(5),
            echo("cust-7", "Hello, how can we help?").into(),
            chat("cust-8", "Hello?").into(),
            MinutesLater(5),
            echo("cust-8", "Yes?").into(),
            MinutesLater(5),
            chat("cust-8", "Where is it?").into(),
        ],
        expect![[r#"
            #1 pending frontline normal [cust-7 signed]
              m1 cust-7: Hello? | 6 first_of_contact
              m2 cust-7: Hello, how can we help? | 4 open_conversation
            #2 queued frontline normal [cust-8 signed]
              m3 cust-8: Hello? | 6 first_of_contact
              m4 cust-8: Yes? | 4 open_conversation
              m5 cust-8: Where is it? | 4 open_conversation
        "#]],
    )
    .await;
}

/// Sent mail is read when its turn comes, and its date is of another clock: naming the last message
/// is enough, and else it has to be the later one.
#[tokio::test]
async fn an_answer_names_the_last_message_or_was_written_after_it() {
    let minute = 60_000_000;
    let start = Desk::new().await.now();
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1")
                .into(),
            mail("bob@example.com", "And mine?")
                .message_id("b-1")
                .into(),
            mail("eve@example.com", "And this?")
                .message_id("e-1")
                .into(),
            MinutesLater(10),
            mail("bob@example.com", "I found it.")
                .message_id("b-2")
                .into(),
            mail("ada@example.com", "On its way.")
                .by_us()
                .refers_to("a-1")
                .sent_at(start - minute)
                .into(),
            mail("bob@example.com", "On its way.")
                .by_us()
                .refers_to("b-1")
                .sent_at(start + 5 * minute)
                .into(),
            mail("eve@example.com", "About something else.")
                .by_us()
                .sent_at(start - minute)
                .into(),
        ],
        expect![[r#"
            #1 pending frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m5 ada@example.com: On its way. | 2 reference
            #2 queued frontline normal [bob@example.com dmarc]
              m2 bob@example.com: And mine? | 6 first_of_contact
              m4 bob@example.com: I found it. | 4 open_conversation
              m6 bob@example.com: On its way. | 2 reference
            #3 queued frontline normal [eve@example.com dmarc]
              m3 eve@example.com: And this? | 6 first_of_contact
              m7 eve@example.com: About something else. | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn what_went_to_another_or_is_history_or_a_machines_answers_nobody() {
    check(
        [
            mail("zoe@example.com", "Thanks.").into(),
            Resolve(1),
            mail("ada@example.com", "Where is my order?")
                .cc("bob@example.com")
                .into(),
            MinutesLater(5),
            mail("zoe@example.com", "You are welcome.").by_us().into(),
            mail("bob@example.com", "Bob, do you know?")
                .by_us()
                .token("#2")
                .into(),
            mail("ada@example.com", "We wrote this long ago.")
                .by_us()
                .token("#2")
                .history()
                .into(),
            mail("ada@example.com", "We are on holiday.")
                .by_us()
                .automatic(Automatic::AutoReply)
                .into(),
        ],
        expect![[r#"
            #1 resolved frontline normal [zoe@example.com dmarc]
              m1 zoe@example.com: Thanks. | 6 first_of_contact
              m3 zoe@example.com: You are welcome. | 5 nothing_within_window
            #2 queued frontline normal [ada@example.com dmarc] with bob@example.com
              m2 ada@example.com: Where is my order? | 6 first_of_contact
              m4 bob@example.com: Bob, do you know? | 1 reply_token
              m5 ada@example.com: We wrote this long ago. | 1 reply_token
              m6 ada@example.com: We are on holiday. | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn who_has_the_conversation_keeps_it_and_the_explanation_says_why_it_moved() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Hello?")]).await;
    let claimed = desk.claim("frontline", agent("sue")).await;
    assert_eq!(claimed.unwrap().status.as_str(), "assigned");
    desk.later(std::time::Duration::from_secs(60));
    desk.deliver([echo("cust-7", "Yes?")]).await;
    let conversation = desk.conversation(1).await;
    assert_eq!(conversation.status.as_str(), "pending");
    assert_eq!(conversation.assignee.as_deref(), Some("sue"));
    let messages = desk.messages(1).await;
    let answered = &messages[1].explanation["answered"];
    let at = messages[0].arrived_at;
    let expected = serde_json::json!({ "written_after": { "last_inbound_at": at } });
    assert_eq!(*answered, expected);
    desk.deliver([chat("cust-7", "Where is it?")]).await;
    let conversation = desk.conversation(1).await;
    assert_eq!(conversation.status.as_str(), "assigned");
    assert_eq!(conversation.assignee.as_deref(), Some("sue"));
}

#[tokio::test]
async fn nobody_is_handed_what_was_answered_outside() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Hello?"), chat("cust-8", "Hello?")])
        .await;
    desk.later(std::time::Duration::from_secs(60));
    desk.deliver([echo("cust-7", "Yes?")]).await;
    let first = desk.claim("frontline", agent("sue")).await.unwrap();
    assert_eq!(first.id, desk.conversation(2).await.id);
    assert!(desk.claim("frontline", agent("kim")).await.is_none());
}
