//! A session with a server whose answers are all there already: what a fuzzer of them runs.

use std::io::Cursor;
use std::time::Duration;

use connector_api::Result;

use crate::imap::link::Link;
use crate::imap::session::login::by_password;
use crate::imap::session::{ANSWER_BYTES_MAX, Can, Session};

/// The library numbers commands so.
const LOGGED_IN: &[u8] = b"A0001 OK\r\n";

/// Reads the answers as those to a login, a listing, two fetches and a NOOP; gives how many mails
/// they brought.
pub(crate) async fn read(answers: &[u8]) -> Result<usize> {
    let answers = [LOGGED_IN, answers].concat();
    let stream = tokio::io::join(Cursor::new(answers), tokio::io::sink());
    let client = async_imap::Client::new(Link::new(stream, ANSWER_BYTES_MAX));
    let place = "imap scripted".to_owned();
    let mut session = Session {
        inner: by_password(client, "u", "p", &place).await?,
        place,
        patience: Duration::from_secs(30),
        renew_at: None,
        can_idle: false,
        can: Can {
            gmail: true,
            ..Can::default()
        },
        exists: 0,
        has_news: false,
        is_confused: false,
    };
    let listed = session.list(1, None).await?;
    let uids: Vec<u32> = listed.iter().map(|mail| mail.uid).take(10).collect();
    let bodies = session.bodies(&uids, 64 * 1024).await?.unwrap_or_default();
    let heads = session.headers(1, 64 * 1024).await?.unwrap_or_default();
    session.noop().await?;
    Ok(bodies.len() + heads.len())
}
