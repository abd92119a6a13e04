//! Mail out: one message, one mail, one attempt, one certain outcome.

mod compose;
mod dialogue;

use std::sync::Arc;

use connector_api::{
    Error, ErrorKind, Namespace, OutboundMessage, Recipient, Result, SendReceipt, Sender,
    async_trait,
};
use lettre::message::Mailbox;

use crate::config::Settings;
use crate::parse::normalise_address;
use crate::smtp::dialogue::Dialogue;

/// Largest sum of attachments, in bytes: with base64 it stays under the 25 MiB that most
/// receivers take.
pub(crate) const ATTACHMENT_BYTES_MAX: u64 = 18 * 1024 * 1024;

/// The sender of one channel.
pub(crate) struct Outbox {
    settings: Arc<Settings>,
}

impl Outbox {
    pub(crate) fn new(settings: Arc<Settings>) -> Self {
        Self { settings }
    }

    /// Connects and says hello.
    pub(crate) async fn check(&self) -> Result<()> {
        let dialogue = Dialogue::open(&self.settings.smtp, self.hello()).await?;
        dialogue.quit().await;
        Ok(())
    }

    /// The name we greet with: our own domain, because a machine's name is nobody's business.
    fn hello(&self) -> &str {
        let domain = self
            .settings
            .address
            .rsplit_once('@')
            .map(|(_, domain)| domain);
        domain
            .filter(|domain| domain.is_ascii())
            .unwrap_or("localhost")
    }
}

#[async_trait]
impl Sender for Outbox {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let sizes = message.attachments.iter().map(|one| one.size_bytes);
        if sizes.sum::<u64>() > ATTACHMENT_BYTES_MAX {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "the attachments are larger than attachment_bytes_max {ATTACHMENT_BYTES_MAX}"
                ),
            ));
        }
        let mail = compose::compose(message, &self.settings).await?;
        let mut dialogue = Dialogue::open(&self.settings.smtp, self.hello()).await?;
        dialogue.deliver(&mail).await?;
        dialogue.quit().await;
        Ok(SendReceipt::accepted(vec![mail.message_id]))
    }

    /// `ada@example.org`, or `Ada Lovelace <ada@example.org>`.
    fn recipient(&self, address: &str) -> Result<Recipient> {
        let mailbox: Option<Mailbox> = address.trim().parse().ok();
        let known = mailbox.and_then(|mailbox| {
            let address = normalise_address(mailbox.email.as_ref())?;
            Some((address, mailbox.name))
        });
        let (address, name) =
            known.ok_or_else(|| Error::rejected(format!("{address:?} is no mail address")))?;
        Ok(Recipient {
            namespace: Namespace::email(),
            address,
            name,
        })
    }
}
