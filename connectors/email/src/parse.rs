//! One mail's bytes to one event: pure, total and bounded. Whatever arrives becomes an event with
//! the full bytes beside it; what was wrong is listed in `defects`.

mod auth_results;
mod automatic;
mod calendar;
mod charset;
mod content;
mod dsn;
mod encoded_words;
pub(crate) mod head;
pub(crate) mod headers;
mod identity;
mod key;
mod limits;
mod mdn;
pub(crate) mod mime;
mod own;
mod spam;
mod threading;
mod verp;

use connector_api::{
    Automatic, Bytes, DedupeKey, Defect, Event, InboundEvent, InboundMessage, ThreadHints,
};

use serde_json::{Map, Value};

use crate::parse::content::Content;
use crate::parse::headers::Headers;
pub use crate::parse::identity::OwnAddresses;
pub(crate) use crate::parse::identity::normalise as normalise_address;
use crate::parse::identity::{People, Proof};
use crate::parse::limits::DEFECTS_MAX;
pub(crate) use crate::parse::mime::decode_base64;
use crate::parse::mime::{Part, Walk};
pub use crate::parse::own::as_echo;
pub(crate) use crate::parse::own::kept;

/// What parsing depends on besides the bytes.
#[derive(Debug, Clone, Default)]
pub struct ParseSettings {
    pub own: OwnAddresses,
    /// The server whose `Authentication-Results` are believed; `None` believes nobody.
    pub authserv_id: Option<String>,
    /// Largest mail whose body is read, in bytes.
    pub mail_bytes_max: u64,
}

/// What a service that received a mail says about it, beside the mail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Envelope {
    /// Whom it was delivered to: reply tokens are looked for here, too.
    pub(crate) recipients: Vec<String>,
    /// It was sent with a null sender (RFC 5321, section 4.5.5).
    pub(crate) null_sender: bool,
    /// The author for whom the service's own check says that DMARC passed; the service is
    /// authenticated.
    pub(crate) dmarc_author: Option<String>,
    /// The bytes were put together from fields: no header of them proves anything.
    pub(crate) is_rebuilt: bool,
    pub(crate) defects: Vec<Defect>,
}

/// Reads a whole mail.
///
/// Above `mail_bytes_max` only the headers are read; the bytes are kept all the same.
pub fn parse(raw: Bytes, settings: &ParseSettings) -> InboundEvent {
    parse_delivered(raw, Envelope::default(), settings)
}

/// The same for a mail that a service received for us.
pub(crate) fn parse_delivered(
    raw: Bytes,
    envelope: Envelope,
    settings: &ParseSettings,
) -> InboundEvent {
    let size = u64::try_from(raw.len()).unwrap_or(u64::MAX);
    let max = settings.mail_bytes_max;
    let is_too_large = size > max;
    let defect = || Defect::new("too_large", format!("{size} bytes, limit {max}"));
    read(raw, is_too_large.then(defect), envelope, settings)
}

/// The event of a mail, and where it is a bounce that speaks of several recipients one more for
/// each further one: a message may have reached some of them.
pub fn each_recipient(event: InboundEvent) -> Vec<InboundEvent> {
    let mut further = Vec::new();
    if let (Event::Receipt { target, .. }, Some(Automatic::Bounce), Some(raw)) =
        (&event.event, event.automatic, &event.raw)
    {
        let (headers, body) = Headers::split(raw);
        let root = Walk::default().tree(headers, body);
        for (number, receipt) in (2..).zip(dsn::further_receipts(&root, target)) {
            let key = format!("{}#{number}", event.dedupe_key);
            let mut one = InboundEvent::new(DedupeKey::new(key), receipt);
            one.sent_at = event.sent_at;
            one.automatic = event.automatic;
            one.history = event.history;
            further.push(one);
        }
    }
    std::iter::once(event).chain(further).collect()
}

/// Reads the header block of a mail whose body cannot be had; `why` is said in its defects.
pub fn parse_headers_only(raw: Bytes, why: Defect, settings: &ParseSettings) -> InboundEvent {
    read(raw, Some(why), Envelope::default(), settings)
}

/// The same for a mail of which a service gave the headers alone.
pub(crate) fn parse_delivered_headers(
    raw: Bytes,
    why: Defect,
    envelope: Envelope,
    settings: &ParseSettings,
) -> InboundEvent {
    read(raw, Some(why), envelope, settings)
}

fn read(
    raw: Bytes,
    bodiless: Option<Defect>,
    envelope: Envelope,
    settings: &ParseSettings,
) -> InboundEvent {
    let (headers, body) = Headers::split(&raw);
    let content_digest = || key::content_digest(&headers, body);
    let message_id = threading::message_id(&headers);
    let dedupe_key = key::dedupe_key(message_id.as_deref(), &headers, body);
    let authserv_id = settings.authserv_id.as_deref();
    let proof = Proof {
        authserv_id: authserv_id.filter(|_| !envelope.is_rebuilt),
        dmarc_author: envelope.dmarc_author.as_deref(),
    };
    let people = identity::people(&headers, &settings.own, proof, || {
        nobodys_address(&content_digest())
    });
    let sent_at = headers.first("date").and_then(|field| field.date());

    let mut walk = Walk::default();
    header_defects(&headers, message_id.is_some(), sent_at.is_some(), &mut walk);
    let mut content = Content::default();
    let root = match bodiless {
        Some(why) => {
            walk.defects.push(why);
            Walk::default().tree(headers.clone(), &[])
        }
        None => {
            let root = walk.tree(headers.clone(), body);
            content = content::read(&root, &mut walk);
            root
        }
    };

    let automatic = automatic::classify(
        &root,
        &author_address(&people),
        &settings.own,
        envelope.null_sender,
        &content.text,
    );
    let reply_to = people.reply_to.clone();
    let nobody = author_address(&people).ends_with(NOBODYS_DOMAIN) && reply_to.is_none();
    let mut defects = envelope.defects;
    defects.extend(walk.defects);
    defects.extend(people.defects.iter().cloned());
    defects.truncate(DEFECTS_MAX);
    let (automatic, receipt) = receipt(
        &root,
        &content.text,
        automatic,
        &envelope.recipients,
        &settings.own,
    );
    let hints = |is_forwarded| threading::hints(&headers, is_forwarded, &envelope.recipients);
    let event = event(&headers, people, content, receipt, hints);
    InboundEvent {
        extra: list(&headers),
        sent_at,
        automatic,
        defects,
        reply_to,
        answers_suppressed: nobody || automatic::suppresses_answers(&headers),
        provider_spam: spam::mark(&headers).map(str::to_owned),
        raw: Some(raw.clone()),
        ..InboundEvent::new(dedupe_key, event)
    }
}

/// What a machine's mail says of a mail of ours, and so which kind of machine wrote it.
fn receipt(
    root: &Part<'_>,
    text: &str,
    automatic: Option<Automatic>,
    envelope: &[String],
    own: &OwnAddresses,
) -> (Option<Automatic>, Option<Event>) {
    match automatic {
        Some(Automatic::Bounce) => {
            let receipts = dsn::receipts(root, text, envelope, own);
            (automatic, receipts.into_iter().next())
        }
        Some(Automatic::ReadReceipt) => (automatic, mdn::receipt(root, own)),
        Some(Automatic::Generated) => {
            match dsn::unmarked_receipts(root, text, envelope, own)
                .into_iter()
                .next()
            {
                Some(receipt) => (Some(Automatic::Bounce), Some(receipt)),
                None => (automatic, None),
            }
        }
        _ => (automatic, None),
    }
}

fn event(
    headers: &Headers<'_>,
    people: People,
    content: Content,
    receipt: Option<Event>,
    hints: impl Fn(bool) -> ThreadHints,
) -> Event {
    if let Some(receipt) = receipt {
        return receipt;
    }
    let is_forwarded = opens_with_forward(&content) && !headers.has("in-reply-to");
    Event::Message(Box::new(InboundMessage {
        from: people.from,
        participants: people.participants,
        subject: headers.text("subject"),
        text: content.text,
        html: content.html,
        thread: hints(is_forwarded),
        attachments: content.attachments,
    }))
}

/// Whether a mail is nothing but somebody else's mail: attached without a word, or pasted under
/// the line that mail programs write.
fn opens_with_forward(content: &Content) -> bool {
    const LINES: [&str; 5] = [
        "---------- forwarded message",
        "-------- forwarded message",
        "-------- weitergeleitete nachricht",
        "begin forwarded message:",
        "----- forwarded message",
    ];
    let first = content
        .text
        .lines()
        .map(str::trim)
        .find(|line| !line.is_empty());
    match first {
        Some(line) => {
            let line = line.to_lowercase();
            LINES.iter().any(|start| line.starts_with(start))
        }
        None => content.has_attached_mail && content.html.is_none(),
    }
}

/// Which mailing list a mail came over (RFC 2919, RFC 2369).
fn list(headers: &Headers<'_>) -> Map<String, Value> {
    let fields = [("id", "list-id"), ("post", "list-post")];
    let named = fields.into_iter().filter_map(|(key, name)| {
        let text: String = headers.text(name)?.chars().take(LIST_CHARS_MAX).collect();
        Some((key.to_owned(), Value::String(text)))
    });
    let named: Map<String, Value> = named.collect();
    let mut extra = Map::new();
    if !named.is_empty() {
        extra.insert("list".to_owned(), Value::Object(named));
    }
    extra
}

fn author_address(people: &People) -> String {
    let first = people.from.identities.first();
    first.map(|claim| claim.address.clone()).unwrap_or_default()
}

fn header_defects(headers: &Headers<'_>, has_id: bool, has_date: bool, walk: &mut Walk) {
    if headers.is_empty() {
        walk.defect("no_headers", "");
    }
    if !has_id {
        walk.defect("no_message_id", "");
    }
    if !has_date {
        walk.defect("bad_date", "the date is missing or unreadable");
    }
    if headers.truncated {
        let max = limits::HEADER_BYTES_MAX;
        walk.defect("headers_too_large", format!("more than {max} bytes"));
    }
    if headers.bad_lines > 0 {
        walk.defect("bad_header_line", format!("{} lines", headers.bad_lines));
    }
    if headers.fields().any(|field| field.is_misencoded()) {
        walk.defect("header_charset_repaired", "");
    }
}

/// Longest list header kept, in characters.
const LIST_CHARS_MAX: usize = 500;

/// RFC 2606 reserves `.invalid`: nobody can own the address.
const NOBODYS_DOMAIN: &str = "@sender.invalid";

/// The author of a mail that names none; no two mails share it.
fn nobodys_address(mail: &str) -> String {
    format!("unknown-{mail}{NOBODYS_DOMAIN}")
}

/// Text of a service's field, by the charset it names.
pub(crate) fn decode_text(bytes: &[u8], charset: Option<&str>) -> String {
    charset::decode(bytes, charset).text
}

/// A mail that its server could not give us: known to exist, unreadable.
pub(crate) fn unreadable(key: String, reason: &str) -> InboundEvent {
    let headers = Headers::default();
    let people = identity::people(&headers, &OwnAddresses::default(), Proof::default(), || {
        nobodys_address(&key.replace(':', "-"))
    });
    let message = InboundMessage {
        from: people.from,
        participants: Vec::new(),
        subject: None,
        text: String::new(),
        html: None,
        thread: ThreadHints::default(),
        attachments: Vec::new(),
    };
    let mut event = InboundEvent::new(
        connector_api::DedupeKey::new(key),
        Event::Message(Box::new(message)),
    );
    event
        .defects
        .push(Defect::new("unreadable_on_server", reason));
    event
}
