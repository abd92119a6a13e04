//! The HTTP API against a real store: what each request is answered, and what becomes of it.

mod claims;
mod conversations;
mod document;
mod hooks;
mod messages;
mod operations;
mod rights;
mod served;
