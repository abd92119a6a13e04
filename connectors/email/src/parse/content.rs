//! What a mail says and carries: one text, one HTML body, the attachments.

use connector_api::{Attachment, AttachmentBody, Bytes};

use crate::parse::calendar;
use crate::parse::charset;
use crate::parse::headers::Headers;
use crate::parse::limits::TEXT_BYTES_MAX;
use crate::parse::mime::{Part, Walk};

/// The readable side of a mail.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// Empty when some of the mail is said in HTML only.
    pub(crate) text: String,
    pub(crate) html: Option<String>,
    pub(crate) attachments: Vec<Attachment>,
    /// What calendar parts say, in a few lines each.
    calendar_notes: Vec<String>,
    /// How much text there was, in bytes as they stand in the mail.
    text_bytes: usize,
    /// An attached mail, shown inside this one.
    pub(crate) has_attached_mail: bool,
}

/// Most calendar parts that are told in the text.
const CALENDAR_NOTES_MAX: usize = 5;

/// One stretch of the body: the same words as text, as HTML, or as both.
#[derive(Debug, Default)]
struct Segment {
    text: Option<String>,
    html: Option<String>,
}

/// Collects body and attachments of a tree.
pub(crate) fn read(root: &Part<'_>, walk: &mut Walk) -> Content {
    let mut content = Content::default();
    let mut segments = collect(root, &Context::default(), &mut content, walk);
    // Beside whatever words came with them, and for a text reader, too.
    let notes = std::mem::take(&mut content.calendar_notes).into_iter();
    segments.extend(notes.map(|note| Segment {
        text: Some(note),
        html: None,
    }));
    let has_html = segments.iter().any(|segment| segment.html.is_some());
    let is_all_text = segments.iter().all(|segment| segment.text.is_some());
    if is_all_text {
        let texts = segments
            .iter()
            .filter_map(|segment| segment.text.as_deref());
        content.text = join(texts, "\n");
    }
    if has_html {
        let html: Vec<String> = segments.into_iter().map(Segment::into_html).collect();
        content.html = Some(join(html.iter().map(String::as_str), "\n"));
    }
    content
}

#[derive(Debug, Clone, Default)]
struct Context {
    in_alternative: bool,
    in_related: bool,
    /// Behind the first part of the mail that can be shown.
    in_mixed_tail: bool,
}

fn collect(
    part: &Part<'_>,
    context: &Context,
    content: &mut Content,
    walk: &mut Walk,
) -> Vec<Segment> {
    match part.mime_type.as_str() {
        "multipart/alternative" => alternative(part, context, content, walk),
        mime_type if mime_type.starts_with("multipart/") && !part.children.is_empty() => {
            let is_related = mime_type == "multipart/related";
            let mut segments = Vec::new();
            for (at, child) in part.children.iter().enumerate() {
                let inner = Context {
                    in_alternative: context.in_alternative,
                    in_related: is_related && at > 0,
                    in_mixed_tail: context.in_mixed_tail || at > 0,
                };
                segments.extend(collect(child, &inner, content, walk));
            }
            segments
        }
        _ => leaf(part, context, content, walk).into_iter().collect(),
    }
}

/// The same content several times, the richest last (RFC 2046, section 5.1.4).
fn alternative(
    part: &Part<'_>,
    context: &Context,
    content: &mut Content,
    walk: &mut Walk,
) -> Vec<Segment> {
    let mut whole = Segment::default();
    for child in &part.children {
        let inner = Context {
            in_alternative: true,
            ..context.clone()
        };
        let segments = collect(child, &inner, content, walk);
        let texts: Vec<&str> = segments
            .iter()
            .filter_map(|one| one.text.as_deref())
            .collect();
        let has_html = segments.iter().any(|one| one.html.is_some());
        if !texts.is_empty() && (!has_html || whole.text.is_none()) {
            whole.text = Some(join(texts.into_iter(), "\n"));
        }
        if has_html {
            let html: Vec<String> = segments.into_iter().map(Segment::into_html).collect();
            whole.html = Some(join(html.iter().map(String::as_str), "\n"));
        }
    }
    if whole.text.is_none() && whole.html.is_none() {
        return Vec::new();
    }
    vec![whole]
}

fn leaf(
    part: &Part<'_>,
    context: &Context,
    content: &mut Content,
    walk: &mut Walk,
) -> Option<Segment> {
    if part.has_unknown_encoding() {
        walk.defect(
            "unknown_encoding",
            "a transfer encoding that does not exist",
        );
    }
    let is_body = is_body(part, context);
    if !is_body {
        if part.mime_type == "message/rfc822" {
            content.has_attached_mail = true;
        }
        let mut attachment = attachment(part, context);
        if part.mime_type == "text/calendar" {
            read_calendar(part, &mut attachment, content);
        }
        if is_tnef(&attachment) {
            let detail = "winmail.dat, a format of Outlook alone, is kept as a file and not read";
            walk.defect("tnef", detail);
        }
        content.attachments.push(attachment);
        return None;
    }
    let is_html = part.mime_type == "text/html";
    let left = TEXT_BYTES_MAX.saturating_sub(content.text_bytes);
    content.text_bytes += part.body.len();
    if part.body.len() > left {
        let detail = format!("only {TEXT_BYTES_MAX} bytes of text are read, the mail has them all");
        walk.defect("text_cut", detail);
    }
    let bytes = part.decoded_head(left);
    let declared = part
        .parameter("charset")
        .or_else(|| is_html.then(|| charset::html_charset(&bytes)).flatten());
    let decoded = charset::decode(&bytes, declared.as_deref());
    if decoded.repaired {
        walk.defect("charset_repaired", declared.unwrap_or_default());
    }
    let mut text = decoded.text;
    if text.contains('\0') {
        walk.defect("nul_bytes", "NUL bytes were removed from the text");
        text.retain(|c| c != '\0');
    }
    if text.contains('\r') {
        text = text.replace("\r\n", "\n").replace('\r', "\n");
    }
    if is_html {
        return Some(Segment {
            text: None,
            html: Some(text),
        });
    }
    let is_flowed = part
        .parameter("format")
        .is_some_and(|format| format.eq_ignore_ascii_case("flowed"));
    if is_flowed {
        let delsp = part.parameter("delsp");
        text = unflow(
            &text,
            delsp.is_some_and(|it| it.eq_ignore_ascii_case("yes")),
        );
    }
    Some(Segment {
        text: Some(text),
        html: None,
    })
}

fn is_body(part: &Part<'_>, context: &Context) -> bool {
    let is_text = matches!(part.mime_type.as_str(), "text/plain" | "text/html");
    if !is_text || part.is_disposition("attachment") {
        return false;
    }
    let has_name = part.file_name().is_some();
    // Outlook calls real files inline; some senders name the body itself.
    let is_first = !context.in_mixed_tail && part.disposition.is_none();
    !has_name || is_first || (context.in_alternative && part.disposition.is_none())
}

fn attachment(part: &Part<'_>, context: &Context) -> Attachment {
    let bytes = part.decoded();
    let content_id = part.headers.text("content-id");
    let content_id = content_id
        .map(|id| id.trim_matches(['<', '>', ' ']).to_owned())
        .filter(|id| !id.is_empty());
    let is_image = part.mime_type.starts_with("image/");
    let inline = !part.is_disposition("attachment")
        && ((content_id.is_some() && (context.in_related || is_image))
            || (part.is_disposition("inline") && is_image));
    let name = part
        .file_name()
        .or_else(|| attached_mail_name(part, &bytes));
    let size_bytes = u64::try_from(bytes.len()).ok();
    Attachment {
        name,
        content_type: part.mime_type.clone(),
        size_bytes,
        content_id,
        inline,
        body: AttachmentBody::Bytes(Bytes::from(bytes)),
    }
}

/// An invitation may come twice in one mail: as a part to be shown and as a file.
fn read_calendar(part: &Part<'_>, attachment: &mut Attachment, content: &mut Content) {
    if attachment.name.is_none() {
        attachment.name = Some("invite.ics".to_owned());
    }
    let AttachmentBody::Bytes(bytes) = &attachment.body else {
        return;
    };
    let text = charset::decode(bytes, part.parameter("charset").as_deref()).text;
    let notes = &mut content.calendar_notes;
    if let Some(note) = calendar::note(&text).filter(|note| !notes.contains(note))
        && notes.len() < CALENDAR_NOTES_MAX
    {
        notes.push(note);
    }
}

fn is_tnef(attachment: &Attachment) -> bool {
    let name = attachment.name.as_deref().unwrap_or_default();
    name.eq_ignore_ascii_case("winmail.dat")
        || ["application/ms-tnef", "application/vnd.ms-tnef"]
            .contains(&attachment.content_type.as_str())
}

/// Attached mails rarely have names; their subject says what they are.
fn attached_mail_name(part: &Part<'_>, bytes: &[u8]) -> Option<String> {
    if part.mime_type != "message/rfc822" {
        return None;
    }
    let (headers, _) = Headers::split(bytes);
    let subject: String = headers.text("subject")?.chars().take(100).collect();
    Some(format!("{subject}.eml"))
}

impl Segment {
    fn into_html(self) -> String {
        match self {
            Self {
                html: Some(html), ..
            } => html,
            Self { text, .. } => format!("<pre>{}</pre>", escape(&text.unwrap_or_default())),
        }
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn join<'a>(texts: impl Iterator<Item = &'a str>, between: &str) -> String {
    let texts: Vec<&str> = texts.filter(|text| !text.trim().is_empty()).collect();
    texts.join(between)
}

/// Joins soft-broken lines of `format=flowed` text (RFC 3676), never across quote depths and
/// never into a signature separator.
fn unflow(text: &str, delsp: bool) -> String {
    let mut out: Vec<String> = Vec::new();
    let mut open_depth = None;
    for line in text.split('\n') {
        let depth = line.chars().take_while(|&c| c == '>').count();
        let body: String = line.chars().skip(depth).collect();
        let body = body.strip_prefix(' ').unwrap_or(&body);
        let is_separator = body == "-- ";
        let is_soft = body.ends_with(' ') && !is_separator;
        let piece = match (is_soft && delsp, body.strip_suffix(' ')) {
            (true, Some(cut)) => cut,
            _ => body,
        };
        match out.last_mut() {
            Some(last) if open_depth == Some(depth) && !is_separator => last.push_str(piece),
            _ => {
                let quote = ">".repeat(depth);
                let space = if depth > 0 { " " } else { "" };
                out.push(format!("{quote}{space}{piece}"));
            }
        }
        open_depth = is_soft.then_some(depth);
    }
    out.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(mail: &str, text: &str, html: Option<&str>, attachments: &[&str]) {
        let (headers, body) = Headers::split(mail.as_bytes());
        let mut walk = Walk::default();
        let root = walk.tree(headers, body);
        let content = read(&root, &mut walk);
        let names: Vec<String> = content
            .attachments
            .iter()
            .map(|it| {
                format!(
                    "{}:{}:{}",
                    it.content_type,
                    it.name.as_deref().unwrap_or("-"),
                    it.inline
                )
            })
            .collect();
        assert_eq!(
            (content.text.trim(), content.html.as_deref().map(str::trim)),
            (text, html),
            "{mail}"
        );
        assert_eq!(names, attachments, "{mail}");
    }

    #[test]
    fn text_is_preferred_and_html_kept() {
        check("Subject: x\n\nplain", "plain", None, &[]);
        check("Content-Type: text/html\n\n<p>hi", "", Some("<p>hi"), &[]);
        check(
            "Content-Type: multipart/alternative; boundary=a\n\n--a\n\nhi\n--a\nContent-Type: text/html\n\n<p>hi\n--a--",
            "hi",
            Some("<p>hi"),
            &[],
        );
    }

    #[test]
    fn words_said_in_html_only_are_not_hidden_by_a_text_footer() {
        check(
            "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n\n<p>hi\n--a\n\nfooter\n--a--",
            "",
            Some("<p>hi\n<pre>footer</pre>"),
            &[],
        );
    }

    #[test]
    fn inline_images_and_files_are_told_apart() {
        check(
            "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/related; boundary=b\n\n--b\nContent-Type: text/html\n\n<img src=cid:1>\n--b\nContent-Type: image/png; name=logo.png\nContent-ID: <1>\n\nx\n--b--\n--a\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=\"../../etc/passwd\"\n\nx\n--a\nContent-Type: text/plain; name=log.txt\nContent-Disposition: inline\n\nlog\n--a--",
            "",
            Some("<img src=cid:1>"),
            &[
                "image/png:logo.png:true",
                "application/pdf:../../etc/passwd:false",
                "text/plain:log.txt:false",
            ],
        );
        check(
            "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/rfc822\n\nSubject: old mail\n\nx\n--a--",
            "",
            None,
            &["message/rfc822:old mail.eml:false"],
        );
    }

    #[test]
    fn flowed_text_is_joined() {
        check(
            "Content-Type: text/plain; format=flowed\n\none \ntwo\n> a \n> b\n-- \nAda",
            "one two\n> a b\n-- \nAda",
            None,
            &[],
        );
    }
}
