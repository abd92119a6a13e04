//! What a file is: by its first bytes where they tell, and never what a browser would run.

/// First bytes, from an offset, and the type that has them.
const SIGNATURES: [(usize, &[u8], &str); 9] = [
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF87a", "image/gif"),
    (0, b"GIF89a", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"\x1f\x8b", "application/gzip"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"BM", "image/bmp"),
];
const UNKNOWN: &str = "application/octet-stream";
/// Longer types are nobody's.
const TYPE_CHARS_MAX: usize = 100;

/// The type of a file: what its bytes say, else what was declared unless its bytes would say so.
pub fn sniffed(head: &[u8], declared: &str) -> String {
    let declared = declared.split(';').next().unwrap_or_default().trim();
    let declared = declared.to_ascii_lowercase();
    let matches = |(at, bytes, _): &&(usize, &[u8], &str)| {
        head.get(*at..).is_some_and(|rest| rest.starts_with(bytes))
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    let well_formed = declared.len() <= TYPE_CHARS_MAX
        && declared.split_once('/').is_some_and(|(kind, of)| {
            !kind.is_empty()
                && !of.is_empty()
                && declared.chars().all(|c| word(c) || c == '/')
                && !of.contains('/')
        });
    let said = SIGNATURES.iter().find(matches).map(|(_, _, said)| *said);
    let has_signature = SIGNATURES.iter().any(|(_, _, known)| *known == declared);
    match said {
        // Office documents are zip files; two letters are little proof.
        Some("application/zip" | "image/bmp") if well_formed && !has_signature => declared,
        Some(said) => said.to_owned(),
        None if has_signature || !well_formed => UNKNOWN.to_owned(),
        None => declared,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_more_than_words() {
        let word = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
        for (head, declared, expected) in [
            (&b"\x89PNG\r\n\x1a\n...."[..], "text/html", "image/png"),
            (b"<html><script>", "image/png", UNKNOWN),
            (b"%PDF-1.7", "", "application/pdf"),
            (b"PK\x03\x04....", word, word),
            (b"PK\x03\x04....", "image/png", "application/zip"),
            (b"RIFF....WEBPVP8 ", "image/jpeg", "image/webp"),
            (b"hello", "text/plain; charset=utf-8", "text/plain"),
            (b"BMW is a car", "Text/CSV", "text/csv"),
            (b"hello", "", UNKNOWN),
            (b"hello", "text/plain\r\nX: y", UNKNOWN),
            (b"hello", "a/b/c", UNKNOWN),
            (b"", "image/png", UNKNOWN),
        ] {
            assert_eq!(sniffed(head, declared), expected, "{declared}");
        }
    }
}
