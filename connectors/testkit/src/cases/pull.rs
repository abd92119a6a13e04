//! Polling and streams: at least once, in order, from wherever the cursor says.

use connector_api::ErrorKind;
use futures::FutureExt as _;

use crate::kit::{Kit, Verdict, as_message, ensure, same_text};
use crate::line::{Line, StreamRun};
use crate::provider::{Fault, Side};

/// The intake fails in the middle, then the process dies: everything comes again.
pub(crate) async fn crash_before_commit_loses_nothing(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let first = kit.provider.customer_says("before").await;
    line.receive(&first).await?;
    line.intake.fail_next(usize::MAX);
    let lost = kit.provider.customer_says("while the disk was full").await;
    if line.connector.stream_source().is_some() {
        line.intake.wait_for_refusals(1).await?;
    } else {
        refuse_polls(&line).await?;
    }
    let cursor = line.kill().await;
    kit.provider.redeliver(&lost).await;
    let line = Line::resume(kit, cursor).await?;
    line.receive_until(1).await?;
    arrived(&line, &["while the disk was full"])?;
    line.stop().await.map(drop)
}

async fn refuse_polls(line: &Line<'_>) -> Verdict {
    for _ in 0..10 {
        if line.poll_once().await?.is_err() {
            return Ok(());
        }
    }
    Err("10 polls brought nothing".to_owned())
}

/// The cursor is all that a new process has: not the connector that made it.
pub(crate) async fn cursor_survives_a_json_round_trip(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let first = kit.provider.customer_says("one").await;
    line.receive(&first).await?;
    let cursor = line.stop().await?;
    ensure(cursor.is_some(), || {
        "no cursor came with the first message".to_owned()
    })?;
    let line = Line::resume(kit, cursor).await?;
    let second = kit.provider.customer_says("two").await;
    line.receive(&second).await?;
    exactly(&line, &["two"])?;
    line.stop().await.map(drop)
}

pub(crate) async fn messages_keep_their_order(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let texts = ["one", "two", "three", "four", "five"];
    for text in texts {
        kit.provider.customer_says(text).await;
    }
    line.receive_until(texts.len()).await?;
    exactly(&line, &texts)?;
    line.stop().await.map(drop)
}

/// Restarting cannot help, so the daemon has to be told apart from an outage.
pub(crate) async fn rejected_credentials_are_auth(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    kit.provider
        .fail_next(Side::Receive, Fault::RejectCredentials)
        .await;
    let result = match connector.poll_source() {
        Some(source) if connector.stream_source().is_none() => source.poll(None).await.map(drop),
        _ => {
            StreamRun::start(connector, std::sync::Arc::default())
                .ended()
                .await?
        }
    };
    match result {
        Err(error) if error.kind == ErrorKind::Auth => Ok(()),
        Err(error) => Err(format!("is {:?} and not Auth: {error}", error.kind)),
        Ok(()) => Err("ended without an error".to_owned()),
    }
}

pub(crate) async fn what_came_while_down_arrives(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let first = kit.provider.customer_says("while up").await;
    line.receive(&first).await?;
    let cursor = line.stop().await?;
    kit.provider.customer_says("while down").await;
    kit.provider.customer_says("still down").await;
    let line = Line::resume(kit, cursor).await?;
    line.receive_until(2).await?;
    exactly(&line, &["while down", "still down"])?;
    line.stop().await.map(drop)
}

/// A first connection starts at now. Now has to be stored before anything came, or a crash right
/// after it starts later.
pub(crate) async fn first_connection_marks_its_place(kit: &Kit) -> Verdict {
    kit.provider
        .customer_says("before the channel existed")
        .await;
    let line = Line::open(kit).await?;
    line.intake.wait_for_cursor().await?;
    let cursor = line.stop().await?;
    kit.provider.customer_says("after it was connected").await;
    let line = Line::resume(kit, cursor).await?;
    line.receive_until(1).await?;
    exactly(&line, &["after it was connected"])?;
    line.stop().await.map(drop)
}

pub(crate) async fn empty_poll_keeps_cursor(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    let first = kit.provider.customer_says("one").await;
    line.receive_until(1).await?;
    let before = line.intake.cursor();
    line.poll_once().await?.map_err(|error| error.message)?;
    ensure(line.intake.events().len() == 1, || {
        format!("{first} came twice")
    })?;
    let after = line.intake.cursor();
    ensure(before == after, || {
        format!("the cursor moved from {before:?} to {after:?}")
    })
}

/// Polled once and dropped, as on a stop: the next poll has what that one was bringing.
pub(crate) async fn cancel_mid_poll_loses_nothing(kit: &Kit) -> Verdict {
    let line = Line::open(kit).await?;
    kit.provider.customer_says("one").await;
    let source = line.connector.poll_source().ok_or("no poll source")?;
    let cursor = line.intake.cursor();
    // A poll that is ready at once is dropped with its batch: that one was not made durable.
    drop(source.poll(cursor.as_ref()).now_or_never());
    line.receive_until(1).await?;
    exactly(&line, &["one"])
}

/// All of these came, in whatever number.
pub(crate) fn arrived(line: &Line<'_>, texts: &[&str]) -> Verdict {
    let found = found_texts(line)?;
    for text in texts {
        ensure(found.iter().any(|found| same_text(found, text)), || {
            format!("{text:?} is lost, accepted: {found:?}")
        })?;
    }
    Ok(())
}

/// These came, once each, in this order, and nothing else.
pub(crate) fn exactly(line: &Line<'_>, texts: &[&str]) -> Verdict {
    let found = found_texts(line)?;
    let same = found.len() == texts.len()
        && found
            .iter()
            .zip(texts)
            .all(|(found, text)| same_text(found, text));
    ensure(same, || format!("expected {texts:?}, accepted {found:?}"))
}

fn found_texts(line: &Line<'_>) -> Verdict<Vec<String>> {
    let events = line.intake.events();
    let texts = events
        .iter()
        .map(|event| Ok(as_message(event)?.text.clone()));
    texts.collect()
}
