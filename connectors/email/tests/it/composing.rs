//! What a mail looks like: recipients, HTML with its images, files.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_api::{
    Bytes, Connector, ErrorKind, FileContent, Namespace, OutboundAttachment, OutboundMessage,
    ReadFile, Recipient, Result, async_trait,
};
use expect_test::expect;
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};

use crate::fake_mail::FakeMail;
use crate::fake_smtp::Taken;
use crate::sending::{build, message};

pub fn person(name: &str, address: &str) -> Recipient {
    Recipient {
        namespace: Namespace::email(),
        address: address.to_owned(),
        name: Some(name.to_owned()),
    }
}

fn image(id: &str, bytes: &[u8]) -> OutboundAttachment {
    let mut file = OutboundAttachment::of("logo.png", "image/png", bytes.to_vec());
    file.content_id = Some(id.to_owned());
    file
}

async fn taken(message: &OutboundMessage) -> Taken {
    let fake = FakeMail::start().await;
    let connector = build(&fake);
    connector.sender().unwrap().send(message).await.unwrap();
    fake.smtp.taken().remove(0)
}

/// The types of the parts, with what is in them set in.
fn shape(mail: &Message<'_>, part: usize) -> String {
    let part = mail.part(part as u32).unwrap();
    let name = part.content_type().map_or_else(
        || "?".to_owned(),
        |kind| {
            let subtype = kind.subtype().unwrap_or_default();
            format!("{}/{subtype}", kind.ctype())
        },
    );
    match &part.body {
        PartType::Multipart(children) => {
            let children = children.iter().map(|child| shape(mail, *child as usize));
            format!("{name}({})", children.collect::<Vec<_>>().join(", "))
        }
        _ => name,
    }
}

#[tokio::test]
async fn everybody_stands_where_they_were_put_and_a_blind_copy_nowhere() {
    let mut message = message();
    message.also_to = vec![person("Bob, Dr.", "bob@example.org")];
    message.cc = vec![person("Grüß", "cc@example.org"), message.to.clone()];
    message.bcc = vec![person("Eve", "blind@example.net")];
    let taken = taken(&message).await;
    let everybody = [
        "ada@example.org",
        "bob@example.org",
        "cc@example.org",
        "blind@example.net",
    ];
    assert_eq!(taken.to, everybody, "each once");
    let raw = String::from_utf8(taken.raw).unwrap();
    assert!(!raw.contains("blind") && !raw.contains("Eve"), "{raw}");
    let head: String = raw
        .lines()
        .skip(2)
        .take_while(|line| !line.starts_with("Message-ID"))
        .map(|line| format!("{line}\n"))
        .collect();
    expect![[r#"
        To: "Ada Lovelace" <ada@example.org>, =?utf-8?b?Qm9iLCBEci4=?= <bob@example.org>
        Cc: =?utf-8?b?R3LDvMOf?= <cc@example.org>, "Ada Lovelace" <ada@example.org>
    "#]]
    .assert_eq(&head);
}

#[tokio::test]
async fn parts_are_nested_as_far_as_they_are_needed() {
    let html = |message: &mut OutboundMessage| {
        message.html = Some("<p>Hi <img src=\"cid:logo@shop\"></p>".to_owned());
    };
    let logo = || image("logo@shop", b"\x89PNG");
    let unseen = || image("other@shop", b"\x89PNG");
    let invoice = || OutboundAttachment::of("a.pdf", "application/pdf", vec![1u8]);
    let check = async |has_html: bool, files: Vec<OutboundAttachment>, expected: &str| {
        let mut message = message();
        if has_html {
            html(&mut message);
        }
        message.attachments = files;
        let taken = taken(&message).await;
        let mail = MessageParser::default().parse(&taken.raw).unwrap();
        assert_eq!(shape(&mail, 0), expected);
    };
    check(false, vec![], "text/plain").await;
    check(true, vec![], "multipart/alternative(text/plain, text/html)").await;
    check(
        true,
        vec![logo()],
        "multipart/alternative(text/plain, multipart/related(text/html, image/png))",
    )
    .await;
    check(
        true,
        vec![invoice(), logo(), unseen()],
        "multipart/mixed(multipart/alternative(text/plain, multipart/related(text/html, image/png)), application/pdf, image/png)",
    )
    .await;
    check(
        false,
        vec![logo(), invoice()],
        "multipart/mixed(text/plain, image/png, application/pdf)",
    )
    .await;
}

#[tokio::test]
async fn an_image_is_found_by_the_id_that_the_html_names() {
    let mut message = message();
    message.html = Some("<img src=\"cid:logo@shop\">".to_owned());
    message.attachments = vec![image("logo@shop", b"\x89PNG\r\n\x1a\n")];
    let taken = taken(&message).await;
    let mail = MessageParser::default().parse(&taken.raw).unwrap();
    let found = mail
        .parts
        .iter()
        .find(|part| part.content_id() == Some("logo@shop"))
        .unwrap();
    assert_eq!(found.contents(), b"\x89PNG\r\n\x1a\n");
    assert!(found.content_disposition().unwrap().is_inline());
}

#[tokio::test]
async fn an_image_id_that_cannot_stand_in_a_mail_is_refused() {
    for id in [
        "",
        "a b",
        "a>\r\nBcc: <eve@evil.example",
        "ü",
        &"x".repeat(300),
    ] {
        let fake = FakeMail::start().await;
        let mut message = message();
        message.html = Some(format!("<img src=\"cid:{id}\">"));
        message.attachments = vec![image(id, b"x")];
        let connector = build(&fake);
        let error = connector.sender().unwrap().send(&message).await;
        assert_eq!(error.unwrap_err().kind, ErrorKind::Rejected, "{id:?}");
        assert_eq!(fake.smtp.connections(), 0);
    }
}

#[tokio::test]
async fn names_of_files_survive_in_any_script_and_length() {
    for name in [
        "Rechnung für Ada – März.pdf",
        "請求書.pdf",
        &format!("{}.pdf", "long".repeat(45)),
        "quote\" and \\ backslash.pdf",
    ] {
        let mut message = message();
        message.attachments = vec![OutboundAttachment::of(name, "application/pdf", vec![1u8])];
        let taken = taken(&message).await;
        let mail = MessageParser::default().parse(&taken.raw).unwrap();
        let file = mail.attachment(0).unwrap();
        assert_eq!(file.attachment_name(), Some(name));
    }
}

/// Nothing in a mail needs more than seven bits, and no line more than a line may have.
#[tokio::test]
async fn whatever_is_written_is_sent_in_short_lines_of_ascii() {
    let mut message = message();
    message.text = format!("{}\r\u{2028}\n.\n{}", "ü".repeat(3_000), "x".repeat(3_000));
    message.html = Some(format!(
        "<p>{}</p>\n\u{1f600}\r\nFrom here",
        "é ".repeat(3_000)
    ));
    message.subject = Some("Größe ".repeat(100));
    message.also_to = (0..40)
        .map(|n| person("Jürgen Müller-Lüdenscheidt", &format!("r{n}@example.org")))
        .collect();
    let name = "ß".repeat(190);
    message.attachments = vec![OutboundAttachment::of(
        &name,
        "text/plain",
        vec![255u8; 500],
    )];
    let taken = taken(&message).await;
    assert!(taken.raw.is_ascii());
    for line in taken.raw.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n").expect("no bare line feed");
        assert!(line.len() <= 998, "{}", String::from_utf8_lossy(line));
        assert!(!line.contains(&b'\r'), "no bare carriage return");
    }
    let mail = MessageParser::default().parse(&taken.raw).unwrap();
    let subject: String = message.subject.unwrap().trim().chars().take(500).collect();
    assert_eq!(mail.subject(), Some(subject.trim()));
    let html = mail.body_html(0).unwrap();
    assert!(html.contains("\u{1f600}"), "{html}");
}

/// A file that is made while it is read, and notes how much is asked for at a time.
struct Made {
    size: u64,
    largest_read: AtomicUsize,
}

#[async_trait]
impl ReadFile for Made {
    async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes> {
        self.largest_read.fetch_max(bytes_max, Ordering::Relaxed);
        let left = self.size.saturating_sub(offset);
        let len = usize::try_from(left).unwrap().min(bytes_max);
        Ok(Bytes::from(vec![b'z'; len]))
    }
}

#[tokio::test]
async fn eighteen_mebibytes_are_read_a_little_at_a_time_and_announced_before() {
    let made = Arc::new(Made {
        size: 18 * 1024 * 1024,
        largest_read: AtomicUsize::new(0),
    });
    let mut message = message();
    let mut file = OutboundAttachment::of("film.bin", "video/mp4", Bytes::new());
    file.size_bytes = made.size;
    file.content = FileContent::new(Arc::clone(&made) as _);
    message.attachments = vec![file];
    let fake = FakeMail::start().await;
    fake.smtp.limit_size(26_214_400);
    let connector = build(&fake);
    connector.sender().unwrap().send(&message).await.unwrap();
    let taken = fake.smtp.taken().remove(0);
    let announced = format!("MAIL FROM:<support@shop.example> SIZE={}", taken.raw.len());
    let commands = fake.smtp.commands();
    assert!(commands.contains(&announced), "{announced} in {commands:?}");
    let mail = MessageParser::default().parse(&taken.raw).unwrap();
    assert_eq!(
        mail.attachment(0).unwrap().contents().len() as u64,
        made.size
    );
    let largest = made.largest_read.load(Ordering::Relaxed);
    assert!(
        largest <= 64 * 1024,
        "{largest} bytes were asked for at once"
    );
}

#[tokio::test]
async fn a_file_that_breaks_while_it_is_sent_sends_nothing() {
    /// Ends a byte early.
    struct Short;

    #[async_trait]
    impl ReadFile for Short {
        async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes> {
            let left = 99_999u64.saturating_sub(offset);
            let len = usize::try_from(left).unwrap().min(bytes_max);
            Ok(Bytes::from(vec![b'z'; len]))
        }
    }

    let fake = FakeMail::start().await;
    let mut message = message();
    let mut file = OutboundAttachment::of("a.bin", "application/octet-stream", Bytes::new());
    file.size_bytes = 100_000;
    file.content = FileContent::new(Arc::new(Short));
    message.attachments = vec![file];
    let connector: Box<dyn Connector> = build(&fake);
    let error = connector
        .sender()
        .unwrap()
        .send(&message)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::Rejected, "{error}");
    assert!(fake.smtp.taken().is_empty());
}
