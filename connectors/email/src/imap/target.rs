//! The folder that filed mails are moved to. While it is not there mails are read and filed as ever,
//! none is moved or marked, and the channel says so; once it is there, what was left is moved.

use connector_api::{ErrorKind, Result};

use crate::config::After;
use crate::imap::sync::Follower;

/// What is known of the folder on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Not looked for yet, or the last move failed.
    Unknown,
    There,
    Missing,
}

impl Follower<'_> {
    /// Looks for the folder until it is there, and says what is to be done while it is not.
    pub(crate) async fn look_for_target(&mut self) -> Result<()> {
        let settings = self.settings;
        let After::Move(target) = &settings.after else {
            return Ok(());
        };
        if self.target == Target::There {
            return Ok(());
        }
        let missing = match self.session.require_mailbox(target).await {
            Ok(()) => None,
            Err(error) if error.kind == ErrorKind::Config => Some(error.message),
            Err(error) => return Err(error),
        };
        self.target = match missing {
            Some(_) => Target::Missing,
            None => Target::There,
        };
        let told = missing.map(|why| {
            format!(
                "mails are read and not moved: {why}; create that mailbox, or change imap.after"
            )
        });
        self.intake.degraded(told.as_deref());
        Ok(())
    }
}
