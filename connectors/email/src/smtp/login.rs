//! Saying who we are (RFC 4954).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, ExposeSecret, Result};

use crate::config::{Login, Proof};
use crate::oauth::OAuth;
use crate::smtp::wire::{Lost, Reply, Wire};

/// Most questions of one login; every mechanism here asks at most two.
const CHALLENGES_MAX: usize = 4;

/// A refused token, and the next one.
const TOKENS_TRIED: usize = 2;

/// Logs in as configured.
pub(crate) async fn log_in(
    wire: &mut Wire,
    host: &str,
    offered: &[String],
    login: &Login,
) -> Result<()> {
    let user = &login.user;
    match &login.proof {
        Proof::Password(password) => {
            by_password(wire, host, offered, user, password.expose_secret()).await
        }
        Proof::Token(oauth) => by_token(wire, host, offered, user, oauth).await,
    }
}

async fn by_password(
    wire: &mut Wire,
    host: &str,
    offered: &[String],
    user: &str,
    password: &str,
) -> Result<()> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let answer = if offers("PLAIN") {
        let secret = format!("\0{user}\0{password}");
        exchange(wire, "PLAIN", Some(&secret), &[]).await
    } else if offers("LOGIN") {
        exchange(wire, "LOGIN", None, &[user, password]).await
    } else {
        return Err(Error::auth(format!(
            "{host} offers no login by password (PLAIN or LOGIN)"
        )));
    };
    match judged(answer, host)? {
        true => Ok(()),
        false => Err(Error::auth(format!("{host} refused the login"))),
    }
}

/// By an access token. One that is refused is renewed once: it may have been withdrawn. The server
/// says why in a challenge, and says no once that has its answer; the connection then goes on.
async fn by_token(
    wire: &mut Wire,
    host: &str,
    offered: &[String],
    user: &str,
    oauth: &Arc<OAuth>,
) -> Result<()> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    for _ in 0..TOKENS_TRIED {
        let token = oauth.token().await?;
        let secret = token.secret.expose_secret();
        let answer = if offers("XOAUTH2") {
            let initial = format!("user={user}\x01auth=Bearer {secret}\x01\x01");
            exchange(wire, "XOAUTH2", Some(&initial), &[]).await
        } else if offers("OAUTHBEARER") {
            let user = user.replace('=', "=3D").replace(',', "=2C");
            let initial = format!("n,a={user},\x01auth=Bearer {secret}\x01\x01");
            exchange(wire, "OAUTHBEARER", Some(&initial), &["\x01"]).await
        } else {
            return Err(Error::config(format!(
                "{host} takes no tokens (it offers neither XOAUTH2 nor OAUTHBEARER)"
            )));
        };
        match judged(answer, host)? {
            true => return Ok(()),
            false => oauth.refuse(&token).await,
        }
    }
    Err(Error::auth(format!(
        "{host} refused a token that was just issued: is it {user} that granted access, and may it send by SMTP?"
    )))
}

/// Whether the login was taken. The answer's words may repeat it; they are not passed on.
fn judged(answer: std::result::Result<Reply, Lost>, host: &str) -> Result<bool> {
    match answer {
        Ok(reply) if reply.is_positive() => Ok(true),
        Ok(reply) if !reply.is_passing() => Ok(false),
        _ => Err(Error::unavailable(format!("cannot log in at {host}"))),
    }
}

/// One exchange by a mechanism: each question gets the next answer, and an empty one when there
/// is none left, whereupon the server says what it thinks.
async fn exchange(
    wire: &mut Wire,
    mechanism: &str,
    initial: Option<&str>,
    answers: &[&str],
) -> std::result::Result<Reply, Lost> {
    let mut line = format!("AUTH {mechanism}");
    if let Some(initial) = initial {
        line.push(' ');
        STANDARD.encode_string(initial, &mut line);
    }
    let mut answers = answers.iter();
    let mut reply = wire.ask(&line).await?;
    for _ in 0..CHALLENGES_MAX {
        if reply.code != 334 {
            break;
        }
        let answer = answers.next().map(|answer| STANDARD.encode(answer));
        reply = wire.ask(&answer.unwrap_or_default()).await?;
    }
    match reply.code {
        334 => Err(Lost::Nonsense),
        _ => Ok(reply),
    }
}
