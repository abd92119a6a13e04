//! Tokens of the API: made once, shown once, kept as a hash.

use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use connector_api::SecretString;

/// Secret scanners find leaked tokens by this.
pub const TOKEN_PREFIX: &str = "swb_";
/// 256 bits: guessing is hopeless, so one round of SHA-256 keeps the token as safe as a slow hash.
const SECRET_BYTES: usize = 32;

/// A new token, and the hash to keep.
pub fn mint() -> (SecretString, Vec<u8>) {
    let mut secret = [0; SECRET_BYTES];
    rand::fill(&mut secret).expect("the system's random source works once the process has started");
    let token = format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret));
    let hash = hash(&token);
    (token.into(), hash)
}

/// The form in which a token is kept and looked up.
pub fn hash(token: &str) -> Vec<u8> {
    digest::digest(&digest::SHA256, token.as_bytes())
        .as_ref()
        .to_vec()
}

#[cfg(test)]
mod tests {
    use connector_api::ExposeSecret;

    use super::*;

    #[test]
    fn a_token_is_found_by_the_hash_it_was_made_with_and_no_two_are_equal() {
        let (token, hashed) = mint();
        assert!(token.expose_secret().starts_with(TOKEN_PREFIX));
        assert_eq!(hash(token.expose_secret()), hashed);
        assert_ne!(mint().1, hashed);
        assert!(!format!("{token:?}").contains(token.expose_secret()));
    }
}
