//! Whether an echo answers its customer: somebody wrote in a mail program, or in the provider's own
//! app, what an agent would have had to write. Then nobody is offered the conversation as unanswered.
//! In doubt it stays where it is: an answer too many is a smaller harm than none.

use crate::conversation::Status;
use crate::ids::ConversationId;
use crate::router::Prepared;
use crate::router::effects::{Effects, NewEvent};
use crate::router::explain::{AnsweredWhy, JoinReason};
use crate::router::facts::{Conversation, Facts};
use crate::router::identify::Writer;

/// Moves a conversation that waits for an answer of ours as an agent's own would, where the echo is
/// one; says what it went by. `None` where nothing waited, or the record is history or a machine's.
pub fn answer(
    id: ConversationId,
    record: &Prepared,
    writer: &Writer,
    reason: &JoinReason,
    facts: &mut Facts,
    effects: &mut Effects,
) -> Option<AnsweredWhy> {
    let conversation = facts.conversations.get_mut(&id)?;
    let waits = matches!(
        conversation.status,
        Status::New | Status::Queued | Status::Assigned
    );
    if !waits || record.is_history() || record.envelope.event.automatic.is_some() {
        return None;
    }
    let why = judge(record, writer, reason, conversation);
    if why.is_answer() {
        conversation.status = Status::Pending;
        let at = record.arrived_at();
        let event = NewEvent::status(id, Status::Pending, at);
        effects.events.push(event);
    }
    Some(why)
}

fn judge(
    record: &Prepared,
    writer: &Writer,
    reason: &JoinReason,
    conversation: &Conversation,
) -> AnsweredWhy {
    if writer.contact != conversation.contact {
        return AnsweredWhy::ToAnother;
    }
    if let JoinReason::Reference { message } | JoinReason::OwnReference { message } = reason
        && conversation.last_message == Some(*message)
    {
        return AnsweredWhy::LastMessage { message: *message };
    }
    // A folder of sent mail is read when its turn comes: what was written before the customer's last
    // words answers others of them.
    let arrived_at = record.arrived_at();
    let sent_at = record.envelope.event.sent_at;
    let written_at = sent_at.map_or(arrived_at, |at| at.as_microsecond().min(arrived_at));
    match written_at > conversation.last_inbound_at {
        true => AnsweredWhy::WrittenAfter {
            last_inbound_at: conversation.last_inbound_at,
        },
        false => AnsweredWhy::WrittenBefore {
            last_inbound_at: conversation.last_inbound_at,
        },
    }
}
