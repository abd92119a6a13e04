//! Files of what leaves: small ones come with their row, large ones are read from the blob store
//! piece by piece while they are sent.

use std::sync::Arc;

use connector_api::{Bytes, Error, FileContent, OutboundAttachment, ReadFile, async_trait};

use crate::blobs::{Blobs, Found, unhex};
use crate::store::{DraftFile, Leased, Store, StoreError};

/// Where a lane finds the files of its messages.
#[derive(Clone)]
pub struct Files {
    store: Arc<dyn Store>,
    blobs: Blobs,
}

/// Why a message's files cannot be had.
#[derive(Debug)]
pub enum FileError {
    Gone { name: String },
    Store(StoreError),
}

impl Files {
    pub fn new(store: Arc<dyn Store>, blobs: Blobs) -> Self {
        Self { store, blobs }
    }

    /// The files of a leased message, in order.
    pub async fn of(&self, leased: &Leased) -> Result<Vec<OutboundAttachment>, FileError> {
        let mut files = Vec::with_capacity(leased.draft.attachments.len());
        for file in &leased.draft.attachments {
            files.push(OutboundAttachment {
                name: file.name.clone(),
                content_type: file.content_type.clone(),
                size_bytes: file.size_bytes,
                content_id: file.content_id.clone(),
                content: self.content(leased, file).await?,
            });
        }
        Ok(files)
    }

    async fn content(&self, leased: &Leased, file: &DraftFile) -> Result<FileContent, FileError> {
        let gone = || FileError::Gone {
            name: file.name.clone(),
        };
        let sha256 = unhex(&file.sha256).ok_or_else(gone)?;
        let found = self.store.written_file(leased.id, sha256).await;
        match found.map_err(FileError::Store)?.ok_or_else(gone)? {
            Some(bytes) => Ok(FileContent::from(bytes)),
            None => {
                let trouble = |error: std::io::Error| {
                    FileError::Store(StoreError::Unavailable(format!("a file: {error}")))
                };
                let file = self.blobs.find(sha256).await.map_err(trouble)?;
                let file = file.ok_or_else(gone)?;
                Ok(FileContent::new(Arc::new(InPieces(file))))
            }
        }
    }
}

/// A file of the blob store. It is opened for each piece: nothing stays open while a slow provider
/// takes its time.
struct InPieces(Found);

#[async_trait]
impl ReadFile for InPieces {
    async fn read_at(&self, offset: u64, bytes_max: usize) -> connector_api::Result<Bytes> {
        let piece = self.0.read_at(offset, bytes_max as u64).await;
        piece.map_err(|error| Error::unavailable(format!("reading a file: {}", error.kind())))
    }
}
