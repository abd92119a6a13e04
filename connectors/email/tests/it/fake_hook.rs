//! Services that post mail: each writes its requests and signs them as the real one does.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
};
use aws_lc_rs::{encoding, hmac};
use axum::Router;
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Bytes, DeliveryStage, Registration, WebhookRequest, async_trait};
use connector_testkit::{Delivered, FakeProvider, Fault, Handshake, NOW_SECONDS, Side, now, post};
use serde_json::{Value, json};

use crate::fake_mail::FakeMail;

pub const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:support-mail";
const CERTIFICATE: &str = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1a2b.pem";
const CONFIRMATION: &str =
    "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=t-0815";
const PASSWORD: &str = "hook-pass-2342-word";
const SIGNING_KEY: &str = "key-3ax6xnjp29jd6fds4gc373sgvjxteol0";
const TOKEN: &str = "url-token-1701-word";

static RSA: LazyLock<RsaKeyPair> =
    LazyLock::new(|| RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
static ECDSA: LazyLock<EcdsaKeyPair> =
    LazyLock::new(|| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap());

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// With a security policy.
    Sendgrid,
    Postmark,
    Mailgun,
    Ses,
}

pub struct FakeHook {
    service: Service,
    mail: FakeMail,
    sns: SocketAddr,
    mails: Mutex<BTreeMap<String, String>>,
}

impl FakeHook {
    pub async fn start(service: Service) -> Self {
        Self {
            service,
            mail: FakeMail::start().await,
            sns: serve_sns().await,
            mails: Mutex::default(),
        }
    }

    fn with_webhook(&self, mut config: Value) -> Value {
        let password = json!({ "env": "HOOK_PASSWORD" });
        config.as_object_mut().unwrap().remove("imap");
        config["webhook"] = match self.service {
            Service::Sendgrid => json!({
                "provider": "sendgrid", "public_key": public_key(),
                "token": { "env": "HOOK_TOKEN" },
            }),
            Service::Postmark => {
                json!({ "provider": "postmark", "user": "hook", "password": password })
            }
            Service::Mailgun => {
                json!({ "provider": "mailgun", "signing_keys": [{ "env": "HOOK_KEY" }] })
            }
            Service::Ses => json!({
                "provider": "ses", "topics": [TOPIC],
                "sns_endpoint": format!("http://{}", self.sns),
            }),
        };
        config
    }

    fn keep(&self, (id, mail): (String, String)) -> String {
        self.mails.lock().unwrap().insert(id.clone(), mail);
        id
    }
}

fn public_key() -> String {
    let der: encoding::PublicKeyX509Der<'_> = ECDSA.public_key().as_der().unwrap();
    STANDARD.encode(der.as_ref())
}

/// The request in which a service delivers `mail`.
pub fn request(service: Service, mail: &[u8]) -> WebhookRequest {
    let text = || String::from_utf8_lossy(mail).into_owned();
    match service {
        Service::Sendgrid => {
            let envelope = json!({ "to": ["support@shop.example"], "from": "c@example.org" });
            let envelope = envelope.to_string();
            signed_sendgrid(&[("envelope", envelope.as_bytes()), ("email", mail)])
        }
        Service::Postmark => postmark(&json!({
            "MessageID": "73e6d360-66eb-11e1-8e72-a8904824019b", "RawEmail": text(),
            "OriginalRecipient": "support@shop.example",
        })),
        Service::Mailgun => {
            // One for each mail, the same in a repeated delivery.
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, mail);
            let token = STANDARD.encode(digest);
            let fields: [(&str, &[u8]); 2] =
                [("recipient", b"support@shop.example"), ("body-mime", mail)];
            mailgun(&token, &fields)
        }
        Service::Ses => {
            let notification = json!({
                "notificationType": "Received",
                "receipt": {
                    "recipients": ["support@shop.example"],
                    "action": { "type": "SNS", "encoding": "BASE64", "topicArn": TOPIC },
                },
                "mail": { "source": "c@example.org", "destination": ["support@shop.example"] },
                "content": STANDARD.encode(mail),
            });
            sns(json!({ "Type": "Notification", "Message": notification.to_string() }))
        }
    }
}

/// A SendGrid form with the signature of its security policy.
pub fn signed_sendgrid(fields: &[(&str, &[u8])]) -> WebhookRequest {
    let (content_type, body) = multipart(fields);
    let timestamp = NOW_SECONDS.to_string();
    let signed = [timestamp.as_bytes(), &body].concat();
    let signature = ECDSA.sign(&SystemRandom::new(), &signed).unwrap();
    let headers = [
        ("content-type", content_type),
        (
            "x-twilio-email-event-webhook-signature",
            STANDARD.encode(signature),
        ),
        ("x-twilio-email-event-webhook-timestamp", timestamp),
    ];
    let mut request = post(headers, body);
    request.query = format!("token={TOKEN}");
    request
}

pub fn postmark(body: &Value) -> WebhookRequest {
    let login = STANDARD.encode(format!("hook:{PASSWORD}"));
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("authorization", format!("Basic {login}")),
    ];
    post(headers, body.to_string())
}

/// A Mailgun form, signed with a token.
pub fn mailgun(token: &str, fields: &[(&str, &[u8])]) -> WebhookRequest {
    let timestamp = NOW_SECONDS.to_string();
    let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY.as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}{token}").as_bytes());
    let signature: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    let proof: [(&str, &[u8]); 3] = [
        ("timestamp", timestamp.as_bytes()),
        ("token", token.as_bytes()),
        ("signature", signature.as_bytes()),
    ];
    let (content_type, body) = multipart(&[&proof, fields].concat());
    post([("content-type", content_type)], body)
}

/// The same fields as Mailgun posts them where a mail has no files.
pub fn as_urlencoded(request: &WebhookRequest) -> WebhookRequest {
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    let parts = body.split("--xYzZY\r\n").filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (head, value) = part.split_once("\r\n\r\n").unwrap();
        let name = head.split('"').nth(1).unwrap();
        let value = value.trim_end_matches("--xYzZY--");
        let value = value.strip_suffix("\r\n").unwrap();
        let encoded: String = value
            .bytes()
            .map(|byte| match byte {
                b' ' => "+".to_owned(),
                byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        format!("{name}={encoded}")
    });
    let body = pairs.collect::<Vec<_>>().join("&");
    let content_type = "application/x-www-form-urlencoded".to_owned();
    post([("content-type", content_type)], body)
}

/// A message of SNS, signed in version 2.
pub fn sns(mut message: Value) -> WebhookRequest {
    for (name, value) in [
        (
            "MessageId",
            "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324".to_owned(),
        ),
        ("TopicArn", TOPIC.to_owned()),
        ("Timestamp", now().to_string()),
        ("SignatureVersion", "2".to_owned()),
        ("SigningCertURL", CERTIFICATE.to_owned()),
    ] {
        if message.get(name).is_none() {
            message[name] = json!(value);
        }
    }
    let names: &[&str] = match message["Type"].as_str().unwrap() {
        "Notification" => &[
            "Message",
            "MessageId",
            "Subject",
            "Timestamp",
            "TopicArn",
            "Type",
        ],
        _ => &[
            "Message",
            "MessageId",
            "SubscribeURL",
            "Timestamp",
            "Token",
            "TopicArn",
            "Type",
        ],
    };
    let signed: String = names
        .iter()
        .filter_map(|name| Some(format!("{name}\n{}\n", message.get(*name)?.as_str()?)))
        .collect();
    let mut signature = vec![0; RSA.public_modulus_len()];
    RSA.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    message["Signature"] = json!(STANDARD.encode(signature));
    // SNS says text, and means JSON.
    let headers = [("content-type", "text/plain; charset=UTF-8".to_owned())];
    post(headers, message.to_string())
}

pub fn confirmation() -> WebhookRequest {
    sns(json!({
        "Type": "SubscriptionConfirmation", "Token": "t-0815", "SubscribeURL": CONFIRMATION,
        "Message": "You have chosen to subscribe to the topic.",
    }))
}

pub fn multipart(fields: &[(&str, &[u8])]) -> (String, Vec<u8>) {
    let mut body = Vec::new();
    for (name, value) in fields {
        let head = format!("--xYzZY\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(value);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--xYzZY--");
    ("multipart/form-data; boundary=xYzZY".to_owned(), body)
}

/// Hands out the certificate, and confirms the one subscription.
async fn serve_sns() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let certificate = certificate();
    let app = Router::new()
        .route(
            "/SimpleNotificationService-1a2b.pem",
            get(move || async { certificate }),
        )
        .route("/", get(|| async { "<ConfirmSubscriptionResponse/>" }));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    address
}

/// The smallest certificate there is (RFC 5280, section 4.1); its own signature is read by nobody.
fn certificate() -> String {
    let der = |tag: u8, parts: &[&[u8]]| {
        let content = parts.concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82][..], &length, &content].concat()
    };
    let short = |tag: u8, content: &[u8]| {
        [&[tag, u8::try_from(content.len()).unwrap()][..], content].concat()
    };
    let sha256_with_rsa = short(6, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11]);
    let algorithm = short(0x30, &[&sha256_with_rsa[..], &[5, 0]].concat());
    let time = short(0x17, b"260101000000Z");
    let validity = short(0x30, &[time.clone(), time].concat());
    let key: encoding::PublicKeyX509Der<'_> = RSA.public_key().as_der().unwrap();
    let version = short(0xa0, &[2, 1, 2]);
    let name = short(0x30, &[]);
    let to_be_signed = der(
        0x30,
        &[
            &version,
            &[2, 1, 1],
            &algorithm,
            &name,
            &validity,
            &name,
            key.as_ref(),
        ],
    );
    let signature = short(3, &[0, 0]);
    let whole = STANDARD.encode(der(0x30, &[&to_be_signed, &algorithm, &signature]));
    format!("-----BEGIN CERTIFICATE-----\n{whole}\n-----END CERTIFICATE-----\n")
}

#[async_trait]
impl FakeProvider for FakeHook {
    fn registration(&self) -> Registration {
        self.mail.registration()
    }

    fn config(&self) -> Value {
        self.with_webhook(self.mail.config())
    }

    fn unreachable_config(&self) -> Value {
        self.with_webhook(self.mail.unreachable_config())
    }

    fn secrets(&self) -> Vec<(String, String)> {
        let mut secrets = self.mail.secrets();
        secrets.retain(|(name, _)| name == "SMTP_PASSWORD");
        let own = match self.service {
            Service::Sendgrid => ("HOOK_TOKEN", TOKEN),
            Service::Postmark => ("HOOK_PASSWORD", PASSWORD),
            Service::Mailgun => ("HOOK_KEY", SIGNING_KEY),
            Service::Ses => return secrets,
        };
        secrets.push((own.0.to_owned(), own.1.to_owned()));
        secrets
    }

    async fn customer_says(&self, text: &str) -> String {
        self.keep(self.mail.mail("", text))
    }

    async fn customer_answers(&self, sent: &Delivered, text: &str) -> String {
        self.keep(self.mail.answer(sent, text))
    }

    fn webhook_for(&self, id: &str) -> WebhookRequest {
        let mails = self.mails.lock().unwrap();
        request(self.service, mails[id].as_bytes())
    }

    fn handshake(&self) -> Option<Handshake> {
        (self.service == Service::Ses).then(|| Handshake {
            request: confirmation(),
            expected_status: 200,
            expected_body: Bytes::from_static(b"ok"),
        })
    }

    fn freshness(&self) -> Option<Duration> {
        match self.service {
            Service::Sendgrid => Some(Duration::from_secs(73 * 3_600)),
            Service::Postmark => None,
            Service::Mailgun => Some(Duration::from_secs(9 * 3_600)),
            Service::Ses => Some(Duration::from_secs(3_900)),
        }
    }

    async fn delivered(&self) -> Vec<Delivered> {
        self.mail.delivered().await
    }

    async fn send_attempts(&self) -> usize {
        self.mail.send_attempts().await
    }

    async fn fail_next(&self, side: Side, fault: Fault) {
        self.mail.fail_next(side, fault).await;
    }

    async fn reports(&self, sent: &Delivered, stage: DeliveryStage) -> String {
        self.keep(self.mail.report(sent, stage))
    }
}
