//! Reading requests: bodies under a cap and a deadline, parameters and headers with errors that
//! name what would be right.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::clock::micros;

use super::App;
use super::problem::{ApiError, ApiResult, Kind};

/// The largest body of an API call: a text of the longest length, escaped, fits.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// All of a body must be there within this time, so that slow senders hold nothing for long.
pub const BODY_READ_MAX: Duration = Duration::from_secs(30);
pub const TEXT_CHARS_MAX: usize = 100_000;
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 255;
pub const IF_MATCH: &str = "If-Match";
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
pub const PAGE_ITEMS_MAX: u32 = 100;
pub const PAGE_ITEMS_DEFAULT: u32 = 50;

/// The whole body; refused by its declared length before a byte is read, and while it is read.
pub async fn read_body(request: Request, bytes_max: usize) -> ApiResult<Bytes> {
    let too_large = || {
        ApiError::new(
            Kind::TooLarge,
            format!("the body may have {bytes_max} bytes"),
        )
    };
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bytes_max as u64) {
        return Err(too_large());
    }
    let reading = async {
        let mut stream = request.into_body().into_data_stream();
        let mut body = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk
                .map_err(|_| ApiError::new(Kind::BadRequest, "the body ended before its end"))?;
            if body.len() + chunk.len() > bytes_max {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(BODY_READ_MAX, reading).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::new(
            Kind::RequestTimeout,
            format!(
                "the body did not arrive within {} s",
                BODY_READ_MAX.as_secs()
            ),
        )),
    }
}

/// A body that is one JSON object, with its bytes. serde_json refuses nesting deeper than 128.
pub struct ObjectBody {
    pub bytes: Bytes,
    pub object: Map<String, Value>,
}

impl FromRequest<Arc<App>> for ObjectBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &Arc<App>) -> ApiResult<Self> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                Kind::UnsupportedMediaType,
                "send the body as Content-Type: application/json",
            ));
        }
        let bytes = read_body(request, BODY_BYTES_MAX).await?;
        let object = object_of(&bytes)?;
        Ok(Self { bytes, object })
    }
}

/// No body, or an empty object: for actions that take nothing (yet).
pub struct NoBody;

impl FromRequest<Arc<App>> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _app: &Arc<App>) -> ApiResult<Self> {
        let bytes = read_body(request, BODY_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self);
        }
        match object_of(&bytes)?.keys().next() {
            None => Ok(Self),
            Some(unknown) => Err(unknown_field(unknown, &[])),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let essence = value
        .and_then(|value| value.split(';').next())
        .map(str::trim);
    essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
}

fn object_of(bytes: &[u8]) -> ApiResult<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => Kind::Unprocessable,
            _ => Kind::BadRequest,
        };
        ApiError::new(kind, format!("the body is not a JSON object: {error}"))
    })
}

/// The text of a body that has nothing else in it; `reserved` fields have a meaning later.
pub fn text_of(object: &Map<String, Value>, reserved: &[&str]) -> ApiResult<String> {
    for name in object.keys() {
        if reserved.contains(&name.as_str()) {
            let detail = format!("\"{name}\" is reserved, not yet supported");
            return Err(ApiError::new(Kind::ReservedField, detail).field(name));
        }
        if name != "text" {
            return Err(unknown_field(name, &["text"]));
        }
    }
    let wrong = |detail: &str| Err(ApiError::new(Kind::Unprocessable, detail).field("text"));
    match object.get("text") {
        None => wrong("\"text\" is missing"),
        Some(Value::String(text)) if text.trim().is_empty() => wrong("\"text\" is empty"),
        Some(Value::String(text)) if text.chars().count() > TEXT_CHARS_MAX => {
            wrong(&format!("\"text\" may have {TEXT_CHARS_MAX} characters"))
        }
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => wrong("\"text\" must be a string"),
    }
}

fn unknown_field(name: &str, allowed: &[&str]) -> ApiError {
    let detail = match allowed {
        [] => format!("there is no field \"{name}\": this takes no body"),
        allowed => format!("there is no field \"{name}\": use {}", allowed.join(", ")),
    };
    ApiError::new(Kind::Unprocessable, detail)
        .field(name)
        .allowed(allowed.iter().copied())
}

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
        self.0.ok_or_else(|| {
            ApiError::new(
                Kind::IdempotencyKeyRequired,
                "this sends: give an Idempotency-Key, and the same one when you try again",
            )
            .field(IDEMPOTENCY_KEY)
        })
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

/// The value of a header that may come once, in visible ASCII.
fn single<'a>(
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
    let Some(text) = text else {
        return Ok(Duration::ZERO);
    };
    let wrong = || {
        let seconds = wait_max.as_secs();
        ApiError::bad_request(
            "wait",
            format!("\"wait\" must be a time from 0s to {seconds}s, as in 30s or 500ms"),
        )
    };
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let wait = match unit {
        "" | "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    };
    wait.filter(|wait| *wait <= wait_max).ok_or_else(wrong)
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

    #[test]
    fn a_text_is_all_that_a_message_has_and_everything_else_is_named() {
        let read = |body: serde_json::Value| {
            text_of(body.as_object().unwrap(), &["subject"])
                .map_err(|error| (error.problem.uri, error.problem.field.unwrap()))
        };
        let [unusable, reserved] = [Kind::Unprocessable, Kind::ReservedField].map(Kind::uri);
        let long = "x".repeat(TEXT_CHARS_MAX);
        assert_eq!(read(serde_json::json!({ "text": long })), Ok(long.clone()));
        let refused = [
            (serde_json::json!({}), &unusable, "text"),
            (serde_json::json!({ "text": 5 }), &unusable, "text"),
            (serde_json::json!({ "text": " \n" }), &unusable, "text"),
            (serde_json::json!({ "text": long + "x" }), &unusable, "text"),
            (
                serde_json::json!({ "text": "a", "subject": null }),
                &reserved,
                "subject",
            ),
            (
                serde_json::json!({ "text": "a", "txet": "b" }),
                &unusable,
                "txet",
            ),
        ];
        for (body, uri, field) in refused {
            assert_eq!(read(body), Err((uri.clone(), field.to_owned())));
        }
    }
}
