//! Amazon SES receiving, through SNS: a receipt rule's SNS action notifies with the mail inside (up
//! to 150 KB). An S3 action notifies with its headers alone; the body stays in the bucket.

use connector_api::{Bytes, Defect, Error, InboundEvent, Result};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::parse::{
    Envelope, ParseSettings, decode_base64, normalise_address, parse_delivered,
    parse_delivered_headers,
};
use crate::webhook::rebuild::Pieces;
use crate::webhook::sns;

/// What a request of SNS holds.
pub(crate) enum Read {
    Mail(Box<InboundEvent>),
    /// A confirmation, or a notice about something else.
    Nothing,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Notification {
    notification_type: String,
    mail: Mail,
    receipt: Receipt,
    content: Option<String>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Mail {
    source: Option<String>,
    destination: Vec<String>,
    headers: Vec<Header>,
    headers_truncated: bool,
    common_headers: CommonHeaders,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CommonHeaders {
    from: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Receipt {
    recipients: Vec<String>,
    spam_verdict: Verdict,
    virus_verdict: Verdict,
    dmarc_verdict: Verdict,
    action: Action,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Verdict {
    status: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Action {
    encoding: String,
    bucket_name: String,
    object_key: String,
}

/// Reads a body whose signature was checked, or a captured one.
pub(crate) fn read(body: &Bytes, settings: &ParseSettings) -> Result<Read> {
    let message = sns::Message::read(body)
        .ok_or_else(|| Error::malformed("the body is no message of SNS"))?;
    if message.kind != "Notification" {
        return Ok(Read::Nothing);
    }
    let Ok(notification) = serde_json::from_str::<Notification>(&message.message) else {
        // "Successfully validated SNS topic for Amazon SES event publishing." is one.
        return Ok(Read::Nothing);
    };
    if notification.notification_type != "Received" {
        return Ok(Read::Nothing);
    }
    let mut event = mail(&notification, settings);
    let verdicts = &notification.receipt;
    if verdicts.spam_verdict.status == "FAIL" && event.provider_spam.is_none() {
        event.provider_spam = Some("ses-spam-verdict".to_owned());
    }
    if verdicts.virus_verdict.status == "FAIL" {
        event.provider_spam = Some("ses-virus-verdict".to_owned());
        let detail = "the virus filter of SES found one in this mail";
        event.defects.push(Defect::new("virus_found", detail));
    }
    let mut rest = message.rest;
    // Whoever opens it ends the subscription.
    rest.remove("UnsubscribeURL");
    rest.extend(notification.rest);
    event.extra.extend(super::extra_members("ses", rest));
    Ok(Read::Mail(Box::new(event)))
}

fn mail(notification: &Notification, settings: &ParseSettings) -> InboundEvent {
    let Notification { mail, receipt, .. } = notification;
    let source = mail.source.as_deref();
    let mut recipients = receipt.recipients.clone();
    recipients.extend(mail.destination.iter().cloned());
    let envelope = Envelope {
        recipients,
        null_sender: source.is_some_and(|it| it.trim_matches(['<', '>', ' ']).is_empty()),
        dmarc_author: dmarc_author(notification),
        ..Envelope::default()
    };
    if let Some(content) = &notification.content {
        let raw = match receipt.action.encoding.eq_ignore_ascii_case("base64") {
            true => decode_base64(content.as_bytes()),
            false => content.clone().into_bytes(),
        };
        return parse_delivered(raw.into(), envelope, settings);
    }
    let mut pieces = Pieces::default();
    for header in &mail.headers {
        pieces.header(&header.name, header.value.as_bytes());
    }
    let where_it_is = match receipt.action.bucket_name.as_str() {
        "" => "SES did not send it along".to_owned(),
        bucket => format!(
            "it is in the S3 bucket {bucket} as {}",
            receipt.action.object_key
        ),
    };
    let mut detail = format!(
        "only the headers of this mail came, {where_it_is}: give the receipt rule an SNS action"
    );
    if mail.headers_truncated {
        detail.push_str("; some headers are missing, too");
    }
    let envelope = Envelope {
        is_rebuilt: true,
        ..envelope
    };
    let why = Defect::new("body_not_delivered", detail);
    parse_delivered_headers(pieces.write(), why, envelope, settings)
}

/// The one author for whom SES found that DMARC passed: it checks the domain of `From`, and SNS
/// signs what it found.
fn dmarc_author(notification: &Notification) -> Option<String> {
    let [author] = notification.mail.common_headers.from.as_slice() else {
        return None;
    };
    if notification.receipt.dmarc_verdict.status != "PASS" {
        return None;
    }
    let (_, inside) = author.rsplit_once('<').unwrap_or(("", author));
    normalise_address(inside)
}
