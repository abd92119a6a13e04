//! Forged mail.

use expect_test::expect;

use super::{answered, claimed, shown};
use crate::support::Desk;

/// FreeScout before 1.8.220 took a mail for an agent's answer by an id it never checked the MAC of,
/// and sent it on to the customer.
#[tokio::test]
async fn cve_2026_47123_a_forged_agent_is_a_stranger_and_reaches_no_customer() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let forged = format!("sb{}.{}", "a2".repeat(13), id.split_once('.').unwrap().1);
    for head in [
        format!("From: support@shop.example\nIn-Reply-To: <{forged}>"),
        format!("From: support@shop.example\nIn-Reply-To: <{id}>"),
        format!("From: agent@shop.example\nIn-Reply-To: <{id}>\nReply-To: ada@example.com"),
    ] {
        desk.deliver([claimed(&head, "Pay to this account.")]).await;
    }
    let shown = shown(&desk).await;
    expect![[r#"
        #1 queued frontline normal [ada@example.com dmarc]
          mid:a1@example.com ada@example.com: Where is it? | 6 first_of_contact
          - @sue: to ada@example.com: On its way. | queued
        #2 queued frontline normal [support@shop.example claimed]
          sha256 support@shop.example: Pay to this account. | 6 first_of_contact
        #3 queued own-matter frontline normal [support@shop.example claimed] -> #1 not_a_participant
          sha256 support@shop.example: Pay to this account. | 6 not_a_participant, not by reply_token
        #4 queued frontline normal [agent@shop.example claimed] -> #1 not_a_participant
          sha256 agent@shop.example: Pay to this account. | 6 not_a_participant, not by reply_token
    "#]]
    .assert_eq(&shown);
}
