//! Logging in: by password, or by an access token (XOAUTH2, and OAUTHBEARER of RFC 7628).

use async_imap::error::Error as ImapError;
use async_imap::{Authenticator, Client};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, ExposeSecret, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::config::Server;
use crate::imap::link::Link;
use crate::imap::session::ANSWER_BYTES_MAX;
use crate::imap::session::words::{broken, io_words, is_passing, said, unavailable};
use crate::oauth::AccessToken;
use crate::said::about_login;

/// Longest list of capabilities, in bytes.
const CAPABILITIES_BYTES_MAX: usize = 16 * 1024;

type Session = async_imap::Session<Link>;

/// How a login with a token ended.
pub(super) enum ByToken {
    In(Session),
    /// The server refused the token, in these words.
    Refused(String),
}

/// SASL PLAIN (RFC 4616), for passwords that `LOGIN` cannot quote.
struct Plain(Vec<u8>);

impl Authenticator for Plain {
    type Response = Vec<u8>;

    fn process(&mut self, _challenge: &[u8]) -> Self::Response {
        self.0.clone()
    }
}

/// The token once; then whatever ends the exchange. A server that refuses a token says why in a
/// challenge and waits for an answer to it before it says NO.
struct Bearer {
    first: Option<Vec<u8>>,
    farewell: &'static [u8],
}

impl Authenticator for Bearer {
    type Response = Vec<u8>;

    fn process(&mut self, _challenge: &[u8]) -> Self::Response {
        let next = self.first.take();
        next.unwrap_or_else(|| self.farewell.to_vec())
    }
}

pub(super) async fn by_password(
    client: Client<Link>,
    user: &str,
    password: &str,
    place: &str,
) -> Result<Session> {
    let is_quotable = password.is_ascii() && user.is_ascii();
    let plain = format!("\0{user}\0{password}");
    let answer = if is_quotable {
        client.login(user, password).await
    } else {
        let plain = Plain(plain.clone().into_bytes());
        client.authenticate("PLAIN", plain).await
    };
    let quoted = password.replace('\\', r"\\").replace('"', "\\\"");
    let given = [password, &quoted, &STANDARD.encode(plain)];
    answer.map_err(|(error, _)| match error {
        ImapError::No(words) if !is_passing(&words) => {
            let words = about_login(&said(&words), &given);
            Error::auth(format!(
                "{place}: the server refused the login of {user}: {words}"
            ))
        }
        ImapError::Validate(_) => Error::config("the imap user or password contains a line break"),
        error => unavailable(place, "log in", &about_login(&broken(&error), &given)),
    })
}

pub(super) async fn by_token(
    client: Client<Link>,
    user: &str,
    token: &AccessToken,
    server: &Server,
) -> Result<ByToken> {
    let host = &server.host;
    let mut link = client.into_inner();
    let offered = capabilities(&mut link)
        .await
        .map_err(|error| unavailable(&server.place(), "ask for capabilities", io_words(&error)))?;
    let offers = |mechanism: &str| {
        let mut words = offered.split_ascii_whitespace();
        words.any(|word| word.eq_ignore_ascii_case(mechanism))
    };
    let secret = token.secret.expose_secret();
    // XOAUTH2 first: every provider that has tokens has it, and documents it.
    let (mechanism, message, farewell): (_, _, &[u8]) = if offers("AUTH=XOAUTH2") {
        let message = format!("user={user}\x01auth=Bearer {secret}\x01\x01");
        ("XOAUTH2", message, b"")
    } else if offers("AUTH=OAUTHBEARER") {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let port = server.port;
        let message =
            format!("n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {secret}\x01\x01");
        ("OAUTHBEARER", message, b"\x01")
    } else {
        return Err(Error::config(format!(
            "{} takes no tokens (it offers neither XOAUTH2 nor OAUTHBEARER)",
            server.place()
        )));
    };
    let encoded = STANDARD.encode(&message);
    let bearer = Bearer {
        first: Some(message.into_bytes()),
        farewell,
    };
    link.allow(ANSWER_BYTES_MAX);
    let given = [secret, &encoded];
    match Client::new(link).authenticate(mechanism, bearer).await {
        Ok(session) => Ok(ByToken::In(session)),
        Err((ImapError::No(words), _)) if !is_passing(&words) => {
            Ok(ByToken::Refused(about_login(&said(&words), &given)))
        }
        Err((error, _)) => {
            let why = about_login(&broken(&error), &given);
            Err(unavailable(&server.place(), "log in", &why))
        }
    }
}

/// What the server offers before the login; async-imap asks only afterwards.
async fn capabilities(link: &mut Link) -> std::io::Result<String> {
    link.write_all(b"c0 CAPABILITY\r\n").await?;
    link.flush().await?;
    let mut text = String::new();
    let mut line = Vec::new();
    loop {
        line.push(link.read_u8().await?);
        if text.len() + line.len() > CAPABILITIES_BYTES_MAX {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        if line.ends_with(b"\n") {
            if line.starts_with(b"c0 ") {
                return Ok(text);
            }
            text.push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    }
}
