//! Saying who we are (RFC 4954).

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, ExposeSecret, Result};

use crate::config::{Login, Proof};
use crate::oauth::OAuth;
use crate::said::about_login;
use crate::smtp::wire::{Lost, Reply, Wire};

/// Most questions of one login; every mechanism here asks at most two.
const CHALLENGES_MAX: usize = 4;

/// A refused token, and the next one.
const TOKENS_TRIED: usize = 2;

/// Logs in as configured.
pub(crate) async fn log_in(
    wire: &mut Wire,
    place: &str,
    offered: &[String],
    login: &Login,
) -> Result<()> {
    let user = &login.user;
    match &login.proof {
        Proof::Password(password) => {
            by_password(wire, place, offered, user, password.expose_secret()).await
        }
        Proof::Token(oauth) => by_token(wire, place, offered, user, oauth).await,
    }
}

async fn by_password(
    wire: &mut Wire,
    place: &str,
    offered: &[String],
    user: &str,
    password: &str,
) -> Result<()> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let plain = format!("\0{user}\0{password}");
    let answer = if offers("PLAIN") {
        exchange(wire, "PLAIN", Some(&plain), &[]).await
    } else if offers("LOGIN") {
        exchange(wire, "LOGIN", None, &[user, password]).await
    } else {
        return Err(Error::auth(format!(
            "{place}: the server offers no login by password (PLAIN or LOGIN)"
        )));
    };
    let given = [
        password,
        &STANDARD.encode(&plain),
        &STANDARD.encode(password),
    ];
    match judged(answer, place, &given)? {
        Judged::In => Ok(()),
        Judged::Refused(words) => Err(Error::auth(format!(
            "{place}: the server refused the login of {user}: {words}"
        ))),
    }
}

/// By an access token. One that is refused is renewed once: it may have been withdrawn. The server
/// says why in a challenge, and says no once that has its answer; the connection then goes on.
async fn by_token(
    wire: &mut Wire,
    place: &str,
    offered: &[String],
    user: &str,
    oauth: &Arc<OAuth>,
) -> Result<()> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let mut said = String::new();
    for _ in 0..TOKENS_TRIED {
        let token = oauth.token().await?;
        let secret = token.secret.expose_secret();
        let (mechanism, initial, answers): (_, _, &[&str]) = if offers("XOAUTH2") {
            let initial = format!("user={user}\x01auth=Bearer {secret}\x01\x01");
            ("XOAUTH2", initial, &[])
        } else if offers("OAUTHBEARER") {
            let user = user.replace('=', "=3D").replace(',', "=2C");
            let initial = format!("n,a={user},\x01auth=Bearer {secret}\x01\x01");
            ("OAUTHBEARER", initial, &["\x01"])
        } else {
            return Err(Error::config(format!(
                "{place}: the server takes no tokens (it offers neither XOAUTH2 nor OAUTHBEARER)"
            )));
        };
        let answer = exchange(wire, mechanism, Some(&initial), answers).await;
        let given = [secret, &STANDARD.encode(&initial)];
        match judged(answer, place, &given)? {
            Judged::In => return Ok(()),
            Judged::Refused(words) => {
                oauth.refuse(&token).await;
                said = words;
            }
        }
    }
    Err(Error::auth(format!(
        "{place}: the server refused a token that was just issued: {said}; is it {user} that granted \
         access, and may it send by SMTP?"
    )))
}

/// What became of a login.
enum Judged {
    In,
    /// With the server's words, none of which repeats what was `given`.
    Refused(String),
}

fn judged(answer: std::result::Result<Reply, Lost>, place: &str, given: &[&str]) -> Result<Judged> {
    let words = |reply: &Reply| {
        let words = about_login(&reply.lines.join(" "), given);
        format!("{} {words}", reply.code).trim_end().to_owned()
    };
    match answer {
        Ok(reply) if reply.is_positive() => Ok(Judged::In),
        Ok(reply) if !reply.is_passing() => Ok(Judged::Refused(words(&reply))),
        Ok(reply) => Err(Error::unavailable(format!(
            "{place}: cannot log in: {}",
            words(&reply)
        ))),
        Err(lost) => Err(Error::unavailable(format!(
            "{place}: cannot log in: {lost}"
        ))),
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
