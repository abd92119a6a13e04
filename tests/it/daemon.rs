//! The daemon as its users meet it: the real binary, its files, its HTTP.

mod alerts;
mod attachments;
mod authorize;
mod backup;
#[cfg(feature = "postgres")]
mod bucket;
mod channel_test;
#[cfg(all(feature = "kafka", feature = "postgres"))]
pub mod cluster;
mod complaints;
mod corpus;
mod doctor;
mod dump;
mod erasing;
mod external;
mod fsync;
mod import;
pub mod kill;
mod mail;
mod mailboxes;
mod manager;
#[cfg_attr(
    not(all(feature = "kafka", feature = "postgres")),
    allow(dead_code, reason = "campaigns need all of it")
)]
pub mod manifest;
mod memory;
pub mod post_office;
pub mod preload;
pub mod process;
mod reconcile;
mod reload;
mod restored;
pub mod shop;
mod shuffled;
mod tls;
mod tokens;
mod webhooks;
mod wire;

// A mailbox and a mail server in this process, and mails written by others: the email connector's
// own tests use them, too.
#[allow(dead_code, reason = "each user needs its own part of it")]
#[path = "../../connectors/email/tests/it/fake_imap.rs"]
mod fake_imap;
#[path = "../../connectors/email/tests/it/fake_oauth.rs"]
mod fake_oauth;
#[allow(dead_code, reason = "each user needs its own part of it")]
#[path = "../../connectors/email/tests/it/fake_smtp.rs"]
mod fake_smtp;
#[path = "../../connectors/email/tests/it/shared_mails.rs"]
mod shared_mails;

/// One thread for a server that a test plays, beside the test's own.
fn own_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}
