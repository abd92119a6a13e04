//! Runs the driver against the stand-in and holds what it reports against what it must.

use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::net::TcpListener;

use crate::payload::{EVENT_BYTES, Payloads, Signer};
use crate::report::Report;
use crate::stub;
use crate::trial::Trial;

pub async fn run() -> Result<bool> {
    signatures_are_those_of_standard_webhooks()?;
    events_are_the_same_whenever_they_are_written()?;
    counts_agree_with_a_daemon_that_keeps_the_contract().await?;
    println!("load: the driver agrees with its stand-in (make bench measures the daemon)");
    Ok(true)
}

/// The public example of the Standard Webhooks specification.
fn signatures_are_those_of_standard_webhooks() -> Result<()> {
    let signer = Signer::new(&STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?);
    let signature = signer.signature(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "1614265330",
        br#"{"test": 2432232314}"#,
    );
    ensure!(
        signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
        "wrong signature {signature}"
    );
    Ok(())
}

fn events_are_the_same_whenever_they_are_written() -> Result<()> {
    let payloads = payloads(1000, 100);
    for n in [0, 7, 999, 1000, 123_456] {
        let (mut once, mut again) = (Vec::new(), Vec::new());
        payloads.write_event(n, &mut once);
        payloads.write_event(n, &mut again);
        ensure!(once == again, "message {n} is not the same twice");
        ensure!(
            once.len().abs_diff(EVENT_BYTES) < 100,
            "message {n} has {} bytes",
            once.len()
        );
        let event: Value = serde_json::from_slice(&once)?;
        ensure!(
            event["type"] == "message" && event["text"].is_string(),
            "message {n} is {event}"
        );
    }
    Ok(())
}

async fn counts_agree_with_a_daemon_that_keeps_the_contract() -> Result<()> {
    let key = b"a load test's key of 32 bytes...".to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    stub::serve(listener, &key);
    let trial = Trial {
        address,
        pid: None,
        key,
        load_token: stub::TOKEN.to_owned(),
        probe_token: stub::TOKEN.to_owned(),
        payloads: payloads(1000, 100),
        rate: 400,
        duration: Duration::from_secs(1),
        connections: 16,
        probe_rate: 20,
    };
    let preload = trial.preload().await?;
    let outcome = trial.run().await?;
    ensure!(
        outcome.tally.sent == 400 && outcome.tally.accepted == 400,
        "{:?}",
        outcome.tally.example
    );
    ensure!(
        outcome.tally.messages() == 380,
        "{} messages instead of 380",
        outcome.tally.messages()
    );
    ensure!(
        outcome.duplicates.found == Some(20),
        "5 % are redeliveries: {:?}",
        outcome.duplicates
    );
    ensure!(
        outcome.messages.found == Some(400),
        "messages and probes are filed: {:?}",
        outcome.messages
    );
    let new = outcome.conversations.wanted - 100;
    ensure!(
        (40..120).contains(&new),
        "a fifth of 380 are new customers, not {new}"
    );
    ensure!(
        outcome.probes.claimed == 20,
        "{} of 20 probes claimed: {:?}",
        outcome.probes.claimed,
        outcome.probes.trouble
    );
    ensure!(
        outcome.probes.trouble.is_none(),
        "{:?}",
        outcome.probes.trouble
    );
    ensure!(
        outcome.tally.latency.value_at_quantile(0.5) >= 3000,
        "the stand-in takes 3 ms to answer"
    );
    let mut report = Report::of(outcome, 400, (1000, 100), Some(preload));
    ensure!(report.counts_agree(), "{}", report.table());
    ensure!(
        report.json()["accept_ms"]["p99"]
            .as_f64()
            .is_some_and(|p99| p99 >= 3.0),
        "{}",
        report.json()
    );
    report.outcome.messages.found = Some(399);
    ensure!(
        !report.counts_agree(),
        "a message that is missing is noticed"
    );
    Ok(())
}

fn payloads(preloaded_messages: u64, preloaded_customers: u64) -> Payloads {
    Payloads {
        run: "check".to_owned(),
        preloaded_messages,
        preloaded_customers,
        new_customers_percent: 20,
        first_sent_at_ms: 1_790_000_000_000,
    }
}
