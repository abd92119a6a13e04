//! Mails out: what they look like, what every failure is called, and what cannot be injected.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    BrandId, BuildContext, Connector, ErrorKind, Namespace, OutboundAttachment, OutboundMessage,
    Recipient, Timestamp,
};
use connector_testkit::{FakeProvider, FixedClock, LoopbackHttp, StaticSecrets};
use expect_test::expect;
use mail_parser::{MessageParser, MimeHeaders};
use proptest::prelude::*;
use serde_json::json;

use crate::fake_mail::FakeMail;
use crate::fake_smtp::Fault;

pub fn build(fake: &FakeMail) -> Box<dyn Connector> {
    build_at(fake, FixedClock::default(), false)
}

pub fn build_at(fake: &FakeMail, clock: FixedClock, verp: bool) -> Box<dyn Connector> {
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::new(clock),
        Arc::new(LoopbackHttp::new()),
        Arc::new(StaticSecrets::new(fake.secrets())),
    );
    let mut config = fake.config();
    config["verp"] = json!(verp);
    (connector_email::REGISTRATION.build)(config, context).unwrap()
}

pub fn message() -> OutboundMessage {
    OutboundMessage {
        id: "msg_01990000000070008000000000000001".to_owned(),
        conversation: "cnv_1".to_owned(),
        reply_token: "sbabcdefghijklmnopqrstuvwxyz".to_owned(),
        to: Recipient {
            namespace: Namespace::email(),
            address: "ada@example.org".to_owned(),
            name: Some("Ada Lovelace".to_owned()),
        },
        also_to: Vec::new(),
        cc: Vec::new(),
        bcc: Vec::new(),
        thread: None,
        subject: Some("Re: Where is my parcel?".to_owned()),
        text: "It is on its way.".to_owned(),
        html: None,
        attachments: Vec::new(),
        references: vec![
            "first@example.org".to_owned(),
            "last@example.org".to_owned(),
        ],
        automatic: false,
        accepted_at: Timestamp::from_second(1_767_603_600).unwrap(),
    }
}

async fn sent(message: &OutboundMessage) -> (String, String) {
    let fake = FakeMail::start().await;
    let connector = build(&fake);
    let receipt = connector.sender().unwrap().send(message).await.unwrap();
    let [taken] = &fake.smtp.taken()[..] else {
        panic!("one mail");
    };
    let raw = String::from_utf8(taken.raw.clone()).unwrap();
    let id = &receipt.provider_message_ids[0];
    assert!(raw.contains(&format!("Message-ID: <{id}>")), "{raw}");
    (taken.from.clone(), raw.replace('\r', ""))
}

#[tokio::test]
async fn a_reply_is_a_plain_mail_that_leads_back() {
    let (from, raw) = sent(&message()).await;
    assert_eq!(from, "support@shop.example");
    expect![[r#"
        Date: Mon, 05 Jan 2026 09:00:00 +0000
        From: "Shop Support" <support@shop.example>
        To: "Ada Lovelace" <ada@example.org>
        Message-ID: <sbabcdefghijklmnopqrstuvwxyz.msg_01990000000070008000000000000001@shop.example>
        X-Switchboard-ID: <sbabcdefghijklmnopqrstuvwxyz.msg_01990000000070008000000000000001@shop.example>
        Reply-To: "Shop Support" <support+sbabcdefghijklmnopqrstuvwxyz@shop.example>
        Subject: Re: Where is my parcel?
        In-Reply-To: <last@example.org>
        References: <first@example.org> <last@example.org>
        MIME-Version: 1.0
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        It is on its way.
    "#]]
    .assert_eq(&raw);
}

#[tokio::test]
async fn an_automatic_mail_says_so_and_has_no_return_address() {
    let mut message = message();
    message.automatic = true;
    message.html = Some("<p>Thank you.</p>".to_owned());
    let (from, raw) = sent(&message).await;
    assert_eq!(from, "");
    expect![[r#"
        Date: Mon, 05 Jan 2026 09:00:00 +0000
        From: "Shop Support" <support@shop.example>
        To: "Ada Lovelace" <ada@example.org>
        Message-ID: <sbabcdefghijklmnopqrstuvwxyz.msg_01990000000070008000000000000001@shop.example>
        X-Switchboard-ID: <sbabcdefghijklmnopqrstuvwxyz.msg_01990000000070008000000000000001@shop.example>
        Reply-To: "Shop Support" <support+sbabcdefghijklmnopqrstuvwxyz@shop.example>
        Subject: Re: Where is my parcel?
        In-Reply-To: <last@example.org>
        References: <first@example.org> <last@example.org>
        X-Loop: support@shop.example
        Auto-Submitted: auto-replied
        X-Auto-Response-Suppress: All
        Precedence: auto_reply
        MIME-Version: 1.0
        Content-Type: multipart/alternative;
         boundary="=_1_msg01990000000070008000000000000001"

        --=_1_msg01990000000070008000000000000001
        Content-Type: text/plain; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        It is on its way.
        --=_1_msg01990000000070008000000000000001
        Content-Type: text/html; charset=utf-8
        Content-Transfer-Encoding: quoted-printable

        <p>Thank you.</p>
        --=_1_msg01990000000070008000000000000001--
    "#]]
    .assert_eq(&raw);
}

#[tokio::test]
async fn every_attempt_is_the_same_mail() {
    let mut message = message();
    message.html = Some("<p>Grüße</p>".to_owned());
    message.attachments = vec![OutboundAttachment::of(
        "Rechnung für Ada.pdf",
        "application/pdf",
        vec![0u8, 1, 2, 255],
    )];
    assert_eq!(sent(&message).await, sent(&message).await);
}

#[tokio::test]
async fn long_reference_lists_keep_both_ends_and_stay_foldable() {
    let mut message = message();
    message.references = (0..200).map(|n| format!("mail-{n}@example.org")).collect();
    message.references.push("thread-index:00ff".to_owned());
    let (_, raw) = sent(&message).await;
    let mail = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let references = mail.references().as_text_list().unwrap();
    assert_eq!(references.len(), 21);
    assert_eq!(references[0], "mail-0@example.org");
    assert_eq!(references[20], "mail-199@example.org");
    assert_eq!(mail.in_reply_to().as_text(), Some("mail-199@example.org"));
    assert!(raw.lines().all(|line| line.len() <= 998), "{raw}");
}

#[tokio::test]
async fn every_failure_has_its_kind() {
    let answer = |at, text: &str| Fault::Answer(at, text.to_owned());
    for (fault, kind, arrived) in [
        (answer("AUTH", "535 5.7.8 no"), ErrorKind::Auth, 0),
        (answer("AUTH", "454 4.7.0 later"), ErrorKind::Unavailable, 0),
        (answer("MAIL", "530 5.7.0 log in first"), ErrorKind::Auth, 0),
        // Turned away before any mail was spoken of.
        (
            answer("connect", "554 5.7.1 client host blocked"),
            ErrorKind::Unavailable,
            0,
        ),
        (
            answer("connect", "521 no mail here"),
            ErrorKind::Unavailable,
            0,
        ),
        (answer("EHLO", "550 not you"), ErrorKind::Unavailable, 0),
        // About our address or our day, and not about the mail.
        (
            answer(
                "MAIL",
                "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            ),
            ErrorKind::Config,
            0,
        ),
        (
            answer(
                "RCPT",
                "553 5.7.1 <x@y>: Sender address rejected: not owned by user u",
            ),
            ErrorKind::Config,
            0,
        ),
        (
            answer("MAIL", "550 5.4.5 Daily user sending limit exceeded"),
            ErrorKind::RateLimited {
                retry_after: Some(Duration::from_secs(3_600)),
            },
            0,
        ),
        (
            answer("MAIL", "421 4.3.2 going down"),
            ErrorKind::Unavailable,
            0,
        ),
        (
            answer("RCPT", "450 4.2.0 greylisted"),
            ErrorKind::Unavailable,
            0,
        ),
        (answer("RCPT", "550 5.1.1 unknown"), ErrorKind::Rejected, 0),
        (answer("DATA", "451 4.3.0 later"), ErrorKind::Unavailable, 0),
        (answer("DATA", "554 5.5.1 no"), ErrorKind::Rejected, 0),
        (answer(".", "452 4.3.1 full"), ErrorKind::Unavailable, 0),
        (answer(".", "552 5.3.4 too large"), ErrorKind::Rejected, 0),
        (Fault::HangUp("EHLO"), ErrorKind::Unavailable, 0),
        (Fault::HangUp("MAIL"), ErrorKind::Unavailable, 0),
        (Fault::HangUp("DATA"), ErrorKind::Unavailable, 0),
        (Fault::HangUp("."), ErrorKind::OutcomeUnknown, 1),
        (Fault::Garbage, ErrorKind::OutcomeUnknown, 1),
    ] {
        let fake = FakeMail::start().await;
        fake.smtp.fail_next(fault.clone());
        let connector = build(&fake);
        let error = connector
            .sender()
            .unwrap()
            .send(&message())
            .await
            .unwrap_err();
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert_eq!(fake.smtp.taken().len(), arrived, "{fault:?}");
    }
}

/// Without the final dot a server must not deliver (RFC 5321, section 4.1.1.4): no doubt remains.
#[tokio::test]
async fn a_link_that_breaks_within_the_mail_leaves_no_doubt() {
    let fake = FakeMail::start().await;
    fake.smtp.fail_next(Fault::HangUpWithin(1024));
    let mut message = message();
    message.attachments = vec![OutboundAttachment::of(
        "film.bin",
        "application/octet-stream",
        vec![b'x'; 12 * 1024 * 1024],
    )];
    let connector = build(&fake);
    let error = connector
        .sender()
        .unwrap()
        .send(&message)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(fake.smtp.taken().is_empty());
}

#[tokio::test]
async fn errors_name_no_addresses() {
    let fake = FakeMail::start().await;
    let refusal = "550 5.1.1 <ada@example.org>: no such user here".to_owned();
    fake.smtp.fail_next(Fault::Answer("RCPT", refusal));
    let error = build(&fake)
        .sender()
        .unwrap()
        .send(&message())
        .await
        .unwrap_err();
    assert!(error.message.contains("no such user here"), "{error}");
    assert!(!error.message.contains("ada"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_addressed_is_refused_before_connecting() {
    let fake = FakeMail::start().await;
    let connector = build(&fake);
    for address in [
        "",
        "ada",
        "@example.org",
        "ada@",
        "a b@example.org",
        "ada@example.org\r\nRCPT TO:<eve@evil.example>",
        "ada@example.org, eve@evil.example",
        "<ada@example.org>",
    ] {
        let mut message = message();
        message.to.address = address.to_owned();
        let error = connector
            .sender()
            .unwrap()
            .send(&message)
            .await
            .unwrap_err();
        assert_eq!(error.kind, ErrorKind::Rejected, "{address:?}: {error}");
    }
    let mut message = message();
    message.to.namespace = Namespace::phone();
    let error = connector
        .sender()
        .unwrap()
        .send(&message)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    assert_eq!(fake.smtp.data_commands(), 0);
}

#[test]
fn every_fault_of_a_configuration_is_named_at_once() {
    let config = json!({
        "address": "nobody",
        "aliases": ["x@y.example", "z"],
        "imap": { "host": "mail.example.org", "tls": "none", "user": "", "password": { "env": "UNSET" } },
        "smtp": { "host": "not a host", "user": "only-a-user" },
        "poll_interval": "soon",
        "backfill": "0s",
        "mail_bytes_max": 0,
        "ca_file": "/does/not/exist.pem",
    });
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::new(FixedClock::default()),
        Arc::new(LoopbackHttp::new()),
        Arc::new(StaticSecrets::default()),
    );
    let built = (connector_email::REGISTRATION.build)(config, context);
    let error = built.err().unwrap();
    assert_eq!(error.kind, ErrorKind::Config);
    for part in [
        "address: \"nobody\"",
        "aliases: \"z\"",
        "imap.user is empty",
        "imap.tls = \"none\" is allowed on loopback only",
        "smtp.host: \"not a host\"",
        "smtp.user and smtp.password belong together",
        "poll_interval: \"soon\"",
        "backfill: \"0s\"",
        "mail_bytes_max",
        "cannot read ca_file /does/not/exist.pem",
        "imap.password",
    ] {
        assert!(error.message.contains(part), "{part} is missing: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever stands in a field, the headers are those that we write, once each.
    #[test]
    fn no_text_becomes_a_header(
        subject in any::<String>(),
        name in any::<String>(),
        file in any::<String>(),
        content_type in any::<String>(),
        reference in any::<String>(),
        text in any::<String>(),
        breaks in proptest::collection::vec(0usize..5, 1..4),
    ) {
        let attack = breaks.iter().map(|at| ["\r\n", "\n", "\r", "\u{2028}", "\0"][*at]);
        let attack = format!("{}Bcc: eve@evil.example", attack.collect::<String>());
        let mut message = message();
        message.subject = Some(format!("{subject}{attack}"));
        message.to.name = Some(format!("{name}{attack}"));
        message.cc = vec![message.to.clone()];
        message.html = Some(format!("{text}{attack}"));
        message.references.push(format!("{reference}{attack}"));
        message.text = text;
        message.attachments = vec![OutboundAttachment::of(
            &format!("{file}{attack}"),
            &format!("{content_type}{attack}"),
            vec![1u8, 2, 3],
        )];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_, raw) = runtime.block_on(sent(&message));
        let mail = MessageParser::default().parse(raw.as_bytes()).unwrap();
        let mut names: Vec<String> = mail.headers().iter().map(|header| header.name().to_lowercase()).collect();
        names.sort();
        let expected = [
            "cc", "content-type", "date", "from", "in-reply-to", "message-id", "mime-version",
            "references", "reply-to", "subject", "to", "x-switchboard-id",
        ];
        prop_assert_eq!(names, expected);
        prop_assert_eq!(mail.attachment_count(), 1);
        prop_assert_eq!(mail.attachment(0).unwrap().contents(), [1u8, 2, 3].as_slice());
        prop_assert!(mail.attachment(0).unwrap().content_type().is_some());
    }
}
