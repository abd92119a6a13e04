//! From a host name to a connection that can log in.

use async_imap::Client;
use async_imap::imap_proto::{Response, Status};
use connector_api::{Error, Result};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::{Server, Tls};
use crate::dial::{dial, silent};
use crate::imap::link::Link;
use crate::imap::session::ANSWER_BYTES_MAX;
use crate::imap::session::words::{broken, io_words, unavailable, words};
use crate::tls::advice;

/// Each step has the server's time for one answer.
pub(super) async fn connect(server: &Server) -> Result<Client<Link>> {
    let stream = dial(&server.host, server.port, server.timeout).await;
    let stream = stream.map_err(|why| unavailable(&server.place(), "connect", &why))?;
    let link = Link::new(stream, ANSWER_BYTES_MAX);
    match server.tls {
        Tls::None => greeted(Client::new(link), server).await,
        Tls::Implicit => greeted(Client::new(encrypt(link, server).await?), server).await,
        Tls::Starttls => {
            let mut client = greeted(Client::new(link), server).await?;
            let lost = |why: &str| unavailable(&server.place(), "begin STARTTLS", why);
            let asked = client.run_command_and_check_ok("STARTTLS", None);
            let asked = timeout(server.timeout, asked).await;
            let asked = asked.map_err(|_| lost("no answer in time"))?;
            asked.map_err(|error| lost(&broken(&error)))?;
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
    let lost = |why: &str| unavailable(&server.place(), "begin TLS", why);
    let handshake = timeout(server.timeout, connector.connect(name, link)).await;
    let handshake = handshake.map_err(|_| lost("no answer in time"))?;
    let stream = handshake.map_err(|error| lost(&advice(server, &error)))?;
    Ok(Link::new(stream, ANSWER_BYTES_MAX))
}

async fn greeted(mut client: Client<Link>, server: &Server) -> Result<Client<Link>> {
    let lost = |why: &str| unavailable(&server.place(), "connect", why);
    let greeting = timeout(server.timeout, client.read_response()).await;
    let greeting = greeting
        .map_err(|_| lost(&silent(server)))?
        .map_err(|error| lost(io_words(&error)))?
        .ok_or_else(|| lost("it hung up without a greeting"))?;
    match greeting.parsed() {
        Response::Data {
            status: Status::Ok, ..
        } => Ok(client),
        Response::Data { outcome, .. } => Err(lost(&words(outcome.information.as_deref()))),
        _ => Err(lost("what answers there is no IMAP server")),
    }
}
