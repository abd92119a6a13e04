//! Duplicates and races.

use std::sync::Arc;

use connector_api::{Cursor, InboundBatch, Intake as _};
use expect_test::expect;
use switchboard::intake::ChannelIntake;
use switchboard::router::Verdict;

use super::{check, claimed, proven, shown};
use crate::support::{Desk, Local, Said, channel_id, channels};

#[tokio::test]
async fn freescout_5638_the_same_message_id_twice_is_one_message() {
    let mail = || {
        proven(
            "From: ada@example.com\nMessage-ID: <a1@example.com>",
            "Hello.",
        )
    };
    check(
        [mail(), mail()],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              mid:a1@example.com ada@example.com: Hello. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn freescout_4748_a_mail_to_two_of_our_mailboxes_is_one_conversation() {
    let mail = |to: &str| {
        let head = format!(
            "Delivered-To: {to}\nFrom: ada@example.com\nTo: support@shop.example\nCc: sales@shop.example\nMessage-ID: <a1@example.com>"
        );
        proven(&head, "To both of you.")
    };
    let second = mail("sales@shop.example").on("sales-mail");
    check(
        [mail("support@shop.example"), second],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc] with sales@shop.example
              mid:a1@example.com ada@example.com: To both of you. | 6 first_of_contact
              mid:a1@example.com ada@example.com: To both of you. | 4 open_conversation
        "#]],
    )
    .await;
}

#[tokio::test]
async fn freescout_3186_a_mail_keeps_its_words_whoever_reads_it_again() {
    let head = "From: ada@example.com\nMessage-ID: <a1@example.com>";
    check(
        [proven(head, "All of my words."), proven(head, "")],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              mid:a1@example.com ada@example.com: All of my words. | 6 first_of_contact
              mid:a1@example.com ada@example.com:  | 4 open_conversation | conflicting
        "#]],
    )
    .await;
}

#[tokio::test]
async fn zammad_1662_one_mail_makes_one_conversation_whatever_it_went_through() {
    let head = "From: ada@example.com\nMessage-ID: <a1@example.com>\nSubject: Order 17";
    check(
        [
            proven(&format!("Received: by one\n{head}"), "Hello."),
            proven(
                &format!("Received: by two\nX-Spam-Status: No\n{head}"),
                "Hello.  ",
            ),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              mid:a1@example.com ada@example.com: Hello. | 6 first_of_contact
        "#]],
    )
    .await;
}

/// Its job filed the mails and failed; at every run it began with them again.
#[tokio::test]
async fn chatwoot_4130_a_reader_that_fails_after_every_run_files_each_mail_once() {
    let local = Arc::new(Local::new());
    let mut desk = Desk::on(local.clone()).await;
    let sql = async |sql: &'static str| {
        let store = local.store();
        let work = store.writer();
        let done = work.run(0, move |tx| Ok(tx.conn.batch(sql)?)).await;
        done.expect("the statement runs");
    };
    let mails = [
        proven(
            "From: ada@example.com\nMessage-ID: <a1@example.com>",
            "One.",
        ),
        proven("From: bob@example.com", "No id."),
        claimed(
            "From: cy@example.com\nMessage-ID: <c1@example.com>",
            "Three.",
        ),
    ];
    let channel = channels().remove("support-mail").unwrap();
    let id = channel.id.clone();
    let reader = ChannelIntake {
        intake: desk.intake().clone(),
        channel: Arc::new(channel),
    };
    let run = async || {
        let batch = InboundBatch {
            events: mails.iter().map(|mail| mail.event.clone()).collect(),
            cursor: Some(Cursor(serde_json::json!(3))),
        };
        reader.accept(batch).await
    };
    sql("CREATE TRIGGER broken BEFORE INSERT ON cursor BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    for _ in 0..10 {
        assert!(run().await.is_err(), "its place cannot be written down");
        assert_eq!(desk.store().cursor(&id).await.unwrap(), None);
    }
    sql("DROP TRIGGER broken").await;
    run().await.unwrap();
    desk.accepted_elsewhere(11 * mails.len());
    desk.route(4).await;
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: One. | 6 first_of_contact
        #2 queued frontline normal [bob@example.com dmarc]
          sha256 bob@example.com: No id. | 6 first_of_contact
        #3 queued frontline normal [cy@example.com claimed]
          mid:c1@example.com cy@example.com: Three. | 6 first_of_contact
    "#]]
    .assert_eq(&shown(&desk).await);
}

/// Duplicates and missing tickets once two schedulers ran (zammad-helm #51 and #392, too).
#[tokio::test]
async fn zammad_5915_two_readers_of_one_mailbox_file_each_mail_once_and_miss_none() {
    const MAILS: usize = 40;
    let mut desk = Desk::new().await;
    let mails: Vec<Said> = (0..MAILS)
        .map(|number| {
            let head = format!("From: c{number}@example.com\nMessage-ID: <{number}@example.com>");
            proven(&head, &format!("Mail {number}"))
        })
        .collect();
    let readers = (0..2).map(|_| {
        let (shared, mails) = (desk.shared_intake(), mails.clone());
        tokio::spawn(async move {
            for mail in mails {
                shared.accept(mail).await;
            }
        })
    });
    for reader in readers.collect::<Vec<_>>() {
        reader.await.unwrap();
    }
    desk.accepted_elsewhere(2 * MAILS);
    desk.route(7).await;
    assert_eq!(desk.conversations().await.len(), MAILS);
    for number in 1..=MAILS {
        assert_eq!(desk.messages(number).await.len(), 1);
    }
}

/// Services post a mail again whenever our answer is late; the first two of a new customer come at
/// the same moment.
#[tokio::test]
async fn chatwoot_6046_mails_posted_five_times_at_once_are_one_conversation() {
    let mut desk = Desk::new().await;
    desk.configure(|policy| {
        let channel = policy.channels.get_mut(&channel_id("support-mail"));
        channel.unwrap().replayable = false;
    });
    let mails = [1, 2].map(|number| {
        let head = format!("From: ada@example.com\nMessage-ID: <a{number}@example.com>");
        proven(&head, &format!("Mail {number}"))
    });
    let posts = mails.iter().flat_map(|mail| {
        let posts = (0..5).map(|_| {
            let (shared, mail) = (desk.shared_intake(), mail.clone());
            tokio::spawn(async move { shared.accept(mail).await })
        });
        posts.collect::<Vec<_>>()
    });
    for post in posts.collect::<Vec<_>>() {
        post.await.unwrap();
    }
    desk.accepted_elsewhere(10);
    let verdicts = desk.route(3).await;
    let filed = verdicts.iter().filter(|one| **one == Verdict::Filed);
    assert_eq!((filed.count(), verdicts.len()), (2, 10));
    assert_eq!(desk.conversations().await.len(), 1);
    assert_eq!(desk.messages(1).await.len(), 2);
}
