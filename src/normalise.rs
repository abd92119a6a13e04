//! Provider-neutral clean-up of what arrived: Unicode and control characters, HTML to text, the
//! writer's new words told from quotations, card numbers redacted. Pure and bounded; the event
//! keeps its full text.

pub mod cards;
pub mod clean;
pub mod html;
pub mod split;

use connector_api::{Defect, Event, InboundEvent, InboundMessage, ThreadHints};
use serde_json::{Map, Value};

use clean::{Lines, Removed, clean};
use split::Split;

/// Bounds of what is kept readable, in characters; the raw bytes keep the rest.
pub const TEXT_CHARS_MAX: usize = 256 * 1024;
pub const HTML_CHARS_MAX: usize = html::HTML_BYTES_MAX;
pub const SUBJECT_CHARS_MAX: usize = 1_000;
/// Names of people and files, reactions.
pub const NAME_CHARS_MAX: usize = 1_000;
/// How deep unknown provider fields may nest; serde_json reads 128 levels.
const EXTRA_DEPTH_MAX: usize = 64;

/// What clean-up found besides the event itself, which it changed in place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Normalised {
    /// The whole readable text, where the event's `text` is now the writer's new words only.
    pub full_text: Option<String>,
    /// Which parts of the full text are new, quoted, signature.
    pub split: Split,
    /// Card numbers redacted. With any, the raw bytes must not be kept.
    pub card_numbers: usize,
}

/// Cleans `event` in place. The `text` of a message or edit is afterwards the writer's new words,
/// made from the HTML where there was no text.
pub fn normalise(event: &mut InboundEvent) -> Normalised {
    let mut removed = Removed::default();
    let mut cards = Cards::default();
    clean_compared(&mut event.event, &mut removed);
    match &mut event.event {
        Event::Message(message) | Event::Echo(message) => {
            clean_message(message, &mut removed, &mut cards);
        }
        Event::Edit { text, html, .. } => clean_body(text, html, &mut removed, &mut cards),
        Event::System { text, .. } => clean_field(text, Lines::Kept, &mut removed, &mut cards),
        Event::Receipt {
            reason: Some(reason),
            ..
        } => {
            clean_field(reason, Lines::Joined, &mut removed, &mut cards);
        }
        Event::Reaction { emoji, .. } => {
            clean_field(emoji, Lines::Joined, &mut removed, &mut cards)
        }
        _ => {}
    }
    for defect in &mut event.defects {
        clean_field(&mut defect.detail, Lines::Joined, &mut removed, &mut cards);
    }
    clean_map(&mut event.extra, 0, &mut removed, &mut cards);
    event.defects.extend(removed.defects());
    event.defects.extend(cards.defects());
    let (split, full_text) = match &mut event.event {
        Event::Message(message) | Event::Echo(message) => keep_new_words(&mut message.text),
        Event::Edit { text, .. } => keep_new_words(text),
        _ => (Split::default(), None),
    };
    Normalised {
        full_text,
        split,
        card_numbers: cards.found,
    }
}

/// Leaves the new words in `text` and gives back the full text where that is more.
fn keep_new_words(text: &mut String) -> (Split, Option<String>) {
    // Blank lines at the end are the transport's, not the writer's.
    text.truncate(text.trim_end().len());
    let split = split::split(text);
    if split.is_whole() {
        return (split, None);
    }
    let new_words = split.visible(text);
    let full_text = std::mem::replace(text, new_words);
    (split, Some(full_text))
}

#[derive(Debug, Default)]
struct Cards {
    found: usize,
    html_dropped: bool,
}

impl Cards {
    fn defects(&self) -> Vec<Defect> {
        let mut defects = Vec::new();
        if self.found > 0 {
            defects.push(Defect::new("card_number_redacted", self.found.to_string()));
        }
        if self.html_dropped {
            defects.push(Defect::new(
                "html_dropped",
                "a card number stood between its tags",
            ));
        }
        defects
    }
}

fn clean_message(message: &mut InboundMessage, removed: &mut Removed, cards: &mut Cards) {
    clean_body(&mut message.text, &mut message.html, removed, cards);
    if let Some(subject) = &mut message.subject {
        clean(
            subject,
            Lines::Joined,
            SUBJECT_CHARS_MAX,
            "subject",
            removed,
        );
        cards.found += cards::redact(subject);
    }
    let names = message.from.name.iter_mut();
    let names = names.chain(
        message
            .participants
            .iter_mut()
            .filter_map(|one| one.name.as_mut()),
    );
    let names = names.chain(
        message
            .attachments
            .iter_mut()
            .filter_map(|file| file.name.as_mut()),
    );
    for name in names {
        clean_field(name, Lines::Joined, removed, cards);
    }
}

/// Addresses, ids and tokens: evidence, digest and record key were made from them before, and they
/// are compared. Anything taken from them could make two people one; only what no store takes goes.
fn clean_compared(event: &mut Event, removed: &mut Removed) {
    let mut bare = |text: &mut String| {
        if text.contains('\0') {
            removed.control += text.matches('\0').count();
            text.retain(|c| c != '\0');
        }
    };
    match event {
        Event::Message(message) | Event::Echo(message) => {
            let authors = message.from.identities.iter_mut();
            authors.for_each(|one| bare(&mut one.address));
            let others = message.participants.iter_mut();
            others.for_each(|one| bare(&mut one.address));
            compared_in_thread(&mut message.thread, &mut bare);
        }
        Event::System { thread, .. } => compared_in_thread(thread, &mut bare),
        Event::Edit { target, .. } | Event::Delete { target } => bare(target),
        Event::Reaction { target, from, .. } => {
            bare(target);
            from.iter_mut().for_each(|one| bare(&mut one.address));
        }
        Event::Receipt {
            target, recipient, ..
        } => {
            bare(target);
            recipient.iter_mut().for_each(bare);
        }
        _ => {}
    }
}

fn compared_in_thread(thread: &mut ThreadHints, bare: &mut impl FnMut(&mut String)) {
    let ids = thread.native.iter_mut().chain(&mut thread.message_id);
    ids.chain(&mut thread.references)
        .chain(&mut thread.reply_tokens)
        .for_each(bare);
}

fn clean_body(
    text: &mut String,
    html: &mut Option<String>,
    removed: &mut Removed,
    cards: &mut Cards,
) {
    clean(text, Lines::Kept, TEXT_CHARS_MAX, "text", removed);
    cards.found += cards::redact(text);
    let Some(markup) = html else {
        return;
    };
    clean(markup, Lines::Kept, HTML_CHARS_MAX, "html", removed);
    let mut in_html = cards::redact(markup);
    // Tags and references may stand between the digits: only the text made of it tells.
    let text_is_missing = text.trim().is_empty();
    if text_is_missing || may_hold_card(markup) {
        let mut readable = html::to_text(markup);
        clean(&mut readable, Lines::Kept, TEXT_CHARS_MAX, "text", removed);
        let between_tags = cards::redact(&mut readable);
        if between_tags > 0 {
            in_html += between_tags;
            cards.html_dropped = true;
            *html = None;
        }
        if text_is_missing {
            *text = readable;
        }
    }
    cards.found += in_html;
}

/// Whether thirteen digits stand outside of tags, or what may be digits of another script.
fn may_hold_card(markup: &str) -> bool {
    let mut digits = 0;
    let mut in_tag = false;
    let mut before = 0;
    let next = markup.bytes().skip(1).chain([0]);
    for (byte, next) in markup.bytes().zip(next) {
        match byte {
            b'<' => in_tag |= next.is_ascii_alphabetic() || matches!(next, b'/' | b'!' | b'?'),
            b'>' => in_tag = false,
            // A numeric reference may be a digit, too.
            b'#' if before == b'&' => return true,
            _ if byte >= 0xd9 && !in_tag => digits += 1,
            _ => digits += usize::from(!in_tag && byte.is_ascii_digit()),
        }
        before = byte;
    }
    digits >= cards::DIGITS_MIN
}

fn clean_field(text: &mut String, lines: Lines, removed: &mut Removed, cards: &mut Cards) {
    let (chars_max, field) = match lines {
        Lines::Kept => (TEXT_CHARS_MAX, "text"),
        Lines::Joined => (NAME_CHARS_MAX, "name"),
    };
    clean(text, lines, chars_max, field, removed);
    cards.found += cards::redact(text);
}

fn clean_map(map: &mut Map<String, Value>, depth: usize, removed: &mut Removed, cards: &mut Cards) {
    for (key, value) in map.iter_mut() {
        // A provider's own ids are long numbers, too; customers cannot write into them.
        if !(is_id(key) && is_bare_number(value)) {
            clean_value(value, depth, removed, cards);
        }
    }
    let dirty = |key: &String| key.contains('\0') || !cards::find(key).is_empty();
    if map.keys().any(dirty) {
        let renamed = std::mem::take(map).into_iter().map(|(mut key, value)| {
            clean_field(&mut key, Lines::Joined, removed, cards);
            (key, value)
        });
        *map = renamed.collect();
    }
}

fn clean_value(value: &mut Value, depth: usize, removed: &mut Removed, cards: &mut Cards) {
    match value {
        _ if depth >= EXTRA_DEPTH_MAX => *value = Value::Null,
        Value::String(text) => clean_field(text, Lines::Kept, removed, cards),
        Value::Number(number) => {
            let mut digits = number.to_string();
            let found = cards::redact(&mut digits);
            if found > 0 {
                cards.found += found;
                *value = Value::String(digits);
            }
        }
        Value::Array(values) => {
            for value in values {
                clean_value(value, depth + 1, removed, cards);
            }
        }
        Value::Object(map) => clean_map(map, depth + 1, removed, cards),
        Value::Null | Value::Bool(_) => {}
    }
}

fn is_id(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["id", "ids", "sid", "mid", "seq", "timestamp", "ts"].contains(&key.as_str())
        || ["_id", "_ids", "-id", "_ts", "_token"]
            .iter()
            .any(|end| key.ends_with(end))
}

fn is_bare_number(value: &Value) -> bool {
    match value {
        Value::Number(_) => true,
        Value::String(text) => text.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
