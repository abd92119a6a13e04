//! `doctor`: what may be wrong with an installation, one line each, with what to do. It changes
//! nothing, and works with the daemon up or down.

use std::process::ExitCode;

use clap::Args;
use connector_api::Registration;
use serde::Serialize;

use crate::store::rows::migrations::{Found, SCHEMA_VERSION};

use super::{CommandResult, Common, Failure, runtime};

mod channels;
#[cfg(feature = "postgres")]
mod cluster;
mod configured;
mod daemon;
mod machine;

#[derive(Args)]
#[command(after_help = "\
Looks at the configuration, versions, the data directory and its disk, the clock, secret files, the
listener, the channels (a running daemon logs in at each server once), dead letters, held answers,
and whether public_url leads to this daemon. Of processes that share a database: who there is, what
each runs and holds, what none of them runs, and whether the clocks agree.
Exit code 1 when anything fails; warnings leave it 0.")]
pub struct Doctor {
    /// One JSON array of {check, state, detail, hint}
    #[arg(long)]
    json: bool,
}

/// Whether this build can work on tables of that version.
fn of_version(check: &'static str, found: Found) -> Finding {
    let Found { version, .. } = found;
    let detail = format!("its tables have version {version}, this build has {SCHEMA_VERSION}");
    if !found.can_be_used() {
        return Finding::fail(check, detail, "run the newer build");
    }
    if version < SCHEMA_VERSION {
        let hint = "the next start of this build brings them to its version";
        return Finding::warn(check, detail, hint);
    }
    Finding::ok(check, detail)
}

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warn,
    Fail,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Ok,
            detail: detail.into(),
            hint: None,
        }
    }

    fn warn(check: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            state: State::Warn,
            hint: Some(hint.into()),
            ..Self::ok(check, detail)
        }
    }

    fn fail(check: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            state: State::Fail,
            hint: Some(hint.into()),
            ..Self::ok(check, detail)
        }
    }
}

impl Doctor {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let mut findings = Vec::new();
        match common.read(Vec::new(), registrations) {
            Err(errors) => findings.push(configured::unreadable(&errors)),
            Ok(config) => runtime()?.block_on(async {
                let status = daemon::status(&config).await;
                let configured = configured::look(common, &config, registrations, &status);
                findings.extend(configured.await);
                findings.extend(daemon::versions(&config, &status));
                findings.extend(machine::look(&config, &status));
                findings.extend(daemon::look(&config, &status).await);
                #[cfg(feature = "postgres")]
                findings.extend(cluster::look(&config).await);
            }),
        }
        self.print(&findings)?;
        let fails = findings.iter().any(|found| found.state == State::Fail);
        Ok(match fails {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    fn print(&self, findings: &[Finding]) -> Result<(), Failure> {
        if self.json {
            let text = serde_json::to_string_pretty(findings).map_err(Failure::new)?;
            println!("{text}");
            return Ok(());
        }
        for found in findings {
            let state = match found.state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "fail",
            };
            let hint = found.hint.as_ref().map(|hint| format!(" -> {hint}"));
            println!(
                "{state:4}  {}: {}{}",
                found.check,
                found.detail,
                hint.unwrap_or_default()
            );
        }
        Ok(())
    }
}
