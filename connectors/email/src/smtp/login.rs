//! Saying who we are (RFC 4954).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Error, ExposeSecret, Result};

use crate::config::Login;
use crate::smtp::wire::{Lost, Reply, Wire};

/// Most questions of one login; every mechanism here asks at most two.
const CHALLENGES_MAX: usize = 4;

/// Logs in by password.
pub(crate) async fn log_in(
    wire: &mut Wire,
    host: &str,
    offered: &[String],
    login: &Login,
) -> Result<()> {
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    let user = &login.user;
    let password = login.password.expose_secret();
    let answer = if offers("PLAIN") {
        let secret = format!("\0{user}\0{password}");
        exchange(wire, "PLAIN", Some(&secret), &[]).await
    } else if offers("LOGIN") {
        exchange(wire, "LOGIN", None, &[user.as_str(), password]).await
    } else {
        return Err(Error::auth(format!(
            "{host} offers no login by password (PLAIN or LOGIN)"
        )));
    };
    // The answer's words may repeat the login; they are not passed on.
    match answer {
        Ok(reply) if reply.is_positive() => Ok(()),
        Ok(reply) if !reply.is_passing() => Err(Error::auth(format!("{host} refused the login"))),
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
