//! What a connector gets from the daemon instead of reaching for it: time, HTTP, secrets. The
//! simulator and the testkit hand in their own.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::credentials::{Credentials, NothingKept};
use crate::error::Result;
use crate::ids::{BrandId, ChannelId};

/// Everything a channel is built with.
#[derive(Clone)]
#[non_exhaustive]
pub struct BuildContext {
    pub channel: ChannelId,
    pub brand: BrandId,
    pub clock: Arc<dyn Clock>,
    pub http: Arc<dyn HttpClient>,
    pub secrets: Arc<dyn SecretResolver>,
    credentials: Arc<dyn Credentials>,
}

impl BuildContext {
    /// A context that keeps no credentials: see [`BuildContext::with_credentials`].
    pub fn new(
        channel: ChannelId,
        brand: BrandId,
        clock: Arc<dyn Clock>,
        http: Arc<dyn HttpClient>,
        secrets: Arc<dyn SecretResolver>,
    ) -> Self {
        Self {
            channel,
            brand,
            clock,
            http,
            secrets,
            credentials: Arc::new(NothingKept),
        }
    }

    /// Gives the channel a place for what it obtains at run time.
    pub fn with_credentials(mut self, credentials: Arc<dyn Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// What this channel obtained or rotated at run time, kept sealed. Secrets that an operator
    /// gives are [`BuildContext::secrets`].
    pub fn credentials(&self) -> &Arc<dyn Credentials> {
        &self.credentials
    }
}

/// Wall-clock time. Waiting is tokio's, which tests pause.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// A secret by reference, never by value: `{ env = "NAME" }` or `{ file = "/path" }`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SecretRef {
    /// The environment variable that holds the secret.
    Env(String),
    /// The file that holds the secret; a trailing newline is dropped.
    File(PathBuf),
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "SecretRef(env {name})"),
            Self::File(path) => write!(f, "SecretRef(file {})", path.display()),
        }
    }
}

/// Reads secrets while a channel is built.
pub trait SecretResolver: Send + Sync {
    /// The secret's text. An error says what is missing (kind `Config`), never any content.
    fn resolve(&self, secret: &SecretRef) -> Result<SecretString>;
}

/// HTTP as connectors see it: no redirects, a capped answer, a deadline. A failure before the
/// request left is `Unavailable`, one after it is `OutcomeUnknown`; any status is an `Ok`.
#[async_trait]
pub trait HttpClient: Send + Sync {
    async fn execute(&self, request: HttpRequest) -> Result<HttpResponse>;
}

#[derive(Clone)]
pub struct HttpRequest {
    pub method: HttpMethod,
    pub url: String,
    pub headers: Vec<(String, SecretString)>,
    pub body: Bytes,
    pub timeout: Duration,
    /// Longest answer read, in bytes.
    pub answer_bytes_max: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

#[derive(Debug, Clone)]
pub struct HttpResponse {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl HttpResponse {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// `Retry-After` in its seconds form (RFC 9110, section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.header("retry-after")?
            .trim()
            .parse()
            .ok()
            .map(Duration::from_secs)
    }
}
