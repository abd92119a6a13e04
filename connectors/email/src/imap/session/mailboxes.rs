//! Opening mailboxes, and saying what there is where one is missing.

use async_imap::imap_proto::{MailboxDatum, NameAttribute, Response, ResponseCode};
use connector_api::{Error, Result};

use crate::imap::session::Session;
use crate::imap::session::line::Tagged;
use crate::imap::session::names::{modified_utf7, quoted, readable};
use crate::imap::session::words::is_passing;

/// Most names told where one is missing.
const NAMES_TOLD_MAX: usize = 20;

/// The selected mailbox.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Selected {
    pub(crate) uidvalidity: u32,
    pub(crate) uid_next: Option<u32>,
    pub(crate) exists: u32,
}

impl Session {
    /// Opens a mailbox. Read-only, nothing we do changes a flag that a person sees.
    pub(crate) async fn open_mailbox(&mut self, mailbox: &str, writes: bool) -> Result<Selected> {
        let verb = if writes { "SELECT" } else { "EXAMINE" };
        let command = format!("{verb} {}", quoted(&modified_utf7(mailbox)));
        let mut selected = Selected::default();
        let mut is_read_only = false;
        (self.exists, self.has_news) = (0, false);
        let tagged = self
            .short(&command, |response| {
                let outcome = match response {
                    Response::Data { outcome, .. } | Response::Done { outcome, .. } => outcome,
                    _ => return,
                };
                match outcome.code {
                    Some(ResponseCode::UidValidity(value)) => selected.uidvalidity = value,
                    Some(ResponseCode::UidNext(value)) => selected.uid_next = Some(value),
                    Some(ResponseCode::ReadOnly) => is_read_only = true,
                    _ => {}
                }
            })
            .await?;
        selected.exists = self.exists;
        if let Tagged::No(words) = tagged {
            return Err(self.missing(mailbox, &words).await);
        }
        let place = &self.place;
        if selected.uidvalidity == 0 {
            return Err(Error::config(format!(
                "{place}: the mailbox {mailbox:?} has no UIDs"
            )));
        }
        if writes && is_read_only {
            return Err(Error::config(format!(
                "{place}: the mailbox {mailbox:?} opens read-only: imap.after needs more"
            )));
        }
        Ok(selected)
    }

    /// Fails where a mailbox is not there; it is not opened.
    pub(crate) async fn require_mailbox(&mut self, mailbox: &str) -> Result<()> {
        let command = format!("STATUS {} (UIDVALIDITY)", quoted(&modified_utf7(mailbox)));
        match self.short(&command, |_| {}).await? {
            Tagged::Ok => Ok(()),
            Tagged::No(words) => Err(self.missing(mailbox, &words).await),
        }
    }

    /// What to say of a mailbox that cannot be opened: usually it is spelt otherwise there.
    async fn missing(&mut self, mailbox: &str, words: &str) -> Error {
        let message = format!(
            "{}: cannot open the mailbox {mailbox:?}: {words}",
            self.place
        );
        if is_passing(words) {
            return Error::unavailable(message);
        }
        match self.names().await {
            Ok(names) if !names.is_empty() => {
                let more = names.len().saturating_sub(NAMES_TOLD_MAX);
                let told: Vec<String> = names.into_iter().take(NAMES_TOLD_MAX).collect();
                let more = match more {
                    0 => String::new(),
                    more => format!(" and {more} more"),
                };
                Error::config(format!("{message}; there are {}{more}", told.join(", ")))
            }
            _ => Error::config(message),
        }
    }

    /// The mailboxes that can be opened.
    async fn names(&mut self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.short("LIST \"\" \"*\"", |response| {
            if let Response::MailboxData(MailboxDatum::List(list)) = response
                && !list.name_attributes.contains(&NameAttribute::NoSelect)
            {
                names.push(format!("{:?}", readable(&list.name)));
            }
        })
        .await?
        .or_unavailable(&self.place, "list mailboxes")?;
        Ok(names)
    }
}
