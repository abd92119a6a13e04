//! `channel`: what operators do with one channel.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use connector_api::Registration;

use crate::daemon::control::{Request, steps};

use super::{CommandResult, Common, Failure, runtime};

mod authorize;
mod redirect;

#[derive(Subcommand)]
pub enum Channel {
    /// Log in, send a message to the channel itself, and see where it comes to
    Test(Test),
    /// Grant a channel access to its account at the provider, as a person who may
    Authorize(authorize::Authorize),
}

#[derive(Args)]
#[command(after_help = "\
Needs the running daemon. The message is filed as a customer's would be, with the tag channel-test,
and closed at once: no agent is handed it, nothing answers it. A mail channel writes to its own
address; a webhook channel is given a signed event (whether a receiver takes answers cannot be asked
without delivering one). Exit code 1 when a step fails.")]
pub struct Test {
    /// The channel
    name: String,
    /// Seconds until the message must be there, at most 600
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    wait: u64,
}

impl Channel {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let test = match self {
            Self::Test(test) => test,
            Self::Authorize(authorize) => return authorize.run(common, registrations),
        };
        let config = common.load(Vec::new(), registrations)?;
        let request = Request::ChannelTest {
            channel: test.name,
            wait_seconds: test.wait,
        };
        let dir = &config.server.data_dir;
        let followed = runtime()?.block_on(steps::follow(dir, &request, |step| {
            let state = if step.ok { "ok  " } else { "fail" };
            println!("{state}  {}: {}", step.step, step.detail);
            if let Some(hint) = &step.hint {
                println!("      {hint}");
            }
        }));
        match followed {
            Some(Ok(true)) => Ok(ExitCode::SUCCESS),
            Some(Ok(false)) => Ok(ExitCode::FAILURE),
            Some(Err(error)) => Err(Failure::new(error)),
            None => Err(Failure::new(format!(
                "no daemon runs on {}: start it, or name its data directory (--data-dir)",
                dir.display()
            ))),
        }
    }
}
