//! Files for answers: uploaded first, taken by the answer that names them.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use connector_api::Timestamp;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::{IntoParams, ToSchema};

use crate::blobs::{Incoming, hex};
use crate::clock::timestamp;
use crate::ids::IdKind;
use crate::store::uploads::{NewUpload, UPLOAD_KEPT, UPLOADS_WAITING_MAX};

use super::App;
use super::auth::Working;
use super::documentation::{Authenticated, BadParameters, BadUpload};
use super::problem::{ApiError, ApiResult, Kind};
use super::request::{NoIdempotencyKey, Params, now};

mod sniff;

pub use sniff::sniffed;

/// Of the name of a file, in characters.
const NAME_CHARS_MAX: usize = 255;
/// All of an upload; a piece of it has the deadline of bodies.
const UPLOAD_MAX: Duration = Duration::from_secs(15 * 60);
/// Bytes by which a type is known.
const HEAD_BYTES: usize = 512;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UploadParams {
    /// What the recipient sees it called.
    #[param(max_length = 255, example = "invoice.pdf")]
    name: Option<String>,
}

/// A file that waits for its answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct UploadView {
    #[schema(example = "fil_5b1c9d1e7a0f8c3d9f2a6b4c8d7e1f03")]
    pub id: String,
    #[schema(required, example = "invoice.pdf")]
    pub name: Option<String>,
    /// By its first bytes where they tell, else as it was sent.
    #[schema(example = "application/pdf")]
    pub content_type: String,
    pub size_bytes: u64,
    #[schema(example = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    pub sha256: String,
    /// When it is gone, unless an answer took it.
    pub expires_at: Timestamp,
}

/// Bytes, as the document shows them.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "documents the body")]
struct FileBytes(Vec<u8>);

/// Uploads a file for an answer.
///
/// The body is the file, with its `Content-Type`. Only the same token, or another one of the same
/// agent, can use it, once, within 24 hours; at most 100 wait at a time. No Idempotency-Key is taken
/// (400): a file uploaded twice waits twice, and the one that no answer takes is gone by itself.
#[utoipa::path(
    post,
    path = "/v1/uploads",
    tag = "Messages",
    security(("token" = [])),
    params(UploadParams),
    request_body(content = inline(FileBytes), content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It waits for its answer", body = UploadView),
        Authenticated, BadParameters, BadUpload
    )
)]
pub async fn upload_file(
    State(app): State<Arc<App>>,
    Working(caller): Working,
    _: NoIdempotencyKey,
    Params(params): Params<UploadParams>,
    request: Request,
) -> ApiResult<Response> {
    let name = name_of(params.name)?;
    let declared = request.headers().get(header::CONTENT_TYPE);
    let declared = declared.and_then(|value| value.to_str().ok());
    let declared = declared.unwrap_or_default().to_owned();
    let received = receive(&app, request);
    let received = tokio::time::timeout(UPLOAD_MAX, received).await;
    let (incoming, head) = received.map_err(|_| too_slow())??;
    if incoming.bytes_len() == 0 {
        return Err(ApiError::new(Kind::Unprocessable, "the file is empty"));
    }
    let blob = incoming.finish().await.map_err(unwritable)?;
    let (size_bytes, sha256) = (blob.bytes_len, hex(&blob.sha256));
    let content_type = sniffed(&head, &declared);
    let at = now(&app);
    let new = NewUpload {
        holder: caller.holder(),
        blob,
        name: name.clone(),
        content_type: content_type.clone(),
        at,
    };
    let Some(id) = app.state.store.add_upload(new).await? else {
        let detail = format!("{UPLOADS_WAITING_MAX} files of yours wait for an answer already");
        return Err(ApiError::new(Kind::Unprocessable, detail));
    };
    let kept = i64::try_from(UPLOAD_KEPT.as_micros()).unwrap_or(i64::MAX);
    let view = UploadView {
        id: app.state.ids.encode(IdKind::Upload, id),
        name,
        content_type,
        size_bytes,
        sha256,
        expires_at: timestamp(at.saturating_add(kept)),
    };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

/// The file, written as it comes, and its first bytes.
async fn receive(app: &App, request: Request) -> ApiResult<(Incoming, Vec<u8>)> {
    let bytes_max = app.state.upload_bytes_max;
    let too_large = || {
        let detail = format!("a file may have {bytes_max} bytes");
        ApiError::new(Kind::TooLarge, detail)
    };
    super::body::refuse_coded(request.headers())?;
    let declared = request.headers().get(header::CONTENT_LENGTH);
    let declared = declared.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|length| length > bytes_max) {
        return Err(too_large());
    }
    let mut incoming = Incoming::new(app.state.blobs.clone());
    let mut head = Vec::new();
    let mut pieces = request.into_body().into_data_stream();
    loop {
        let piece = tokio::time::timeout(app.state.deadlines.body, pieces.next()).await;
        let Some(piece) = piece.map_err(|_| too_slow())? else {
            return Ok((incoming, head));
        };
        let piece =
            piece.map_err(|_| ApiError::new(Kind::BadRequest, "the body ended before its end"))?;
        if incoming.bytes_len() + piece.len() as u64 > bytes_max {
            return Err(too_large());
        }
        let missing = HEAD_BYTES.saturating_sub(head.len());
        head.extend(piece.iter().take(missing));
        incoming.write(&piece).await.map_err(unwritable)?;
    }
}

fn name_of(name: Option<String>) -> ApiResult<Option<String>> {
    let wrong = |name: &str| {
        name.is_empty()
            || name.chars().count() > NAME_CHARS_MAX
            || name
                .chars()
                .any(|c| c.is_control() || c == '/' || c == '\\')
    };
    match name {
        Some(name) if wrong(&name) => Err(ApiError::bad_request(
            "name",
            format!("\"name\" has 1 to {NAME_CHARS_MAX} characters and no slashes"),
        )),
        name => Ok(name),
    }
}

fn too_slow() -> ApiError {
    ApiError::new(Kind::RequestTimeout, "the file did not arrive in time")
}

fn unwritable(failed: std::io::Error) -> ApiError {
    error!(error = %failed, "an upload cannot be written: {failed}");
    ApiError::new(Kind::Unavailable, "the file cannot be written now")
}
