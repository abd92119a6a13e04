//! Reading parameters and headers, with errors that name what would be right.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use serde::de::DeserializeOwned;

use crate::clock::micros;

use super::App;
use super::problem::{ApiError, ApiResult, Kind};

pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
pub const IF_MATCH: &str = "If-Match";
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
pub const PAGE_ITEMS_MAX: u32 = 100;
pub const PAGE_ITEMS_DEFAULT: u32 = 50;

/// A part of the path.
pub struct Segment(pub String);

impl FromRequestParts<Arc<App>> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        match Path::<String>::from_request_parts(parts, app).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(ApiError::new(Kind::NotFound, "the path is not valid UTF-8")),
        }
    }
}

/// The query, where unknown parameters are errors.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<Arc<App>> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        match Query::<T>::from_request_parts(parts, app).await {
            Ok(Query(params)) => Ok(Self(params)),
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let cause = cause.unwrap_or_else(|| error.to_string());
                Err(ApiError::new(
                    Kind::BadRequest,
                    format!("the query cannot be read: {cause}"),
                ))
            }
        }
    }
}

/// `If-Match` with the version of the conversation: `"3"`.
pub struct IfMatch(pub Option<i64>);

impl FromRequestParts<Arc<App>> for IfMatch {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> ApiResult<Self> {
        let Some(value) = single(&parts.headers, &header::IF_MATCH, IF_MATCH)? else {
            return Ok(Self(None));
        };
        if value == "*" {
            return Ok(Self(None));
        }
        let tag = value.strip_prefix("W/").unwrap_or(value);
        let version = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        match version.and_then(|version| version.parse().ok()) {
            Some(version) => Ok(Self(Some(version))),
            None => Err(ApiError::bad_request(
                IF_MATCH,
                "If-Match must be one ETag of the conversation, as in \"3\"",
            )),
        }
    }
}

/// An `Idempotency-Key` where one was sent.
pub struct IdempotencyKey(pub Option<String>);

impl IdempotencyKey {
    /// The key of an operation that sends.
    pub fn required(self) -> ApiResult<String> {
        self.0.ok_or_else(Self::missing)
    }

    pub fn missing() -> ApiError {
        ApiError::new(
            Kind::IdempotencyKeyRequired,
            "this sends: give an Idempotency-Key, and the same one when you try again",
        )
        .field(IDEMPOTENCY_KEY)
    }
}

impl FromRequestParts<Arc<App>> for IdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _app: &Arc<App>) -> ApiResult<Self> {
        let name = HeaderName::from_static("idempotency-key");
        let key = single(&parts.headers, &name, IDEMPOTENCY_KEY)?;
        if key.is_some_and(|key| key.is_empty() || key.len() > IDEMPOTENCY_KEY_CHARS_MAX) {
            return Err(ApiError::bad_request(
                IDEMPOTENCY_KEY,
                format!("an Idempotency-Key has 1 to {IDEMPOTENCY_KEY_CHARS_MAX} characters"),
            ));
        }
        Ok(Self(key.map(str::to_owned)))
    }
}

/// Refuses an `Idempotency-Key` where nothing would come of it: whoever sends one relies on it.
pub struct NoIdempotencyKey;

impl FromRequestParts<Arc<App>> for NoIdempotencyKey {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> ApiResult<Self> {
        match IdempotencyKey::from_request_parts(parts, app).await?.0 {
            None => Ok(Self),
            Some(_) => Err(ApiError::bad_request(
                IDEMPOTENCY_KEY,
                "no Idempotency-Key is taken here: leave it out",
            )),
        }
    }
}

/// The value of a header that may come once, in visible ASCII.
pub fn single<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
    shown: &str,
) -> ApiResult<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) if values.next().is_none() => Ok(Some(text.trim())),
        _ => Err(ApiError::bad_request(
            shown,
            format!("{shown} must come once, in ASCII"),
        )),
    }
}

/// `limit`: how many items a page has.
pub fn limit_of(text: Option<&str>) -> ApiResult<u32> {
    let Some(text) = text else {
        return Ok(PAGE_ITEMS_DEFAULT);
    };
    match text.parse() {
        Ok(limit) if (1..=PAGE_ITEMS_MAX).contains(&limit) => Ok(limit),
        _ => Err(ApiError::bad_request(
            "limit",
            format!("\"limit\" must be a number from 1 to {PAGE_ITEMS_MAX}"),
        )),
    }
}

/// `wait`: how long a claim waits. `30s`, `500ms`, `1m`, or seconds.
pub fn wait_of(text: Option<&str>, wait_max: Duration) -> ApiResult<Duration> {
    Ok(duration_of("wait", text, wait_max)?.unwrap_or_default())
}

/// A time with its unit, up to `max`; `None` where nothing was said.
pub fn duration_of(field: &str, text: Option<&str>, max: Duration) -> ApiResult<Option<Duration>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let wrong = || {
        let seconds = max.as_secs();
        ApiError::bad_request(
            field,
            format!("\"{field}\" must be a time from 0s to {seconds}s, as in 30s or 500ms"),
        )
    };
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let duration = match unit {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(60 * 60).map(Duration::from_secs),
        _ => None,
    };
    duration
        .filter(|duration| *duration <= max)
        .map(Some)
        .ok_or_else(wrong)
}

/// Whether `expand` asks for the messages; the only thing it can ask for.
pub fn expands_messages(text: Option<&str>) -> ApiResult<bool> {
    match text {
        None | Some("") => Ok(false),
        Some("messages") => Ok(true),
        Some(_) => Err(
            ApiError::bad_request("expand", "\"expand\" can be \"messages\"").allowed(["messages"]),
        ),
    }
}

/// The time of a request, as the store keeps times.
pub fn now(app: &App) -> i64 {
    micros(app.state.clock.now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_read_with_their_unit_and_bounded() {
        let max = Duration::from_secs(60);
        let cases = [
            (Some("30s"), Some(30_000)),
            (Some("60s"), Some(60_000)),
            (Some("1m"), Some(60_000)),
            (Some("500ms"), Some(500)),
            (Some("5"), Some(5_000)),
            (None, Some(0)),
            (Some("61s"), None),
            (Some("-1s"), None),
            (Some("1h"), None),
            (Some(""), None),
            (Some("s"), None),
            (Some("\u{0663}s"), None),
            (Some("18446744073709551615m"), None),
        ];
        for (text, expected) in cases {
            let read = wait_of(text, max).ok();
            assert_eq!(read, expected.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn limits_are_numbers_from_1_to_100() {
        for (text, expected) in [
            (None, Some(50)),
            (Some("1"), Some(1)),
            (Some("100"), Some(100)),
        ] {
            assert_eq!(limit_of(text).ok(), expected, "{text:?}");
        }
        for text in ["0", "101", "-1", "ten", "", "1.5"] {
            let problem = limit_of(Some(text)).unwrap_err().problem;
            assert_eq!(
                (problem.status, problem.field.as_deref()),
                (400, Some("limit")),
                "{text}"
            );
        }
    }
}
