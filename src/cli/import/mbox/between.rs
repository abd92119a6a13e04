//! The line between two mails of an mbox, in the ways that programs write it: `From `, an address or
//! `-`, and a date as asctime(3) has it; with another date, or none; nothing at all behind `From `
//! (Thunderbird). What tells it from a sentence is the line that follows: a mail begins with a header.

/// What a line is by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// `From ` and a date as asctime(3) writes it: no sentence has that.
    Dated,
    /// It begins with `From `.
    Other,
    Text,
}

/// Reads a line from its beginning.
pub fn read(line: &[u8]) -> Line {
    match line.strip_prefix(b"From ") {
        Some(rest) if line.ends_with(b"\n") => match is_dated(rest) {
            true => Line::Dated,
            false => Line::Other,
        },
        _ => Line::Text,
    }
}

/// Whether a line is a header as RFC 5322 has it: a name of printable characters, and a colon. A mail
/// that came by UUCP begins with a quoted `From ` line.
pub fn is_header(line: &[u8]) -> bool {
    name(line).is_some() || line.starts_with(b">From ")
}

/// Whether a line is one of the headers that mails have: behind a sentence that begins with "From",
/// "Note:" begins no mail.
pub fn is_mail_header(line: &[u8]) -> bool {
    const NAMES: &str = "from to cc bcc subject date sender reply-to message-id in-reply-to references \
        received return-path delivered-to envelope-to delivery-date mime-version dkim-signature \
        domainkey-signature authentication-results status importance priority precedence comments \
        keywords organization user-agent";
    const FAMILIES: &str = "x- content- list- arc- resent- received- original- auto- thread-";
    name(line).is_some_and(|name| {
        let name = name.to_ascii_lowercase();
        let mut families = FAMILIES.split_whitespace();
        NAMES.split_whitespace().any(|known| known == name)
            || families.any(|begin| name.starts_with(begin))
    })
}

fn name(line: &[u8]) -> Option<&str> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
    let is_name = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
    str::from_utf8(name).ok().filter(|_| is_name)
}

fn is_dated(rest: &[u8]) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let rest = String::from_utf8_lossy(rest);
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let day = words
        .windows(2)
        .position(|pair| DAYS.contains(&pair[0]) && MONTHS.contains(&pair[1]));
    let is_time = |word: &str| {
        let parts: Vec<&str> = word.split(':').collect();
        let digits = |part: &&str| {
            (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        (2..=3).contains(&parts.len()) && parts.iter().all(digits)
    };
    let behind = day.and_then(|at| words.get(at + 2..)).unwrap_or_default();
    behind.iter().any(|word| is_time(word))
}
