//! `outbox`: what has not left, and what becomes of what is held.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use connector_api::Registration;

use crate::daemon::control::Request;
use crate::store::{OutboxState, SettleAs};

use super::control::{carry_out, print_value};
use super::{CommandResult, Common, Failure};

#[derive(Subcommand)]
pub enum Outbox {
    /// List replies that have not left, oldest first
    List {
        /// Only those that stand so
        #[arg(long)]
        state: Option<Shown>,
        /// Only those of this channel
        #[arg(long)]
        channel: Option<String>,
    },
    /// Settle a held reply, or all that a restored backup left unsent
    Settle(Settle),
    /// Hold every unsent reply for a person: after the whole data directory was set back to an
    /// earlier time, which cannot be noticed
    Hold,
}

#[derive(Args)]
pub struct Settle {
    /// Id, `msg_…`
    #[arg(required_unless_present = "restored", conflicts_with = "restored")]
    id: Option<String>,
    /// All that a restored backup left unsent
    #[arg(long)]
    restored: bool,
    /// With --restored: only those of this channel
    #[arg(long, requires = "restored")]
    channel: Option<String>,
    /// sent: it arrived; refused: it did not; retry: send it again, and it may arrive twice
    #[arg(long = "as", value_parser = parse_outcome)]
    outcome: SettleAs,
}

/// States as the command names them.
#[derive(Clone, Copy, ValueEnum)]
pub enum Shown {
    Queued,
    Sending,
    /// Held for a person
    Unknown,
    /// Of those, what a restored backup left unsent
    Restored,
}

impl Shown {
    fn states(self) -> Vec<OutboxState> {
        match self {
            Self::Queued => vec![OutboxState::Queued],
            Self::Sending => vec![OutboxState::Sending],
            Self::Unknown => vec![OutboxState::Held, OutboxState::Restored],
            Self::Restored => vec![OutboxState::Restored],
        }
    }
}

fn parse_outcome(text: &str) -> Result<SettleAs, String> {
    let names: Vec<&str> = SettleAs::ALL.iter().map(|known| known.as_str()).collect();
    SettleAs::parse(text).ok_or_else(|| format!("use one of {}", names.join(", ")))
}

impl Outbox {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let named = match &self {
            Self::List { channel, .. } => channel.as_deref(),
            Self::Settle(settle) => settle.channel.as_deref(),
            Self::Hold => None,
        };
        if let Some(name) = named
            && !config.channels.keys().any(|known| known.as_str() == name)
        {
            return Err(Failure::new(format!("there is no channel \"{name}\"")));
        }
        let request = match self {
            Self::List { state, channel } => Request::OutboxList {
                states: state.map(Shown::states).unwrap_or_default(),
                channel,
            },
            Self::Settle(Settle {
                id: Some(id),
                outcome,
                ..
            }) => Request::OutboxSettle { id, outcome },
            Self::Settle(Settle {
                outcome, channel, ..
            }) => Request::OutboxSettleRestored { outcome, channel },
            Self::Hold => Request::OutboxHold,
        };
        print_value(&carry_out(&config, registrations, &request)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
