-- What the embedded store has beside the tables of every store.

-- Full-text search. The words only: what was said is in `body`. Row numbers are those of `message`
-- and `contact`. Words are folded and put behind their scope by search.rs, so `ascii` only parts them.
CREATE VIRTUAL TABLE message_search USING fts5(
    subject, text, files, content='', contentless_delete=1, tokenize="ascii"
);
CREATE VIRTUAL TABLE contact_search USING fts5(
    name, address, content='', contentless_delete=1, tokenize="ascii"
);
