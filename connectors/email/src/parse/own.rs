//! Mails of our own in a folder that is imported or followed: what a desk wrote before Switchboard, or
//! beside it. They are echoes, filed beside the customer's words. Who says that a mail is ours is its
//! operator, as far as the mail itself does not speak against it: anybody can write our address into
//! From.

use connector_api::{
    Automatic, Event, Evidence, IdentityClaim, InboundEvent, InboundMessage, MessageSender, Method,
    ParticipantRole, reply_token_candidates,
};

use crate::parse::ParseSettings;
use crate::parse::auth_results;
use crate::parse::headers::Headers;
use crate::parse::threading;

/// What a mail is that lies where no mail arrives: an echo, if one of us wrote it; nothing, if it is
/// the copy of one that left through Switchboard, which stands in its conversation since then.
pub(crate) fn kept(event: InboundEvent, settings: &ParseSettings) -> Option<InboundEvent> {
    let is_loop = event.automatic == Some(Automatic::Loop);
    let has_token = |text: &str| !reply_token_candidates(text).is_empty();
    if is_loop && has_token(event.dedupe_key.as_str()) {
        return None;
    }
    let event = as_echo(event, settings);
    // A service on its way may have given it another Message-ID.
    let is_sent_copy = match (&event.event, &event.raw) {
        (Event::Echo(_), Some(raw)) => {
            is_loop || threading::own_id(&Headers::split(raw).0).is_some_and(|id| has_token(&id))
        }
        _ => false,
    };
    (!is_sent_copy).then_some(event)
}

/// Turns a mail that we wrote to somebody into an echo; leaves every other event as it is.
pub fn as_echo(mut event: InboundEvent, settings: &ParseSettings) -> InboundEvent {
    let is_ours = match (&event.event, &event.raw) {
        (Event::Message(message), Some(raw)) => is_ours(message, raw, settings),
        _ => false,
    };
    if !is_ours {
        return event;
    }
    event.event = match event.event {
        Event::Message(message) => echo(message, settings),
        other => other,
    };
    // It went in no circle: it is read where it was kept.
    event.automatic = event.automatic.filter(|why| *why != Automatic::Loop);
    // Where we want answers is nowhere to write to the customer.
    event.reply_to = None;
    event
}

fn is_ours(message: &InboundMessage, raw: &[u8], settings: &ParseSettings) -> bool {
    let Some(author) = message.from.identities.first() else {
        return false;
    };
    if !settings.own.contains(&author.address) || addressee(message).is_none() {
        return false;
    }
    if author.evidence.is_verified() {
        return true;
    }
    let (headers, _) = Headers::split(raw);
    match &settings.authserv_id {
        // Our server stamps whatever comes from outside, so a mail without its stamp did not.
        Some(id) => auth_results::trusted(&headers, id).is_none(),
        // A mail that was only kept, and never carried, has no trace fields.
        None => !headers.has("received"),
    }
}

/// The first of the customers it went to.
fn addressee(message: &InboundMessage) -> Option<usize> {
    let is_to = |role| matches!(role, ParticipantRole::To);
    let people = &message.participants;
    let to = people.iter().position(|person| is_to(person.role));
    to.or(if people.is_empty() { None } else { Some(0) })
}

/// `from` of an echo names the customer. Where our server proves senders, ours is as good as a
/// proof of whom we wrote to; elsewhere the customer's own mails are claims, and so is this.
fn echo(mut message: Box<InboundMessage>, settings: &ParseSettings) -> Event {
    let Some(at) = addressee(&message) else {
        return Event::Message(message);
    };
    let customer = message.participants.remove(at);
    let evidence = match settings.authserv_id {
        Some(_) => Evidence::Verified(Method::CustomerRecord),
        None => Evidence::Claimed,
    };
    message.from = MessageSender {
        identities: vec![IdentityClaim {
            namespace: customer.namespace,
            address: customer.address,
            evidence,
        }],
        name: customer.name,
    };
    Event::Echo(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{OwnAddresses, parse};

    fn read(authserv_id: Option<&str>, mail: &str) -> InboundEvent {
        let settings = ParseSettings {
            own: OwnAddresses::new(["support@shop.example"]),
            authserv_id: authserv_id.map(str::to_owned),
            mail_bytes_max: 1024 * 1024,
        };
        let mail = format!("{mail}\n\nhello\n").into_bytes();
        as_echo(parse(mail.into(), &settings), &settings)
    }

    #[test]
    fn where_we_want_answers_is_no_address_of_the_customer() {
        let mail = "Authentication-Results: mx.shop.example; dmarc=pass header.from=shop.example\nFrom: support@shop.example\nReply-To: returns@shop.example\nTo: kim@c.example";
        assert_eq!(read(Some("mx.shop.example"), mail).reply_to, None);
    }

    #[test]
    fn a_kept_mail_of_ours_is_an_echo_to_its_customer_and_a_forged_one_is_not() {
        const OURS: &str = "From: support@shop.example\nTo: Kim <kim@c.example>";
        const STAMP: &str = "Authentication-Results: mx.shop.example; dmarc=";
        let cases = [
            (None, OURS.to_owned(), true),
            (None, format!("Received: from x\n{OURS}"), false),
            (
                Some("mx.shop.example"),
                format!("Received: from x\n{OURS}"),
                true,
            ),
            (
                Some("mx.shop.example"),
                format!("{STAMP}fail\n{OURS}"),
                false,
            ),
            (
                Some("mx.shop.example"),
                format!("{STAMP}pass header.from=shop.example\n{OURS}"),
                true,
            ),
            (
                None,
                "From: support@shop.example\nTo: support@shop.example".to_owned(),
                false,
            ),
            (
                None,
                "From: kim@c.example\nTo: support@shop.example".to_owned(),
                false,
            ),
        ];
        for (authserv_id, mail, expected) in cases {
            let event = read(authserv_id, &mail);
            let customer = match &event.event {
                Event::Echo(message) => Some(message.from.identities[0].address.as_str()),
                _ => None,
            };
            assert_eq!(customer, expected.then_some("kim@c.example"), "{mail}");
        }
    }
}
