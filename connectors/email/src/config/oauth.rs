//! OAuth as it is configured: a client of the provider, and where its tokens come from.

use connector_api::{BuildContext, SecretRef};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::is_loopback;
use crate::config::preset::Preset;
use crate::oauth::{Grant, OAuthSettings};

/// OAuth in place of passwords.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OAuthConfig {
    /// The application's id at the provider.
    pub client_id: String,
    /// The application's secret; without one for public clients.
    #[serde(default)]
    pub client_secret: Option<SecretRef>,
    /// `refresh`: a person grants access once, with `switchboard channel authorize NAME`.
    /// `client_credentials`: an administrator granted it to the application.
    #[serde(default)]
    pub grant: GrantKind,
    /// With `microsoft365`: the organisation's id or domain. `client_credentials` needs it.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Where tokens come from. The presets know theirs.
    #[serde(default)]
    pub token_url: Option<String>,
    /// Where `channel authorize` gets a code to enter on any device.
    #[serde(default)]
    pub device_authorization_url: Option<String>,
    /// Where `channel authorize` sends a browser that comes back to this machine.
    #[serde(default)]
    pub authorize_url: Option<String>,
    /// What is asked for. The presets know theirs.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
}

/// How tokens are obtained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GrantKind {
    #[default]
    Refresh,
    ClientCredentials,
}

/// What a preset knows of its provider's OAuth.
pub(super) struct Known {
    pub(super) token_url: String,
    pub(super) device_authorization_url: Option<String>,
    pub(super) authorize_url: Option<String>,
    pub(super) scopes: &'static [&'static str],
    pub(super) redirect_host: &'static str,
    pub(super) authorize_extra: &'static [(&'static str, &'static str)],
}

pub(super) fn check(
    config: OAuthConfig,
    preset: Option<Preset>,
    user: &str,
    context: &BuildContext,
    faults: &mut Vec<String>,
) -> OAuthSettings {
    let known = preset.map(|preset| preset.oauth(config.tenant.as_deref(), config.grant));
    if config.tenant.is_some() && preset != Some(Preset::Microsoft365) {
        faults.push("oauth.tenant belongs to the preset microsoft365".to_owned());
    }
    if let Some(tenant) = &config.tenant
        && !is_word(tenant)
    {
        faults.push(format!("oauth.tenant: {tenant:?} is no id or domain"));
    }
    if let Some(preset) = preset
        && config.grant == GrantKind::ClientCredentials
    {
        faults.extend(preset.fault_of_application(config.tenant.is_some()));
    }
    if config.client_id.trim().is_empty() {
        faults.push("oauth.client_id is empty".to_owned());
    }
    if config.grant == GrantKind::ClientCredentials && config.client_secret.is_none() {
        faults.push("oauth.client_secret is missing: client_credentials needs one".to_owned());
    }
    let client_secret = config.client_secret.and_then(|secret| {
        let resolved = context.secrets.resolve(&secret);
        resolved
            .map_err(|error| faults.push(format!("oauth.client_secret: {error}")))
            .ok()
    });
    let mut address = |key: &str, given: Option<String>, known: Option<String>| {
        let address = given.or(known)?;
        if let Err(fault) = is_address(&address) {
            faults.push(format!("oauth.{key}: {fault}"));
        }
        Some(address)
    };
    let of = |get: fn(&Known) -> Option<String>| known.as_ref().and_then(get);
    let token_url = address(
        "token_url",
        config.token_url,
        of(|known| Some(known.token_url.clone())),
    );
    let device_authorization_url = address(
        "device_authorization_url",
        config.device_authorization_url,
        of(|known| known.device_authorization_url.clone()),
    );
    let authorize_url = address(
        "authorize_url",
        config.authorize_url,
        of(|known| known.authorize_url.clone()),
    );
    if token_url.is_none() {
        faults.push("oauth.token_url is missing (the presets know theirs)".to_owned());
    }
    if config.grant == GrantKind::Refresh
        && device_authorization_url.is_none()
        && authorize_url.is_none()
    {
        faults.push(
            "oauth needs a device_authorization_url or an authorize_url, for a person to grant access"
                .to_owned(),
        );
    }
    let scopes = config.scopes.unwrap_or_else(|| {
        let known = known.as_ref().map_or(&[][..], |known| known.scopes);
        known.iter().map(|scope| (*scope).to_owned()).collect()
    });
    if scopes.iter().any(|scope| !is_word(scope)) {
        faults.push("oauth.scopes: each is one word without spaces".to_owned());
    }
    OAuthSettings {
        client_id: config.client_id,
        client_secret,
        grant: match config.grant {
            GrantKind::Refresh => Grant::Refresh,
            GrantKind::ClientCredentials => Grant::ClientCredentials,
        },
        scopes: scopes.join(" "),
        token_url: token_url.unwrap_or_default(),
        device_authorization_url,
        authorize_url,
        redirect_host: known
            .as_ref()
            .map_or("127.0.0.1", |known| known.redirect_host),
        authorize_extra: known.as_ref().map_or(&[], |known| known.authorize_extra),
        login_hint: user.to_owned(),
    }
}

/// Secrets go there: TLS, except on this machine's loopback.
fn is_address(text: &str) -> Result<(), String> {
    let url = url::Url::parse(text).map_err(|error| format!("{text:?} is no address: {error}"))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => Ok(()),
        "http" if is_loopback(host) => Ok(()),
        _ => Err(format!("{text:?} must begin with https://")),
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
