//! Mail out: one message, one mail, one attempt, one certain outcome.

mod compose;
mod dialogue;
mod lines;
mod login;
mod pieces;
mod several;
mod verp;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Clock, Error, ErrorKind, Namespace, OutboundMessage, Recipient, RefusedRecipient, Result,
    SendReceipt, Sender, async_trait,
};
use lettre::Address;
use lettre::message::Mailbox;

use crate::config::Settings;
use crate::parse::normalise_address;
use crate::smtp::compose::Composed;
pub(crate) use crate::smtp::compose::compose;
use crate::smtp::dialogue::Dialogue;
use crate::smtp::lines::{Lines, Turn};
use crate::smtp::several::{refused, split};
pub(crate) use crate::smtp::verp::LOCAL_CHARS_MAX as VERP_LOCAL_CHARS_MAX;

/// Largest sum of attachments, in bytes: with base64 it stays under the 25 MiB that most
/// receivers take.
pub(crate) const ATTACHMENT_BYTES_MAX: u64 = 18 * 1024 * 1024;

/// Most recipients of one mail: the strictest of the large providers (Amazon SES) takes 50, and
/// RFC 5321, section 4.5.3.1.8, has every server take 100.
pub(crate) const RECIPIENTS_MAX: u16 = 50;

/// The sender of one channel.
pub(crate) struct Outbox {
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    lines: Lines,
}

impl Outbox {
    pub(crate) fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            lines: Lines::default(),
        }
    }

    /// Connects and says hello.
    pub(crate) async fn check(&self) -> Result<()> {
        self.open().await?.quit().await;
        Ok(())
    }

    async fn open(&self) -> Result<Dialogue> {
        Dialogue::open(&self.settings.smtp, self.hello()).await
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

    /// For how long the message has been on its way.
    fn waited(&self, message: &OutboundMessage) -> Duration {
        let waited = self.clock.now().duration_since(message.accepted_at);
        Duration::try_from(waited).unwrap_or_default()
    }

    /// Asks about everybody, and hands the mail over for those who are taken.
    async fn hand_over(
        &self,
        mail: &Composed,
        message: &OutboundMessage,
        turn: &Turn<'_>,
    ) -> Result<Vec<RefusedRecipient>> {
        let verp = verp::senders(mail, message, &self.settings)?;
        let from = match verp.as_deref() {
            Some([only]) => Some(only.clone()),
            _ => mail.envelope_from.clone(),
        };
        let (mut dialogue, answers) = self.begin(mail, from.as_ref(), turn).await?;
        let host = &self.settings.smtp.host;
        let split = split(host, &mail.recipients, &answers, self.waited(message));
        let split = match split {
            Ok(split) => split,
            Err(error) => {
                dialogue.quit().await;
                return Err(error);
            }
        };
        match verp {
            Some(senders) if senders.len() > 1 => {
                dialogue.forget().await?;
                let each = verp::Each {
                    mail,
                    senders,
                    taken: split.taken,
                };
                let later = self.hand_over_each(each, dialogue, turn).await?;
                Ok(split.refused.into_iter().chain(later).collect())
            }
            _ => {
                let sent = dialogue.content(mail).await;
                self.done_with(dialogue, &sent, turn).await;
                sent.map(|()| split.refused)
            }
        }
    }

    /// Begins on a connection that is open already, where there is one, else on a new one.
    async fn begin(
        &self,
        mail: &Composed,
        from: Option<&Address>,
        turn: &Turn<'_>,
    ) -> Result<(Dialogue, Answers)> {
        let mut open = turn.take();
        loop {
            let mut dialogue = match open.take() {
                Some(dialogue) => dialogue,
                None => self.open().await?,
            };
            match dialogue.begin(mail, from, &mail.recipients).await {
                Ok(answers) => return Ok((dialogue, answers)),
                // It was closed while it waited; nothing was sent yet.
                Err(error) if dialogue.is_used() && error.kind == ErrorKind::Unavailable => {}
                Err(error) => {
                    dialogue.quit().await;
                    return Err(error);
                }
            }
        }
    }

    /// One transaction for each recipient, so that each bounce comes back to an address of its
    /// own. What fails after the first was taken is no error any more: a second attempt would
    /// reach those again who have it. It is told as a refusal instead.
    async fn hand_over_each(
        &self,
        each: verp::Each<'_>,
        dialogue: Dialogue,
        turn: &Turn<'_>,
    ) -> Result<Vec<RefusedRecipient>> {
        let mut dialogue = Some(dialogue);
        let mut later = Vec::new();
        let mut sent = 0;
        for (address, from) in each.pairs() {
            let mut open = match dialogue.take() {
                Some(open) => open,
                None => match self.open().await {
                    Ok(open) => open,
                    Err(error) if sent == 0 => return Err(error),
                    Err(error) => {
                        later.push(refused(address, error.message));
                        continue;
                    }
                },
            };
            match open.transaction(each.mail, from, address).await {
                Ok(()) => {
                    sent += 1;
                    dialogue = Some(open);
                }
                Err(error) if sent == 0 && error.kind != ErrorKind::Rejected => {
                    open.quit().await;
                    return Err(error);
                }
                Err(error) => {
                    later.push(refused(address, error.message));
                    open.quit().await;
                }
            }
        }
        if let Some(open) = dialogue {
            turn.keep(open);
        }
        match (sent, later.first()) {
            (0, Some(first)) => Err(Error::rejected(first.reason.clone())),
            _ => Ok(later),
        }
    }

    /// Only a connection over which all went well is used again.
    async fn done_with(&self, dialogue: Dialogue, sent: &Result<()>, turn: &Turn<'_>) {
        match sent {
            Ok(()) => turn.keep(dialogue),
            Err(_) => dialogue.quit().await,
        }
    }
}

/// What the server says to each recipient.
type Answers = Vec<std::result::Result<(), dialogue::No>>;

#[async_trait]
impl Sender for Outbox {
    async fn send(&self, message: &OutboundMessage) -> Result<SendReceipt> {
        let sizes = message.attachments.iter().map(|one| one.size_bytes);
        if sizes.fold(0, u64::saturating_add) > ATTACHMENT_BYTES_MAX {
            return Err(Error::too_large(format!(
                "the attachments are larger than attachments_bytes_max {ATTACHMENT_BYTES_MAX}"
            )));
        }
        let mail = compose::compose(message, &self.settings)?;
        let turn = self.lines.enter();
        let handed_over = self.hand_over(&mail, message, &turn).await;
        for dialogue in turn.leave() {
            dialogue.quit().await;
        }
        Ok(SendReceipt {
            refused: handed_over?,
            ..SendReceipt::accepted(vec![mail.message_id])
        })
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
