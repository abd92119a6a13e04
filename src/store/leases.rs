//! Who does, of all processes, what only one may do at a time: read a mailbox, copy a log. A lease ends by
//! itself, so that the work of a process that died is taken over; its epoch fences off one that only slept.

use async_trait::async_trait;

use super::Result;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    pub name: String,
    /// Empty: it was given up.
    pub holder: String,
    /// Rises with every change of holder, and never comes again.
    pub epoch: i64,
    /// UTC microseconds of the store's clock. A holder counts from before it asked, by its own.
    pub until: i64,
}

/// Times are the store's: of a database that processes share its own, so that they agree; otherwise `now`.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes a lease that is free, over, or the holder's already; `None` while it is another's.
    async fn take_lease(
        &self,
        name: &str,
        holder: &str,
        for_us: i64,
        now: i64,
    ) -> Result<Option<Lease>>;

    /// Has it end later. `None`: another had it since, and whoever asks must stop.
    async fn renew_lease(&self, lease: &Lease, for_us: i64, now: i64) -> Result<Option<Lease>>;

    /// Lets others have it at once; nothing, where it is another's.
    async fn give_up_lease(&self, lease: &Lease) -> Result<()>;

    /// All that were ever taken, by name.
    async fn leases(&self) -> Result<Vec<Lease>>;
}
