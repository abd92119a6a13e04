//! Where the database is, and how it is spoken to: in plain text, or over TLS, with the server's name and
//! certificate checked.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_postgres::{Config, Socket};
use tokio_rustls::TlsConnector;
use tokio_rustls::client;

/// A database to connect to.
#[derive(Clone)]
pub struct Database {
    pub config: Config,
    pub(super) tls: Option<Tls>,
}

impl From<Config> for Database {
    /// In plain text.
    fn from(config: Config) -> Self {
        Self { config, tls: None }
    }
}

impl Database {
    /// Over TLS, and not otherwise.
    pub fn over_tls(mut config: Config, client: Arc<rustls::ClientConfig>) -> Self {
        config.ssl_mode(tokio_postgres::config::SslMode::Require);
        Self {
            config,
            tls: Some(Tls(client.into())),
        }
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
