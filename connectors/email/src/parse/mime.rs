//! The MIME tree of one mail, walked with hard limits and without recursion deeper than
//! [`DEPTH_MAX`]: what a hostile mail can make of parsing is bounded before it starts.

use connector_api::Defect;

use crate::parse::headers::{Headers, Parameterised, split_line, trim_line_end};
use crate::parse::limits::{DEPTH_MAX, PARTS_MAX};

/// A part of a mail. Leaves have no children; a multipart's own text is dropped (RFC 2046).
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) headers: Headers<'a>,
    /// `type/subtype` in lower case; never empty.
    pub(crate) mime_type: String,
    pub(crate) content_type: Option<Parameterised>,
    pub(crate) disposition: Option<Parameterised>,
    /// Undecoded.
    pub(crate) body: &'a [u8],
    pub(crate) children: Vec<Part<'a>>,
}

/// What the walk may still spend, and what it found wrong.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    parts: usize,
    pub(crate) defects: Vec<Defect>,
}

impl Walk {
    /// Reads the tree under a header block and its body.
    pub(crate) fn tree<'a>(&mut self, headers: Headers<'a>, body: &'a [u8]) -> Part<'a> {
        self.part(headers, body, "text/plain", 0)
    }

    fn part<'a>(
        &mut self,
        headers: Headers<'a>,
        body: &'a [u8],
        default_type: &str,
        depth: usize,
    ) -> Part<'a> {
        self.parts += 1;
        let content_type = headers
            .first("content-type")
            .and_then(|field| field.parameterised());
        let mime_type = mime_type(content_type.as_ref(), default_type);
        let disposition = headers
            .first("content-disposition")
            .and_then(|field| field.parameterised());
        let mut part = Part {
            headers,
            mime_type,
            content_type,
            disposition,
            body,
            children: Vec::new(),
        };
        if part.mime_type.starts_with("multipart/") {
            self.read_children(&mut part, depth);
        }
        part
    }

    fn read_children(&mut self, part: &mut Part<'_>, depth: usize) {
        let Some(boundary) = part.parameter("boundary") else {
            self.defect("no_boundary", "a multipart names no boundary");
            part.mime_type = "text/plain".to_owned();
            return;
        };
        if depth >= DEPTH_MAX {
            self.defect("too_deep", format!("parts nested deeper than {DEPTH_MAX}"));
            part.mime_type = "application/octet-stream".to_owned();
            return;
        }
        let default_type = match part.mime_type.as_str() {
            "multipart/digest" => "message/rfc822",
            _ => "text/plain",
        };
        let mut sections = Sections::new(part.body, boundary.as_bytes());
        while let Some(section) = sections.next() {
            if self.parts >= PARTS_MAX {
                self.defect("too_many_parts", format!("more than {PARTS_MAX} parts"));
                break;
            }
            let (headers, body) = split_part(section);
            let child = self.part(headers, body, default_type, depth + 1);
            part.children.push(child);
        }
        if part.children.is_empty() {
            self.defect("no_boundary", "a multipart without its boundary");
            part.mime_type = "text/plain".to_owned();
        } else if !sections.closed {
            self.defect("open_boundary", "a multipart is not closed");
        }
    }

    pub(crate) fn defect(&mut self, code: &str, detail: impl Into<String>) {
        if !self.defects.iter().any(|defect| defect.code == code) {
            self.defects.push(Defect::new(code, detail));
        }
    }
}

impl Part<'_> {
    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.content_type.as_ref()?.parameter(name)
    }

    /// Whether the part says it is of this type, whatever became of its content.
    pub(crate) fn is_declared(&self, main: &str, sub: &str) -> bool {
        self.content_type.as_ref().is_some_and(|declared| {
            let declared_sub = declared.sub.as_deref().unwrap_or_default();
            declared.main.eq_ignore_ascii_case(main) && declared_sub.eq_ignore_ascii_case(sub)
        })
    }

    /// The name the sender gave the part: data, never a path.
    pub(crate) fn file_name(&self) -> Option<String> {
        let disposition = self.disposition.as_ref();
        disposition
            .and_then(|it| it.parameter("filename"))
            .or_else(|| self.parameter("name"))
            .or_else(|| self.parameter("filename"))
    }

    pub(crate) fn is_disposition(&self, wanted: &str) -> bool {
        self.disposition
            .as_ref()
            .is_some_and(|value| value.main.eq_ignore_ascii_case(wanted))
    }

    /// The part's bytes with the transfer encoding undone; an unknown encoding leaves them as
    /// they are (RFC 2045, section 6.4).
    pub(crate) fn decoded(&self) -> Vec<u8> {
        self.decode(self.body)
    }

    /// The same for the first `bytes_max` of the part.
    pub(crate) fn decoded_head(&self, bytes_max: usize) -> Vec<u8> {
        let end = self.body.len().min(bytes_max);
        self.decode(self.body.get(..end).unwrap_or_default())
    }

    fn decode(&self, body: &[u8]) -> Vec<u8> {
        match self.transfer_encoding().as_str() {
            "base64" => decode_base64(body),
            "quoted-printable" => decode_quoted_printable(body),
            _ => body.to_vec(),
        }
    }

    pub(crate) fn has_unknown_encoding(&self) -> bool {
        !matches!(
            self.transfer_encoding().as_str(),
            "" | "7bit" | "8bit" | "binary" | "base64" | "quoted-printable"
        )
    }

    fn transfer_encoding(&self) -> String {
        let value = self.headers.lower("content-transfer-encoding");
        let value = value.unwrap_or_default();
        let word = value.split([';', ' ', '(']).next().unwrap_or_default();
        word.trim_matches(['"', '\'', '.']).to_owned()
    }
}

/// Undoes base64, skipping whatever is not of its alphabet. Padding ends it, unless what follows
/// is base64 again: some senders join encoded blocks, and some relays append words in clear.
pub(crate) fn decode_base64(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() / 4 * 3);
    let mut bits: u32 = 0;
    let mut have = 0;
    let mut rest = data;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'=' {
            (bits, have) = (0, 0);
            rest = after.trim_ascii_start();
            // Padding of one group may be two characters.
            rest = rest.strip_prefix(b"=").unwrap_or(rest).trim_ascii_start();
            if !is_base64_block(rest) {
                break;
            }
            continue;
        }
        let Some(value) = base64_value(byte) else {
            continue;
        };
        bits = (bits << 6) | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push(u8::try_from((bits >> have) & 0xff).unwrap_or_default());
        }
    }
    out
}

fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// Whether the first line holds whole groups and nothing else.
fn is_base64_block(data: &[u8]) -> bool {
    // A look at the start is enough, and keeps a mail of nothing but padding cheap.
    let head = data.get(..data.len().min(32)).unwrap_or_default();
    let (line, _) = split_line(head);
    let line = line.trim_ascii_end();
    let is_group = |byte: &u8| *byte == b'=' || base64_value(*byte).is_some();
    !line.is_empty() && line.len().is_multiple_of(4) && line.iter().all(is_group)
}

/// Undoes quoted-printable; a malformed escape stays as it is.
pub(crate) fn decode_quoted_printable(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len());
    let mut rest = data;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'=' {
            out.push(byte);
            continue;
        }
        if let Some(next) = soft_break(after) {
            rest = next;
        } else if let Some(value) = hex_pair(after) {
            out.push(value);
            rest = after.get(2..).unwrap_or_default();
        } else if !after.is_empty() {
            out.push(byte);
        }
    }
    out
}

/// What follows a soft line break, before which a relay may have added spaces.
fn soft_break(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\r'))?;
    match bytes.get(at..)?.split_first()? {
        (b'\n', rest) => Some(rest),
        _ => None,
    }
}

fn hex_pair(bytes: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

fn mime_type(content_type: Option<&Parameterised>, default: &str) -> String {
    let Some(content_type) = content_type else {
        return default.to_owned();
    };
    let clean = |text: &str| {
        let text: String = text
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+".contains(*c))
            .take(64)
            .collect();
        text.to_ascii_lowercase()
    };
    let main = clean(&content_type.main);
    let sub = content_type.sub.as_deref().map(clean);
    match (main.as_str(), sub.as_deref()) {
        ("", _) => default.to_owned(),
        // `Content-Type: text` and the like (RFC 2045, section 5.2).
        ("text", None | Some("")) => "text/plain".to_owned(),
        (_, None | Some("")) => default.to_owned(),
        (main, Some(sub)) => format!("{main}/{sub}"),
    }
}

/// A part may start with its empty line: then it has no headers (RFC 2046, section 5.1).
pub(crate) fn split_part(section: &[u8]) -> (Headers<'_>, &[u8]) {
    let (line, rest) = split_line(section);
    if trim_line_end(line).is_empty() && !line.is_empty() {
        return (Headers::default(), rest);
    }
    Headers::split(section)
}

/// What lies between the delimiter lines of a multipart.
pub(crate) struct Sections<'a, 'b> {
    rest: &'a [u8],
    boundary: &'b [u8],
    pub(crate) closed: bool,
}

#[derive(PartialEq)]
enum Delimiter {
    No,
    Next,
    End,
}

impl<'a, 'b> Sections<'a, 'b> {
    /// Stands behind the first delimiter line.
    pub(crate) fn new(body: &'a [u8], boundary: &'b [u8]) -> Self {
        let mut sections = Self {
            rest: body,
            boundary,
            closed: false,
        };
        while !sections.rest.is_empty() {
            let (line, after) = split_line(sections.rest);
            sections.rest = after;
            if sections.delimiter(line) != Delimiter::No {
                break;
            }
        }
        sections
    }

    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        if self.closed || self.rest.is_empty() {
            return None;
        }
        let whole = self.rest;
        let mut length = 0;
        while !self.rest.is_empty() {
            let (line, after) = split_line(self.rest);
            self.rest = after;
            match self.delimiter(line) {
                Delimiter::No => length += line.len(),
                found => {
                    self.closed = found == Delimiter::End;
                    // The line end before a delimiter belongs to the delimiter.
                    return whole.get(..length).map(trim_line_end);
                }
            }
        }
        Some(whole)
    }

    fn delimiter(&self, line: &[u8]) -> Delimiter {
        let Some(tail) = line
            .strip_prefix(b"--")
            .and_then(|tail| tail.strip_prefix(self.boundary))
        else {
            return Delimiter::No;
        };
        let (tail, found) = match tail.strip_prefix(b"--") {
            Some(tail) => (tail, Delimiter::End),
            None => (tail, Delimiter::Next),
        };
        if tail.iter().all(u8::is_ascii_whitespace) {
            found
        } else {
            Delimiter::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(mail: &[u8]) -> (Vec<String>, Vec<String>) {
        let (headers, body) = Headers::split(mail);
        let mut walk = Walk::default();
        let root = walk.tree(headers, body);
        let mut shape = Vec::new();
        describe(&root, 0, &mut shape);
        let codes = walk.defects.into_iter().map(|defect| defect.code);
        (shape, codes.collect())
    }

    fn describe(part: &Part<'_>, depth: usize, out: &mut Vec<String>) {
        out.push(format!("{depth} {}", part.mime_type));
        for child in &part.children {
            describe(child, depth + 1, out);
        }
    }

    #[test]
    fn a_tree_is_read_although_its_end_is_missing() {
        let mail = b"Content-Type: multipart/mixed; boundary=a\n\npreamble\n--a\n\nhi\n--a\nContent-Type: multipart/alternative; boundary=ab\n\n--ab\nContent-Type: text/html\n\n<p>\n--a\nContent-Type: image/png\n\nx\n";
        let (shape, defects) = tree(mail);
        assert_eq!(
            shape,
            [
                "0 multipart/mixed",
                "1 text/plain",
                "1 multipart/alternative",
                "2 text/html",
                "1 image/png"
            ]
        );
        assert_eq!(defects, ["open_boundary"]);
    }

    #[test]
    fn a_bomb_of_parts_or_depth_is_cut() {
        let mut wide = b"Content-Type: multipart/mixed; boundary=a\n\n".to_vec();
        for _ in 0..5_000 {
            wide.extend_from_slice(b"--a\n\nx\n");
        }
        let (shape, defects) = tree(&wide);
        assert_eq!(shape.len(), PARTS_MAX);
        assert!(defects.contains(&"too_many_parts".to_owned()));

        let mut deep = Vec::new();
        for level in 0..5_000 {
            deep.extend_from_slice(
                format!("Content-Type: multipart/mixed; boundary=b{level}\n\n--b{level}\n")
                    .as_bytes(),
            );
        }
        let (shape, defects) = tree(&deep);
        assert_eq!(shape.len(), DEPTH_MAX + 1);
        assert!(defects.contains(&"too_deep".to_owned()));
    }

    #[test]
    fn transfer_encodings_are_undone_leniently() {
        assert_eq!(decode_base64(b"aGVs\r\nbG8*="), b"hello");
        assert_eq!(decode_base64(b"aGk=aGk="), b"hihi");
        assert_eq!(decode_base64(b"aA==\r\naGk=\r\n"), b"hhi");
        assert_eq!(
            decode_base64(b"aGk=\r\n\r\nScanned by nobody, 4 you\r\n"),
            b"hi"
        );
        assert_eq!(
            decode_quoted_printable(b"a=3Db=\r\nc =\nd=zz=e9"),
            b"a=bc d=zz\xe9"
        );
        assert_eq!(decode_quoted_printable(b"end="), b"end");
    }
}
