//! What a provider reports of an answer settles how far it got, in any order and however often.

use connector_api::DeliveryStage::{Accepted, Delivered, Failed, Read};
use connector_api::Event;
use expect_test::expect;
use switchboard::ids::IdKind;
use switchboard::store::Settlement;

use super::{Answer, HoursLater, Resolve, check, together};
use crate::support::{Desk, Said, mail, receipt};

#[tokio::test]
async fn receipts_go_forwards_only() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Answer(1, "On its way.", "a-1@shop"),
            together([
                receipt("a-1@shop", Read),
                receipt("a-1@shop", Delivered),
                receipt("a-1@shop", Accepted),
            ]),
            receipt("a-1@shop", Failed).into(),
            Answer(1, "Really.", "a-2@shop"),
            together([
                receipt("a-2@shop", Delivered),
                receipt("a-2@shop", Accepted),
                receipt("a-2@shop", Failed),
            ]),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | read
              - @sue: to ada@example.com: Really. | delivered
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_refused_answer_comes_back_to_a_person() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Answer(1, "On its way.", "a-1@shop"),
            Resolve(1),
            together([receipt("a-1@shop", Failed), receipt("a-1@shop", Delivered)]),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | refused (mailbox full)
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_refused_answer_comes_back_also_beside_a_newer_open_conversation() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Answer(1, "On its way.", "a-1@shop"),
            Resolve(1),
            HoursLater(24 * 15),
            mail("ada@example.com", "Something else.").into(),
            receipt("a-1@shop", Failed).into(),
        ],
        expect![[r#"
            #1 queued own-matter frontline normal [ada@example.com dmarc] -> #2 continues
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | refused (mailbox full)
            #2 queued frontline normal [ada@example.com dmarc] -> #1 continues
              m2 ada@example.com: Something else. | 5 continues
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_receipt_that_overtakes_the_providers_answer_waits_for_it() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            together([
                receipt("a-1@shop", Delivered),
                receipt("a-1@shop", Accepted),
            ]),
            Answer(1, "On its way.", "a-1@shop"),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | delivered
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_receipt_speaks_of_its_own_channels_messages_only() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Answer(1, "On its way.", "a-1@shop"),
            receipt("a-1@shop", Failed).on("sales-mail").into(),
            receipt("somebody-elses@shop", Failed).into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | sent
        "#]],
    )
    .await;
}

/// An answer whose outcome is unknown, then receipts that name it by our own id.
async fn settled_by(stages: &[connector_api::DeliveryStage]) -> Desk {
    let mut desk = Desk::new().await;
    desk.deliver([mail("ada@example.com", "Where is my order?")])
        .await;
    let answer = desk.reply(1, "On its way.").await;
    for leased in desk.lease("support-mail").await {
        desk.settle(
            &leased,
            Settlement::Unknown {
                reason: "no answer came".to_owned(),
            },
        )
        .await;
    }
    assert_eq!(
        desk.store().counts().await.unwrap().outbox,
        [0, 0, 1],
        "it is held"
    );
    let named = format!(
        "sbtoken.{}@shop.example",
        desk.keys.ids.encode(IdKind::Message, answer.id.0)
    );
    desk.deliver(stages.iter().map(|stage| receipt(&named, *stage)))
        .await;
    desk
}

#[tokio::test]
async fn a_receipt_settles_an_unknown_outcome_by_our_own_id() {
    for (stages, delivery) in [
        (vec![Delivered], "delivered"),
        (vec![Accepted], "sent"),
        (vec![Failed], "refused"),
        (vec![Failed, Read], "refused"),
    ] {
        let desk = settled_by(&stages).await;
        let messages = desk.messages(1).await;
        assert_eq!(
            messages[1].delivery.map(|delivery| delivery.as_str()),
            Some(delivery),
            "{stages:?}"
        );
        assert_eq!(
            desk.store().counts().await.unwrap().outbox,
            [0, 0, 0],
            "{stages:?}: nothing is held"
        );
    }
}

/// A report on a mail whose id a relay changed: it brings back where the mail wanted its answers.
fn returned(token: &str, recipient: &str) -> Said {
    let mut said = receipt(token, Failed);
    if let Event::Receipt { recipient: of, .. } = &mut said.event.event {
        *of = Some(recipient.to_owned());
    }
    said
}

#[tokio::test]
async fn a_bounce_that_names_the_token_and_the_recipient_is_of_the_newest_answer_to_them() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            Answer(1, "On its way.", "a-1@relay"),
            Answer(1, "Really.", "a-2@relay"),
            returned("#1", "Ada@Example.com").into(),
            Answer(1, "It comes by post now.", "a-3@relay"),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | sent
              - @sue: to ada@example.com: Really. | refused (mailbox full)
              - @sue: to ada@example.com: It comes by post now. | sent
        "#]],
    )
    .await;
}

#[tokio::test]
async fn a_bounce_that_names_another_recipient_or_a_forged_token_is_of_nothing() {
    check(
        [
            mail("ada@example.com", "Where is my order?").into(),
            mail("bob@example.com", "And mine?").into(),
            Answer(1, "On its way.", "a-1@relay"),
            Answer(2, "Yours, too.", "b-1@relay"),
            returned("#1", "bob@example.com").into(),
            returned("forged #1", "ada@example.com").into(),
            returned("#1", "ada@example.com").on("sales-mail").into(),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              m1 ada@example.com: Where is my order? | 6 first_of_contact
              - @sue: to ada@example.com: On its way. | sent
            #2 queued frontline normal [bob@example.com dmarc]
              m2 bob@example.com: And mine? | 6 first_of_contact
              - @sue: to bob@example.com: Yours, too. | sent
        "#]],
    )
    .await;
}
