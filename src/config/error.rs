//! What is wrong in a configuration, where, and what would be right. All of it at once.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where a value was set.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// `config/default.toml`, compiled in.
    #[default]
    BuiltIn,
    File {
        path: Arc<PathBuf>,
        /// From 1; 0 is the file as a whole.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A command-line flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment variable {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing wrong. The message never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{origin}: {}{message}", if key.is_empty() { String::new() } else { format!("{key}: ") })]
pub struct ConfigError {
    pub origin: Origin,
    /// Dotted path, as `channels.support-mail.queue`; empty for the document itself.
    pub key: String,
    pub message: String,
}

/// Everything wrong, in the order of the sources and their lines.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigErrors(Vec<ConfigError>);

/// Most errors printed; a file that is no configuration at all should not fill the screen.
const PRINTED_MAX: usize = 50;

impl ConfigErrors {
    pub fn push(&mut self, origin: Origin, key: impl Into<String>, message: impl Into<String>) {
        let error = ConfigError {
            origin,
            key: key.into(),
            message: message.into(),
        };
        let at = self.0.partition_point(|known| *known <= error);
        // One mistake that two checks see is said once.
        if at == 0 || self.0.get(at - 1) != Some(&error) {
            self.0.insert(at, error);
        }
    }

    /// Adds what is wrong elsewhere.
    pub fn extend(&mut self, others: Self) {
        for error in others.0 {
            self.push(error.origin, error.key, error.message);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// `value`, unless something is wrong.
    pub fn unless_any<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() {
            Ok(value)
        } else {
            Err(self)
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .0
            .iter()
            .take(PRINTED_MAX)
            .map(ConfigError::to_string)
            .collect();
        f.write_str(&lines.join("\n"))?;
        match self.0.len().checked_sub(PRINTED_MAX) {
            Some(more) if more > 0 => write!(f, "\nand {more} more"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ConfigErrors {}
