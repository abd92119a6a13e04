//! What a message disposition notification (RFC 8098) says about a mail of ours.

use connector_api::{DeliveryStage, Event, reply_token_candidates};

use crate::parse::dsn::parts_of;
use crate::parse::headers::Headers;
use crate::parse::identity::{OwnAddresses, normalise};
use crate::parse::mime::Part;
use crate::parse::threading::message_ids;

/// The receipt of a mail of ours that was shown to somebody: its Message-ID has a reply token and
/// our domain, as every one of ours has. Deleted or filed unseen says nothing.
pub(crate) fn receipt(root: &Part<'_>, own: &OwnAddresses) -> Option<Event> {
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
        .find(|id| own.has_domain_of(id) && !reply_token_candidates(id).is_empty())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::mime::Walk;

    fn check(id: &str, disposition: &str, is_receipt: bool) {
        let own = OwnAddresses::new(["support@shop.example"]);
        let mail = format!(
            "Content-Type: multipart/report; report-type=disposition-notification; boundary=b\n\n--b\nContent-Type: message/disposition-notification\n\nFinal-Recipient: rfc822; ada@example.org\nOriginal-Message-ID: <{id}>\nDisposition: manual-action/MDN-sent-manually; {disposition}\n\n--b--\n"
        );
        let (fields, body) = Headers::split(mail.as_bytes());
        let root = Walk::default().tree(fields, body);
        let target = match receipt(&root, &own) {
            Some(Event::Receipt { target, .. }) => Some(target),
            _ => None,
        };
        assert_eq!(target.as_deref(), is_receipt.then_some(id), "{mail}");
    }

    #[test]
    fn a_notification_is_a_receipt_only_of_an_id_with_our_token_and_our_domain() {
        let token = format!("sb{}", "k3".repeat(13));
        check(&format!("{token}.msg_02@shop.example"), "displayed", true);
        check(&format!("{token}.msg_02@shop.example"), "deleted", false);
        check(&format!("{token}.msg_02@example.org"), "displayed", false);
        check("typed-by-hand@shop.example", "displayed", false);
    }
}
