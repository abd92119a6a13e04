//! Following a mailbox: find the position, catch up in bounded batches, wait for news, repeat.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use connector_api::{Clock, Cursor, Defect, Error, InboundBatch, InboundEvent, Intake, Result};
use jiff::Timestamp;

use crate::config::Settings;
use crate::imap::cursor::{Backfill, Listed, Position, Verdict};
use crate::imap::session::{LISTED_MAX, Selected, Session, Woken};
use crate::parse;

/// Most mails in one batch.
const BATCH_MAILS_MAX: usize = 50;
/// Most bytes of mail in one batch; a larger mail is a batch of its own.
const BATCH_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// UIDs listed at once while there is a long way to go.
const WINDOW_UIDS: u32 = 2_000;
/// How many of the newest old mails are dated on the first connection.
const NEWEST_MAX: u32 = 200;
/// What a mail may be larger than its server says (`RFC822.SIZE` is a guess on some).
const SIZE_SLACK_BYTES: u64 = 1024 * 1024;
/// Largest header block fetched of a mail whose body is not.
const HEADERS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Longest wait in one IDLE: servers and middleboxes drop silent links after 10 to 30 minutes
/// (RFC 2177 says 29).
const IDLE_MAX: Duration = Duration::from_secs(9 * 60);

/// One mail's event, by UID.
type Fetched = (u32, InboundEvent);

pub(crate) struct Follower<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) troubles: &'a Mutex<Troubles>,
    pub(crate) intake: &'a dyn Intake,
    pub(crate) session: &'a mut Session,
}

impl Follower<'_> {
    /// Runs until the link breaks.
    pub(crate) async fn follow(&mut self, resume: Option<Cursor>) -> Result<()> {
        let selected = self.session.examine(&self.settings.mailbox).await?;
        let mut position = self.position(resume, &selected).await?;
        let mut uid_next = selected.uid_next;
        loop {
            self.catch_up(&mut position, uid_next.take()).await?;
            self.intake.heard();
            self.wait().await?;
            // Without it a server need not show what is new (RFC 3501, section 6.1.2).
            self.session.noop().await?;
        }
    }

    async fn position(&mut self, resume: Option<Cursor>, selected: &Selected) -> Result<Position> {
        if let Some(cursor) = resume {
            let mut position = Position::read(&cursor)?;
            if position.follow_server(selected.uidvalidity, selected.uid_next) {
                let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
                troubles.0.clear();
                tracing::info!(
                    uidvalidity = selected.uidvalidity,
                    "the mailbox was renumbered, reading it again from the start"
                );
            }
            return Ok(position);
        }
        let newest = self.session.newest(selected.exists, NEWEST_MAX).await?;
        let above_newest = newest.last().map_or(1, |mail| mail.uid.saturating_add(1));
        let uid_next = selected.uid_next.unwrap_or(above_newest);
        let now = self.clock.now().as_second();
        let backfill = match self.settings.backfill {
            Some(reach) => {
                let since = now.saturating_sub(reach.as_secs());
                let first_uid = self.session.first_since(since).await?;
                Some(Backfill { since, first_uid })
            }
            None => None,
        };
        let position = Position::first(selected.uidvalidity, uid_next, &newest, now, backfill);
        // From here on "before the channel was connected" is settled, whatever happens next.
        self.accept(Vec::new(), &position).await?;
        Ok(position)
    }

    /// Hands over everything above the position. `uid_next` is the server's, where it is known.
    async fn catch_up(&mut self, position: &mut Position, uid_next: Option<u32>) -> Result<()> {
        let mut from = position.list_from();
        // A long way goes in windows, so that no listing is unbounded; where UIDs are sparse,
        // wider ones.
        let mut width = WINDOW_UIDS;
        while let Some(end) = uid_next
            && end.saturating_sub(from) > WINDOW_UIDS
        {
            let to = from.saturating_add(width - 1);
            let listed = self.session.list(from, Some(to)).await?;
            self.read(&listed, position).await?;
            width = match listed.is_empty() {
                true => width.saturating_mul(2),
                false => WINDOW_UIDS,
            };
            from = match listed.last() {
                Some(last) if listed.len() == LISTED_MAX => last.uid.saturating_add(1),
                _ => to.saturating_add(1),
            };
        }
        loop {
            let before = position.clone();
            let listed = self
                .session
                .list(from.max(position.list_from()), None)
                .await?;
            self.read(&listed, position).await?;
            if *position == before {
                return Ok(());
            }
        }
    }

    async fn read(&mut self, listed: &[Listed], position: &mut Position) -> Result<()> {
        let before = position.clone();
        let mut wanted: Vec<(Listed, bool)> = Vec::new();
        for mail in listed {
            match position.judge(mail) {
                Verdict::Skip => {}
                Verdict::History => wanted.push((*mail, true)),
                Verdict::New => wanted.push((*mail, false)),
            }
        }
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(self.batch_length(rest));
            let events = self.fetch(batch, position.uidvalidity).await?;
            rest = after;
            // Skipped mails below the batch are behind us as well.
            let last = batch.last().map_or(0, |(mail, _)| mail.uid);
            for mail in listed.iter().filter(|mail| mail.uid <= last) {
                position.pass(mail.uid);
            }
            self.accept(events, position).await?;
            self.forgive(batch);
        }
        for mail in listed {
            position.pass(mail.uid);
        }
        if *position != before && wanted.is_empty() {
            self.accept(Vec::new(), position).await?;
        }
        Ok(())
    }

    /// How many of the next mails go together.
    fn batch_length(&self, wanted: &[(Listed, bool)]) -> usize {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0u64;
        let mut length = 0;
        for (mail, _) in wanted.iter().take(BATCH_MAILS_MAX) {
            let is_alone = self.is_too_large(mail) || troubles.of(mail.uid) > 0;
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

    async fn fetch(
        &mut self,
        batch: &[(Listed, bool)],
        uidvalidity: u32,
    ) -> Result<Vec<InboundEvent>> {
        let mut events = match batch {
            [(mail, _)] => self.fetch_one(mail, uidvalidity).await?,
            _ => self.fetch_whole(batch, uidvalidity).await?,
        };
        for (uid, event) in &mut events {
            event.history = batch.iter().any(|(mail, old)| mail.uid == *uid && *old);
        }
        Ok(events.into_iter().map(|(_, event)| event).collect())
    }

    /// Fetches as much of one mail as its size and its past allow.
    async fn fetch_one(&mut self, mail: &Listed, uidvalidity: u32) -> Result<Vec<Fetched>> {
        let max = self.settings.parse.mail_bytes_max;
        let defect = match self.trouble(mail.uid) {
            Trouble::All => return Ok(vec![(mail.uid, unreadable(mail, uidvalidity))]),
            Trouble::Bodies => Defect::new("unreadable_on_server", "only the headers can be had"),
            Trouble::None if mail.size_bytes > max => Defect::new(
                "too_large",
                format!("{} bytes, limit {max}", mail.size_bytes),
            ),
            Trouble::None => return self.fetch_whole(&[(*mail, false)], uidvalidity).await,
        };
        let answer = self.session.headers(mail.uid, HEADERS_BYTES_MAX).await;
        let bodies = self.note(&[mail.uid], answer)?;
        let read = |(uid, body)| match body {
            Some(raw) => {
                let settings = &self.settings.parse;
                (
                    uid,
                    parse::parse_headers_only(raw, defect.clone(), settings),
                )
            }
            None => (uid, unreadable(mail, uidvalidity)),
        };
        Ok(bodies.into_iter().map(read).collect())
    }

    async fn fetch_whole(
        &mut self,
        batch: &[(Listed, bool)],
        uidvalidity: u32,
    ) -> Result<Vec<Fetched>> {
        let uids: Vec<u32> = batch.iter().map(|(mail, _)| mail.uid).collect();
        let sizes: u64 = batch.iter().map(|(mail, _)| mail.size_bytes).sum();
        let budget = sizes
            .saturating_add(self.settings.parse.mail_bytes_max)
            .saturating_add(SIZE_SLACK_BYTES);
        let answer = self.session.bodies(&uids, budget).await;
        let bodies = self.note(&uids, answer)?;
        let mut events = Vec::with_capacity(bodies.len());
        for (mail, _) in batch {
            // A mail deleted since it was listed is simply not answered; one answered without a
            // body is there and cannot be read.
            let Some((_, body)) = bodies.iter().find(|(uid, _)| *uid == mail.uid) else {
                continue;
            };
            let event = match body {
                Some(raw) => parse::parse(raw.clone(), &self.settings.parse),
                None => unreadable(mail, uidvalidity),
            };
            events.push((mail.uid, event));
        }
        Ok(events)
    }

    /// Counts a failed fetch against its mails, so that one that always fails stops nobody.
    fn note<T>(&self, uids: &[u32], answer: Result<Option<T>>) -> Result<T> {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(Some(fetched)) => Ok(fetched),
            Ok(None) => {
                troubles.add(uids, REFUSED_WEIGHT);
                Err(Error::unavailable(
                    "the server refused to hand out a mail that it lists",
                ))
            }
            Err(error) => {
                troubles.add(uids, LOST_WEIGHT);
                Err(error)
            }
        }
    }

    fn forgive(&self, batch: &[(Listed, bool)]) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        for (mail, _) in batch {
            troubles.0.remove(&mail.uid);
        }
    }

    fn trouble(&self, uid: u32) -> Trouble {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match troubles.of(uid) {
            weight if weight >= GIVE_UP_WEIGHT => Trouble::All,
            weight if weight >= HEADERS_WEIGHT => Trouble::Bodies,
            _ => Trouble::None,
        }
    }

    fn is_too_large(&self, mail: &Listed) -> bool {
        mail.size_bytes > self.settings.parse.mail_bytes_max
    }

    async fn accept(&self, events: Vec<InboundEvent>, position: &Position) -> Result<()> {
        let batch = InboundBatch {
            events,
            cursor: Some(position.cursor()),
        };
        self.intake.accept(batch).await
    }

    /// Waits for news, for the next look at the mailbox, or for the link to break.
    async fn wait(&mut self) -> Result<()> {
        let wait = self.settings.poll_interval;
        if self.session.can_idle {
            let intake = self.intake;
            let woken = self
                .session
                .idle(wait.min(IDLE_MAX), || intake.heard())
                .await?;
            if woken != Woken::Refused {
                return Ok(());
            }
            self.session.can_idle = false;
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// A refusal says something about the mail; a lost link says little, unless it happens again and
/// again with the same mail (a server that crashes on it).
const REFUSED_WEIGHT: u32 = 5;
const LOST_WEIGHT: u32 = 1;
const HEADERS_WEIGHT: u32 = 10;
const GIVE_UP_WEIGHT: u32 = 20;
/// Most mails remembered as troublesome.
const TROUBLES_MAX: usize = 1_000;

/// How often fetching a mail failed since it last went well, by UID.
#[derive(Debug, Default)]
pub(crate) struct Troubles(HashMap<u32, u32>);

#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// The body cannot be had; the headers may.
    Bodies,
    All,
}

impl Troubles {
    fn of(&self, uid: u32) -> u32 {
        self.0.get(&uid).copied().unwrap_or_default()
    }

    fn add(&mut self, uids: &[u32], weight: u32) {
        for uid in uids {
            if self.0.len() < TROUBLES_MAX || self.0.contains_key(uid) {
                *self.0.entry(*uid).or_default() += weight;
            }
        }
    }
}

/// A mail that is known to exist and nothing more.
fn unreadable(mail: &Listed, uidvalidity: u32) -> InboundEvent {
    let key = format!("imap:{uidvalidity}:{}", mail.uid);
    let mut event = parse::unreadable(key, "the server lists the mail and does not hand it out");
    event.sent_at = mail.date.and_then(|date| Timestamp::from_second(date).ok());
    event
}
