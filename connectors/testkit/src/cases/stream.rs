//! Streams: what is not durable is not acknowledged, what broke is taken up again.

use std::time::Duration;

use crate::cases::pull::arrived;
use crate::kit::{Kit, Verdict, ensure};
use crate::line::Line;

/// Messages that pile up before a slow intake. More than one batch of any connector here.
const PILE: usize = 300;

/// How long a connector is watched for something that it must not do.
const WATCH_TIME: Duration = Duration::from_millis(300);

pub(crate) async fn ack_only_after_accept(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    line.intake.hold();
    let id = kit.provider.customer_says("hold on").await;
    line.intake.wait_for_a_call().await?;
    // Nothing can be waited for that must not happen; a connector that acknowledges first has
    // done so before it called, or does it beside the call at once.
    tokio::time::sleep(WATCH_TIME).await;
    let Some(early) = kit.provider.acknowledged(&id).await else {
        return line.stop_held().await;
    };
    ensure(!early, || "acknowledged before it was accepted".to_owned())?;
    line.intake.release();
    line.intake.wait_for_events(1).await?;
    line.stop().await?;
    let late = kit.provider.acknowledged(&id).await;
    ensure(late == Some(true), || {
        "accepted, and never acknowledged".to_owned()
    })
}

/// While one batch waits, no other is offered: the provider keeps the rest.
pub(crate) async fn slow_intake_applies_back_pressure(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    line.intake.hold();
    for count in 0..PILE {
        kit.provider.customer_says(&format!("number {count}")).await;
    }
    line.intake.wait_for_a_call().await?;
    tokio::time::sleep(WATCH_TIME).await;
    let accepting = line.intake.accepting_max();
    ensure(accepting == 1, || {
        format!("{accepting} batches were offered at once")
    })?;
    line.intake.release();
    line.intake.wait_for_events(PILE).await?;
    let accepting = line.intake.accepting_max();
    ensure(accepting == 1, || {
        format!("{accepting} batches were offered at once")
    })?;
    line.stop().await.map(drop)
}

pub(crate) async fn reconnect_resumes(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let first = kit.provider.customer_says("before").await;
    line.receive(&first).await?;
    let mut texts = vec!["before".to_owned()];
    for round in 0..3 {
        kit.provider.disconnect().await;
        let text = format!("after cut {round}");
        kit.provider.customer_says(&text).await;
        texts.push(text);
        line.intake.wait_for_events(texts.len()).await?;
        line.connected().await?;
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    arrived(&line, &texts)?;
    line.stop().await.map(drop)
}

/// Idle, and in the middle of a batch that the intake does not take.
pub(crate) async fn stop_returns_within_limit(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    line.stop().await?;
    let line = Line::open(kit).await?;
    line.intake.hold();
    kit.provider.customer_says("never taken").await;
    line.intake.wait_for_a_call().await?;
    line.stop_held().await
}
