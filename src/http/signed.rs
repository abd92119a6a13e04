//! Signatures of what is posted to operators (Standard Webhooks, spec 1.0).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const SECRET_PREFIX: &str = "whsec_";

/// A secret ready to sign with.
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Reads `whsec_<base64>` or raw text. The error never contains the secret.
    pub fn new(secret: &str) -> Result<Self, &'static str> {
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

    /// The headers of a signed JSON request; `at` in seconds since 1970.
    pub fn headers(&self, id: &str, at: i64, body: &[u8]) -> [(&'static str, String); 4] {
        let mut context = hmac::Context::with_key(&self.0);
        let at = at.to_string();
        for part in [id.as_bytes(), b".", at.as_bytes(), b".", body] {
            context.update(part);
        }
        let signature = format!("v1,{}", STANDARD.encode(context.sign().as_ref()));
        [
            ("content-type", "application/json".to_owned()),
            ("webhook-id", id.to_owned()),
            ("webhook-timestamp", at),
            ("webhook-signature", signature),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_that_of_the_specifications_example() {
        let key = SigningKey::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let [_, id, at, signature] = key.headers(
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            b"{\"test\": 2432232314}",
        );
        assert_eq!(
            (id.1.as_str(), at.1.as_str()),
            ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330")
        );
        assert_eq!(
            signature.1,
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert!(SigningKey::new("whsec_!").is_err());
    }
}
