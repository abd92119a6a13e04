//! `bus`: the topic that processes share.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use connector_api::{Clock, Registration};

use crate::clock::SystemClock;
use crate::config::{BusKind, Config};
use crate::daemon::{Installation, growing};

use super::control::print_value;
use super::run::start_failure;
use super::{CommandResult, Common, Failure, runtime};

#[derive(Subcommand)]
pub enum Bus {
    /// Go to more partitions on Kafka while everything runs; stopped at any point, it is run again and goes on
    Grow(Grow),
}

#[derive(Args)]
pub struct Grow {
    /// As many as there are to be: a multiple of those there are
    #[arg(
        long,
        value_name = "NUMBER",
        required_unless_present = "status",
        conflicts_with = "status"
    )]
    partitions: Option<u32>,
    /// Only say where it stands, a generation of the topic a line
    #[arg(long)]
    status: bool,
}

impl Bus {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let Self::Grow(grow) = self;
        let config = common.load(Vec::new(), registrations)?;
        if config.bus.kind != BusKind::Kafka {
            return Err(Failure::new(
                "bus.kind is \"local\": only a bus on Kafka has partitions",
            ));
        }
        runtime()?.block_on(grow.run(&config))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Grow {
    async fn run(self, config: &Config) -> Result<(), Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = &config.server.data_dir;
        let opened = Installation::open(config, dir).await;
        let store = opened.map_err(start_failure)?.store();
        match self.partitions {
            Some(partitions) => {
                let tell = |done| println!("{done}");
                let grown = growing::grow(config, store, clock, partitions, tell).await;
                grown.map_err(Failure::new)
            }
            None => {
                let status = growing::status(config, store.as_ref()).await;
                print_value(&status.map_err(Failure::new)?)
            }
        }
    }
}
