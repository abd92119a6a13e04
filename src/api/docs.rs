//! The documentation page: our own small script renders the OpenAPI document in the browser.
//! Everything comes from here; nothing is loaded from anywhere else, and no script stands inline.

use std::sync::{Arc, LazyLock};

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::App;
use super::documentation::NoSuchThing;
use super::problem::{ApiError, ApiResult};
use super::request::Segment;

const PAGE: &str = include_str!("docs/index.html");
const SCRIPT: &str = include_str!("docs/app.js");
const STYLE: &str = include_str!("docs/style.css");

const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Gives this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "Operations",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value))
)]
pub async fn get_openapi(State(app): State<Arc<App>>) -> Response {
    ([(CONTENT_TYPE, "application/json")], app.document.clone()).into_response()
}

/// Gives the document of the topics that others read where the bus is Kafka.
#[utoipa::path(
    get,
    path = "/asyncapi.json",
    tag = "Operations",
    responses((status = 200, description = "AsyncAPI 3.0", body = serde_json::Value))
)]
pub async fn get_asyncapi() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| super::asyncapi::document().to_string());
    let headers = [(CONTENT_TYPE, "application/json")];
    (headers, DOCUMENT.as_str()).into_response()
}

/// Gives the JSON Schema of a contact's export.
#[utoipa::path(
    get,
    path = "/export.schema.json",
    tag = "Operations",
    responses((status = 200, description = "JSON Schema 2020-12", body = serde_json::Value))
)]
pub async fn get_export_schema() -> Response {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| super::export::schema().to_string());
    let headers = [(CONTENT_TYPE, "application/schema+json")];
    (headers, DOCUMENT.as_str()).into_response()
}

/// Shows this document as a page.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "Operations",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub async fn get_docs() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, PAGE_POLICY),
    ];
    (headers, PAGE).into_response()
}

/// Gives the script and the style of the page.
#[utoipa::path(
    get,
    path = "/docs/{asset}",
    tag = "Operations",
    params(("asset" = String, Path, description = "`app.js` or `style.css`", example = "app.js")),
    responses(
        (status = 200, description = "The file", body = String, content_type = "text/javascript"),
        NoSuchThing
    )
)]
pub async fn get_docs_asset(Segment(asset): Segment) -> ApiResult<Response> {
    let (content_type, content) = match asset.as_str() {
        "app.js" => ("text/javascript; charset=utf-8", SCRIPT),
        "style.css" => ("text/css; charset=utf-8", STYLE),
        _ => return Err(ApiError::not_found("file")),
    };
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")];
    Ok((headers, content).into_response())
}
