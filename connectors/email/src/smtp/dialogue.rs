//! The SMTP dialogue, step by step, so that every failure has its exact meaning. Up to the final
//! dot nothing was sent; behind it only the server's answer says whether the mail is theirs. If
//! that answer is lost, nobody knows (RFC 5321, section 4.5.3.2.6, waits ten minutes for it).

use std::time::Duration;

use connector_api::{Error, ErrorKind, Result};
use lettre::Address;

use crate::config::{Server, Tls};
use crate::smtp::compose::Composed;
use crate::smtp::login::log_in;
use crate::smtp::wire::{Lost, Reply, Wire};

/// To write a mail.
const MAIL_TIMEOUT: Duration = Duration::from_secs(900);

/// For the answer to the final dot: servers filter mail before they give it.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(600);

/// Until a server that took as many mails today as it takes of us is asked again: its day is a
/// sliding one.
const LIMIT_PAUSE: Duration = Duration::from_secs(3_600);

/// Longest piece of a server's words in an error, in characters.
const WORDS_CHARS_MAX: usize = 300;

/// An open, authenticated connection.
pub(crate) struct Dialogue {
    wire: Wire,
    host: String,
    offers: Offers,
    /// Whether a mail went over it before: servers close what is idle, and that is no outage.
    is_used: bool,
}

/// What a server said to our hello.
#[derive(Debug, Default, PartialEq, Eq)]
struct Offers {
    starttls: bool,
    smtputf8: bool,
    /// `SIZE` and the limit that it names (RFC 1870); 0 names none.
    size: Option<u64>,
    auth: Vec<String>,
}

/// A server's no to one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct No {
    /// 4xx: it may be a yes later.
    pub(crate) is_passing: bool,
    /// Its words, without addresses.
    pub(crate) words: String,
}

impl Dialogue {
    /// Connects, encrypts as configured, logs in if configured.
    pub(crate) async fn open(server: &Server, hello: &str) -> Result<Self> {
        let host = server.host.clone();
        let lost = |lost| unavailable(&host, "connect", &lost);
        let mut wire = Wire::connect(&host, server.port, server.timeout)
            .await
            .map_err(lost)?;
        if server.tls == Tls::Implicit {
            wire = wire.encrypt(&host, &server.client).await.map_err(lost)?;
        }
        let greeting = wire.reply().await;
        serving(&host, "connect", greeting)?;
        let mut offers = greet(&mut wire, &host, hello).await?;
        if server.tls == Tls::Starttls {
            if !offers.starttls {
                return Err(Error::unavailable(format!(
                    "{host} offers no STARTTLS, and mail is not sent without"
                )));
            }
            let answer = wire.ask("STARTTLS").await;
            serving(&host, "STARTTLS", answer)?;
            let lost = |lost| unavailable(&host, "STARTTLS", &lost);
            wire = wire.encrypt(&host, &server.client).await.map_err(lost)?;
            offers = greet(&mut wire, &host, hello).await?;
        }
        if let Some(login) = &server.login {
            log_in(&mut wire, &host, &offers.auth, login).await?;
        }
        Ok(Self {
            wire,
            host,
            offers,
            is_used: false,
        })
    }

    pub(crate) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Says which mail and for whom, and returns each recipient's answer. Nothing is sent by it,
    /// and [`Dialogue::forget`] takes it back.
    pub(crate) async fn begin(
        &mut self,
        mail: &Composed,
        from: Option<&Address>,
        recipients: &[Address],
    ) -> Result<Vec<std::result::Result<(), No>>> {
        let host = &self.host;
        let size = mail.pieces.len();
        if let Some(limit) = self.offers.size.filter(|limit| (1..size).contains(limit)) {
            return Err(Error::too_large(format!(
                "the mail has {size} bytes and {host} takes at most {limit} (SIZE)"
            )));
        }
        let mut command = format!("MAIL FROM:<{}>", from.map_or("", AsRef::as_ref));
        if self.offers.size.is_some() {
            command.push_str(&format!(" SIZE={size}"));
        }
        if mail.is_international {
            if !self.offers.smtputf8 {
                return Err(Error::rejected(format!(
                    "{host} takes no international mail addresses (SMTPUTF8)"
                )));
            }
            command.push_str(" SMTPUTF8");
        }
        let answer = self.wire.ask(&command).await;
        positive(host, "MAIL", answer)?;
        let mut answers = Vec::new();
        for recipient in recipients {
            let command = format!("RCPT TO:<{recipient}>");
            let reply = match self.wire.ask(&command).await {
                Ok(reply) => reply,
                Err(lost) => return Err(unavailable(host, "RCPT", &lost)),
            };
            // It hangs up, wants a login, or will not have us: that is no answer about the recipient.
            let about_us = |words: &str| is_about_sender("RCPT", words) || is_daily_limit(words);
            let turned_away = reply.code == 421 || is_about_login(reply.code);
            if turned_away || (reply.code >= 500 && about_us(&words(&reply))) {
                return Err(classify(host, "RCPT", &reply));
            }
            answers.push(match reply.is_positive() {
                true => Ok(()),
                false => Err(No {
                    is_passing: reply.is_passing(),
                    words: words(&reply),
                }),
            });
        }
        Ok(answers)
    }

    /// Takes back what was begun.
    pub(crate) async fn forget(&mut self) -> Result<()> {
        let answer = self.wire.ask("RSET").await;
        positive(&self.host, "RSET", answer).map(drop)
    }

    /// Writes the mail and the final dot, and waits for the verdict. `Ok` means that the server
    /// took it for every recipient that it had said yes to, in these words.
    pub(crate) async fn content(&mut self, mail: &Composed) -> Result<String> {
        let host = &self.host;
        let answer = self.wire.ask("DATA").await;
        positive(host, "DATA", answer)?;
        let written = tokio::time::timeout(MAIL_TIMEOUT, write(&mut self.wire, mail, host)).await;
        written.unwrap_or_else(|_| Err(unavailable(host, "hand over the mail", &Lost::Slow)))?;
        match self.wire.end_mail(VERDICT_TIMEOUT).await {
            Ok(reply) if reply.is_positive() => {
                self.is_used = true;
                Ok(reply.lines.into_iter().next().unwrap_or_default())
            }
            Ok(reply) => Err(classify(host, "hand over the mail", &reply)),
            Err(_) => Err(Error::outcome_unknown(format!(
                "the mail went to {host} and no answer came back"
            ))),
        }
    }

    /// The mail for one recipient alone.
    pub(crate) async fn transaction(
        &mut self,
        mail: &Composed,
        from: &Address,
        to: &Address,
    ) -> Result<String> {
        let answers = self
            .begin(mail, Some(from), std::slice::from_ref(to))
            .await?;
        if let Some(Err(no)) = answers.into_iter().next() {
            let host = &self.host;
            let kind = match no.is_passing {
                true => ErrorKind::Unavailable,
                false => ErrorKind::Rejected,
            };
            return Err(Error::new(
                kind,
                format!("cannot RCPT at {host}: {}", no.words),
            ));
        }
        self.content(mail).await
    }

    /// Says goodbye; nobody waits for the answer.
    pub(crate) async fn quit(mut self) {
        if let Err(lost) = self.wire.say("QUIT").await {
            tracing::debug!(error = %lost, "no orderly quit");
        }
    }
}

/// Everything up to the final dot: as long as that is missing a server must not deliver (RFC 5321,
/// section 4.1.1.4), so whatever breaks here leaves no doubt.
async fn write(wire: &mut Wire, mail: &Composed, host: &str) -> Result<()> {
    let lost = |lost| unavailable(host, "hand over the mail", &lost);
    let mut reader = mail.pieces.reader();
    while let Some(piece) = reader.next().await? {
        wire.write_mail(&piece).await.map_err(lost)?;
    }
    wire.flush_mail().await.map_err(lost)
}

async fn greet(wire: &mut Wire, host: &str, hello: &str) -> Result<Offers> {
    let answer = wire.ask(&format!("EHLO {hello}")).await;
    let reply = serving(host, "EHLO", answer)?;
    Ok(Offers::read(&reply))
}

impl Offers {
    fn read(reply: &Reply) -> Self {
        let mut offers = Self::default();
        // The first line is a greeting.
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // Old servers write `AUTH=PLAIN LOGIN`.
            let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => offers.starttls = true,
                Some("SMTPUTF8") => offers.smtputf8 = true,
                Some("SIZE") => {
                    let limit = words.next().and_then(|limit| limit.parse().ok());
                    offers.size = Some(limit.unwrap_or(0));
                }
                Some("AUTH") => offers.auth.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        offers
    }
}

fn positive(host: &str, verb: &str, answer: std::result::Result<Reply, Lost>) -> Result<Reply> {
    match answer {
        Ok(reply) if reply.is_positive() => Ok(reply),
        Ok(reply) => Err(classify(host, verb, &reply)),
        Err(lost) => Err(unavailable(host, verb, &lost)),
    }
}

/// The same before any mail was spoken of: a server that turns us away (a block list, maintenance,
/// 521 of RFC 7504) says nothing about the mails that wait.
fn serving(host: &str, verb: &str, answer: std::result::Result<Reply, Lost>) -> Result<Reply> {
    positive(host, verb, answer).map_err(|error| match error.kind {
        ErrorKind::Rejected => Error::unavailable(error.message),
        _ => error,
    })
}

/// The one place where an SMTP answer becomes an [`ErrorKind`]: 5xx is for good, except where it
/// asks for a login, or is about us and not about the mail; 4xx passes (greylisting, full queues).
fn classify(host: &str, verb: &str, reply: &Reply) -> Error {
    let words = words(reply);
    let kind = match reply.code {
        code if is_about_login(code) => ErrorKind::Auth,
        500..=599 if is_daily_limit(&words) => ErrorKind::RateLimited {
            retry_after: Some(LIMIT_PAUSE),
        },
        500..=599 if is_about_sender(verb, &words) => ErrorKind::Config,
        // RFC 3463: 5.3.4, the message is too big for the system.
        552 if verb == "MAIL" && words.contains("5.3.4") => ErrorKind::TooLarge,
        500..=599 => ErrorKind::Rejected,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("cannot {verb} at {host}: {words}"))
}

/// Google: 550 5.4.5, the account sent as many mails today as it may.
fn is_daily_limit(words: &str) -> bool {
    words.contains("5.4.5") && words.to_ascii_lowercase().contains("limit")
}

/// The server does not let this login write from our address: no mail of the channel will leave
/// before somebody changes that. Exchange says 5.7.60 and 5.1.8 (its outbound spam policy), Postfix
/// "Sender address rejected: not owned by user", at RCPT where it waits until there.
fn is_about_sender(verb: &str, words: &str) -> bool {
    let lower = words.to_ascii_lowercase();
    let said = ["5.7.60", "5.1.8 ", "not owned by user", "sendasdenied"];
    let at_mail = [
        "sender address rejected",
        "sender rejected",
        "not allowed to send",
    ];
    said.iter().any(|words| lower.contains(words))
        || (verb == "MAIL" && at_mail.iter().any(|words| lower.contains(words)))
}

fn is_about_login(code: u16) -> bool {
    matches!(code, 530 | 534 | 535 | 538)
}

/// The connection broke; nothing was sent.
fn unavailable(host: &str, verb: &str, lost: &Lost) -> Error {
    Error::unavailable(format!("cannot {verb} at {host}: {lost}"))
}

/// A server's own words without the addresses in them: errors are logged.
fn words(reply: &Reply) -> String {
    let lines = reply.lines.iter().flat_map(|line| line.split_whitespace());
    let words = lines.map(|word| {
        if word.contains('@') {
            "(address)"
        } else {
            word
        }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    let line = line.chars().filter(|c| !c.is_control());
    let line: String = line.take(WORDS_CHARS_MAX).collect();
    format!("{} {line}", reply.code).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_offers_is_read_however_it_is_written() {
        let check = |lines: &[&str], expected: Offers| {
            let mut all = vec!["mx.example.org hello"];
            all.extend(lines);
            let lines = all.into_iter().map(str::to_owned).collect();
            assert_eq!(Offers::read(&Reply { code: 250, lines }), expected);
        };
        check(&[], Offers::default());
        check(
            &[
                "PIPELINING",
                "size 1000",
                "AUTH plain LOGIN",
                "STARTTLS",
                "SMTPUTF8",
            ],
            Offers {
                starttls: true,
                smtputf8: true,
                size: Some(1000),
                auth: vec!["PLAIN".to_owned(), "LOGIN".to_owned()],
            },
        );
        check(
            &["SIZE", "AUTH=LOGIN"],
            Offers {
                size: Some(0),
                auth: vec!["LOGIN".to_owned()],
                ..Offers::default()
            },
        );
    }
}
