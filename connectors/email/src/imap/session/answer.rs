//! A response with the buffer that it was read from, so that a large mail is in memory once.

use async_imap::imap_proto::Response;
use async_imap::types::UnsolicitedResponse;
use connector_api::Bytes;

use crate::imap::session::Body;
use crate::imap::session::fetched::read_body;

/// Bodies above this many bytes stay in the buffer that they came in; smaller ones are copied, so
/// that none keeps what came beside it.
const COPIED_BYTES_MAX: usize = 256 * 1024;

/// The library names the type of what it reads only inside this one.
pub(super) struct Answer(pub(super) UnsolicitedResponse);

impl Answer {
    /// `None` for what the library never makes of a response that was read.
    pub(super) fn response(&self) -> Option<&Response<'_>> {
        match &self.0 {
            UnsolicitedResponse::Other(data) => Some(data.parsed()),
            _ => None,
        }
    }

    /// The bytes that it brings for one mail.
    pub(super) fn into_body(self) -> Option<Body> {
        let Response::Fetch(_, attributes) = self.response()? else {
            return None;
        };
        let (uid, bytes) = read_body(attributes)?;
        match bytes {
            Some(bytes) if bytes.len() > COPIED_BYTES_MAX => {
                Some((uid, Some(Bytes::from_owner(InPlace(self)))))
            }
            bytes => Some((uid, bytes.map(Bytes::copy_from_slice))),
        }
    }
}

/// An answer of which only the mail's bytes are wanted.
struct InPlace(Answer);

impl AsRef<[u8]> for InPlace {
    fn as_ref(&self) -> &[u8] {
        let Some(Response::Fetch(_, attributes)) = self.0.response() else {
            return &[];
        };
        let body = read_body(attributes);
        body.and_then(|(_, bytes)| bytes).unwrap_or_default()
    }
}
