//! How a connector crate makes itself known: one const [`Registration`], listed explicitly.

use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;

use crate::context::BuildContext;
use crate::error::{Error, Result};
use crate::surface::Connector;

/// One per connector crate; erased into a [`Registration`].
pub trait ConnectorKind: Send + Sync + 'static {
    /// The word in `connector = "…"`.
    const KIND: &'static str;
    /// The smallest real configuration, as the body of a `[channels.<id>]` table. A test builds it.
    const EXAMPLE: &'static str;
    /// Derives `deny_unknown_fields`; every field's doc comment is its documentation.
    type Config: DeserializeOwned + JsonSchema;
    /// Checks everything that needs no network; must not connect.
    fn build(config: Self::Config, context: BuildContext) -> Result<Box<dyn Connector>>;
}

/// Keys of a `[channels.<id>]` table that the daemon reads itself: no connector sees them, and none
/// may have one of that name.
pub const DAEMON_KEYS: [&str; 6] = [
    "connector",
    "brand",
    "queue",
    "vouches",
    "attachment_hosts",
    "acknowledge",
];

/// A connector as the daemon lists it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Registration {
    pub kind: &'static str,
    pub example: &'static str,
    pub build: fn(serde_json::Value, BuildContext) -> Result<Box<dyn Connector>>,
    pub schema: fn() -> Schema,
}

impl Registration {
    pub const fn of<K: ConnectorKind>() -> Self {
        Self {
            kind: K::KIND,
            example: K::EXAMPLE,
            build: build_erased::<K>,
            schema: schema_erased::<K>,
        }
    }
}

fn build_erased<K: ConnectorKind>(
    config: serde_json::Value,
    context: BuildContext,
) -> Result<Box<dyn Connector>> {
    let config =
        serde_json::from_value(config).map_err(|error| Error::config(error.to_string()))?;
    K::build(config, context)
}

fn schema_erased<K: ConnectorKind>() -> Schema {
    schemars::schema_for!(K::Config)
}
