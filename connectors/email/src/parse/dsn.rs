//! What a delivery status notification (RFC 3464), or a bounce in somebody's own words, says
//! about a mail of ours.

use connector_api::{DeliveryStage, Event, reply_token_candidates};

use crate::parse::headers::Headers;
use crate::parse::identity::{OwnAddresses, normalise};
use crate::parse::limits::{BOUNCE_TEXT_BYTES_MAX, DSN_RECIPIENTS_MAX};
use crate::parse::mime::Part;
use crate::parse::threading::{message_id, message_ids};

/// Longest reason kept for the agent, in characters.
const REASON_CHARS_MAX: usize = 500;

/// One recipient's fate.
#[derive(Debug, Default, PartialEq, Eq)]
struct Recipient {
    address: Option<String>,
    action: String,
    status: Option<String>,
    diagnostic: Option<String>,
}

/// The receipt that a bounce amounts to: its original Message-ID must have a reply token and our
/// domain, as every one of ours has, and its action must settle something. A delay settles nothing:
/// it stays a message.
pub(crate) fn receipt(root: &Part<'_>, text: &str, own: &OwnAddresses) -> Option<Event> {
    let target = original_message_id(root, text, own)?;
    let recipients = recipients(root);
    let by_action = |action: &str| recipients.iter().find(|one| one.action == action);
    if let Some(failed) = by_action("failed") {
        return Some(failed.receipt(target, DeliveryStage::Failed));
    }
    if let Some(delivered) = by_action("delivered") {
        return Some(delivered.receipt(target, DeliveryStage::Delivered));
    }
    if !recipients.is_empty() || sounds_delayed(root, text) {
        return None;
    }
    let own_words = Recipient {
        address: failed_recipient(&root.headers),
        action: "failed".to_owned(),
        status: None,
        diagnostic: diagnostic_line(text),
    };
    Some(own_words.receipt(target, DeliveryStage::Failed))
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
    fn receipt(&self, target: String, stage: DeliveryStage) -> Event {
        let words = [self.status.as_deref(), self.diagnostic.as_deref()];
        let words: Vec<&str> = words.into_iter().flatten().collect();
        let reason: String = words.join(" ").chars().take(REASON_CHARS_MAX).collect();
        Event::Receipt {
            target,
            stage,
            reason: (!reason.is_empty()).then_some(reason),
            recipient: self.address.clone(),
        }
    }
}

fn recipients(root: &Part<'_>) -> Vec<Recipient> {
    let types = ["message/delivery-status", "message/global-delivery-status"];
    let mut found = Vec::new();
    for part in parts_of(root, &types) {
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
            let word = action.split([' ', '(', ';']).next().unwrap_or_default();
            found.push(Recipient {
                address: typed_address(&fields, "final-recipient")
                    .or_else(|| typed_address(&fields, "original-recipient")),
                action: word.to_owned(),
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
    let is_ours = |id: &str| own.has_domain_of(id) && !reply_token_candidates(id).is_empty();
    let types = [
        "message/rfc822",
        "text/rfc822-headers",
        "message/rfc822-headers",
        "message/global",
        "message/global-headers",
    ];
    for part in parts_of(root, &types) {
        let bytes = part.decoded();
        let (headers, _) = Headers::split(&bytes);
        if let Some(id) = message_id(&headers).filter(|id| is_ours(id)) {
            return Some(id);
        }
    }
    let head = text.chars().take(BOUNCE_TEXT_BYTES_MAX).collect::<String>();
    for line in head.lines() {
        let line = line.trim_start_matches(['>', ' ', '\t']);
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let is_id = name.eq_ignore_ascii_case("message-id");
        if is_id && let Some(id) = message_ids(value).into_iter().find(|id| is_ours(id)) {
            return Some(id);
        }
    }
    ["in-reply-to", "references"]
        .into_iter()
        .flat_map(|name| root.headers.all(name))
        .flat_map(|field| message_ids(&field.unfolded()))
        .find(|id| is_ours(id))
}

fn failed_recipient(headers: &Headers<'_>) -> Option<String> {
    let field = headers.first("x-failed-recipients")?;
    let first = field.addresses().into_iter().next()?;
    normalise(&first.address)
}

fn sounds_delayed(root: &Part<'_>, text: &str) -> bool {
    let subject = root.headers.lower("subject").unwrap_or_default();
    let text = text.chars().take(2_000).collect::<String>().to_lowercase();
    ["delay", "warning", "verzöger", "retard"]
        .iter()
        .any(|word| subject.contains(word))
        || text.contains("will be retried")
        || text.contains("you do not need to resend")
}

/// The first line with an SMTP answer or an enhanced status in it.
fn diagnostic_line(text: &str) -> Option<String> {
    let is_code = |word: &str| {
        let word = word.trim_matches(|c: char| !c.is_ascii_digit());
        let is_answer = word.len() == 3 && word.starts_with(['4', '5']);
        let is_status = word.starts_with("5.") || word.starts_with("4.");
        (is_answer || is_status) && word.chars().all(|c| c.is_ascii_digit() || c == '.')
    };
    text.lines()
        .take(200)
        .find(|line| line.split_whitespace().any(is_code))
        .map(|line| line.trim().chars().take(REASON_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::mime::Walk;

    fn check(id: &str, is_receipt: bool) {
        let own = OwnAddresses::new(["support@Shop.example", "old@shop-before.example"]);
        let report = format!(
            "Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\nFinal-Recipient: rfc822; ada@example.org\nAction: failed\nStatus: 5.1.1\n\n--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <{id}>\n\n--b--\n"
        );
        let in_words = format!("Your mail failed.\n\nMessage-ID: <{id}>\n");
        let referring = format!("In-Reply-To: <{id}>\n\nYour mail failed.\n");
        for (mail, text) in [
            (report.as_str(), ""),
            ("Subject: failure notice\n\n", in_words.as_str()),
            (referring.as_str(), ""),
        ] {
            let (fields, body) = Headers::split(mail.as_bytes());
            let root = Walk::default().tree(fields, body);
            let target = match receipt(&root, text, &own) {
                Some(Event::Receipt { target, .. }) => Some(target),
                _ => None,
            };
            assert_eq!(target.as_deref(), is_receipt.then_some(id), "{mail}{text}");
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
