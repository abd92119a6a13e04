//! The configuration, as far as it can be judged from this shell: secrets of the daemon's environment
//! are the daemon's.

use std::collections::{BTreeMap, BTreeSet};

use connector_api::{ChannelId, Registration};

use crate::channels::{Needing, unset};
use crate::cli::reload::same_file;
use crate::cli::{Common, run};
use crate::config::{Config, ConfigErrors};
use crate::daemon::control::{Answer, Request, ask};

use super::Finding;
use super::daemon::Running;

const MEND: &str = "mend these places; switchboard check-config says them line by line";

/// What is wrong with a configuration that cannot even be read.
pub fn unreadable(errors: &ConfigErrors) -> Finding {
    let errors = errors.to_string().trim_end().replace('\n', "; ");
    Finding::fail("config", errors, MEND)
}

pub async fn look(
    common: &Common,
    config: &Config,
    registrations: &[Registration],
    status: &Running,
) -> Vec<Finding> {
    let runs = matches!(status, Ok(Some(_)));
    let missing = match runs {
        true => unset(config),
        // Whoever starts it from here starts it without them.
        false => BTreeMap::new(),
    };
    let judged = without(config, &missing);
    let mut findings = match run::good(&judged, registrations) {
        Err(errors) => {
            let mut found = unreadable(&errors);
            if !runs && !unset(config).is_empty() {
                found.hint = Some(format!(
                    "{MEND}; an environment variable is set where the daemon is started, or \
                     {{ file = \"…\" }} takes its place"
                ));
            }
            vec![found]
        }
        Ok(good) => {
            let summary = run::summary(config);
            let detail = format!("{summary}, from {}", common.source());
            std::iter::once(Finding::ok("config", detail))
                .chain(good.warnings.into_iter().map(|warning| {
                    let hint = "nothing is refused for it; if it is meant, it may stay";
                    Finding::warn("config", warning, hint)
                }))
                .collect()
        }
    };
    findings.extend(another_file(common, status));
    findings.extend(environment(config, &missing).await);
    findings
}

/// The configuration without those who need a secret that only the daemon has.
fn without(config: &Config, missing: &BTreeMap<String, Needing>) -> Config {
    let mut judged = config.clone();
    let gone: BTreeSet<&ChannelId> = missing.values().flat_map(|who| &who.channels).collect();
    judged.channels.retain(|id, _| !gone.contains(id));
    if missing.values().any(|who| who.alerts) {
        judged.alerts.webhook = None;
    }
    let mails = judged.alerts.mail.as_ref();
    if mails.is_some_and(|mail| gone.contains(&mail.channel)) {
        judged.alerts.mail = None;
    }
    judged
}

/// That a reload would not read what was looked at here.
fn another_file(common: &Common, status: &Running) -> Option<Finding> {
    let Ok(Some(status)) = status else {
        return None;
    };
    let here = common.file()?;
    if same_file(status.config_file.as_deref(), &here) {
        return None;
    }
    let theirs = match &status.config_file {
        Some(file) => format!("reads {}", file.display()),
        None => "was started without a configuration file".to_owned(),
    };
    Some(Finding::warn(
        "config",
        format!("the daemon {theirs}; this looked at {}", here.display()),
        "name the daemon's file: --config",
    ))
}

/// One line for each variable that this shell does not have.
async fn environment(config: &Config, missing: &BTreeMap<String, Needing>) -> Vec<Finding> {
    if missing.is_empty() {
        return Vec::new();
    }
    let names = missing.keys().cloned().collect();
    let asked = ask(&config.server.data_dir, &Request::Environment { names }).await;
    let known: BTreeMap<String, bool> = match asked {
        Some(Answer::Result(value)) => serde_json::from_value(value).unwrap_or_default(),
        _ => BTreeMap::new(),
    };
    let finding = |(name, who): (&String, &Needing)| {
        let mut users: Vec<&str> = who.channels.iter().map(ChannelId::as_str).collect();
        users.extend(who.alerts.then_some("alerts"));
        let detail = |has: &str| {
            let users = users.join(", ");
            format!("{name} (for {users}) is not set in this shell; the running daemon {has}")
        };
        match known.get(name) {
            Some(true) => Finding::ok("environment", detail("has it")),
            Some(false) => Finding::warn(
                "environment",
                detail("was started without it"),
                "a reload cannot bring it: restart the daemon with it, or write { file = \"…\" } and \
                 `switchboard reload`",
            ),
            None => Finding::warn(
                "environment",
                detail("did not say whether it has it"),
                "restart the daemon with the same version as this command",
            ),
        }
    };
    missing.iter().map(finding).collect()
}
