//! Turns the HTML of a message into readable text in one pass over the tags. There is no tree, so
//! depth costs nothing and damaged markup cannot hurt; quotations come out as `> ` lines, which
//! the reply split understands.

mod entities;
mod scanner;
mod writer;

use scanner::{Scanner, Tag, Token};
use writer::Writer;

/// Larger HTML is cut before it is read.
pub const HTML_BYTES_MAX: usize = 1024 * 1024;
/// Quotations inside quotations beyond this are shown at this depth.
const QUOTE_DEPTH_MAX: usize = 8;
/// Quote containers open at once; deeper ones are inside a quote already.
const CONTAINERS_MAX: usize = 16;
/// Longest link kept beside its words, in bytes: tracking links are longer and say nothing.
const LINK_BYTES_MAX: usize = 300;

/// Classes and ids of the elements that mail programs put what they answer into.
const QUOTE_CONTAINERS: &[&str] = &[
    "yahoo_quoted",
    "olk_src_body_section",
    "mail-editor-reference-message-container",
    "protonmail_quote",
    "zmail_extra",
    "cite-block",
];

/// The readable text of `html`.
pub fn to_text(html: &str) -> String {
    let mut renderer = Renderer::default();
    for token in Scanner::new(cut(html)) {
        match token {
            Token::Text(text) => renderer.writer.text(&entities::decode(text)),
            Token::Tag(tag) if tag.closing => renderer.close(&tag),
            Token::Tag(tag) => renderer.open(&tag),
        }
    }
    renderer.finish()
}

/// The part of `html` that is read; it does not end inside a tag.
fn cut(html: &str) -> &str {
    if html.len() <= HTML_BYTES_MAX {
        return html;
    }
    let mut end = HTML_BYTES_MAX;
    while !html.is_char_boundary(end) {
        end -= 1;
    }
    let kept = html.get(..end).unwrap_or_default();
    match (kept.rfind('<'), kept.rfind('>')) {
        (Some(open), close) if close.is_none_or(|close| close < open) => {
            kept.get(..open).unwrap_or_default()
        }
        _ => kept,
    }
}

#[derive(Default)]
struct Renderer {
    writer: Writer,
    /// For every open blockquote whether it is a quotation; others only indent.
    blockquotes: Vec<bool>,
    quotations: usize,
    /// Open quote containers: element name, and how many of that name are open inside it.
    containers: Vec<(String, usize)>,
    link: Option<Link>,
}

struct Link {
    url: String,
    /// Where its words start in the text.
    from: usize,
}

impl Renderer {
    fn open(&mut self, tag: &Tag<'_>) {
        self.track_container(tag);
        match tag.name.as_str() {
            "br" => self.writer.line_break(),
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "table" => {
                self.writer.block(paragraph_gap(tag));
            }
            "hr" => {
                self.writer.block(1);
                self.writer.raw("________");
                self.writer.block(1);
            }
            "li" => {
                self.writer.block(1);
                self.writer.raw("- ");
            }
            "td" | "th" => self.writer.space(),
            "pre" => {
                self.writer.block(1);
                self.writer.preformatted(true);
            }
            "blockquote" => {
                self.writer.block(1);
                let quotes = !is_indentation(tag);
                self.blockquotes.push(quotes);
                self.quotations += usize::from(quotes);
                self.update_depth();
            }
            "a" => {
                self.close_link();
                self.link = tag.attribute("href").and_then(|url| self.link_to(&url));
            }
            "img" => {
                if let Some(words) = tag
                    .attribute("alt")
                    .filter(|words| !words.trim().is_empty())
                {
                    self.writer.text(&words);
                }
            }
            name if is_block(name) => self.writer.block(1),
            _ => {}
        }
    }

    fn close(&mut self, tag: &Tag<'_>) {
        match tag.name.as_str() {
            "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "ul" | "ol" | "dl" | "table" => {
                self.writer.block(paragraph_gap(tag));
            }
            "pre" => {
                self.writer.preformatted(false);
                self.writer.block(1);
            }
            "blockquote" => {
                self.writer.block(1);
                let quoted = self.blockquotes.pop().unwrap_or(false);
                self.quotations -= usize::from(quoted);
                self.update_depth();
            }
            "a" => self.close_link(),
            name if is_block(name) => self.writer.block(1),
            _ => {}
        }
        self.leave_container(&tag.name);
    }

    fn finish(mut self) -> String {
        self.close_link();
        self.writer.finish()
    }

    fn track_container(&mut self, tag: &Tag<'_>) {
        if tag.self_closing {
            return;
        }
        for (name, open) in &mut self.containers {
            *open += usize::from(*name == tag.name);
        }
        if self.containers.len() < CONTAINERS_MAX && is_quote_container(tag) {
            self.writer.block(1);
            self.containers.push((tag.name.clone(), 1));
            self.update_depth();
        }
    }

    fn leave_container(&mut self, closed: &str) {
        for (name, open) in &mut self.containers {
            *open -= usize::from(name == closed);
        }
        let before = self.containers.len();
        self.containers.retain(|(_, open)| *open > 0);
        if self.containers.len() != before {
            self.writer.block(1);
            self.update_depth();
        }
    }

    fn update_depth(&mut self) {
        let depth = self.quotations + self.containers.len();
        self.writer.quote_depth(depth.min(QUOTE_DEPTH_MAX));
    }

    fn link_to(&mut self, url: &str) -> Option<Link> {
        let url = url.trim();
        let scheme = ["http://", "https://", "mailto:", "tel:"];
        let kept = scheme.iter().any(|scheme| {
            url.get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        let from = self.writer.length();
        (kept && url.len() <= LINK_BYTES_MAX).then(|| Link {
            url: url.to_owned(),
            from,
        })
    }

    /// Adds a link's address behind its words, unless the words say it.
    fn close_link(&mut self) {
        let Some(Link { url, from }) = self.link.take() else {
            return;
        };
        let words = self.writer.written_since(from).trim().to_lowercase();
        let address = ["mailto:", "tel:"]
            .iter()
            .find_map(|scheme| url.strip_prefix(scheme));
        let shown = match address {
            // An address or number as the words is the one that was meant to be seen.
            Some(_) if words.contains('@') || words.chars().any(|c| c.is_ascii_digit()) => None,
            Some(address) => address.split('?').next(),
            None if words.is_empty() || says(&words, &url) => None,
            None => Some(url.as_str()),
        };
        if let Some(shown) = shown {
            self.writer.raw(&format!(" <{shown}>"));
        }
    }
}

fn says(words: &str, url: &str) -> bool {
    let bare = |text: &str| {
        let text = text.to_lowercase();
        let text = text
            .trim_start_matches("https://")
            .trim_start_matches("http://");
        text.trim_start_matches("www.")
            .trim_end_matches('/')
            .to_owned()
    };
    bare(words) == bare(url)
}

/// Word's paragraphs have no space between them; empty ones make the blank lines.
fn paragraph_gap(tag: &Tag<'_>) -> usize {
    match tag.attribute("class") {
        Some(class) if class.contains("MsoNormal") => 1,
        _ if tag.name == "p" || tag.name.starts_with('h') => 2,
        _ => 1,
    }
}

fn is_block(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "body"
            | "caption"
            | "center"
            | "dd"
            | "div"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "figure"
            | "footer"
            | "form"
            | "header"
            | "html"
            | "legend"
            | "main"
            | "nav"
            | "option"
            | "section"
            | "tbody"
            | "tfoot"
            | "thead"
            | "title"
            | "tr"
    )
}

fn is_quote_container(tag: &Tag<'_>) -> bool {
    if !matches!(
        tag.name.as_str(),
        "div" | "span" | "section" | "table" | "td"
    ) {
        return false;
    }
    let names = |attribute: &str| tag.attribute(attribute).unwrap_or_default().to_lowercase();
    let (class, id) = (names("class"), names("id"));
    QUOTE_CONTAINERS
        .iter()
        .any(|name| class.contains(name) || id.contains(name))
}

/// Gmail's "indent more" is a blockquote without a border; its words are the writer's.
fn is_indentation(tag: &Tag<'_>) -> bool {
    if tag.attribute("class").is_some() || tag.attribute("cite").is_some() {
        return false;
    }
    let style = tag.attribute("style").unwrap_or_default().to_lowercase();
    let style: String = style.chars().filter(|c| !c.is_whitespace()).collect();
    style.contains("margin:000") && style.contains("border:none")
}

#[cfg(test)]
mod tests;
