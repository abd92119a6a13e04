//! Following mailboxes: find the positions, catch up in bounded batches, wait for news, repeat.
//!
//! All mailboxes of a channel share one connection. Providers count connections per account (Gmail
//! allows 15, Courier 4 from one address) and the people who work there need theirs; and a channel
//! has one cursor, so one writer. The first mailbox is watched by IDLE; the others are looked at when
//! that ends, every `poll_interval`. News always come first: a long history is read in small pieces
//! between looks at what is new.

use std::time::Duration;

use connector_api::{Clock, Cursor, Event, InboundBatch, InboundEvent, Intake, Result};
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::config::{After, Settings, same_mailbox};
use crate::imap::cursor::{Backfill, Listed, Places, Position, Verdict};
use crate::imap::fetch::{Fetched, is_whole};
use crate::imap::memory::Memory;
use crate::imap::session::{LISTED_MAX, Selected, Session, Woken};
use crate::imap::target::Target;
use crate::parse;

/// UIDs listed at once while there is a long way to go.
const WINDOW_UIDS: u32 = 2_000;
/// UIDs listed for one piece of what lies behind.
const PIECE_UIDS: u32 = 200;
/// How many of the newest old mails are dated on the first connection.
const NEWEST_MAX: u32 = 200;
/// Longest wait in one IDLE: servers and middleboxes drop silent links after 10 to 30 minutes
/// (RFC 2177 says 29).
const IDLE_MAX: Duration = Duration::from_secs(9 * 60);
/// Most mails remembered that could not be marked or moved yet.
const UNFINISHED_MAX: usize = 1_000;

pub(crate) struct Follower<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) memory: &'a Memory,
    pub(crate) intake: &'a dyn Intake,
    pub(crate) session: &'a mut Session,
    pub(crate) places: Places,
    /// Which mailbox is open, as its place in the configuration.
    pub(crate) open: Option<usize>,
    /// A mail was filed without its body since the provider was last said to be heard.
    pub(crate) has_given_up: bool,
    /// UIDs listed for the next piece: more where they are sparse.
    pub(crate) piece_uids: u32,
    pub(crate) target: Target,
}

impl<'a> Follower<'a> {
    pub(crate) fn new(
        settings: &'a Settings,
        clock: &'a dyn Clock,
        memory: &'a Memory,
        intake: &'a dyn Intake,
        session: &'a mut Session,
        places: Places,
    ) -> Self {
        Self {
            settings,
            clock,
            memory,
            intake,
            session,
            places,
            open: None,
            has_given_up: false,
            piece_uids: PIECE_UIDS,
            target: Target::Unknown,
        }
    }

    /// Runs until the link breaks, or until its token is over: then a new link goes on from the
    /// cursor that is returned.
    pub(crate) async fn follow(&mut self) -> Result<Cursor> {
        loop {
            self.look_for_target().await?;
            for at in self.memory.order() {
                let looked = self.look_at(at).await;
                if looked.is_err() {
                    self.memory.note_unread(at);
                }
                looked?;
            }
            if self.memory.all_read() {
                continue;
            }
            // Giving up is no news from the provider, and must not shorten the next pause.
            if !std::mem::take(&mut self.has_given_up) {
                self.intake.heard();
            }
            self.read_behind().await?;
            if self.is_token_over() {
                return Ok(self.places.cursor());
            }
            if self.behind().is_none() {
                self.wait().await?;
            }
        }
    }

    /// Whether mail arrives in the mailbox that is open. In others lie copies of what we sent; at
    /// Google's all over, but in the inbox.
    pub(crate) fn is_arrival(&self, at_google: bool) -> bool {
        let open = self.open;
        open.is_none_or(|at| is_arrival(self.name(at), at, at_google))
    }

    /// Files what is new in one mailbox.
    async fn look_at(&mut self, at: usize) -> Result<()> {
        let (mut position, uid_next) = self.enter_for_news(at).await?;
        self.finish(&mut position).await;
        self.catch_up(&mut position, uid_next).await?;
        self.save_finished(&position).await
    }

    /// As [`Follower::enter`]; one that is open gets the chance to announce what is new in it (RFC
    /// 3501, section 6.1.2: without it a server need not).
    async fn enter_for_news(&mut self, at: usize) -> Result<(Position, Option<u32>)> {
        if self.open == Some(at) {
            self.session.noop().await?;
        }
        self.enter(at).await
    }

    /// Opens a mailbox, unless it is open. Returns the server's next UID where it just said it.
    async fn enter(&mut self, at: usize) -> Result<(Position, Option<u32>)> {
        let name = self.name(at);
        if self.open == Some(at)
            && let Some(position) = self.places.of(name)
        {
            return Ok((position.clone(), None));
        }
        self.open = None;
        let writes = self.settings.after != After::Nothing;
        let selected = self.session.open_mailbox(name, writes).await?;
        self.open = Some(at);
        let position = self.position(name, &selected).await?;
        Ok((position, selected.uid_next))
    }

    fn name(&self, at: usize) -> &'a str {
        let name = self.settings.mailboxes.get(at);
        name.map_or("INBOX", String::as_str)
    }

    async fn position(&mut self, name: &str, selected: &Selected) -> Result<Position> {
        if let Some(position) = self.places.of(name) {
            let mut position = position.clone();
            if position.follow_server(selected.uidvalidity, selected.uid_next) {
                self.troubles().clear();
                tracing::info!(
                    uidvalidity = selected.uidvalidity,
                    "a mailbox was renumbered, reading it again from the start"
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
        let wanted = self.wanted(listed, |mail| position.judge(mail));
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
            self.file(batch, events, position).await?;
        }
        for mail in listed {
            position.pass(mail.uid);
        }
        if *position != before && wanted.is_empty() {
            self.accept(Vec::new(), position).await?;
        }
        Ok(())
    }

    /// The mails to fetch, and whether each is history. What Google shows in two mailboxes is
    /// fetched from one.
    fn wanted(&self, listed: &[Listed], judge: impl Fn(&Listed) -> Verdict) -> Vec<(Listed, bool)> {
        let is_known = |mail: &&Listed| {
            let id = mail.gmail_id;
            id.is_some_and(|id| self.memory.knows_gmail(id))
        };
        let unknown = listed.iter().filter(|mail| !is_known(mail));
        unknown
            .filter_map(|mail| match judge(mail) {
                Verdict::Skip => None,
                Verdict::History => Some((*mail, true)),
                Verdict::New => Some((*mail, false)),
            })
            .collect()
    }

    /// Hands a batch over; only once it is durable are its mails marked or moved.
    async fn file(
        &mut self,
        batch: &[(Listed, bool)],
        fetched: Vec<Fetched>,
        position: &mut Position,
    ) -> Result<()> {
        if self.settings.after != After::Nothing {
            // What our own people wrote stays where they keep it.
            let is_echo = |event: &InboundEvent| matches!(event.event, Event::Echo(_));
            let whole = fetched
                .iter()
                .filter(|(_, event)| !event.history && is_whole(event) && !is_echo(event));
            position.unfinished.extend(whole.map(|(uid, _)| *uid));
            let excess = position.unfinished.len().saturating_sub(UNFINISHED_MAX);
            position.unfinished.drain(..excess);
        }
        let events = fetched.into_iter().map(|(_, event)| event).collect();
        self.accept(events, position).await?;
        self.forgive(batch);
        let ids = batch.iter().filter_map(|(mail, _)| mail.gmail_id);
        self.memory.note_gmail(ids);
        self.finish(position).await;
        Ok(())
    }

    /// Marks or moves what was filed. What fails is tried again at the next look: nothing is lost by
    /// it, and a link that is gone shows at the next command.
    async fn finish(&mut self, position: &mut Position) {
        if position.unfinished.is_empty() || self.target == Target::Missing {
            return;
        }
        let finished = self
            .session
            .finish(&position.unfinished, &self.settings.after)
            .await;
        match finished {
            Ok(()) => position.unfinished.clear(),
            Err(error) => {
                // The folder may be gone.
                self.target = Target::Unknown;
                tracing::warn!(
                    mails = position.unfinished.len(),
                    error = %error,
                    "what imap.after says could not be done, trying again later"
                );
            }
        }
    }

    /// Notes that nothing is left to be marked or moved, where the cursor says otherwise.
    async fn save_finished(&mut self, position: &Position) -> Result<()> {
        let saved = self.open.and_then(|at| self.places.of(self.name(at)));
        let is_saved = saved.is_some_and(|saved| saved.unfinished == position.unfinished);
        match is_saved {
            true => Ok(()),
            false => self.accept(Vec::new(), position).await,
        }
    }

    /// Reads what lies behind, piece by piece, for as long as a wait would take. After each piece
    /// what is new in the watched mailbox comes first.
    async fn read_behind(&mut self) -> Result<()> {
        let until = Instant::now() + self.settings.poll_interval;
        while let Some(at) = self.behind()
            && Instant::now() < until
            && !self.is_token_over()
        {
            self.read_piece(at).await?;
            let (mut position, uid_next) = self.enter_for_news(0).await?;
            if self.session.has_news() {
                self.catch_up(&mut position, uid_next).await?;
                self.save_finished(&position).await?;
            }
            self.intake.heard();
        }
        Ok(())
    }

    /// A mailbox with something behind that may be read today.
    fn behind(&self) -> Option<usize> {
        let bytes_max = self.settings.backfill_bytes_per_day;
        let now = self.clock.now().as_second();
        if !self.places.may_read_behind(bytes_max, now) {
            return None;
        }
        let has_behind = |at: &usize| {
            let position = self.places.of(self.name(*at));
            position.is_some_and(|position| position.behind().is_some())
        };
        (0..self.settings.mailboxes.len()).find(has_behind)
    }

    /// One batch of what lies behind. It asks for no news: where a large directory has to be read
    /// for that, it takes longer than the batch.
    async fn read_piece(&mut self, at: usize) -> Result<()> {
        let (mut position, _) = self.enter(at).await?;
        let Some(behind) = position.behind() else {
            return self.accept(Vec::new(), &position).await;
        };
        let to = behind.next.saturating_add(self.piece_uids - 1);
        let to = to.min(behind.end.saturating_sub(1));
        let listed = self.session.list(behind.next, Some(to)).await?;
        self.piece_uids = match listed.is_empty() {
            true => self.piece_uids.saturating_mul(2),
            false => PIECE_UIDS,
        };
        let wanted = self.wanted(&listed, |mail| position.judge_by_age(mail));
        let (batch, rest) = wanted.split_at(self.batch_length(&wanted));
        let last = match (rest.is_empty(), batch.last(), listed.last()) {
            (false, Some((mail, _)), _) => mail.uid,
            (_, _, Some(mail)) if listed.len() == LISTED_MAX => mail.uid,
            _ => to,
        };
        let events = match batch.is_empty() {
            true => Vec::new(),
            false => self.fetch(batch, position.uidvalidity).await?,
        };
        position.pass_behind(last.saturating_add(1));
        if self.settings.backfill_bytes_per_day.is_some() {
            let bytes = batch.iter().map(|(mail, _)| mail.size_bytes).sum();
            self.places.spend(bytes, self.clock.now().as_second());
        }
        self.file(batch, events, &mut position).await
    }

    async fn accept(&mut self, events: Vec<InboundEvent>, position: &Position) -> Result<()> {
        let mut places = self.places.clone();
        places.put(self.name(self.open.unwrap_or(0)), position.clone());
        let each = events.into_iter().flat_map(parse::each_recipient);
        let batch = InboundBatch {
            events: each.collect(),
            cursor: Some(places.cursor()),
        };
        self.intake.accept(batch).await?;
        self.places = places;
        Ok(())
    }

    fn is_token_over(&self) -> bool {
        self.token_left().is_some_and(|left| left.is_zero())
    }

    /// How long the token of this link is still good; `None` where none ends.
    fn token_left(&self) -> Option<Duration> {
        let left = self.clock.now().until(self.session.renew_at?).ok()?;
        Some(Duration::try_from(SignedDuration::try_from(left).ok()?).unwrap_or_default())
    }

    /// Waits for news, for the next look at the mailbox, or for the link to break.
    async fn wait(&mut self) -> Result<()> {
        let poll_interval = self.settings.poll_interval;
        let wait = self
            .token_left()
            .map_or(poll_interval, |left| left.min(poll_interval));
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

/// Whether mail arrives in the mailbox of that name and place in the configuration.
pub(crate) fn is_arrival(name: &str, at: usize, at_google: bool) -> bool {
    same_mailbox(name, "INBOX") || (at == 0 && !at_google)
}
