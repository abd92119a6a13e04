//! From a host name to a connection that can log in.

use async_imap::Client;
use async_imap::imap_proto::{Response, Status};
use connector_api::{Error, Result};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::config::{Server, Tls};
use crate::imap::link::Link;
use crate::imap::session::ANSWER_BYTES_MAX;
use crate::imap::session::words::{broken, io_words, unavailable, words};

pub(super) async fn connect(server: &Server) -> Result<Client<Link>> {
    let host = &server.host;
    let lost = |why: &str| unavailable(host, "connect", why);
    let address = (host.as_str(), server.port);
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| lost(io_words(&error)))?;
    stream
        .set_nodelay(true)
        .map_err(|error| lost(io_words(&error)))?;
    let link = Link::new(stream, ANSWER_BYTES_MAX);
    match server.tls {
        Tls::None => greeted(Client::new(link), host).await,
        Tls::Implicit => greeted(Client::new(encrypt(link, server).await?), host).await,
        Tls::Starttls => {
            let mut client = greeted(Client::new(link), host).await?;
            client
                .run_command_and_check_ok("STARTTLS", None)
                .await
                .map_err(|error| lost(&format!("STARTTLS refused, {}", broken(&error))))?;
            // Whatever was sent in plain text behind the answer is dropped with the old buffer.
            Ok(Client::new(encrypt(client.into_inner(), server).await?))
        }
    }
}

async fn encrypt(link: Link, server: &Server) -> Result<Link> {
    let host = &server.host;
    let name = ServerName::try_from(host.clone())
        .map_err(|_| Error::config(format!("{host} is no host name")))?;
    let connector = TlsConnector::from(std::sync::Arc::clone(&server.client));
    // The budget is counted above TLS.
    let mut link = link;
    link.allow(u64::MAX);
    let stream = connector
        .connect(name, link)
        .await
        .map_err(|error| unavailable(host, "negotiate TLS", &error.to_string()))?;
    Ok(Link::new(stream, ANSWER_BYTES_MAX))
}

async fn greeted(mut client: Client<Link>, host: &str) -> Result<Client<Link>> {
    let lost = |why: &str| unavailable(host, "connect", why);
    let greeting = client
        .read_response()
        .await
        .map_err(|error| lost(io_words(&error)))?
        .ok_or_else(|| lost("closed before the greeting"))?;
    match greeting.parsed() {
        Response::Data {
            status: Status::Ok, ..
        } => Ok(client),
        Response::Data { outcome, .. } => Err(lost(&words(outcome.information.as_deref()))),
        _ => Err(lost("this is no IMAP server")),
    }
}
