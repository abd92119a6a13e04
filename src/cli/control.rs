//! `token` and `dead-letters`: through the control socket where a daemon runs, else on the data
//! directory itself.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use connector_api::{ChannelId, Clock, HttpClient, Registration};
use serde_json::Value;

use crate::channels::{self, LiveChannels};
use crate::clock::SystemClock;
use crate::config::Config;
use crate::credentials::Keeper;
use crate::daemon::control::{Answer, Control, Request, ask, is_up};
use crate::daemon::reconcile::{DECIDED_WITHIN, Reconciler};
use crate::daemon::{DataDir, Installation, Keys, policy};
use crate::dispatch::Role;
use crate::http::Reqwest;
use crate::live::Live;
use crate::store::SCOPE_ACT_AS;

use super::run::start_failure;
use super::{CommandResult, Common, Failure, runtime};

#[derive(Subcommand)]
pub enum Token {
    /// Make a token and print it alone; it is shown only now
    Create {
        /// agent, supervisor, admin, connector or reader
        #[arg(long, value_parser = parse_role)]
        role: Role,
        /// The agent that works with it
        #[arg(long)]
        agent: Option<String>,
        /// Queues it reaches, separated by commas [default: all]
        #[arg(long, value_delimiter = ',')]
        queues: Vec<String>,
        /// Brands it reaches, separated by commas [default: all]
        #[arg(long, value_delimiter = ',')]
        brands: Vec<String>,
        /// It may act for agents by naming them in the header Switchboard-Agent: for a backend that
        /// knows who its users are
        #[arg(long)]
        act_as: bool,
        /// What to call it in lists
        #[arg(long, default_value = "")]
        label: String,
    },
    /// List all tokens, without their secrets
    List,
    /// Make a token invalid at once
    Revoke {
        /// Id of the token, `tok_…`
        id: String,
    },
}

#[derive(Subcommand)]
pub enum DeadLetters {
    /// List them, newest first
    List,
    /// Show one with its bytes
    Show {
        /// Id, `msg_…`
        id: String,
    },
    /// File it again, once what made it fail is mended
    Redrive {
        /// Id, `msg_…`
        id: String,
    },
}

fn parse_role(text: &str) -> Result<Role, String> {
    let names: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    Role::parse(text).ok_or_else(|| format!("use one of {}", names.join(", ")))
}

impl Token {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let alone = matches!(self, Self::Create { .. });
        let request = match self {
            Self::Create {
                role,
                agent,
                queues,
                brands,
                act_as,
                label,
            } => {
                check_reach(&config, &queues, &brands)?;
                if act_as && !role.works() {
                    return Err(Failure::new(
                        "--act-as needs --role agent or supervisor: the others do no agent's work",
                    ));
                }
                if role == Role::Agent && agent.is_none() && !act_as {
                    return Err(Failure::new(
                        "--role agent needs --agent NAME: conversations are assigned to that name",
                    ));
                }
                Request::TokenCreate {
                    label,
                    role: role.as_str().to_owned(),
                    agent,
                    queues,
                    brands,
                    scopes: act_as
                        .then(|| SCOPE_ACT_AS.to_owned())
                        .into_iter()
                        .collect(),
                }
            }
            Self::List => Request::TokenList,
            Self::Revoke { id } => Request::TokenRevoke { id },
        };
        let answer = carry_out(&config, registrations, &request)?;
        match (alone, answer.get("token").and_then(Value::as_str)) {
            (true, Some(token)) => {
                print(token)?;
                eprintln!(
                    "id {}",
                    answer.get("id").and_then(Value::as_str).unwrap_or_default()
                );
            }
            _ => print_value(&answer)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl DeadLetters {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let request = match self {
            Self::List => Request::DeadLetterList,
            Self::Show { id } => Request::DeadLetterShow { id },
            Self::Redrive { id } => Request::DeadLetterRedrive { id },
        };
        print_value(&carry_out(&config, registrations, &request)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn check_reach(config: &Config, queues: &[String], brands: &[String]) -> Result<(), Failure> {
    let unknown_queue = queues
        .iter()
        .find(|queue| !config.queues.keys().any(|known| known.as_str() == *queue));
    if let Some(queue) = unknown_queue {
        let known: Vec<&str> = config
            .queues
            .keys()
            .map(connector_api::QueueId::as_str)
            .collect();
        return Err(Failure::new(format!(
            "there is no queue \"{queue}\"; the configuration has {}",
            known.join(", ")
        )));
    }
    let unknown_brand = brands
        .iter()
        .find(|brand| !config.brands.keys().any(|known| known.as_str() == *brand));
    match unknown_brand {
        Some(brand) => Err(Failure::new(format!("there is no brand \"{brand}\""))),
        None => Ok(()),
    }
}

/// One line per element of a list, else one pretty document.
pub fn print_value(value: &Value) -> Result<(), Failure> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| print(&item.to_string())),
        other => print(&serde_json::to_string_pretty(other).unwrap_or_default()),
    }
}

/// A closed pipe (`| head`) is no failure.
fn print(line: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::new(error)),
        _ => Ok(()),
    }
}

pub fn carry_out(
    config: &Config,
    registrations: &[Registration],
    request: &Request,
) -> Result<Value, Failure> {
    runtime()?.block_on(async {
        let desk = Desk::open(config, registrations, None).await?;
        desk.ask(request.clone()).await
    })
}

/// Who carries requests out: the daemon that runs on the data directory, or this command, which then
/// holds the directory until it is dropped.
pub enum Desk {
    Daemon(PathBuf),
    Own {
        control: Box<Control>,
        _held: DataDir,
    },
}

impl Desk {
    /// Of a channel that is `needed`, everything that is wrong with it is said.
    pub async fn open(
        config: &Config,
        registrations: &[Registration],
        needed: Option<&ChannelId>,
    ) -> Result<Self, Failure> {
        if is_up(&config.server.data_dir).await {
            return Ok(Self::Daemon(config.server.data_dir.clone()));
        }
        let data_dir = DataDir::hold(&config.server.data_dir).map_err(start_failure)?;
        let control = offline(config, registrations, &data_dir, needed).await?;
        Ok(Self::Own {
            control: Box::new(control),
            _held: data_dir,
        })
    }

    pub async fn ask(&self, request: Request) -> Result<Value, Failure> {
        let answer = match self {
            Self::Daemon(data_dir) => ask(data_dir, &request)
                .await
                .unwrap_or_else(|| Answer::Error("the daemon went away".to_owned())),
            Self::Own { control, .. } => control.answer(request).await,
        };
        match answer {
            Answer::Result(value) => Ok(value),
            Answer::Error(error) => Err(Failure::new(error)),
        }
    }
}

/// What the daemon would use, on a data directory that no daemon holds.
async fn offline(
    config: &Config,
    registrations: &[Registration],
    data_dir: &DataDir,
    needed: Option<&ChannelId>,
) -> Result<Control, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let opened = Installation::open(config, &data_dir.path).await;
    let installation = opened.map_err(start_failure)?;
    let store = installation.store();
    let blobs = installation.blobs(config, data_dir).await;
    let blobs = blobs.map_err(start_failure)?;
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let http: Arc<dyn HttpClient> = Arc::new(Reqwest::new().map_err(Failure::new)?);
    let keeper = Arc::new(Keeper::default());
    let build = |config: &Config| channels::build(config, registrations, &clock, &http, &keeper);
    let built = match needed {
        // Tokens need no working channels; a redrive only needs to know which ones there are.
        None => build(config).unwrap_or_default(),
        Some(id) => {
            let mut alone = config.clone();
            alone.channels.retain(|known, _| known == id);
            build(&alone).map_err(|errors| Failure::config(&errors))?
        }
    };
    let keys = Keys::derive(store.installation_key());
    let policy = Arc::new(policy(config, &built, &keys));
    keeper.open(store.clone(), keys.vault);
    let (channels, policy) = (LiveChannels::from(built), Live::from(policy));
    let reconciler = Arc::new(Reconciler {
        store: store.clone(),
        channels: channels.clone(),
        policy: policy.clone(),
        clock: clock.clone(),
        bus: None,
        decided_within: DECIDED_WITHIN,
        turn: Default::default(),
    });
    Ok(Control {
        store,
        channels,
        policy,
        blobs,
        ids: keys.ids,
        clock,
        queues: Arc::default(),
        outbox: Arc::default(),
        sources: Arc::default(),
        sending: false,
        importer: None,
        tests: None,
        about: None,
        reload: None,
        reconciler,
    })
}
