//! The `webhook` table of a channel: which service posts, and what proves that it does.

use std::net::IpAddr;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{BuildContext, ExposeSecret, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::webhook::access::Access;

/// The service that posts mails to us.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Whose requests these are.
    pub provider: Provider,
    /// User name of basic authentication, as in `https://user:password@…`.
    #[serde(default)]
    pub user: Option<String>,
    /// Password of basic authentication.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// What the URL must carry as `?token=…`. A proxy logs URLs: prefer a user and a password.
    #[serde(default)]
    pub token: Option<SecretRef>,
    /// SendGrid: the public key of the security policy that signs requests, in base64.
    #[serde(default)]
    pub public_key: Option<String>,
    /// Mailgun: the HTTP webhook signing key; two of them while it is changed.
    #[serde(default)]
    pub signing_keys: Vec<SecretRef>,
    /// SES: the SNS topics that may post here, by ARN.
    #[serde(default)]
    pub topics: Vec<String>,
    /// SES: where a stand-in for SNS on this machine's loopback answers, for tries without AWS.
    #[serde(default)]
    pub sns_endpoint: Option<String>,
}

/// A service that posts mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Twilio SendGrid, Inbound Parse.
    Sendgrid,
    /// Postmark, inbound webhook.
    Postmark,
    /// Mailgun, route with `forward`.
    Mailgun,
    /// Amazon SES, receipt rule with an SNS action.
    Ses,
}

/// A checked `webhook` table with its secrets resolved.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) access: Access,
    pub(crate) proof: Proof,
}

/// What a provider itself signs with.
#[derive(Debug)]
pub(crate) enum Proof {
    Sendgrid {
        /// SubjectPublicKeyInfo in DER.
        public_key: Option<Vec<u8>>,
    },
    Postmark,
    Mailgun {
        keys: Vec<SigningKey>,
    },
    Ses {
        topics: Vec<String>,
        endpoint: Option<String>,
    },
}

/// Shows nothing of the key in `Debug`.
pub(crate) struct SigningKey(pub(crate) hmac::Key);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

impl WebhookConfig {
    /// Checks everything that needs no network.
    pub(crate) fn check(
        self,
        context: &BuildContext,
        faults: &mut Vec<String>,
    ) -> Option<Receiver> {
        let before = faults.len();
        self.check_belonging(faults);
        let mut resolve = |key: &str, secret: &SecretRef| match context.secrets.resolve(secret) {
            Ok(secret) if secret.expose_secret().trim().is_empty() => {
                faults.push(format!("webhook.{key} is empty"));
                None
            }
            Ok(secret) => Some(secret),
            Err(error) => {
                faults.push(format!("webhook.{key}: {error}"));
                None
            }
        };
        let password = self
            .password
            .as_ref()
            .and_then(|it| resolve("password", it));
        let token = self.token.as_ref().and_then(|it| resolve("token", it));
        let keys = self.signing_keys.iter();
        let keys: Vec<SigningKey> = keys
            .filter_map(|it| resolve("signing_keys", it))
            .map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().trim().as_bytes()))
            .map(SigningKey)
            .collect();
        let login = match (self.user.as_deref(), password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            _ if self.password.is_some() == self.user.is_some() => None,
            _ => {
                faults.push("webhook.user and webhook.password belong together".to_owned());
                None
            }
        };
        if self.user.as_deref().is_some_and(|user| user.contains(':')) {
            // RFC 7617, section 2.
            faults.push("webhook.user may not contain a colon".to_owned());
        }
        let login = login.as_ref().map(|(user, it)| (*user, it.expose_secret()));
        let token = token.as_ref().map(|token| token.expose_secret());
        let access = Access::new(login, token);
        let is_open = self.password.is_none() && self.token.is_none();
        let proof = match self.provider {
            Provider::Sendgrid => {
                let public_key = self.public_key.as_deref().map(|key| {
                    let key: String = key.split_whitespace().collect();
                    STANDARD.decode(key).unwrap_or_default()
                });
                if public_key.as_ref().is_some_and(|key| !is_p256(key)) {
                    faults.push("webhook.public_key is no P-256 key in base64".to_owned());
                }
                if public_key.is_none() && is_open {
                    faults.push(
                        "webhook: sendgrid needs public_key, user and password, or token"
                            .to_owned(),
                    );
                }
                Proof::Sendgrid { public_key }
            }
            Provider::Postmark => {
                if is_open {
                    faults.push("webhook: postmark needs user and password, or token".to_owned());
                }
                Proof::Postmark
            }
            Provider::Mailgun => {
                if self.signing_keys.is_empty() || self.signing_keys.len() > 2 {
                    faults.push("webhook: mailgun needs one or two signing_keys".to_owned());
                }
                Proof::Mailgun { keys }
            }
            Provider::Ses => {
                if self.topics.is_empty() {
                    faults.push("webhook: ses needs topics: anybody can sign with SNS".to_owned());
                }
                for topic in &self.topics {
                    if super::sns::region_of(topic).is_none() {
                        faults.push(format!(
                            "webhook.topics: {topic:?} is no ARN of an SNS topic"
                        ));
                    }
                }
                if let Some(endpoint) = &self.sns_endpoint {
                    check_endpoint(endpoint, faults);
                }
                Proof::Ses {
                    topics: self.topics,
                    endpoint: self.sns_endpoint,
                }
            }
        };
        (faults.len() == before).then_some(Receiver { access, proof })
    }

    /// A key of another provider is a mistake, not a no-op: its owner believes to be protected.
    fn check_belonging(&self, faults: &mut Vec<String>) {
        for (key, is_set, owner) in [
            ("public_key", self.public_key.is_some(), Provider::Sendgrid),
            (
                "signing_keys",
                !self.signing_keys.is_empty(),
                Provider::Mailgun,
            ),
            ("topics", !self.topics.is_empty(), Provider::Ses),
            ("sns_endpoint", self.sns_endpoint.is_some(), Provider::Ses),
        ] {
            if is_set && self.provider != owner {
                let owner = format!("{owner:?}").to_lowercase();
                faults.push(format!("webhook.{key} is for {owner} only"));
            }
        }
    }
}

fn is_p256(key: &[u8]) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
    ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).is_ok()
}

fn check_endpoint(endpoint: &str, faults: &mut Vec<String>) {
    let host = endpoint.strip_prefix("http://").and_then(|rest| {
        let host = rest.rsplit_once(':').map_or(rest, |(host, _)| host);
        host.trim_matches(['[', ']']).parse::<IpAddr>().ok()
    });
    if !host.is_some_and(|host| host.is_loopback()) {
        faults.push(
            "webhook.sns_endpoint must be http:// at a loopback address, such as \
             http://127.0.0.1:4566"
                .to_owned(),
        );
    }
}
