//! `reconcile`: what providers have, what was accepted, stored and routed, and every gap by name.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use connector_api::{Registration, Timestamp};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock::SystemClock;
use crate::config::parse_duration;
use crate::daemon::control::Request;
use crate::daemon::reconcile::ago;
use crate::reconcile::{ChannelReport, Gap, Outcome, ProviderState, Report};

use super::control::carry_out;
use super::{CommandResult, Common, Failure};

/// Exit code of a report with gaps.
const EXIT_GAPS: u8 = 3;
/// Exit code of a report without gaps in which something could not be asked.
const EXIT_INCOMPLETE: u8 = 4;

/// How far back it looks where nothing is said.
const SINCE: &str = "24h";

#[derive(Args)]
#[command(after_help = "\
Mailboxes are asked over IMAP, read-only and for headers alone; a provider that keeps no list of what it pushed is
reported as one that cannot be asked, never as one without gaps. What is younger than a minute counts as under way.
Erased contacts are neither gaps nor named.

Exit codes: 0 no gap, and everything was asked; 3 there are gaps, each is named; 4 no gap was found and something
could not be asked; 1 there is no report.")]
pub struct Reconcile {
    /// A time ago (7d, 12h), a date (2026-03-01, UTC) or a time (2026-03-01T09:00:00Z)
    #[arg(long, value_name = "DATE|DURATION", default_value = SINCE, value_parser = parse_since)]
    since: Since,
    /// Only this channel
    #[arg(long, value_name = "ID")]
    channel: Option<String>,
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Ago(Duration),
    At(Timestamp),
}

fn parse_since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(Since::At(at));
    }
    if let Ok(date) = text.parse::<Date>() {
        let at = date
            .to_zoned(TimeZone::UTC)
            .map_err(|error| error.to_string())?;
        return Ok(Since::At(at.timestamp()));
    }
    match parse_duration(text) {
        Ok(reach) => Ok(Since::Ago(reach)),
        Err(_) => Err("write 7d or 12h, 2026-03-01, or 2026-03-01T09:00:00Z".to_owned()),
    }
}

impl Reconcile {
    pub fn run(self, common: &Common, registrations: &[Registration]) -> CommandResult {
        let config = common.load(Vec::new(), registrations)?;
        let since = match self.since {
            Since::Ago(reach) => ago(&SystemClock, reach),
            Since::At(at) => at,
        };
        let request = Request::Reconcile {
            since,
            channel: self.channel,
        };
        let answer = carry_out(&config, registrations, &request)?;
        let text = match self.json {
            true => serde_json::to_string_pretty(&answer).unwrap_or_default(),
            false => String::new(),
        };
        let report: Report = serde_json::from_value(answer)
            .map_err(|error| Failure::new(format!("reading the answer: {error}")))?;
        let text = if self.json { text } else { told(&report) };
        if let Err(error) = writeln!(std::io::stdout(), "{}", text.trim_end())
            && error.kind() != std::io::ErrorKind::BrokenPipe
        {
            return Err(Failure::new(error));
        }
        Ok(match report.outcome {
            Outcome::Clean => ExitCode::SUCCESS,
            Outcome::Gaps => ExitCode::from(EXIT_GAPS),
            Outcome::Incomplete => ExitCode::from(EXIT_INCOMPLETE),
        })
    }
}

fn told(report: &Report) -> String {
    let mut text = format!("since {}\n", report.since);
    for channel in &report.channels {
        text.push_str(&told_of(channel));
    }
    if report.gone > 0 {
        write_line(
            &mut text,
            &format!("{} records are erased, or past their time", report.gone),
        );
    }
    for note in &report.notes {
        write_line(&mut text, note);
    }
    for gap in &report.gaps {
        text.push_str(&told_gap(gap));
    }
    let named = report.gaps.len() as u64;
    if report.gaps_total > named {
        let more = report.gaps_total - named;
        write_line(&mut text, &format!("{more} more gaps are not named"));
    }
    write_line(
        &mut text,
        match report.outcome {
            Outcome::Clean => "no gap",
            Outcome::Gaps => "there are gaps",
            Outcome::Incomplete => "no gap was found, and something could not be asked",
        },
    );
    text
}

fn told_of(channel: &ChannelReport) -> String {
    let mut text = format!("{}\n", channel.channel);
    let provider = &channel.provider;
    let reason = provider.reason.as_deref().unwrap_or_default();
    let words = match provider.state {
        ProviderState::CannotBeAsked => format!("cannot be asked: {reason}"),
        ProviderState::Failed => format!("did not answer: {reason}"),
        ProviderState::Asked => counts(&[
            ("items", provider.items),
            ("accepted", provider.accepted),
            ("under way", provider.under_way),
            ("from before", provider.outside),
            ("copies of what was sent", provider.copies),
            ("not compared", provider.not_compared),
        ]),
    };
    write_line(&mut text, &format!("  provider  {words}"));
    let accepted = &channel.accepted;
    let words = counts(&[
        ("messages", accepted.messages),
        ("changes", accepted.changes),
        ("changes that wait for their message", accepted.waiting),
        ("redeliveries", accepted.redeliveries),
        ("dead letters", accepted.dead_letters),
        ("under way", accepted.under_way),
    ]);
    write_line(&mut text, &format!("  accepted  {words}"));
    let routed = &channel.routed;
    let words = counts(&[
        ("in queues", routed.in_queues),
        ("with agents", routed.with_agents),
        ("with customers", routed.with_customers),
        ("snoozed", routed.snoozed),
        ("automation", routed.automation),
        ("ended", routed.ended),
        ("being removed", routed.going),
    ]);
    write_line(&mut text, &format!("  routed    {words}"));
    let replies = &channel.replies;
    let words = counts(&[
        ("waiting", replies.waiting),
        ("under way", replies.under_way),
        ("sent", replies.sent),
        ("delivered", replies.delivered),
        ("refused", replies.refused),
        ("unknown", replies.unknown),
    ]);
    write_line(&mut text, &format!("  replies   {words}"));
    text
}

fn told_gap(gap: &Gap) -> String {
    let mut text = format!("gap {}", gap.kind.as_str());
    let at = gap.at.map(|at| at.to_string());
    for (name, value) in [
        ("channel", &gap.channel),
        ("provider id", &gap.provider_id),
        ("message-id", &gap.message_id),
        ("id", &gap.id),
        ("conversation", &gap.conversation_id),
        ("at", &at),
    ] {
        if let Some(value) = value {
            write!(text, ", {name} {value}").expect("a string takes what is written");
        }
    }
    text.push('\n');
    if let Some(reason) = &gap.reason {
        write_line(&mut text, &format!("    {reason}"));
    }
    write_line(&mut text, &format!("    {}", gap.next));
    text
}

/// Those that there are.
fn counts(all: &[(&str, u64)]) -> String {
    let some = all.iter().filter(|(_, count)| *count > 0);
    let words: Vec<String> = some
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    match words.is_empty() {
        true => "nothing".to_owned(),
        false => words.join(", "),
    }
}

/// What customers and providers call things must not look like a line of ours.
fn write_line(text: &mut String, line: &str) {
    text.extend(line.chars().map(|c| if c.is_control() { ' ' } else { c }));
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_a_time_ago_a_date_or_a_time() {
        let at = |text: &str| Since::At(text.parse().unwrap());
        for (text, expected) in [
            ("7d", Ok(Since::Ago(Duration::from_secs(7 * 24 * 3600)))),
            ("2026-03-01", Ok(at("2026-03-01T00:00:00Z"))),
            ("2026-03-01T09:00:00Z", Ok(at("2026-03-01T09:00:00Z"))),
            ("yesterday", Err(())),
        ] {
            assert_eq!(parse_since(text).map_err(drop), expected, "{text}");
        }
    }
}
