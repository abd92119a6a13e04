//! Listing mails with the few header fields that tell them.

use async_imap::imap_proto::Response;
use connector_api::{Bytes, Result};

use crate::imap::cursor::Listed;
use crate::imap::session::fetched::{read_body, read_listed};
use crate::imap::session::{LISTING_BYTES_MAX, LONG_FACTOR, Session};

/// A mail as listed, and its fields as they stand.
pub(crate) type Headed = (Listed, Bytes);

impl Session {
    /// Lists the mails of these UIDs, lowest first, each with those of the named header fields that it has.
    /// Nothing is marked by it.
    pub(crate) async fn heads(
        &mut self,
        from: u32,
        to: u32,
        fields: &[&str],
    ) -> Result<Vec<Headed>> {
        let items = self.listed_items();
        let fields = fields.join(" ");
        let command =
            format!("UID FETCH {from}:{to} ({items} BODY.PEEK[HEADER.FIELDS ({fields})])");
        let mut headed: Vec<Headed> = Vec::new();
        self.budget(LISTING_BYTES_MAX);
        self.command(&command, self.patience * LONG_FACTOR, |answer| {
            if let Some(Response::Fetch(_, attributes)) = answer.response()
                && let Some(mail) = read_listed(attributes)
                && let Some((_, head)) = read_body(attributes)
            {
                let head = Bytes::copy_from_slice(head.unwrap_or_default());
                headed.push((mail, head));
            }
        })
        .await?
        .or_unavailable(&self.place, "list mails")?;
        headed.retain(|(mail, _)| (from..=to).contains(&mail.uid));
        headed.sort_unstable_by_key(|(mail, _)| mail.uid);
        headed.dedup_by_key(|(mail, _)| mail.uid);
        Ok(headed)
    }
}
