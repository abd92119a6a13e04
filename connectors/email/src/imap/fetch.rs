//! Fetching mails, so that one that its server does not hand out stops nobody.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{MutexGuard, PoisonError};

use connector_api::{Bytes, Defect, Error, Event, InboundEvent, Result, Timestamp};

use crate::imap::cursor::Listed;
use crate::imap::session::Body;
use crate::imap::sync::Follower;
use crate::imap::troubles::{LOST_WEIGHT, REFUSED_WEIGHT, Trouble, Troubles, Witness};
use crate::parse;

/// Most mails in one batch.
const BATCH_MAILS_MAX: usize = 50;
/// Most bytes of mail in one batch; a larger mail is a batch of its own.
const BATCH_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// What a mail may be larger than its server says (`RFC822.SIZE` is a guess on some).
const SIZE_SLACK_BYTES: u64 = 1024 * 1024;
/// Largest header block fetched of a mail whose body is not.
const HEADERS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Largest mail that is parsed beside everything else, in bytes: some milliseconds of work.
const INLINE_PARSE_BYTES_MAX: usize = 256 * 1024;
/// Of how many of the newest mails some are asked for while another is refused.
const WITNESSES_LISTED: u32 = 10;
const WITNESSES_ASKED: usize = 3;

/// One mail's event, by UID.
pub(crate) type Fetched = (u32, InboundEvent);

impl Follower<'_> {
    /// How many of the next mails go together.
    pub(crate) fn batch_length(&self, wanted: &[(Listed, bool)]) -> usize {
        let troubles = self.troubles();
        let mut bytes = 0u64;
        let mut length = 0;
        for (mail, _) in wanted.iter().take(BATCH_MAILS_MAX) {
            let is_alone = self.is_too_large(mail) || troubles.weight(mail.uid) > 0;
            bytes = bytes.saturating_add(mail.size_bytes);
            if length > 0 && (is_alone || bytes > BATCH_BYTES_MAX) {
                break;
            }
            length += 1;
            if is_alone {
                break;
            }
        }
        length
    }

    /// The events of mails; each says whether it is history.
    pub(crate) async fn fetch(
        &mut self,
        batch: &[(Listed, bool)],
        uidvalidity: u32,
    ) -> Result<Vec<Fetched>> {
        let mut events = match batch {
            [(mail, _)] => self.fetch_one(mail, uidvalidity).await?,
            _ => {
                let mails: Vec<Listed> = batch.iter().map(|(mail, _)| *mail).collect();
                self.fetch_whole(&mails, uidvalidity).await?
            }
        };
        for (uid, event) in &mut events {
            let listed = batch.iter().find(|(mail, _)| mail.uid == *uid);
            event.history = listed.is_some_and(|(_, is_old)| *is_old);
            if let Some(thread) = listed.and_then(|(mail, _)| mail.gmail_thread) {
                refer_to_gmail_thread(event, thread);
            }
        }
        // What we wrote may lie in other mailboxes, too; where mail arrives it would be a loop, or a
        // stranger's who names us.
        let at_google = batch.iter().any(|(mail, _)| mail.gmail_id.is_some());
        if self.is_arrival(at_google) {
            return Ok(events);
        }
        let settings = &self.settings.parse;
        let kept = events
            .into_iter()
            .filter_map(|(uid, event)| Some((uid, parse::kept(event, settings)?)));
        Ok(kept.collect())
    }

    /// Fetches as much of one mail as its size and its past allow.
    async fn fetch_one(&mut self, mail: &Listed, uidvalidity: u32) -> Result<Vec<Fetched>> {
        let max = self.settings.parse.mail_bytes_max;
        let trouble = self.troubles().of(mail.uid);
        let defect = match trouble {
            Trouble::All => {
                self.has_given_up = true;
                return Ok(vec![(mail.uid, unreadable(mail, uidvalidity))]);
            }
            Trouble::Bodies => Defect::new("unreadable_on_server", "only the headers can be had"),
            Trouble::None if mail.size_bytes > max => Defect::new(
                "too_large",
                format!("{} bytes, limit {max}", mail.size_bytes),
            ),
            Trouble::None => return self.fetch_whole(&[*mail], uidvalidity).await,
        };
        let before = self.witness_before(&[*mail]).await;
        let answer = self.session.headers(mail.uid, HEADERS_BYTES_MAX).await;
        let bodies = self.note(&[*mail], answer, before).await?;
        self.has_given_up |= trouble == Trouble::Bodies;
        let read = |(uid, raw)| {
            let settings = &self.settings.parse;
            let parse = |raw| parse::parse_headers_only(raw, defect.clone(), settings);
            (uid, parsed(mail, uidvalidity, raw, parse))
        };
        Ok(bodies.into_iter().map(read).collect())
    }

    async fn fetch_whole(&mut self, batch: &[Listed], uidvalidity: u32) -> Result<Vec<Fetched>> {
        let uids: Vec<u32> = batch.iter().map(|mail| mail.uid).collect();
        let sizes: u64 = batch.iter().map(|mail| mail.size_bytes).sum();
        let before = self.witness_before(batch).await;
        let answer = self.session.bodies(&uids, self.budget(sizes)).await;
        let bodies = self.note(batch, answer, before).await?;
        let mut events = Vec::with_capacity(bodies.len());
        for mail in batch {
            // A mail deleted since it was listed is simply not answered.
            if let Some((_, raw)) = bodies.iter().find(|(uid, _)| *uid == mail.uid) {
                let event = self.parse(mail, uidvalidity, raw.clone()).await?;
                events.push((mail.uid, event));
            }
        }
        Ok(events)
    }

    /// Parses a mail; a large one on a thread for such work, so that it stands in nobody's way.
    async fn parse(&self, mail: &Listed, uidvalidity: u32, raw: Bytes) -> Result<InboundEvent> {
        let (mail, settings) = (*mail, self.settings.parse.clone());
        let large = raw.len() > INLINE_PARSE_BYTES_MAX;
        let work = move || parsed(&mail, uidvalidity, raw, |raw| parse::parse(raw, &settings));
        if !large {
            return Ok(work());
        }
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Error::unavailable(format!("parsing a mail: {error}")))
    }

    /// The bytes that came for each mail, or an error that is counted against those which did not
    /// come, so that one that always fails stops nobody.
    async fn note(
        &mut self,
        asked: &[Listed],
        answer: Result<Option<Vec<Body>>>,
        before: Witness,
    ) -> Result<Vec<(u32, Bytes)>> {
        let (failed, weight, error) = match answer {
            Ok(Some(bodies)) => {
                let (read, failed) = split_read(asked, bodies);
                if failed.is_empty() {
                    return Ok(read);
                }
                (failed, REFUSED_WEIGHT, refused())
            }
            Ok(None) => (uids(asked), REFUSED_WEIGHT, refused()),
            Err(error) => (uids(asked), LOST_WEIGHT, error),
        };
        let is_broken = weight == LOST_WEIGHT || self.session.is_confused();
        let witness = match asked {
            [mail] if !is_broken => self.witness(mail).await,
            _ => before,
        };
        let now = self.clock.now().as_second();
        let mut troubles = self.troubles();
        for uid in failed {
            troubles.add(uid, weight, witness, now);
        }
        if let [mail] = asked
            && is_broken
        {
            troubles.note_broken_link(mail.uid);
        }
        Err(error)
    }

    /// After a mail that breaks the connection nobody can be asked, so somebody is asked before.
    async fn witness_before(&mut self, asked: &[Listed]) -> Witness {
        match asked {
            [mail] if self.troubles().breaks_link(mail.uid) => self.witness(mail).await,
            _ => Witness::Silent,
        }
    }

    /// Whether this connection hands out any mail but the refused one: only then is it the mail, and
    /// not a server that hands out none.
    async fn witness(&mut self, refused: &Listed) -> Witness {
        let exists = self.session.exists();
        let Ok(mut others) = self.session.newest(exists, WITNESSES_LISTED).await else {
            return Witness::Silent;
        };
        others.retain(|other| other.uid != refused.uid && !self.is_too_large(other));
        if others.is_empty() {
            return Witness::Nobody;
        }
        others.sort_by_key(|other| (self.troubles().weight(other.uid), other.size_bytes));
        for other in others.iter().take(WITNESSES_ASKED) {
            let budget = self.budget(other.size_bytes);
            let answer = self.session.bodies(&[other.uid], budget).await;
            if let Ok(Some(bodies)) = answer {
                let (read, failed) = split_read(&[*other], bodies);
                match (read.is_empty(), failed.is_empty()) {
                    (false, _) => return Witness::Read,
                    // Deleted meanwhile.
                    (true, true) => continue,
                    (true, false) => {}
                }
            }
            // Another one is asked first the next time.
            let now = self.clock.now().as_second();
            self.troubles()
                .add(other.uid, LOST_WEIGHT, Witness::Silent, now);
        }
        Witness::Silent
    }

    pub(crate) fn forgive(&self, batch: &[(Listed, bool)]) {
        let mut troubles = self.troubles();
        for (mail, _) in batch {
            troubles.forgive(mail.uid);
        }
    }

    /// Of the mailbox that is open.
    pub(crate) fn troubles(&self) -> MutexGuard<'_, Troubles> {
        let troubles = self.memory.troubles(self.open);
        troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the answer to a fetch of mails of so many bytes may take.
    fn budget(&self, size_bytes: u64) -> u64 {
        size_bytes
            .saturating_add(self.settings.parse.mail_bytes_max)
            .saturating_add(SIZE_SLACK_BYTES)
    }

    fn is_too_large(&self, mail: &Listed) -> bool {
        mail.size_bytes > self.settings.parse.mail_bytes_max
    }
}

/// Whether the whole mail was had and read: only such mails are marked or moved away.
pub(crate) fn is_whole(event: &InboundEvent) -> bool {
    let broken = ["too_large", "unreadable_on_server", "parser_failed"];
    let mut defects = event.defects.iter();
    !defects.any(|defect| broken.contains(&defect.code.as_str()))
}

/// Google's thread of a mail is a hint like a reference, and comes after all of them: Google goes by
/// subjects, too.
fn refer_to_gmail_thread(event: &mut InboundEvent, thread: u64) {
    if let Event::Message(message) = &mut event.event {
        let reference = format!("gm-thrid:{thread:x}");
        message.thread.references.push(reference);
    }
}

/// A mail that is known to exist and nothing more.
fn unreadable(mail: &Listed, uidvalidity: u32) -> InboundEvent {
    let key = format!("imap:{uidvalidity}:{}", mail.uid);
    let mut event = parse::unreadable(key, "the server lists the mail and does not hand it out");
    event.sent_at = mail.date.and_then(|date| Timestamp::from_second(date).ok());
    event
}

/// One mail's event. Its bytes are a stranger's: what no parser may do must not end the channel.
fn parsed(
    mail: &Listed,
    uidvalidity: u32,
    raw: Bytes,
    parse: impl FnOnce(Bytes) -> InboundEvent,
) -> InboundEvent {
    let bytes = raw.clone();
    catch_unwind(AssertUnwindSafe(|| parse(bytes))).unwrap_or_else(|_| {
        tracing::error!(uidvalidity, uid = mail.uid, "the parser failed on a mail");
        let mut event = unreadable(mail, uidvalidity);
        event.defects = vec![Defect::new("parser_failed", "only the bytes are kept")];
        event.raw = Some(raw);
        event
    })
}

/// What came with its bytes, and the UIDs that were answered without. An empty answer for a mail
/// that has a size is none: the server could not read it.
fn split_read(asked: &[Listed], bodies: Vec<Body>) -> (Vec<(u32, Bytes)>, Vec<u32>) {
    let mut read = Vec::with_capacity(bodies.len());
    let mut failed = Vec::new();
    for (uid, body) in bodies {
        let has_size = asked
            .iter()
            .any(|mail| mail.uid == uid && mail.size_bytes > 0);
        match body {
            Some(raw) if !(raw.is_empty() && has_size) => read.push((uid, raw)),
            _ => failed.push(uid),
        }
    }
    (read, failed)
}

fn refused() -> Error {
    Error::unavailable("the server refused to hand out a mail that it lists")
}

fn uids(mails: &[Listed]) -> Vec<u32> {
    mails.iter().map(|mail| mail.uid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: Listed = Listed {
        uid: 4,
        size_bytes: 12,
        date: Some(1_700_000_000),
        gmail_id: None,
        gmail_thread: None,
    };

    #[test]
    fn a_parser_that_panics_leaves_an_event_with_the_bytes() {
        let raw = Bytes::from_static(b"From: a@b\n\n");
        let event = parsed(&MAIL, 7, raw.clone(), |_| panic!("a bug in the parser"));
        assert_eq!(event.dedupe_key.as_str(), "imap:7:4");
        assert_eq!(event.raw, Some(raw));
        let codes: Vec<&str> = event.defects.iter().map(|one| one.code.as_str()).collect();
        assert_eq!(codes, ["parser_failed"]);
        assert_eq!(event.sent_at.map(Timestamp::as_second), MAIL.date);
    }

    #[test]
    fn a_mail_answered_without_its_bytes_was_not_read() {
        let empty = Listed {
            uid: 5,
            size_bytes: 0,
            ..MAIL
        };
        for (body, is_read) in [
            ((4, None), false),
            ((4, Some(Bytes::new())), false),
            ((4, Some(Bytes::from_static(b"x"))), true),
            ((5, Some(Bytes::new())), true),
        ] {
            let (read, failed) = split_read(&[MAIL, empty], vec![body.clone()]);
            assert_eq!(
                (read.len(), failed.is_empty()),
                (usize::from(is_read), is_read),
                "{body:?}"
            );
        }
    }
}
