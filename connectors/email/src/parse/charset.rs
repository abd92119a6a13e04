//! Bytes to text when the declared charset is missing, unknown or a lie.

use mail_parser::decoders::charsets::map::charset_decoder;

/// Text, and whether the declaration had to be overruled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) text: String,
    pub(crate) repaired: bool,
}

/// Decodes by the first that fits: a declared charset that hides in 7 bits or in wide units,
/// strict UTF-8, the declared charset, windows-1252 (which reads anything).
pub(crate) fn decode(bytes: &[u8], declared: Option<&str>) -> Decoded {
    let declared = declared.map(alias).filter(|name| !name.is_empty());
    let is_utf8 = declared
        .as_deref()
        .is_none_or(|name| matches!(name, "utf-8" | "utf8" | "us-ascii" | "ascii"));
    if let Some(name) = &declared
        && hides_in_ascii(name)
        && let Some(decoder) = charset_decoder(name.as_bytes())
    {
        return clean(decoder(bytes), false);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let repaired = !is_utf8 && !bytes.is_ascii();
        return clean(text.trim_start_matches('\u{feff}').to_owned(), repaired);
    }
    if let Some(name) = &declared
        && !is_utf8
        && let Some(decoder) = charset_decoder(name.as_bytes())
    {
        let text = decoder(bytes);
        if !text.contains('\u{fffd}') {
            return clean(text, false);
        }
        // Truncated at one place, the declared charset still reads better than a guess.
        if text.matches('\u{fffd}').count() * 20 < text.chars().count() {
            return clean(text, true);
        }
    }
    if is_utf8 && declared.is_some() {
        // Mostly UTF-8 with a few broken bytes: a cut multi-byte character, not another charset.
        let lossy = String::from_utf8_lossy(bytes);
        let broken = lossy.matches('\u{fffd}').count();
        let wide = lossy.chars().filter(|c| !c.is_ascii()).count();
        if broken * 4 < wide {
            return clean(lossy.into_owned(), true);
        }
    }
    clean(windows_1252(bytes), true)
}

/// The charset named in the first bytes of an HTML document.
pub(crate) fn html_charset(bytes: &[u8]) -> Option<String> {
    let head = bytes.get(..bytes.len().min(1024))?;
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (_, rest) = head.split_once("charset=")?;
    let name: String = rest
        .trim_start_matches(['"', '\''])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .collect();
    (!name.is_empty()).then_some(name)
}

/// What mail calls a charset, as the superset that senders really use (WHATWG does the same).
fn alias(declared: &str) -> String {
    let name = declared
        .trim()
        .trim_matches(['"', '\''])
        .to_ascii_lowercase();
    match name.as_str() {
        "iso-8859-1" | "latin1" | "iso8859-1" => "windows-1252".to_owned(),
        "gb2312" | "gbk" | "x-gbk" => "gb18030".to_owned(),
        "ks_c_5601-1987" | "ks_c_5601" | "cp949" => "euc-kr".to_owned(),
        "x-sjis" | "cp932" | "windows-31j" => "shift_jis".to_owned(),
        // UTF-7 can spell markup in innocent bytes; it is read as what it looks like.
        "utf-7" | "unicode-1-1-utf-7" => String::new(),
        _ => name,
    }
}

/// Charsets whose bytes look like ASCII or contain NULs, so that UTF-8 would "fit".
fn hides_in_ascii(name: &str) -> bool {
    name.starts_with("iso-2022-") || name.starts_with("utf-16") || name == "hz-gb-2312"
}

fn windows_1252(bytes: &[u8]) -> String {
    match charset_decoder(b"windows-1252") {
        Some(decoder) => decoder(bytes),
        None => bytes.iter().map(|&byte| char::from(byte)).collect(),
    }
}

fn clean(text: String, repaired: bool) -> Decoded {
    Decoded { text, repaired }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], declared: Option<&str>, text: &str, repaired: bool) {
        let expected = Decoded {
            text: text.to_owned(),
            repaired,
        };
        assert_eq!(decode(bytes, declared), expected, "{declared:?}");
    }

    #[test]
    fn the_bytes_decide_when_the_declaration_lies() {
        check("Grüße".as_bytes(), Some("utf-8"), "Grüße", false);
        check("Grüße".as_bytes(), None, "Grüße", false);
        check("Grüße".as_bytes(), Some("iso-8859-1"), "Grüße", true);
        check(b"Gr\xfc\xdfe", Some("iso-8859-1"), "Grüße", false);
        check(b"Gr\xfc\xdfe", Some("utf-8"), "Grüße", true);
        check(b"Gr\xfc\xdfe", Some("x-unknown"), "Grüße", true);
        check(b"Gr\xfc\xdfe", None, "Grüße", true);
        check(b"price \x80 5", Some("iso-8859-1"), "price € 5", false);
        check(b"\x82\xb1\x82\xf1", Some("shift_jis"), "こん", false);
        check(b"\x1b$B$3$s\x1b(B", Some("ISO-2022-JP"), "こん", false);
        check(b"h\0i\0", Some("utf-16le"), "hi", false);
        check(b"\xc4\xe3\xba\xc3", Some("gb2312"), "你好", false);
    }

    #[test]
    fn a_cut_character_does_not_turn_the_rest_into_another_charset() {
        let mut bytes = "Ünïcödé über alles".as_bytes().to_vec();
        bytes.push(0xc3);
        let decoded = decode(&bytes, Some("utf-8"));
        assert!(decoded.text.starts_with("Ünïcödé"), "{decoded:?}");
        assert!(decoded.repaired);
    }

    #[test]
    fn html_may_name_its_charset_itself() {
        let html = b"<html><meta http-equiv=x content='text/html; charset=\"koi8-r\"'>";
        assert_eq!(html_charset(html), Some("koi8-r".to_owned()));
        assert_eq!(html_charset(b"<p>"), None);
    }
}
