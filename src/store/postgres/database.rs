//! Where the database is, and how it is spoken to: in plain text, or over TLS, with the server's name and
//! certificate checked.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Config, Socket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

use crate::store::sql::{Error, Result};

/// How long nobody tries a password again that was not taken: each connection of each thread would, every second,
/// and servers lock users out who try too often.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// A database to connect to.
#[derive(Clone)]
pub struct Database {
    pub config: Config,
    pub(super) tls: Option<Tls>,
    password: Option<Arc<Password>>,
    /// When our password was last not taken, and what was said.
    refused: Arc<Mutex<Option<(Instant, String)>>>,
}

/// Reads the password, or says why it cannot be read.
pub type Password = dyn Fn() -> std::result::Result<SecretString, String> + Send + Sync;

impl From<Config> for Database {
    /// In plain text.
    fn from(config: Config) -> Self {
        Self {
            config,
            tls: None,
            password: None,
            refused: Arc::default(),
        }
    }
}

impl Database {
    /// With a password, which is read for each connection: one that is changed where it is kept is the next one's.
    pub fn with_password(mut self, password: Arc<Password>) -> Self {
        self.password = Some(password);
        self
    }

    /// Over TLS, and not otherwise.
    pub fn over_tls(mut config: Config, client: Arc<rustls::ClientConfig>) -> Self {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        Self {
            tls: Some(Tls(client.into())),
            ..config.into()
        }
    }

    /// What to connect with now.
    pub(super) fn login(&self) -> Result<Config> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, reason)) = &*refused
            && at.elapsed() < REFUSED_FOR
        {
            return Err(Error::Unauthorized(reason.clone()));
        }
        drop(refused);
        let mut config = self.config.clone();
        match &self.password {
            Some(read) => {
                let read = read();
                let read = read.map_err(|why| self.untrusted(format!("store.password: {why}")))?;
                config.password(read.expose_secret());
            }
            // No user has this one: a server that asks for a password says that it is wrong.
            None if config.get_password().is_none() => drop(config.password("")),
            None => {}
        }
        Ok(config)
    }

    /// What a connection failed with.
    pub(super) fn refusal(&self, error: tokio_postgres::Error) -> Error {
        if error.code() != Some(&SqlState::INVALID_PASSWORD) {
            return Error::Postgres(error);
        }
        let told = super::told(&error);
        let what_to_do = match &self.password {
            Some(_) => "put the password of the user of store.url where store.password says",
            None => "no password was sent: name where it is in store.password",
        };
        self.untrusted(format!("PostgreSQL: {told}: {what_to_do}"))
    }

    fn untrusted(&self, reason: String) -> Error {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused = Some((Instant::now(), reason.clone()));
        Error::Unauthorized(reason)
    }
}

/// Begins TLS on connections.
#[derive(Clone)]
pub struct Tls(TlsConnector);

impl MakeTlsConnect<Socket> for Tls {
    type Stream = Encrypted;
    type TlsConnect = Beginning;
    type Error = io::Error;

    fn make_tls_connect(&mut self, host: &str) -> io::Result<Beginning> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Beginning {
            connector: self.0.clone(),
            name,
        })
    }
}

/// TLS that is about to begin.
pub struct Beginning {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl TlsConnect<Socket> for Beginning {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Encrypted>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        Box::pin(async move {
            let stream = self.connector.connect(self.name, socket).await?;
            Ok(Encrypted(Box::new(stream)))
        })
    }
}

/// A connection over TLS.
pub struct Encrypted(Box<client::TlsStream<Socket>>);

impl TlsStream for Encrypted {
    /// Passwords are not bound to the connection: its server has been checked.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, into)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
