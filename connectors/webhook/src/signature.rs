//! Who may send: Standard Webhooks signatures (github.com/standard-webhooks, spec 1.0) or a bearer
//! token. Everything fails closed; comparisons take the same time whatever they find.

use std::fmt;

use aws_lc_rs::{constant_time, digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, Result, SecretString, WebhookRequest};

/// How far `webhook-timestamp` may be from the time of arrival, either way, in seconds.
pub const SIGNATURE_AGE_SECONDS_MAX: u64 = 300;

/// Signatures looked at in one header. A sender that rotates its secret sends two.
const SIGNATURES_MAX: usize = 16;

const SECRET_PREFIX: &str = "whsec_";

/// A secret ready to sign with.
#[derive(Clone)]
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Reads `whsec_<base64>` or raw text. The error never contains the secret.
    pub fn new(secret: &str) -> std::result::Result<Self, &'static str> {
        // A file or a variable that somebody forgot to fill: anybody could guess that key.
        if secret.trim().is_empty() {
            return Err("is empty");
        }
        let key = match secret.strip_prefix(SECRET_PREFIX) {
            Some(encoded) => STANDARD
                .decode(encoded)
                .map_err(|_| "is not base64 after whsec_")?,
            None => secret.as_bytes().to_vec(),
        };
        if key.is_empty() {
            return Err("is empty");
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    }

    /// The value of `webhook-signature`: `v1,<base64>` over `{id}.{timestamp}.{body}`.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let tag = self.tag(id, &timestamp.to_string(), body);
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }

    /// The tag is over the timestamp as it was written, not as it was understood.
    fn tag(&self, id: &str, timestamp: &str, body: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        context.sign()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(***)")
    }
}

/// Signs one body with a secret given as text; see [`SigningKey`] for doing it often.
pub fn sign(secret: &str, id: &str, timestamp: i64, body: &[u8]) -> Result<String> {
    let key =
        SigningKey::new(secret).map_err(|what| Error::config(format!("the secret {what}")))?;
    Ok(key.sign(id, timestamp, body))
}

/// The headers of a signed JSON request, as a sender has to set them.
pub fn signed_headers(
    key: &SigningKey,
    id: &str,
    timestamp: i64,
    body: &[u8],
) -> Vec<(String, SecretString)> {
    [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", key.sign(id, timestamp, body)),
    ]
    .map(|(name, value)| (name.to_owned(), value.into()))
    .into()
}

/// A bearer token, kept as its digest: digests have one length, so comparing them does not tell
/// how long the token is.
pub(crate) struct BearerToken(digest::Digest);

impl BearerToken {
    pub fn new(token: &str) -> std::result::Result<Self, &'static str> {
        if token.trim().is_empty() {
            return Err("is empty");
        }
        Ok(Self(digest::digest(&digest::SHA256, token.as_bytes())))
    }

    fn matches(&self, given: &str) -> bool {
        let given = digest::digest(&digest::SHA256, given.as_bytes());
        constant_time::verify_slices_are_equal(self.0.as_ref(), given.as_ref()).is_ok()
    }
}

/// Everything that proves a request on one channel.
pub(crate) struct Verifier {
    keys: Vec<SigningKey>,
    token: Option<BearerToken>,
}

impl Verifier {
    pub fn new(keys: Vec<SigningKey>, token: Option<BearerToken>) -> Self {
        Self { keys, token }
    }

    /// A right token is enough; anything else has to be signed.
    pub fn verify(&self, request: &WebhookRequest) -> Result<()> {
        if let (Some(token), Some(given)) = (&self.token, bearer(request)) {
            if token.matches(given) {
                return Ok(());
            }
            if self.keys.is_empty() || request.header("webhook-signature").is_none() {
                return Err(Error::auth("the bearer token is not this channel's"));
            }
        }
        if self.keys.is_empty() {
            return Err(Error::auth("authorization: a bearer token is needed"));
        }
        self.verify_signature(request)
    }

    fn verify_signature(&self, request: &WebhookRequest) -> Result<()> {
        let header = |name: &str| {
            request
                .header(name)
                .filter(|value| !value.is_empty())
                .ok_or_else(|| Error::auth(format!("{name}: missing")))
        };
        let id = header("webhook-id")?;
        let timestamp = header("webhook-timestamp")?;
        let signatures = header("webhook-signature")?;
        // The signed text joins its parts with dots: an id with one could be read in two ways.
        if id.contains('.') {
            return Err(Error::auth("webhook-id: must not contain a dot"));
        }
        check_age(timestamp, request.received_at.as_second())?;
        let given: Vec<Vec<u8>> = signatures
            .split(' ')
            .filter_map(|signature| signature.strip_prefix("v1,"))
            .take(SIGNATURES_MAX)
            .filter_map(|encoded| STANDARD.decode(encoded).ok())
            .collect();
        for key in &self.keys {
            let expected = key.tag(id, timestamp, &request.body);
            let matches = |given: &Vec<u8>| {
                constant_time::verify_slices_are_equal(expected.as_ref(), given).is_ok()
            };
            if given.iter().any(matches) {
                return Ok(());
            }
        }
        Err(Error::auth("webhook-signature: no signature matches"))
    }
}

fn bearer(request: &WebhookRequest) -> Option<&str> {
    let (scheme, token) = request.header("authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn check_age(timestamp: &str, now: i64) -> Result<()> {
    let digits = timestamp.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = match timestamp.parse() {
        Ok(seconds) if digits => seconds,
        _ => return Err(Error::auth("webhook-timestamp: not seconds since 1970")),
    };
    let away = seconds.abs_diff(now);
    if away > SIGNATURE_AGE_SECONDS_MAX {
        let side = if seconds > now { "ahead of" } else { "behind" };
        return Err(Error::auth(format!(
            "webhook-timestamp: {away} s {side} the time of arrival, at most {SIGNATURE_AGE_SECONDS_MAX} s are taken"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
