//! What each channel can carry, so that a UI offers what will be taken.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use connector_api::{BrandId, Capabilities, ChannelId, TextUnit};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::Watching;
use super::documentation::Authenticated;
use super::problem::ApiResult;
use super::views::List;

/// A channel as the API knows it.
#[derive(Debug, Clone)]
pub struct ChannelFacts {
    pub id: ChannelId,
    pub brand: BrandId,
    pub connector: String,
    pub can: Capabilities,
}

/// One configured account, and what it carries. A limit that is null is none of its own.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelView {
    #[schema(example = "support-mail")]
    pub id: String,
    #[schema(example = "main")]
    pub brand: String,
    #[schema(example = "email")]
    pub connector: String,
    /// Answers can leave over it.
    pub sends: bool,
    /// It can write first.
    pub starts: bool,
    pub html: bool,
    pub subject: bool,
    /// Whether it reports what becomes of a message.
    pub receipts: bool,
    /// Most recipients of one message.
    pub recipients_max: u16,
    #[schema(required)]
    pub text_max: Option<u32>,
    /// `characters`, `UTF-16 units` or `bytes`.
    pub text_unit: &'static str,
    /// Largest file, in bytes; null: none can be sent.
    #[schema(required)]
    pub attachment_bytes_max: Option<u64>,
    /// All files of one message together, in bytes.
    #[schema(required)]
    pub attachments_bytes_max: Option<u64>,
    /// How long after the customer's last message an answer may leave.
    #[schema(required)]
    pub reply_window_seconds: Option<u64>,
}

impl ChannelView {
    fn of(channel: &ChannelFacts) -> Self {
        let can = &channel.can;
        Self {
            id: channel.id.as_str().to_owned(),
            brand: channel.brand.as_str().to_owned(),
            connector: channel.connector.clone(),
            sends: can.send,
            starts: can.starts,
            html: can.html,
            subject: can.subject,
            receipts: can.receipts,
            recipients_max: can.recipients_max.max(u16::from(can.send)),
            text_max: can.text_max,
            text_unit: match can.text_unit {
                TextUnit::Chars => "characters",
                TextUnit::Utf16Units => "UTF-16 units",
                _ => "bytes",
            },
            attachment_bytes_max: can.attachment_bytes_max,
            attachments_bytes_max: can.attachments_bytes_max,
            reply_window_seconds: can.reply_window.map(|window| window.as_secs()),
        }
    }
}

/// Lists the channels.
///
/// Those of the token's brands, with what each can carry.
#[utoipa::path(
    get,
    path = "/v1/channels",
    tag = "Operations",
    security(("token" = [])),
    responses(
        (status = 200, description = "All of them", body = List<ChannelView>),
        Authenticated
    )
)]
pub async fn list_channels(
    State(app): State<Arc<App>>,
    Watching(caller): Watching,
) -> ApiResult<Json<List<ChannelView>>> {
    let brands = &caller.actor.brands;
    let visible = |channel: &&ChannelFacts| brands.is_empty() || brands.contains(&channel.brand);
    let channels = app.state.channels.now();
    let channels = channels.iter().filter(visible);
    Ok(Json(List {
        items: channels.map(ChannelView::of).collect(),
        next_cursor: None,
    }))
}
