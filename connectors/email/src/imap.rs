//! Mail in: mailboxes followed over IMAP. The cursor moves only with a durable batch. Unless
//! `imap.after` says so, nothing in a mailbox is changed; people may work in it, too.

mod cursor;
mod fetch;
mod inventory;
mod link;
mod memory;
pub(crate) mod session;
mod sync;
mod target;
mod troubles;

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    CancellationToken, Clock, Cursor, Error, Intake, Result, StreamSource, async_trait,
};

use crate::config::{After, Server, Settings};
use crate::imap::cursor::Places;
use crate::imap::memory::Memory;
use crate::imap::session::Session;
use crate::imap::sync::Follower;

/// The stream source of one channel.
pub(crate) struct Mailbox {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    memory: Memory,
}

impl Mailbox {
    pub(crate) fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>) -> Self {
        Self {
            memory: Memory::new(settings.mailboxes.len()),
            settings,
            clock,
        }
    }

    fn server(&self) -> Result<&Server> {
        let server = self.settings.imap.as_ref();
        server.ok_or_else(|| Error::config("the channel has no mailbox to read"))
    }

    fn places(&self, resume: Option<&Cursor>) -> Result<Places> {
        let first = self.settings.mailboxes.first();
        let first = first.map_or("INBOX", String::as_str);
        resume.map_or_else(
            || Ok(Places::default()),
            |cursor| Places::read(cursor, first),
        )
    }

    /// Logs in, opens the watched mailbox, and logs out again: some servers take a login that may
    /// read nothing.
    pub(crate) async fn check(&self, patience: Duration) -> Result<String> {
        let mut session = Session::open(&self.server()?.hurried(patience)).await?;
        let watched = self.settings.mailboxes.first();
        let watched = watched.map_or("INBOX", String::as_str);
        let writes = self.settings.after != After::Nothing;
        let opened = session.open_mailbox(watched, writes).await;
        session.log_out().await;
        let unverified = match self.settings.parse.authserv_id {
            Some(_) => "",
            None => "; without authserv_id no sender counts as verified",
        };
        opened.map(|_| format!("signed in, {watched} open{unverified}"))
    }
}

#[async_trait]
impl StreamSource for Mailbox {
    async fn run(
        &self,
        resume: Option<Cursor>,
        intake: Arc<dyn Intake>,
        stop: CancellationToken,
    ) -> Result<()> {
        let mut resume = resume;
        loop {
            let opened = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                opened = Session::open(self.server()?) => opened,
            };
            let mut session = opened?;
            let mut follower = Follower::new(
                &self.settings,
                self.clock.as_ref(),
                &self.memory,
                intake.as_ref(),
                &mut session,
                self.places(resume.as_ref())?,
            );
            let followed = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(None),
                followed = follower.follow() => followed.map(Some),
            };
            session.log_out().await;
            // The token is over: on with the next one, before the server ends the session.
            resume = match followed? {
                Some(cursor) => Some(cursor),
                None => return Ok(()),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    /// async-imap traces every command and answer, and so every password and mail.
    #[test]
    fn no_log_level_shows_what_goes_over_the_line() {
        assert!(log::STATIC_MAX_LEVEL < log::LevelFilter::Trace);
    }
}
