//! Which facts are troubles. Each says what it is and what to do; where one wavers about its limit,
//! it ends only well on the other side.

use std::collections::BTreeMap;

use crate::words::counted;

use super::Told;

/// What is known of the daemon at one moment; times are UTC microseconds.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now: i64,
    pub channels: Vec<ChannelFact>,
    /// Parts that are not as they should be.
    pub parts: Vec<PartFact>,
    /// Unwell for longer is a trouble.
    pub down_after: i64,
    pub lanes: Vec<LaneFact>,
    /// An answer that has not left for longer is a trouble.
    pub unsent_after: i64,
    pub queues: Vec<QueueFact>,
    /// When the oldest event that nobody has decided yet was accepted.
    pub undecided_since: Option<i64>,
    pub undecided_after: i64,
    /// Parked ones; `None` where nobody wants to hear of them.
    pub dead_letters: Option<i64>,
    /// Answers that wait for a person.
    pub held: Option<i64>,
    pub disk: Option<DiskFact>,
    /// Of what nothing is known now: keys of troubles, or kinds of them (`oldest_wait:`). What was
    /// told of them is not over for that.
    pub unknown: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct ChannelFact {
    pub id: String,
    pub heard_at: i64,
    /// Since when it could be heard: while the daemon was down, nothing could.
    pub listens_since: i64,
    /// Silence for longer is a trouble.
    pub silent_after: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct PartFact {
    pub name: String,
    pub state: &'static str,
    pub reason: String,
    pub since: i64,
}

/// A channel that has answers to send.
#[derive(Debug, Clone)]
pub struct LaneFact {
    pub channel: String,
    /// Since when the oldest of them was to leave.
    pub due_since: i64,
}

#[derive(Debug, Clone)]
pub struct QueueFact {
    pub id: String,
    pub oldest_enqueued_at: Option<i64>,
    pub oldest_wait: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub struct DiskFact {
    pub free_bytes: u64,
    pub free_min_bytes: u64,
}

/// Something that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Kind and what it is about: `silent_channel:support-mail`.
    pub key: String,
    pub since: i64,
    /// How many, where that can grow.
    pub count: i64,
    pub what: String,
    pub todo: String,
}

/// All of them. `told` is what whoever asks was told and is not over: that ends only where its part
/// was seen well since.
pub fn troubles(facts: &Facts, told: &BTreeMap<String, Told>) -> Vec<Trouble> {
    let mut found = Vec::new();
    let known = |key: &str| told.contains_key(key);
    let mut add = |key: String, since: i64, count: i64, what: String, todo: &str| {
        found.push(Trouble {
            key,
            since,
            count,
            what,
            todo: todo.to_owned(),
        });
    };
    for channel in &facts.channels {
        let Some(silent_after) = channel.silent_after else {
            continue;
        };
        let key = format!("silent_channel:{}", channel.id);
        let since = match known(&key) {
            true => channel.heard_at,
            false => channel.heard_at.max(channel.listens_since),
        };
        if facts.now - since > silent_after {
            let what = format!(
                "channel {} has heard nothing for {}",
                channel.id,
                span(silent_after)
            );
            let todo = "look at its state in /readyz and at the provider's side; \
                `switchboard channel test` writes to it; if such silence is usual, raise silent_after";
            add(key, since, 0, what, todo);
        }
    }
    for part in &facts.parts {
        let key = format!("part:{}", part.name);
        if known(&key) || facts.now - part.since > facts.down_after {
            let lane = part.name.strip_prefix("channel:outbound:");
            let kinds = ["channel:", "work:"].into_iter();
            let bare = kinds.filter_map(|kind| part.name.strip_prefix(kind)).next();
            let name = match lane {
                Some(channel) => format!("sending by {channel}"),
                None => bare.unwrap_or(&part.name).to_owned(),
            };
            let what = format!("{name} is {}: {}", part.state, part.reason);
            let todo = match part.state {
                _ if part.name == "config" => {
                    "the daemon goes on with the configuration that it had: correct what is named, \
                     then `switchboard reload`"
                }
                "unauthorized" => {
                    "its credentials are refused: renew them, then `switchboard reload` (a secret in the \
                     environment needs a restart)"
                }
                "degraded" if lane.is_some() => {
                    "see its limits at the provider; what waits leaves by itself once it is taken"
                }
                "unreachable" => "see whether what it talks to is up and can be reached from here",
                _ => "the log says more; `switchboard doctor` looks at the rest",
            };
            add(key, part.since, 0, what, todo);
        }
    }
    for lane in &facts.lanes {
        if facts.now - lane.due_since > facts.unsent_after {
            let (channel, limit) = (&lane.channel, span(facts.unsent_after));
            let what =
                format!("an answer by {channel} has been waiting to leave for more than {limit}");
            let todo =
                "see why: `switchboard outbox list --state queued`; it is tried for five days";
            add(format!("unsent:{channel}"), lane.due_since, 0, what, todo);
        }
    }
    for queue in &facts.queues {
        let (Some(oldest), Some(limit)) = (queue.oldest_enqueued_at, queue.oldest_wait) else {
            continue;
        };
        if facts.now - oldest > limit {
            let what = format!(
                "somebody has waited in queue {} for more than {}",
                queue.id,
                span(limit)
            );
            let todo = "see who works this queue; more agents, or a rule that spreads the work";
            add(format!("oldest_wait:{}", queue.id), oldest, 0, what, todo);
        }
    }
    if let Some(since) = facts.undecided_since
        && facts.now - since > facts.undecided_after
    {
        let what = format!(
            "messages are accepted and nothing becomes of them for {}",
            span(facts.undecided_after)
        );
        let todo = "see `router` in /readyz and the log; nothing is lost, it is decided once the router goes on";
        add("undecided".to_owned(), since, 0, what, todo);
    }
    if let Some(letters) = facts.dead_letters.filter(|letters| *letters > 0) {
        let what = counted(
            letters,
            "message could not be filed",
            "messages could not be filed",
        );
        let todo =
            "`switchboard dead-letters list` says why; file them with `dead-letters redrive`";
        add("dead_letters".to_owned(), facts.now, letters, what, todo);
    }
    if let Some(held) = facts.held.filter(|held| *held > 0) {
        let what = counted(
            held,
            "answer is held: nobody knows whether it arrived",
            "answers are held: nobody knows whether they arrived",
        );
        let todo = "`switchboard outbox list --state unknown`, then `outbox settle`";
        add("outbox_held".to_owned(), facts.now, held, what, todo);
    }
    if let Some(disk) = facts.disk {
        // Once told, a tenth more than the limit has to be free.
        let margin = match known("disk") {
            true => disk.free_min_bytes / 10,
            false => 0,
        };
        if disk.free_bytes < disk.free_min_bytes.saturating_add(margin) {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let what = format!(
                "the disk of the data directory has {:.1} GiB free, less than {:.1}",
                gib(disk.free_bytes),
                gib(disk.free_min_bytes)
            );
            let todo = "make room: with a full disk every message is refused";
            add("disk".to_owned(), facts.now, 0, what, todo);
        }
    }
    for told in told.values() {
        let found_again = found.iter().any(|trouble| trouble.key == told.key);
        if !found_again && is_unknown(&told.key, &facts.unknown) {
            found.push(Trouble {
                key: told.key.clone(),
                since: told.since,
                count: told.count,
                what: told.what.clone(),
                todo: "nothing newer is known of it; `switchboard doctor` looks".to_owned(),
            });
        }
    }
    found
}

fn is_unknown(key: &str, unknown: &[String]) -> bool {
    let is = |unknown: &String| match unknown.ends_with(':') {
        true => key.starts_with(unknown),
        false => key == unknown,
    };
    unknown.iter().any(is)
}

/// In the largest whole unit.
fn span(micros: i64) -> String {
    let seconds = micros / 1_000_000;
    match seconds {
        s if s >= 172_800 => format!("{} days", s / 86_400),
        s if s >= 7_200 => format!("{} hours", s / 3_600),
        s if s >= 120 => format!("{} minutes", s / 60),
        s => format!("{s} seconds"),
    }
}
