//! The token endpoint: one request, one answer, and what each error of RFC 6749, section 5.2, and
//! RFC 8628, section 3.5, means for the channel.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Bytes, Error, ErrorKind, ExposeSecret, HttpClient, HttpMethod, HttpRequest, HttpResponse,
    Result, SecretString,
};
use serde::Deserialize;
use url::form_urlencoded;

use crate::oauth::OAuthSettings;

/// Tokens with all their claims are some kilobytes.
const ANSWER_BYTES_MAX: usize = 256 * 1024;
const TIMEOUT: Duration = Duration::from_secs(30);
/// A token is one line of a login; longer than this no server takes one.
const TOKEN_CHARS_MAX: usize = 16 * 1024;
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

pub(super) struct Endpoint {
    http: Arc<dyn HttpClient>,
    token_url: String,
    client_id: String,
    client_secret: Option<SecretString>,
    scopes: String,
}

/// What the provider issued.
pub(super) struct Issued {
    pub(super) access_token: String,
    pub(super) refresh_token: Option<String>,
    pub(super) expires_in: Option<Duration>,
}

/// What a device is shown, and how it asks (RFC 8628, section 3.2).
#[derive(Deserialize)]
pub(super) struct DeviceAuthorization {
    pub(super) device_code: String,
    pub(super) user_code: String,
    #[serde(alias = "verification_url")]
    pub(super) verification_uri: String,
    #[serde(default)]
    pub(super) verification_uri_complete: Option<String>,
    pub(super) expires_in: u64,
    #[serde(default)]
    pub(super) interval: Option<u64>,
}

/// How a device's question was answered.
pub(super) enum DeviceAnswer {
    Issued(Issued),
    Pending,
    SlowDown,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    token_type: Option<String>,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// Some write numbers as texts.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(u64),
    Text(String),
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Endpoint {
    pub(super) fn new(settings: &OAuthSettings, http: Arc<dyn HttpClient>) -> Self {
        Self {
            http,
            token_url: settings.token_url.clone(),
            client_id: settings.client_id.clone(),
            client_secret: settings.client_secret.clone(),
            scopes: settings.scopes.clone(),
        }
    }

    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Issued> {
        let scopes = self.scopes.as_str();
        self.issue(&[
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh_token),
            ("scope", scopes),
        ])
        .await
    }

    pub(super) async fn client_credentials(&self) -> Result<Issued> {
        let scopes = self.scopes.as_str();
        self.issue(&[("grant_type", "client_credentials"), ("scope", scopes)])
            .await
    }

    pub(super) async fn code(
        &self,
        code: &str,
        redirect_uri: &str,
        verifier: &str,
    ) -> Result<Issued> {
        self.issue(&[
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier),
        ])
        .await
    }

    /// Asks for a code that a person enters elsewhere.
    pub(super) async fn device(&self, url: &str) -> Result<DeviceAuthorization> {
        let answer = self.post(url, &[("scope", &self.scopes)]).await?;
        if answer.status != 200 {
            return Err(refused(&answer));
        }
        serde_json::from_slice(&answer.body).map_err(|_| unreadable())
    }

    /// Asks whether the person has entered it.
    pub(super) async fn device_answer(&self, device_code: &str) -> Result<DeviceAnswer> {
        let form = [("grant_type", DEVICE_GRANT), ("device_code", device_code)];
        let answer = self.post(&self.token_url, &form).await?;
        if answer.status == 200 {
            return issued(&answer).map(DeviceAnswer::Issued);
        }
        match refusal(&answer).error.as_str() {
            "authorization_pending" => Ok(DeviceAnswer::Pending),
            "slow_down" => Ok(DeviceAnswer::SlowDown),
            "access_denied" => Err(Error::auth("the person asked denied the access")),
            "expired_token" => Err(Error::auth("the code was not entered in time")),
            _ => Err(refused(&answer)),
        }
    }

    async fn issue(&self, form: &[(&str, &str)]) -> Result<Issued> {
        let answer = self.post(&self.token_url, form).await?;
        match answer.status {
            200 => issued(&answer),
            _ => Err(refused(&answer)),
        }
    }

    async fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<HttpResponse> {
        let request = HttpRequest {
            method: HttpMethod::Post,
            url: url.to_owned(),
            headers: vec![
                (
                    "content-type".to_owned(),
                    "application/x-www-form-urlencoded".into(),
                ),
                ("accept".to_owned(), "application/json".into()),
            ],
            body: self.body(form),
            timeout: TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        // Asking twice is harmless, so an answer that was lost is only an outage.
        self.http
            .execute(request)
            .await
            .map_err(|error| Error::unavailable(format!("no token from {}: {error}", host_of(url))))
    }

    fn body(&self, form: &[(&str, &str)]) -> Bytes {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(form.iter().filter(|(_, value)| !value.is_empty()));
        body.append_pair("client_id", &self.client_id);
        if let Some(secret) = &self.client_secret {
            body.append_pair("client_secret", secret.expose_secret());
        }
        Bytes::from(body.finish())
    }
}

fn issued(answer: &HttpResponse) -> Result<Issued> {
    let answer: TokenAnswer = serde_json::from_slice(&answer.body).map_err(|_| unreadable())?;
    let is_bearer = answer
        .token_type
        .is_none_or(|kind| kind.eq_ignore_ascii_case("bearer"));
    // It becomes part of a login: nothing but what RFC 6750, section 2.1, allows.
    let is_clean = |token: &str| {
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        printable && !token.is_empty() && token.len() <= TOKEN_CHARS_MAX
    };
    if !is_bearer || !is_clean(&answer.access_token) {
        return Err(unreadable());
    }
    let seconds = match answer.expires_in {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.parse().ok(),
        None => None,
    };
    Ok(Issued {
        access_token: answer.access_token,
        refresh_token: answer.refresh_token.filter(|token| !token.is_empty()),
        expires_in: seconds.map(Duration::from_secs),
    })
}

fn refusal(answer: &HttpResponse) -> Refusal {
    serde_json::from_slice(&answer.body).unwrap_or_default()
}

/// The one place where an answer of the provider becomes an [`ErrorKind`].
fn refused(answer: &HttpResponse) -> Error {
    let refusal = refusal(answer);
    let code = code_of(&refusal);
    let kind = match (answer.status, refusal.error.as_str()) {
        (429, _) => ErrorKind::RateLimited {
            retry_after: answer.retry_after(),
        },
        (500.., _) | (_, "temporarily_unavailable" | "server_error") => ErrorKind::Unavailable,
        (400..=499, "") => ErrorKind::Unavailable,
        (400..=499, "invalid_client" | "unauthorized_client" | "invalid_scope")
        | (400..=499, "unsupported_grant_type") => ErrorKind::Config,
        (400..=499, _) => ErrorKind::Auth,
        _ => ErrorKind::Unavailable,
    };
    let status = answer.status;
    Error::new(
        kind,
        match refusal.error.as_str() {
            "" => format!("the token endpoint answered {status}"),
            "invalid_grant" => format!("the provider no longer accepts the grant ({code})"),
            "invalid_client" | "unauthorized_client" => format!(
                "the provider refuses this client ({code}), see oauth.client_id and client_secret"
            ),
            _ => format!("the provider issues no token ({code})"),
        },
    )
}

/// The error's code, and Microsoft's own number of it; never its description, which may name people.
fn code_of(refusal: &Refusal) -> String {
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    let code: String = refusal
        .error
        .chars()
        .filter(|c| is_word(*c))
        .take(40)
        .collect();
    let number = refusal
        .error_description
        .split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.starts_with("AADSTS") && word.len() <= 14);
    match number {
        Some(number) => format!("{code}, {number}"),
        None => code,
    }
}

fn unreadable() -> Error {
    Error::unavailable("the token endpoint answered what cannot be read")
}

fn host_of(url: &str) -> String {
    let host = url::Url::parse(url)
        .ok()
        .and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| "the provider".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse {
            status,
            headers: vec![("retry-after".to_owned(), "7".to_owned())],
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn refusals_say_whom_to_ask_and_outages_are_tried_again() {
        let seven = Some(Duration::from_secs(7));
        for (status, body, kind, words) in [
            (
                400,
                r#"{"error":"invalid_grant"}"#,
                ErrorKind::Auth,
                "no longer accepts the grant (invalid_grant)",
            ),
            (
                401,
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: secret of kim@shop.example"}"#,
                ErrorKind::Config,
                "(invalid_client, AADSTS7000215)",
            ),
            (
                400,
                r#"{"error":"invalid_scope"}"#,
                ErrorKind::Config,
                "no token (invalid_scope)",
            ),
            (
                503,
                r#"{"error":"invalid_grant"}"#,
                ErrorKind::Unavailable,
                "",
            ),
            (400, "<html>", ErrorKind::Unavailable, "answered 400"),
            (302, "", ErrorKind::Unavailable, "answered 302"),
            (429, "", ErrorKind::RateLimited { retry_after: seven }, ""),
        ] {
            let error = refused(&answer(status, body));
            assert_eq!(error.kind, kind, "{body}");
            assert!(error.message.contains(words), "{}", error.message);
            assert!(!error.message.contains("kim"), "{}", error.message);
        }
    }

    #[test]
    fn what_is_no_bearer_token_of_one_word_is_refused() {
        let good = r#"{"access_token":"a.b-c","token_type":"bearer","expires_in":"3600"}"#;
        let got = issued(&answer(200, good)).unwrap();
        assert_eq!(got.expires_in, Some(Duration::from_secs(3600)));
        for bad in [
            r#"{"access_token":"a\u0001auth=x"}"#,
            r#"{"access_token":"a b"}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"a","token_type":"mac"}"#,
            r#"{"token":"a"}"#,
            "",
        ] {
            assert!(issued(&answer(200, bad)).is_err(), "{bad}");
        }
    }
}
