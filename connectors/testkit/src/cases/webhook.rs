//! Pushed requests: only genuine and fresh ones are let in.

use std::time::Duration;

use connector_api::{ErrorKind, WebhookOutcome, WebhookRequest, WebhookSource};

use crate::kit::{Kit, Verdict, ensure, verified};

pub(crate) async fn genuine_delivery_is_accepted(kit: &Kit) -> Verdict {
    with_delivery(kit, async |source, request| {
        verified(source, &request)
            .await
            .map_err(|error| format!("refused: {error}"))?;
        match source
            .parse(request)
            .map_err(|error| format!("not read: {error}"))?
        {
            WebhookOutcome::Events { events, reply } => {
                ensure(events.len() == 1, || {
                    format!("one message made {} events", events.len())
                })?;
                ensure((200..300).contains(&reply.status), || {
                    format!("the provider would see {} and deliver again", reply.status)
                })
            }
            WebhookOutcome::Handshake(_) => Err("taken for a handshake".to_owned()),
        }
    })
    .await
}

pub(crate) async fn tampered_body_is_refused(kit: &Kit) -> Verdict {
    with_delivery(kit, async |source, request| {
        for place in [0, request.body.len() / 2, request.body.len() - 1] {
            let mut tampered = request.clone();
            let mut body = request.body.to_vec();
            body[place] ^= 1;
            tampered.body = body.into();
            refused(source, &tampered, &format!("byte {place} was changed")).await?;
        }
        let mut tampered = request.clone();
        tampered.body = [&request.body[..], b" "].concat().into();
        refused(source, &tampered, "a space was added at the end").await
    })
    .await
}

pub(crate) async fn unsigned_request_is_refused(kit: &Kit) -> Verdict {
    with_delivery(kit, async |source, request| {
        let mut bare = request.clone();
        bare.headers.clear();
        bare.query.clear();
        refused(source, &bare, "no header and no query came with it").await?;
        let mut emptied = request.clone();
        for (_, value) in &mut emptied.headers {
            value.clear();
        }
        emptied.query.clear();
        refused(source, &emptied, "every header was empty").await
    })
    .await
}

pub(crate) async fn stale_timestamp_is_refused(kit: &Kit) -> Verdict {
    let Some(freshness) = kit.provider.freshness() else {
        return Err("the fake signs no time".to_owned());
    };
    with_delivery(kit, async |source, request| {
        let late = freshness + Duration::from_secs(1);
        let mut stale = request.clone();
        stale.received_at = request.received_at + late;
        refused(source, &stale, &format!("it arrived {late:?} late")).await?;
        stale.received_at = request.received_at - late;
        refused(source, &stale, &format!("it was signed {late:?} ahead")).await?;
        let mut late_enough = request.clone();
        late_enough.received_at =
            request.received_at + freshness.saturating_sub(Duration::from_secs(1));
        verified(source, &late_enough)
            .await
            .map_err(|error| format!("refused within its time: {error}"))
    })
    .await
}

pub(crate) async fn handshake_is_answered(kit: &Kit) -> Verdict {
    let Some(handshake) = kit.provider.handshake() else {
        return Ok(());
    };
    let connector = kit.connector()?;
    let source = connector.webhook_source().ok_or("no webhook source")?;
    verified(source, &handshake.request)
        .await
        .map_err(|error| format!("the challenge is refused: {error}"))?;
    let WebhookOutcome::Handshake(reply) = source
        .parse(handshake.request)
        .map_err(|error| format!("the challenge is not read: {error}"))?
    else {
        return Err("the challenge is taken for events".to_owned());
    };
    ensure(
        (reply.status, &reply.body) == (handshake.expected_status, &handshake.expected_body),
        || format!("answered {} {:?}", reply.status, reply.body),
    )
}

async fn with_delivery(
    kit: &Kit,
    check: impl AsyncFnOnce(&dyn WebhookSource, WebhookRequest) -> Verdict,
) -> Verdict {
    let connector = kit.connector()?;
    let source = connector.webhook_source().ok_or("no webhook source")?;
    let id = kit.provider.customer_says("hello").await;
    check(source, kit.provider.webhook_for(&id)).await
}

async fn refused(source: &dyn WebhookSource, request: &WebhookRequest, why: &str) -> Verdict {
    match verified(source, request).await {
        Ok(()) => Err(format!("let in although {why}")),
        Err(error) => ensure(error.kind == ErrorKind::Auth, || {
            format!("is {:?} and not Auth although {why}: {error}", error.kind)
        }),
    }
}
