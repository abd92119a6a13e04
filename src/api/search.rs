//! Search: words to messages and contacts.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use connector_api::{ChannelId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::clock::{micros, timestamp};
use crate::conversation::Status;
use crate::dispatch::Actor;
use crate::ids::{IdCodec, IdKind, MessageId};
use crate::router::effects::Author;
use crate::search::{Query, Snippet, beginning};
use crate::store::search::{Hit, SearchRequest, Searched, Words};

use super::App;
use super::auth::{Caller, Reading};
use super::conversations::{cursor_of, status_of};
use super::documentation::{Authenticated, BadParameters, TooBroad, TooMany};
use super::problem::{ApiError, ApiResult, Kind};
use super::queues::known_queue;
use super::request::{Params, limit_of};
use super::views::{ContactView, ConversationView, PublicIds};

/// Searches under way or waiting; they are made one after the other, half a second at most each.
const SEARCHES_MAX: usize = 8;
/// Of these, those of one token: what is typed and what was typed before it.
const SEARCHES_PER_TOKEN_MAX: usize = 2;
/// Those of a token that acts for agents, all of them together.
const SEARCHES_PER_BACKEND_MAX: usize = 4;

/// A search takes half a second at most.
const RETRY_AFTER_SECONDS: u32 = 1;

/// The places for searches, and how many of them each token has.
#[derive(Default)]
pub struct Searches {
    taken: Mutex<HashMap<i64, usize>>,
}

/// A place for one search, until it is dropped.
struct Place<'a> {
    searches: &'a Searches,
    token: i64,
}

impl Searches {
    fn place(&self, caller: &Caller) -> ApiResult<Place<'_>> {
        let token_max = match caller.actor.acting {
            Some(_) => SEARCHES_PER_BACKEND_MAX,
            None => SEARCHES_PER_TOKEN_MAX,
        };
        let token = caller.principal;
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&token).copied().unwrap_or(0);
        if own >= token_max {
            let detail = format!(
                "this token has {token_max} searches under way: wait for one of them to be answered"
            );
            return Err(ApiError::new(Kind::TooMany, detail).retry_after(RETRY_AFTER_SECONDS));
        }
        if all >= SEARCHES_MAX {
            let detail = "too many searches are under way";
            return Err(ApiError::new(Kind::Overloaded, detail));
        }
        taken.insert(token, own + 1);
        Ok(Place {
            searches: self,
            token,
        })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let taken = self.searches.taken.lock();
        let mut taken = taken.unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut own) = taken.entry(self.token) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SearchParams {
    /// Words, all of which must be there; "a phrase" in quotes, begin* of a word.
    #[param(example = "\"lost parcel\" refund*")]
    q: String,
    /// Only of conversations in this queue.
    #[param(example = "frontline")]
    queue: Option<String>,
    /// Only of conversations that stand so.
    #[param(value_type = Option<Status>)]
    status: Option<String>,
    /// Only messages of this channel.
    #[param(example = "support-mail")]
    channel: Option<String>,
    /// Only messages from this address.
    #[param(example = "ada@customer.example")]
    from: Option<String>,
    /// Only messages that arrived then or later; of imported history, that were written then.
    #[param(value_type = Option<Timestamp>)]
    after: Option<String>,
    /// Only messages that arrived earlier, or of imported history were written earlier.
    #[param(value_type = Option<Timestamp>)]
    before: Option<String>,
    /// Items of a page, 1 to 100.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, example = 50)]
    limit: Option<String>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub struct SearchView {
    /// Newest first.
    pub items: Vec<HitView>,
    /// By name or address, at most 10; on the first page only.
    pub contacts: Vec<ContactView>,
    /// Give it as `cursor` for the next page; null on the last one.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// A message that has the words.
#[derive(Debug, Serialize, ToSchema)]
pub struct HitView {
    #[schema(example = "msg_1d9e5b1c7a0f8c3d9f2a6b4c8d7e1f03")]
    pub message_id: String,
    pub author: Author,
    pub arrived_at: Timestamp,
    /// Where the snippet is from.
    pub field: HitField,
    pub snippet: SnippetView,
    pub conversation: ConversationView,
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HitField {
    Subject,
    Text,
    /// Names of files.
    Attachments,
}

/// A piece of plain text around what was found: in its first 16 KiB, else its beginning.
#[derive(Debug, Serialize, ToSchema)]
pub struct SnippetView {
    /// No HTML: show it as text.
    pub text: String,
    pub matches: Vec<MatchView>,
}

/// A match, in UTF-16 units of `text`, as JavaScript's `slice` counts.
#[derive(Debug, Serialize, ToSchema)]
pub struct MatchView {
    pub start: usize,
    pub end: usize,
}

/// Searches messages and contacts.
///
/// Whole words, whatever their case and accents, newest messages first; deleted messages are not
/// found, of edited ones what they say now. What is in `q` besides words, quotes and `*` separates
/// words. New messages are found within seconds, later under load; so is what goes to another queue
/// by those who see that one. Of conversations that an agent holds from queues that are not theirs,
/// the newest 500 messages of the newest 100 are searched; a contact is found by the queues of their
/// newest 1,000 conversations.
///
/// A search that would take longer than half a second is refused with 422: give more or rarer words,
/// or a `queue`, which is looked up with the words; the other filters are applied to what these find.
/// What the token may not see takes no part in that. A token may have 2 searches under way at once,
/// one that acts for agents 4: more get 429, and 503 where all 8 places are taken.
#[utoipa::path(
    get,
    path = "/v1/search",
    tag = "Search",
    security(("token" = [])),
    params(SearchParams),
    responses(
        (status = 200, description = "A page", body = SearchView),
        Authenticated, BadParameters, TooBroad, TooMany
    )
)]
pub async fn search(
    State(app): State<Arc<App>>,
    Reading(caller): Reading,
    Params(params): Params<SearchParams>,
) -> ApiResult<Json<SearchView>> {
    let limit = limit_of(params.limit.as_deref())?;
    let request = request_of(&app, caller.actor.clone(), &params, limit + 1)?;
    let _place = app.searches.place(&caller)?;
    let query = request.query.clone();
    let (mut hits, contacts) = match app.state.store.search(request).await? {
        Searched::Found { hits, contacts } => (hits, contacts),
        Searched::TooBroad => {
            let detail = "too many of the messages you may see have these words: give more or rarer ones, or a queue";
            return Err(ApiError::new(Kind::TooBroad, detail).field("q"));
        }
    };
    let more = hits.len() > limit as usize;
    hits.truncate(limit as usize);
    let ids = app.state.ids.clone();
    // Looking through a page of long messages is work for a thread, as the search was.
    let shown = tokio::task::spawn_blocking(move || {
        let last = hits.last().filter(|_| more);
        let next_cursor = last.map(|last| ids.encode(IdKind::Page, last.message.id.0));
        let items = hits.iter().map(|hit| HitView::of(hit, &query, &ids));
        (items.collect(), next_cursor)
    });
    let broken = |_| ApiError::new(Kind::Internal, "what was found could not be shown");
    let (items, next_cursor) = shown.await.map_err(broken)?;
    let ids = &app.state.ids;
    Ok(Json(SearchView {
        next_cursor,
        items,
        contacts: contacts
            .iter()
            .map(|contact| ContactView::of(contact, ids))
            .collect(),
    }))
}

fn request_of(
    app: &App,
    actor: Actor,
    params: &SearchParams,
    limit: u32,
) -> ApiResult<SearchRequest> {
    let query = Query::parse(&params.q).map_err(|error| {
        ApiError::bad_request("q", format!("\"q\" cannot be searched: {error}"))
    })?;
    let queue = match &params.queue {
        Some(text) => Some(
            known_queue(app, &actor, text)
                .ok_or_else(|| ApiError::bad_request("queue", "there is no such queue"))?,
        ),
        None => None,
    };
    let channel = match &params.channel {
        Some(text) => Some(
            text.parse::<ChannelId>()
                .map_err(|_| ApiError::bad_request("channel", "\"channel\" is no channel's id"))?,
        ),
        None => None,
    };
    Ok(SearchRequest {
        actor,
        query,
        queue,
        status: params.status.as_deref().map(status_of).transpose()?,
        channel,
        from: params.from.clone(),
        after: time_of("after", params.after.as_deref())?,
        before: time_of("before", params.before.as_deref())?,
        below: cursor_of(app, params.cursor.as_deref())?.map(MessageId),
        limit,
    })
}

fn time_of(field: &str, text: Option<&str>) -> ApiResult<Option<i64>> {
    let Some(text) = text else { return Ok(None) };
    match text.parse::<Timestamp>() {
        Ok(time) => Ok(Some(micros(time))),
        Err(_) => Err(ApiError::bad_request(
            field,
            format!("\"{field}\" must be a time in RFC 3339, as in 2026-01-05T09:00:00Z"),
        )),
    }
}

impl HitView {
    fn of(hit: &Hit, query: &Query, ids: &IdCodec) -> Self {
        let words = Words::of(&hit.message).unwrap_or_default();
        let fields = [
            (HitField::Text, &words.text),
            (HitField::Subject, &words.subject),
            (HitField::Attachments, &words.files),
        ];
        let mut found = fields
            .into_iter()
            .filter_map(|(field, text)| Some((field, query.snippet(text)?)));
        // The index folds a few letters that snippets do not.
        let first = found.next();
        let (field, snippet) = first.unwrap_or_else(|| (HitField::Text, beginning(&words.text)));
        Self {
            message_id: ids.message(hit.message.id),
            author: hit.message.author,
            arrived_at: timestamp(hit.message.arrived_at),
            field,
            snippet: snippet.into(),
            conversation: ConversationView::of(&hit.conversation, ids),
        }
    }
}

impl From<Snippet> for SnippetView {
    fn from(snippet: Snippet) -> Self {
        let spans = snippet.matches.into_iter();
        Self {
            text: snippet.text,
            matches: spans.map(|(start, end)| MatchView { start, end }).collect(),
        }
    }
}
