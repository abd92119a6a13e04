//! What a message may be beyond a text to one customer: for several people, in HTML, with images
//! in it, to somebody who never wrote.

use connector_api::{ErrorKind, Namespace, OutboundAttachment, OutboundMessage, Recipient};

use crate::cases::send::{last_delivered, reply_to_someone};
use crate::kit::{Kit, Verdict, as_message, ensure, same_text};
use crate::line::Line;
use crate::provider::{Delivered, Fault, Side};

/// Longer than any address of any provider, in characters.
const NO_ADDRESS_CHARS: usize = 10_000;

fn person(name: &str) -> Recipient {
    Recipient {
        namespace: Namespace::email(),
        address: format!("{name}@example.org"),
        name: Some(name.to_owned()),
    }
}

/// The customer, one more with a copy, one more with a blind copy.
fn to_three() -> OutboundMessage {
    let mut message = reply_to_someone("hello to all of you");
    message.cc = vec![person("copied")];
    message.bcc = vec![person("blind")];
    message
}

async fn send(kit: &Kit, message: &OutboundMessage) -> Verdict<Delivered> {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let sent = sender.send(message).await;
    let receipt = sent.map_err(|error| format!("cannot send: {error}"))?;
    ensure(receipt.refused.is_empty(), || {
        format!("some were refused: {:?}", receipt.refused)
    })?;
    last_delivered(kit).await
}

/// Who got it, over all that arrived, in alphabetical order.
async fn reached(kit: &Kit) -> Vec<String> {
    let delivered = kit.provider.delivered().await;
    let mut all: Vec<String> = delivered.into_iter().flat_map(|one| one.to).collect();
    all.sort();
    all
}

pub(crate) async fn everybody_gets_it_once_and_a_blind_copy_shows_nowhere(kit: &Kit) -> Verdict {
    let mut message = to_three();
    // Named twice, gets it once.
    message.cc.push(message.to.clone());
    let delivered = send(kit, &message).await?;
    let all = reached(kit).await;
    let expected = [
        "blind@example.org",
        "copied@example.org",
        "customer@example.org",
    ];
    ensure(all == expected, || {
        format!("was for {expected:?}, went to {all:?}")
    })?;
    let is_seen = |address: &str| delivered.seen.iter().any(|seen| seen == address);
    ensure(is_seen("copied@example.org"), || {
        format!("the copy is not shown: {:?}", delivered.seen)
    })?;
    ensure(!is_seen("blind@example.org"), || {
        "everybody sees the blind copy".to_owned()
    })
}

/// One of them is gone: the others have it, and who has not is named with the reason.
pub(crate) async fn whoever_is_refused_is_named_and_the_others_get_it_once(kit: &Kit) -> Verdict {
    let reason = "this one has left";
    let fault = Fault::RefuseRecipient {
        address: "copied@example.org".to_owned(),
        reason: reason.to_owned(),
    };
    kit.provider.fail_next(Side::Send, fault).await;
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let sent = sender.send(&to_three()).await;
    let receipt = sent.map_err(|error| format!("the others got nothing: {error}"))?;
    let [refused] = &receipt.refused[..] else {
        return Err(format!(
            "one was refused, the receipt says {:?}",
            receipt.refused
        ));
    };
    ensure(refused.address == "copied@example.org", || {
        format!("{} is named", refused.address)
    })?;
    ensure(refused.reason.contains(reason), || {
        format!("the agent is not told why: {}", refused.reason)
    })?;
    let all = reached(kit).await;
    ensure(all == ["blind@example.org", "customer@example.org"], || {
        format!("went to {all:?}")
    })
}

pub(crate) async fn html_arrives_beside_the_text(kit: &Kit) -> Verdict {
    let html = "<p>Grüße &amp; <b>more</b></p>\n<p>.</p>";
    let mut message = reply_to_someone("Grüße & more");
    message.html = Some(html.to_owned());
    let delivered = send(kit, &message).await?;
    ensure(same_text(&delivered.text, &message.text), || {
        format!("the text became {:?}", delivered.text)
    })?;
    let found = delivered.html.unwrap_or_default();
    ensure(same_text(&found, html), || {
        format!("the HTML became {found:?}")
    })
}

pub(crate) async fn an_image_is_found_by_the_id_in_the_html(kit: &Kit) -> Verdict {
    let mut message = reply_to_someone("a picture");
    message.html = Some("<img src=\"cid:picture-1\">".to_owned());
    let mut image = OutboundAttachment::of("p.png", "image/png", b"\x89PNG\r\n\x1a\n".to_vec());
    image.content_id = Some("picture-1".to_owned());
    message.attachments = vec![image];
    let delivered = send(kit, &message).await?;
    let found = delivered
        .attachments
        .iter()
        .find(|file| file.content_id.as_deref() == Some("picture-1"));
    ensure(
        found.is_some_and(|file| file.bytes.as_ref() == b"\x89PNG\r\n\x1a\n"),
        || "no file has the id that the HTML names".to_owned(),
    )
}

/// Each is small enough, all of them are not.
pub(crate) async fn too_much_together_is_refused_before_upload(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let can = connector.capabilities();
    let (Some(each), Some(all)) = (can.attachment_bytes_max, can.attachments_bytes_max) else {
        return Ok(());
    };
    let each = each.min(all).max(1);
    let mut message = reply_to_someone("many files");
    let mut left = all + 1;
    while left > 0 {
        let size = left.min(each);
        left -= size;
        let bytes = vec![b'x'; usize::try_from(size).map_err(|error| error.to_string())?];
        let file = OutboundAttachment::of("part.bin", "application/octet-stream", bytes);
        message.attachments.push(file);
    }
    match sender.send(&message).await {
        Ok(_) => {
            return Err(format!(
                "{} bytes were sent, at most {all} are claimed",
                all + 1
            ));
        }
        Err(error) => ensure(
            matches!(error.kind, ErrorKind::TooLarge | ErrorKind::Rejected),
            || format!("is {:?} and not TooLarge: {error}", error.kind),
        )?,
    }
    let attempts = kit.provider.send_attempts().await;
    ensure(attempts == 0, || {
        "was uploaded before it was refused".to_owned()
    })
}

/// Asked while somebody writes, so without the provider; what it reads is what events say.
pub(crate) async fn an_address_is_read_as_events_write_it_and_garbage_is_refused(
    kit: &Kit,
) -> Verdict {
    let connector = kit.unreachable_connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let long = "x".repeat(NO_ADDRESS_CHARS);
    for garbage in ["", " \t", &long] {
        match sender.recipient(garbage) {
            Ok(read) => return Err(format!("{garbage:?} is read as {:?}", read.address)),
            Err(error) => ensure(error.kind == ErrorKind::Rejected, || {
                format!("{garbage:?} is {:?} and not Rejected: {error}", error.kind)
            })?,
        }
    }
    let line = Line::open(kit).await?;
    let id = kit.provider.customer_says("who am I?").await;
    let event = line.receive(&id).await?;
    let identity = as_message(&event)?
        .from
        .identities
        .first()
        .ok_or("the customer has no identity")?
        .clone();
    for written in [identity.address.clone(), format!("  {} ", identity.address)] {
        let read = sender
            .recipient(&written)
            .map_err(|error| format!("the customer's own address is refused: {error}"))?;
        let is_same = read.address == identity.address && read.namespace == identity.namespace;
        ensure(is_same, || {
            format!(
                "{written:?} is read as {} {:?}, events say {} {:?}",
                read.namespace, read.address, identity.namespace, identity.address
            )
        })?;
    }
    line.stop().await.map(drop)
}
