//! `health`: whether the daemon here can do its work, for container engines that ask by a command. It needs no other program
//! in the image, and knows the listener's own certificate.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use connector_api::Registration;
use serde_json::Value;

use super::here::Here;
use super::{CommandResult, Common, Failure, runtime};

const ANSWER_WAIT: Duration = Duration::from_secs(5);

#[derive(Args)]
#[command(after_help = "Exit code 0 when /readyz says that it is ready, else 1.")]
pub struct Health {
    /// Where the daemon listens; overrides `server.listen`, as it does for `run`
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<std::net::SocketAddr>,
}

impl Health {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let here = Here::of(&config, self.listen.unwrap_or(config.server.listen))?;
        let said = runtime()?.block_on(async {
            let asked = here.client.get(format!("{}/readyz", here.base));
            let answer = asked.timeout(ANSWER_WAIT).send().await?;
            let status = answer.status();
            let said: Value = answer.json().await?;
            Ok::<_, reqwest::Error>((status, said))
        });
        let base = &here.base;
        match said {
            Ok((status, _)) if status.is_success() => {
                println!("ready");
                Ok(ExitCode::SUCCESS)
            }
            Ok((status, said)) => {
                let detail = said["detail"].as_str().unwrap_or_default();
                Err(Failure::new(format!(
                    "not ready ({status} from {base}): {detail}"
                )))
            }
            Err(error) => Err(Failure::new(format!(
                "{base} does not answer: {}",
                error.without_url()
            ))),
        }
    }
}
