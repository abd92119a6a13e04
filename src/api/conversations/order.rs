//! In which order conversations are listed, and how a cursor says where a page ends. A page begins
//! behind a place and not behind a row: what left the queue meanwhile takes nothing with it.

use serde::Serialize;
use utoipa::ToSchema;

use crate::conversation::rank;
use crate::ids::{ConversationId, IdKind};
use crate::router::facts::Conversation;
use crate::store::ConversationSort;

use super::{ApiError, ApiResult, App, ConversationParams};

/// The order of a list of conversations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversationOrder {
    Opened,
    Waiting,
}

impl ConversationOrder {
    /// The order that was asked for, where the other filters go with it.
    pub(super) fn of(params: &ConversationParams) -> ApiResult<Self> {
        let refused = |detail: &str| Err(ApiError::bad_request("sort", detail));
        let is_other =
            params.assignee.is_some() || params.status.as_deref().is_some_and(|it| it != "queued");
        match params.sort.as_deref() {
            None | Some("opened") => Ok(Self::Opened),
            Some("waiting") if params.queue.is_none() => {
                refused("\"sort\" waiting is the order of one queue: name it in \"queue\"")
            }
            Some("waiting") if is_other => {
                let detail =
                    "\"sort\" waiting lists what is queued: leave \"status\" and \"assignee\" out";
                refused(detail)
            }
            Some("waiting") => Ok(Self::Waiting),
            Some(_) => {
                let error = ApiError::bad_request("sort", "\"sort\" must be opened or waiting");
                Err(error.allowed(["opened", "waiting"]))
            }
        }
    }

    /// The order from where a cursor says.
    pub(super) fn behind_cursor(
        self,
        app: &App,
        cursor: Option<&str>,
    ) -> ApiResult<ConversationSort> {
        Ok(match self {
            Self::Opened => ConversationSort::Opened {
                before: cursor.map(|text| time_of(app, text)).transpose()?,
            },
            Self::Waiting => ConversationSort::Waiting {
                after: cursor.map(|text| place_of(app, text)).transpose()?,
            },
        })
    }

    /// The cursor of what follows `last`.
    pub(super) fn cursor_behind(self, app: &App, last: &Conversation) -> String {
        let page = |number: i64| app.state.ids.encode(IdKind::Page, number);
        match self {
            Self::Opened => {
                let at = (app.state.ids).encode(IdKind::PageTime, last.opened_at);
                format!("{at}.{}", page(last.id.0))
            }
            Self::Waiting => {
                let rank = rank(last.enqueued_at, last.priority);
                format!("{}.{}", page(rank), page(last.id.0))
            }
        }
    }
}

/// The place in a queue that a cursor stands for.
fn place_of(app: &App, text: &str) -> ApiResult<(i64, ConversationId)> {
    let (rank, id) = parts_of(app, text, IdKind::Page)?;
    Ok((rank, ConversationId(id)))
}

/// The place in a list by time that a cursor stands for.
fn time_of(app: &App, text: &str) -> ApiResult<(i64, ConversationId)> {
    let (at, id) = parts_of(app, text, IdKind::PageTime)?;
    // Ids have no sign, and history may have begun before 1970: the sign is in the highest bit that there is.
    Ok((at << 2 >> 2, ConversationId(id)))
}

fn parts_of(app: &App, text: &str, first: IdKind) -> ApiResult<(i64, i64)> {
    let number = |kind, text: &str| app.state.ids.decode(kind, text);
    let parts = text.split_once('.');
    let place =
        parts.and_then(|(place, id)| Some((number(first, place)?, number(IdKind::Page, id)?)));
    place.ok_or_else(|| {
        ApiError::bad_request("cursor", "\"cursor\" must be a next_cursor of this list")
    })
}
