//! Rules 1 to 3: tokens, references and threads say which conversation is meant, and give no right
//! to join it.

use expect_test::expect;

use switchboard::ids::{IdCodec, IdKind};

use super::{Answer, HoursLater, Resolve, check, together};
use crate::support::{Desk, chat, mail};

#[tokio::test]
async fn a_reply_token_joins_for_a_participants_address() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            HoursLater(200),
            mail("ada@example.com", "Still nothing.").token("#1").into(),
            HoursLater(200),
            mail("ada@example.com", "From a server without DMARC.")
                .claimed()
                .token("#1")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: Still nothing. | 1 reply_token
              m3 ada@example.com: From a server without DMARC. | 1 reply_token
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_stolen_token_joins_nothing_from_another_address() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("eve@evil.example", "Send it to me instead.")
                .token("#1")
                .into(),
            mail("mallory@evil.example", "And to me.")
                .claimed()
                .token("#1")
                .into(),
            chat("eve-7", "And here.").token("#1").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [eve@evil.example dmarc] -> #1 not_a_participant
              m2 eve@evil.example: Send it to me instead. | 6 not_a_participant, not by reply_token
            #3 queued frontline normal [mallory@evil.example claimed] -> #1 not_a_participant
              m3 mallory@evil.example: And to me. | 6 not_a_participant, not by reply_token
            #4 queued frontline normal [eve-7 signed] -> #1 not_a_participant
              m4 eve-7: And here. | 6 not_a_participant, not by reply_token
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_token_without_our_mac_names_nothing_even_for_a_participants_address() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("ada@example.com", "A forged From with a forged token.")
                .claimed()
                .token("forged #1")
                .into(),
            HoursLater(200),
            mail("ada@example.com", "Hello?").token("forged #1").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [ada@example.com claimed]
              m2 ada@example.com: A forged From with a forged token. | 6 first_of_contact
            #3 queued own-matter frontline normal [ada@example.com dmarc]
              m3 ada@example.com: Hello? | 6 nothing_within_window
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_token_says_nothing_in_another_brand() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("ada@example.com", "And my outlet order?")
                .on("outlet-mail")
                .token("#1")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued outlet normal [ada@example.com dmarc]
              m2 ada@example.com: And my outlet order? | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_reference_joins_for_a_participant_by_verified_evidence() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .cc("bob@example.com")
                .into(),
            HoursLater(200),
            mail("ada@example.com", "Any news?")
                .refers_to("a-1@x")
                .into(),
            mail("bob@example.com", "I wonder, too.")
                .refers_to("a-1@x")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] with bob@example.com
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: Any news? | 2 reference
              m3 bob@example.com: I wonder, too. | 2 reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_reference_to_our_answer_joins() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .into(),
            Answer(1, "On its way.", "answer-1@shop"),
            HoursLater(200),
            mail("ada@example.com", "Thanks, it came.")
                .refers_to("answer-1@shop")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | sent
              m2 ada@example.com: Thanks, it came. | 2 reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_mark_of_a_thread_names_the_conversation_that_bore_it_first_for_its_participants() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .refers_to("thread-index:01d4")
                .into(),
            HoursLater(200),
            mail("ada@example.com", "Still nothing.")
                .refers_to("thread-index:01d4")
                .into(),
            mail("eve@evil.example", "A verified stranger.")
                .refers_to("thread-index:01d4")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: Still nothing. | 2 reference
            #2 queued frontline normal [eve@evil.example dmarc] -> #1 not_a_participant
              m3 eve@evil.example: A verified stranger. | 6 not_a_participant, not by reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_bare_reference_joins_nothing_for_anybody_else() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .into(),
            mail("eve@evil.example", "A verified stranger.")
                .refers_to("a-1@x")
                .into(),
            mail("mallory@evil.example", "A claimed stranger.")
                .claimed()
                .refers_to("a-1@x")
                .into(),
            mail("ada@example.com", "A forged From.")
                .claimed()
                .refers_to("a-1@x")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued frontline normal [eve@evil.example dmarc] -> #1 not_a_participant
              m2 eve@evil.example: A verified stranger. | 6 not_a_participant, not by reference
            #3 queued frontline normal [mallory@evil.example claimed] -> #1 not_a_participant
              m3 mallory@evil.example: A claimed stranger. | 6 not_a_participant, not by reference
            #4 queued frontline normal [ada@example.com claimed] -> #1 not_a_participant
              m4 ada@example.com: A forged From. | 6 not_a_participant, not by reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_claimed_sender_joins_its_own_conversation_by_reference() {
    check(
        [
            mail("ada@old-server.example", "Where is my order?")
                .claimed()
                .message_id("a-1@x")
                .into(),
            HoursLater(200),
            mail("ada@old-server.example", "Any news?")
                .claimed()
                .refers_to("a-1@x")
                .into(),
            mail("mallory@evil.example", "Me, too.")
                .claimed()
                .refers_to("a-1@x")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@old-server.example claimed]
              m1 ada@old-server.example: Where is my order? | 6 first_of_contact
              m2 ada@old-server.example: Any news? | 2 own_reference
            #2 queued frontline normal [mallory@evil.example claimed] -> #1 not_a_participant
              m3 mallory@evil.example: Me, too. | 6 not_a_participant, not by reference
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_message_id_used_again_takes_nothing_over() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .into(),
            mail("eve@evil.example", "I call mine the same.")
                .message_id("a-1@x")
                .into(),
            HoursLater(200),
            mail("ada@example.com", "Any news?")
                .refers_to("a-1@x")
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m3 ada@example.com: Any news? | 2 reference
            #2 queued frontline normal [eve@evil.example dmarc]
              m2 eve@evil.example: I call mine the same. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_native_thread_joins_everybody_the_platform_vouches_for() {
    check(
        [
            chat("cust-7", "Hello, we have a question.")
                .thread("t-1")
                .into(),
            HoursLater(200),
            together([
                chat("cust-8", "I am the colleague.").thread("t-1"),
                chat("cust-7", "Yes, that is us.").thread("t-1"),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed] with cust-8
              m1 cust-7: Hello, we have a question. | 6 first_of_contact
              m2 cust-8: I am the colleague. | 3 native_thread
              m3 cust-7: Yes, that is us. | 3 native_thread
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_native_thread_goes_on_in_the_conversation_that_continues_it() {
    check(
        [
            chat("cust-7", "Hello, I have a question.")
                .thread("t-1")
                .into(),
            Resolve(1),
            HoursLater(24 * 20),
            chat("cust-7", "Another year, another question.")
                .thread("t-1")
                .into(),
            HoursLater(200),
            chat("cust-7", "Are you there?").thread("t-1").into(),
        ],
        expect![[r#"
            #1 resolved frontline normal [cust-7 signed] -> #2 continues
              m1 cust-7: Hello, I have a question. | 6 first_of_contact
            #2 queued frontline normal [cust-7 signed] -> #1 continues
              m2 cust-7: Another year, another question. | 5 continues
              m3 cust-7: Are you there? | 3 native_thread
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_unverified_stranger_neither_joins_a_native_thread_nor_takes_it_over() {
    check(
        [
            chat("cust-7", "Hello, I have a question.")
                .thread("t-1")
                .into(),
            HoursLater(200),
            chat("eve-7", "Let me in.").claimed().thread("t-1").into(),
            chat("cust-7", "Are you there?").thread("t-1").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [cust-7 signed]
              m1 cust-7: Hello, I have a question. | 6 first_of_contact
              m3 cust-7: Are you there? | 3 native_thread
            #2 queued frontline normal [eve-7 claimed] -> #1 not_a_participant
              m2 eve-7: Let me in. | 6 not_a_participant, not by native_thread
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_forward_starts_a_new_conversation_linked_to_where_it_came_from() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .into(),
            mail("ada@example.com", "See below.")
                .refers_to("a-1@x")
                .forward()
                .into(),
            mail("eve@evil.example", "See below.")
                .refers_to("a-1@x")
                .forward()
                .into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] -> #2 forwarded
              m1 ada@example.com: Where is my order? | 6 first_of_contact
            #2 queued own-matter frontline normal [ada@example.com dmarc] -> #1 forwarded
              m2 ada@example.com: See below. | 6 forward
            #3 queued frontline normal [eve@evil.example dmarc]
              m3 eve@evil.example: See below. | 6 forward
        "#]],
    )
    .await;
}

#[tokio::test]
async fn hints_to_a_resolved_conversation_reopen_it_or_link_back() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .into(),
            Resolve(1),
            HoursLater(24 * 13),
            mail("ada@example.com", "It broke.").token("#1").into(),
            Resolve(1),
            HoursLater(24 * 15),
            mail("ada@example.com", "It broke again.")
                .refers_to("a-1@x")
                .into(),
        ],
        expect![[r#"
            #1 resolved frontline normal [ada@example.com dmarc] -> #2 continues
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: It broke. | 5 reopened
            #2 queued frontline normal [ada@example.com dmarc] -> #1 continues
              m3 ada@example.com: It broke again. | 5 continues
        "#]],
    )
    .await;
}

#[tokio::test]
async fn reopening_what_would_collide_with_an_open_conversation_makes_it_a_matter_of_its_own() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .message_id("a-1@x")
                .into(),
            Resolve(1),
            HoursLater(24 * 13),
            mail("ada@example.com", "Something else.")
                .refers_to("unknown@x")
                .into(),
            HoursLater(100),
            mail("ada@example.com", "A third thing.")
                .message_id("a-3@x")
                .into(),
            Resolve(1),
            HoursLater(1),
            mail("ada@example.com", "The first thing again.")
                .token("#1")
                .into(),
        ],
        expect![[r#"
            #1 queued own-matter frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m2 ada@example.com: Something else. | 5 reopened
              m4 ada@example.com: The first thing again. | 5 reopened
            #2 queued own-matter frontline normal [ada@example.com dmarc]
              m3 ada@example.com: A third thing. | 6 nothing_within_window
        "#]],
    )
    .await;
}

#[tokio::test]
async fn an_answer_is_referred_to_by_our_own_id_for_it() {
    let mut desk = Desk::new().await;
    desk.deliver([chat("cust-7", "Where is my order?")]).await;
    let answer = desk.answer(1, "On its way.", "shop-1").await;
    let ours = desk.keys.ids.encode(IdKind::Message, answer.id.0);
    desk.hours_later(200);
    let elsewhere = IdCodec::new(b"another installation").encode(IdKind::Message, answer.id.0);
    // Alone in its batch: nothing else brings the answer's row along.
    desk.deliver([chat("cust-7", "By your id.").refers_to(&ours)])
        .await;
    desk.hours_later(200);
    desk.deliver([
        chat("cust-7", "By the shop's.").refers_to("shop-1"),
        chat("eve-7", "A stranger.").refers_to(&ours),
        chat("cust-7", "Nothing is claimed.")
            .claimed()
            .refers_to(&ours),
        chat("cust-8", "A made-up id.").refers_to(&elsewhere),
        // As the webhook connector names messages.
        chat("cust-7", "By theirs, and by the shop's.")
            .key("message:m-7")
            .message_id("message:m-7")
            .refers_to("message:shop-1")
            .refers_to("shop-1"),
    ])
    .await;
    expect![[r#"
        #1 queued frontline normal [cust-7 signed]
          m1 cust-7: Where is my order? | 6 first_of_contact
          - @sue: to cust-7: On its way. | sent
          m2 cust-7: By your id. | 2 reference
          m3 cust-7: By the shop's. | 2 reference
          message:m-7 cust-7: By theirs, and by the shop's. | 2 reference
        #2 queued frontline normal [eve-7 signed] -> #1 not_a_participant
          m4 eve-7: A stranger. | 6 not_a_participant, not by reference
        #3 queued frontline normal [cust-7 claimed] -> #1 not_a_participant
          m5 cust-7: Nothing is claimed. | 6 not_a_participant, not by reference
        #4 queued frontline normal [cust-8 signed]
          m6 cust-8: A made-up id. | 6 first_of_contact
    "#]]
    .assert_eq(&desk.shows().await);
}

#[tokio::test]
async fn an_answer_from_where_a_verified_author_wants_answers_joins() {
    check(
        [
            mail("ada@example.com", "Where is my order?")
                .reply_to("ada@work.example")
                .into(),
            mail("eve@evil.example", "Answer to her.")
                .claimed()
                .reply_to("eve@other.example")
                .into(),
            HoursLater(200),
            mail("ada@work.example", "Thanks.").token("#1").into(),
            mail("eve@other.example", "Thanks.").token("#2").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] with ada@work.example
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              m3 ada@work.example: Thanks. | 1 reply_token
            #2 queued frontline normal [eve@evil.example claimed]
              m2 eve@evil.example: Answer to her. | 6 first_of_contact
            #3 queued frontline normal [eve@other.example dmarc] -> #2 not_a_participant
              m4 eve@other.example: Thanks. | 6 not_a_participant, not by reply_token
        "#]],
    )
    .await;
}
