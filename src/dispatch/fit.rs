//! Whether a channel carries a reply: the limits of its capabilities, in one place. Asked when a
//! reply is accepted, where its writer can still change it, and again before it leaves.

use connector_api::{Capabilities, ChannelId, TextUnit};

use crate::words::counted;

use super::Refusal;

/// What of a reply its channel may be too small for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fitting<'a> {
    pub text: &'a str,
    pub html: bool,
    /// A subject that its writer gave it; the conversation's own is left out where there is no room.
    pub subject: bool,
    /// All of them, the first included.
    pub recipients: usize,
    /// Sizes of its files, in bytes.
    pub files: &'a [u64],
}

/// Refuses what the channel's provider would not take. `heard_at` is the provider's time of the
/// customer's last message on this channel, `now` in UTC microseconds, too.
pub fn fit(
    channel: &ChannelId,
    can: &Capabilities,
    reply: Fitting<'_>,
    heard_at: Option<i64>,
    now: i64,
) -> Result<(), Refusal> {
    if let Some(max) = can.text_max {
        let (length, unit) = measure(reply.text, can.text_unit);
        if length > u64::from(max) {
            return Err(Refusal::TooLong {
                channel: channel.clone(),
                length,
                max,
                unit,
            });
        }
    }
    let recipients_max = usize::from(can.recipients_max.max(1));
    let files: u64 = reply.files.iter().sum();
    let largest = reply.files.iter().copied().max().unwrap_or_default();
    let not_carried = [
        (
            reply.html && !can.html,
            "html",
            format!("the channel {channel} takes no HTML: send \"text\""),
        ),
        (
            reply.subject && !can.subject,
            "subject",
            format!("the channel {channel} has no subjects"),
        ),
        (
            reply.recipients > recipients_max,
            "cc",
            format!(
                "the channel {channel} takes {} of one message",
                counted(recipients_max, "recipient", "recipients")
            ),
        ),
        (
            !reply.files.is_empty() && can.attachment_bytes_max.is_none(),
            "attachments",
            format!("the channel {channel} takes no files"),
        ),
        (
            can.attachment_bytes_max.is_some_and(|max| largest > max),
            "attachments",
            format!(
                "the channel {channel} takes files of {} bytes",
                can.attachment_bytes_max.unwrap_or_default()
            ),
        ),
        (
            can.attachments_bytes_max.is_some_and(|max| files > max),
            "attachments",
            format!(
                "the channel {channel} takes {} bytes of files in one message",
                can.attachments_bytes_max.unwrap_or_default()
            ),
        ),
    ];
    for (refused, field, reason) in not_carried {
        if refused {
            return Err(Refusal::Unusable { field, reason });
        }
    }
    if let Some(window) = can.reply_window {
        let open_for = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let open = heard_at.is_some_and(|heard_at| now.saturating_sub(heard_at) <= open_for);
        if !open {
            return Err(Refusal::WindowClosed {
                channel: channel.clone(),
                window_seconds: window.as_secs(),
            });
        }
    }
    Ok(())
}

/// The length of a text in the provider's unit, and that unit's name.
fn measure(text: &str, unit: TextUnit) -> (u64, &'static str) {
    let (length, name) = match unit {
        TextUnit::Chars => (text.chars().count(), "characters"),
        TextUnit::Utf16Units => (text.encode_utf16().count(), "UTF-16 units"),
        // A unit this build does not know is never more than a byte.
        _ => (text.len(), "bytes"),
    };
    (u64::try_from(length).unwrap_or(u64::MAX), name)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn check(can: &Capabilities, text: &str, heard_at: Option<i64>) -> String {
        let channel = "sms-us".parse().unwrap();
        let reply = Fitting {
            text,
            ..Fitting::default()
        };
        match fit(&channel, can, reply, heard_at, 100_000_000) {
            Ok(()) => "fits".to_owned(),
            Err(refusal) => refusal.to_string(),
        }
    }

    #[test]
    fn a_text_is_measured_in_the_providers_unit() {
        // One character, two UTF-16 units, four bytes.
        let text = "\u{1f44d}\u{1f44d}";
        for (text_unit, length, name) in [
            (TextUnit::Chars, 2, "characters"),
            (TextUnit::Utf16Units, 4, "UTF-16 units"),
            (TextUnit::Bytes, 8, "bytes"),
        ] {
            let can = |text_max| Capabilities {
                text_max: Some(text_max),
                text_unit,
                ..Capabilities::default()
            };
            assert_eq!(check(&can(length), text, None), "fits", "{text_unit:?}");
            assert_eq!(
                check(&can(length - 1), text, None),
                format!(
                    "the text has {length} {name}; the channel sms-us takes {}",
                    length - 1
                )
            );
        }
    }

    #[test]
    fn a_reply_window_counts_from_the_customers_last_message() {
        let can = Capabilities {
            reply_window: Some(Duration::from_secs(60)),
            ..Capabilities::default()
        };
        let closed = "the channel sms-us takes answers for 60 seconds after the customer's last message; that time is over";
        for (heard_at, expected) in [
            (Some(100_000_000), "fits"),
            (Some(40_000_000), "fits"),
            (Some(39_999_999), closed),
            (None, closed),
        ] {
            assert_eq!(check(&can, "hello", heard_at), expected, "{heard_at:?}");
        }
        assert_eq!(check(&Capabilities::default(), "hello", None), "fits");
    }

    #[test]
    fn what_a_channel_does_not_carry_is_refused_by_the_field_that_asks_for_it() {
        let channel = "sms-us".parse().unwrap();
        let can = Capabilities {
            attachment_bytes_max: Some(10),
            attachments_bytes_max: Some(15),
            ..Capabilities::default()
        };
        let check =
            |can: &Capabilities, reply: Fitting<'_>| match fit(&channel, can, reply, None, 0) {
                Ok(()) => "fits".to_owned(),
                Err(Refusal::Unusable { field, .. }) => field.to_owned(),
                Err(other) => other.to_string(),
            };
        let plain = Fitting::default();
        for (reply, refused) in [
            (
                Fitting {
                    html: true,
                    ..plain
                },
                "html",
            ),
            (
                Fitting {
                    subject: true,
                    ..plain
                },
                "subject",
            ),
            (
                Fitting {
                    recipients: 2,
                    ..plain
                },
                "cc",
            ),
            (
                Fitting {
                    files: &[11],
                    ..plain
                },
                "attachments",
            ),
            (
                Fitting {
                    files: &[8, 8],
                    ..plain
                },
                "attachments",
            ),
            (
                Fitting {
                    files: &[10, 5],
                    recipients: 1,
                    ..plain
                },
                "fits",
            ),
        ] {
            assert_eq!(check(&can, reply), refused, "{reply:?}");
        }
        let no_files = Capabilities::default();
        assert_eq!(
            check(
                &no_files,
                Fitting {
                    files: &[1],
                    ..plain
                }
            ),
            "attachments"
        );
        let whole = Capabilities {
            html: true,
            subject: true,
            recipients_max: 2,
            attachment_bytes_max: Some(11),
            ..Capabilities::default()
        };
        let all = Fitting {
            html: true,
            subject: true,
            recipients: 2,
            files: &[11, 11],
            ..plain
        };
        assert_eq!(check(&whole, all), "fits");
    }
}
