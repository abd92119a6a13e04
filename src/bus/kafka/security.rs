//! TLS and SASL towards the brokers: what librdkafka is told, and what its errors mean.

use std::path::PathBuf;

use rdkafka::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;
use secrecy::{ExposeSecret, SecretString};

use super::settings::Settings;

/// Characters of what others say that are told on.
const SAID_MAX: usize = 300;

/// How we know the brokers, and they us.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
}

/// PEM files.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Who signed the brokers' certificates; `None`: whom the system believes.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate and its key.
    pub own: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone)]
pub enum Sasl {
    Password {
        /// As Kafka calls it.
        mechanism: &'static str,
        username: String,
        password: SecretString,
    },
    Token(Tokens),
}

/// Where tokens are from.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    pub url: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub client_id: Option<String>,
    pub client_secret: Option<SecretString>,
    pub scope: Option<String>,
}

impl Security {
    /// After what is passed through, so that nothing there can loosen it.
    pub fn set(&self, config: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        let mut set = |key: &str, value: Option<&str>| {
            if let Some(value) = value {
                config.set(key, value);
            }
        };
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        if let Some(tls) = &self.tls {
            set("enable.ssl.certificate.verification", Some("true"));
            set("ssl.endpoint.identification.algorithm", Some("https"));
            set("ssl.ca.location", tls.ca_file.as_ref().map(path).as_deref());
            if let Some((cert, key)) = &tls.own {
                set("ssl.certificate.location", Some(&path(cert)));
                set("ssl.key.location", Some(&path(key)));
            }
        }
        match &self.sasl {
            None => {}
            Some(Sasl::Password {
                mechanism,
                username,
                password,
            }) => {
                set("sasl.mechanism", Some(mechanism));
                set("sasl.username", Some(username));
                set("sasl.password", Some(password.expose_secret()));
            }
            // Every client asks for a token of its own, on a thread of librdkafka's, and again before it ends.
            Some(Sasl::Token(tokens)) => {
                set("sasl.mechanism", Some("OAUTHBEARER"));
                set("sasl.oauthbearer.method", Some("oidc"));
                set("sasl.oauthbearer.token.endpoint.url", tokens.url.as_deref());
                set("sasl.oauthbearer.client.id", tokens.client_id.as_deref());
                let secret = tokens.client_secret.as_ref();
                let secret = secret.map(ExposeSecret::expose_secret);
                set("sasl.oauthbearer.client.secret", secret);
                set("sasl.oauthbearer.scope", tokens.scope.as_deref());
                set(
                    "https.ca.location",
                    tokens.ca_file.as_ref().map(path).as_deref(),
                );
            }
        }
    }

    fn token_url(&self) -> Option<&str> {
        match &self.sasl {
            Some(Sasl::Token(tokens)) => tokens.url.as_deref(),
            _ => None,
        }
    }

    /// What has to be mended where the brokers do not believe us.
    fn credentials(&self) -> &'static str {
        match &self.sasl {
            None => "bus.sasl",
            Some(Sasl::Password { .. }) => "bus.sasl, bus.username and bus.password",
            Some(Sasl::Token(_)) => {
                "bus.client_id and bus.scope, or what brokers expect of a token"
            }
        }
    }
}

/// What an error of a client's means that has to do with TLS or SASL, in one line with what to do; `None`
/// where it has not.
pub fn explain(code: RDKafkaErrorCode, reason: &str, settings: &Settings) -> Option<String> {
    use RDKafkaErrorCode as Code;
    let (brokers, security) = (&settings.brokers, &settings.security);
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            match (
                reason.split_once("OAUTHBEARER token: "),
                security.token_url(),
            ) {
                (Some((_, said)), Some(url)) => format!(
                    "no token for Kafka from {url}: {}: mend bus.token_url, bus.client_id or bus.client_secret",
                    told(said)
                ),
                _ => format!(
                    "Kafka at {brokers} refuses the credentials: mend {}",
                    security.credentials()
                ),
            }
        }
        Code::SSL if reason.contains("certificate verify failed") => format!(
            "the certificate of Kafka at {brokers} is not believed: name its authority in bus.ca_file, and brokers as their certificates do in bus.brokers"
        ),
        Code::SSL => format!(
            "TLS with Kafka at {brokers} fails: look at bus.tls, bus.ca_file and bus.cert_file ({})",
            told(reason)
        ),
        _ => return None,
    })
}

/// What a client's line about a failed connection means, where that has to do with TLS or SASL.
pub fn explain_line(line: &str, settings: &Settings) -> Option<String> {
    use RDKafkaErrorCode as Code;
    let code = match line {
        _ if line.contains("SASL authentication error") => Code::SaslAuthenticationFailed,
        _ if line.contains("SSL handshake failed") => Code::SSL,
        // One that was of use may say this as well: it is being stopped.
        _ if line.contains("in state UP") => return None,
        _ => return explain_end(line, settings),
    };
    explain(code, line, settings)
}

/// What it means that a broker ended a connection, where that may have to do with TLS or SASL. Of one that was of
/// use before, it does not: it is being stopped.
pub fn explain_end(reason: &str, settings: &Settings) -> Option<String> {
    let brokers = &settings.brokers;
    if reason.contains("PLAINTEXT broker") {
        return Some(format!(
            "Kafka at {brokers} hangs up instead of TLS: where it speaks none, name another port in bus.brokers, or set bus.tls to \"off\""
        ));
    }
    // What one that waits for TLS does with anything else, and one that waits for SASL.
    let at_once = reason.contains("in state APIVERSION_QUERY")
        || reason.contains("in state UP") && settings.security.sasl.is_none();
    (reason.contains("Disconnected") && at_once).then(|| {
        format!("Kafka at {brokers} hangs up on the first request: where it wants TLS, or to know who we are, set bus.tls and bus.sasl")
    })
}

/// Nothing of ours is in what they say; it is kept short and on one line.
fn told(said: &str) -> String {
    let words: Vec<&str> = said.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(SAID_MAX).collect();
    line.trim_end_matches(['.', ':']).to_owned()
}

/// What else may be missing where no broker answers: clients that have no token ask none.
pub fn unanswered(settings: &Settings) -> String {
    let url = settings.security.token_url();
    url.map_or_else(String::new, |url| {
        format!("; or {url} gives no token: look there")
    })
}
