//! `[store]`.

use std::path::PathBuf;

use connector_api::SecretRef;
use schemars::JsonSchema;
use serde::Deserialize;

/// Holds conversations, contacts and everything else that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// `sqlite` is a file in the data directory. `postgres` is a database that several processes share.
    pub kind: StoreKind,
    /// PostgreSQL: `postgres://user@host:5432/database`; several `host:port`, separated by commas,
    /// where one takes over from another. Without a password.
    #[serde(default)]
    #[schemars(regex(pattern = r"^postgres(ql)?://"))]
    pub url: Option<String>,
    /// PostgreSQL: the user's password. Default: none is sent.
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// PostgreSQL: whether the connection is encrypted, and the server's name and certificate checked.
    /// Default: `off`, for a server on this machine or in a network of its own.
    #[serde(default)]
    pub tls: Option<StoreTls>,
    /// PostgreSQL: PEM file of the authority that the server's certificate is from. Default: those
    /// that browsers know.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub ca_file: Option<PathBuf>,
    /// PostgreSQL: settings of the server that are taken though they are off, and a crash of it then
    /// loses what was committed.
    pub accept_unsafe: Vec<UnsafeDatabase>,
    /// Directory of attachments and large mails. Default: `blobs` in the data directory. Processes
    /// that share a database share this, too.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub blobs_dir: Option<PathBuf>,
    /// Bucket of an S3-compatible store for them instead of a directory: `s3://bucket/prefix`. Processes
    /// on several hosts need one.
    #[serde(default)]
    #[schemars(regex(pattern = r"^s3://"))]
    pub blobs_url: Option<String>,
    /// Bucket: where the S3-compatible store is. `https`, or `http` on this machine or in a network of
    /// its own. Default: AWS.
    #[serde(default)]
    #[schemars(regex(pattern = r"^https?://"))]
    pub blobs_endpoint: Option<String>,
    /// Bucket: its region. Default: `us-east-1`, which is what stores without regions take.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub blobs_region: Option<String>,
    /// Bucket: the access key. It needs to list, get, put and delete.
    #[serde(default)]
    pub blobs_access_key: Option<SecretRef>,
    /// Bucket: its secret key.
    #[serde(default)]
    pub blobs_secret_key: Option<SecretRef>,
    /// Bucket: PEM file of an authority that is believed beside those of the system.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub blobs_ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    Sqlite,
    Postgres,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoreTls {
    Off,
    On,
}

/// What a database server can have wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnsafeDatabase {
    Fsync,
    FullPageWrites,
    SynchronousCommit,
}
