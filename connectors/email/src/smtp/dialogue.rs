//! The SMTP dialogue, step by step, so that every failure has its exact meaning. Up to the final
//! dot nothing was sent; behind it only the server's answer says whether the mail is theirs. If
//! that answer is lost, nobody knows (RFC 5321, section 4.5.3.2.6, waits ten minutes for it).

use std::error::Error as _;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connector_api::{Error, ErrorKind, ExposeSecret, Result};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailParameter};

use crate::config::{Login, Server, Tls};
use crate::smtp::compose::Composed;

/// To write a mail and get the answer to its final dot: servers filter mail before they give it.
const MAIL_TIMEOUT: Duration = Duration::from_secs(900);
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes written at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Longest piece of a server's words in an error, in characters.
const WORDS_CHARS_MAX: usize = 300;

type SmtpResult<T> = std::result::Result<T, lettre::transport::smtp::Error>;

/// An open, authenticated connection.
pub(crate) struct Dialogue {
    connection: AsyncSmtpConnection,
    host: String,
    patience: Duration,
}

impl Dialogue {
    /// Connects, encrypts as configured, logs in if configured.
    pub(crate) async fn open(server: &Server, hello: &str) -> Result<Self> {
        let host = server.host.clone();
        let patience = server.timeout;
        let tls = tls_parameters(server)?;
        let hello = ClientId::Domain(hello.to_owned());
        let implicit = (server.tls == Tls::Implicit).then(|| tls.clone());
        let address = (host.as_str(), server.port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(address, Some(patience), &hello, implicit, None);
        let connection = step(&host, "connect", patience, connecting).await?;
        let mut dialogue = Self {
            connection,
            host,
            patience,
        };
        if server.tls == Tls::Starttls {
            dialogue.encrypt(tls, &hello).await?;
        }
        if let Some(login) = &server.login {
            dialogue.log_in(login).await?;
        }
        Ok(dialogue)
    }

    /// Hands over one mail. `Ok` means that the server took it.
    pub(crate) async fn deliver(&mut self, mail: &Composed) -> Result<()> {
        let needs_utf8 = !mail.recipient.to_string().is_ascii() || !mail.bytes.is_ascii();
        let mut options = Vec::new();
        if needs_utf8 {
            if !self
                .connection
                .server_info()
                .supports_feature(Extension::SmtpUtfEight)
            {
                return Err(Error::rejected(format!(
                    "{} takes no international mail addresses (SMTPUTF8)",
                    self.host
                )));
            }
            options.push(MailParameter::SmtpUtfEight);
        }
        let command = Mail::new(mail.envelope_from.clone(), options);
        let sent = self.connection.command(command);
        step(&self.host, "MAIL", self.patience, sent).await?;
        let command = Rcpt::new(mail.recipient.clone(), Vec::new());
        let sent = self.connection.command(command);
        step(&self.host, "RCPT", self.patience, sent).await?;
        let sent = self.connection.command(Data);
        step(&self.host, "DATA", self.patience, sent).await?;
        self.content(&mail.bytes).await
    }

    pub(crate) async fn quit(mut self) {
        let goodbye = tokio::time::timeout(QUIT_TIMEOUT, self.connection.quit());
        if let Ok(Err(error)) = goodbye.await {
            tracing::debug!(%error, "no orderly quit");
        }
    }

    /// Writes the mail and the final dot, and waits for the verdict.
    async fn content(&mut self, bytes: &[u8]) -> Result<()> {
        // lettre writes chunk by chunk and asks for the next one when the last is written: once
        // it was told that there is none, the final dot may be on its way.
        let is_dotted = AtomicBool::new(false);
        // lettre ends the last line itself.
        let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
        let mut chunks = bytes.chunks(CHUNK_BYTES);
        let watched = std::iter::from_fn(|| {
            let next = chunks.next();
            is_dotted.store(next.is_none(), Ordering::Relaxed);
            next
        });
        let sent = tokio::time::timeout(MAIL_TIMEOUT, self.connection.message_iter(watched)).await;
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.status().is_some() || !is_dotted.load(Ordering::Relaxed) => {
                Err(classify(&self.host, "hand over the mail", &error))
            }
            Err(_) if !is_dotted.load(Ordering::Relaxed) => Err(Error::unavailable(format!(
                "cannot hand over the mail to {}: too slow",
                self.host
            ))),
            _ => Err(Error::outcome_unknown(format!(
                "the mail went to {} and no answer came back",
                self.host
            ))),
        }
    }

    async fn encrypt(&mut self, tls: TlsParameters, hello: &ClientId) -> Result<()> {
        if !self.connection.can_starttls() {
            return Err(Error::unavailable(format!(
                "{} offers no STARTTLS, and mail is not sent without",
                self.host
            )));
        }
        let upgraded = self.connection.starttls(tls, hello);
        step(&self.host, "STARTTLS", self.patience, upgraded).await
    }

    async fn log_in(&mut self, login: &Login) -> Result<()> {
        let password = login.password.expose_secret().to_owned();
        let credentials = Credentials::new(login.user.clone(), password);
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        let asked = self.connection.auth(&mechanisms, &credentials);
        let answer = tokio::time::timeout(self.patience, asked).await;
        // The answer's words may repeat the login; they are not passed on.
        match answer {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => {
                Err(Error::auth(format!("{} refused the login", self.host)))
            }
            Ok(Err(error)) if error.is_client() => Err(Error::auth(format!(
                "{} offers no login by password (PLAIN or LOGIN)",
                self.host
            ))),
            _ => Err(Error::unavailable(format!(
                "cannot log in at {}",
                self.host
            ))),
        }
    }
}

/// Runs one step that leaves nothing behind when it fails.
async fn step<T>(
    host: &str,
    verb: &str,
    limit: Duration,
    future: impl Future<Output = SmtpResult<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(classify(host, verb, &error)),
        Err(_) => Err(Error::unavailable(format!(
            "cannot {verb} at {host}: no answer in time"
        ))),
    }
}

/// The one place where an SMTP answer becomes an [`ErrorKind`]: 5xx is for good, except where it
/// asks for a login; 4xx passes (greylisting, full queues); anything else broke on the way.
fn classify(host: &str, verb: &str, error: &lettre::transport::smtp::Error) -> Error {
    let code = error.status().map(u16::from);
    let kind = match code {
        Some(530 | 534 | 535 | 538) => ErrorKind::Auth,
        Some(500..=599) => ErrorKind::Rejected,
        _ => ErrorKind::Unavailable,
    };
    let words = match code {
        Some(_) => without_addresses(&error.to_string()),
        None if error.is_timeout() => "no answer in time".to_owned(),
        None => broken(error),
    };
    Error::new(kind, format!("cannot {verb} at {host}: {words}"))
}

/// What broke below SMTP, by the innermost cause: a wrong certificate is not a dead network.
fn broken(error: &lettre::transport::smtp::Error) -> String {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            let inner = error.get_ref().map(|inner| inner.to_string());
            return inner.unwrap_or_else(|| error.kind().to_string());
        }
        cause = error.source();
    }
    "the connection failed".to_owned()
}

/// A server's own words without the addresses in them: errors are logged.
fn without_addresses(words: &str) -> String {
    let words = words.split_whitespace().map(|word| {
        if word.contains('@') {
            "(address)"
        } else {
            word
        }
    });
    let line = words.collect::<Vec<_>>().join(" ");
    line.chars()
        .filter(|c| !c.is_control())
        .take(WORDS_CHARS_MAX)
        .collect()
}

fn tls_parameters(server: &Server) -> Result<TlsParameters> {
    let broken = |error: lettre::transport::smtp::Error| {
        Error::config(format!("cannot set up TLS for {}: {error}", server.host))
    };
    let mut builder = TlsParameters::builder(server.host.clone())
        .certificate_store(CertificateStore::WebpkiRoots);
    if let Some(pem) = &server.extra_ca {
        for block in pem.split_inclusive("-----END CERTIFICATE-----") {
            if block.contains("-----BEGIN CERTIFICATE-----") {
                let certificate = Certificate::from_pem(block.as_bytes()).map_err(broken)?;
                builder = builder.add_root_certificate(certificate);
            }
        }
    }
    builder.build().map_err(broken)
}
