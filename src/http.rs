//! HTTP for connectors: no redirects, capped answers, deadlines, and a clear line between "never
//! left" and "left without an answer".

use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use connector_api::{Error, ExposeSecret, HttpClient, HttpMethod, HttpRequest, HttpResponse};

use crate::words::innermost;

pub mod egress;
pub mod signed;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The daemon's HTTP client.
pub struct Reqwest {
    client: reqwest::Client,
}

impl Reqwest {
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("switchboard/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { client })
    }
}

#[async_trait]
impl HttpClient for Reqwest {
    async fn execute(&self, request: HttpRequest) -> connector_api::Result<HttpResponse> {
        let method = match request.method {
            HttpMethod::Get => reqwest::Method::GET,
            HttpMethod::Post => reqwest::Method::POST,
            HttpMethod::Put => reqwest::Method::PUT,
            HttpMethod::Patch => reqwest::Method::PATCH,
            HttpMethod::Delete => reqwest::Method::DELETE,
        };
        let mut builder = self
            .client
            .request(method, &request.url)
            .timeout(request.timeout)
            .body(request.body);
        for (name, value) in &request.headers {
            let mut value =
                reqwest::header::HeaderValue::from_str(value.expose_secret()).map_err(|_| {
                    Error::rejected(format!("the header {name} holds characters it may not"))
                })?;
            value.set_sensitive(true);
            builder = builder.header(name, value);
        }
        let response = builder.send().await.map_err(not_answered)?;
        let status = response.status().as_u16();
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| {
                Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
            })
            .collect();
        let body = read_capped(response, request.answer_bytes_max).await?;
        Ok(HttpResponse {
            status,
            headers,
            body,
        })
    }
}

/// A failed connection certainly did nothing; after that nobody knows.
fn not_answered(error: reqwest::Error) -> Error {
    let error = error.without_url();
    if error.is_connect() || error.is_builder() {
        return Error::unavailable(format!("connecting: {}", innermost(&error)));
    }
    Error::outcome_unknown(format!("waiting for the answer: {error}"))
}

async fn read_capped(
    mut response: reqwest::Response,
    bytes_max: usize,
) -> connector_api::Result<bytes::Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(not_answered)? {
        let room = bytes_max.saturating_sub(body.len());
        body.extend_from_slice(chunk.get(..room.min(chunk.len())).unwrap_or_default());
        if chunk.len() >= room {
            break;
        }
    }
    Ok(body.freeze())
}
