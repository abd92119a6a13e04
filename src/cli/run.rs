//! `run` and `check-config`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use connector_api::{Clock, HttpClient, Registration};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::channels::{self, Moment};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigErrors, Flag, Origin, effective};
use crate::daemon::notify::{Introduction, Manager};
use crate::daemon::reload::{Reload, Source, log_refusal};
use crate::daemon::{Daemon, SHUTDOWN_MAX, StartError, certificates, refuse_missing, targets};
use crate::http::Reqwest;
use crate::words::counted;

use super::{CommandResult, Common, Failure, logs, runtime};

const BLOCKING_FINISH_MAX: Duration = Duration::from_millis(500);

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(
    common: &Common,
    listen: Option<String>,
    restored: bool,
    registrations: &[Registration],
) -> CommandResult {
    let flags: Vec<Flag> = listen
        .map(|listen| Flag::new("--listen", "server.listen", listen))
        .into_iter()
        .collect();
    let config = common.load(flags.clone(), registrations)?;
    logs(&config);
    info!("configuration: {}", common.source());
    hide_panic_messages();
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        // From the beginning: the default of this signal is to end the process.
        let hangup = signal(SignalKind::hangup())
            .map_err(|error| Failure::new(format!("listening for signals: {error}")))?;
        let manager = Arc::new(Manager::new(&Introduction::of_process()));
        let daemon = Daemon::start(config, registrations, restored, manager.clone())
            .await
            .map_err(start_failure)?;
        let (common, known) = (common.clone(), registrations.to_vec());
        daemon.reloads_from(Source {
            file: common.file(),
            load: Box::new(move || common.read(flags.clone(), &known)),
        });
        let reload = daemon.reload.clone();
        let name = tokio::select! {
            name = wait_for_signal() => name?,
            failed = reload_at_signals(&reload, hangup) => return Err(failed),
        };
        info!("{name} received, stopping");
        manager.stopping();
        if tokio::time::timeout(SHUTDOWN_MAX, daemon.stop())
            .await
            .is_err()
        {
            return Err(Failure::new(
                "stopping took too long, ended all the same; what was accepted is durable",
            ));
        }
        Ok(ExitCode::SUCCESS)
    });
    // Blocking work that hangs (a name lookup) does not hold the process up.
    runtime.shutdown_timeout(BLOCKING_FINISH_MAX);
    result
}

/// A panic's message may quote a customer's words: the log gets only where it happened.
fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "a part of switchboard panicked at {place}");
    }));
}

pub fn start_failure(error: StartError) -> Failure {
    match error {
        StartError::Config(errors) => Failure::config(&errors),
        other => Failure::new(other),
    }
}

/// Reads the configuration again at each SIGHUP; returns only when signals cannot be heard.
async fn reload_at_signals(reload: &Reload, mut hangup: Signal) -> Failure {
    while hangup.recv().await.is_some() {
        info!("SIGHUP received, reading the configuration again");
        if let Err(wrong) = reload.run().await {
            log_refusal(&wrong);
        }
    }
    Failure::new("no more signals can be heard")
}

/// Returns the name of the signal that ends the process.
pub async fn wait_for_signal() -> Result<&'static str, Failure> {
    let listen = |kind| {
        signal(kind).map_err(|error| Failure::new(format!("listening for signals: {error}")))
    };
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}

/// Loads the configuration and builds every channel, without connecting anywhere.
pub fn check(common: &Common, print: bool, registrations: &[Registration]) -> CommandResult {
    let config = common.load(Vec::new(), registrations)?;
    let good = good(&config, registrations).map_err(|errors| Failure::config(&errors))?;
    for warning in &good.warnings {
        eprintln!("warning: {warning}");
    }
    if print {
        println!("{}", effective(&config));
    } else {
        println!("the configuration is good: {}", good.summary);
        println!("read from {}", common.source());
    }
    Ok(ExitCode::SUCCESS)
}

/// A configuration that nothing is wrong with.
pub struct Good {
    /// What there is.
    pub summary: String,
    /// What is probably not meant.
    pub warnings: Vec<String>,
}

/// Builds every channel, reads the listener's certificate and looks for what a start needs; sums up what there
/// is, or says all that is wrong.
pub fn good(config: &Config, registrations: &[Registration]) -> Result<Good, ConfigErrors> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let mut errors = ConfigErrors::default();
    let mut warnings = Vec::new();
    let mut note = |found: ConfigErrors| errors.extend(found);
    match Reqwest::new() {
        Err(error) => {
            let mut found = ConfigErrors::default();
            let reason = format!("building the HTTP client: {error}");
            found.push(Origin::BuiltIn, "", reason);
            note(found);
        }
        Ok(http) => {
            let http: Arc<dyn HttpClient> = Arc::new(http);
            match channels::build(config, registrations, &clock, &http, &Arc::default()) {
                Ok(built) => {
                    let said = channels::warnings(config, &built).into_iter();
                    warnings.extend(said.map(|(place, warning)| format!("{place}: {warning}")));
                    targets(config, &built, Moment::Start).map_or_else(&mut note, drop);
                }
                Err(found) => note(found),
            }
        }
    }
    if let Err(found) = certificates(config, clock.now()) {
        note(found);
    }
    if let Err(found) = refuse_missing(config) {
        note(found);
    }
    errors.unless_any(Good {
        summary: summary(config),
        warnings,
    })
}

/// How much of everything there is.
pub fn summary(config: &Config) -> String {
    let counts = [
        counted(config.channels.len(), "channel", "channels"),
        counted(config.queues.len(), "queue", "queues"),
        counted(config.rules.len(), "rule", "rules"),
    ];
    counts.join(", ")
}
