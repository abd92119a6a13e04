//! What a failed send is called decides whether a customer gets nothing, one message or two.

use std::time::Duration;

use connector_api::{ErrorKind, Result, SendReceipt};

use crate::cases::send::reply_to_someone;
use crate::kit::{Kit, Verdict, ensure};
use crate::provider::{Fault, Side};

pub(crate) async fn rate_limit_carries_retry_after(kit: &Kit) -> Verdict {
    let retry_after = Duration::from_secs(17);
    let found = send_into(kit, Fault::RateLimit { retry_after }).await?;
    let expected = ErrorKind::RateLimited {
        retry_after: Some(retry_after),
    };
    kind_is(found, &[expected])?;
    nothing_arrived(kit).await
}

/// "Certainly not done" is for those who can know it, or whose provider drops a repeat.
pub(crate) async fn server_error_is_unavailable(kit: &Kit) -> Verdict {
    let idempotent = kit.connector()?.capabilities().send_idempotent;
    let found = send_into(kit, Fault::ServerError).await?;
    match idempotent {
        true => kind_is(found, &[ErrorKind::Unavailable]),
        false => kind_is(found, &[ErrorKind::Unavailable, ErrorKind::OutcomeUnknown]),
    }
}

pub(crate) async fn refusal_is_rejected_with_reason(kit: &Kit) -> Verdict {
    let reason = "this customer has left";
    let fault = Fault::Refuse {
        reason: reason.to_owned(),
    };
    let found = send_into(kit, fault).await?;
    if let Err(error) = &found {
        ensure(error.message.contains(reason), || {
            format!("the agent is not told why: {error}")
        })?;
    }
    kind_is(found, &[ErrorKind::Rejected])?;
    nothing_arrived(kit).await
}

pub(crate) async fn lost_answer_is_outcome_unknown(kit: &Kit) -> Verdict {
    let found = send_into(kit, Fault::DropAfterAccept).await?;
    kind_is(found, &[ErrorKind::OutcomeUnknown])?;
    // It, and the one after the fault.
    let delivered = kit.provider.delivered().await.len();
    ensure(delivered == 2, || {
        "the fake lost the message together with its answer".to_owned()
    })
}

/// It was taken. Whatever says "try again" sends it twice, and "refused" is a lie.
pub(crate) async fn unreadable_answer_is_not_sent_again(kit: &Kit) -> Verdict {
    match send_into(kit, Fault::Garbage).await? {
        Ok(_) => Ok(()),
        found => kind_is(found, &[ErrorKind::OutcomeUnknown]),
    }
}

pub(crate) async fn rejected_credentials_stop_sending(kit: &Kit) -> Verdict {
    let found = send_into(kit, Fault::RejectCredentials).await?;
    kind_is(found, &[ErrorKind::Auth])?;
    nothing_arrived(kit).await
}

/// No connection, no doubt: it was not sent.
pub(crate) async fn unreachable_provider_is_unavailable(kit: &Kit) -> Verdict {
    let connector = kit.unreachable_connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    kind_is(
        sender.send(&reply_to_someone("hello")).await,
        &[ErrorKind::Unavailable],
    )
}

/// Sends one message into the fault; the next one must go through, or the fault was not the cause.
async fn send_into(kit: &Kit, fault: Fault) -> Verdict<Result<SendReceipt>> {
    let connector = kit.connector()?;
    let sender = connector.sender().ok_or("no sender")?;
    kit.provider.fail_next(Side::Send, fault).await;
    let found = sender.send(&reply_to_someone("hello")).await;
    let arrived = kit.provider.delivered().await.len();
    let next = sender.send(&reply_to_someone("and after it")).await;
    next.map_err(|error| format!("the send after the fault failed too: {error}"))?;
    let after = kit.provider.delivered().await.len();
    ensure(after == arrived + 1, || {
        format!("the send after the fault arrived {} times", after - arrived)
    })?;
    Ok(found)
}

fn kind_is(found: Result<SendReceipt>, expected: &[ErrorKind]) -> Verdict {
    match found {
        Ok(_) => Err("counts as sent".to_owned()),
        Err(error) => ensure(expected.contains(&error.kind), || {
            format!("is {:?}, expected one of {expected:?}: {error}", error.kind)
        }),
    }
}

/// Only the message after the fault is there.
async fn nothing_arrived(kit: &Kit) -> Verdict {
    let delivered = kit.provider.delivered().await.len();
    ensure(delivered == 1, || {
        format!(
            "{} messages arrived in spite of the error",
            delivered.saturating_sub(1)
        )
    })
}
