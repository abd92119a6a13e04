//! Logs and metrics of the process.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat, LogLevel};

/// Seconds, from a fast commit to one that a user notices.
const SECONDS: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0,
];
/// Seconds that a message was under way, from at once to days.
const DELAYS: [f64; 10] = [
    0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0,
];
const MESSAGES: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

/// How the names of metrics begin that tell how long messages were under way.
const DELAY: &str = "switchboard_delay_";

/// Installs the metrics recorder, once per process.
pub fn metrics() -> Result<PrometheusHandle, String> {
    static HANDLE: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> Result<PrometheusHandle, String> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_messages".to_owned()), &MESSAGES)
        })
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Prefix(DELAY.to_owned()), &DELAYS)
        });
    let recorder = builder.map_err(|error| error.to_string())?.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| error.to_string())?;
    Ok(handle)
}

/// Sets the least important lines shown.
type SetLevel = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;
static LEVEL: OnceLock<SetLevel> = OnceLock::new();

/// Sends logs to standard error; `RUST_LOG` overrides the configured level. A second call in one
/// process keeps the first one's settings.
pub fn logs(log: &Log) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| filter(log.level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    let (installed, set): (_, SetLevel) = match log.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (builder.try_init(), Box::new(set))
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
            (builder.try_init(), Box::new(set))
        }
    };
    if installed.is_err() || LEVEL.set(set).is_err() {
        tracing::debug!("logs are set up already");
    }
}

/// Shows lines of another level from now on, unless `RUST_LOG` says which.
pub fn set_level(level: LogLevel) {
    if EnvFilter::try_from_default_env().is_ok() {
        return;
    }
    if let Some(set) = LEVEL.get()
        && let Err(error) = set(filter(level))
    {
        tracing::warn!(error, "setting the level of the log failed");
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = tracing::Level::from(level).to_string().to_lowercase();
    // What a bucket's client tries again is told by the state of the files.
    match level.as_str() {
        "info" => EnvFilter::new("info,object_store=warn"),
        other => EnvFilter::new(other),
    }
}
