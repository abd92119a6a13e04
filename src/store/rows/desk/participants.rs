//! Who is taken into a conversation and out of it, as its channels read addresses: one that is
//! spelled otherwise than in events would never be known again.

use std::borrow::Cow;

use connector_api::Recipient;

use crate::dispatch::verbs::Verb;
use crate::dispatch::{Refusal, address};
use crate::router::facts::Conversation;
use crate::store::{Senders, StoreError};

/// The verb with its address as events have it.
pub fn as_read<'a>(
    found: &Conversation,
    verb: &'a Verb,
    senders: Option<&Senders>,
) -> Result<Cow<'a, Verb>, StoreError> {
    match verb {
        Verb::AddParticipant { recipient, role } => Ok(Cow::Owned(Verb::AddParticipant {
            recipient: read(found, recipient, senders)?,
            role: *role,
        })),
        Verb::RemoveParticipant { namespace, address } => {
            let mut there = found.detail.participants.iter();
            if there.any(|known| known.namespace == *namespace && known.address == *address) {
                return Ok(Cow::Borrowed(verb));
            }
            let named = Recipient {
                namespace: namespace.clone(),
                address: address.clone(),
                name: None,
            };
            // Whoever cannot be read is not there either.
            Ok(match read(found, &named, senders) {
                Ok(read) => Cow::Owned(Verb::RemoveParticipant {
                    namespace: read.namespace,
                    address: read.address,
                }),
                Err(_) => Cow::Borrowed(verb),
            })
        }
        _ => Ok(Cow::Borrowed(verb)),
    }
}

fn read(
    found: &Conversation,
    named: &Recipient,
    senders: Option<&Senders>,
) -> Result<Recipient, StoreError> {
    let Some(senders) = senders else {
        return Err(Refusal::Unusable {
            field: "address",
            reason: "which channels can send is not known yet".to_owned(),
        }
        .into());
    };
    let of_brand = senders.values().filter(|one| one.brand == found.brand);
    let read = of_brand.map(|sending| (sending.read)(&named.address));
    Ok(address::participant(named, read)?)
}
