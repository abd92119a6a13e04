//! The email connector from outside: parsing, and mailboxes and mail servers played on loopback.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounces;
mod checks;
mod complaints;
mod composing;
mod conformance;
mod conformance_hooks;
mod fake_hook;
mod fake_imap;
mod fake_mail;
mod fake_oauth;
mod fake_smtp;
mod hooks;
mod hostile;
mod mailbox;
mod mailboxes;
mod oauth;
mod posted;
mod presets;
mod sending;
mod several;
mod shared_fixtures;
mod shared_mails;
