//! What outlives a connection and not the process: which mails and mailboxes make trouble, and which
//! of Google's mails were filed from another mailbox already.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::imap::troubles::Troubles;

/// Most of Google's mails remembered: days of a busy mailbox. One that is forgotten is fetched again
/// and dropped as known by its Message-ID.
const GMAIL_IDS_MAX: usize = 20_000;

pub(crate) struct Memory {
    /// By mailbox, in the order of the configuration.
    troubles: Vec<Mutex<Troubles>>,
    gmail: Mutex<GmailIds>,
    /// Mailboxes that could not be read when they were last looked at, the latest trouble last.
    unread: Mutex<Vec<usize>>,
}

#[derive(Default)]
struct GmailIds {
    known: HashSet<u64>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl Memory {
    pub(crate) fn new(mailboxes: usize) -> Self {
        Self {
            troubles: (0..mailboxes.max(1)).map(|_| Mutex::default()).collect(),
            gmail: Mutex::default(),
            unread: Mutex::default(),
        }
    }

    /// In which order mailboxes are looked at: the first one last, because it stays open while we
    /// wait, and those in trouble after all others. One that ends every connection ends it when the
    /// others have been read.
    pub(crate) fn order(&self) -> Vec<usize> {
        let unread = self.unread();
        let well = (0..self.troubles.len()).filter(|at| !unread.contains(at));
        well.rev().chain(unread.iter().copied()).collect()
    }

    pub(crate) fn note_unread(&self, at: usize) {
        let mut unread = self.unread();
        unread.retain(|one| *one != at);
        unread.push(at);
    }

    /// Notes that all could be read; says whether one was in trouble.
    pub(crate) fn all_read(&self) -> bool {
        !std::mem::take(&mut *self.unread()).is_empty()
    }

    fn unread(&self) -> MutexGuard<'_, Vec<usize>> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Of the mailbox at that place; before one is open, of the first.
    pub(crate) fn troubles(&self, place: Option<usize>) -> &Mutex<Troubles> {
        let place = place.unwrap_or(0);
        self.troubles
            .get(place)
            .expect("a place of a configured mailbox")
    }

    pub(crate) fn knows_gmail(&self, id: u64) -> bool {
        let gmail = self.gmail.lock().unwrap_or_else(PoisonError::into_inner);
        gmail.known.contains(&id)
    }

    pub(crate) fn note_gmail(&self, ids: impl Iterator<Item = u64>) {
        let mut gmail = self.gmail.lock().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            if gmail.known.insert(id) {
                gmail.order.push_back(id);
            }
        }
        while gmail.order.len() > GMAIL_IDS_MAX
            && let Some(oldest) = gmail.order.pop_front()
        {
            gmail.known.remove(&oldest);
        }
    }
}
