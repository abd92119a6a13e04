//! Amazon SNS: signed JSON (SignatureVersion 1, SHA-1, and 2, SHA-256), the certificate it is signed
//! with, and the confirmation that a new subscription asks for.
//!
//! The certificate lies at an address that the request names, so only an address of SNS itself, in
//! the region of a configured topic, is fetched. Anybody with an AWS account can have SNS sign
//! something: the topic has to be one of ours.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{
    Bytes, Clock, Error, ErrorKind, HttpClient, HttpMethod, HttpRequest, Result, Timestamp,
    WebhookRequest,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How old a message may be, in seconds: SNS repeats for an hour at most.
pub(crate) const MESSAGE_AGE_SECONDS_MAX: i64 = 3_900;

/// How far ahead of our clock a message may be, in seconds.
const MESSAGE_AHEAD_SECONDS_MAX: i64 = 300;

/// How long a certificate is used before it is fetched again, in seconds.
const CERTIFICATE_SECONDS_MAX: i64 = 24 * 3_600;

/// How long nothing is fetched after a fetch failed, in seconds: a stranger may name addresses.
const PAUSE_SECONDS: i64 = 10;

/// Most certificates kept, and most messages that wait for one.
const CERTIFICATES_MAX: usize = 16;
const WAITING_MAX: usize = 8;

const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer read: certificates have 2 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A message as SNS posts it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct Message {
    #[serde(rename = "Type")]
    pub(crate) kind: String,
    pub(crate) message: String,
    message_id: String,
    subject: Option<String>,
    timestamp: String,
    topic_arn: String,
    token: String,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: String,
    signature_version: String,
    signature: String,
    #[serde(rename = "SigningCertURL")]
    certificate_url: String,
    #[serde(flatten)]
    pub(crate) rest: Map<String, Value>,
}

/// What is known of the topics of one channel.
pub(crate) struct Topics {
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Public keys by the address of their certificate, and when each was fetched.
    keys: HashMap<String, (Vec<u8>, i64)>,
    /// Tokens of the subscriptions that were confirmed.
    confirmed: HashSet<String>,
    /// Messages that `refresh` has something to fetch for.
    waiting: Vec<Message>,
    paused_until: i64,
}

/// The region in the ARN of a topic: `arn:aws:sns:eu-west-1:123456789012:mail`.
pub(crate) fn region_of(topic: &str) -> Option<&str> {
    let parts: Vec<&str> = topic.split(':').collect();
    let is_word = |text: &str| {
        let is_plain =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        !text.is_empty() && text.bytes().all(is_plain)
    };
    match parts.as_slice() {
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && [*region, account, name].map(is_word) == [true; 3] =>
        {
            (!region.contains('.')).then_some(*region)
        }
        _ => None,
    }
}

impl Message {
    /// `None` for what is no message of SNS.
    pub(crate) fn read(body: &Bytes) -> Option<Self> {
        let message: Self = serde_json::from_slice(body).ok()?;
        (!message.kind.is_empty() && !message.topic_arn.is_empty()).then_some(message)
    }

    fn is_confirmation(&self) -> bool {
        self.kind == "SubscriptionConfirmation"
    }

    /// The fields that are signed, in their order.
    fn signed(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.message.len() + 512);
        let mut add = |name: &str, value: &str| {
            out.extend_from_slice(name.as_bytes());
            out.push(b'\n');
            out.extend_from_slice(value.as_bytes());
            out.push(b'\n');
        };
        add("Message", &self.message);
        add("MessageId", &self.message_id);
        match self.kind.as_str() {
            "Notification" => {
                if let Some(subject) = &self.subject {
                    add("Subject", subject);
                }
                add("Timestamp", &self.timestamp);
            }
            "SubscriptionConfirmation" | "UnsubscribeConfirmation" => {
                add("SubscribeURL", &self.subscribe_url);
                add("Timestamp", &self.timestamp);
                add("Token", &self.token);
            }
            _ => return None,
        }
        add("TopicArn", &self.topic_arn);
        add("Type", &self.kind);
        Some(out)
    }

    fn is_signed_with(&self, public_key: &[u8]) -> Result<()> {
        let algorithm = match self.signature_version.as_str() {
            "1" => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            "2" => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Error::auth("SignatureVersion: neither 1 nor 2")),
        };
        let signed = self
            .signed()
            .ok_or_else(|| Error::auth("Type: unknown, so that nothing says what is signed"))?;
        let signature = STANDARD
            .decode(&self.signature)
            .map_err(|_| Error::auth("Signature: no base64"))?;
        UnparsedPublicKey::new(algorithm, public_key)
            .verify(&signed, &signature)
            .map_err(|_| Error::auth("Signature: does not match"))
    }
}

impl Topics {
    pub(crate) fn new(http: Arc<dyn HttpClient>, clock: Arc<dyn Clock>) -> Self {
        Self {
            http,
            clock,
            known: Mutex::default(),
        }
    }

    /// Checks topic, age and signature; asks for [`Topics::refresh`] where a certificate is missing
    /// or a subscription is to be confirmed.
    pub(crate) fn verify(
        &self,
        request: &WebhookRequest,
        topics: &[String],
        endpoint: Option<&str>,
    ) -> Result<()> {
        if request.header("x-amz-sns-rawdelivery").is_some() {
            return Err(Error::auth(
                "raw message delivery has no signature: switch it off for this subscription",
            ));
        }
        let message = Message::read(&request.body)
            .ok_or_else(|| Error::auth("the body is no message of SNS"))?;
        if !topics.contains(&message.topic_arn) {
            return Err(Error::auth("TopicArn: not one of this channel's topics"));
        }
        let sent: Timestamp = message
            .timestamp
            .parse()
            .map_err(|_| Error::auth("Timestamp: no time"))?;
        let age = request.received_at.as_second() - sent.as_second();
        if !(-MESSAGE_AHEAD_SECONDS_MAX..=MESSAGE_AGE_SECONDS_MAX).contains(&age) {
            return Err(Error::auth(format!(
                "Timestamp: {age} s old, at most {MESSAGE_AGE_SECONDS_MAX} s are taken"
            )));
        }
        certificate_address(&message, endpoint)?;
        let now = self.clock.now().as_second();
        let mut known = self.known();
        match known.key_of(&message, now) {
            Some(key) => message.is_signed_with(key)?,
            None => return known.wait_for(message, now),
        }
        let is_new = message.is_confirmation() && !known.confirmed.contains(&message.token);
        match is_new {
            true => known.wait_for(message, now),
            false => Ok(()),
        }
    }

    /// Fetches certificates that are missing, and confirms subscriptions whose signature is good.
    pub(crate) async fn refresh(&self, endpoint: Option<&str>) -> Result<()> {
        let waiting = std::mem::take(&mut self.known().waiting);
        for message in waiting {
            if let Err(error) = self.fetch_for(&message, endpoint).await {
                let now = self.clock.now().as_second();
                self.known().paused_until = now.saturating_add(PAUSE_SECONDS);
                return Err(error);
            }
        }
        Ok(())
    }

    async fn fetch_for(&self, message: &Message, endpoint: Option<&str>) -> Result<()> {
        let now = self.clock.now().as_second();
        let known = self.known().key_of(message, now).map(<[u8]>::to_vec);
        let key = match known {
            Some(key) => key,
            None => {
                let pem = self.get(&certificate_address(message, endpoint)?).await?;
                let key = public_key(&pem)?;
                let mut known = self.known();
                if known.keys.len() >= CERTIFICATES_MAX {
                    known.keys.clear();
                }
                let entry = (key.clone(), now);
                known.keys.insert(message.certificate_url.clone(), entry);
                key
            }
        };
        if message.is_confirmation() {
            message.is_signed_with(&key)?;
            let address = address_of_sns(&message.subscribe_url, message, endpoint)?;
            self.get(&address).await?;
            let mut known = self.known();
            if known.confirmed.len() >= CERTIFICATES_MAX {
                known.confirmed.clear();
            }
            known.confirmed.insert(message.token.clone());
        }
        Ok(())
    }

    async fn get(&self, address: &str) -> Result<Bytes> {
        let request = HttpRequest {
            method: HttpMethod::Get,
            url: address.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            timeout: FETCH_TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let not_got = |what: String| Error::unavailable(format!("asking SNS: {what}"));
        let answer = self.http.execute(request).await;
        let answer = answer.map_err(|error| not_got(error.message))?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(not_got(format!("it answered {status}"))),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn key_of(&self, message: &Message, now: i64) -> Option<&[u8]> {
        let (key, since) = self.keys.get(&message.certificate_url)?;
        (now - since < CERTIFICATE_SECONDS_MAX).then_some(key)
    }

    fn wait_for(&mut self, message: Message, now: i64) -> Result<()> {
        if now < self.paused_until || self.waiting.len() >= WAITING_MAX {
            return Err(Error::unavailable("SNS could not be asked a moment ago"));
        }
        self.waiting.push(message);
        Err(Error::new(
            ErrorKind::KeysStale,
            "the certificate of SNS is not here yet, or a subscription is to be confirmed",
        ))
    }
}

/// Where the certificate is fetched from.
fn certificate_address(message: &Message, endpoint: Option<&str>) -> Result<String> {
    let url = message.certificate_url.as_str();
    let path = url.rsplit('/').next().unwrap_or_default();
    let is_certificate = path.starts_with("SimpleNotificationService-")
        && path.ends_with(".pem")
        && path
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !is_certificate {
        return Err(Error::auth("SigningCertURL: no certificate of SNS"));
    }
    address_of_sns(url, message, endpoint)
}

/// An address at SNS in the topic's own region, or the same at the stand-in.
fn address_of_sns(url: &str, message: &Message, endpoint: Option<&str>) -> Result<String> {
    let foreign = || Error::auth("a URL in the message is not of SNS in the topic's region");
    let region = region_of(&message.topic_arn).ok_or_else(foreign)?;
    let top = if region.starts_with("cn-") {
        "amazonaws.com.cn"
    } else {
        "amazonaws.com"
    };
    let path = url
        .strip_prefix(&format!("https://sns.{region}.{top}/"))
        .ok_or_else(foreign)?;
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`{|}#".contains(&byte);
    if !path.bytes().all(is_plain) {
        return Err(foreign());
    }
    Ok(match endpoint {
        Some(endpoint) => format!("{}/{path}", endpoint.trim_end_matches('/')),
        None => url.to_owned(),
    })
}

fn public_key(pem: &[u8]) -> Result<Vec<u8>> {
    let unreadable = || Error::unavailable("asking SNS: what came is no certificate");
    let der = CertificateDer::from_pem_slice(pem).map_err(|_| unreadable())?;
    let certificate = webpki::EndEntityCert::try_from(&der).map_err(|_| unreadable())?;
    Ok(certificate.subject_public_key_info().as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA1WFlwIpKMSWBEtFFjWHxZ+aD2SNp4TctkENXcEpWwTpkR5tPK7rHzCKuhUTmGUH5TkQq9bRqG0J6kLjOaBAydfsKdxiC+qz3lToQAzRiBvHtCrehPue+u6dnKpROHZtL59tfLlGBtO2Y4dtutEM7XEzl41oqolc/FwNu3hjKlsg4Wd/h762Cbz4OeQJqfCocM3hYLEaNaOeKMCYCq8TkMO+ZhPre11te+Gq5QHjgs9zjIehYGat4NaioeIT9PiHyxTMI7W8OaYSmpeKPIA6VPR6WjM7MPJ6rJtxfom2MrUO5mgu1eRzdRs1mG+whq/8AB6L/mrhotkQyvL4NcaQz2QIDAQAB";
    const SHA1: &str = "SdLsxZdciSk32eCTxZcEYnWT6wWQXnYcjhvtN1hkmMnuIH6tP3/ptT/L/03Y/e+hC4qyfHcrPrkwuBXn+c+c63YhDd0frxuQOzFVRJLHOCaLyd+Z5nkCe+EVMPDBTKNHvHja6RAMWkAI0jqrl8rlDaXvaI5P6chHUbnJK73mj0iY4AzcJyubBgtz24M0a8OG/9GDSRnx/DKMdMisDbd+ZHxTOGNfwcZoLafca+0Pir5yqd4B9mlHr4/lZG5HQCNcVQi5WN+y7xNigbHZ6o+ZAW1evwDaMoiAIYLwxPxKM6KJfel3YJNq9pxagtr/unat+k/2269bVL2ZaY4K+09dTw==";
    const SHA256: &str = "lpqkLwHErPHYJvJnpn7G5l5rNI8SyTX+5JT59ARV+5mg/z4DAu4NrWNBPgOq68MNSOu9R3+FoYtR/iU3i4SLZZAqtpLx7QdBnMRA8f5SL3si7lmML0c6Bj1l2wnERwcKFv+7Wdpu2piZCRZo9261TrJDcRJ1S6Gg8A6AiIw0oCk6mbP0isPQLJBGIiGq0C8og+lr1c2oFZS39N/HBsayfzx0kW1D+jhm2ScnOWxgXM0v4M0uldAC5XWjzKmB9SRf8Cb70DSkKIuthq3q/7DlCtoNoztLzR4mteYl+9YAmrdoi95oNXgXsgcVm2OqbCAcVaXEftMuuvQnhT1wyniQWQ==";

    #[test]
    fn both_versions_of_the_signature_are_read_and_neither_stands_for_the_other() {
        let key = STANDARD.decode(KEY).unwrap();
        for (version, signature, is_good) in [
            ("1", SHA1, true),
            ("2", SHA256, true),
            ("1", SHA256, false),
            ("2", SHA1, false),
            ("", SHA256, false),
        ] {
            let message = Message {
                kind: "Notification".to_owned(),
                message: "hello".to_owned(),
                message_id: "m-1".to_owned(),
                subject: Some("A subject".to_owned()),
                timestamp: "2026-01-05T09:00:00.000Z".to_owned(),
                topic_arn: "arn:aws:sns:eu-west-1:123456789012:mail".to_owned(),
                signature_version: version.to_owned(),
                signature: signature.to_owned(),
                ..Message::default()
            };
            assert_eq!(message.is_signed_with(&key).is_ok(), is_good, "{version}");
            let other = Message {
                message: "hello!".to_owned(),
                ..message
            };
            assert!(other.is_signed_with(&key).is_err());
        }
    }
}
