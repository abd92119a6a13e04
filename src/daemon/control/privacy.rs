//! Commands about what is kept of one person.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::api::export::{Exporter, Place};
use crate::api::views::ContactView;
use crate::api::views::erasure::ErasureView;
use crate::clock::micros;
use crate::dispatch::privacy::operator;
use crate::ids::{ContactId, IdKind};
use crate::store::StoreError;
use crate::store::privacy::{Asking, Erasure, Holding};

use super::Control;

/// Bytes of a file that one answer brings.
const FILE_BYTES: u64 = 512 * 1024;
/// Erasures that a list has at most.
const ERASURES_LISTED: u32 = 1_000;
/// In whose name commands of this machine act.
const WHO: &str = "operator";

type Result<T> = std::result::Result<T, String>;

impl Control {
    pub(super) async fn hold_contact(
        &self,
        contact: &str,
        reason: Option<String>,
    ) -> Result<serde_json::Value> {
        let holding = Holding {
            contact: self.contact_number(contact)?,
            actor: operator(),
            who: WHO.to_owned(),
            reason,
            at: micros(self.clock.now()),
        };
        let held = self.store.hold_contact(holding).await.map_err(text)?;
        serde_json::to_value(ContactView::of(&held, &self.ids)).map_err(|error| error.to_string())
    }

    /// A piece of an export, the files that it names, and where the next one begins.
    pub(super) async fn export_contact(
        &self,
        contact: &str,
        place: Option<Place>,
    ) -> Result<serde_json::Value> {
        let exporter = Exporter {
            store: self.store.clone(),
            ids: self.ids.clone(),
            actor: operator(),
            contact: self.contact_number(contact)?,
            now: micros(self.clock.now()),
        };
        let piece = exporter.piece(place.unwrap_or_else(Place::start)).await;
        let piece = piece.map_err(text)?;
        Ok(serde_json::json!({ "text": piece.text, "files": piece.files, "next": piece.next }))
    }

    /// Some bytes of a file of a message; none behind its end.
    pub(super) async fn export_file(&self, id: &str, from: u64) -> Result<serde_json::Value> {
        let missing = || format!("there is no attachment {id}");
        let (message, place) = self.ids.decode_attachment(id).ok_or_else(missing)?;
        let found = self.store.attachment(operator(), message, place).await;
        let found = found.map_err(text)?.ok_or_else(missing)?;
        let bytes = match (found.inline, found.standing.sha256) {
            (Some(bytes), _) => {
                let len = bytes.len();
                let at = |place: u64| usize::try_from(place).map_or(len, |place| place.min(len));
                bytes.slice(at(from)..at(from.saturating_add(FILE_BYTES)))
            }
            (None, Some(sha256)) => {
                let file = self
                    .blobs
                    .find(sha256)
                    .await
                    .map_err(|error| error.to_string())?;
                let file = file.ok_or_else(|| format!("the file of {id} is missing"))?;
                let read = file.read_at(from, FILE_BYTES).await;
                read.map_err(|error| format!("reading {id}: {error}"))?
            }
            (None, None) => return Err(missing()),
        };
        Ok(serde_json::json!({ "base64": STANDARD.encode(&bytes) }))
    }

    pub(super) async fn erase_contact(
        &self,
        contact: &str,
        reason: String,
    ) -> Result<serde_json::Value> {
        let asking = Asking {
            contact: self.contact_number(contact)?,
            actor: operator(),
            who: WHO.to_owned(),
            reason,
            at: micros(self.clock.now()),
        };
        let asked = self.store.ask_erasure(asking).await.map_err(text)?;
        self.erasure_view(&asked)
    }

    pub(super) async fn erasures(&self, id: Option<String>) -> Result<serde_json::Value> {
        let Some(id) = id else {
            let listed = self.store.erasures(None, ERASURES_LISTED).await;
            let listed = listed.map_err(text)?;
            return listed.iter().map(|one| self.erasure_view(one)).collect();
        };
        let missing = || format!("there is no erasure {id}");
        let number = self.ids.decode(IdKind::Erasure, &id).ok_or_else(missing)?;
        let found = self.store.erasure(number).await.map_err(text)?;
        self.erasure_view(&found.ok_or_else(missing)?)
    }

    fn erasure_view(&self, erasure: &Erasure) -> Result<serde_json::Value> {
        let view = ErasureView::of(erasure, &self.ids);
        serde_json::to_value(view).map_err(|error| error.to_string())
    }

    pub(super) fn contact_number(&self, id: &str) -> Result<ContactId> {
        let number = self.ids.decode(IdKind::Contact, id).map(ContactId);
        number.ok_or_else(|| format!("there is no contact {id}"))
    }
}

fn text(error: StoreError) -> String {
    error.to_string()
}
