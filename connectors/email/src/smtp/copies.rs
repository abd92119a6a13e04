//! One mail in copies, each with a sender of its own (VERP) and so in a transaction of its own. Once
//! one copy is taken the mail cannot be tried again as a whole: that would reach those again who have
//! it. So the rest is tried again here, and whoever is not reached is told.

use std::time::Duration;

use connector_api::{Error, ErrorKind, RefusedRecipient, Result};
use lettre::Address;

use crate::smtp::compose::Composed;
use crate::smtp::dialogue::Dialogue;
use crate::smtp::several::refused;
use crate::smtp::{Outbox, Turn};

/// Before each further try of the copies that were put off. Long enough for a server that restarts,
/// short enough for the answers of other customers that wait behind.
const ROUND_PAUSES: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// One recipient's copy and the sender that its bounce comes back to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copy<'a> {
    to: &'a Address,
    from: &'a Address,
}

/// What became of a mail that at least somebody got.
#[derive(Debug, Default)]
pub(crate) struct HandedOver {
    /// Whom it did not go to, and whom perhaps.
    pub(crate) refused: Vec<RefusedRecipient>,
    /// The server's words when it took a copy.
    pub(crate) verdicts: Vec<String>,
}

impl HandedOver {
    pub(crate) fn of(verdict: String) -> Self {
        Self {
            refused: Vec::new(),
            verdicts: vec![verdict],
        }
    }

    fn is_nobodys(&self) -> bool {
        self.verdicts.is_empty()
    }
}

/// The copies for those who are taken (places in the list of recipients).
pub(crate) fn copies<'a>(
    recipients: &'a [Address],
    senders: &'a [Address],
    taken: &[usize],
) -> Vec<Copy<'a>> {
    let copy = |place: &usize| {
        Some(Copy {
            to: recipients.get(*place)?,
            from: senders.get(*place)?,
        })
    };
    taken.iter().filter_map(copy).collect()
}

impl Outbox {
    /// Hands over each copy. An error means that nobody got one.
    pub(super) async fn hand_over_each(
        &self,
        mail: &Composed,
        copies: Vec<Copy<'_>>,
        dialogue: Dialogue,
        turn: &Turn<'_>,
    ) -> Result<HandedOver> {
        let mut open = Some(dialogue);
        let mut told = HandedOver::default();
        let mut put_off = self.round(mail, copies, &mut open, &mut told).await?;
        for pause in ROUND_PAUSES {
            if put_off.is_empty() {
                break;
            }
            tokio::time::sleep(pause).await;
            let again = put_off.into_iter().map(|(copy, _)| copy).collect();
            put_off = self.round(mail, again, &mut open, &mut told).await?;
        }
        let tries = ROUND_PAUSES.len() + 1;
        told.refused
            .extend(put_off.into_iter().map(|(copy, words)| {
                refused(
                    copy.to,
                    format!("not handed over in {tries} tries: {words}"),
                )
            }));
        if let Some(open) = open {
            turn.keep(open);
        }
        match told.refused.first() {
            Some(first) if told.is_nobodys() => Err(Error::rejected(first.reason.clone())),
            _ => Ok(told),
        }
    }

    /// Tries each copy once and returns those that did not leave for certain but may the next time,
    /// with the last words about each.
    async fn round<'a>(
        &self,
        mail: &Composed,
        copies: Vec<Copy<'a>>,
        open: &mut Option<Dialogue>,
        told: &mut HandedOver,
    ) -> Result<Vec<(Copy<'a>, String)>> {
        let mut put_off = Vec::new();
        let mut copies = copies.into_iter();
        while let Some(copy) = copies.next() {
            let mut dialogue = match open.take() {
                Some(dialogue) => dialogue,
                None => match self.open().await {
                    Ok(dialogue) => dialogue,
                    Err(error) if told.is_nobodys() => return Err(error),
                    Err(error) => {
                        let rest = std::iter::once(copy).chain(copies);
                        put_off.extend(rest.map(|copy| (copy, error.message.clone())));
                        return Ok(put_off);
                    }
                },
            };
            let error = match dialogue.transaction(mail, copy.from, copy.to).await {
                Ok(verdict) => {
                    told.verdicts.push(verdict);
                    *open = Some(dialogue);
                    continue;
                }
                Err(error) => error,
            };
            dialogue.quit().await;
            match error.kind {
                ErrorKind::Rejected | ErrorKind::TooLarge => {
                    told.refused.push(refused(copy.to, error.message));
                }
                _ if told.is_nobodys() => return Err(error),
                ErrorKind::OutcomeUnknown => {
                    let address = copy.to.to_string();
                    told.refused
                        .push(RefusedRecipient::unknown(address, error.message));
                }
                _ => put_off.push((copy, error.message)),
            }
        }
        Ok(put_off)
    }
}
