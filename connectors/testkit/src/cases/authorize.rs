//! Access that a person grants: used at once, kept for good, and given to nobody else's answer.

use std::sync::Arc;

use connector_api::{
    Authorization, AuthorizationRequest, AuthorizationStep, Begun, Connector, Health, Progress, Way,
};

use crate::kit::{Kit, Verdict, ensure};

/// Where the browser would come back to; nobody listens.
const PORT: u16 = 9;
/// Most steps of one grant: the person has agreed already.
const STEPS_MAX: usize = 5;

/// What was granted before is withdrawn; each way grants it anew, for this connector and for the one
/// that is built after it.
pub(crate) async fn granted_access_survives_a_restart(kit: &Kit) -> Verdict {
    let ways = authorization(&*kit.connector()?)?.ways();
    ensure(!ways.is_empty(), || {
        "there is no way to grant access".to_owned()
    })?;
    for way in ways {
        kit.provider.withdraw_grants().await;
        let connector = kit.connector()?;
        let health = connector.health().await;
        ensure(matches!(health, Health::Unauthorized { .. }), || {
            format!("everything was withdrawn, and it is {health:?}")
        })?;
        let surface = authorization(&*connector)?;
        let begun = begin(surface, way).await?;
        let answer = kit.provider.grants(&begun.url, begun.code.as_deref()).await;
        finish(surface, begun, answer).await?;
        ready(&connector, "granted").await?;
        ready(&kit.connector()?, "granted, and started again").await?;
    }
    Ok(())
}

/// A browser that comes back with somebody else's answer (a forged link) grants nothing.
pub(crate) async fn answer_to_another_question_grants_nothing(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let surface = authorization(&*connector)?;
    if !surface.ways().contains(&Way::Redirect) {
        return Ok(());
    }
    kit.provider.withdraw_grants().await;
    let mine = begin(surface, Way::Redirect).await?;
    let other = begin(surface, Way::Redirect).await?;
    let answer = kit.provider.grants(&other.url, None).await;
    let result = finish(surface, mine, answer).await;
    ensure(result.is_err(), || "it was granted".to_owned())?;
    let health = connector.health().await;
    ensure(matches!(health, Health::Unauthorized { .. }), || {
        format!("nothing was granted, and it is {health:?}")
    })
}

fn authorization(connector: &dyn Connector) -> Verdict<&dyn Authorization> {
    connector
        .authorization()
        .ok_or_else(|| "authorization is not handed out".to_owned())
}

async fn begin(surface: &dyn Authorization, way: Way) -> Verdict<Begun> {
    let request = match way {
        Way::Redirect => AuthorizationRequest::Redirect { port: PORT },
        _ => AuthorizationRequest::Device,
    };
    let begun = surface.begin(request).await;
    begun.map_err(|error| format!("cannot begin by {way:?}: {error}"))
}

async fn finish(surface: &dyn Authorization, begun: Begun, answer: Option<String>) -> Verdict {
    let mut state = begun.state;
    for _ in 0..STEPS_MAX {
        let answer = answer.clone().map(Into::into);
        let progress = surface.advance(AuthorizationStep { state, answer }).await;
        state = match progress.map_err(|error| error.to_string())? {
            Progress::Granted => return Ok(()),
            Progress::Waiting { state, .. } => state,
        };
    }
    Err("the person has agreed, and it waits".to_owned())
}

async fn ready(connector: &Arc<dyn Connector>, when: &str) -> Verdict {
    let health = connector.health().await;
    ensure(health == Health::Ready, || {
        format!("{when}, and it is {health:?}")
    })
}
