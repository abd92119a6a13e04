use super::*;

const MINUTE: i64 = 60 * 1_000_000;
const HOUR: i64 = 60 * MINUTE;
const PACE: Pace = Pace {
    remind_every: 6 * HOUR,
    over_after: 5 * MINUTE,
};

/// One that is told, over the minutes of `facts`; what it is told, minute by minute.
fn told_over(facts: impl IntoIterator<Item = (i64, Facts)>) -> Vec<String> {
    let (mut told, mut quiet) = (BTreeMap::new(), BTreeMap::new());
    let mut said = Vec::new();
    for (minute, facts) in facts {
        let now = minute * MINUTE;
        let facts = Facts { now, ..facts };
        let found = troubles(&facts, &told);
        let known: Vec<String> = told.keys().cloned().collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        settle(&mut quiet, &known, &found, now);
        lower(&mut told, &found);
        let notices = news(&told, &found, &quiet, PACE, now);
        said.extend(
            notices
                .iter()
                .map(|notice| format!("{minute}: {}", headline(notice))),
        );
        remember(&mut told, &notices, now);
    }
    said
}

fn silent(heard_minute: i64) -> Facts {
    Facts {
        channels: vec![ChannelFact {
            id: "support-mail".to_owned(),
            heard_at: heard_minute * MINUTE,
            listens_since: 0,
            silent_after: Some(15 * MINUTE),
        }],
        ..Facts::default()
    }
}

fn down(name: &str, since_minute: i64) -> Facts {
    Facts {
        parts: vec![PartFact {
            name: name.to_owned(),
            state: "unreachable",
            reason: "connection refused".to_owned(),
            since: since_minute * MINUTE,
        }],
        down_after: 15 * MINUTE,
        ..Facts::default()
    }
}

fn unknown(key: &str) -> Facts {
    Facts {
        unknown: vec![key.to_owned()],
        ..Facts::default()
    }
}

fn letters(count: i64) -> Facts {
    Facts {
        dead_letters: Some(count),
        ..Facts::default()
    }
}

fn disk(free_bytes: u64) -> Facts {
    Facts {
        disk: Some(DiskFact {
            free_bytes,
            free_min_bytes: 10 << 30,
        }),
        ..Facts::default()
    }
}

#[test]
fn freescout_3694_a_mailbox_that_is_read_no_more_without_an_error_is_said_once_reminded_of_and_over()
 {
    let quiet = "channel support-mail has heard nothing for 15 minutes";
    let minutes = (0..800).map(|minute| (minute, silent(if minute < 780 { 0 } else { minute })));
    assert_eq!(
        told_over(minutes),
        [
            format!("16: {quiet}"),
            format!("376: still: {quiet}"),
            format!("736: still: {quiet}"),
            format!("785: over: {quiet}"),
        ]
    );
}

#[test]
fn chatwoot_15131_what_is_answered_200_while_nothing_becomes_of_it_is_a_trouble() {
    let stuck = |minute| Facts {
        undecided_since: Some(0),
        undecided_after: 5 * MINUTE,
        ..silent(minute)
    };
    // The webhooks are heard all the time.
    let said = told_over((0..10).map(|minute| (minute, stuck(minute))));
    assert_eq!(
        said,
        ["6: messages are accepted and nothing becomes of them for 5 minutes"]
    );
}

#[test]
fn what_comes_and_goes_is_one_trouble() {
    let wavers = (0..60).map(|minute| {
        let heard = if minute % 4 == 0 { minute } else { minute - 20 };
        (minute, silent(heard))
    });
    let said = told_over(wavers);
    assert_eq!(said.len(), 1, "{said:?}");
    // A disk that wavers about its limit, by less than a tenth of it.
    let gib = 1 << 30;
    let wavers = (0..60).map(|minute| {
        (
            minute,
            disk(if minute % 10 < 5 {
                9 * gib
            } else {
                10 * gib + gib / 2
            }),
        )
    });
    let said = told_over(wavers);
    assert_eq!(said.len(), 1, "{said:?}");
    let frees = (0..60).map(|minute| (minute, disk(if minute < 10 { 9 * gib } else { 12 * gib })));
    let said = told_over(frees);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].starts_with("15: over: the disk"), "{said:?}");
}

#[test]
fn more_dead_letters_are_told_at_most_every_quarter_of_an_hour() {
    let said = told_over((0..60).map(|minute| (minute, letters(minute))));
    assert_eq!(
        said,
        [
            "1: 1 message could not be filed",
            "16: more: 16 messages could not be filed",
            "31: more: 31 messages could not be filed",
            "46: more: 46 messages could not be filed",
        ]
    );
}

#[test]
fn what_was_told_is_not_over_by_a_restart_and_not_told_anew() {
    // Started again in minute 30; heard again in minute 60.
    let silence = |minute| {
        let mut facts = silent(if minute < 60 { 0 } else { minute });
        facts.channels[0].listens_since = if minute < 30 { 0 } else { 30 * MINUTE };
        (minute, facts)
    };
    let quiet = "channel support-mail has heard nothing for 15 minutes";
    assert_eq!(
        told_over((0..90).map(silence)),
        [format!("16: {quiet}"), format!("65: over: {quiet}")]
    );
    // Nothing is known of it for ten minutes after the start, then it is down since then.
    let name = "channel:support-mail";
    let outage = |minute| match minute {
        0..30 => down(name, 0),
        30..40 => unknown(&format!("part:{name}")),
        40..60 => down(name, 40),
        _ => Facts::default(),
    };
    let down = "support-mail is unreachable: connection refused";
    assert_eq!(
        told_over((0..90).map(|minute| (minute, outage(minute)))),
        [format!("16: {down}"), format!("65: over: {down}")]
    );
}

#[test]
fn what_the_store_does_not_say_is_not_over_for_that() {
    let waits = |minute: i64| Facts {
        queues: vec![QueueFact {
            id: "frontline".to_owned(),
            oldest_enqueued_at: Some(0),
            oldest_wait: Some(10 * MINUTE),
        }],
        ..letters(minute.min(1))
    };
    let mut silent = unknown("oldest_wait:");
    silent.unknown.push("dead_letters".to_owned());
    let known = |minute| {
        let facts = if minute < 20 {
            waits(minute)
        } else {
            silent.clone()
        };
        (minute, facts)
    };
    assert_eq!(
        told_over((0..60).map(known)),
        [
            "1: 1 message could not be filed",
            "11: somebody has waited in queue frontline for more than 10 minutes"
        ]
    );
}

#[test]
fn new_dead_letters_are_told_after_most_of_the_old_ones_were_dealt_with() {
    let left = |minute| match minute {
        0..10 => 100,
        10..30 => 1,
        30..40 => 61,
        // All of them, for less than it takes to be over.
        40..43 => 0,
        _ => 3,
    };
    assert_eq!(
        told_over((0..120).map(|minute| (minute, letters(left(minute))))),
        [
            "0: 100 messages could not be filed",
            "30: more: 61 messages could not be filed",
            "45: more: 3 messages could not be filed",
        ]
    );
}

#[test]
fn an_answer_that_does_not_leave_is_a_trouble_whatever_its_lane_says() {
    let due = |minute| Facts {
        lanes: vec![LaneFact {
            channel: "support-mail".to_owned(),
            due_since: 0,
        }],
        unsent_after: 4 * HOUR,
        ..silent(minute)
    };
    assert_eq!(
        told_over((0..300).map(|minute| (minute, due(minute)))),
        ["241: an answer by support-mail has been waiting to leave for more than 4 hours"]
    );
}

#[test]
fn each_trouble_says_what_it_is_and_what_to_do() {
    let now = 100 * HOUR;
    let facts = Facts {
        now,
        parts: vec![
            PartFact {
                name: "channel:support-mail".to_owned(),
                state: "unauthorized",
                reason: "the password is refused".to_owned(),
                since: now - HOUR,
            },
            PartFact {
                name: "channel:outbound:support-mail".to_owned(),
                state: "degraded",
                reason: "the daily limit is reached".to_owned(),
                since: now - HOUR,
            },
        ],
        down_after: 15 * MINUTE,
        queues: vec![QueueFact {
            id: "frontline".to_owned(),
            oldest_enqueued_at: Some(now - 5 * HOUR),
            oldest_wait: Some(4 * HOUR),
        }],
        held: Some(2),
        dead_letters: Some(0),
        disk: disk(11 << 30).disk,
        ..silent(now / MINUTE)
    };
    let found = troubles(&facts, &BTreeMap::new());
    let said: Vec<&str> = found.iter().map(|trouble| trouble.what.as_str()).collect();
    assert_eq!(
        said,
        [
            "support-mail is unauthorized: the password is refused",
            "sending by support-mail is degraded: the daily limit is reached",
            "somebody has waited in queue frontline for more than 4 hours",
            "2 answers are held: nobody knows whether they arrived",
        ]
    );
    assert!(found.iter().all(|trouble| !trouble.todo.is_empty()));
    let young = Facts {
        down_after: 2 * HOUR,
        held: None,
        queues: Vec::new(),
        ..facts
    };
    assert_eq!(troubles(&young, &BTreeMap::new()), []);
}
