//! Variable envelope return paths: a sender address of its own for every mail, or for every copy
//! of one, so that a bounce says by where it arrives what it is about, whatever is written in it.
//!
//! `support+msg_<32 hex digits>@shop.example`, and `support+msg_<…>.3@…` for the third recipient
//! of several. The id is one that only the daemon can make: it carries a check under its key.

use connector_api::{OutboundMessage, Result};
use lettre::Address;

use crate::config::Settings;
use crate::smtp::compose::{Composed, plus_address};

/// Longest local part of our own address for which VERP fits into the 64 octets that a local part
/// may have (RFC 5321, section 4.5.3.1.1): `+`, the message's id, `.50`.
pub(crate) const LOCAL_CHARS_MAX: usize = 64 - 1 - "msg_".len() - 32 - ".50".len();

/// The mail, its senders and those recipients who are taken.
pub(crate) struct Each<'a> {
    pub(crate) mail: &'a Composed,
    pub(crate) senders: Vec<Address>,
    pub(crate) taken: Vec<usize>,
}

impl Each<'_> {
    /// Recipient and sender of each transaction.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&Address, &Address)> {
        self.taken.iter().filter_map(|place| {
            Some((self.mail.recipients.get(*place)?, self.senders.get(*place)?))
        })
    }
}

/// The sender for each recipient; `None` without VERP, and for automatic mail, which nobody is to
/// send anything back to.
pub(crate) fn senders(
    mail: &Composed,
    message: &OutboundMessage,
    settings: &Settings,
) -> Result<Option<Vec<Address>>> {
    let (true, Some(own)) = (settings.verp, mail.envelope_from.as_ref()) else {
        return Ok(None);
    };
    let id = &message.id;
    let senders: Result<Vec<Address>> = match mail.places.as_slice() {
        [_] => plus_address(own, id).map(|only| vec![only]),
        places => places
            .iter()
            .map(|place| plus_address(own, &format!("{id}.{place}")))
            .collect(),
    };
    senders.map(Some)
}
