//! Secrets stay secret: everything a connector says is searched for them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use connector_api::WebhookRequest;

use crate::cases::send::reply_to_someone;
use crate::context::StaticSecrets;
use crate::http::LoopbackHttp;
use crate::kit::{Kit, Verdict, ensure};
use crate::line::StreamRun;
use crate::logs::CapturedLogs;
use crate::provider::{Fault, Side};

/// Tokens are longer than the names and dates that are kept beside them.
const KEPT_CHARS_MIN: usize = 28;
/// Shortest secret that can be searched for without finding ordinary words.
const SECRET_CHARS_MIN: usize = 8;

pub(crate) async fn secrets_never_in_debug_errors_or_logs(kit: &Kit) -> Verdict {
    let logs = CapturedLogs::start();
    let mut said = Vec::new();
    build_with_spoilt_secrets(kit, &mut said);
    for connector in [kit.connector()?, kit.unreachable_connector()?] {
        said.push(format!("{:?}", connector.capabilities()));
        said.push(format!("{:?}", connector.check().await));
        said.extend(connector.warnings());
        said.push(format!("{:?}", connector.health().await));
        if let Some(source) = connector.webhook_source() {
            let request = WebhookRequest::default();
            said.extend(
                source
                    .verify(&request)
                    .err()
                    .map(|error| format!("{error:?}")),
            );
        }
        if let Some(sender) = connector.sender() {
            for fault in [Fault::RejectCredentials, Fault::ServerError, Fault::Garbage] {
                kit.provider.fail_next(Side::Send, fault).await;
                said.push(format!(
                    "{:?}",
                    sender.send(&reply_to_someone("hello")).await
                ));
            }
        }
        said.push(format!("{:?}", connector.health().await));
    }
    let connector = kit.connector()?;
    if connector.stream_source().is_some() || connector.poll_source().is_some() {
        kit.provider
            .fail_next(Side::Receive, Fault::RejectCredentials)
            .await;
        said.push(format!("{:?}", connector.check().await));
    }
    if connector.stream_source().is_some() {
        kit.provider
            .fail_next(Side::Receive, Fault::RejectCredentials)
            .await;
        let run = StreamRun::start(connector, std::sync::Arc::default());
        said.push(format!("{:?}", run.ended().await));
    } else if let Some(source) = connector.poll_source() {
        kit.provider
            .fail_next(Side::Receive, Fault::RejectCredentials)
            .await;
        said.push(format!("{:?}", source.poll(None).await));
    }
    said.push(logs.text());
    for (name, secret) in kit.provider.secrets().into_iter().chain(kept(kit)) {
        ensure(secret.len() >= SECRET_CHARS_MIN, || {
            format!("the secret {name} is too short to be searched for")
        })?;
        for form in forms(&secret) {
            if let Some(leak) = said.iter().find(|text| text.contains(&form)) {
                let shown: String = leak
                    .replace(&form, "<the secret>")
                    .chars()
                    .take(300)
                    .collect();
                return Err(format!("the secret {name} is shown: {shown}"));
            }
        }
    }
    Ok(())
}

/// What the connector keeps, and each long word in it: a token among other things is one as well.
fn kept(kit: &Kit) -> Vec<(String, String)> {
    let words = |value: &str| {
        let is_long = |word: &&str| word.len() >= KEPT_CHARS_MIN;
        let words = value.split(|c: char| c == '"' || c.is_whitespace());
        let is_address = |word: &&str| !word.contains("://");
        words
            .filter(is_long)
            .filter(is_address)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let kept = kit.credentials.shown().into_iter();
    kept.flat_map(|(name, value)| {
        words(&value)
            .into_iter()
            .map(move |word| (name.clone(), word))
    })
    .collect()
}

/// A secret that cannot be used is the likeliest to be quoted in an error.
fn build_with_spoilt_secrets(kit: &Kit, said: &mut Vec<String>) {
    for (spoilt, _) in kit.provider.secrets() {
        let secrets = kit.provider.secrets().into_iter().map(|(name, value)| {
            let value = match name == spoilt {
                true => format!("{value}\u{1}!"),
                false => value,
            };
            (name, value)
        });
        let context = kit.context(StaticSecrets::new(secrets), LoopbackHttp::new());
        let built = (kit.provider.registration().build)(kit.provider.config(), context);
        said.extend(built.err().map(|error| format!("{error:?} {error}")));
    }
}

/// The secret as it is, without a prefix like `whsec_`, and in base64 at each of the three places
/// it can have in a group (AUTH PLAIN joins it to a user name first).
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    let bare = secret.rsplit('_').next().unwrap_or(secret);
    if bare.len() >= SECRET_CHARS_MIN {
        forms.push(bare.to_owned());
    }
    for shift in 0..3 {
        let shifted = [&vec![0; shift][..], secret.as_bytes()].concat();
        let whole = shifted.len() / 3 * 3;
        let encoded = STANDARD.encode(shifted.get(..whole).unwrap_or_default());
        // The first group is mixed with what stood before the secret.
        let own = encoded
            .get(if shift == 0 { 0 } else { 4 }..)
            .unwrap_or_default();
        if own.len() >= SECRET_CHARS_MIN {
            forms.push(own.to_owned());
        }
    }
    forms
}
