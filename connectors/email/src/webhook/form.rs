//! Posted forms as fields of bytes: `multipart/form-data` (RFC 7578) in slices of the body, and
//! `application/x-www-form-urlencoded`. Nothing is decoded to text here: SendGrid names the charset
//! of each field in another field.

use std::borrow::Cow;
use std::ops::Range;

use connector_api::Bytes;

use crate::parse::headers::{Headers, split_line, trim_line_end};
use crate::parse::mime::{Sections, split_part};
use crate::webhook::in_place::{owned, percent_decoded, unpercent};

/// Most fields of one form; the mails of services have some 30, and one for each attachment.
const FIELDS_MAX: usize = 1_000;

/// Longest boundary (RFC 2046, section 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) file_name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Default)]
pub(crate) struct Form {
    pub(crate) fields: Vec<Field>,
}

/// A form as it was posted, of which nothing is decoded: what is to be checked before it is read.
pub(crate) struct Posted<'a> {
    pub(crate) fields: Vec<(String, Value<'a>)>,
}

/// A field's value as it was posted.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    bytes: &'a [u8],
    is_encoded: bool,
}

/// How a form is written.
enum Written {
    Multipart { boundary: String },
    Urlencoded,
}

impl Form {
    /// Reads a body of the kind that `content_type` names; `None` when it is no form.
    pub(crate) fn read(content_type: &str, body: Bytes) -> Option<Self> {
        match Written::of(content_type)? {
            Written::Multipart { boundary } => Self::multipart(&boundary, &body),
            Written::Urlencoded => Some(Self::urlencoded(body)),
        }
    }

    /// Reads a captured body by what it looks like.
    pub(crate) fn guess(body: &Bytes) -> Option<Self> {
        let (first, _) = split_line(body);
        let first = trim_line_end(first);
        if let Some(boundary) = first.strip_prefix(b"--") {
            return Self::multipart(std::str::from_utf8(boundary).ok()?, body);
        }
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.*+%=&".contains(byte);
        let is_form = !body.is_empty() && body.trim_ascii_end().iter().all(is_plain);
        (is_form && body.contains(&b'=')).then(|| Self::urlencoded(body.clone()))
    }

    pub(crate) fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.name == name)
    }

    pub(crate) fn bytes(&self, name: &str) -> Option<&Bytes> {
        self.field(name).map(|field| &field.bytes)
    }

    /// The field as text where it is UTF-8 and not blank.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let text = std::str::from_utf8(self.bytes(name)?).ok()?.trim();
        (!text.is_empty()).then_some(text)
    }

    fn multipart(boundary: &str, body: &Bytes) -> Option<Self> {
        let fields = parts(boundary, body)?.into_iter().map(|part| Field {
            name: part.name,
            file_name: part.file_name,
            content_type: part.content_type,
            bytes: body.slice_ref(part.content),
        });
        Some(Self {
            fields: fields.collect(),
        })
    }

    /// Decoded in place: a mail in such a form is nearly all of it.
    fn urlencoded(body: Bytes) -> Self {
        let places: Vec<(String, Range<usize>)> = pairs(&body)
            .map(|(name, value)| {
                let start = value.as_ptr().addr() - body.as_ptr().addr();
                (name, start..start + value.len())
            })
            .collect();
        let mut body = owned(body);
        let decoded = |(name, place): (String, Range<usize>)| {
            let length = body.get_mut(place.clone()).map_or(0, unpercent);
            (name, place.start..place.start + length)
        };
        let places: Vec<(String, Range<usize>)> = places.into_iter().map(decoded).collect();
        let body = body.freeze();
        let field = |(name, place)| Field {
            name,
            file_name: None,
            content_type: None,
            bytes: body.slice(place),
        };
        Self {
            fields: places.into_iter().map(field).collect(),
        }
    }
}

impl<'a> Posted<'a> {
    /// Reads a body of the kind that `content_type` names; `None` when it is no form.
    pub(crate) fn read(content_type: &str, body: &'a [u8]) -> Option<Self> {
        let value = |bytes, is_encoded| Value { bytes, is_encoded };
        let fields = match Written::of(content_type)? {
            Written::Multipart { boundary } => {
                let parts = parts(&boundary, body)?.into_iter();
                parts
                    .map(|it| (it.name, value(it.content, false)))
                    .collect()
            }
            Written::Urlencoded => pairs(body)
                .map(|(name, bytes)| (name, value(bytes, true)))
                .collect(),
        };
        Some(Self { fields })
    }

    /// The field as text where it is UTF-8, not blank and not longer than `bytes_max`.
    pub(crate) fn text(&self, name: &str, bytes_max: usize) -> Option<String> {
        let (_, value) = self.fields.iter().find(|(known, _)| known == name)?;
        let bytes: Vec<u8> = value
            .pieces()
            .take(bytes_max / PIECE_BYTES + 1)
            .flat_map(Cow::into_owned)
            .collect();
        if bytes.len() > bytes_max {
            return None;
        }
        let text = String::from_utf8(bytes).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// How much of a value is decoded at once, in bytes of the result.
const PIECE_BYTES: usize = 16 * 1024;

impl<'a> Value<'a> {
    /// The value decoded, piece by piece.
    pub(crate) fn pieces(self) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if !self.is_encoded {
                return Some(Cow::Borrowed(std::mem::take(&mut rest)));
            }
            let mut piece = Vec::with_capacity(rest.len().min(PIECE_BYTES));
            while piece.len() < PIECE_BYTES
                && let Some((byte, length)) = percent_decoded(rest)
            {
                piece.push(byte);
                rest = rest.get(length..).unwrap_or_default();
            }
            Some(Cow::Owned(piece))
        })
    }
}

impl Written {
    fn of(content_type: &str) -> Option<Self> {
        let line = format!("Content-Type: {content_type}\n\n");
        let (headers, _) = Headers::split(line.as_bytes());
        let declared = headers.first("content-type")?.parameterised()?;
        let sub = declared.sub.as_deref().unwrap_or_default();
        let is = |main: &str, wanted: &str| {
            declared.main.eq_ignore_ascii_case(main) && sub.eq_ignore_ascii_case(wanted)
        };
        if is("multipart", "form-data") {
            let boundary = declared.parameter("boundary")?;
            return Some(Self::Multipart { boundary });
        }
        is("application", "x-www-form-urlencoded").then_some(Self::Urlencoded)
    }
}

struct FormPart<'a> {
    name: String,
    file_name: Option<String>,
    content_type: Option<String>,
    content: &'a [u8],
}

fn parts<'a>(boundary: &str, body: &'a [u8]) -> Option<Vec<FormPart<'a>>> {
    if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
        return None;
    }
    let mut sections = Sections::new(body, boundary.as_bytes());
    let mut parts = Vec::new();
    while let Some(section) = sections.next() {
        if parts.len() >= FIELDS_MAX {
            return None;
        }
        let (headers, content) = split_part(section);
        let disposition = headers.first("content-disposition");
        let disposition = disposition.and_then(|field| field.parameterised());
        let Some(name) = disposition.as_ref().and_then(|it| it.parameter("name")) else {
            continue;
        };
        parts.push(FormPart {
            name,
            file_name: disposition.and_then(|it| it.parameter("filename")),
            content_type: headers.text("content-type"),
            content,
        });
    }
    // A body that was cut off is not what was posted.
    (sections.closed && !parts.is_empty()).then_some(parts)
}

/// The names of an urlencoded form, decoded, and its values, which are not.
fn pairs(body: &[u8]) -> impl Iterator<Item = (String, &[u8])> {
    let pairs = body
        .trim_ascii_end()
        .split(|&byte| byte == b'&')
        .filter(|pair| !pair.is_empty())
        .take(FIELDS_MAX);
    pairs.map(|pair| {
        let at = pair.iter().position(|&byte| byte == b'=');
        let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
        let mut name = name.to_vec();
        let length = unpercent(&mut name);
        name.truncate(length);
        let value = value.strip_prefix(b"=").unwrap_or(value);
        (String::from_utf8_lossy(&name).into_owned(), value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, body: &'static [u8], expected: &[(&str, &[u8])]) {
        let body = Bytes::from_static(body);
        let form = Form::read(content_type, body.clone()).unwrap();
        let found: Vec<(&str, &[u8])> = form
            .fields
            .iter()
            .map(|field| (field.name.as_str(), field.bytes.as_ref()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn fields_are_the_bytes_between_the_delimiters() {
        check(
            "multipart/form-data; boundary=\"b\"",
            b"--b\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\na\xfc\r\n--c\r\n\r\n--b\r\nContent-Disposition: form-data; name=empty\r\n\r\n\r\n--b--\r\n",
            &[("text", b"a\xfc\r\n--c\r\n"), ("empty", b"")],
        );
        check(
            "application/x-www-form-urlencoded; charset=utf-8",
            b"a=1+2%203&b&c=%3D%fc=\r\n",
            &[("a", b"1 2 3"), ("b", b""), ("c", b"=\xfc=")],
        );
    }

    #[test]
    fn what_is_cut_off_or_no_form_is_none() {
        let body = Bytes::from_static(b"--b\r\nContent-Disposition: form-data; name=a\r\n\r\n1");
        assert!(Form::read("multipart/form-data; boundary=b", body.clone()).is_none());
        assert!(Form::read("multipart/form-data", body.clone()).is_none());
        assert!(Form::read("text/plain", body).is_none());
        assert!(Form::guess(&Bytes::from_static(b"From: a@b\r\n\r\nx=y")).is_none());
    }
}
