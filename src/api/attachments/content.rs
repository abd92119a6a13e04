//! The bytes of a file as an answer: whole or a range of them, read as they are sent. They are
//! strangers' bytes: a browser may save them, and show pictures only.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::TryStreamExt as _;
use tracing::error;

use crate::api::App;
use crate::api::problem::{ApiError, ApiResult, Kind};
use crate::blobs::{Found, hex};
use crate::store::{AttachmentState, StoredAttachment};

/// Longest name in a header, in characters.
const NAME_CHARS_MAX: usize = 150;
/// Types that a browser does nothing with but save or show; all others are `octet-stream`.
const SAFE_TYPES: [&str; 16] = [
    "application/gzip",
    "application/msword",
    "application/pdf",
    "application/rtf",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/zip",
    "image/bmp",
    "image/gif",
    "image/heic",
    "image/jpeg",
    "image/png",
    "image/tiff",
    "image/webp",
    "text/csv",
];

/// Pictures that a page may show: no browser runs anything in them.
const SHOWN_TYPES: [&str; 4] = ["image/gif", "image/jpeg", "image/png", "image/webp"];

/// What a browser does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    Saved,
    /// Shown, where it is a picture.
    Shown,
}

/// The file as an answer to a request with these headers.
pub async fn respond(
    app: &App,
    found: StoredAttachment,
    request: &HeaderMap,
    wanted: Use,
) -> ApiResult<Response> {
    let standing = found.standing;
    let (AttachmentState::Stored, Some(sha256)) = (standing.state, standing.sha256) else {
        let why = standing
            .reason
            .unwrap_or_else(|| "it is being fetched".to_owned());
        return Err(ApiError::new(
            Kind::NotStored,
            format!("the attachment is not here: {why}"),
        ));
    };
    let file = match found.inline {
        Some(bytes) => Content::Inline(bytes),
        None => open(app, &sha256).await?,
    };
    let bytes_len = file.bytes_len();
    let tag = format!("\"{}\"", hex(&sha256));
    let range = match if_range_holds(request, &tag) {
        true => range_of(request, bytes_len),
        false => Range::Whole,
    };
    let (status, from, count) = match range {
        Range::Whole => (StatusCode::OK, 0, bytes_len),
        Range::Part { from, count } => (StatusCode::PARTIAL_CONTENT, from, count),
        Range::Outside => {
            let detail = format!("the file has {bytes_len} bytes");
            let mut refused = ApiError::new(Kind::OutOfRange, detail).into_response();
            let all = HeaderValue::try_from(format!("bytes */{bytes_len}"));
            let all = all.unwrap_or(HeaderValue::from_static("bytes */0"));
            refused.headers_mut().insert(header::CONTENT_RANGE, all);
            return Ok(refused);
        }
    };
    let mut response = (status, file.body(from, count)).into_response();
    let headers = response.headers_mut();
    let given = content_type(&standing.content_type);
    let shown = wanted == Use::Shown && SHOWN_TYPES.iter().any(|shown| given == *shown);
    headers.insert(header::CONTENT_TYPE, given);
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition(standing.name.as_deref().unwrap_or_default(), shown),
    );
    // Beside `nosniff`, which every answer has.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
    );
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, count.into());
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(header::ETAG, tag);
    }
    if status == StatusCode::PARTIAL_CONTENT {
        let last = (from + count).saturating_sub(1);
        if let Ok(part) = HeaderValue::try_from(format!("bytes {from}-{last}/{bytes_len}")) {
            headers.insert(header::CONTENT_RANGE, part);
        }
    }
    Ok(response)
}

enum Content {
    Inline(Bytes),
    File(Found),
}

impl Content {
    fn bytes_len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::File(file) => file.bytes_len(),
        }
    }

    /// `count` bytes from `from`, read as they are sent.
    fn body(self, from: u64, count: u64) -> Body {
        match self {
            Self::Inline(bytes) => {
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                let until = from.saturating_add(usize::try_from(count).unwrap_or(usize::MAX));
                let until = until.min(bytes.len());
                Body::from(bytes.slice(from.min(until)..until))
            }
            Self::File(file) => {
                let pieces = file.read(from, count);
                let told = |failed: &std::io::Error| drop(unreadable_of(failed));
                Body::from_stream(pieces.inspect_err(told))
            }
        }
    }
}

async fn open(app: &App, sha256: &[u8; 32]) -> ApiResult<Content> {
    let found = app.state.blobs.find(*sha256).await;
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let file = found.and_then(|found| found.ok_or_else(missing));
    file.map(Content::File)
        .map_err(|failed| unreadable_of(&failed))
}

/// Files that are elsewhere may be away for now: their state says so already.
fn unreadable_of(failed: &std::io::Error) -> ApiError {
    if failed.kind() == std::io::ErrorKind::HostUnreachable {
        return ApiError::new(
            Kind::Unavailable,
            "the attachment's file cannot be read now",
        );
    }
    error!(error = %failed, "a file of the blob store cannot be read: {failed}");
    ApiError::new(Kind::Internal, "the attachment's file cannot be read")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Range {
    Whole,
    Part { from: u64, count: u64 },
    Outside,
}

/// One range of bytes (RFC 9110, section 14.1.2). Several, and what is no range, are ignored, as
/// section 14.2 allows: then all of the file is given.
fn range_of(request: &HeaderMap, bytes_len: u64) -> Range {
    let mut values = request.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Range::Whole;
    };
    let spec = value
        .to_str()
        .ok()
        .and_then(|value| value.strip_prefix("bytes="));
    let Some((first, last)) = spec.and_then(|spec| spec.trim().split_once('-')) else {
        return Range::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // Too large for a number is past the end.
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (from, until) = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1)),
        (Some(first), None) if last.is_empty() => (first, u64::MAX),
        (None, Some(0)) if first.is_empty() => return Range::Outside,
        (None, Some(count)) if first.is_empty() => (bytes_len.saturating_sub(count), u64::MAX),
        _ => return Range::Whole,
    };
    if from >= bytes_len {
        return Range::Outside;
    }
    let count = until.min(bytes_len) - from;
    Range::Part { from, count }
}

/// A range is for the file that the client has part of (RFC 9110, section 13.1.5).
fn if_range_holds(request: &HeaderMap, tag: &str) -> bool {
    request
        .get(header::IF_RANGE)
        .is_none_or(|value| value.as_bytes() == tag.as_bytes())
}

fn content_type(said: &str) -> HeaderValue {
    let essence = said.split(';').next().unwrap_or_default().trim();
    let media = ["audio/", "video/"];
    let word = |c: char| c.is_ascii_alphanumeric() || "+-./".contains(c);
    let known = SAFE_TYPES
        .iter()
        .any(|safe| safe.eq_ignore_ascii_case(essence));
    let safe =
        known || (media.iter().any(|kind| essence.starts_with(kind)) && essence.chars().all(word));
    let given = safe.then(|| HeaderValue::try_from(essence).ok()).flatten();
    given.unwrap_or(match essence.eq_ignore_ascii_case("text/plain") {
        // Without a charset a browser would guess.
        true => HeaderValue::from_static("text/plain; charset=utf-8"),
        false => HeaderValue::from_static("application/octet-stream"),
    })
}

/// `attachment` (or `inline`), with the name in ASCII for old clients and in UTF-8 for all others (RFC 6266).
fn disposition(name: &str, shown: bool) -> HeaderValue {
    let odd = |c: &char| !c.is_control() && !matches!(c, '/' | '\\' | ':');
    let name: String = name.chars().filter(odd).take(NAME_CHARS_MAX).collect();
    let name = name.trim().trim_start_matches('.');
    let name = if name.is_empty() { "attachment" } else { name };
    let plain = |c: char| c.is_ascii_alphanumeric() || " .-_()".contains(c);
    let ascii: String = name
        .chars()
        .map(|c| if plain(c) { c } else { '_' })
        .collect();
    // What RFC 8187 lets stand as it is.
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encoded: String = name
        .bytes()
        .map(|byte| match bare(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect();
    let kind = if shown { "inline" } else { "attachment" };
    let value = format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}");
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static("attachment"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_data_and_never_a_path_or_a_header() {
        for (name, expected) in [
            ("box.jpg", "filename=\"box.jpg\"; filename*=UTF-8''box.jpg"),
            (
                "../../etc/passwd",
                "filename=\"etcpasswd\"; filename*=UTF-8''etcpasswd",
            ),
            (
                "a\"; filename=\"b.exe",
                "filename=\"a__ filename__b.exe\"; filename*=UTF-8''a%22%3B%20filename%3D%22b.exe",
            ),
            (
                "a\r\nSet-Cookie: x",
                "filename=\"aSet-Cookie x\"; filename*=UTF-8''aSet-Cookie%20x",
            ),
            (
                "Lieferschein f\u{fc}r Ada.pdf",
                "filename=\"Lieferschein f_r Ada.pdf\"; filename*=UTF-8''Lieferschein%20f%C3%BCr%20Ada.pdf",
            ),
            ("", "filename=\"attachment\"; filename*=UTF-8''attachment"),
        ] {
            let value = disposition(name, false);
            assert_eq!(
                value.to_str().unwrap(),
                format!("attachment; {expected}"),
                "{name}"
            );
        }
    }

    #[test]
    fn a_type_that_a_browser_would_run_is_not_given() {
        for (said, given) in [
            ("image/png", "image/png"),
            ("IMAGE/PNG; name=x", "IMAGE/PNG"),
            ("audio/ogg", "audio/ogg"),
            ("text/plain; charset=utf-16", "text/plain; charset=utf-8"),
            ("text/html", "application/octet-stream"),
            ("image/svg+xml", "application/octet-stream"),
            ("application/xhtml+xml", "application/octet-stream"),
            ("text/javascript", "application/octet-stream"),
            ("video/\u{1}", "application/octet-stream"),
            ("", "application/octet-stream"),
        ] {
            assert_eq!(content_type(said), given, "{said}");
        }
    }

    #[test]
    fn a_range_is_one_piece_of_the_file_or_all_of_it() {
        let part = |from, count| Range::Part { from, count };
        for (text, expected) in [
            ("bytes=0-9", part(0, 10)),
            ("bytes=90-", part(90, 10)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=50-1000", part(50, 50)),
            ("bytes=99-99", part(99, 1)),
            ("bytes=0-99999999999999999999", part(0, 100)),
            ("bytes=100-", Range::Outside),
            ("bytes=99999999999999999999-", Range::Outside),
            ("bytes=-0", Range::Outside),
            ("bytes=9-0", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("bytes=-", Range::Whole),
            ("lines=0-1", Range::Whole),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::try_from(text).unwrap());
            assert_eq!(range_of(&headers, 100), expected, "{text}");
        }
        assert_eq!(range_of(&HeaderMap::new(), 100), Range::Whole);
    }
}
