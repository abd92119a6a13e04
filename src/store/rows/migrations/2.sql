CREATE INDEX raw_arrived ON raw (arrived_at);
CREATE INDEX pending_at ON pending (at);
-- Lists are by time: ids are drawn in blocks where several processes write.
CREATE INDEX dead_letter_at ON dead_letter (at, record);
CREATE INDEX conversation_opened ON conversation (opened_at, id, queue);
DROP INDEX conversation_contact;
CREATE INDEX conversation_contact ON conversation (contact, opened_at, id);
DROP INDEX conversation_status;
CREATE INDEX conversation_status ON conversation (status, opened_at, id);
DROP INDEX conversation_assignee;
CREATE INDEX conversation_assignee ON conversation (assignee, opened_at, id) WHERE assignee IS NOT NULL;
