//! Posted forms as fields of bytes: `multipart/form-data` (RFC 7578) in slices of the body, and
//! `application/x-www-form-urlencoded`. Nothing is decoded to text here: SendGrid names the charset
//! of each field in another field.

use connector_api::Bytes;
use percent_encoding::percent_decode;

use crate::parse::headers::{Headers, split_line, trim_line_end};
use crate::parse::mime::{Sections, split_part};

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

impl Form {
    /// Reads a body of the kind that `content_type` names; `None` when it is no form.
    pub(crate) fn read(content_type: &str, body: &Bytes) -> Option<Self> {
        let line = format!("Content-Type: {content_type}\n\n");
        let (headers, _) = Headers::split(line.as_bytes());
        let declared = headers.first("content-type")?.parameterised()?;
        let sub = declared.sub.as_deref().unwrap_or_default();
        let is = |main: &str, wanted: &str| {
            declared.main.eq_ignore_ascii_case(main) && sub.eq_ignore_ascii_case(wanted)
        };
        if is("multipart", "form-data") {
            return Self::multipart(&declared.parameter("boundary")?, body);
        }
        is("application", "x-www-form-urlencoded").then(|| Self::urlencoded(body))
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
        (is_form && body.contains(&b'=')).then(|| Self::urlencoded(body))
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
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        let mut sections = Sections::new(body, boundary.as_bytes());
        let mut form = Self::default();
        while let Some(section) = sections.next() {
            if form.fields.len() >= FIELDS_MAX {
                return None;
            }
            let (headers, content) = split_part(section);
            let disposition = headers.first("content-disposition");
            let disposition = disposition.and_then(|field| field.parameterised());
            let Some(name) = disposition.as_ref().and_then(|it| it.parameter("name")) else {
                continue;
            };
            form.fields.push(Field {
                name,
                file_name: disposition.and_then(|it| it.parameter("filename")),
                content_type: headers.text("content-type"),
                bytes: body.slice_ref(content),
            });
        }
        // A body that was cut off is not what was posted.
        (sections.closed && !form.fields.is_empty()).then_some(form)
    }

    fn urlencoded(body: &Bytes) -> Self {
        let pairs = body
            .trim_ascii_end()
            .split(|&byte| byte == b'&')
            .filter(|pair| !pair.is_empty())
            .take(FIELDS_MAX);
        let field = |pair: &[u8]| {
            let at = pair.iter().position(|&byte| byte == b'=');
            let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
            Field {
                name: String::from_utf8_lossy(&decoded(name)).into_owned(),
                file_name: None,
                content_type: None,
                bytes: decoded(value.strip_prefix(b"=").unwrap_or_default()).into(),
            }
        };
        Self {
            fields: pairs.map(field).collect(),
        }
    }
}

fn decoded(value: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = value
        .iter()
        .map(|&byte| if byte == b'+' { b' ' } else { byte })
        .collect();
    percent_decode(&spaced).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(content_type: &str, body: &'static [u8], expected: &[(&str, &[u8])]) {
        let body = Bytes::from_static(body);
        let form = Form::read(content_type, &body).unwrap();
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
        assert!(Form::read("multipart/form-data; boundary=b", &body).is_none());
        assert!(Form::read("multipart/form-data", &body).is_none());
        assert!(Form::read("text/plain", &body).is_none());
        assert!(Form::guess(&Bytes::from_static(b"From: a@b\r\n\r\nx=y")).is_none());
    }
}
