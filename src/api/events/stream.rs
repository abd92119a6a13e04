//! One stream: reads the log on from a number, from the store while it is behind and from the feed
//! once it is not, and is a body that the connection pulls. Nothing runs and nothing is held for a
//! client that does not read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tracing::debug;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::problem::ApiResult;
use crate::ids::ContactId;
use crate::store::Store;
use crate::store::events::{EventFilter, Moved, Place, StoredEvent};

use super::Wish;
use super::feed::{Item, Next, What, in_order};
use super::view;

/// How often a stream without events shows that it lives; proxies cut what is silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// After something was sent, what comes within this time goes together.
const GATHER: Duration = Duration::from_millis(20);
/// Events looked at for one piece of the body: some 50 KiB at most, which is all that a stream holds.
const PIECE_EVENTS: usize = 128;
/// A stream that once was at the end of the log and is so far behind is too slow for it.
const BEHIND_EVENTS_MAX: i64 = 50_000;
/// After how long a client should come again, in milliseconds.
const RETRY_MILLIS: u32 = 2_000;

pub struct Stream {
    app: Arc<App>,
    caller: Caller,
    wish: Wish,
    /// Everything up to this number was told, or is not for this stream.
    cursor: i64,
    moved: watch::Receiver<Moved>,
    /// As many changes of tokens the caller has survived. Before the first piece nobody has asked:
    /// a request may have believed a token that is revoked by now.
    token_changes: Option<u64>,
    /// Where it goes on that cannot be had: said first.
    gap: Option<(i64, &'static str)>,
    opened: bool,
    /// Whether it was at the end of the log.
    live: bool,
    /// When a commit last woke it.
    woken_at: Option<Instant>,
    /// When the last piece was given to the connection.
    given_at: Option<Instant>,
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Stream {
    /// A stream that goes on after `asked`, or from now on.
    pub fn new(
        app: Arc<App>,
        caller: Caller,
        wish: Wish,
        asked: Option<i64>,
        place: OwnedSemaphorePermit,
    ) -> Self {
        let mut moved = app.state.store.moved();
        let last_event = moved.borrow_and_update().last_event;
        metrics::gauge!("switchboard_event_streams").increment(1);
        Self {
            // A log that ends before it is another log: that of a restored backup.
            gap: asked
                .filter(|asked| *asked > last_event)
                .map(|asked| (asked, "unknown")),
            cursor: asked.unwrap_or(last_event).min(last_event),
            app,
            caller,
            wish,
            moved,
            token_changes: None,
            opened: false,
            live: false,
            woken_at: None,
            given_at: None,
            ended: false,
            _place: place,
        }
    }

    pub fn into_body(self) -> Body {
        let pieces = stream::unfold(self, |mut stream| async {
            let piece = stream.next().await?;
            Some((Ok::<_, Infallible>(piece), stream))
        });
        Body::from_stream(pieces)
    }

    /// The next piece of the body, once there is one.
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let unread = self.given_at.take().map(|given| given.elapsed());
        if unread.is_some_and(|unread| unread > self.app.state.deadlines.unread) {
            return Some(self.close("slow"));
        }
        let piece = self.piece().await;
        self.given_at = Some(Instant::now());
        Some(piece)
    }

    async fn piece(&mut self) -> Bytes {
        if !self.opened {
            let moved = *self.moved.borrow_and_update();
            if let Some(reason) = self.refused(moved).await {
                return self.close(reason);
            }
            self.opened = true;
            return match self.gap.take() {
                Some((asked, reason)) => view::resync(asked, reason, self.cursor),
                None => format!("retry: {RETRY_MILLIS}\nid: {}\n\n", self.cursor).into(),
            };
        }
        let stop = self.app.state.stop.clone();
        let mut silent = std::pin::pin!(tokio::time::sleep(KEEP_ALIVE));
        loop {
            if stop.is_cancelled() {
                return self.close("shutdown");
            }
            let moved = *self.moved.borrow_and_update();
            if let Some(reason) = self.refused(moved).await {
                return self.close(reason);
            }
            if self.live && moved.last_event - self.cursor > BEHIND_EVENTS_MAX {
                return self.close("slow");
            }
            match self.read(moved).await {
                Ok(piece) if !piece.is_empty() => return piece,
                Ok(_) => {}
                Err(error) => {
                    debug!(?error, "an event stream could not go on");
                    return self.close("unavailable");
                }
            }
            if self.cursor < moved.last_event {
                continue;
            }
            self.live = true;
            tokio::select! {
                changed = self.moved.changed() => match changed {
                    Ok(()) => {}
                    Err(_) => return self.close("shutdown"),
                },
                () = &mut silent => return view::keep_alive(self.cursor),
                () = stop.cancelled() => return self.close("shutdown"),
            }
            // Under load a piece carries what several commits brought.
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// How long to wait for more: not at all where nothing came lately.
    fn pause(&mut self) -> Duration {
        let since = self.woken_at.map(|woken| woken.elapsed());
        self.woken_at = Some(Instant::now());
        since.map_or(Duration::ZERO, |since| GATHER.saturating_sub(since))
    }

    /// Why its token does not carry it on. Asks the store before anything is shown, and again whenever
    /// any token changed.
    async fn refused(&mut self, moved: Moved) -> Option<&'static str> {
        if self.token_changes == Some(moved.token_changes) {
            return None;
        }
        match self.caller.renewed_now(&self.app).await {
            Ok(caller) => {
                self.token_changes = Some(moved.token_changes);
                self.caller = caller;
                None
            }
            // A store that does not answer says nothing about the token.
            Err(error) if error.problem.status >= 500 => Some("unavailable"),
            Err(_) => Some("unauthorized"),
        }
    }

    /// Reads on and moves the cursor; what is to be shown of it, if anything.
    async fn read(&mut self, moved: Moved) -> ApiResult<Bytes> {
        let app = self.app.clone();
        let store = app.state.store.as_ref();
        match app.feed.after(self.cursor, PIECE_EVENTS) {
            Next::Items(items, through) => {
                let piece = self.write(&items).await?;
                self.cursor = through;
                Ok(piece)
            }
            Next::Nothing => {
                app.feed.advance(store, moved).await?;
                Ok(Bytes::new())
            }
            Next::Older => self.read_store(store, moved).await,
        }
    }

    async fn read_store(&mut self, store: &dyn Store, moved: Moved) -> ApiResult<Bytes> {
        let filter = EventFilter {
            actor: Some(self.caller.actor.clone()),
            // A queue's stream is told of what left the queue: that is elsewhere now.
            queue: self.wish.queue.clone(),
            conversation: self.wish.conversation,
            kinds: self.wish.kinds(),
            limit: PIECE_EVENTS as u32,
        };
        let page = store.events(self.cursor, filter).await?;
        if self.cursor < page.floor {
            let asked = self.cursor;
            self.cursor = moved.last_event;
            // Its number may be another event's than the one it saw.
            let reason = match asked < page.resumed {
                true => "restored",
                false => "expired",
            };
            return Ok(view::resync(asked, reason, self.cursor));
        }
        let items = in_order(page.events, page.departures);
        let items: Vec<Arc<Item>> = items.into_iter().map(Arc::new).collect();
        let piece = self.write(&items).await?;
        self.cursor = page.through;
        Ok(piece)
    }

    /// What of `items` this stream may and wants to show. The last one of a number carries it, so
    /// that a client which was cut off in between gets all of them again.
    async fn write(&self, items: &[Arc<Item>]) -> ApiResult<Bytes> {
        let mut shown = Vec::new();
        for item in items {
            if self.shows(item).await? {
                shown.push(item);
            }
        }
        let ids = &self.app.state.ids;
        let mut piece = BytesMut::new();
        for (at, item) in shown.iter().enumerate() {
            match &item.what {
                What::Event(event) => piece.extend_from_slice(&written(item, event, ids)),
                What::Left(departure) => {
                    let next = shown.get(at + 1).map(|next| next.seq());
                    let numbered = next != Some(departure.seq);
                    piece.extend_from_slice(&view::left(departure, numbered, ids));
                }
            }
        }
        Ok(piece.freeze())
    }

    async fn shows(&self, item: &Item) -> ApiResult<bool> {
        let stands = |place: &Place| {
            place.is_seen_by(&self.caller.actor) && self.wish.takes_queue(&place.queue)
        };
        match (&item.what, item.place()) {
            (What::Event(event), Some(place)) => {
                let conversation = event.conversation.as_ref().map(|(id, _)| *id);
                Ok(self.wish.takes(event.kind, conversation) && stands(&place))
            }
            (What::Event(event), None) => {
                Ok(self.wish.takes(event.kind, None) && self.sees_contact(event).await?)
            }
            (What::Left(departure), place) => Ok(self.wish.takes_left(departure.conversation)
                && stands(&departure.before)
                && !place.is_some_and(|place| stands(&place))),
        }
    }

    /// What happened to a contact is for whoever sees one of its conversations.
    async fn sees_contact(&self, event: &StoredEvent) -> ApiResult<bool> {
        let named = ["into", "contact"].map(|key| event.detail.get(key));
        let number = named.into_iter().flatten().next();
        let Some(number) = number.and_then(serde_json::Value::as_i64) else {
            return Ok(false);
        };
        let actor = self.caller.actor.clone();
        let found = self.app.state.store.contact(actor, ContactId(number));
        Ok(found.await?.is_some())
    }

    fn close(&mut self, reason: &'static str) -> Bytes {
        self.ended = true;
        metrics::counter!("switchboard_event_streams_closed_total", "reason" => reason)
            .increment(1);
        view::closed(reason, self.cursor)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        metrics::gauge!("switchboard_event_streams").decrement(1);
    }
}

/// An event as it goes out; written once for all streams that show it.
fn written(item: &Item, event: &StoredEvent, ids: &crate::ids::IdCodec) -> Bytes {
    let Some(place) = item.place() else {
        return view::event(event, None, ids);
    };
    let mut written = item
        .written
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    match &*written {
        Some((of, bytes)) if *of == place => bytes.clone(),
        _ => {
            let bytes = view::event(event, Some(&place), ids);
            *written = Some((place, bytes.clone()));
            bytes
        }
    }
}
