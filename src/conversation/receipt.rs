//! What a receipt makes of a message: of the whole of it, or of what one of its recipients got.

use connector_api::DeliveryStage;

use super::Delivery;

/// One of the recipients of a message that has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Among the message's recipients, counted from 1; a repeated address has its first place.
    pub place: u16,
    pub address: String,
    /// `None`: as the message.
    pub delivery: Option<Delivery>,
}

/// What a receipt changes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Received {
    /// Of the message, where it becomes another.
    pub message: Option<Delivery>,
    /// Whom it speaks for, where the message has several.
    pub place: Option<u16>,
    /// Of that recipient, where it becomes another.
    pub recipient: Option<Delivery>,
    /// Whether its words are the last ones on the matter: the reason of a refusal, or of a delay.
    pub says: bool,
    /// Somebody did not get it: the conversation comes back to a person.
    pub comes_back: bool,
}

/// Applies a receipt. `recipients` is empty where the message has one; `named` is whom the receipt
/// speaks for, an address or `#3`.
pub fn receive(
    now: Delivery,
    recipients: &[Reached],
    named: Option<&str>,
    stage: DeliveryStage,
) -> Received {
    if recipients.is_empty() {
        let next = now.after_receipt(stage);
        return Received {
            message: next,
            says: next.is_some() || is_late(now, stage),
            comes_back: next == Some(Delivery::Refused),
            ..Received::default()
        };
    }
    let Some(one) = named.and_then(|named| find(recipients, named)) else {
        return of_somebody(now, stage);
    };
    let before = one.delivery.unwrap_or(now);
    let next = before.after_receipt(stage);
    let each = recipients
        .iter()
        .map(|other| match other.place == one.place {
            true => next.unwrap_or(before),
            false => other.delivery.unwrap_or(now),
        });
    Received {
        message: next.and_then(|_| of_all(now, each)),
        place: Some(one.place),
        recipient: next,
        says: next.is_some() || is_late(before, stage),
        comes_back: next == Some(Delivery::Refused),
    }
}

/// A receipt that does not say whom it speaks for. A failure refuses nobody, because it would be
/// guessed who; but it is somebody's, so a person looks.
fn of_somebody(now: Delivery, stage: DeliveryStage) -> Received {
    let failed = stage == DeliveryStage::Failed;
    Received {
        message: now.after_receipt(DeliveryStage::Accepted),
        comes_back: failed && now != Delivery::Refused,
        ..Received::default()
    }
}

/// The message is as far as the last of those who are not refused; refused once all are. Any
/// receipt shows that it left.
fn of_all(now: Delivery, each: impl Iterator<Item = Delivery>) -> Option<Delivery> {
    let (refused, others): (Vec<_>, Vec<_>) = each.partition(|one| *one == Delivery::Refused);
    let whole = match others.as_slice() {
        [] if refused.is_empty() => now,
        [] => Delivery::Refused,
        others if others.iter().all(|one| *one == Delivery::Read) => Delivery::Read,
        others
            if others
                .iter()
                .all(|one| matches!(one, Delivery::Delivered | Delivery::Read)) =>
        {
            Delivery::Delivered
        }
        _ => now.after_receipt(DeliveryStage::Accepted).unwrap_or(now),
    };
    (whole != now).then_some(whole)
}

/// `Accepted` of what was taken already: it is still under way, and the words say why.
fn is_late(before: Delivery, stage: DeliveryStage) -> bool {
    stage == DeliveryStage::Accepted && before == Delivery::Sent
}

fn find<'a>(recipients: &'a [Reached], named: &str) -> Option<&'a Reached> {
    let place: Option<u16> = named.strip_prefix('#').and_then(|place| place.parse().ok());
    recipients.iter().find(|one| match place {
        Some(place) => one.place == place,
        None => one.address.eq_ignore_ascii_case(named),
    })
}

#[cfg(test)]
mod tests {
    use DeliveryStage::{Accepted, Delivered, Failed, Read};

    use super::*;

    /// Sends to three and applies receipts; the message, then each recipient by its own state.
    fn check(start: Delivery, receipts: &[(&str, DeliveryStage)], expected: &str) {
        let mut now = start;
        let mut recipients: Vec<Reached> = (1..=3)
            .map(|place| Reached {
                place,
                address: format!("r{place}@example.org"),
                delivery: None,
            })
            .collect();
        let mut came_back = 0;
        for (named, stage) in receipts {
            let named = Some(*named).filter(|named| !named.is_empty());
            let received = receive(now, &recipients, named, *stage);
            now = received.message.unwrap_or(now);
            if let (Some(place), Some(next)) = (received.place, received.recipient) {
                recipients[usize::from(place) - 1].delivery = Some(next);
            }
            came_back += usize::from(received.comes_back);
        }
        let each = recipients
            .iter()
            .map(|one| one.delivery.map_or("-", Delivery::as_str));
        let each = each.collect::<Vec<_>>().join(" ");
        let found = format!("{}: {each}, back {came_back}", now.as_str());
        assert_eq!(found, expected, "{start:?} {receipts:?}");
    }

    #[test]
    fn a_bounce_of_one_of_several_leaves_the_others_as_they_are() {
        let (one, two, three) = ("r1@example.org", "R2@Example.org", "#3");
        for (start, receipts, expected) in [
            (
                Delivery::Sent,
                &[(one, Failed)][..],
                "sent: refused - -, back 1",
            ),
            (
                Delivery::Sent,
                &[(one, Failed), (one, Failed)],
                "sent: refused - -, back 1",
            ),
            (
                Delivery::Sent,
                &[(three, Failed)],
                "sent: - - refused, back 1",
            ),
            (
                Delivery::Sent,
                &[(one, Failed), (two, Failed), (three, Failed)],
                "refused: refused refused refused, back 3",
            ),
            (
                Delivery::Sent,
                &[(one, Delivered), (two, Failed), (three, Read)],
                "delivered: delivered refused read, back 1",
            ),
            (
                Delivery::Sent,
                &[(one, Read), (two, Read), (three, Read)],
                "read: read read read, back 0",
            ),
            (
                Delivery::Sent,
                &[(one, Delivered), (one, Failed)],
                "sent: delivered - -, back 0",
            ),
            // Late, and then refused after all.
            (Delivery::Sent, &[(one, Accepted)], "sent: - - -, back 0"),
            (
                Delivery::Sent,
                &[(one, Accepted), (one, Failed)],
                "sent: refused - -, back 1",
            ),
            // It overtook the server's answer, or settles what nobody knew.
            (
                Delivery::Sending,
                &[(two, Failed)],
                "sent: - refused -, back 1",
            ),
            (
                Delivery::Unknown,
                &[(two, Failed)],
                "sent: - refused -, back 1",
            ),
            (
                Delivery::Unknown,
                &[(two, Delivered)],
                "sent: - delivered -, back 0",
            ),
            // Nobody of ours, or nobody named: no guess.
            (
                Delivery::Sent,
                &[("forwarded@example.net", Failed)],
                "sent: - - -, back 1",
            ),
            (Delivery::Sent, &[("", Failed)], "sent: - - -, back 1"),
            (Delivery::Unknown, &[("", Delivered)], "sent: - - -, back 0"),
            (Delivery::Sent, &[("#9", Failed)], "sent: - - -, back 1"),
        ] {
            check(start, receipts, expected);
        }
    }
}
