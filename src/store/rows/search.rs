//! Full-text search: what is asked of the index, and how it follows the log. What the index is, the
//! databases differ in: FTS5, and vectors of words.

pub mod find;
pub mod index;
