//! What every connector owes: true claims, documented configuration, a start without the network.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use connector_api::{
    Capabilities, Check, Error, ErrorKind, Health, HttpClient, HttpRequest, HttpResponse, Result,
    async_trait,
};
use serde_json::{Value, json};

use crate::cases::send::reply_to_someone;
use crate::context::StaticSecrets;
use connector_api::DAEMON_KEYS;

use crate::kit::{Kit, Verdict, ensure};
use crate::provider::{Fault, Side};
use crate::readme::{check_readme, resolve};

pub(crate) async fn capabilities_match_surfaces(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let can = connector.capabilities();
    let claims = [
        ("webhook", can.webhook, connector.webhook_source().is_some()),
        ("poll", can.poll, connector.poll_source().is_some()),
        ("stream", can.stream, connector.stream_source().is_some()),
        ("send", can.send, connector.sender().is_some()),
        (
            "authorization",
            can.authorization,
            connector.authorization().is_some(),
        ),
        ("inventory", can.inventory, connector.inventory().is_some()),
    ];
    for (surface, claimed, there) in claims {
        ensure(claimed == there, || {
            format!("{surface} is claimed: {claimed}, handed out: {there}")
        })?;
    }
    let beside = ["authorization", "inventory"];
    let carries = |(name, claimed, _): &(&str, bool, bool)| *claimed && !beside.contains(name);
    ensure(claims.iter().any(carries), || {
        "no surface is claimed".to_owned()
    })?;
    limits_fit_together(&can)
}

fn limits_fit_together(can: &Capabilities) -> Verdict {
    let of_sending = [
        ("send_idempotent", can.send_idempotent),
        ("receipts", can.receipts),
        ("attachment_bytes_max", can.attachment_bytes_max.is_some()),
    ];
    for (claim, made) in of_sending {
        ensure(can.send || !made, || {
            format!("{claim} is claimed without send")
        })?;
    }
    ensure(!can.send || can.sends_inflight_max > 0, || {
        "sends_inflight_max is 0: nothing would ever be sent".to_owned()
    })?;
    ensure(can.text_max != Some(0), || "text_max is 0".to_owned())
}

pub(crate) async fn config_schema_covers_every_field(kit: &Kit) -> Verdict {
    let schema = (kit.provider.registration().schema)().to_value();
    documented(&schema, &schema, "")?;
    let properties = schema["properties"]
        .as_object()
        .ok_or("the schema has no properties")?;
    for key in DAEMON_KEYS {
        ensure(!properties.contains_key(key), || {
            format!("{key} is the daemon's key")
        })?;
    }
    let config = kit.provider.config();
    let used = config
        .as_object()
        .ok_or("FakeProvider::config is no table")?;
    for key in used.keys() {
        ensure(properties.contains_key(key), || {
            format!("{key} is not in the schema")
        })?;
    }
    Ok(())
}

/// Inner tables too.
fn documented(schema: &Value, part: &Value, place: &str) -> Verdict {
    ensure(part["additionalProperties"] == json!(false), || {
        format!("{place}the schema allows unknown keys: derive deny_unknown_fields")
    })?;
    for (key, property) in part["properties"].as_object().into_iter().flatten() {
        let text = property["description"].as_str().unwrap_or_default();
        ensure(!text.is_empty(), || {
            format!("{place}{key} has no doc comment")
        })?;
        let inner = resolve(schema, property);
        if inner["properties"].is_object() {
            documented(schema, inner, &format!("{place}{key}."))?;
        }
    }
    Ok(())
}

pub(crate) async fn unknown_config_key_is_named(kit: &Kit) -> Verdict {
    let mut config = kit.provider.config();
    config["surprising_key"] = json!(true);
    let error = refused_build(kit, config)?;
    ensure(error.message.contains("surprising_key"), || {
        format!("the error does not name the key: {error}")
    })
}

pub(crate) async fn config_example_builds(kit: &Kit) -> Verdict {
    let registration = kit.provider.registration();
    let mut config: toml::Table = toml::from_str(registration.example)
        .map_err(|error| format!("the example is not TOML: {error}"))?;
    let kind = config.get("connector").and_then(|kind| kind.as_str());
    ensure(kind == Some(registration.kind), || {
        format!("the example needs connector = \"{}\"", registration.kind)
    })?;
    for key in DAEMON_KEYS {
        config.remove(key);
    }
    let config = serde_json::to_value(config).map_err(|error| error.to_string())?;
    let any = kit
        .provider
        .secrets()
        .into_iter()
        .next()
        .map(|(_, value)| value);
    let secrets = kit.secrets().with_fallback(any.unwrap_or_default());
    let context = kit.context(secrets, RefusingHttp::default());
    let built = (registration.build)(config, context);
    let built = built.map_err(|error| format!("the example does not build: {error}"))?;
    let warnings = built.warnings();
    ensure(warnings.is_empty(), || {
        format!("the example is warned of: {}", warnings.join("; "))
    })
}

/// The README has the table that the schema makes, and the example that a case has built.
pub(crate) async fn readme_tells_the_configuration(kit: &Kit) -> Verdict {
    let registration = kit.provider.registration();
    let schema = (registration.schema)().to_value();
    let readme = check_readme(&kit.manifest_dir.join("README.md"), &schema)?;
    ensure(readme.contains(registration.example), || {
        "the README does not show the example".to_owned()
    })
}

/// Whether by name of the variable or otherwise, ops must learn which secret is not there.
pub(crate) async fn missing_secret_is_named(kit: &Kit) -> Verdict {
    let all = kit.provider.secrets();
    for (absent, _) in &all {
        let others = all.iter().filter(|(name, _)| name != absent).cloned();
        let context = kit.context(StaticSecrets::new(others), RefusingHttp::default());
        match (kit.provider.registration().build)(kit.provider.config(), context) {
            Ok(_) => return Err(format!("builds without the secret {absent}")),
            Err(error) => ensure(
                error.kind == ErrorKind::Config && error.message.contains(absent.as_str()),
                || format!("without {absent} the error is {:?}: {error}", error.kind),
            )?,
        }
    }
    Ok(())
}

/// Built on a thread without a runtime, with HTTP that counts calls and a provider that is not
/// there: whatever reaches for the network panics, is counted or fails.
pub(crate) async fn build_does_no_io(kit: &Kit) -> Verdict {
    let calls = Arc::new(AtomicUsize::new(0));
    let http = RefusingHttp {
        calls: Arc::clone(&calls),
    };
    let context = kit.context(kit.secrets(), http);
    let build = kit.provider.registration().build;
    let config = kit.provider.unreachable_config();
    let built = std::thread::spawn(move || build(config, context).map(drop)).join();
    match built {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            return Err(format!(
                "cannot be built while its provider is away: {error}"
            ));
        }
        Err(_) => return Err("building panicked without a runtime".to_owned()),
    }
    let calls = calls.load(Ordering::Relaxed);
    ensure(calls == 0, || format!("building made {calls} requests"))
}

/// A connector that cannot ask without sending may say what its last attempt found.
pub(crate) async fn health_tells_bad_credentials_from_unreachable(kit: &Kit) -> Verdict {
    let connector = kit.connector()?;
    let can = connector.capabilities();
    let well = connector.health().await;
    ensure(well == Health::Ready, || {
        format!("a working channel is {well:?}")
    })?;
    let side = match can.poll || can.stream {
        true => Side::Receive,
        false => Side::Send,
    };
    kit.provider.fail_next(side, Fault::RejectCredentials).await;
    let unauthorized = health_after_an_attempt(connector.as_ref()).await;
    ensure(matches!(unauthorized, Health::Unauthorized { .. }), || {
        format!("with rejected credentials the channel is {unauthorized:?}")
    })?;
    let healed = health_after_an_attempt(connector.as_ref()).await;
    let healed = match healed {
        Health::Ready => healed,
        // The attempt was a send, whose result the next question shows.
        _ => {
            attempt_to_send(connector.as_ref()).await;
            connector.health().await
        }
    };
    ensure(healed == Health::Ready, || {
        format!("with good credentials again the channel is {healed:?}")
    })?;
    let connector = kit.unreachable_connector()?;
    let unreachable = health_after_an_attempt(connector.as_ref()).await;
    ensure(matches!(unreachable, Health::Unreachable { .. }), || {
        format!("with nobody answering the channel is {unreachable:?}")
    })
}

/// What operators read where a channel does not work: every line names what was tried, and together
/// they say what `health` says.
pub(crate) async fn checks_name_what_was_tried(kit: &Kit) -> Verdict {
    for connector in [kit.connector()?, kit.unreachable_connector()?] {
        agrees_with_health(connector.as_ref()).await?;
    }
    let connector = kit.connector()?;
    let can = connector.capabilities();
    if !can.poll && !can.stream {
        return Ok(());
    }
    kit.provider
        .fail_next(Side::Receive, Fault::RejectCredentials)
        .await;
    let checks = connector.check().await;
    let refused = |check: &Check| matches!(check.health, Health::Unauthorized { .. });
    ensure(checks.iter().any(refused), || {
        format!("with rejected credentials the checks say {checks:?}")
    })
}

async fn agrees_with_health(connector: &dyn connector_api::Connector) -> Verdict {
    let checks = connector.check().await;
    let health = connector.health().await;
    ensure(!checks.is_empty(), || "nothing was checked".to_owned())?;
    for (at, check) in checks.iter().enumerate() {
        for (part, text) in [("what", check.what.as_str()), ("detail", check.detail())] {
            ensure(
                !text.trim().is_empty() && !text.contains(char::is_control),
                || format!("{part} of a check is no line: {check:?}"),
            )?;
        }
        let again = checks
            .iter()
            .skip(at + 1)
            .any(|other| other.what == check.what);
        ensure(!again, || format!("two checks are called {:?}", check.what))?;
    }
    let says = |check: &Check| check.health.as_str() == health.as_str();
    let agrees = match health {
        Health::Ready => checks.iter().all(says),
        _ => checks.iter().any(says),
    };
    ensure(agrees, || {
        format!("health is {health:?}, and the checks say {checks:?}")
    })
}

async fn health_after_an_attempt(connector: &dyn connector_api::Connector) -> Health {
    match connector.health().await {
        Health::Ready => {
            attempt_to_send(connector).await;
            connector.health().await
        }
        found => found,
    }
}

async fn attempt_to_send(connector: &dyn connector_api::Connector) {
    if let Some(sender) = connector.sender() {
        drop(sender.send(&reply_to_someone("are you there")).await);
    }
}

fn refused_build(kit: &Kit, config: Value) -> Verdict<Error> {
    match kit.build(config) {
        Ok(_) => Err("was accepted".to_owned()),
        Err(error) if error.kind == ErrorKind::Config => Ok(error),
        Err(error) => Err(format!("is {:?} and not Config: {error}", error.kind)),
    }
}

#[derive(Default)]
struct RefusingHttp {
    calls: Arc<AtomicUsize>,
}

#[async_trait]
impl HttpClient for RefusingHttp {
    async fn execute(&self, _: HttpRequest) -> Result<HttpResponse> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Err(Error::unavailable("nobody may be asked here"))
    }
}
