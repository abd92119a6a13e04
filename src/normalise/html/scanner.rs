//! Splits HTML into tags and text, forgiving as browsers are, in linear time whatever comes.

use super::entities;

pub enum Token<'a> {
    Text(&'a str),
    Tag(Tag<'a>),
}

pub struct Tag<'a> {
    /// In lower case.
    pub name: String,
    pub closing: bool,
    pub self_closing: bool,
    attributes: &'a str,
}

/// Elements whose content is not text for people.
const SKIPPED: &[&str] = &[
    "script", "style", "template", "xml", "noscript", "svg", "object",
];

pub struct Scanner<'a> {
    rest: &'a str,
    /// Set once a search for the end of something ran to the end of the input in vain, so that it
    /// is not repeated for every next start.
    quotes_unreliable: bool,
    comments_unreliable: bool,
    unclosed: Vec<String>,
    /// Bytes from the last `>` to the end of the input.
    behind_last_end: Option<usize>,
}

impl<'a> Scanner<'a> {
    pub fn new(html: &'a str) -> Self {
        Self {
            rest: html,
            behind_last_end: html.rfind('>').map(|at| html.len() - at),
            quotes_unreliable: false,
            comments_unreliable: false,
            unclosed: Vec::new(),
        }
    }

    /// Takes the first `bytes` off the input.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at_checked(bytes).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn an_end_follows(&self) -> bool {
        self.behind_last_end
            .is_some_and(|bytes| self.rest.len() >= bytes)
    }

    /// Skips a comment, a doctype or a processing instruction.
    fn skip_declaration(&mut self) {
        if self.rest.starts_with("<!--") && !self.comments_unreliable {
            match self.rest.find("-->") {
                Some(end) => {
                    self.take(end + 3);
                    return;
                }
                None => self.comments_unreliable = true,
            }
        }
        let end = self.rest.find('>').map_or(self.rest.len(), |end| end + 1);
        self.take(end);
    }

    fn tag(&mut self) -> Option<Tag<'a>> {
        let end = self.tag_end()?;
        let inner = self.take(end + 1);
        let inner = inner.strip_prefix('<')?.strip_suffix('>')?;
        let (closing, inner) = match inner.strip_prefix('/') {
            Some(inner) => (true, inner),
            None => (false, inner),
        };
        let name_end = inner
            .find(|c: char| c.is_whitespace() || c == '/')
            .unwrap_or(inner.len());
        let (name, attributes) = inner.split_at_checked(name_end)?;
        let tag = Tag {
            name: name.to_ascii_lowercase(),
            closing,
            self_closing: attributes.ends_with('/') || is_void(name),
            attributes,
        };
        if !closing && !attributes.ends_with('/') && SKIPPED.contains(&tag.name.as_str()) {
            self.skip_content(&tag.name);
        }
        Some(tag)
    }

    /// Where the `>` is that ends the tag at the start of the input.
    fn tag_end(&mut self) -> Option<usize> {
        if !self.quotes_unreliable {
            let mut quote = None;
            for (at, byte) in self.rest.bytes().enumerate() {
                match (quote, byte) {
                    (None, b'>') => return Some(at),
                    (None, b'"' | b'\'') => quote = Some(byte),
                    (Some(open), _) if open == byte => quote = None,
                    _ => {}
                }
            }
            self.quotes_unreliable = true;
        }
        self.rest.find('>')
    }

    fn skip_content(&mut self, name: &str) {
        if self.unclosed.iter().any(|unclosed| unclosed == name) {
            return;
        }
        let bytes = self.rest.as_bytes();
        let closes = |at: usize| {
            bytes.get(at..at + 2) == Some(b"</".as_slice())
                && bytes
                    .get(at + 2..at + 2 + name.len())
                    .is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
        };
        match (0..bytes.len()).find(|&at| closes(at)) {
            Some(end) => {
                self.take(end);
            }
            None => self.unclosed.push(name.to_owned()),
        }
    }
}

impl<'a> Iterator for Scanner<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            let mut after = self.rest.bytes();
            match (after.next(), after.next(), after.next()) {
                (None, ..) => return None,
                (Some(b'<'), Some(b'!' | b'?'), _) if self.an_end_follows() => {
                    self.skip_declaration();
                }
                (Some(b'<'), Some(b'/'), Some(letter)) | (Some(b'<'), Some(letter), _)
                    if letter.is_ascii_alphabetic() =>
                {
                    match self.tag() {
                        Some(tag) => return Some(Token::Tag(tag)),
                        // No tag ends any more: the rest is text.
                        None => return Some(Token::Text(self.take(self.rest.len()))),
                    }
                }
                _ => {
                    let end = self.rest.bytes().skip(1).position(|byte| byte == b'<');
                    let length = end.map_or(self.rest.len(), |end| end + 1);
                    return Some(Token::Text(self.take(length)));
                }
            }
        }
    }
}

impl Tag<'_> {
    /// The decoded value of an attribute; its name in lower case.
    pub fn attribute(&self, wanted: &str) -> Option<String> {
        let mut rest = self.attributes;
        loop {
            rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '/');
            if rest.is_empty() {
                return None;
            }
            let name_end = rest
                .find(|c: char| c == '=' || c.is_whitespace())
                .unwrap_or(rest.len());
            let (name, behind) = rest.split_at_checked(name_end.max(1))?;
            let Some(value) = behind.trim_start().strip_prefix('=') else {
                rest = behind;
                continue;
            };
            let value = value.trim_start();
            let (value, behind) = match value.chars().next() {
                Some(quote @ ('"' | '\'')) => {
                    let inner = value.strip_prefix(quote)?;
                    inner.split_once(quote).unwrap_or((inner, ""))
                }
                _ => {
                    let end = value.find(char::is_whitespace).unwrap_or(value.len());
                    value.split_at_checked(end)?
                }
            };
            if name.eq_ignore_ascii_case(wanted) {
                return Some(entities::decode(value).into_owned());
            }
            rest = behind;
        }
    }
}

fn is_void(name: &str) -> bool {
    const VOID: &[&str] = &[
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr",
    ];
    VOID.iter().any(|void| void.eq_ignore_ascii_case(name))
}
