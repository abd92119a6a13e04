//! What the new configuration lacks that the old installation has something for: what waits there would come to other
//! people than it is meant for, or come back to its agents.

use std::collections::BTreeMap;

use crate::bus::{Content, decode};
use crate::config::Config;
use crate::store::moving::Result;
use crate::store::sqlite::moving::Source;

/// A line for each channel and queue that is missing, with what to do.
pub fn missing(config: &Config, source: &Source) -> Result<Vec<String>> {
    let has_channel = |name: &str| config.channels.keys().any(|id| id.as_str() == name);
    let has_queue = |name: &str| config.queues.keys().any(|id| id.as_str() == name);
    let lines = |what: &str, kind: &str, found: BTreeMap<String, u64>| {
        let (what, kind) = (what.to_owned(), kind.to_owned());
        found.into_iter().map(move |(name, count)| {
            format!(
                "[{kind}.{name}] is not in the new configuration, and {what} there: {count}. Put it into it, or settle \
                 them where they are first"
            )
        })
    };
    let without = |all: BTreeMap<String, u64>, has: &dyn Fn(&str) -> bool| {
        let missing = all.into_iter().filter(|(name, _)| !has(name));
        missing.collect::<BTreeMap<_, _>>()
    };
    let unsent = without(source.unsent()?, &has_channel);
    let undecided = without(undecided(source)?, &has_channel);
    let open = without(source.open_conversations()?, &has_queue);
    Ok(lines("answers wait to leave", "channels", unsent)
        .chain(lines(
            "messages were accepted and not decided",
            "channels",
            undecided,
        ))
        .chain(lines("conversations are open", "queues", open))
        .collect())
}

/// How many records of each channel are not decided.
fn undecided(source: &Source) -> Result<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    let mut after = 0;
    loop {
        let records = source.undecided(after)?;
        let Some(last) = records.last() else {
            return Ok(found);
        };
        after = last.record;
        for record in &records {
            if let Content::Envelope(envelope) = decode(&record.body) {
                *found.entry(envelope.channel.to_string()).or_default() += 1;
            }
        }
    }
}
