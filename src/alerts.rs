//! What operators are told of without asking: troubles in what is known of the daemon, and which of
//! them are news to a target. Pure over facts and the time; the loop is `daemon::alerting`.

use std::collections::BTreeMap;

mod trouble;

pub use trouble::{ChannelFact, DiskFact, Facts, LaneFact, PartFact, QueueFact, Trouble, troubles};

/// After word of more of the same (dead letters come by the hundred) none for this long.
const WORSE_AFTER_MICROS: i64 = 15 * 60 * 1_000_000;

/// How often a target hears of the same trouble, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    pub remind_every: i64,
    /// What has not held for so long is over: what comes and goes is one trouble.
    pub over_after: i64,
}

/// What a target was told last of a trouble.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub key: String,
    pub since: i64,
    pub at: i64,
    pub count: i64,
    pub what: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum News {
    Began,
    /// There is more of it.
    Worse,
    /// It still is so.
    Still,
    Over,
}

/// One piece of news for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub news: News,
    pub key: String,
    pub since: i64,
    pub count: i64,
    pub what: String,
    pub todo: String,
}

/// What is news to somebody who was told `told`. `quiet` holds since when each key holds no more.
pub fn news(
    told: &BTreeMap<String, Told>,
    troubles: &[Trouble],
    quiet: &BTreeMap<String, i64>,
    pace: Pace,
    now: i64,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    for trouble in troubles {
        let news = match told.get(&trouble.key) {
            None => News::Began,
            Some(told) if trouble.count > told.count && now - told.at >= WORSE_AFTER_MICROS => {
                News::Worse
            }
            Some(told) if now - told.at >= pace.remind_every => News::Still,
            Some(_) => continue,
        };
        notices.push(Notice {
            news,
            key: trouble.key.clone(),
            since: told
                .get(&trouble.key)
                .map_or(trouble.since, |told| told.since),
            count: trouble.count,
            what: trouble.what.clone(),
            todo: trouble.todo.clone(),
        });
    }
    for told in told.values() {
        let holds = troubles.iter().any(|trouble| trouble.key == told.key);
        let since = quiet.get(&told.key);
        if !holds && since.is_some_and(|since| now - since >= pace.over_after) {
            notices.push(Notice {
                news: News::Over,
                key: told.key.clone(),
                since: told.since,
                count: 0,
                what: told.what.clone(),
                todo: String::new(),
            });
        }
    }
    notices
}

/// Forgets how many there were where there are fewer now, so that the next ones are news again. Says
/// whether that changed anything.
pub fn lower(told: &mut BTreeMap<String, Told>, troubles: &[Trouble]) -> bool {
    let mut changed = false;
    for told in told.values_mut() {
        let trouble = troubles.iter().find(|trouble| trouble.key == told.key);
        let count = trouble.map_or(0, |trouble| trouble.count);
        changed |= count < told.count;
        told.count = told.count.min(count);
    }
    changed
}

/// Notes since when each known trouble holds no more.
pub fn settle(quiet: &mut BTreeMap<String, i64>, known: &[&str], troubles: &[Trouble], now: i64) {
    let holds = |key: &str| troubles.iter().any(|trouble| trouble.key == key);
    quiet.retain(|key, _| !holds(key) && known.contains(&key.as_str()));
    for key in known.iter().filter(|key| !holds(key)) {
        quiet.entry((*key).to_owned()).or_insert(now);
    }
}

/// What a target knows once it was told.
pub fn remember(told: &mut BTreeMap<String, Told>, notices: &[Notice], now: i64) {
    for notice in notices {
        if notice.news == News::Over {
            told.remove(&notice.key);
            continue;
        }
        let known = Told {
            key: notice.key.clone(),
            since: notice.since,
            at: now,
            count: notice.count,
            what: notice.what.clone(),
        };
        told.insert(notice.key.clone(), known);
    }
}

/// A notice's first line.
pub fn headline(notice: &Notice) -> String {
    match notice.news {
        News::Began => notice.what.clone(),
        News::Worse => format!("more: {}", notice.what),
        News::Still => format!("still: {}", notice.what),
        News::Over => format!("over: {}", notice.what),
    }
}

#[cfg(test)]
mod tests;
