//! What any bytes may do in each parser of outside bytes: nothing. Each target is a function of
//! bytes; `any.rs` gives it to libFuzzer, and `tests/it/hostile/parsers.rs` runs it on the kept corpus
//! and on changed inputs in every run of the tests.

use std::cell::OnceCell;
use std::io::Write as _;
use std::sync::Arc;

use connector_api::{
    BrandId, BuildContext, Bytes, Clock, Connector, Error, Event, HttpClient, HttpRequest,
    HttpResponse, Registration, Result, SecretRef, SecretResolver, SecretString, Timestamp,
    WebhookRequest, async_trait,
};
use connector_email::parse::{OwnAddresses, ParseSettings, as_echo, each_recipient, parse};
use serde_json::{Value, json};
use switchboard::config::{Sources, load};
use switchboard::ids::{IdCodec, IdKind};
use switchboard::normalise::{cards, html, normalise, split};
use switchboard::router::reply_token::ReplyTokens;
use switchboard::search::{Query, Scope};

pub type Target = fn(&[u8]);

pub const ALL: &[(&str, Target)] = &[
    ("mail", mail),
    ("imap", imap),
    ("smtp", smtp),
    ("webhook", webhook),
    ("mail_services", mail_services),
    ("record", record),
    ("html", html_to_text),
    ("quotes", quotes),
    ("cards", card_numbers),
    ("addresses", addresses),
    ("ids", ids),
    ("search", search),
    ("config", config),
    ("mbox", mbox),
    ("jsonl", jsonl),
];

/// Longest input that a target looks at, in bytes: what is longer finds nothing else, slower.
const INPUT_BYTES_MAX: usize = 64 * 1024;

struct Nothing;

#[async_trait]
impl HttpClient for Nothing {
    async fn execute(&self, _: HttpRequest) -> Result<HttpResponse> {
        Err(Error::unavailable("there is no network here"))
    }
}

impl SecretResolver for Nothing {
    fn resolve(&self, _: &SecretRef) -> Result<SecretString> {
        Ok(SecretString::from("a secret".to_owned()))
    }
}

impl Clock for Nothing {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

fn channel(registration: &Registration, config: Value) -> Box<dyn Connector> {
    let context = BuildContext::new(
        "fuzzed".parse().expect("a channel id"),
        BrandId::default(),
        Arc::new(Nothing),
        Arc::new(Nothing),
        Arc::new(Nothing),
    );
    (registration.build)(config, context).expect("a channel that can be built")
}

fn mail_channel(webhook: Option<Value>) -> Box<dyn Connector> {
    let secret = json!({ "env": "A" });
    let mut config =
        json!({ "address": "support@shop.example", "smtp": { "host": "smtp.example" } });
    match webhook {
        Some(webhook) => config["webhook"] = webhook,
        None => config["imap"] = json!({ "host": "imap.example", "user": "u", "password": secret }),
    }
    channel(&connector_email::REGISTRATION, config)
}

fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data.get(..INPUT_BYTES_MAX).unwrap_or(data))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
    }
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// A whole mail, as it is taken in: parsed, told apart by recipient, cleaned up.
fn mail(data: &[u8]) {
    let settings = ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: Some("mx.shop.example".to_owned()),
        mail_bytes_max: 32 * 1024,
    };
    let raw = Bytes::copy_from_slice(data);
    let event = parse(raw.clone(), &settings);
    assert_eq!(event.raw.as_ref(), Some(&raw), "the bytes are kept");
    assert_eq!(parse(raw, &settings), event, "parsing is a function");
    let _echo = as_echo(event.clone(), &settings);
    for mut event in each_recipient(event) {
        normalise(&mut event);
        if let Event::Message(message) = &event.event {
            assert!(!message.from.identities.is_empty());
            assert!(!message.text.contains('\0'));
        }
    }
}

/// What an IMAP server answers.
fn imap(data: &[u8]) {
    let _read = block_on(connector_email::scripted::imap(data));
}

/// What an SMTP server answers.
fn smtp(data: &[u8]) {
    let _replies = block_on(connector_email::scripted::smtp(data));
}

fn posted(content_type: &str, data: &[u8]) -> WebhookRequest {
    WebhookRequest {
        method: "POST".to_owned(),
        headers: vec![(
            "content-type".to_owned(),
            Bytes::from(content_type.to_owned()),
        )],
        body: Bytes::copy_from_slice(data),
        ..WebhookRequest::default()
    }
}

/// The body of a webhook, and a line of an import.
fn webhook(data: &[u8]) {
    thread_local! {
        static CHANNEL: OnceCell<Box<dyn Connector>> = const { OnceCell::new() };
    }
    CHANNEL.with(|known| {
        let secrets = json!({ "secrets": [{ "env": "A" }] });
        let channel = known.get_or_init(|| channel(&connector_webhook::REGISTRATION, secrets));
        let request = posted("application/json", data);
        for mut event in channel.parse_captured(&request).into_iter().flatten() {
            normalise(&mut event);
        }
        let _events = channel.parse_import(&request);
        if let Some(source) = channel.webhook_source() {
            assert!(source.verify(&request).is_err(), "nobody signed that");
        }
    });
}

/// What the services post that take mail in. The first byte says which, and in which form.
fn mail_services(data: &[u8]) {
    thread_local! {
        static CHANNELS: OnceCell<Vec<Box<dyn Connector>>> = const { OnceCell::new() };
    }
    let Some((which, body)) = data.split_first() else {
        return;
    };
    CHANNELS.with(|known| {
        let secret = || json!({ "env": "A" });
        let channels = known.get_or_init(|| {
            [
                json!({ "provider": "postmark", "user": "hook", "password": secret() }),
                json!({ "provider": "mailgun", "signing_keys": [secret()] }),
                json!({ "provider": "sendgrid", "token": secret() }),
                json!({ "provider": "ses", "topics": ["arn:aws:sns:eu-west-1:123456789012:mail"] }),
            ]
            .map(|webhook| mail_channel(Some(webhook)))
            .into()
        });
        let which = usize::from(*which);
        let channel = &channels[which % channels.len()];
        let content_type = match which / channels.len() % 3 {
            0 => "multipart/form-data; boundary=b",
            1 => "application/x-www-form-urlencoded",
            _ => "application/json",
        };
        let request = posted(content_type, body);
        if let Some(source) = channel.webhook_source() {
            assert!(source.verify(&request).is_err(), "nobody signed that");
            let _outcome = source.parse(request);
        }
    });
}

/// A record of the bus.
fn record(data: &[u8]) {
    let _content = switchboard::bus::decode(data);
}

fn html_to_text(data: &[u8]) {
    let html = text(data);
    let read = html::to_text(&html);
    assert!(
        read.len() <= 8 * html.len() + 64,
        "{} of {}",
        read.len(),
        html.len()
    );
}

/// The new words told from quotes and signature.
fn quotes(data: &[u8]) {
    let text = text(data);
    let found = split::split(&text);
    let visible = found.visible(&text);
    assert!(visible.len() <= text.len());
}

/// Card numbers: what is redacted holds none any more.
fn card_numbers(data: &[u8]) {
    let mut read = text(data).into_owned();
    cards::redact(&mut read);
    assert!(cards::find(&read).is_empty(), "{read:?}");
}

/// Addresses as people write them, for an answer.
fn addresses(data: &[u8]) {
    thread_local! {
        static CHANNEL: OnceCell<Box<dyn Connector>> = const { OnceCell::new() };
    }
    let text = text(data);
    CHANNEL.with(|known| {
        let channel = known.get_or_init(|| mail_channel(None));
        let sender = channel.sender().expect("a mail channel sends");
        if let Ok(read) = sender.recipient(&text) {
            let name = read.name.unwrap_or_default();
            assert!(
                !read.address.contains(char::is_control),
                "{:?}",
                read.address
            );
            assert!(!name.contains(['\r', '\n', '\0']), "{name:?}");
            let again = sender.recipient(&read.address).map(|again| again.address);
            assert_eq!(again.ok(), Some(read.address));
        }
    });
}

/// Public ids, cursors and reply tokens: none is ours that we did not make.
fn ids(data: &[u8]) {
    let text = text(data);
    let (codec, tokens) = (IdCodec::new(b"a key"), ReplyTokens::new(b"a key"));
    for kind in [
        IdKind::Conversation,
        IdKind::Message,
        IdKind::Contact,
        IdKind::Event,
        IdKind::Page,
        IdKind::PageTime,
        IdKind::Upload,
    ] {
        assert_eq!(codec.decode(kind, &text), None, "{text}");
    }
    assert_eq!(codec.decode_attachment(&text), None, "{text}");
    for token in connector_api::reply_token_candidates(&text) {
        assert_eq!(tokens.verify(&token), None, "{token}");
        assert!(!tokens.is_test(&token), "{token}");
    }
}

/// What people type into a search, and what is found shown with it.
fn search(data: &[u8]) {
    let text = text(data);
    let (asked, found) = text.split_once('\n').unwrap_or((&text, &text));
    if let Ok(query) = Query::parse(asked) {
        let scope = [Scope { brand: 1, queue: 2 }];
        let _fts = query.to_fts(&scope);
        let _tsquery = query.to_tsquery(&scope);
        let _is_in = query.is_in(&[found]);
        let _snippet = query.snippet(found);
    }
}

/// Bytes in a file of the memory, where there is one.
fn file(data: &[u8]) -> tempfile::NamedTempFile {
    let memory = std::path::Path::new("/dev/shm");
    let file = tempfile::NamedTempFile::new_in(memory).or_else(|_| tempfile::NamedTempFile::new());
    let mut file = file.expect("a temporary file");
    file.write_all(data).expect("writing to it");
    file
}

/// A configuration: refused, all at once, or taken.
fn config(data: &[u8]) {
    let file = file(data);
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    };
    if let Err(errors) = load(&sources, &switchboard::channels::builtin()) {
        assert!(!errors.is_empty(), "a refusal says why");
    }
}

fn mbox(data: &[u8]) {
    let _items = switchboard::cli::import::items_of(file(data).path(), true);
}

fn jsonl(data: &[u8]) {
    let _items = switchboard::cli::import::items_of(file(data).path(), false);
}
