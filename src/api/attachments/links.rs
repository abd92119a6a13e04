//! Links to files that need no token: for `<img>` and `<a>`, which cannot send one. A link says who
//! made it and until when it holds, under a MAC; it gives what that token may see when it is used.

use aws_lc_rs::hmac;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::blobs::{hex, unhex};

/// Makes and checks links.
#[derive(Clone)]
pub struct FileLinks {
    key: hmac::Key,
    /// Without a slash at its end; empty where the daemon does not know its own.
    public_url: String,
}

/// What a link says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<'a> {
    pub attachment: &'a str,
    pub token: &'a str,
    /// Whom the token acted for, where it did: it may see what it sees in that agent's name.
    pub agent: Option<&'a str>,
    /// Unix time in seconds.
    pub expires: i64,
}

impl FileLinks {
    pub fn new(key: hmac::Key, public_url: Option<&str>) -> Self {
        let public_url = public_url
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned();
        Self { key, public_url }
    }

    pub fn url(&self, link: Link<'_>) -> String {
        let Link {
            attachment,
            token,
            agent,
            expires,
        } = link;
        let mac = hex(hmac::sign(&self.key, &signed(link)).as_ref());
        let base = &self.public_url;
        let acting = agent.map(|agent| utf8_percent_encode(agent, NON_ALPHANUMERIC));
        let acting = acting.map(|agent| format!("&for={agent}"));
        let acting = acting.unwrap_or_default();
        format!("{base}/files/{attachment}?by={token}{acting}&expires={expires}&mac={mac}")
    }

    /// Whether we made the link; in constant time.
    pub fn is_ours(&self, link: Link<'_>, mac: &str) -> bool {
        unhex(mac).is_some_and(|mac| hmac::verify(&self.key, &signed(link), &mac).is_ok())
    }
}

/// Neither id has a line break; the agent's name comes last.
fn signed(link: Link<'_>) -> Vec<u8> {
    let Link {
        attachment,
        token,
        agent,
        expires,
    } = link;
    let acting = agent.map(|agent| format!("\n{agent}"));
    let acting = acting.unwrap_or_default();
    format!("{attachment}\n{token}\n{expires}{acting}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_with_anything_changed_is_not_ours() {
        let key = |secret: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, secret);
        let links = FileLinks::new(key(b"ours"), Some("https://desk.example/"));
        let link = Link {
            attachment: "att_1",
            token: "tok_1",
            agent: None,
            expires: 1_000,
        };
        let url = links.url(link);
        let start = "https://desk.example/files/att_1?by=tok_1&expires=1000&mac=";
        let mac = url.strip_prefix(start).unwrap();
        assert!(links.is_ours(link, mac));
        let others = [
            Link {
                attachment: "att_2",
                ..link
            },
            Link {
                token: "tok_2",
                ..link
            },
            Link {
                agent: Some("ada"),
                ..link
            },
            Link {
                agent: Some(""),
                ..link
            },
            Link {
                expires: 1_001,
                ..link
            },
        ];
        assert!(others.iter().all(|other| !links.is_ours(*other, mac)));
        let acting = Link {
            agent: Some("Ada & Co"),
            ..link
        };
        let url = links.url(acting);
        let start =
            "https://desk.example/files/att_1?by=tok_1&for=Ada%20%26%20Co&expires=1000&mac=";
        let of_ada = url.strip_prefix(start).unwrap();
        assert!(links.is_ours(acting, of_ada) && !links.is_ours(link, of_ada));
        assert!(!FileLinks::new(key(b"theirs"), None).is_ours(link, mac));
        for wrong in ["", "00", &mac.replace(['0', '1'], "2"), mac.split_at(2).1] {
            assert!(!links.is_ours(link, wrong), "{wrong}");
        }
    }
}
