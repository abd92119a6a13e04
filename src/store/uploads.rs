//! Files that an agent uploads before the answer that will carry them. Each belongs to whoever
//! uploaded it, and is gone after a while when no answer took it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::bus::NewBlob;

use super::{Result, Token};

/// How long an upload waits for its answer: a working day with a night.
pub const UPLOAD_KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// Uploads of one holder that wait.
pub const UPLOADS_WAITING_MAX: u32 = 100;

/// Whose an upload is: the agent's, whatever token that agent uses; the token's, where it names none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub token: i64,
    pub agent: Option<String>,
}

#[derive(Debug, Clone)]
pub struct NewUpload {
    pub holder: Holder,
    pub blob: NewBlob,
    pub name: Option<String>,
    pub content_type: String,
    /// UTC microseconds.
    pub at: i64,
}

/// An upload that was taken for an answer: what a row of `blob` is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUpload {
    pub name: Option<String>,
    pub content_type: String,
    pub sha256: [u8; 32],
    pub bytes_len: u64,
    /// The bytes, where they are in the store; otherwise they are the file of the digest, which
    /// stays as long as the row that named it or the one that takes its place is there.
    pub inline: Option<Bytes>,
}

#[async_trait]
pub trait Uploads: Send + Sync {
    /// Keeps an upload and gives its number; `None` where its holder has too many that wait.
    async fn add_upload(&self, upload: NewUpload) -> Result<Option<i64>>;
    /// The token of a number, revoked or not.
    async fn token(&self, id: i64) -> Result<Option<Token>>;
}
