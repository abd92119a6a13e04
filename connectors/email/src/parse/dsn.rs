//! What a delivery status notification (RFC 3464), or a bounce in somebody's own words, says
//! about a mail of ours.

mod words;

use connector_api::{DeliveryStage, Event, reply_token_candidates};

use crate::parse::headers::Headers;
use crate::parse::identity::{OwnAddresses, normalise};
use crate::parse::limits::{BOUNCE_TEXT_BYTES_MAX, DSN_RECIPIENTS_MAX};
use crate::parse::mime::Part;
use crate::parse::threading::{OWN_ID_HEADER, message_id, message_ids, own_id};
use crate::parse::verp;

/// Longest reason kept for the agent, in characters.
const REASON_CHARS_MAX: usize = 500;

/// One recipient's fate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recipient {
    address: Option<String>,
    fate: Fate,
    status: Option<String>,
    diagnostic: Option<String>,
}

/// In the order in which a report of several is told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    #[default]
    Failed,
    /// The server has it and will try again: nothing is settled yet.
    Delayed,
    Delivered,
}

/// The receipts that a bounce amounts to, one for each recipient that it speaks of; none where it
/// cannot be about a mail of ours.
///
/// Which mail: the address that the bounce came to, if it is one that only that mail was sent from
/// (VERP); else an original Message-ID that has a reply token and our domain, as every one of ours
/// has; else, where the recipient is named, the reply token of its conversation. The daemon checks
/// each of them. Whom it failed for is never enough: anybody can write that a mail to somebody
/// bounced.
pub(crate) fn receipts(
    root: &Part<'_>,
    text: &str,
    envelope: &[String],
    own: &OwnAddresses,
) -> Vec<Event> {
    let returned_to = verp::returned_to(&root.headers, envelope, own);
    let verp_target = returned_to.as_ref().map(|path| path.message.clone());
    let target = verp_target
        .or_else(|| original_message_id(root, text, own))
        .or_else(|| reply_token(root, own));
    let Some(target) = target else {
        return Vec::new();
    };
    let place = returned_to.and_then(|path| path.place);
    let mut all = recipients(root);
    if all.is_empty() {
        if has_report(root) {
            return Vec::new();
        }
        all.push(Recipient {
            address: failed_recipient(&root.headers).or_else(|| words::recipient(text, own)),
            fate: match words::is_delay(root, text) {
                true => Fate::Delayed,
                false => Fate::Failed,
            },
            status: None,
            diagnostic: words::diagnostic(text),
        });
    }
    all.sort_by_key(|one| one.fate);
    let place = place.filter(|_| all.len() == 1);
    let receipts = all.iter().map(|one| one.receipt(&target, place));
    receipts.filter(is_certain).collect()
}

/// Whether a receipt says enough to find its message: a reply token alone names a conversation.
fn is_certain(receipt: &Event) -> bool {
    match receipt {
        Event::Receipt {
            target, recipient, ..
        } => recipient.is_some() || reply_token_candidates(target) != [target.as_str()],
        _ => false,
    }
}

/// The same for a mail by a machine of which nothing but its content says that it is a bounce: it
/// came to a return path or brings a mail of ours back, and quotes a refusal.
pub(crate) fn unmarked_receipts(
    root: &Part<'_>,
    text: &str,
    envelope: &[String],
    own: &OwnAddresses,
) -> Vec<Event> {
    let is_returned = !parts_of(root, &RETURNED_TYPES).is_empty();
    if !is_returned && verp::returned_to(&root.headers, envelope, own).is_none() {
        return Vec::new();
    }
    match words::diagnostic(text) {
        Some(_) => receipts(root, text, envelope, own),
        None => Vec::new(),
    }
}

/// Whether a mail says that, or why, a mail was not taken: it brings one back, or quotes a server.
pub(crate) fn tells_refusal(root: &Part<'_>, text: &str) -> bool {
    !parts_of(root, &RETURNED_TYPES).is_empty() || words::is_refusal(text)
}

/// For a bounce that became one receipt: those of its further recipients.
pub(crate) fn further_receipts(root: &Part<'_>, target: &str) -> Vec<Event> {
    let mut all = recipients(root);
    all.sort_by_key(|one| one.fate);
    let receipts = all.iter().map(|one| one.receipt(target, None));
    receipts.filter(is_certain).skip(1).collect()
}

/// The parts of a tree with one of the given types, without looking into attached mails.
pub(crate) fn parts_of<'a, 'b>(root: &'b Part<'a>, types: &[&str]) -> Vec<&'b Part<'a>> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(part) = open.pop() {
        if types.contains(&part.mime_type.as_str()) {
            found.push(part);
        }
        open.extend(part.children.iter().rev());
    }
    found
}

impl Recipient {
    fn receipt(&self, target: &str, place: Option<usize>) -> Event {
        let (stage, prefix) = match self.fate {
            Fate::Failed => (DeliveryStage::Failed, None),
            // Taken, and not there yet.
            Fate::Delayed => (DeliveryStage::Accepted, Some("delayed:")),
            Fate::Delivered => (DeliveryStage::Delivered, None),
        };
        let words = [prefix, self.status.as_deref(), self.diagnostic.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let reason: String = words.join(" ").chars().take(REASON_CHARS_MAX).collect();
        Event::Receipt {
            target: target.to_owned(),
            stage,
            reason: (!reason.is_empty()).then_some(reason),
            // The address that we wrote to says more than the one it was forwarded to.
            recipient: place
                .map(|place| format!("#{place}"))
                .or_else(|| self.address.clone()),
        }
    }
}

/// What holds a returned mail, or its headers.
const RETURNED_TYPES: [&str; 5] = [
    "message/rfc822",
    "text/rfc822-headers",
    "message/rfc822-headers",
    "message/global",
    "message/global-headers",
];

const STATUS_TYPES: [&str; 2] = ["message/delivery-status", "message/global-delivery-status"];

/// Whether it lists recipients at all, even if none whose fate is settled or delayed.
fn has_report(root: &Part<'_>) -> bool {
    parts_of(root, &STATUS_TYPES).iter().any(|part| {
        let bytes = part.decoded();
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        text.lines().any(|line| line.starts_with("action:"))
    })
}

fn recipients(root: &Part<'_>) -> Vec<Recipient> {
    let mut found = Vec::new();
    for part in parts_of(root, &STATUS_TYPES) {
        let bytes = part.decoded();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() && found.len() < DSN_RECIPIENTS_MAX {
            let (fields, after) = Headers::split(rest);
            if after.len() >= rest.len() {
                break;
            }
            rest = after;
            let Some(action) = fields.lower("action") else {
                continue;
            };
            let fate = match action.split([' ', '(', ';']).next().unwrap_or_default() {
                "failed" => Fate::Failed,
                "delayed" => Fate::Delayed,
                "delivered" => Fate::Delivered,
                // Relayed to where nobody reports, or to a list: that settles nothing.
                _ => continue,
            };
            found.push(Recipient {
                // As we wrote it, before anybody forwarded it.
                address: typed_address(&fields, "original-recipient")
                    .or_else(|| typed_address(&fields, "final-recipient")),
                fate,
                status: fields.text("status"),
                diagnostic: fields.text("diagnostic-code"),
            });
        }
    }
    found
}

/// The address in `rfc822; ada@example.org`.
fn typed_address(fields: &Headers<'_>, name: &'static str) -> Option<String> {
    let value = fields.text(name)?;
    let address = value.split_once(';').map_or(value.as_str(), |(_, it)| it);
    normalise(address)
}

/// The id of the mail that bounced, if it is one that we could have given: from the returned mail or its
/// headers, from the words of the bounce, from what the bounce refers to.
fn original_message_id(root: &Part<'_>, text: &str, own: &OwnAddresses) -> Option<String> {
    let is_ours = |id: &str| is_ours(id, own);
    for part in parts_of(root, &RETURNED_TYPES) {
        let bytes = part.decoded();
        let (headers, _) = Headers::split(&bytes);
        let mut ids = message_id(&headers).into_iter().chain(own_id(&headers));
        if let Some(id) = ids.find(|id| is_ours(id)) {
            return Some(id);
        }
    }
    // Gateways return them as text, under made-up types, where a part's own headers belong, or
    // behind a boundary that they got wrong.
    for part in leaves(root) {
        let own_headers = message_id(&part.headers).into_iter();
        let own_headers = own_headers.chain(own_id(&part.headers));
        let own_headers = own_headers.filter(|_| !std::ptr::eq(part, root));
        let decoded = part.decoded();
        let head = decoded.get(..BOUNCE_TEXT_BYTES_MAX).unwrap_or(&decoded);
        let written = written_ids(&String::from_utf8_lossy(head));
        let mut ids = own_headers.chain(written);
        if let Some(id) = ids.find(|id| is_ours(id)) {
            return Some(id);
        }
    }
    if let Some(id) = written_ids(text).into_iter().find(|id| is_ours(id)) {
        return Some(id);
    }
    ["in-reply-to", "references"]
        .into_iter()
        .flat_map(|name| root.headers.all(name))
        .flat_map(|field| message_ids(&field.unfolded()))
        .find(|id| is_ours(id))
}

fn is_ours(id: &str, own: &OwnAddresses) -> bool {
    own.has_domain_of(id) && !reply_token_candidates(id).is_empty()
}

/// The token of the conversation in which the returned mail was sent: where it wanted its answers,
/// or what of ours it referred to.
fn reply_token(root: &Part<'_>, own: &OwnAddresses) -> Option<String> {
    for part in parts_of(root, &RETURNED_TYPES) {
        let bytes = part.decoded();
        let (headers, _) = Headers::split(&bytes);
        let addresses = headers.all("reply-to").flat_map(|field| field.addresses());
        let addresses = addresses.filter_map(|found| normalise(&found.address));
        let addresses = addresses.filter(|address| own.contains(address));
        let ids = ["in-reply-to", "references"]
            .into_iter()
            .flat_map(|name| headers.all(name))
            .flat_map(|field| message_ids(&field.unfolded()))
            .filter(|id| is_ours(id, own));
        let mut tokens = addresses
            .chain(ids)
            .flat_map(|text| reply_token_candidates(&text));
        if let Some(token) = tokens.next() {
            return Some(token);
        }
    }
    None
}

/// The ids in lines that look like a `Message-ID` header, or ours, wherever they stand.
fn written_ids(text: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches(['>', ' ', '\t']);
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let names = ["message-id", OWN_ID_HEADER];
        if !names.iter().any(|id| name.eq_ignore_ascii_case(id)) {
            continue;
        }
        let folded = lines.clone().next().filter(|_| value.trim().is_empty());
        ids.extend(message_ids(folded.unwrap_or(value)));
    }
    ids
}

/// Every part that holds no others.
fn leaves<'a, 'b>(root: &'b Part<'a>) -> Vec<&'b Part<'a>> {
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(part) = open.pop() {
        if part.children.is_empty() {
            found.push(part);
        }
        open.extend(part.children.iter().rev());
    }
    found
}

fn failed_recipient(headers: &Headers<'_>) -> Option<String> {
    let field = headers.first("x-failed-recipients")?;
    let first = field.addresses().into_iter().next()?;
    normalise(&first.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::mime::Walk;

    /// What a report says of which message, with these headers of the returned mail.
    fn report(recipient: &str, returned: &str) -> String {
        format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n{recipient}Action: failed\nStatus: 5.1.1\n\n--b\nContent-Type: text/rfc822-headers\n\n{returned}\n\n--b--\n"
        )
    }

    const ADA: &str = "Final-Recipient: rfc822; ada@example.org\n";

    fn target(mail: &str, text: &str) -> Option<String> {
        let own = OwnAddresses::new(["support@Shop.example", "old@shop-before.example"]);
        let (fields, body) = Headers::split(mail.as_bytes());
        let root = Walk::default().tree(fields, body);
        match receipts(&root, text, &[], &own).into_iter().next() {
            Some(Event::Receipt { target, .. }) => Some(target),
            _ => None,
        }
    }

    fn check(id: &str, is_receipt: bool) {
        const THEIRS: &str = "Message-ID: <0102-1@eu-west-1.amazonses.com>";
        let expected = is_receipt.then_some(id);
        for (mail, text) in [
            (report(ADA, &format!("Message-ID: <{id}>")), String::new()),
            // Another id on the way.
            (
                report(ADA, &format!("{THEIRS}\nX-Switchboard-ID: <{id}>")),
                String::new(),
            ),
            (
                "Subject: failure notice\n\n".to_owned(),
                format!("Your mail failed.\n\nMessage-ID: <{id}>\n"),
            ),
            (
                "Subject: failure notice\n\n".to_owned(),
                format!("Your mail failed.\n\n{THEIRS}\nX-Switchboard-ID: <{id}>\n"),
            ),
            (
                format!("In-Reply-To: <{id}>\n\nYour mail failed.\n"),
                String::new(),
            ),
        ] {
            assert_eq!(target(&mail, &text).as_deref(), expected, "{mail}{text}");
        }
    }

    #[test]
    fn where_no_id_of_ours_is_left_the_reply_token_and_the_recipient_name_the_mail() {
        let token = format!("sb{}", "k3".repeat(13));
        for (returned, is_named) in [
            (
                format!("Reply-To: Shop <support+{token}@shop.example>"),
                true,
            ),
            (
                format!("References: <a@x> <{token}.msg_01@shop.example> <b@x>"),
                true,
            ),
            (
                format!("Reply-To: support+{token}@elsewhere.example"),
                false,
            ),
            (
                format!("In-Reply-To: <{token}.msg_01@elsewhere.example>"),
                false,
            ),
            (format!("Subject: {token}"), false),
            ("Reply-To: support@shop.example".to_owned(), false),
        ] {
            let returned = format!("Message-ID: <0102-1@email.amazonses.com>\n{returned}");
            let found = target(&report(ADA, &returned), "");
            assert_eq!(found.as_ref(), is_named.then_some(&token), "{returned}");
            // It names a conversation; without whom it speaks of that is too little.
            assert_eq!(target(&report("", &returned), ""), None, "{returned}");
        }
    }

    #[test]
    fn a_bounce_is_a_receipt_only_of_an_id_with_our_token_and_our_domain() {
        let token = format!("sb{}", "k3".repeat(13));
        check(&format!("{token}.msg_02@shop.example"), true);
        check(&format!("{token}.msg_02@SHOP.example"), true);
        check(&format!("{token}.msg_02@shop-before.example"), true);
        check(&format!("{token}.msg_02@example.org"), false);
        check(&format!("{token}.msg_02@mail.shop.example"), false);
        check(&format!("shop.example.{token}@shop.example.org"), false);
        check("typed-by-hand@shop.example", false);
    }
}
