//! Credentials that a channel obtains while it runs: a token that a person granted, the next one of
//! a chain that rotates. The daemon keeps them sealed; nobody else's channel can read them.

use async_trait::async_trait;
use secrecy::SecretString;

use crate::error::{Error, Result};

/// Longest name of a credential, in bytes.
pub const CREDENTIAL_NAME_BYTES_MAX: usize = 64;
/// Longest credential, in bytes: tokens are some kilobytes at most.
pub const CREDENTIAL_BYTES_MAX: usize = 64 * 1024;

/// What one channel keeps, by name. No other channel reads it, whatever name it asks for.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// What was saved last under that name. An error is an outage (kind `Unavailable`), or says that
    /// what is kept cannot be opened any more (kind `Auth`); it never shows any of it.
    async fn load(&self, name: &str) -> Result<Option<SecretString>>;
    /// Returns once the value is durable in place of the one before. Save what replaces a credential
    /// before you use it: after a crash only what was saved is left.
    async fn save(&self, name: &str, value: SecretString) -> Result<()>;
}

/// Where there is no store: a configuration that is only checked.
pub(crate) struct NothingKept;

#[async_trait]
impl Credentials for NothingKept {
    async fn load(&self, _name: &str) -> Result<Option<SecretString>> {
        Ok(None)
    }

    async fn save(&self, _name: &str, _value: SecretString) -> Result<()> {
        Err(Error::unavailable("no credentials are kept here"))
    }
}
