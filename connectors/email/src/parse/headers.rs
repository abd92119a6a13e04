//! The header block of a mail or a MIME part: where it ends, its fields in order, their values.
//!
//! Order and raw values matter (trace headers, evidence), and broken lines are the rule rather
//! than the exception, so the block is split here; mail-parser reads the structured values.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine;
use jiff::Timestamp;
use mail_parser::HeaderValue;
use mail_parser::parsers::MessageStream;

use crate::parse::charset;
use crate::parse::encoded_words::decode_words;
use crate::parse::limits::{HEADER_BYTES_MAX, HEADER_VALUE_BYTES_MAX};

/// One header field; the value is raw, folded and undecoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub(crate) name: &'a str,
    pub(crate) raw: &'a [u8],
}

/// The fields of one header block, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headers<'a> {
    fields: Vec<Field<'a>>,
    /// Lines that are no header; they are skipped.
    pub(crate) bad_lines: usize,
    pub(crate) truncated: bool,
}

/// An address with its display name, undecided about validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) name: Option<String>,
    pub(crate) address: String,
}

/// The value of `Content-Type` or `Content-Disposition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parameterised {
    pub(crate) main: String,
    pub(crate) sub: Option<String>,
    parameters: Vec<(String, String)>,
}

impl Parameterised {
    /// A parameter without control characters; `None` when absent or blank.
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        let mut parameters = self.parameters.iter();
        let (_, value) = parameters.find(|(key, _)| key.eq_ignore_ascii_case(name))?;
        let text: String = value.chars().filter(|c| !c.is_control()).collect();
        (!text.trim().is_empty()).then(|| text.trim().to_owned())
    }
}

impl<'a> Headers<'a> {
    /// Splits `bytes` into the header block and the body behind the first empty line.
    pub(crate) fn split(bytes: &'a [u8]) -> (Self, &'a [u8]) {
        let mut headers = Self::default();
        let block = skip_preamble(bytes);
        // The field that may still be continued: its name, and where its value lies in `block`.
        let mut open: Option<(&'a str, Range<usize>)> = None;
        let mut at = 0;
        while let Some(rest) = block.get(at..).filter(|rest| !rest.is_empty()) {
            let (line, after) = split_line(rest);
            if trim_line_end(line).is_empty() {
                headers.close(block, open.take());
                return (headers, after);
            }
            if at > HEADER_BYTES_MAX {
                headers.truncated = true;
                headers.close(block, open.take());
                return (headers, after_empty_line(rest));
            }
            let next = at + line.len();
            let is_continuation = line.starts_with(b" ") || line.starts_with(b"\t");
            match &mut open {
                Some((_, value)) if is_continuation => value.end = next,
                _ => {
                    headers.close(block, open.take());
                    match field_name(line) {
                        Some((name, value)) if !is_continuation => {
                            open = Some((name, next - value.len()..next));
                        }
                        _ if headers.fields.is_empty() => {
                            // Text without any header: all of it is body.
                            return (headers, rest);
                        }
                        _ => headers.bad_lines += 1,
                    }
                }
            }
            at = next;
        }
        headers.close(block, open.take());
        (headers, &[])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = Field<'a>> {
        self.fields.iter().copied()
    }

    pub(crate) fn all(&self, name: &'static str) -> impl Iterator<Item = Field<'a>> {
        self.fields
            .iter()
            .copied()
            .filter(move |field| field.is(name))
    }

    pub(crate) fn first(&self, name: &'static str) -> Option<Field<'a>> {
        self.all(name).next()
    }

    pub(crate) fn has(&self, name: &'static str) -> bool {
        self.first(name).is_some()
    }

    /// The first field of that name as decoded, unfolded text; `None` when absent or empty.
    pub(crate) fn text(&self, name: &'static str) -> Option<String> {
        let text = self.first(name)?.text();
        (!text.is_empty()).then_some(text)
    }

    /// The first field of that name as one lower-case line, comments and parameters left in.
    pub(crate) fn lower(&self, name: &'static str) -> Option<String> {
        self.text(name).map(|text| text.to_lowercase())
    }

    fn close(&mut self, block: &'a [u8], open: Option<(&'a str, Range<usize>)>) {
        if let Some((name, value)) = open {
            let raw = block.get(value).unwrap_or_default();
            self.fields.push(Field { name, raw });
        }
    }
}

impl<'a> Field<'a> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value as it stands, unfolded to one line, in UTF-8, without control characters.
    pub(crate) fn unfolded(&self) -> String {
        let raw = self
            .raw
            .get(..self.raw.len().min(HEADER_VALUE_BYTES_MAX))
            .unwrap_or_default();
        let text = match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(charset::decode(raw, None).text),
        };
        one_line(&text)
    }

    /// The value with its encoded words decoded.
    pub(crate) fn text(&self) -> String {
        one_line(&decode_words(&self.unfolded(), |text| text.to_owned()))
    }

    /// Whether the value holds raw bytes that are not UTF-8.
    pub(crate) fn is_misencoded(&self) -> bool {
        std::str::from_utf8(self.raw).is_err()
    }

    /// The addresses of the value, groups flattened, `undisclosed-recipients:;` dropped.
    pub(crate) fn addresses(&self) -> Vec<Address> {
        let value = self.structured();
        let HeaderValue::Address(addresses) = MessageStream::new(&value).parse_address() else {
            return Vec::new();
        };
        addresses
            .iter()
            .filter_map(|address| {
                let name = address.name.as_deref().map(one_line);
                let name = name.filter(|name| !name.is_empty());
                let text = address.address.as_deref().map(one_line).unwrap_or_default();
                if text.is_empty() && name.is_none() {
                    return None;
                }
                Some(Address {
                    name,
                    address: text,
                })
            })
            .collect()
    }

    /// The value as a type (or disposition) with parameters.
    pub(crate) fn parameterised(&self) -> Option<Parameterised> {
        let value = self.structured();
        let HeaderValue::ContentType(parsed) = MessageStream::new(&value).parse_content_type()
        else {
            return None;
        };
        let attributes = parsed.attributes.unwrap_or_default();
        Some(Parameterised {
            main: parsed.c_type.into_owned(),
            sub: parsed.c_subtype.map(Cow::into_owned),
            parameters: attributes
                .into_iter()
                .map(|it| (it.name.into_owned(), it.value.into_owned()))
                .collect(),
        })
    }

    /// The value as a date; `None` when it cannot be one.
    pub(crate) fn date(&self) -> Option<Timestamp> {
        let value = self.structured();
        let HeaderValue::DateTime(date) = MessageStream::new(&value).parse_date() else {
            return None;
        };
        if !date.is_valid() {
            return None;
        }
        Timestamp::from_second(date.to_timestamp()).ok()
    }

    /// As mail-parser reads it: one line, every run of encoded words made one UTF-8 word (a
    /// character may be split between two words), ended by a newline.
    fn structured(&self) -> Vec<u8> {
        let mut line = decode_words(&self.unfolded(), |text| {
            let base64 = base64::engine::general_purpose::STANDARD.encode(text);
            format!("=?utf-8?B?{base64}?=")
        });
        line.push('\n');
        line.into_bytes()
    }
}

/// Joins folds, drops NULs and turns other control characters into spaces.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut fold = false;
    for c in text.trim().chars() {
        match c {
            '\0' => {}
            '\r' | '\n' => fold = true,
            c if fold && c.is_whitespace() => {}
            c => {
                if fold {
                    out.push(' ');
                    fold = false;
                }
                out.push(if c.is_control() { ' ' } else { c });
            }
        }
    }
    out
}

/// Skips empty lines and an mbox separator in front of the header block.
fn skip_preamble(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    loop {
        let (line, after) = split_line(rest);
        let is_mbox = line.starts_with(b"From ") || line.starts_with(b">From ");
        if line.is_empty() || !(trim_line_end(line).is_empty() || is_mbox) {
            return rest;
        }
        rest = after;
    }
}

fn after_empty_line(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while !rest.is_empty() {
        let (line, after) = split_line(rest);
        rest = after;
        if trim_line_end(line).is_empty() {
            break;
        }
    }
    rest
}

/// The first line with its line end, and the rest.
pub(crate) fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| byte == b'\n');
    bytes.split_at(end.map_or(bytes.len(), |at| at + 1))
}

pub(crate) fn trim_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Name and value of a line that starts a field.
fn field_name(line: &[u8]) -> Option<(&str, &[u8])> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let name = std::str::from_utf8(line.get(..colon)?).ok()?;
    let name = name.trim_end_matches([' ', '\t']);
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    is_name.then(|| (name, line.get(colon + 1..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(line: &str) -> String {
        let text = format!("Subject: {line}\r\n\r\n");
        let (headers, _) = Headers::split(text.as_bytes());
        headers.text("subject").unwrap_or_default()
    }

    #[test]
    fn a_value_is_one_line_however_it_was_folded_and_encoded() {
        assert_eq!(field("folded\r\n\t value"), "folded value");
        assert_eq!(field("=?utf-8?Q?caf=C3?=\r\n =?utf-8?Q?=A9?="), "café");
        assert_eq!(field("=?utf-8?Q?line=0D=0ABcc:_x?="), "line Bcc: x");
    }

    #[test]
    fn raw_eight_bit_headers_are_read() {
        let (headers, _) = Headers::split(b"Subject: Gr\xfc\xdfe\n\n");
        assert_eq!(headers.text("subject").as_deref(), Some("Grüße"));
        let (headers, _) = Headers::split("From: Müller <a@b.example>\n\n".as_bytes());
        let from = headers.first("from").unwrap().addresses();
        assert_eq!(from[0].name.as_deref(), Some("Müller"));
    }

    #[test]
    fn broken_blocks_are_split_as_far_as_they_go() {
        let (headers, body) = Headers::split(b"From x\nA: 1\nrubbish\nB : 2\n\nbody");
        assert_eq!((headers.bad_lines, body), (1, b"body".as_slice()));
        assert_eq!(headers.text("b").as_deref(), Some("2"));
        let (headers, body) = Headers::split(b"just text\nno header");
        assert!(headers.is_empty());
        assert_eq!(body, b"just text\nno header");
        let (headers, body) = Headers::split(b"A: 1\r\nB: 2");
        assert_eq!((headers.fields().count(), body), (2, b"".as_slice()));
    }

    #[test]
    fn an_endless_header_block_is_cut_and_the_body_kept() {
        let mut mail = b"A: 1\n".to_vec();
        for _ in 0..10_000 {
            mail.extend_from_slice(b"X-Filler: 0123456789\n");
        }
        mail.extend_from_slice(b"\nbody");
        let (headers, body) = Headers::split(&mail);
        assert!(headers.truncated);
        assert_eq!(body, b"body");
    }

    #[test]
    fn names_with_split_characters_and_groups_become_addresses() {
        let mail = b"To: =?utf-8?Q?J=C3?= =?utf-8?Q?=B6rg?= <j@x.example>, team: a@x.example, b@x.example;\n\n";
        let (headers, _) = Headers::split(mail);
        let to = headers.first("to").unwrap().addresses();
        assert_eq!(to.len(), 3);
        assert_eq!(to[0].name.as_deref(), Some("Jörg"));
    }
}
