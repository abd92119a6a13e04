//! What a request must carry besides a provider's own signature: basic authentication, or a token
//! in its URL. Where both are configured both are needed.

use aws_lc_rs::{constant_time, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, Result, WebhookRequest};
use percent_encoding::percent_decode_str;

/// Digests, so that comparing takes the same time whatever the length of what was given.
#[derive(Default)]
pub(crate) struct Access {
    /// Of `user:password`.
    login: Option<digest::Digest>,
    token: Option<digest::Digest>,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access")
            .field("login", &self.login.is_some())
            .field("token", &self.token.is_some())
            .finish()
    }
}

impl Access {
    pub(crate) fn new(login: Option<(&str, &str)>, token: Option<&str>) -> Self {
        let login = login.map(|(user, password)| sha256(format!("{user}:{password}").as_bytes()));
        let token = token.map(|token| sha256(token.as_bytes()));
        Self { login, token }
    }

    pub(crate) fn check(&self, request: &WebhookRequest) -> Result<()> {
        if let Some(expected) = &self.login {
            let given = request.header("authorization").and_then(basic_login);
            let given = given.ok_or_else(|| Error::auth("authorization: basic is needed"))?;
            if !is_equal(expected, &given) {
                return Err(Error::auth(
                    "authorization: not this channel's user and password",
                ));
            }
        }
        if let Some(expected) = &self.token {
            let given = query_token(&request.query);
            let given = given.ok_or_else(|| Error::auth("the URL carries no token"))?;
            if !is_equal(expected, &given) {
                return Err(Error::auth("the URL's token is not this channel's"));
            }
        }
        Ok(())
    }
}

fn is_equal(expected: &digest::Digest, given: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(expected.as_ref(), sha256(given).as_ref()).is_ok()
}

fn sha256(bytes: &[u8]) -> digest::Digest {
    digest::digest(&digest::SHA256, bytes)
}

/// `user:password` of `Basic <base64>` (RFC 7617).
fn basic_login(header: &str) -> Option<Vec<u8>> {
    let (scheme, encoded) = header.trim().split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    is_basic.then(|| STANDARD.decode(encoded.trim()).ok())?
}

fn query_token(query: &str) -> Option<Vec<u8>> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(name, _)| *name == "token")?;
    Some(percent_decode_str(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_let_in(access: &Access, authorization: &str, query: &str) -> bool {
        let request = WebhookRequest {
            query: query.to_owned(),
            headers: vec![("authorization".to_owned(), authorization.to_owned().into())],
            ..WebhookRequest::default()
        };
        access.check(&request).is_ok()
    }

    #[test]
    fn everything_configured_is_needed() {
        let basic = format!("Basic {}", STANDARD.encode("hook:pass:word"));
        let login = Access::new(Some(("hook", "pass:word")), None);
        assert!(is_let_in(&login, &basic, ""));
        for wrong in ["", "Basic", "Basic !", "Bearer x", "Basic aG9vazpwYXNz"] {
            assert!(!is_let_in(&login, wrong, "token=pass:word"), "{wrong}");
        }
        let token = Access::new(None, Some("a b+c"));
        assert!(is_let_in(&token, "", "x=1&token=a%20b%2Bc"));
        for wrong in ["", "token", "token=", "token=a", "tokens=a%20b%2Bc"] {
            assert!(!is_let_in(&token, &basic, wrong), "{wrong}");
        }
        let both = Access::new(Some(("hook", "pass:word")), Some("t"));
        assert!(is_let_in(&both, &basic, "token=t"));
        assert!(!is_let_in(&both, &basic, ""));
        assert!(!is_let_in(&both, "", "token=t"));
    }
}
