//! The body of a mail as MIME parts: `mixed(alternative(text, related(html, images)), files)`, of
//! which only what is needed is there.

use connector_api::{Error, OutboundAttachment, OutboundMessage, Result};
use lettre::message::Body;
use lettre::message::header::{ContentDisposition, ContentTransferEncoding, ContentType, Headers};

use super::{clean_name, one_line};
use crate::smtp::pieces::Pieces;

/// Longest `content_id`, in characters: with its header it stays one line.
const CONTENT_ID_CHARS_MAX: usize = 200;

/// Longest name of a type or subtype (RFC 6838, section 4.2).
const TYPE_NAME_CHARS_MAX: usize = 127;

/// Writes the body, from the headers of its outermost part on.
pub(super) fn write(message: &OutboundMessage, mail: &mut Pieces) -> Result<()> {
    tree(message)?.write(mail);
    Ok(())
}

/// A part and everything in it.
enum Part<'a> {
    Text {
        content_type: ContentType,
        encoded: Vec<u8>,
    },
    File {
        headers: Headers,
        file: &'a OutboundAttachment,
    },
    Multi {
        /// `mixed`, with the parameters that it has.
        kind: &'static str,
        boundary: String,
        children: Vec<Part<'a>>,
    },
}

fn tree(message: &OutboundMessage) -> Result<Part<'_>> {
    let html = message.html.as_deref().unwrap_or_default();
    for id in message.attachments.iter().filter_map(content_id) {
        if !is_content_id(id) {
            return Err(Error::rejected(format!(
                "the content_id {id:?} cannot stand in a mail: letters, digits and ._@- only"
            )));
        }
    }
    // A picture that the HTML does not show would be seen nowhere: it is a file like any other.
    let is_shown = |file: &&OutboundAttachment| content_id(file).is_some_and(|id| shows(html, id));
    let (shown, others): (Vec<_>, Vec<_>) = message.attachments.iter().partition(is_shown);

    let mut body = text(ContentType::TEXT_PLAIN, &message.text)?;
    if let Some(html) = &message.html {
        let mut rich = text(ContentType::TEXT_HTML, html)?;
        if !shown.is_empty() {
            let images = shown.into_iter().map(|file| file_part(file, Place::Shown));
            // RFC 2387, section 3.1: the type of the part that the others belong to.
            let children = std::iter::once(rich).chain(images).collect();
            rich = multi("related; type=\"text/html\"", message, 3, children);
        }
        body = multi("alternative", message, 1, vec![body, rich]);
    }
    if others.is_empty() {
        return Ok(body);
    }
    let files = others
        .into_iter()
        .map(|file| file_part(file, Place::Attached));
    let children = std::iter::once(body).chain(files).collect();
    Ok(multi("mixed", message, 2, children))
}

/// A multipart whose boundary is the same on every attempt. Quoted-printable and base64 contain
/// no `=_`, so no content can contain it.
fn multi<'a>(
    kind: &'static str,
    message: &OutboundMessage,
    level: u8,
    children: Vec<Part<'a>>,
) -> Part<'a> {
    let id: String = message
        .id
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(40)
        .collect();
    Part::Multi {
        kind,
        boundary: format!("=_{level}_{id}"),
        children,
    }
}

fn text(content_type: ContentType, text: &str) -> Result<Part<'static>> {
    let text = text.replace('\0', "");
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable)
        .map_err(|_| Error::rejected("cannot encode the text"))?;
    Ok(Part::Text {
        content_type,
        encoded: body.into_vec(),
    })
}

enum Place {
    Shown,
    Attached,
}

fn file_part(file: &OutboundAttachment, place: Place) -> Part<'_> {
    let name = clean_name(&file.name).unwrap_or_else(|| "attachment".to_owned());
    let mut headers = Headers::new();
    // Names outside ASCII and long ones become RFC 2231 parameters.
    headers.set(match place {
        Place::Shown => ContentDisposition::inline_with_name(&name),
        Place::Attached => ContentDisposition::attachment(&name),
    });
    headers.set(content_type(&file.content_type));
    headers.set(ContentTransferEncoding::Base64);
    Part::File { headers, file }
}

fn content_id(file: &OutboundAttachment) -> Option<&str> {
    file.content_id.as_deref()
}

/// Whether the HTML shows the image: `cid:` and the id, and not a longer one.
fn shows(html: &str, id: &str) -> bool {
    let link = format!("cid:{id}");
    html.match_indices(&link).any(|(at, _)| {
        let behind = html.get(at + link.len()..);
        let next = behind.and_then(|behind| behind.chars().next());
        !next.is_some_and(is_id_char)
    })
}

fn is_content_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= CONTENT_ID_CHARS_MAX && id.chars().all(is_id_char)
}

fn is_id_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@')
}

/// The declared type without what a stranger may have put behind it. Mails and multiparts may not
/// be base64 (RFC 2045, section 6.4), so they go as the files that they are here.
fn content_type(declared: &str) -> ContentType {
    let declared = one_line(declared).to_ascii_lowercase();
    let mut words = declared.split(';').map(str::trim);
    let essence = words.next().unwrap_or_default();
    let (kind, subtype) = essence.split_once('/').unwrap_or_default();
    let is_usable =
        is_type_name(kind) && is_type_name(subtype) && !matches!(kind, "message" | "multipart");
    let charset = words
        .find_map(|word| word.strip_prefix("charset="))
        .map(|charset| charset.trim_matches('"'))
        .filter(|charset| kind == "text" && is_type_name(charset));
    let text = match charset {
        Some(charset) => format!("{essence}; charset={charset}"),
        None => essence.to_owned(),
    };
    let parsed = is_usable.then(|| ContentType::parse(&text).ok()).flatten();
    parsed.unwrap_or_else(|| {
        ContentType::parse("application/octet-stream").expect("a literal that is a content type")
    })
}

fn is_type_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    !text.is_empty() && text.len() <= TYPE_NAME_CHARS_MAX && text.chars().all(is_allowed)
}

impl Part<'_> {
    fn write(&self, mail: &mut Pieces) {
        match self {
            Self::Text {
                content_type,
                encoded,
            } => {
                let mut headers = Headers::new();
                headers.set(content_type.clone());
                headers.set(ContentTransferEncoding::QuotedPrintable);
                mail.text(format!("{headers}\r\n"));
                mail.text(encoded);
                mail.text("\r\n");
            }
            Self::File { headers, file } => {
                mail.text(headers.to_string());
                if let Some(id) = content_id(file) {
                    mail.text(format!("Content-ID: <{id}>\r\n"));
                }
                mail.text("\r\n");
                mail.file(&file.content, file.size_bytes);
            }
            Self::Multi {
                kind,
                boundary,
                children,
            } => {
                mail.text(format!(
                    "Content-Type: multipart/{kind};\r\n boundary=\"{boundary}\"\r\n\r\n"
                ));
                for child in children {
                    mail.text(format!("--{boundary}\r\n"));
                    child.write(mail);
                }
                mail.text(format!("--{boundary}--\r\n"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_kept_without_what_does_not_belong_to_them() {
        for (declared, sent) in [
            ("application/pdf", "application/pdf"),
            (
                "Text/Plain; charset=\"ISO-8859-1\"; x=y",
                "text/plain; charset=iso-8859-1",
            ),
            ("image/png; name=\"x.png\"", "image/png"),
            ("image/svg+xml", "image/svg+xml"),
            ("message/rfc822", "application/octet-stream"),
            ("multipart/mixed; boundary=x", "application/octet-stream"),
            ("", "application/octet-stream"),
            ("pdf", "application/octet-stream"),
            ("a/b\r\nBcc: eve@evil.example", "application/octet-stream"),
        ] {
            let mut headers = Headers::new();
            headers.set(content_type(declared));
            assert_eq!(
                headers.to_string(),
                format!("Content-Type: {sent}\r\n"),
                "{declared}"
            );
        }
    }

    #[test]
    fn an_image_is_shown_only_under_its_whole_id() {
        assert!(shows("<img src=\"cid:logo\">", "logo"));
        assert!(shows("<img src=cid:logo1><img src=cid:logo>", "logo"));
        assert!(!shows("<img src=\"cid:logo1\">", "logo"));
        assert!(!shows("<img src=\"cid:logo@x\">", "logo"));
        assert!(!shows("logo", "logo"));
    }
}
