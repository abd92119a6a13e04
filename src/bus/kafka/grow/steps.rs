//! The steps of a change: what is to be done next, by what the store knows, and what was done.

use std::fmt;

use crate::store::partitions::{Generation, Stage};
use crate::words::counted;

/// As many as `bus.partitions` may be.
const PARTITIONS_MAX: u32 = 1000;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Done {
    Made { topic: String, partitions: u32 },
    Announced { topic: String },
    Sealed { topic: String },
    Marked { topic: String },
    Opened { topic: String, partitions: u32 },
    Waits { topic: String, partitions: usize },
    Left { topic: String },
    Nothing { topic: String, partitions: u32 },
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions = |count: i64| counted(count, "partition", "partitions");
        match self {
            Self::Made {
                topic,
                partitions: count,
            } => {
                let count = partitions(i64::from(*count));
                write!(f, "{topic} is made, with {count}")
            }
            Self::Announced { topic } => {
                write!(
                    f,
                    "{topic} is announced: waiting until all processes know it"
                )
            }
            Self::Sealed { topic } => write!(f, "{topic} is sealed: what comes waits"),
            Self::Marked { topic } => {
                write!(f, "{topic} takes nothing any more, and its end is marked")
            }
            Self::Opened {
                topic,
                partitions: count,
            } => {
                let count = partitions(i64::from(*count));
                write!(f, "{topic} is open: what is accepted goes to its {count}")
            }
            Self::Waits {
                topic,
                partitions: count,
            } => {
                let count = partitions(i64::try_from(*count).unwrap_or(i64::MAX));
                write!(f, "{topic} is not all decided: waiting for {count}")
            }
            Self::Left { topic } => {
                write!(
                    f,
                    "{topic} is decided and left: its records go by retention"
                )
            }
            Self::Nothing {
                topic,
                partitions: count,
            } => {
                let count = partitions(i64::from(*count));
                write!(f, "{topic} has {count}, and no change is under way")
            }
        }
    }
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    Make { old: Generation },
    Turn { old: Generation, new: Generation },
    Leave { old: Generation },
    Nothing { open: Generation },
}

pub fn next(all: &[Generation], topic: &str, partitions: u32) -> Result<Next, String> {
    let at = |stage| all.iter().rev().find(|one| one.stage == stage);
    let Some(open) = at(Stage::Open) else {
        return Err(format!(
            "the topic {topic} was never used: bus.partitions is what it will be made with"
        ));
    };
    if let Some(coming) = at(Stage::Coming) {
        return match coming.count() == partitions {
            true => Ok(Next::Turn {
                old: open.clone(),
                new: coming.clone(),
            }),
            false => Err(format!(
                "a change to {} partitions is under way: switchboard bus grow --partitions {}",
                coming.count(),
                coming.count()
            )),
        };
    }
    let now = open.count();
    if let Some(old) = at(Stage::Sealed) {
        return match now == partitions {
            true => Ok(Next::Leave { old: old.clone() }),
            false => Err(format!(
                "the change to {now} partitions is not done: switchboard bus grow --partitions {now}"
            )),
        };
    }
    if partitions == now {
        return Ok(Next::Nothing { open: open.clone() });
    }
    if partitions < now {
        return Err(format!(
            "the topic {} has {now} partitions, and there can only be more: customers of several would come into one",
            open.topic
        ));
    }
    if partitions > PARTITIONS_MAX {
        return Err(format!("--partitions: {PARTITIONS_MAX} is the most"));
    }
    if !partitions.is_multiple_of(now) {
        let (below, above) = (partitions / now * now, (partitions / now + 1) * now);
        let known = [below, above].map(|one| one.to_string());
        let some = known.iter().skip(usize::from(below == now));
        return Err(format!(
            "the topic {} has {now} partitions, and {partitions} is no multiple of that: a new partition's customers have to come from one; take {}",
            open.topic,
            some.cloned().collect::<Vec<_>>().join(" or ")
        ));
    }
    Ok(Next::Make { old: open.clone() })
}
