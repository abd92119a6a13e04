//! Which facts are troubles. Each says what it is and what to do; where one wavers about its limit,
//! it ends only well on the other side.

use crate::words::counted;

/// What is known of the daemon at one moment; times are UTC microseconds.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub now: i64,
    pub channels: Vec<ChannelFact>,
    /// Parts that are not as they should be.
    pub parts: Vec<PartFact>,
    /// Unwell for longer is a trouble.
    pub down_after: i64,
    pub queues: Vec<QueueFact>,
    /// When the oldest event that nobody has decided yet was accepted.
    pub undecided_since: Option<i64>,
    pub undecided_after: i64,
    /// Parked ones; `None` where nobody wants to hear of them.
    pub dead_letters: Option<i64>,
    /// Answers that wait for a person.
    pub held: Option<i64>,
    pub disk: Option<DiskFact>,
}

#[derive(Debug, Clone)]
pub struct ChannelFact {
    pub id: String,
    pub heard_at: i64,
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

/// All of them. `known`: whether a trouble of this key was told and is not over.
pub fn troubles(facts: &Facts, known: impl Fn(&str) -> bool) -> Vec<Trouble> {
    let mut found = Vec::new();
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
        let silent = facts.now - channel.heard_at;
        if silent > silent_after {
            let what = format!(
                "channel {} has heard nothing for {}",
                channel.id,
                span(silent_after)
            );
            let todo = "look at its state in /readyz and at the provider's side; \
                `switchboard channel test` writes to it; if such silence is usual, raise silent_after";
            add(
                format!("silent_channel:{}", channel.id),
                channel.heard_at,
                0,
                what,
                todo,
            );
        }
    }
    for part in &facts.parts {
        if facts.now - part.since > facts.down_after {
            let kinds = ["channel:", "work:"].into_iter();
            let bare = kinds.filter_map(|kind| part.name.strip_prefix(kind)).next();
            let name = bare.unwrap_or(&part.name);
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
                "unreachable" => "see whether what it talks to is up and can be reached from here",
                _ => "the log says more; `switchboard doctor` looks at the rest",
            };
            add(format!("part:{}", part.name), part.since, 0, what, todo);
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
    found
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
