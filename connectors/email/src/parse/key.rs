//! The key that tells a redelivery of one mail: the same wherever and whenever it is fetched.

use aws_lc_rs::digest::{Context, SHA256};
use connector_api::DedupeKey;

use crate::parse::headers::Headers;

/// Longest message id used as it is, in bytes; longer ones are digested.
const ID_BYTES_MAX: usize = 250;

/// Fields the author's side wrote. Trace fields (`Received`, `Return-Path`, `Delivered-To`)
/// differ from mailbox to mailbox and are left out.
const STABLE_FIELDS: [&str; 9] = [
    "from",
    "sender",
    "to",
    "cc",
    "subject",
    "date",
    "in-reply-to",
    "references",
    "content-type",
];

/// `mid:<Message-ID>`, or a digest over stable fields and body where there is no usable id.
pub(crate) fn dedupe_key(
    message_id: Option<&str>,
    headers: &Headers<'_>,
    body: &[u8],
) -> DedupeKey {
    match message_id {
        Some(id) if id.len() <= ID_BYTES_MAX => DedupeKey::new(format!("mid:{id}")),
        Some(id) => DedupeKey::new(format!("mid-sha256:{}", digest(&[id.as_bytes()]))),
        None => DedupeKey::new(format!("sha256:{}", content_digest(headers, body))),
    }
}

/// Hex of SHA-256 over what does not change on the way. Line ends and trailing blank lines do.
pub(crate) fn content_digest(headers: &Headers<'_>, body: &[u8]) -> String {
    let mut context = Context::new(&SHA256);
    for name in STABLE_FIELDS {
        for field in headers.all(name) {
            context.update(name.as_bytes());
            context.update(b":");
            context.update(field.unfolded().as_bytes());
            context.update(b"\n");
        }
    }
    context.update(b"\n");
    for line in body.trim_ascii_end().split(|&byte| byte == b'\n') {
        context.update(line.strip_suffix(b"\r").unwrap_or(line));
        context.update(b"\n");
    }
    hex(context.finish().as_ref())
}

fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    hex(context.finish().as_ref())
}

/// 128 bits are enough to tell mails apart.
fn hex(bytes: &[u8]) -> String {
    let bytes = bytes.iter().take(16);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(mail: &str) -> String {
        let (headers, body) = Headers::split(mail.as_bytes());
        let id = crate::parse::threading::message_id(&headers);
        dedupe_key(id.as_deref(), &headers, body)
            .as_str()
            .to_owned()
    }

    #[test]
    fn the_way_a_mail_took_does_not_change_its_key() {
        let one = "Received: a\r\nFrom: a@b\r\nSubject: x\r\n\r\nhi\r\n";
        let two = "Return-Path: <>\nDelivered-To: z\nReceived: b\nFrom: a@b\nSubject: x\n\nhi\n\n";
        assert_eq!(key(one), key(two));
        assert!(key(one).starts_with("sha256:"));
        assert_ne!(key(one), key("From: a@b\nSubject: x\n\nho"));
        assert_ne!(key(one), key("From: a@b\nSubject: y\n\nhi"));
        assert_eq!(key("Message-ID: <a@b>\n\n1"), "mid:a@b");
        assert!(
            key(&format!("Message-ID: <{}@b>\n\n1", "a".repeat(400))).starts_with("mid-sha256:")
        );
    }
}
