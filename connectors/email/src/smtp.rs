//! Mail out: one message, one mail, one attempt, one certain outcome.

mod compose;
mod copies;
mod dialogue;
mod lines;
mod login;
mod pieces;
mod relay;
mod several;
mod verp;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connector_api::{
    Clock, Error, ErrorKind, Namespace, OutboundMessage, Recipient, Result, SendReceipt, Sender,
    async_trait,
};
use lettre::message::Mailbox;

use crate::config::Settings;
use crate::parse::normalise_address;
use crate::smtp::compose::Composed;
pub(crate) use crate::smtp::compose::compose;
use crate::smtp::copies::{HandedOver, copies};
use crate::smtp::dialogue::Dialogue;
use crate::smtp::several::split;
pub(crate) use crate::smtp::verp::LOCAL_CHARS_MAX as VERP_LOCAL_CHARS_MAX;
use crate::smtp::verp::Senders;
pub(crate) use crate::smtp::wire::replies;

type Lines = lines::Lines<Dialogue>;
type Turn<'a> = lines::Turn<'a, Dialogue>;

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
    /// Whether the server was seen to take our address where it refused the null sender.
    refuses_null_sender: AtomicBool,
}

impl Outbox {
    pub(crate) fn new(settings: Arc<Settings>, clock: Arc<dyn Clock>) -> Self {
        Self {
            settings,
            clock,
            lines: Lines::default(),
            refuses_null_sender: AtomicBool::new(false),
        }
    }

    /// Connects, says hello and logs in; says what of it was done.
    pub(crate) async fn check(&self, patience: Duration) -> Result<String> {
        let server = self.settings.smtp.hurried(patience);
        Dialogue::open(&server, self.hello()).await?.quit().await;
        let found = match server.login {
            Some(_) => "signed in",
            None => "it answers; no login is configured",
        };
        Ok(found.to_owned())
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
    ) -> Result<HandedOver> {
        let senders = Senders::of(mail, message, &self.settings)?;
        let (mut dialogue, answers) = self.begin(mail, &senders, turn).await?;
        let place = self.settings.smtp.place();
        let split = split(&place, &mail.recipients, &answers, self.waited(message));
        let split = match split {
            Ok(split) => split,
            Err(error) => {
                dialogue.quit().await;
                return Err(error);
            }
        };
        let mut handed_over = match &senders {
            Senders::Each(senders) => {
                let copies = copies(&mail.recipients, senders, &split.taken);
                self.hand_over_each(mail, copies, dialogue, turn).await?
            }
            _ => {
                let sent = dialogue.content(mail).await;
                self.done_with(dialogue, &sent, turn).await;
                HandedOver::of(sent?)
            }
        };
        handed_over.refused.splice(..0, split.refused);
        Ok(handed_over)
    }

    /// Begins on a connection that is open already, where there is one, else on a new one.
    async fn begin(
        &self,
        mail: &Composed,
        senders: &Senders,
        turn: &Turn<'_>,
    ) -> Result<(Dialogue, Answers)> {
        let mut open = turn.take();
        loop {
            let mut dialogue = match open.take() {
                Some(dialogue) => dialogue,
                None => self.open().await?,
            };
            match self.ask(&mut dialogue, mail, senders).await {
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

    /// Each recipient's answer. It is asked for with the sender that the mail then has: greylisting
    /// knows both together (RFC 6647, section 2.4).
    async fn ask(
        &self,
        dialogue: &mut Dialogue,
        mail: &Composed,
        senders: &Senders,
    ) -> Result<Answers> {
        let recipients = mail.recipients.as_slice();
        match senders {
            Senders::One(from) => dialogue.begin(mail, Some(from), recipients).await,
            Senders::Null => self.begin_without_sender(dialogue, mail).await,
            Senders::Each(senders) => {
                let mut answers = Vec::with_capacity(recipients.len());
                for (to, from) in recipients.iter().zip(senders) {
                    let to = std::slice::from_ref(to);
                    answers.extend(dialogue.begin(mail, Some(from), to).await?);
                    dialogue.forget().await?;
                }
                Ok(answers)
            }
        }
    }

    /// With the null sender, or with our address where the server refuses that (Amazon SES answers
    /// 501). The mail's headers say all the same that it is automatic.
    async fn begin_without_sender(
        &self,
        dialogue: &mut Dialogue,
        mail: &Composed,
    ) -> Result<Answers> {
        let recipients = &mail.recipients;
        if !self.refuses_null_sender.load(Ordering::Relaxed) {
            let begun = dialogue.begin(mail, None, recipients).await;
            // Also where it reads like one about us ("sender address rejected"): of no sender it is not.
            let is_refused =
                |error: &Error| matches!(error.kind, ErrorKind::Rejected | ErrorKind::Config);
            if !begun.as_ref().is_err_and(is_refused) {
                return begun;
            }
        }
        let answers = dialogue.begin(mail, Some(&mail.own), recipients).await?;
        if !self.refuses_null_sender.swap(true, Ordering::Relaxed) {
            let place = self.settings.smtp.place();
            tracing::info!(
                place,
                "{place}: the server takes no null sender, automatic mail has our address"
            );
        }
        Ok(answers)
    }

    /// Only a connection over which all went well is used again.
    async fn done_with<T>(&self, dialogue: Dialogue, sent: &Result<T>, turn: &Turn<'_>) {
        match sent {
            Ok(_) => turn.keep(dialogue),
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
        let handed_over = handed_over?;
        let ids = relay::ids(
            &self.settings.smtp.host,
            mail.message_id,
            &handed_over.verdicts,
        );
        Ok(SendReceipt {
            refused: handed_over.refused,
            ..SendReceipt::accepted(ids)
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
