//! Long values of a body, decoded where they lie: a large mail is in memory once, not as it was posted
//! and again as it is read. Nothing decoded is longer than what it is decoded from.

use std::ops::Range;

use bytes::BytesMut;
use connector_api::Bytes;
use serde_json::value::RawValue;

use crate::parse::decode_base64;

/// How much base64 is decoded at once, in bytes: whole groups.
const BASE64_CHUNK_BYTES: usize = 64 * 1024;

/// A value of a JSON body, and where it stands there.
pub(crate) type Place<T> = (T, Range<usize>);

/// The body for changing: the same bytes where nobody else holds them.
pub(crate) fn owned(body: Bytes) -> BytesMut {
    body.try_into_mut()
        .unwrap_or_else(|shared| BytesMut::from(shared.as_ref()))
}

/// Where a value that was read out of `body` stands in it.
pub(crate) fn place<T>(body: &[u8], what: T, value: &RawValue) -> Place<T> {
    let value = value.get();
    let start = value.as_ptr().addr().saturating_sub(body.as_ptr().addr());
    (what, start..start.saturating_add(value.len()))
}

/// Cuts values out of their body, in the order in which they stand there. The rest of it is gone.
pub(crate) fn cut<T>(body: Bytes, mut places: Vec<Place<T>>) -> Vec<(T, BytesMut)> {
    let mut body = owned(body);
    places.sort_by_key(|(_, place)| place.start);
    let mut values = Vec::with_capacity(places.len());
    while let Some((what, place)) = places.pop() {
        if place.end <= body.len() {
            body.truncate(place.end);
            values.push((what, body.split_off(place.start)));
        }
    }
    values.reverse();
    values
}

/// Makes a JSON string the text that it stands for (RFC 8259, section 7); anything else is empty.
pub(crate) fn unquote(value: &mut BytesMut) {
    let is_string = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
    if !is_string {
        value.clear();
        return;
    }
    value.truncate(value.len() - 1);
    *value = value.split_off(1);
    let mut out = Written::default();
    let mut from = 0;
    while let Some(rest) = value.get(from..).filter(|rest| !rest.is_empty()) {
        let run = rest.iter().position(|&byte| byte == b'\\');
        let end = from + run.unwrap_or(rest.len());
        out.shift(value, from..end);
        from = end;
        if run.is_some() {
            let (c, after) = escaped(value, from + 1);
            from = after;
            out.push(value, c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    value.truncate(out.0);
}

/// Undoes base64; what is not of its alphabet is passed over.
pub(crate) fn unbase64(value: &mut BytesMut) {
    let mut compact = Written::default();
    for at in 0..value.len() {
        if let Some(&byte) = value.get(at).filter(|byte| is_base64(**byte)) {
            compact.push(value, &[byte]);
        }
    }
    value.truncate(compact.0);
    let mut out = Written::default();
    let mut from = 0;
    while from < value.len() {
        let end = value.len().min(from + BASE64_CHUNK_BYTES);
        let decoded = decode_base64(value.get(from..end).unwrap_or_default());
        out.push(value, &decoded);
        from = end;
    }
    value.truncate(out.0);
}

/// Undoes the escapes of `application/x-www-form-urlencoded`, and says how long the result is.
pub(crate) fn unpercent(value: &mut [u8]) -> usize {
    let mut out = Written::default();
    let mut from = 0;
    while let Some((byte, length)) = value.get(from..).and_then(percent_decoded) {
        from += length;
        out.push(value, &[byte]);
    }
    out.0
}

/// The first byte that an encoded value stands for, and how many bytes it is written with.
pub(crate) fn percent_decoded(value: &[u8]) -> Option<(u8, usize)> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    match *value {
        [b'+', ..] => Some((b' ', 1)),
        [b'%', high, low, ..] => match (digit(high), digit(low)) {
            (Some(high), Some(low)) => Some((u8::try_from(high << 4 | low).unwrap_or(b'%'), 3)),
            _ => Some((b'%', 1)),
        },
        [byte, ..] => Some((byte, 1)),
        [] => None,
    }
}

/// How much of a buffer is written anew; always behind what is read of it.
#[derive(Default)]
struct Written(usize);

impl Written {
    fn shift(&mut self, buffer: &mut [u8], run: Range<usize>) {
        let end = self.0 + run.len();
        buffer.copy_within(run, self.0);
        self.0 = end;
    }

    fn push(&mut self, buffer: &mut [u8], bytes: &[u8]) {
        let end = self.0 + bytes.len();
        if let Some(place) = buffer.get_mut(self.0..end) {
            place.copy_from_slice(bytes);
            self.0 = end;
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte)
}

/// The character of the escape whose backslash stands before `at`, and what follows it. Half of a
/// surrogate pair stands for nothing.
fn escaped(text: &[u8], at: usize) -> (char, usize) {
    let plain = match text.get(at) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => return of_digits(text, at + 1),
        Some(&byte) => char::from(byte),
        None => char::REPLACEMENT_CHARACTER,
    };
    (plain, at + 1)
}

fn of_digits(text: &[u8], at: usize) -> (char, usize) {
    let four = |at: usize| {
        let digits = text.get(at..at + 4)?;
        let digits = std::str::from_utf8(digits).ok()?;
        u16::from_str_radix(digits, 16).ok()
    };
    let Some(first) = four(at) else {
        return (char::REPLACEMENT_CHARACTER, at);
    };
    let second = match text.get(at + 4..at + 6) {
        Some(b"\\u") => four(at + 6),
        _ => None,
    };
    let pair = [Some(first), second].into_iter().flatten();
    let mut decoded = char::decode_utf16(pair);
    match decoded.next() {
        Some(Ok(c)) if c.len_utf16() == 2 => (c, at + 10),
        Some(Ok(c)) => (c, at + 4),
        _ => (char::REPLACEMENT_CHARACTER, at + 4),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unquoted(json: &str) -> String {
        let mut value = BytesMut::from(json);
        unquote(&mut value);
        String::from_utf8(value.to_vec()).unwrap()
    }

    #[test]
    fn what_is_no_string_is_empty_and_half_a_pair_is_replaced() {
        for (json, expected) in [
            ("null", ""),
            ("\"", ""),
            ("\"\"", ""),
            ("\"a\\/b\\u00e9\"", "a/b\u{e9}"),
            ("\"\\ud83d\\ude00!\"", "\u{1f600}!"),
            ("\"\\ud83d!\"", "\u{fffd}!"),
            ("\"\\ud83d\\u0041\"", "\u{fffd}A"),
            ("\"\\ude00\\u12\"", "\u{fffd}\u{fffd}12"),
        ] {
            assert_eq!(unquoted(json), expected, "{json}");
        }
    }

    #[test]
    fn values_are_cut_out_in_their_order() {
        let body = Bytes::from_static(b"{\"a\":\"one\",\"b\":[\"two\",3]}");
        let places = vec![('b', 16..21), ('a', 5..10), ('c', 90..99)];
        let values = cut(body, places);
        let values: Vec<(char, &[u8])> = values.iter().map(|(c, it)| (*c, it.as_ref())).collect();
        assert_eq!(values, [('a', &b"\"one\""[..]), ('b', b"\"two\"")]);
    }

    proptest! {
        #[test]
        fn a_string_is_what_serde_reads(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(unquoted(&json), text.clone());
            let ascii: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            prop_assert_eq!(unquoted(&format!("\"{ascii}\"")), text);
        }
    }

    #[test]
    fn base64_is_undone_across_chunks_and_lines() {
        use base64::Engine;
        let bytes: Vec<u8> = (0..150_000_u32).map(|at| (at * 7 % 251) as u8).collect();
        for length in [0, 1, 2, 3, 49_151, 49_152, 49_153, 150_000] {
            let encoded = base64::engine::general_purpose::STANDARD.encode(&bytes[..length]);
            for line in [5, 76, 200_000] {
                let lines: Vec<&[u8]> = encoded.as_bytes().chunks(line).collect();
                let mut value = BytesMut::from(lines.join(&b"\r\n"[..]).as_slice());
                unbase64(&mut value);
                assert!(
                    value == bytes[..length],
                    "{length} bytes in lines of {line}"
                );
            }
        }
    }
}
