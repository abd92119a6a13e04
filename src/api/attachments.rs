//! Files of messages. They are strangers' bytes under this API's own origin, so a browser may only
//! save them: never shown, never guessed at, with no type that it would run.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tracing::error;
use utoipa::ToSchema;

use crate::store::AttachmentState;

use super::App;
use super::auth::Reading;
use super::documentation::{Authenticated, NoSuchThing, NotStored};
use super::problem::{ApiError, ApiResult, Kind};
use super::request::Segment;

/// Read and sent at a time.
const CHUNK_BYTES: usize = 64 * 1024;
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

/// Bytes, as the document shows them.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "documents the body")]
struct FileBytes(Vec<u8>);

/// Reads a file of a message.
///
/// The bytes as they came, to be saved and not to be shown: the type is the sender's word, given
/// only where it is harmless. 409 while the file is not here; `state` of the message's attachment
/// says why.
#[utoipa::path(
    get,
    path = "/v1/attachments/{id}",
    tag = "Messages",
    security(("token" = [])),
    params(("id" = String, Path, description = "The attachment's id, from its message")),
    responses(
        (status = 200, description = "The bytes", content_type = "application/octet-stream",
            body = inline(FileBytes),
            headers(("Content-Disposition" = String, description = "`attachment`, with the sender's name for it"))),
        Authenticated, NoSuchThing, NotStored
    )
)]
pub async fn get_attachment(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Segment(id): Segment,
) -> ApiResult<Response> {
    let missing = || ApiError::not_found("attachment");
    let (message, place) = app.state.ids.decode_attachment(&id).ok_or_else(missing)?;
    let store = &app.state.store;
    let found = store.attachment(caller.actor, message, place).await?;
    let found = found.ok_or_else(missing)?;
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
    let body = match found.inline {
        Some(bytes) => Body::from(bytes),
        None => file(&app, &sha256).await?,
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(&standing.content_type));
    headers.insert(
        header::CONTENT_DISPOSITION,
        disposition(standing.name.as_deref().unwrap_or_default()),
    );
    // Beside `nosniff` and `default-src 'none'`, which every answer has.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"),
    );
    if let Some(bytes) = standing.size_bytes {
        headers.insert(header::CONTENT_LENGTH, bytes.into());
    }
    Ok(response)
}

/// A stored file, read as it is sent.
async fn file(app: &App, sha256: &[u8; 32]) -> ApiResult<Body> {
    let path = app.state.blobs.path(sha256);
    let file = File::open(&path).await.map_err(|failed| {
        error!(error = %failed, "a file of the blob store cannot be opened: {}", path.display());
        ApiError::new(Kind::Internal, "the attachment's file cannot be read")
    })?;
    let chunks = stream::try_unfold(file, |mut file| async move {
        let mut chunk = vec![0; CHUNK_BYTES];
        let read = file.read(&mut chunk).await?;
        chunk.truncate(read);
        Ok::<_, std::io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    });
    Ok(Body::from_stream(chunks))
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

/// `attachment`, with the name in ASCII for old clients and in UTF-8 for all others (RFC 6266).
fn disposition(name: &str) -> HeaderValue {
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
    let value = format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{encoded}");
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
            let value = disposition(name);
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
}
