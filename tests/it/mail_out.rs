//! What leaves by the email connector, with a real Postfix that takes it and a real Dovecot where
//! it arrives.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    BrandId, BuildContext, Bytes, Clock, Connector, DeliveryStage, Error, ErrorKind, Event,
    HttpClient, HttpRequest, HttpResponse, Namespace, OutboundAttachment, OutboundMessage,
    Recipient, RefusedRecipient, Result, SecretRef, SecretResolver, SecretString, SendReceipt,
    WebhookRequest, async_trait,
};
use mail_parser::{MessageParser, MimeHeaders};
use serde_json::{Value, json};

use crate::peers::mail::header;
use crate::peers::{self, Chaos, Dovecot, Postfix};
use crate::support::ManualClock;

struct Nothing;

#[async_trait]
impl HttpClient for Nothing {
    async fn execute(&self, _: HttpRequest) -> Result<HttpResponse> {
        Err(Error::unavailable("mail needs no HTTP"))
    }
}

impl SecretResolver for Nothing {
    fn resolve(&self, _: &SecretRef) -> Result<SecretString> {
        Ok("secret".to_owned().into())
    }
}

/// A channel that sends through `port`; `with` overrides its settings.
fn channel(
    dovecot: &Dovecot,
    port: u16,
    clock: &Arc<ManualClock>,
    with: Value,
) -> Box<dyn Connector> {
    let mut config = json!({
        "address": "support@shop.example",
        "imap": {
            "host": "127.0.0.1", "port": dovecot.imap_port, "tls": "none",
            "user": "support", "password": { "env": "PASSWORD" },
        },
        "smtp": { "host": "127.0.0.1", "port": port, "tls": "none" },
    });
    for (key, value) in with.as_object().unwrap() {
        config[key] = value.clone();
    }
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::clone(clock) as Arc<dyn Clock>,
        Arc::new(Nothing),
        Arc::new(Nothing),
    );
    (connector_email::REGISTRATION.build)(config, context).unwrap()
}

fn person(address: &str) -> Recipient {
    Recipient {
        namespace: Namespace::email(),
        address: address.to_owned(),
        name: None,
    }
}

fn message(clock: &ManualClock) -> OutboundMessage {
    OutboundMessage {
        id: "msg_01990000000070008000000000000001".to_owned(),
        conversation: "cnv_1".to_owned(),
        reply_token: format!("sb{}", "k3".repeat(13)),
        to: person("ada@customer.example"),
        also_to: Vec::new(),
        cc: Vec::new(),
        bcc: Vec::new(),
        thread: None,
        subject: Some("Re: Parcel".to_owned()),
        text: "It is on its way.".to_owned(),
        html: None,
        attachments: Vec::new(),
        references: Vec::new(),
        automatic: false,
        accepted_at: clock.now(),
    }
}

/// Sends, as a lane does.
fn send(channel: &dyn Connector, message: &OutboundMessage) -> Result<SendReceipt> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(channel.sender().unwrap().send(message))
}

/// The servers, or `None` where they are not wanted.
fn servers(further: &str) -> Option<(Dovecot, Postfix, Arc<ManualClock>)> {
    if !peers::enabled() {
        return None;
    }
    let dovecot = Dovecot::start();
    let postfix = Postfix::start_with(&dovecot, further);
    Some((dovecot, postfix, Arc::new(ManualClock::new())))
}

#[test]
fn html_with_its_image_a_copy_and_a_blind_copy_arrive_as_they_were_written() {
    let Some((dovecot, postfix, clock)) = servers("") else {
        return;
    };
    let mut message = message(&clock);
    message.cc = vec![person("bob@customer.example")];
    message.bcc = vec![person("boss@customer.example")];
    message.html = Some("<p>Grüße <img src=\"cid:logo@shop\"></p>\n.\n".to_owned());
    let mut logo = OutboundAttachment::of("logo.png", "image/png", b"\x89PNG\r\n\x1a\n".to_vec());
    logo.content_id = Some("logo@shop".to_owned());
    let bytes: Vec<u8> = (0..70_000u32).map(|at| (at % 251) as u8).collect();
    let invoice = OutboundAttachment::of("Rechnung für Ada.pdf", "application/pdf", bytes.clone());
    message.attachments = vec![logo, invoice];
    let channel = channel(&dovecot, postfix.smtp_port, &clock, json!({}));
    let receipt = send(channel.as_ref(), &message).unwrap();
    assert_eq!(receipt.refused, []);
    for name in ["ada", "bob", "boss"] {
        let received = dovecot.wait_for_mails(name, 1);
        assert_eq!(received.len(), 1);
        let raw = String::from_utf8_lossy(&received[0]).into_owned();
        let (head, _) = raw.split_once("\nFrom: ").unwrap();
        // Postfix names whom this copy was delivered to above what we wrote, and nobody else.
        let written = raw.strip_prefix(head).unwrap();
        assert!(
            !written.contains("boss@"),
            "the blind copy shows: {written}"
        );
        let mail = MessageParser::default().parse(&received[0]).unwrap();
        assert_eq!(mail.body_text(0).unwrap().trim_end(), "It is on its way.");
        let html = mail.body_html(0).unwrap().replace('\r', "");
        assert_eq!(html.trim_end(), message.html.as_deref().unwrap().trim_end());
        let image = mail
            .parts
            .iter()
            .find(|part| part.content_id() == Some("logo@shop"));
        assert_eq!(image.unwrap().contents(), b"\x89PNG\r\n\x1a\n");
        let file = mail
            .attachments()
            .find(|part| part.attachment_name() == Some("Rechnung für Ada.pdf"));
        assert_eq!(file.unwrap().contents(), bytes);
        let copies: Vec<_> = mail
            .cc()
            .unwrap()
            .iter()
            .filter_map(|one| one.address())
            .collect();
        assert_eq!(copies, ["bob@customer.example"]);
        let own = header(&received[0], "Message-ID").unwrap();
        assert_eq!(own, format!("<{}>", receipt.provider_message_ids[0]));
    }
}

#[test]
fn a_mail_beyond_the_servers_size_is_refused_before_it_is_written() {
    let Some((dovecot, postfix, clock)) = servers("message_size_limit = 2000000") else {
        return;
    };
    let mut message = message(&clock);
    let film = OutboundAttachment::of("film.mp4", "video/mp4", vec![7u8; 3_000_000]);
    message.attachments = vec![film];
    let channel = channel(&dovecot, postfix.smtp_port, &clock, json!({}));
    let error = send(channel.as_ref(), &message).unwrap_err();
    assert_eq!(error.kind, ErrorKind::TooLarge, "{error}");
    assert!(error.message.contains("at most 2000000"), "{error}");
    message.attachments = vec![OutboundAttachment::of("a.bin", "", vec![7u8; 1_400_000])];
    send(channel.as_ref(), &message).unwrap();
    assert_eq!(
        dovecot.wait_for_mails("ada", 1).len(),
        1,
        "only the one that fits"
    );
}

#[test]
fn some_refused_or_put_off_decide_for_themselves_and_never_twice() {
    let Some((dovecot, postfix, clock)) = servers("") else {
        return;
    };
    for (round, verp) in [(1, false), (2, true)] {
        let channel = channel(&dovecot, postfix.smtp_port, &clock, json!({ "verp": verp }));
        let mut message = message(&clock);
        message.cc = vec![person("bob@refused.example")];
        message.bcc = vec![person("eve@customer.example")];
        let receipt = send(channel.as_ref(), &message).unwrap();
        let [
            RefusedRecipient {
                address, reason, ..
            },
        ] = &receipt.refused[..]
        else {
            panic!("{receipt:?}");
        };
        assert_eq!(address, "bob@refused.example");
        assert!(reason.contains("5.1.1"), "{reason}");
        assert_eq!(dovecot.wait_for_mails("ada", round).len(), round);
        assert_eq!(dovecot.wait_for_mails("eve", round).len(), round);

        message.cc = vec![person("bob@busy.example")];
        let error = send(channel.as_ref(), &message).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert_eq!(dovecot.fetch_all("ada").len(), round, "everybody waits");

        message.to = person("bob@refused.example");
        message.cc = Vec::new();
        message.bcc = Vec::new();
        let error = send(channel.as_ref(), &message).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    }
    // After an hour whoever can be had gets it.
    let channel = channel(&dovecot, postfix.smtp_port, &clock, json!({}));
    let mut late = message(&clock);
    late.cc = vec![person("bob@busy.example")];
    clock.advance(Duration::from_secs(3_600));
    let receipt = send(channel.as_ref(), &late).unwrap();
    assert_eq!(receipt.refused.len(), 1);
    assert_eq!(dovecot.wait_for_mails("ada", 3).len(), 3);
}

/// `soft_bounce` makes every no a "not now".
#[test]
fn a_server_that_only_says_not_now_is_tried_again() {
    let Some((dovecot, postfix, clock)) = servers("soft_bounce = yes") else {
        return;
    };
    let channel = channel(&dovecot, postfix.smtp_port, &clock, json!({}));
    let mut message = message(&clock);
    message.to = person("bob@refused.example");
    let error = send(channel.as_ref(), &message).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("450"), "{error}");
}

#[test]
fn a_connection_lost_after_the_mail_is_an_unknown_outcome_and_the_mail_is_there() {
    let Some((dovecot, postfix, clock)) = servers("") else {
        return;
    };
    let chaos = Chaos::start(postfix.smtp_port);
    let channel = channel(&dovecot, chaos.port, &clock, json!({}));
    chaos.lose_answer_to(b"\r\n.\r\n");
    let error = send(channel.as_ref(), &message(&clock)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!(dovecot.wait_for_mails("ada", 1).len(), 1);
    // Lost before the mail: nothing was sent, and that is certain.
    chaos.lose_answer_to(b"DATA\r\n");
    let error = send(channel.as_ref(), &message(&clock)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(dovecot.fetch_all("ada").len(), 1);
}

#[test]
fn a_private_authority_is_trusted_where_it_is_configured_and_nowhere_else() {
    let Some((dovecot, postfix, clock)) = servers("") else {
        return;
    };
    let ports = [
        ("starttls", postfix.smtp_port),
        ("implicit", postfix.smtps_port),
    ];
    for (count, (tls, port)) in (1..).zip(ports) {
        let login = json!({
            "host": "localhost", "port": port, "tls": tls,
            "user": "support", "password": { "env": "PASSWORD" },
        });
        let authority = dovecot.certificate.authority.display().to_string();
        let trusting = json!({ "smtp": login, "ca_file": authority });
        let trusting = channel(&dovecot, port, &clock, trusting);
        send(trusting.as_ref(), &message(&clock)).unwrap();
        assert_eq!(dovecot.wait_for_mails("ada", count).len(), count);
        let careful = channel(&dovecot, port, &clock, json!({ "smtp": login }));
        let error = send(careful.as_ref(), &message(&clock)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.message.contains("certificate"), "{error}");
    }
}

/// Each copy has a return path of its own; a genuine bounce comes back to it and names its copy.
#[test]
fn a_bounce_comes_back_to_the_return_path_of_its_copy() {
    let Some((dovecot, postfix, clock)) = servers("") else {
        return;
    };
    let channel = channel(&dovecot, postfix.smtp_port, &clock, json!({ "verp": true }));
    let mut message = message(&clock);
    message.cc = vec![person("lee@gone.example")];
    send(channel.as_ref(), &message).unwrap();
    let own = dovecot.wait_for_mails("ada", 1).remove(0);
    let path = format!("<support+{}.1@shop.example>", message.id);
    assert_eq!(header(&own, "Return-Path").unwrap(), path);
    let bounce = dovecot.wait_for_mails("support", 1).remove(0);
    let request = WebhookRequest {
        body: Bytes::from(bounce),
        ..WebhookRequest::default()
    };
    let events = channel.parse_captured(&request).unwrap();
    let [event] = &events[..] else {
        panic!("{events:?}");
    };
    let Event::Receipt {
        target,
        stage,
        recipient,
        reason,
    } = &event.event
    else {
        panic!("{event:?}");
    };
    assert_eq!((target, *stage), (&message.id, DeliveryStage::Failed));
    assert_eq!(recipient.as_deref(), Some("#2"));
    assert!(reason.as_deref().unwrap().contains("5.1.1"), "{reason:?}");
}
