//! What is done to mails in their mailbox once they are filed. All of it may be done twice: what was
//! moved away or deleted meanwhile is simply not there any more.

use connector_api::Result;

use crate::config::After;
use crate::imap::session::Session;
use crate::imap::session::names::{modified_utf7, quoted};

impl Session {
    /// Marks or moves mails of the selected mailbox.
    pub(crate) async fn finish(&mut self, uids: &[u32], after: &After) -> Result<()> {
        let set: Vec<String> = uids.iter().map(u32::to_string).collect();
        let set = set.join(",");
        match after {
            After::Nothing => Ok(()),
            After::Seen => {
                let command = format!("UID STORE {set} +FLAGS.SILENT (\\Seen)");
                self.carried_out(&command, "mark mails as read").await
            }
            After::Move(target) => self.move_to(&set, target).await,
        }
    }

    /// In one step where the server can (RFC 6851). Without UIDPLUS nothing is expunged: that would
    /// take with it what others have marked as deleted.
    async fn move_to(&mut self, set: &str, target: &str) -> Result<()> {
        let target = quoted(&modified_utf7(target));
        if self.can.moving {
            let command = format!("UID MOVE {set} {target}");
            return self.carried_out(&command, "move mails").await;
        }
        let command = format!("UID COPY {set} {target}");
        self.carried_out(&command, "move mails").await?;
        let command = format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)");
        self.carried_out(&command, "move mails").await?;
        if self.can.uid_plus {
            let command = format!("UID EXPUNGE {set}");
            self.carried_out(&command, "move mails").await?;
        }
        Ok(())
    }

    async fn carried_out(&mut self, command: &str, verb: &str) -> Result<()> {
        self.short(command, |_| {})
            .await?
            .or_unavailable(&self.place, verb)
    }
}
