//! A mail put together from the fields that a service made of one, so that it goes the way of every
//! other mail. What cannot be had back is said in its defects; nothing in it is proof of its author.

use aws_lc_rs::digest;
use connector_api::{Bytes, Defect};

use crate::parse::headers::Headers;

/// Fields that describe the body as it was; the body written here is another one.
const OF_THE_BODY: [&str; 4] = [
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "mime-version",
];

/// Longest file name or content type written, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Room for the lines before and behind a part, in bytes.
const PART_HEAD_BYTES: usize = 1_024;

/// A mail in pieces.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    headers: Vec<u8>,
    names: Vec<String>,
    pub(crate) text: Option<Text>,
    pub(crate) html: Option<Text>,
    pub(crate) files: Vec<File>,
}

#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) bytes: Bytes,
    /// As declared by the service; UTF-8 where it says nothing.
    pub(crate) charset: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) name: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content_id: Option<String>,
    pub(crate) bytes: Bytes,
}

impl Pieces {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.names
            .iter()
            .any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Adds a header in one line, whatever its value holds; names that are none, and those that
    /// describe the lost body, are left out.
    pub(crate) fn header(&mut self, name: &str, value: &[u8]) {
        let is_name = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b':');
        let is_of_the_body = OF_THE_BODY.iter().any(|it| name.eq_ignore_ascii_case(it));
        if !is_name || is_of_the_body {
            return;
        }
        self.headers.extend_from_slice(name.as_bytes());
        self.headers.extend_from_slice(b": ");
        let one_line = value.trim_ascii().iter().map(|&byte| match byte {
            b'\r' | b'\n' | b'\0' => b' ',
            byte => byte,
        });
        self.headers.extend(one_line);
        self.headers.extend_from_slice(b"\r\n");
        self.names.push(name.to_owned());
    }

    /// The same, where no header of that name is there yet and there is a value.
    pub(crate) fn header_if_missing(&mut self, name: &str, value: Option<&[u8]>) {
        if let Some(value) = value.filter(|value| !value.trim_ascii().is_empty())
            && !self.has(name)
        {
            self.header(name, value);
        }
    }

    /// Adds every field of a header block as it stands, except those that describe the body.
    pub(crate) fn header_block(&mut self, block: &[u8]) {
        let (headers, _) = Headers::split(block);
        for field in headers.fields() {
            self.header(field.name, field.raw);
        }
    }

    /// The mail's bytes, the same for the same pieces, which are gone then.
    pub(crate) fn write(mut self) -> Bytes {
        let boundary = self.boundary();
        let inner = format!("{boundary}-text");
        let mut out = Mail(std::mem::take(&mut self.headers));
        let long = self.long().map(|bytes| bytes.len() + PART_HEAD_BYTES);
        out.0.reserve_exact(long.sum::<usize>() + PART_HEAD_BYTES);
        out.line("MIME-Version: 1.0");
        out.line(&format!(
            "Content-Type: multipart/mixed; boundary=\"{boundary}\""
        ));
        out.line("");
        match (&self.text, &self.html) {
            (Some(text), Some(html)) => {
                out.line(&format!("--{boundary}"));
                out.line(&format!(
                    "Content-Type: multipart/alternative; boundary=\"{inner}\""
                ));
                out.line("");
                out.text(&inner, "plain", text);
                out.text(&inner, "html", html);
                out.line(&format!("--{inner}--"));
            }
            (Some(text), None) => out.text(&boundary, "plain", text),
            (None, Some(html)) => out.text(&boundary, "html", html),
            (None, None) => {}
        }
        for file in &self.files {
            out.file(&boundary, file);
        }
        out.line(&format!("--{boundary}--"));
        out.0.into()
    }

    fn long(&self) -> impl Iterator<Item = &Bytes> {
        let texts = [&self.text, &self.html].into_iter().flatten();
        let texts = texts.map(|text| &text.bytes);
        texts.chain(self.files.iter().map(|file| &file.bytes))
    }

    /// A digest of all that stands between: nothing of it can hold its own digest.
    fn boundary(&self) -> String {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.headers);
        for bytes in self.long() {
            context.update(&bytes.len().to_be_bytes());
            context.update(bytes);
        }
        let digest = context.finish();
        let hex = digest.as_ref().iter().take(16);
        hex.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What every mail from fields says about itself.
pub(crate) fn defect(missing: &str) -> Defect {
    Defect::new(
        "rebuilt_from_fields",
        format!("the service gave fields and not the mail; missing: {missing}"),
    )
}

struct Mail(Vec<u8>);

impl Mail {
    fn line(&mut self, line: &str) {
        self.0.extend_from_slice(line.as_bytes());
        self.0.extend_from_slice(b"\r\n");
    }

    fn text(&mut self, boundary: &str, kind: &str, text: &Text) {
        let charset = text.charset.as_deref().unwrap_or("utf-8");
        let charset: String = charset
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.:".contains(*c))
            .take(NAME_CHARS_MAX)
            .collect();
        self.line(&format!("--{boundary}"));
        self.line(&format!("Content-Type: text/{kind}; charset=\"{charset}\""));
        self.line("Content-Transfer-Encoding: binary");
        self.line("");
        self.0.extend_from_slice(&text.bytes);
        self.line("");
    }

    fn file(&mut self, boundary: &str, file: &File) {
        let content_type = file.content_type.as_deref().unwrap_or_default();
        let content_type: String = content_type
            .chars()
            .take_while(|c| *c != ';')
            .filter(|c| c.is_ascii_alphanumeric() || "!#$&-^_.+/".contains(*c))
            .take(NAME_CHARS_MAX)
            .collect();
        let content_type = match content_type.contains('/') {
            true => content_type,
            false => "application/octet-stream".to_owned(),
        };
        self.line(&format!("--{boundary}"));
        self.line(&format!("Content-Type: {content_type}"));
        self.line("Content-Transfer-Encoding: binary");
        let kind = match &file.content_id {
            Some(_) => "inline",
            None => "attachment",
        };
        let name = file.name.as_deref().map(quoted);
        let name = name.map(|name| format!("; filename={name}"));
        self.line(&format!(
            "Content-Disposition: {kind}{}",
            name.unwrap_or_default()
        ));
        if let Some(id) = &file.content_id {
            let id: String = id
                .chars()
                .filter(|c| !c.is_control() && !matches!(c, '<' | '>'))
                .take(NAME_CHARS_MAX)
                .collect();
            self.line(&format!("Content-ID: <{}>", id.trim()));
        }
        self.line("");
        self.0.extend_from_slice(&file.bytes);
        self.line("");
    }
}

/// A quoted string (RFC 5322, section 3.2.4), in UTF-8.
fn quoted(name: &str) -> String {
    let mut out = String::from('"');
    for c in name
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS_MAX)
    {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}
