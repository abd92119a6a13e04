CREATE INDEX raw_arrived ON raw (arrived_at);
CREATE INDEX pending_at ON pending (at);
