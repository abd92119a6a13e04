//! The SMTP dialogue, step by step, so that every failure has its exact meaning. Up to the final
//! dot nothing was sent; behind it only the server's answer says whether the mail is theirs. If
//! that answer is lost, nobody knows (RFC 5321, section 4.5.3.2.6, waits ten minutes for it).

use std::io;
use std::time::Duration;

use connector_api::{Error, ErrorKind, Result};
use lettre::Address;

use crate::config::{Server, Tls};
use crate::dial::silent;
use crate::said::shown;
use crate::smtp::compose::Composed;
use crate::smtp::login::log_in;
use crate::smtp::wire::{Lost, Reply, Wire};
use crate::tls::advice;

/// To write a mail.
const MAIL_TIMEOUT: Duration = Duration::from_secs(900);

/// For the answer to the final dot: servers filter mail before they give it.
const VERDICT_TIMEOUT: Duration = Duration::from_secs(600);

/// Until a server that took as many mails today as it takes of us is asked again: its day is a
/// sliding one.
const LIMIT_PAUSE: Duration = Duration::from_secs(3_600);

/// An open, authenticated connection.
pub(crate) struct Dialogue {
    wire: Wire,
    /// `smtp host:port`: what went wrong begins with it.
    place: String,
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
        let place = server.place();
        let wire = Wire::connect(&server.host, server.port, server.timeout).await;
        let mut wire = wire.map_err(|why| cannot(&place, "connect", &why))?;
        if server.tls == Tls::Implicit {
            wire = encrypt(wire, server).await?;
        }
        let greeting = wire.reply().await;
        if matches!(greeting, Err(Lost::Slow)) {
            return Err(cannot(&place, "connect", &silent(server)));
        }
        serving(&place, "connect", greeting)?;
        let mut offers = greet(&mut wire, &place, hello).await?;
        if server.tls == Tls::Starttls {
            if !offers.starttls {
                return Err(Error::unavailable(format!(
                    "{place}: the server offers no STARTTLS, and mail is not sent without: is there \
                     a port for smtp.tls = \"implicit\" (usually 465)?"
                )));
            }
            let answer = wire.ask("STARTTLS").await;
            serving(&place, "STARTTLS", answer)?;
            wire = encrypt(wire, server).await?;
            offers = greet(&mut wire, &place, hello).await?;
        }
        if let Some(login) = &server.login {
            log_in(&mut wire, &place, &offers.auth, login).await?;
        }
        Ok(Self {
            wire,
            place,
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
        let place = &self.place;
        let size = mail.pieces.len();
        if let Some(limit) = self.offers.size.filter(|limit| (1..size).contains(limit)) {
            return Err(Error::too_large(format!(
                "{place}: the mail has {size} bytes and the server takes at most {limit} (SIZE)"
            )));
        }
        let mut command = format!("MAIL FROM:<{}>", from.map_or("", AsRef::as_ref));
        if self.offers.size.is_some() {
            command.push_str(&format!(" SIZE={size}"));
        }
        if mail.is_international {
            if !self.offers.smtputf8 {
                return Err(Error::rejected(format!(
                    "{place}: the server takes no international mail addresses (SMTPUTF8)"
                )));
            }
            command.push_str(" SMTPUTF8");
        }
        let answer = self.wire.ask(&command).await;
        positive(place, "MAIL", answer)?;
        let mut answers = Vec::new();
        for recipient in recipients {
            let command = format!("RCPT TO:<{recipient}>");
            let reply = match self.wire.ask(&command).await {
                Ok(reply) => reply,
                Err(lost) => return Err(unavailable(place, "RCPT", &lost)),
            };
            // It hangs up, wants a login, or will not have us: that is no answer about the recipient.
            let about_us = |words: &str| is_about_sender("RCPT", words) || is_daily_limit(words);
            let turned_away = reply.code == 421 || is_about_login(reply.code);
            if turned_away || (reply.code >= 500 && about_us(&words(&reply))) {
                return Err(classify(place, "RCPT", &reply));
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
        positive(&self.place, "RSET", answer).map(drop)
    }

    /// Writes the mail and the final dot, and waits for the verdict. `Ok` means that the server
    /// took it for every recipient that it had said yes to, in these words.
    pub(crate) async fn content(&mut self, mail: &Composed) -> Result<String> {
        let place = &self.place;
        let answer = self.wire.ask("DATA").await;
        positive(place, "DATA", answer)?;
        let written = tokio::time::timeout(MAIL_TIMEOUT, write(&mut self.wire, mail, place)).await;
        written.unwrap_or_else(|_| Err(unavailable(place, "hand over the mail", &Lost::Slow)))?;
        match self.wire.end_mail(VERDICT_TIMEOUT).await {
            Ok(reply) if reply.is_positive() => {
                self.is_used = true;
                Ok(reply.lines.into_iter().next().unwrap_or_default())
            }
            Ok(reply) => Err(classify(place, "hand over the mail", &reply)),
            Err(_) => Err(Error::outcome_unknown(format!(
                "{place}: the mail was handed over and no answer came back"
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
            let place = &self.place;
            let kind = match no.is_passing {
                true => ErrorKind::Unavailable,
                false => ErrorKind::Rejected,
            };
            return Err(Error::new(
                kind,
                format!("{place}: cannot RCPT: {}", no.words),
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
async fn write(wire: &mut Wire, mail: &Composed, place: &str) -> Result<()> {
    let lost = |lost| unavailable(place, "hand over the mail", &lost);
    let mut reader = mail.pieces.reader();
    while let Some(piece) = reader.next().await? {
        wire.write_mail(&piece).await.map_err(lost)?;
    }
    wire.flush_mail().await.map_err(lost)
}

async fn greet(wire: &mut Wire, place: &str, hello: &str) -> Result<Offers> {
    let answer = wire.ask(&format!("EHLO {hello}")).await;
    let reply = serving(place, "EHLO", answer)?;
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

fn positive(place: &str, verb: &str, answer: std::result::Result<Reply, Lost>) -> Result<Reply> {
    match answer {
        Ok(reply) if reply.is_positive() => Ok(reply),
        Ok(reply) => Err(classify(place, verb, &reply)),
        Err(lost) => Err(unavailable(place, verb, &lost)),
    }
}

/// The same before any mail was spoken of: a server that turns us away (a block list, maintenance,
/// 521 of RFC 7504) says nothing about the mails that wait.
fn serving(place: &str, verb: &str, answer: std::result::Result<Reply, Lost>) -> Result<Reply> {
    positive(place, verb, answer).map_err(|error| match error.kind {
        ErrorKind::Rejected => Error::unavailable(error.message),
        _ => error,
    })
}

/// The one place where an SMTP answer becomes an [`ErrorKind`]: 5xx is for good, except where it
/// asks for a login, or is about us and not about the mail; 4xx passes (greylisting, full queues).
fn classify(place: &str, verb: &str, reply: &Reply) -> Error {
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
    Error::new(kind, format!("{place}: cannot {verb}: {words}"))
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
fn unavailable(place: &str, verb: &str, lost: &Lost) -> Error {
    cannot(place, verb, &lost.to_string())
}

fn cannot(place: &str, verb: &str, why: &str) -> Error {
    Error::unavailable(format!("{place}: cannot {verb}: {why}"))
}

async fn encrypt(wire: Wire, server: &Server) -> Result<Wire> {
    let encrypted = wire.encrypt(&server.host, &server.client).await;
    encrypted.map_err(|lost| {
        let why = match &lost {
            Lost::Io(error) => advice(server, error),
            // As the protocol's own words would have it.
            Lost::Closed => advice(server, &io::ErrorKind::UnexpectedEof.into()),
            Lost::Nonsense | Lost::Slow => lost.to_string(),
        };
        cannot(&server.place(), "begin TLS", &why)
    })
}

/// A server's own words without the addresses in them: errors are logged.
fn words(reply: &Reply) -> String {
    let line = shown(&reply.lines.join(" "));
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
