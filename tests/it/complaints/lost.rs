//! Inbound lost, late, silently dropped.

use expect_test::expect;

use super::{answered, check, claimed, proven, shown};
use crate::support::Desk;

#[tokio::test]
async fn freescout_4740_a_mail_without_message_id_is_filed_like_any_other() {
    check(
        [
            proven("From: ada@example.com\nSubject: One", "No id at all."),
            proven("From: bob@example.com\nMessage-ID: <>", "An empty one."),
            proven("From: cy@example.com\nMessage-ID: none", "A word."),
            proven("From: ada@example.com\nSubject: One", "No id at all."),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com dmarc]
              sha256 ada@example.com: No id at all. | 6 first_of_contact
            #2 queued frontline normal [bob@example.com dmarc]
              sha256 bob@example.com: An empty one. | 6 first_of_contact
            #3 queued frontline normal [cy@example.com dmarc]
              mid:none cy@example.com: A word. | 6 first_of_contact
        "#]],
    )
    .await;
}

#[tokio::test]
async fn libredesk_skips_auto_replies_here_they_are_filed_and_wake_nobody() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let notice = format!(
        "From: ada@example.com\nSubject: Out of office\nAuto-Submitted: auto-replied\nIn-Reply-To: <{id}>"
    );
    desk.deliver([proven(&notice, "I am away.")]).await;
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
          sha256 ada@example.com: I am away. | 1 reply_token
    "#]]
    .assert_eq(&shown(&desk).await);
}

#[tokio::test]
async fn zammad_1033_a_mail_that_nothing_can_read_is_filed_with_what_can_be_read() {
    check(
        [
            claimed("From: =?broken?q?=ZZ?= <<ada@example.com>\nDate: yesterday\nContent-Type: multipart/mixed", "--x\nhello"),
            claimed("\0\u{1}", "nothing of it is a mail"),
            claimed("From: ada@example.com\nContent-Type: text/plain; charset=no-such\nContent-Transfer-Encoding: no-such", "still words"),
        ],
        expect![[r#"
            #1 queued frontline normal [ada@example.com claimed]
              sha256 ada@example.com: --x hello | 6 first_of_contact
              sha256 ada@example.com: still words | 4 open_conversation
            #2 queued frontline normal [unknown-0e915a103b3fa7831158ed746e1c8aa6@sender.invalid claimed]
              sha256 unknown-0e915a103b3fa7831158ed746e1c8aa6@sender.invalid:   nothing of it is a mail | 6 first_of_contact
        "#]],
    )
    .await;
}
