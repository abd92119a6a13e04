//! The channels: what the daemon finds when it tries each thing that they need, and how they stand.

use connector_api::Health;

use crate::config::Config;
use crate::daemon::channel_test::{RENEW, hint};
use crate::daemon::control::status::{Checked, Stands, Status};
use crate::daemon::control::{Answer, Request, ask};
use crate::words::counted;

use super::Finding;

/// Each thing that a channel needs of its provider, tried now by the daemon.
pub async fn checked(config: &Config) -> Vec<Finding> {
    let answer = ask(&config.server.data_dir, &Request::ChannelChecks).await;
    let failed = |error: String| {
        let hint = "restart the daemon with the same version as this command";
        vec![Finding::fail("channel", error, hint)]
    };
    let checked: Vec<Checked> = match answer {
        Some(Answer::Result(value)) => match serde_json::from_value(value) {
            Ok(checked) => checked,
            Err(error) => return failed(format!("reading what was tried: {error}")),
        },
        Some(Answer::Error(error)) => return failed(error),
        None => return failed("the daemon ended while its channels were tried".to_owned()),
    };
    checked.iter().map(of_check).collect()
}

fn of_check(checked: &Checked) -> Finding {
    let Checked { channel, check } = checked;
    let detail = format!("{channel}: {}: {}", check.what, check.detail());
    match (hint(&check.health), &check.health) {
        (None, _) => Finding::ok("channel", detail),
        (Some(hint), Health::Unauthorized { .. } | Health::Unreachable { .. }) => {
            Finding::fail("channel", detail, hint)
        }
        (Some(hint), _) => Finding::warn("channel", detail, hint),
    }
}

/// One line for each channel and part; those that are well share a line for all parts.
pub fn states(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut parts = 0;
    for (name, stands) in &status.states {
        match name.strip_prefix("channel:") {
            Some(channel) if !channel.starts_with('#') => {
                findings.push(of_state("channel", channel, stands));
            }
            _ if stands.state == "ready" => parts += 1,
            _ => findings.push(of_state("part", name, stands)),
        }
    }
    findings.push(Finding::ok(
        "parts",
        counted(parts, "is ready", "are ready"),
    ));
    findings
}

fn of_state(check: &'static str, name: &str, stands: &Stands) -> Finding {
    let state = stands.state.as_str();
    let lane = name.strip_prefix("outbound:");
    let detail = match (stands.reason.as_deref(), lane, stands.worked_at) {
        (Some(reason), ..) => format!("{name} is {state}: {reason}"),
        (None, Some(_), Some(at)) if state == "ready" => {
            format!("{name} is ready, it sent at {at:.0}")
        }
        // Nobody is to read it as proven.
        (None, Some(_), None) if state == "ready" => {
            format!(
                "{name}: nothing was sent since the daemon started, so nothing is known against it"
            )
        }
        _ => format!("{name} is {state}"),
    };
    match state {
        "ready" => Finding::ok(check, detail),
        "standby" => Finding::ok(check, format!("{detail}: another process does it")),
        "unauthorized" => Finding::fail(check, detail, RENEW),
        "unreachable" if check == "channel" || lane.is_some() => Finding::fail(
            check,
            detail,
            format!(
                "it tries again by itself; switchboard channel test {} says where it ends",
                lane.unwrap_or(name)
            ),
        ),
        "unreachable" => Finding::fail(check, detail, "it goes on by itself once that is mended"),
        "starting" => Finding::warn(check, detail, "look again in a moment"),
        _ => Finding::warn(check, detail, of_degraded(name)),
    }
}

/// What mends a part that works and not as it should.
fn of_degraded(name: &str) -> &'static str {
    match name {
        "config" => {
            "the daemon goes on with the configuration that it had: correct what is named, then \
             `switchboard reload`"
        }
        "outbox" => "switchboard outbox list --state restored",
        "tls" => "put a valid pair in its place; it is taken over without a restart",
        _ => "it goes on by itself once what it names is over; the daemon's log says more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, state: &str, reason: Option<&str>, sent: bool, expected: &str) {
        check_of("channel", name, state, reason, sent, expected);
    }

    fn check_of(
        of: &'static str,
        name: &str,
        state: &str,
        reason: Option<&str>,
        sent: bool,
        expected: &str,
    ) {
        let stands = Stands {
            state: state.to_owned(),
            reason: reason.map(str::to_owned),
            worked_at: sent.then_some(connector_api::Timestamp::UNIX_EPOCH),
        };
        let found = of_state(of, name, &stands);
        let hint = found.hint.map(|hint| format!(" -> {hint}"));
        let said = format!("{}{}", found.detail, hint.unwrap_or_default());
        assert!(said.contains(expected), "{said}");
    }

    #[test]
    fn a_state_is_told_for_what_it_is_and_with_what_mends_it() {
        check(
            "outbound:mail",
            "ready",
            None,
            false,
            "nothing was sent since",
        );
        check(
            "outbound:mail",
            "ready",
            None,
            true,
            "it sent at 1970-01-01",
        );
        check("mail", "ready", None, false, "mail is ready");
        let refused = Some("smtp mx:587: the server refused the login");
        check(
            "outbound:mail",
            "unauthorized",
            refused,
            true,
            "`switchboard reload`",
        );
        check(
            "outbound:mail",
            "unreachable",
            refused,
            true,
            "channel test mail says",
        );
        let wrong = Some("the last reload was refused");
        check(
            "config",
            "degraded",
            wrong,
            false,
            "correct what is named, then `switchboard reload`",
        );
        check(
            "outbox",
            "degraded",
            Some("restored"),
            false,
            "outbox list --state restored",
        );
        check(
            "work:retention",
            "degraded",
            Some("late"),
            false,
            "goes on by itself",
        );
        check_of(
            "part",
            "work:relay-events",
            "unreachable",
            Some("no broker answers"),
            false,
            "no broker answers -> it goes on by itself once that is mended",
        );
        check_of(
            "part",
            "work:relay-events",
            "standby",
            None,
            false,
            "standby: another process does it",
        );
    }
}
