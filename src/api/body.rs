//! Reading bodies, under a cap and a deadline, with errors that name the place.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::App;
use super::problem::{ApiError, ApiResult, Kind};

/// The largest body of an API call: a text of the longest length, escaped, fits.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
pub const TEXT_CHARS_MAX: usize = 100_000;
/// Of the name of a field that is not there.
const FIELD_CHARS_SHOWN: usize = 100;
/// Once that much of a body is here, room is made for as much as was announced.
const RESERVED_AFTER_BYTES: usize = 256 * 1024;

/// The whole body, within `deadline`; refused by its declared length before a byte is read, and
/// while it is read.
pub async fn read_body(request: Request, bytes_max: usize, deadline: Duration) -> ApiResult<Bytes> {
    read(request, bytes_max, deadline, |_| Ok(())).await
}

/// The whole body, and its place among the bytes of all bodies under way. Only what has arrived
/// takes a place: announcing much keeps nobody else out.
pub async fn read_counted(
    request: Request,
    bytes_max: usize,
    deadline: Duration,
    room: &Arc<Semaphore>,
) -> ApiResult<(Bytes, Option<OwnedSemaphorePermit>)> {
    let mut place: Option<OwnedSemaphorePermit> = None;
    let take = |bytes: usize| {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let more = room.clone().try_acquire_many_owned(bytes).map_err(|_| {
            ApiError::new(
                Kind::Overloaded,
                "too many bytes of webhooks are under way, deliver again",
            )
        })?;
        match &mut place {
            Some(place) => place.merge(more),
            None => place = Some(more),
        }
        Ok(())
    };
    let body = read(request, bytes_max, deadline, take).await?;
    Ok((body, place))
}

async fn read(
    request: Request,
    bytes_max: usize,
    deadline: Duration,
    mut take: impl FnMut(usize) -> ApiResult<()>,
) -> ApiResult<Bytes> {
    let too_large = || {
        ApiError::new(
            Kind::TooLarge,
            format!("the body may have {bytes_max} bytes"),
        )
    };
    refuse_coded(request.headers())?;
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let declared_bytes = declared.and_then(|length| usize::try_from(length).ok());
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
            take(chunk.len())?;
            // Growing by doubling would hold a large body twice. Who only announces one gets nothing.
            if body.len() >= RESERVED_AFTER_BYTES
                && let Some(rest) = declared_bytes.and_then(|all| all.checked_sub(body.len()))
            {
                body.reserve(rest);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    };
    match tokio::time::timeout(deadline, reading).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::new(
            Kind::RequestTimeout,
            format!(
                "the body did not arrive within {} s",
                deadline.as_secs_f64()
            ),
        )),
    }
}

/// Nothing is unpacked here: a few bytes could become as many as anybody likes.
pub fn refuse_coded(headers: &HeaderMap) -> ApiResult<()> {
    let coding = headers.get(header::CONTENT_ENCODING);
    if coding.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(ApiError::new(
        Kind::UnsupportedMediaType,
        "send the body as it is, without Content-Encoding",
    ))
}

/// A body that is one JSON object, with its bytes. serde_json refuses nesting deeper than 128.
pub struct ObjectBody {
    pub bytes: Bytes,
    pub object: Map<String, Value>,
}

impl FromRequest<Arc<App>> for ObjectBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> ApiResult<Self> {
        if !is_json(request.headers()) {
            return Err(ApiError::new(
                Kind::UnsupportedMediaType,
                "send the body as Content-Type: application/json",
            ));
        }
        let bytes = read_body(request, BODY_BYTES_MAX, app.state.deadlines.body).await?;
        let object = object_of(&bytes)?;
        Ok(Self { bytes, object })
    }
}

/// No body, or an empty object: for actions that take nothing (yet).
pub struct NoBody;

impl FromRequest<Arc<App>> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &Arc<App>) -> ApiResult<Self> {
        let bytes = read_body(request, BODY_BYTES_MAX, app.state.deadlines.body).await?;
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

pub fn unknown_field(name: &str, allowed: &[&str]) -> ApiError {
    // An answer is not as long as whoever asks likes.
    let name: &str = &name.chars().take(FIELD_CHARS_SHOWN).collect::<String>();
    let detail = match allowed {
        [] => format!("there is no field \"{name}\": this takes no body"),
        allowed => format!("there is no field \"{name}\": use {}", allowed.join(", ")),
    };
    ApiError::new(Kind::Unprocessable, detail)
        .field(name)
        .allowed(allowed.iter().copied())
}
