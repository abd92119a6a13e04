//! Which conversation a message belongs to, and who its sender is: the six joining rules with
//! their refusals, and what changes a message afterwards. Each test is a table of what is said and
//! done, and shows every conversation that comes of it.

mod acknowledgements;
mod changes;
mod contacts;
mod echoes;
mod hints;
mod receipts;
mod rules;
mod windows;

use expect_test::Expect;
use switchboard::router::Policy;

use crate::support::{Desk, Said};

/// One thing that is said or done.
#[derive(Clone)]
enum Step {
    Say(Vec<Said>),
    HoursLater(u64),
    MinutesLater(u64),
    Resolve(usize),
    /// Answers the conversation with this number; the provider calls the message by the last word.
    Answer(usize, &'static str, &'static str),
    Crash,
}

use Step::{Answer, Crash, HoursLater, MinutesLater, Resolve};

impl From<Said> for Step {
    fn from(said: Said) -> Self {
        Self::Say(vec![said])
    }
}

/// Events that may be decided in one batch.
fn together<const N: usize>(said: [Said; N]) -> Step {
    Step::Say(said.into())
}

/// Compares what comes of `steps`, with batches decided at once and record by record: that must
/// not make a difference.
async fn check<const N: usize>(steps: [Step; N], expected: Expect) {
    check_with(|_| {}, steps, expected).await;
}

async fn check_with<const N: usize>(
    configure: impl Fn(&mut Policy),
    steps: [Step; N],
    expected: Expect,
) {
    let at_once = shown(&configure, &steps, usize::MAX).await;
    let one_by_one = shown(&configure, &steps, 1).await;
    assert_eq!(
        at_once, one_by_one,
        "batches of another size decide otherwise"
    );
    expected.assert_eq(&at_once);
}

async fn shown(configure: &impl Fn(&mut Policy), steps: &[Step], batch_max: usize) -> String {
    let mut desk = Desk::new().await;
    desk.configure(configure);
    for step in steps {
        match step {
            Step::Say(said) => {
                desk.accept(said.clone()).await.expect("the bus takes it");
                desk.route(batch_max).await;
            }
            HoursLater(hours) => desk.hours_later(*hours),
            MinutesLater(minutes) => desk.later(std::time::Duration::from_secs(minutes * 60)),
            Resolve(number) => desk.resolve(*number).await,
            Answer(number, text, provider_id) => {
                drop(desk.answer(*number, text, provider_id).await)
            }
            Crash => desk.crash().await,
        }
    }
    desk.shows().await
}
