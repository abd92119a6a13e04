//! Files out: the same bytes, within the claimed size, under whatever name.

use connector_api::{ErrorKind, OutboundAttachment, OutboundMessage};

use crate::cases::send::{last_delivered, only_to, reply_to_someone};
use crate::kit::{Kit, Verdict, ensure};

/// Every byte value, lines that end mail, and a length that is no multiple of three.
fn bytes() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.extend_from_slice(b"\r\n.\r\nQUIT\r\n--boundary--\r\n\0");
    bytes
}

fn message_with(name: &str, bytes: Vec<u8>) -> OutboundMessage {
    let mut message = reply_to_someone("see the file");
    message.attachments = vec![OutboundAttachment::of(
        name,
        "application/octet-stream",
        bytes,
    )];
    message
}

pub(crate) async fn attachment_round_trip(kit: &Kit) -> Verdict {
    let found = send(kit, &message_with("Grüße 1.bin", bytes())).await?;
    ensure(found == "Grüße 1.bin", || {
        format!("the name became {found:?}")
    })
}

/// The name is data: it may change, but the file arrives, to the customer only.
pub(crate) async fn hostile_file_name_is_harmless(kit: &Kit) -> Verdict {
    for name in [
        "../../etc/passwd",
        "a\r\nBcc: eve@evil.example\r\n\r\n.txt",
        "\"; filename=\"x.exe",
        "\u{202e}gnp.exe",
        "",
        "\0",
    ] {
        send(kit, &message_with(name, bytes()))
            .await
            .map_err(|why| format!("named {name:?}: {why}"))?;
    }
    Ok(())
}

pub(crate) async fn oversize_refused_before_upload(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    let max = connector
        .capabilities()
        .attachment_bytes_max
        .unwrap_or_default();
    let size = usize::try_from(max).map_err(|error| error.to_string())? + 1;
    match sender
        .send(&message_with("large.bin", vec![b'x'; size]))
        .await
    {
        Ok(_) => return Err(format!("{size} bytes were sent, at most {max} are claimed")),
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

/// Sends and returns the name under which the file arrived.
async fn send(kit: &Kit, message: &OutboundMessage) -> Verdict<String> {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    sender
        .send(message)
        .await
        .map_err(|error| format!("cannot send: {error}"))?;
    let delivered = last_delivered(kit).await?;
    only_to(&delivered, message)?;
    let [file] = &delivered.attachments[..] else {
        return Err(format!("one file became {}", delivered.attachments.len()));
    };
    ensure(file.bytes == bytes(), || {
        format!("{} bytes became {}", bytes().len(), file.bytes.len())
    })?;
    Ok(file.name.clone())
}
