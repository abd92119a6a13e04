//! Random days of a desk against a model of it: the model keeps lists of messages, knows what each
//! hangs on, and says where everything is after any operation and any undo.

mod day;
mod lists;

use std::collections::BTreeMap;
use std::sync::Mutex;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use switchboard::store::surgery::OperationKind;

use super::state::State;

use day::Day;

/// What happens next. Numbers choose among what is there.
#[derive(Debug, Clone)]
enum Step {
    /// A customer writes to nothing in particular; a forward opens another conversation.
    Say {
        who: usize,
        forward: bool,
    },
    /// A customer answers by the token of a conversation that there ever was.
    ByToken {
        conversation: usize,
    },
    /// A customer answers a message that there is.
    ByReference {
        message: usize,
    },
    Reply {
        conversation: usize,
    },
    Note {
        conversation: usize,
    },
    Resolve {
        conversation: usize,
    },
    Claim,
    Merge {
        from: usize,
        into: usize,
    },
    Split {
        conversation: usize,
        picks: Vec<bool>,
    },
    Move {
        message: usize,
        to: usize,
    },
    MergeContacts {
        from: usize,
        into: usize,
    },
    Undo {
        operation: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let n = 0..64usize;
    prop_oneof![
        3 => (0..3usize, prop::bool::weighted(0.4)).prop_map(|(who, forward)| Step::Say { who, forward }),
        3 => n.clone().prop_map(|conversation| Step::ByToken { conversation }),
        3 => n.clone().prop_map(|message| Step::ByReference { message }),
        3 => n.clone().prop_map(|conversation| Step::Reply { conversation }),
        1 => n.clone().prop_map(|conversation| Step::Note { conversation }),
        1 => n.clone().prop_map(|conversation| Step::Resolve { conversation }),
        1 => Just(Step::Claim),
        4 => (n.clone(), n.clone()).prop_map(|(from, into)| Step::Merge { from, into }),
        3 => (n.clone(), prop::collection::vec(any::<bool>(), 1..6))
            .prop_map(|(conversation, picks)| Step::Split { conversation, picks }),
        3 => (n.clone(), n.clone()).prop_map(|(message, to)| Step::Move { message, to }),
        1 => (0..3usize, 0..3usize).prop_map(|(from, into)| Step::MergeContacts { from, into }),
        6 => n.prop_map(|operation| Step::Undo { operation }),
    ]
}

/// Days of a run; each reads the whole store at every step, so a campaign of 10,000 is hours.
/// `SWITCHBOARD_SURGERY_DAYS` asks for more, `PROPTEST_RNG_SEED` for others.
fn cases() -> u32 {
    let asked = std::env::var("SWITCHBOARD_SURGERY_DAYS");
    let asked = asked.ok().and_then(|days| days.parse().ok());
    asked.unwrap_or(DAYS)
}

const DAYS: u32 = 40;

/// The seed of the days that every run goes through.
const SEED: u64 = 20_261_122;

/// What has to happen on some of the days, unless fewer of them were asked for.
const OPERATIONS: [&str; 8] = [
    "Merge",
    "Split",
    "Move",
    "MergeContacts",
    "undo Merge",
    "undo Split",
    "undo Move",
    "undo MergeContacts",
];

fn run(
    steps: impl Strategy<Value = Vec<Step>>,
    expected: &[&str],
    day: impl AsyncFn(&mut Day, Vec<Step>) -> Result<(), TestCaseError>,
) {
    let config = Config {
        cases: cases(),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    };
    let config = Config {
        rng_seed: match config.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            asked => asked,
        },
        ..config
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let happened = Mutex::new(BTreeMap::<String, usize>::new());
    let ran = TestRunner::new(config).run(&steps, |steps| {
        runtime.block_on(async {
            let mut it = Day::new().await;
            let done = day(&mut it, steps).await;
            let mut happened = happened.lock().unwrap();
            for (what, count) in it.model.happened {
                *happened.entry(what).or_default() += count;
            }
            done
        })
    });
    if let Err(TestError::Fail(why, steps)) = ran {
        let told = runtime.block_on(async {
            let mut it = Day::new().await;
            drop(day(&mut it, steps).await);
            it.told
        });
        let last = told.len().saturating_sub(20);
        panic!("{why}\nafter\n{}", told[last..].join("\n"));
    }
    let happened = happened.into_inner().unwrap();
    for what in expected.iter().filter(|_| cases() >= DAYS) {
        assert!(
            happened.contains_key(*what),
            "{what} never happened: {happened:?}"
        );
    }
}

#[test]
fn whatever_is_said_and_operated_and_undone_everything_is_where_the_model_says() {
    let expected = [
        &OPERATIONS[..],
        &[
            "undo Undo",
            "undo Merge done",
            "undo Merge first",
            "undo Move first",
            "came since and went back",
            "came since and stayed",
        ],
    ];
    let steps = days();
    run(steps, &expected.concat(), async |day, steps| {
        for step in steps {
            day.step(step).await?;
        }
        Ok(())
    });
}

/// Days that begin with a few conversations.
fn days() -> impl Strategy<Value = Vec<Step>> {
    let begin = prop::collection::vec(
        (0..3usize).prop_map(|who| Step::Say { who, forward: true }),
        2..8,
    );
    (begin, prop::collection::vec(step(), 1..40)).prop_map(|(begin, rest)| [begin, rest].concat())
}

/// Days where first everything is said, then operated on.
fn operations() -> impl Strategy<Value = Vec<Step>> {
    let said = prop::collection::vec(
        step().prop_filter("said", |step| !is_operation(step)),
        4..24,
    );
    let done = prop::collection::vec(step().prop_filter("done", is_operation), 4..24);
    (said, done).prop_map(|(said, done)| [said, done].concat())
}

fn is_operation(step: &Step) -> bool {
    matches!(
        step,
        Step::Merge { .. }
            | Step::Split { .. }
            | Step::Move { .. }
            | Step::MergeContacts { .. }
            | Step::Undo { .. }
    )
}

#[test]
fn undoing_everything_gives_the_first_state_back_exactly() {
    run(operations(), &OPERATIONS, async |day, steps| {
        let mut first = None;
        for step in steps {
            if first.is_none() && is_operation(&step) {
                first = Some(State::read(day.desk.store().as_ref()).await.comparable());
            }
            day.step(step).await?;
        }
        // Backwards again and again: what another builds on is undone after it.
        loop {
            let standing = |at: &usize| {
                let this = &day.model.done[*at];
                !this.undone && this.kind != OperationKind::Undo
            };
            let Some(last) = (0..day.model.done.len()).rev().find(standing) else {
                break;
            };
            prop_assert!(day.undo(last).await?, "the last operation can be undone");
            day.check().await?;
        }
        let now = State::read(day.desk.store().as_ref()).await.comparable();
        prop_assert_eq!(first.unwrap_or_default(), now);
        Ok(())
    });
}
