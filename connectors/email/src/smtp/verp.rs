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

/// Whom the envelope names as the sender.
pub(crate) enum Senders {
    /// Nobody: nothing bounces to an automatic mail (RFC 3834, section 3.3).
    Null,
    /// One for all recipients.
    One(Address),
    /// One for each recipient, and so a transaction for each.
    Each(Vec<Address>),
}

impl Senders {
    pub(crate) fn of(
        mail: &Composed,
        message: &OutboundMessage,
        settings: &Settings,
    ) -> Result<Self> {
        if message.automatic {
            return Ok(Self::Null);
        }
        let own = &mail.own;
        let id = &message.id;
        match mail.places.as_slice() {
            _ if !settings.verp => Ok(Self::One(own.clone())),
            [_] => plus_address(own, id).map(Self::One),
            places => {
                let each = places
                    .iter()
                    .map(|place| plus_address(own, &format!("{id}.{place}")));
                each.collect::<Result<Vec<_>>>().map(Self::Each)
            }
        }
    }
}
