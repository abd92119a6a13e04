//! What users of other desks complain about, each as a test that bears the number of its issue.
//! Mails come as bytes through the email connector's own parser.

use connector_api::Bytes;
use connector_email::parse::{OwnAddresses, ParseSettings, parse};
use expect_test::{Expect, expect};

use crate::support::{Desk, Said};

/// A mail to `support-mail`, with lines of header before its text. What stands first is what our
/// own server stamped: its sender is proven.
fn proven(head: &str, text: &str) -> Said {
    let from = head.lines().find_map(|line| line.strip_prefix("From: "));
    let domain = from.and_then(|from| from.rsplit_once('@'));
    let domain = domain.map_or("", |(_, domain)| domain.trim_end_matches('>'));
    let stamp = format!("Authentication-Results: mx.shop.example; dmarc=pass header.from={domain}");
    claimed(&format!("{stamp}\n{head}"), text)
}

/// The same where nothing proves who wrote.
fn claimed(head: &str, text: &str) -> Said {
    let mail = format!("{}\n\n{text}\n", head.trim_end()).replace('\n', "\r\n");
    let settings = ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: Some("mx.shop.example".to_owned()),
        mail_bytes_max: 1024 * 1024,
    };
    Said {
        channel: "support-mail",
        event: parse(Bytes::from(mail), &settings),
        keyed: true,
        imported: false,
    }
}

/// What there is. Keys made from a mail's content are left out: tokens of an installation are part
/// of it.
async fn shown(desk: &Desk) -> String {
    let text = desk.shows().await;
    let mut pieces = text.split("sha256:");
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        shown += "sha256";
        shown += piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    shown
}

async fn check(mails: impl IntoIterator<Item = Said>, expected: Expect) {
    let mut desk = Desk::new().await;
    for mail in mails {
        desk.deliver([mail]).await;
    }
    expected.assert_eq(&shown(&desk).await);
}

/// Has `ada@example.com` ask, an agent answer, and gives the id of the answer as mail carries it.
async fn answered(desk: &mut Desk) -> String {
    let question = "From: Ada <ada@example.com>\nSubject: Order 17\nMessage-ID: <a1@example.com>";
    desk.deliver([proven(question, "Where is it?")]).await;
    let answer = desk.reply(1, "On its way.").await;
    let conversation = desk.conversation(1).await.id;
    let token = desk.keys.reply_tokens.mint(conversation);
    let id = desk
        .keys
        .ids
        .encode(switchboard::ids::IdKind::Message, answer.id.0);
    format!("{token}.{id}@shop.example")
}

// A. Inbound lost, late, silently dropped.

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

// B. Duplicates and races.

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

// C. Threading.

#[tokio::test]
async fn chatwoot_3868_an_answer_by_reference_stays_in_its_conversation() {
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
        desk.deliver([proven(
            &format!("From: ada@example.com\n{refers}"),
            "Thank you.",
        )])
        .await;
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
        desk.deliver([proven(
            &format!("From: ada@example.com\n{head}"),
            "Still me.",
        )])
        .await;
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

// D. Order and time.

#[tokio::test]
async fn chatwoot_14739_a_mail_keeps_the_time_its_sender_wrote_it() {
    let mail = proven(
        "From: ada@example.com\nDate: Mon, 5 Jan 2026 10:00:00 +0100",
        "Late.",
    );
    let sent_at = mail.event.sent_at.unwrap();
    assert_eq!(sent_at.to_string(), "2026-01-05T09:00:00Z");
    let mut desk = Desk::new().await;
    desk.deliver([mail]).await;
    let stored = &desk.messages(1).await[0];
    assert_eq!(stored.sent_at, Some(sent_at.as_microsecond()));
    assert_ne!(stored.arrived_at, sent_at.as_microsecond());
}

#[tokio::test]
async fn chatwoot_12661_a_customers_mail_that_was_under_way_stands_where_it_was_filed() {
    let mut desk = Desk::new().await;
    let id = answered(&mut desk).await;
    let early =
        format!("From: ada@example.com\nDate: Mon, 1 Jan 2024 10:00:00 +0000\nIn-Reply-To: <{id}>");
    desk.deliver([proven(&early, "Written long before.")]).await;
    let seqs: Vec<i64> = desk.messages(1).await.iter().map(|it| it.seq).collect();
    assert_eq!(seqs, [1, 2, 3]);
}

// Security.

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
