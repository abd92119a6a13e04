//! Runs one case: chooses by capabilities, minds waivers, turns a failure into a failed test.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt as _;

use crate::cases::CASES;
use crate::kit::Kit;
use crate::provider::FakeProvider;

/// Longest time a case may take. A case that waits for something waits 10 s at most.
const CASE_TIME_MAX: Duration = Duration::from_secs(60);

/// A case that a connector does not have to pass, with the reason.
#[derive(Debug, Clone, Copy)]
pub struct Waiver {
    pub case: &'static str,
    pub reason: &'static str,
}

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Failed(String),
    /// The connector does not claim the surface.
    NotApplicable,
}

/// What [`crate::connector_conformance!`] calls. Panics where the test has to fail.
pub fn run_case<P: FakeProvider + 'static>(
    name: &str,
    manifest_dir: &str,
    waivers: &[Waiver],
    provider: impl Future<Output = P>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a current-thread runtime can be built");
    let outcome = runtime.block_on(async {
        let provider = Box::new(provider.await);
        case_outcome(name, Path::new(manifest_dir), provider).await
    });
    let waiver = waivers.iter().find(|waiver| waiver.case == name);
    match (outcome, waiver) {
        (_, Some(waiver)) if waiver.reason.trim().is_empty() => {
            panic!("the waiver of {name} needs a reason")
        }
        (Outcome::Failed(why), None) => panic!("{name}: {why}"),
        (Outcome::Failed(why), Some(waiver)) => {
            println!("{name} is waived ({}): {why}", waiver.reason)
        }
        (Outcome::Passed, Some(_)) => panic!("{name} passes: its waiver has to go"),
        (Outcome::NotApplicable, Some(_)) => {
            panic!("{name} is not run for this connector: its waiver has to go")
        }
        (Outcome::Passed, None) => {}
        (Outcome::NotApplicable, None) => println!("{name}: the capabilities do not ask for it"),
    }
}

/// Runs the case of that name against a provider of its own and says how it ended.
pub async fn case_outcome(
    name: &str,
    manifest_dir: &Path,
    provider: Box<dyn FakeProvider>,
) -> Outcome {
    let case = CASES
        .iter()
        .find(|case| case.name == name)
        .expect("names come from the list that the cases come from");
    let kit = Kit::new(provider, manifest_dir.to_owned());
    let connector = match kit.connector() {
        Ok(connector) => connector,
        Err(why) => return Outcome::Failed(why),
    };
    if !(case.gate)(&connector.capabilities()) {
        return Outcome::NotApplicable;
    }
    drop(connector);
    let guarded = AssertUnwindSafe((case.run)(&kit)).catch_unwind();
    match tokio::time::timeout(CASE_TIME_MAX, guarded).await {
        Ok(Ok(Ok(()))) => Outcome::Passed,
        Ok(Ok(Err(why))) => Outcome::Failed(why),
        Ok(Err(panic)) => Outcome::Failed(format!("panicked: {}", panic_text(&*panic))),
        Err(_) => Outcome::Failed(format!("not finished within {CASE_TIME_MAX:?}")),
    }
}

pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a text")
}
