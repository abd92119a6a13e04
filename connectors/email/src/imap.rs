//! Mail in: one mailbox followed over IMAP. The cursor moves only with a durable batch; nothing
//! in the mailbox is changed, so a person may work in it, too.

mod cursor;
mod link;
mod session;
mod sync;
mod troubles;

use std::sync::{Arc, Mutex};

use connector_api::{
    CancellationToken, Clock, Cursor, Error, Intake, Result, StreamSource, async_trait,
};

use crate::config::{Server, Settings};
use crate::imap::session::Session;
use crate::imap::sync::Follower;
use crate::imap::troubles::Troubles;

/// The stream source of one channel.
pub(crate) struct Mailbox {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    /// Mails that failed to be fetched, remembered over reconnects.
    troubles: Mutex<Troubles>,
}

impl Mailbox {
    pub(crate) fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            troubles: Mutex::default(),
        }
    }

    fn server(&self) -> Result<&Server> {
        let server = self.settings.imap.as_ref();
        server.ok_or_else(|| Error::config("the channel has no mailbox to read"))
    }

    /// Logs in and out again.
    pub(crate) async fn check(&self) -> Result<()> {
        let session = Session::open(self.server()?).await?;
        session.log_out().await;
        Ok(())
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
            let mut follower = Follower {
                settings: &self.settings,
                clock: self.clock.as_ref(),
                troubles: &self.troubles,
                intake: intake.as_ref(),
                session: &mut session,
                has_given_up: false,
            };
            let followed = tokio::select! {
                biased;
                () = stop.cancelled() => Ok(None),
                followed = follower.follow(resume) => followed.map(Some),
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
