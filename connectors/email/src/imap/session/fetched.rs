//! What a FETCH response says.

use async_imap::imap_proto::AttributeValue;
use jiff::fmt::strtime;

use crate::imap::cursor::Listed;

pub(super) fn read_listed(attributes: &[AttributeValue<'_>]) -> Option<Listed> {
    let mut uid = None;
    let mut size_bytes = 0;
    let mut date = None;
    let (mut gmail_id, mut gmail_thread) = (None, None);
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::Rfc822Size(value) => size_bytes = u64::from(*value),
            AttributeValue::InternalDate(value) => date = internal_date(value),
            AttributeValue::GmailMsgId(value) => gmail_id = Some(*value),
            AttributeValue::GmailThrId(value) => gmail_thread = Some(*value),
            _ => {}
        }
    }
    uid.map(|uid| Listed {
        uid,
        size_bytes,
        date,
        gmail_id,
        gmail_thread,
    })
}

/// A mail's UID and its bytes, if the server has them.
pub(super) fn read_body<'a>(
    attributes: &'a [AttributeValue<'_>],
) -> Option<(u32, Option<&'a [u8]>)> {
    let mut uid = None;
    let mut body = None;
    for attribute in attributes {
        match attribute {
            AttributeValue::Uid(value) => uid = Some(*value),
            AttributeValue::BodySection { data, .. } => {
                body = Some(data.as_deref());
            }
            _ => {}
        }
    }
    // A flag change announced meanwhile has a UID and no body.
    Some((uid?, body?))
}

/// `17-Jul-1996 02:44:25 -0700`, the day padded with a space (RFC 3501, `date-time`).
fn internal_date(text: &str) -> Option<i64> {
    let time = strtime::parse("%d-%b-%Y %H:%M:%S %z", text.trim()).ok()?;
    time.to_timestamp().ok().map(|time| time.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_dates_are_read_with_their_zone() {
        assert_eq!(
            internal_date("17-Jul-1996 02:44:25 -0700"),
            Some(837_596_665)
        );
        assert_eq!(
            internal_date(" 7-Jul-1996 02:44:25 +0000"),
            Some(836_707_465)
        );
        assert_eq!(internal_date("yesterday"), None);
    }
}
