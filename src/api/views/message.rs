//! A message as the API shows it: the writer's new words first, the whole text where it differs.

use connector_api::{Defect, Event, InboundMessage, ParticipantRole, Recipient, Timestamp};
use serde::Serialize;
use utoipa::ToSchema;

use crate::bus::Envelope;
use crate::clock::timestamp;
use crate::conversation::Delivery;
use crate::ids::IdCodec;
use crate::router::effects::Author;
use crate::router::triage::{Label, Labels};
use crate::store::attachments::Standing;
use crate::store::{AttachmentState, Draft, StoredContent, StoredMessage, StoredRecipient};

use super::{IdentityView, PublicIds, evidence_of};

/// One thing said.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageView {
    #[schema(example = "msg_9a7b3c5d1e2f8a4b8c6d0e1f2a3b4c5d")]
    pub id: String,
    pub conversation_id: String,
    /// Its place in the conversation.
    pub seq: i64,
    pub author: Author,
    /// Null for a note, which is on none.
    #[schema(required, example = "support-mail")]
    pub channel: Option<String>,
    /// The customer who wrote it.
    #[schema(required)]
    pub from: Option<IdentityView>,
    /// Of an answer: where it goes, frozen when it was accepted. Of what came: who else got it,
    /// without us.
    pub to: Vec<RecipientView>,
    pub cc: Vec<RecipientView>,
    /// Of an answer: who got it unseen by the others.
    pub bcc: Vec<RecipientView>,
    /// The agent who wrote it.
    #[schema(required)]
    pub agent: Option<String>,
    /// The writer's new words, without what they quote; null where the message was deleted.
    #[schema(required)]
    pub text: Option<String>,
    /// Everything as it came, where that is more than `text`.
    #[schema(required)]
    pub full_text: Option<String>,
    /// As the sender wrote it, NOT sanitised; only where the one message is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[schema(required)]
    pub subject: Option<String>,
    pub attachments: Vec<AttachmentView>,
    pub arrived_at: Timestamp,
    /// Of an answer that is to leave later: when.
    #[schema(required)]
    pub send_at: Option<Timestamp>,
    /// When the provider says it was sent.
    #[schema(required)]
    pub sent_at: Option<Timestamp>,
    /// What became of it; null for what came in and for notes.
    #[schema(required)]
    pub delivery: Option<Delivery>,
    /// Why it was refused, or why nobody knows.
    #[schema(required)]
    pub reason: Option<String>,
    pub deleted: bool,
    pub edited: bool,
    /// The same words came before, in this message.
    #[schema(required)]
    pub duplicate_of: Option<String>,
    /// Written by a machine; nothing automatic answers it.
    pub automatic: bool,
    /// The provider sent this under a key that it had used for something else.
    pub conflicting: bool,
    pub labels: LabelsView,
    /// What was wrong with it when it came.
    pub defects: Vec<DefectView>,
    pub reactions: Vec<String>,
}

/// Where a message goes.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecipientView {
    pub namespace: String,
    pub address: String,
    #[schema(required)]
    pub name: Option<String>,
    /// Of an answer to several: how far it got with them, where that is not as far as the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
    /// Why it was refused for them, or is late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl RecipientView {
    fn of(recipient: &Recipient) -> Self {
        Self {
            namespace: recipient.namespace.as_str().to_owned(),
            address: recipient.address.clone(),
            name: recipient.name.clone(),
            delivery: None,
            reason: None,
        }
    }
}

/// A file that came with a message. Name and type are the sender's words.
#[derive(Debug, Serialize, ToSchema)]
pub struct AttachmentView {
    /// For `/v1/attachments/{id}`; null beyond the first 1,024 of a message.
    #[schema(required, example = "att_2f8a9a7b3c5d4d5e8c6d0e1f2a3b4c5d")]
    pub id: Option<String>,
    #[schema(required)]
    pub name: Option<String>,
    pub content_type: String,
    #[schema(required)]
    pub size_bytes: Option<u64>,
    #[schema(required)]
    pub content_id: Option<String>,
    /// Shown inside the text.
    pub inline: bool,
    pub state: AttachmentState,
    /// Why it failed; of a pending one, why the last try did.
    #[schema(required)]
    pub reason: Option<String>,
}

/// Something that was wrong with a message that was kept all the same.
#[derive(Debug, Serialize, ToSchema)]
pub struct DefectView {
    #[schema(example = "charset_repaired")]
    pub code: String,
    pub detail: String,
}

/// What triage says of a message.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct LabelsView {
    /// ISO 639-1.
    pub language: LabelView,
    pub intent: LabelView,
    pub sentiment: LabelView,
    pub urgency: LabelView,
    /// `yes`, `no` or `unknown`.
    pub spam: LabelView,
    /// `auto_reply`, `bounce` …, or `no`.
    pub automatic: LabelView,
}

/// A label: what, how sure, and what it went by. `unknown` where triage cannot tell.
#[derive(Debug, Serialize, ToSchema)]
pub struct LabelView {
    #[schema(example = "refund")]
    pub value: String,
    /// From 0 to 1.
    #[schema(example = 0.9)]
    pub confidence: f32,
    #[schema(example = json!(["refund"]))]
    pub evidence: Vec<String>,
}

impl Default for LabelView {
    fn default() -> Self {
        Label::default().into()
    }
}

impl From<Label> for LabelView {
    fn from(label: Label) -> Self {
        Self {
            value: label.value.into_owned(),
            confidence: f32::from(label.confidence) / 100.0,
            evidence: label.evidence,
        }
    }
}

impl LabelsView {
    /// The labels stored with a message; none are stored with what we wrote ourselves.
    pub fn of(stored: &serde_json::Value) -> Self {
        let Ok(labels) = serde_json::from_value::<Labels>(stored.clone()) else {
            return Self::default();
        };
        Self {
            language: labels.language.into(),
            intent: labels.intent.into(),
            sentiment: labels.sentiment.into(),
            urgency: labels.urgency.into(),
            spam: labels.spam.into(),
            automatic: labels.automatic.into(),
        }
    }
}

impl MessageView {
    /// A message of a list; without its HTML, which may be a hundred times its text.
    pub fn of(message: &StoredMessage, ids: &IdCodec) -> Self {
        Self {
            html: None,
            ..Self::whole(message, ids)
        }
    }

    /// A message that was asked for by itself.
    pub fn whole(message: &StoredMessage, ids: &IdCodec) -> Self {
        let note = message.author == Author::Note;
        let mut said = if message.deleted {
            Said::default()
        } else {
            Said::of(&message.content)
        };
        said.reached(&message.recipients);
        Self {
            id: ids.message(message.id),
            conversation_id: ids.conversation(message.conversation),
            seq: message.seq,
            author: message.author,
            channel: (!note).then(|| message.channel.as_str().to_owned()),
            from: from_of(message),
            to: said.to,
            cc: said.cc,
            bcc: said.bcc,
            agent: message.agent.clone(),
            text: said.text,
            full_text: said.full_text,
            html: said.html,
            subject: said.subject,
            attachments: attachments_of(message, ids),
            arrived_at: timestamp(message.arrived_at),
            send_at: said.send_at.map(timestamp),
            sent_at: message.sent_at.map(timestamp),
            delivery: message.delivery,
            reason: message.reason.clone(),
            deleted: message.deleted,
            edited: message.edited,
            duplicate_of: message.duplicate_of.map(|id| ids.message(id)),
            automatic: message.automatic,
            conflicting: message.conflicting,
            labels: LabelsView::of(&message.labels),
            defects: said.defects,
            reactions: message.reactions.clone(),
        }
    }
}

/// The sender, named as in this very message where it names them.
fn from_of(message: &StoredMessage) -> Option<IdentityView> {
    let stored = message.from.as_ref()?;
    let (evidence, method) = evidence_of(&stored.method);
    let named = match &message.content {
        StoredContent::Inbound { first, .. } if !message.deleted => {
            message_of(first).and_then(|said| said.from.name.clone())
        }
        _ => None,
    };
    Some(IdentityView {
        namespace: stored.namespace.as_str().to_owned(),
        address: stored.address.clone(),
        evidence,
        method,
        name: named.or_else(|| stored.name.clone()),
    })
}

/// What a message says, from wherever it is kept.
#[derive(Default)]
struct Said {
    text: Option<String>,
    full_text: Option<String>,
    html: Option<String>,
    subject: Option<String>,
    defects: Vec<DefectView>,
    to: Vec<RecipientView>,
    cc: Vec<RecipientView>,
    bcc: Vec<RecipientView>,
    send_at: Option<i64>,
}

impl Said {
    fn of(content: &StoredContent) -> Self {
        match content {
            StoredContent::Inbound { first, edit } => Self::inbound(first, edit.as_deref()),
            StoredContent::Written(draft) => Self::written(draft),
            StoredContent::Unreadable(reason) => Self {
                defects: vec![DefectView {
                    code: "body_unreadable".to_owned(),
                    detail: reason.clone(),
                }],
                ..Self::default()
            },
        }
    }

    /// Says how far it got with each of several.
    fn reached(&mut self, recipients: &[StoredRecipient]) {
        for view in self.to.iter_mut().chain(&mut self.cc).chain(&mut self.bcc) {
            let known = recipients.iter().find(|one| one.address == view.address);
            if let Some(known) = known {
                view.delivery = known.delivery;
                view.reason.clone_from(&known.reason);
            }
        }
    }

    fn written(draft: &Draft) -> Self {
        let written = Self {
            text: Some(draft.text.clone()),
            html: draft.html.clone(),
            send_at: draft.send_at,
            ..Self::default()
        };
        let Some(to) = &draft.to else {
            return written;
        };
        let all = |list: &[Recipient]| list.iter().map(RecipientView::of).collect();
        let first = RecipientView::of(&to.first());
        Self {
            subject: to.subject.clone(),
            to: std::iter::once(first)
                .chain(to.also_to.iter().map(RecipientView::of))
                .collect(),
            cc: all(&to.cc),
            bcc: all(&to.bcc),
            ..written
        }
    }

    fn inbound(first: &Envelope, edit: Option<&Envelope>) -> Self {
        let said = message_of(first);
        let others = |role: ParticipantRole| {
            let of = said.iter().flat_map(|said| &said.participants);
            of.filter(|other| other.role == role)
                .map(|other| RecipientView {
                    namespace: other.namespace.as_str().to_owned(),
                    address: other.address.clone(),
                    name: other.name.clone(),
                    delivery: None,
                    reason: None,
                })
                .collect()
        };
        let (text, html) = match (edit.map(|edit| &edit.event.event), &first.event.event, said) {
            (Some(Event::Edit { text, html, .. }), _, _) => (text.as_str(), html.clone()),
            (_, Event::System { text, .. }, _) => (text.as_str(), None),
            (_, _, Some(said)) => (said.text.as_str(), said.html.clone()),
            (_, _, None) => ("", None),
        };
        Self {
            text: Some(text.to_owned()),
            full_text: edit.unwrap_or(first).full_text.clone(),
            html,
            subject: said.and_then(|said| said.subject.clone()),
            defects: first.event.defects.iter().map(DefectView::of).collect(),
            to: others(ParticipantRole::To),
            cc: others(ParticipantRole::Cc),
            bcc: Vec::new(),
            send_at: None,
        }
    }
}

fn message_of(envelope: &Envelope) -> Option<&InboundMessage> {
    match &envelope.event.event {
        Event::Message(message) | Event::Echo(message) => Some(message),
        _ => None,
    }
}

fn attachments_of(message: &StoredMessage, ids: &IdCodec) -> Vec<AttachmentView> {
    if message.deleted {
        return Vec::new();
    }
    let view = |place: usize, standing: Standing, content_id: Option<String>, inline: bool| {
        AttachmentView {
            id: ids.attachment(message.id, place),
            name: standing.name,
            content_type: standing.content_type,
            size_bytes: standing.size_bytes,
            content_id,
            inline,
            state: standing.state,
            reason: standing.reason,
        }
    };
    match &message.content {
        StoredContent::Inbound { first, .. } => {
            let said = message_of(first);
            let files = said.iter().flat_map(|said| &said.attachments).enumerate();
            let each = files.map(|(place, file)| {
                let standing = Standing::of(file, message.fetches.get(&place));
                view(place, standing, file.content_id.clone(), file.inline)
            });
            each.collect()
        }
        StoredContent::Written(draft) => {
            let files = draft.attachments.iter().enumerate();
            let each = files.map(|(place, file)| {
                let inline = file.content_id.is_some();
                let standing = Standing::of_written(file);
                view(place, standing, file.content_id.clone(), inline)
            });
            each.collect()
        }
        StoredContent::Unreadable(_) => Vec::new(),
    }
}

impl DefectView {
    fn of(defect: &Defect) -> Self {
        Self {
            code: defect.code.clone(),
            detail: defect.detail.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::EvidenceView;
    use super::*;

    #[test]
    fn only_the_word_claimed_is_unproven() {
        assert_eq!(evidence_of("claimed"), (EvidenceView::Claimed, None));
        assert_eq!(
            evidence_of("dmarc"),
            (EvidenceView::Verified, Some("dmarc".to_owned()))
        );
    }

    #[test]
    fn labels_that_are_missing_or_of_another_shape_are_unknown() {
        for stored in [
            serde_json::json!(null),
            serde_json::json!({}),
            serde_json::json!([1]),
        ] {
            assert_eq!(LabelsView::of(&stored).intent.value, "unknown", "{stored}");
        }
        let stored = serde_json::json!({ "intent": ["refund", 90, ["money back"]] });
        let LabelView {
            value,
            confidence,
            evidence,
        } = LabelsView::of(&stored).intent;
        assert_eq!(
            (value.as_str(), confidence, evidence.as_slice()),
            ("refund", 0.9, &["money back".to_owned()][..])
        );
    }
}
