//! What a message disposition notification (RFC 8098) says about a mail of ours.

use connector_api::{DeliveryStage, Event, reply_token_candidates};

use crate::parse::dsn::parts_of;
use crate::parse::headers::Headers;
use crate::parse::identity::normalise;
use crate::parse::mime::Part;
use crate::parse::threading::message_ids;

/// The receipt of a mail of ours that was shown to somebody. Deleted or filed unseen says nothing.
pub(crate) fn receipt(root: &Part<'_>) -> Option<Event> {
    let parts = parts_of(root, &["message/disposition-notification"]);
    let bytes = parts.first()?.decoded();
    let (fields, _) = Headers::split(&bytes);
    let disposition = fields.lower("disposition")?;
    let (_, what) = disposition.split_once(';')?;
    if !what.trim_start().starts_with("displayed") {
        return None;
    }
    let ids = message_ids(&fields.first("original-message-id")?.unfolded());
    let target = ids
        .into_iter()
        .find(|id| !reply_token_candidates(id).is_empty())?;
    let recipient = fields.text("final-recipient").and_then(|value| {
        let address = value.split_once(';').map_or(value.as_str(), |(_, it)| it);
        normalise(address)
    });
    Some(Event::Receipt {
        target,
        stage: DeliveryStage::Read,
        reason: None,
        recipient,
    })
}
