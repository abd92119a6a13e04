//! HTTP for tests: real requests, to this machine only.

use std::error::Error as _;

use connector_api::{
    Error, ExposeSecret, HttpClient, HttpMethod, HttpRequest, HttpResponse, Result, async_trait,
};

/// An [`HttpClient`] that talks to fakes on loopback and refuses every other address, so that a
/// mistaken test can never reach a real provider. It keeps the contract's promise about errors: a
/// connection that was never made is `Unavailable`, anything lost later is `OutcomeUnknown`.
pub struct LoopbackHttp {
    client: reqwest::Client,
}

impl LoopbackHttp {
    pub fn new() -> Self {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_max_idle_per_host(0)
            .build()
            .expect("a client without certificates, proxies or files cannot fail to build");
        Self { client }
    }
}

impl Default for LoopbackHttp {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl HttpClient for LoopbackHttp {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse> {
        let url = reqwest::Url::parse(&request.url)
            .map_err(|error| Error::config(format!("cannot read an address: {error}")))?;
        if !matches!(url.host_str(), Some("127.0.0.1" | "[::1]" | "localhost")) {
            return Err(Error::config("tests reach loopback only"));
        }
        let mut builder = self
            .client
            .request(method(request.method), url)
            .timeout(request.timeout)
            .body(request.body);
        for (name, value) in &request.headers {
            builder = builder.header(name, value.expose_secret());
        }
        let mut answer = builder.send().await.map_err(|error| lost(&error))?;
        let status = answer.status().as_u16();
        let headers = answer
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
            .collect();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| lost(&error))? {
            if body.len() + chunk.len() > request.answer_bytes_max {
                let max = request.answer_bytes_max;
                return Err(Error::outcome_unknown(format!(
                    "the answer is longer than {max} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpResponse {
            status,
            headers,
            body: body.into(),
        })
    }
}

fn method(method: HttpMethod) -> reqwest::Method {
    match method {
        HttpMethod::Get => reqwest::Method::GET,
        HttpMethod::Post => reqwest::Method::POST,
        HttpMethod::Put => reqwest::Method::PUT,
        HttpMethod::Patch => reqwest::Method::PATCH,
        HttpMethod::Delete => reqwest::Method::DELETE,
    }
}

/// Never shows the address: it may carry a token.
fn lost(error: &reqwest::Error) -> Error {
    let cause = error.source().map(ToString::to_string).unwrap_or_default();
    if error.is_connect() {
        return Error::unavailable(format!("cannot connect: {cause}"));
    }
    if error.is_builder() {
        return Error::rejected(format!("cannot write the request: {cause}"));
    }
    Error::outcome_unknown(format!("no answer came: {cause}"))
}

/// An address on loopback where nobody listens: connections to it are refused.
pub fn closed_address() -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0");
    listener
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
}
