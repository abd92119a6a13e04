//! Which conversation a mail may belong to. Hints only: the router checks tokens, participants
//! and evidence before it joins anything.

use base64::Engine;
use connector_api::{ThreadHints, reply_token_candidates};

use crate::parse::headers::Headers;
use crate::parse::limits::{ADDRESSES_MAX as RECIPIENTS_MAX, MESSAGE_ID_BYTES_MAX, REFERENCES_MAX};

/// Our Message-ID once more, in every mail of ours.
pub(crate) const OWN_ID_HEADER: &str = "x-switchboard-id";

/// Headers that may hold the address a mail was really sent to, and so our plus-address token.
const RECIPIENT_HEADERS: [&str; 8] = [
    "to",
    "cc",
    "delivered-to",
    "x-original-to",
    "envelope-to",
    "x-envelope-to",
    "x-forwarded-to",
    // A bounce comes back to a VERP sender.
    "return-path",
];

/// Collects message id, references (nearest first), reply tokens and the forward sign.
///
/// `Thread-Index` (Outlook) becomes the reference `thread-index:<hex>`: its first 22 bytes name
/// the conversation (6 bytes of time, a GUID) and are the same in every mail of it. It stands
/// last, because any message id is nearer.
///
/// `recipients` are the addresses the mail was delivered to, where a service says so.
pub(crate) fn hints(
    headers: &Headers<'_>,
    has_forwarded_mail: bool,
    recipients: &[String],
) -> ThreadHints {
    let mut references = Vec::new();
    for field in headers.all("in-reply-to") {
        for id in message_ids(&field.unfolded()) {
            push_new(&mut references, id);
        }
    }
    for field in headers.all("references") {
        for id in message_ids(&field.unfolded()).into_iter().rev() {
            push_new(&mut references, id);
        }
    }
    references.truncate(REFERENCES_MAX);
    if let Some(entry) = thread_index(headers) {
        references.push(entry);
    }
    let mut reply_tokens = Vec::new();
    for recipient in recipients.iter().take(RECIPIENTS_MAX) {
        collect_tokens(recipient, &mut reply_tokens);
    }
    for name in RECIPIENT_HEADERS {
        for field in headers.all(name) {
            collect_tokens(&field.unfolded(), &mut reply_tokens);
        }
    }
    for reference in &references {
        collect_tokens(reference, &mut reply_tokens);
    }
    let subject = headers.text("subject").unwrap_or_default();
    let forward = reply_tokens.is_empty() && (is_forward_subject(&subject) || has_forwarded_mail);
    ThreadHints {
        native: None,
        message_id: message_id(headers),
        references,
        reply_tokens,
        forward,
    }
}

/// The mail's own id without `<>`; `None` when it has none that could be told apart.
pub(crate) fn message_id(headers: &Headers<'_>) -> Option<String> {
    let field = headers.first("message-id")?;
    let value = field.unfolded();
    if let Some(id) = message_ids(&value).into_iter().next() {
        return Some(id);
    }
    // Some senders leave the `@` out; alone in its field it is still an id.
    let id = value.trim_matches(['<', '>', ' ']);
    let is_word = !id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX;
    (is_word && !id.contains(char::is_whitespace)).then(|| id.to_owned())
}

/// The id that we gave a mail of ours, where a relay on its way gave it another.
pub(crate) fn own_id(headers: &Headers<'_>) -> Option<String> {
    let field = headers.first(OWN_ID_HEADER)?;
    message_ids(&field.unfolded()).into_iter().next()
}

/// The message ids in a header value, in order. Clients fold ids in the middle, drop brackets,
/// separate by commas and add words (`Your message of …`).
pub(crate) fn message_ids(value: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut rest = value;
    while let Some((loose, behind)) = rest.split_once('<') {
        push_bare_ids(loose, &mut ids);
        match behind.split_once('>') {
            // An unclosed bracket before the next one: take what stands there as bare ids.
            Some((inside, after)) if !inside.contains('<') => {
                push_id(&inside.split_whitespace().collect::<String>(), &mut ids);
                rest = after;
            }
            _ => rest = behind,
        }
    }
    push_bare_ids(rest, &mut ids);
    ids
}

/// Subjects with which mail programs mark a forward, in the languages they speak.
pub(crate) fn is_forward_subject(subject: &str) -> bool {
    const PREFIXES: [&str; 15] = [
        "fwd:",
        "fw:",
        "forward:",
        "wg:",
        "tr:",
        "rv:",
        "enc:",
        "vb:",
        "doorst:",
        "pd:",
        "ilt:",
        "továbbítás:",
        "转发:",
        "轉寄:",
        "転送:",
    ];
    let subject = subject.trim_start().to_lowercase().replace('：', ":");
    let subject = subject.replace(" :", ":");
    PREFIXES.iter().any(|prefix| subject.starts_with(prefix))
}

fn push_bare_ids(text: &str, ids: &mut Vec<String>) {
    for word in text.split(|c: char| c.is_whitespace() || matches!(c, ',' | ';' | '"' | '>')) {
        push_id(word, ids);
    }
}

/// Words around ids have no `@`, so a reference must have one.
fn push_id(id: &str, ids: &mut Vec<String>) {
    let id = id.strip_prefix("mailto:").unwrap_or(id);
    let id: String = id.chars().filter(|c| !c.is_control()).collect();
    let is_id = id.contains('@') && !id.starts_with('@') && !id.ends_with('@');
    if is_id && id.len() <= MESSAGE_ID_BYTES_MAX {
        push_new(ids, id);
    }
}

fn push_new(list: &mut Vec<String>, entry: String) {
    if list.len() <= REFERENCES_MAX * 4 && !list.contains(&entry) {
        list.push(entry);
    }
}

fn collect_tokens(text: &str, tokens: &mut Vec<String>) {
    for token in reply_token_candidates(text) {
        push_new(tokens, token);
    }
}

fn thread_index(headers: &Headers<'_>) -> Option<String> {
    let value: String = headers
        .first("thread-index")?
        .unfolded()
        .split_whitespace()
        .collect();
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(value)
        .ok()?;
    let conversation = bytes.get(..22)?;
    let hex: String = conversation
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(format!("thread-index:{hex}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_ids(value: &str, expected: &[&str]) {
        assert_eq!(message_ids(value), expected, "{value}");
    }

    #[test]
    fn ids_survive_folding_missing_brackets_and_words() {
        check_ids("<a@x> <b@x>", &["a@x", "b@x"]);
        check_ids("<a@x><b@x>,<c@x>", &["a@x", "b@x", "c@x"]);
        check_ids("<a-very-long@ exam ple.org>", &["a-very-long@example.org"]);
        check_ids("a@x b@x", &["a@x", "b@x"]);
        check_ids("<a@x", &["a@x"]);
        check_ids("Your message of Friday <a@x> \"b\"", &["a@x"]);
        check_ids("<a@x <b@x>", &["a@x", "b@x"]);
        check_ids("mailto:a@x, <a@x>", &["a@x"]);
        check_ids("", &[]);
        check_ids("<>", &[]);
    }

    fn read(headers: &str) -> ThreadHints {
        let mail = format!("{headers}\n\n");
        hints(&Headers::split(mail.as_bytes()).0, false, &[])
    }

    #[test]
    fn the_nearest_reference_comes_first() {
        let hints = read(
            "Message-ID: <me@x>\nReferences: <1@x>\n <2@x> <3@x>\nIn-Reply-To: <2@x>\nThread-Index: AdT4vqGCXoJv0yyfQbq2N1JLNzU5NwAAKxQA",
        );
        assert_eq!(hints.message_id.as_deref(), Some("me@x"));
        assert_eq!(
            hints.references,
            [
                "2@x",
                "3@x",
                "1@x",
                "thread-index:01d4f8bea1825e826fd32c9f41bab637524b37353937"
            ]
        );
    }

    #[test]
    fn tokens_are_found_wherever_a_reply_carries_them() {
        let token = format!("sb{}", "b3".repeat(13));
        for line in [
            format!("To: Support <support+{token}@shop.example>"),
            format!(
                "Delivered-To: SUPPORT+{}@shop.example",
                token.to_uppercase()
            ),
            format!("In-Reply-To: <{token}.msg_1@shop.example>"),
            format!("References: <a@x> <{token}.msg_1@shop.example> <b@x>"),
            format!("Return-Path: <support+{token}@shop.example>"),
        ] {
            assert_eq!(
                read(&line).reply_tokens,
                std::slice::from_ref(&token),
                "{line}"
            );
        }
        assert!(read(&format!("Subject: {token}")).reply_tokens.is_empty());
    }

    #[test]
    fn a_forward_is_one_unless_it_carries_a_token() {
        let token = format!("sb{}", "b3".repeat(13));
        assert!(read("Subject: Fwd: my order").forward);
        assert!(read("Subject: WG: Bestellung").forward);
        assert!(!read("Subject: Re: Fwd: my order").forward);
        assert!(!read(&format!("Subject: Fwd: x\nTo: a+{token}@shop.example")).forward);
    }
}
