//! Files of messages: where each is, and how those that are still at their provider get here.

use std::collections::BTreeMap;

use bytes::Bytes;
use connector_api::{Attachment, AttachmentBody, ChannelId};
use serde::Serialize;

use crate::blobs::unhex;
use crate::bus::NewBlob;
use crate::ids::MessageId;

use super::DraftFile;

/// Where a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AttachmentState {
    /// Still at its provider: being fetched.
    Pending,
    Stored,
    /// It could not be had.
    Failed,
}

/// What became of fetching a file, by its place among the message's attachments.
pub type Fetches = BTreeMap<usize, Fetched>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub state: AttachmentState,
    /// Why it failed, or why the last try did.
    pub reason: Option<String>,
    pub sha256: Option<[u8; 32]>,
    pub bytes_len: Option<u64>,
    /// As its provider called it.
    pub content_type: Option<String>,
}

/// Tries to fetch a file, over about 17 hours; then it has failed.
pub const FETCH_ATTEMPTS_MAX: u32 = 6;

/// A file that is due to be fetched; this try is counted already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueFetch {
    pub message: MessageId,
    pub place: usize,
    pub channel: ChannelId,
    /// What the connector called it by: its own word, or a URL.
    pub reference: String,
    /// Tries, with this one.
    pub attempts: u32,
}

/// What a try came to.
#[derive(Debug, Clone)]
pub enum FetchOutcome {
    Stored {
        blob: NewBlob,
        content_type: Option<String>,
    },
    Failed {
        reason: String,
    },
    /// Again, at the time that was set when the try was counted.
    Retry {
        reason: String,
    },
}

/// A file of a message as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub name: Option<String>,
    pub content_type: String,
    pub size_bytes: Option<u64>,
    pub state: AttachmentState,
    pub reason: Option<String>,
    pub sha256: Option<[u8; 32]>,
}

/// A file that somebody may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAttachment {
    pub standing: Standing,
    /// The bytes, where they are in the store; otherwise they are the file of the digest.
    pub inline: Option<Bytes>,
}

/// What a sender says of a file that it knows nothing of.
const TYPE_UNKNOWN: &str = "application/octet-stream";

impl Standing {
    /// A file that we sent: it is here.
    pub fn of_written(file: &DraftFile) -> Self {
        Self {
            name: Some(file.name.clone()),
            content_type: file.content_type.clone(),
            size_bytes: Some(file.size_bytes),
            state: AttachmentState::Stored,
            reason: None,
            sha256: unhex(&file.sha256),
        }
    }

    /// What the message says of the file, with what became of fetching it.
    pub fn of(attachment: &Attachment, fetched: Option<&Fetched>) -> Self {
        let mut standing = Self {
            name: attachment.name.clone(),
            content_type: attachment.content_type.clone(),
            size_bytes: attachment.size_bytes,
            state: AttachmentState::Failed,
            reason: None,
            sha256: None,
        };
        match (&attachment.body, fetched) {
            (AttachmentBody::Stored { sha256 }, _) => {
                standing.state = AttachmentState::Stored;
                standing.sha256 = unhex(sha256);
            }
            (AttachmentBody::Reference { .. }, Some(fetched)) => {
                standing.state = fetched.state;
                standing.reason.clone_from(&fetched.reason);
                standing.sha256 = fetched.sha256;
                standing.size_bytes = fetched.bytes_len.or(attachment.size_bytes);
                if standing.content_type == TYPE_UNKNOWN
                    && let Some(content_type) = &fetched.content_type
                {
                    standing.content_type.clone_from(content_type);
                }
            }
            (AttachmentBody::Missing { reason }, _) => standing.reason = Some(reason.clone()),
            _ => standing.reason = Some("it is not fetched".to_owned()),
        }
        standing
    }
}
