//! The return path of one mail: `support+msg_<32 hex digits>@…`, with `.3` behind it for the copy
//! of the third recipient. `smtp::verp` writes them.

use crate::parse::headers::Headers;
use crate::parse::identity::{OwnAddresses, normalise};

/// Headers that may hold the address that a bounce was sent to.
const RECIPIENT_HEADERS: [&str; 7] = [
    "delivered-to",
    "x-original-to",
    "envelope-to",
    "x-envelope-to",
    "x-forwarded-to",
    "to",
    "cc",
];

/// What an address of ours names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ReturnPath {
    /// Public id; only the daemon can tell whether it is one.
    pub(crate) message: String,
    /// Among the message's recipients, counted from 1, where it has several.
    pub(crate) place: Option<usize>,
}

/// The first return path among the addresses that a mail came to: those of its envelope, where a
/// service that received it says them, and those of its headers.
pub(crate) fn returned_to(
    headers: &Headers<'_>,
    envelope: &[String],
    own: &OwnAddresses,
) -> Option<ReturnPath> {
    let in_headers = RECIPIENT_HEADERS
        .iter()
        .flat_map(|name| headers.all(name))
        .flat_map(|field| field.addresses())
        .filter_map(|found| normalise(&found.address));
    let in_envelope = envelope.iter().filter_map(|address| normalise(address));
    in_envelope
        .chain(in_headers)
        .filter(|address| own.contains(address))
        .find_map(|address| read(&address))
}

fn read(address: &str) -> Option<ReturnPath> {
    let (local, _) = address.rsplit_once('@')?;
    let (_, tag) = local.split_once('+')?;
    let (id, place) = match tag.split_once('.') {
        Some((id, place)) => (id, Some(place)),
        None => (tag, None),
    };
    let digits = id.strip_prefix("msg_")?;
    let is_id = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let place = match place {
        Some(place) if place.len() <= 3 => Some(place.parse().ok()?),
        Some(_) => return None,
        None => None,
    };
    is_id.then(|| ReturnPath {
        message: id.to_owned(),
        place,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: Option<(&str, Option<usize>)>) {
        let own = OwnAddresses::new(["support@shop.example", "info+x@shop.example"]);
        let mail = format!("{header}\n\n");
        let found = returned_to(&Headers::split(mail.as_bytes()).0, &[], &own);
        let found = found
            .as_ref()
            .map(|path| (path.message.as_str(), path.place));
        assert_eq!(found, expected, "{header}");
    }

    #[test]
    fn only_an_address_of_ours_with_a_message_behind_the_plus_is_a_return_path() {
        let id = format!("msg_{}", "0190abcd".repeat(4));
        let bare = Some((id.as_str(), None));
        check(&format!("Delivered-To: support+{id}@shop.example"), bare);
        check(
            &format!("To: <SUPPORT+{}@SHOP.example>", id.to_uppercase()),
            bare,
        );
        check(&format!("To: \"x\" <info+{id}@shop.example>"), bare);
        check(
            &format!("X-Original-To: support+{id}.12@shop.example"),
            Some((&id, Some(12))),
        );
        for address in [
            format!("support+{id}@shop.example.org"),
            format!("other+{id}@shop.example"),
            format!("{id}@shop.example"),
            format!("support+{id}0@shop.example"),
            format!("support+{id}.x@shop.example"),
            format!("support+{id}.99999@shop.example"),
            "support+msg_x@shop.example".to_owned(),
            "support@shop.example".to_owned(),
        ] {
            check(&format!("To: {address}"), None);
        }
        check(&format!("From: support+{id}@shop.example"), None);
    }
}
