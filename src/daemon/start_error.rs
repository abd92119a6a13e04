//! Why a daemon does not start, and what to do.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::config::ConfigErrors;
use crate::store::StoreError;

use super::control;

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    Config(#[from] ConfigErrors),
    #[error(
        "{}: another switchboard runs on this data directory: `switchboard reload` has it read its \
         configuration again; stop it first to start another one",
        .0.display()
    )]
    DataDirInUse(PathBuf),
    #[error("{}", about_data_dir(path, error))]
    DataDir { path: PathBuf, error: io::Error },
    #[error("listening on {address}: {error}{}", about_listening(error))]
    Listen {
        address: SocketAddr,
        error: io::Error,
    },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Other(String),
}

fn about_data_dir(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => control::not_entered(path, error),
        _ => format!("the data directory {}: {error}", path.display()),
    }
}

fn about_listening(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": something listens there already (`switchboard doctor` says whether it is a Switchboard): \
             stop it, or choose another address (--listen, server.listen)"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 are for root: choose another one, or let the service manager give it \
             the right to (CAP_NET_BIND_SERVICE)"
        }
        _ => "",
    }
}
