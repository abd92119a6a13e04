//! Mailbox names as IMAP spells them.

use base64::Engine;

pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Mailbox names beyond ASCII (RFC 3501, section 5.1.3).
pub(super) fn modified_utf7(name: &str) -> String {
    let mut out = String::new();
    let mut wide: Vec<u8> = Vec::new();
    let flush = |wide: &mut Vec<u8>, out: &mut String| {
        if !wide.is_empty() {
            let base64 = base64::engine::general_purpose::STANDARD_NO_PAD.encode(&*wide);
            out.push_str(&format!("&{}-", base64.replace('/', ",")));
            wide.clear();
        }
    };
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut wide, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            let units = c.encode_utf16(&mut units);
            wide.extend(units.iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    flush(&mut wide, &mut out);
    out
}

/// The name as people write it; what is no modified UTF-7 stays as it is.
pub(super) fn readable(name: &str) -> String {
    decoded(name).unwrap_or_else(|| name.to_owned())
}

fn decoded(name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = name;
    while let Some((plain, shifted)) = rest.split_once('&') {
        let (wide, after) = shifted.split_once('-')?;
        out.push_str(plain);
        if wide.is_empty() {
            out.push('&');
        }
        let bytes = base64::engine::general_purpose::STANDARD_NO_PAD
            .decode(wide.replace(',', "/"))
            .ok()?;
        let units: Vec<u16> = bytes
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        out.push_str(&String::from_utf16(&units).ok()?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailbox_names_are_encoded() {
        assert_eq!(
            modified_utf7("Eing\u{e4}nge & mehr"),
            "Eing&AOQ-nge &- mehr"
        );
        assert_eq!(
            modified_utf7("~peter/mail/\u{53f0}\u{5317}"),
            "~peter/mail/&U,BTFw-"
        );
    }

    #[test]
    fn mailbox_names_come_back_as_they_were() {
        for name in [
            "INBOX",
            "Eing\u{e4}nge & mehr",
            "~peter/\u{53f0}\u{5317}",
            "a&-b",
        ] {
            assert_eq!(readable(&modified_utf7(name)), name);
        }
        assert_eq!(readable("&no base64-"), "&no base64-");
    }

    #[test]
    fn mailbox_names_are_quoted() {
        assert_eq!(quoted("a\\b\"c"), "\"a\\\\b\\\"c\"");
    }
}
