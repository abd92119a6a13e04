//! A broker that speaks TLS, asks who one is, and allows nobody anything that was not allowed by name. Whoever comes over its
//! plain listener may do everything: it is the other brokers, and the test.

use std::path::PathBuf;
use std::process::Command;

use super::{Beside, Kafka, Node, plan};
use crate::peers::server::{self, Server};

/// Who one is, whichever way it is said.
pub const USER: &str = "switchboard";
/// Another one, by password (PLAIN) alone.
pub const NEWCOMER: &str = "newcomer";

pub struct Secured {
    pub kafka: Kafka,
    /// Asks for a certificate.
    pub tls: u16,
    /// TLS, and any mechanism of SASL.
    pub sasl: u16,
}

/// What a broker of this kind is made of.
pub struct Papers<'a> {
    /// PEM of its certificate and key, and of the authority that its clients' certificates are from.
    pub cert: &'a str,
    pub key: &'a str,
    pub authority: &'a str,
    /// The user's password.
    pub password: &'a str,
    /// The keys that tokens are signed with (JWKS).
    pub keys: &'a str,
}

/// One thing that a user may do.
#[derive(Debug, Clone)]
pub struct Allowed {
    /// `TOPIC` or `GROUP`.
    pub what: &'static str,
    pub name: String,
    /// Whether it is the begin of names.
    pub is_prefix: bool,
    pub operation: &'static str,
}

impl Secured {
    pub fn start(papers: &Papers<'_>) -> Secured {
        let (server, (port, tls, sasl)) = Server::start(|| {
            let nodes = [Node::new(1)];
            let (tls, sasl) = (server::free_port(), server::free_port());
            let beside = beside(papers, tls, sasl);
            (plan(&nodes, 0, &beside), (nodes[0].port, tls, sasl))
        });
        let kafka = Kafka { port, server };
        Secured { kafka, tls, sasl }
    }

    /// Allows a user these things, by Confluent's client: ours knows no such request.
    pub fn allow(&self, user: &str, all: &[Allowed]) {
        let home = std::env::var_os("HOME").expect("a home directory");
        let installed = PathBuf::from(home).join(".cache/switchboard-peers/topics");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/allowed.py");
        let words = all.iter().flat_map(|one| {
            let pattern = if one.is_prefix { "PREFIXED" } else { "LITERAL" };
            [one.what, &one.name, pattern, one.operation]
        });
        let done = Command::new(installed.join("venv/bin/python"))
            .args([script, &self.kafka.brokers(), user])
            .args(words)
            .output()
            .expect("Python is installed by make test");
        let said = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{all:?}: {said}");
    }
}

fn beside(papers: &Papers<'_>, tls: u16, sasl: u16) -> Beside {
    let password = papers.password;
    let login = "org.apache.kafka.common.security";
    let settings = format!(
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
ssl.keystore.type=PEM
ssl.keystore.location={{dir}}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={{dir}}/authority.pem
listener.name.mutual.ssl.client.auth=required
listener.name.mutual.ssl.principal.mapping.rules=RULE:^.*$/{USER}/
listener.name.login.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.login.plain.sasl.jaas.config={login}.plain.PlainLoginModule required user_{USER}=\"{password}\" user_{NEWCOMER}=\"{password}\";
listener.name.login.scram-sha-256.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.login.scram-sha-512.sasl.jaas.config={login}.scram.ScramLoginModule required;
listener.name.login.oauthbearer.sasl.jaas.config={login}.oauthbearer.OAuthBearerLoginModule required;
listener.name.login.oauthbearer.connections.max.reauth.ms=3600000
listener.name.login.oauthbearer.sasl.server.callback.handler.class={login}.oauthbearer.OAuthBearerValidatorCallbackHandler
sasl.oauthbearer.jwt.validator.class={login}.oauthbearer.BrokerJwtValidator
sasl.oauthbearer.jwks.endpoint.url=file://{{dir}}/keys.json
"
    );
    let scram = |mechanism: &str| format!("{mechanism}=[name={USER},password={password}]");
    let keys = "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{dir}/keys.json";
    Beside {
        listeners: vec![("MUTUAL", "SSL", tls), ("LOGIN", "SASL_SSL", sasl)],
        files: vec![
            ("broker.pem", format!("{}{}", papers.key, papers.cert)),
            ("authority.pem", papers.authority.to_owned()),
            ("keys.json", papers.keys.to_owned()),
        ],
        settings,
        format: ["SCRAM-SHA-256", "SCRAM-SHA-512"]
            .into_iter()
            .flat_map(|mechanism| ["--add-scram".to_owned(), scram(mechanism)])
            .collect(),
        flags: vec![keys.to_owned()],
    }
}
