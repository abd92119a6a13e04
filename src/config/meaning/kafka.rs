//! What only the bus on Kafka needs: brokers, what is passed through to librdkafka, TLS and SASL.

use std::net::IpAddr;

use serde_json::Value;

use super::Meaning;
use crate::config::kafka_keys;
use crate::config::tree::KeyPath;

/// Whether this build has what TLS, SCRAM and tokens need.
const SECURED: bool = cfg!(feature = "kafka-secured");

const PASSWORDS: [&str; 2] = ["username", "password"];
const TOKENS: [&str; 5] = [
    "token_url",
    "token_ca_file",
    "client_id",
    "client_secret",
    "scope",
];
/// Other ways to a token, which librdkafka has and we do not: what they need is theirs to say.
const OTHER_TOKENS: [&str; 2] = [
    "sasl.oauthbearer.grant.type",
    "sasl.oauthbearer.metadata.authentication.type",
];

impl Meaning<'_> {
    /// What only the bus on Kafka needs, and what it does not pass through.
    pub(super) fn kafka(&mut self) {
        let bus = KeyPath::of(["bus"]);
        let is_kafka = self.text(&bus.key("kind")).as_deref() == Some("kafka");
        let brokers = self.tree.get(&bus.key("brokers")).and_then(Value::as_array);
        if is_kafka && brokers.is_some_and(Vec::is_empty) {
            let message = "the list is empty, and bus.kind is kafka: name at least one broker, as \"host:9092\"";
            self.push(&bus.key("brokers"), message);
        }
        let topics = KeyPath::of(["fan_out", "queue_topics"]);
        if !is_kafka && self.tree.get(&topics) == Some(&Value::Bool(true)) {
            let message = "nobody else reads the local bus: set it to false, or bus.kind to kafka";
            self.push(&topics, message);
        }
        for table in ["librdkafka", "librdkafka_secrets"] {
            let path = bus.key(table);
            let keys: Vec<String> = self.tree.table(&path).map(|(key, _)| key.clone()).collect();
            for key in keys {
                if let Some(why) = kafka_keys::owned(&key) {
                    let message = format!("Switchboard sets this itself: {why}");
                    self.push(&path.key(&key), message);
                } else if table == "librdkafka" && kafka_keys::is_secret(&key) {
                    let message = "this is a secret: name it under bus.librdkafka_secrets, as { env = \"…\" } or { file = \"…\" }";
                    self.push(&path.key(&key), message);
                }
            }
        }
        if self.text(&bus.key("group_protocol")).as_deref() == Some("consumer") {
            for key in ["session.timeout.ms", "heartbeat.interval.ms"] {
                let path = bus.key("librdkafka").key(key);
                if self.tree.get(&path).is_some() {
                    let message = format!(
                        "with bus.group_protocol = \"consumer\" brokers say this: set group.consumer.{key} there"
                    );
                    self.push(&path, message);
                }
            }
        }
        self.secured();
    }

    /// TLS and SASL: keys that belong together, and what must not go over a network unencrypted.
    fn secured(&mut self) {
        let bus = KeyPath::of(["bus"]);
        let tls = self.text(&bus.key("tls")).as_deref() == Some("on");
        let sasl = self.text(&bus.key("sasl"));
        let given = |meaning: &Self, key: &str| meaning.tree.get(&bus.key(key)).is_some();
        for (key, why) in missing_of_build(tls, sasl.as_deref(), SECURED) {
            self.push(&bus.key(key), why);
        }
        for key in ["ca_file", "cert_file", "key_file"] {
            if given(self, key) && !tls {
                self.push(&bus.key(key), "it is used only with bus.tls = \"on\"");
            }
        }
        for (key, other) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
            if given(self, key) && !given(self, other) {
                let message = format!(
                    "the key {other:?} is missing: a certificate of our own is used with its private key"
                );
                self.push(&bus.key(key), message);
            }
        }
        let passed = bus.key("librdkafka");
        let other_tokens =
            (OTHER_TOKENS.iter()).any(|key| self.tree.get(&passed.key(key)).is_some());
        let tokens: &[&str] = match other_tokens {
            true => &[],
            false => &["token_url", "client_id", "client_secret"],
        };
        let (needed, unused): (&[&str], Vec<(&str, &str)>) = match sasl.as_deref() {
            Some("oauthbearer") => (
                tokens,
                PASSWORDS
                    .map(|key| (key, "\"plain\" or \"scram-sha-…\""))
                    .into(),
            ),
            Some("plain" | "scram-sha-256" | "scram-sha-512") => (
                &PASSWORDS,
                TOKENS.map(|key| (key, "\"oauthbearer\"")).into(),
            ),
            Some(_) => return,
            None => {
                let passwords = PASSWORDS.map(|key| (key, "\"plain\" or \"scram-sha-…\""));
                let tokens = TOKENS.map(|key| (key, "\"oauthbearer\""));
                (&[], passwords.into_iter().chain(tokens).collect())
            }
        };
        for (key, with) in unused {
            if given(self, key) {
                self.push(
                    &bus.key(key),
                    format!("it is used only with bus.sasl = {with}"),
                );
            }
        }
        let sasl = sasl.unwrap_or_default();
        for key in needed
            .iter()
            .filter(|key| !given(self, key))
            .collect::<Vec<_>>()
        {
            let how = match *key {
                "password" | "client_secret" => "write { env = \"NAME\" } or { file = \"path\" }",
                "token_url" => "name where tokens are given, as \"https://login.example/token\"",
                _ => "name whom Kafka knows",
            };
            let message = format!("the key {key:?} is missing, and bus.sasl is {sasl}: {how}");
            self.push(&bus.key("sasl"), message);
        }
        let accepted = self.tree.get(&bus.key("sasl_unencrypted")) == Some(&Value::Bool(true));
        if matches!(sasl.as_str(), "plain" | "oauthbearer")
            && !tls
            && !accepted
            && !self.brokers_are_here()
        {
            let what = if sasl == "plain" {
                "the password"
            } else {
                "the token"
            };
            let message = format!(
                "{what} would go over the network unencrypted: set bus.tls to \"on\", or accept it by bus.sasl_unencrypted = true"
            );
            self.push(&bus.key("sasl"), message);
        }
        let url = bus.key("token_url");
        if let Some(rest) = self
            .text(&url)
            .as_deref()
            .and_then(|url| url.strip_prefix("http://"))
            && !is_here(rest.split('/').next().unwrap_or_default())
        {
            let message = "the secret would go over the network unencrypted: use https";
            self.push(&url, message);
        }
    }

    fn brokers_are_here(&self) -> bool {
        let brokers = self.tree.get(&KeyPath::of(["bus", "brokers"]));
        let brokers = brokers.and_then(Value::as_array);
        let mut all = brokers.into_iter().flatten();
        all.all(|one| one.as_str().is_none_or(is_here))
    }
}

/// Whether `host:port` is on this machine.
fn is_here(address: &str) -> bool {
    let host = match address.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => address,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

/// What this build cannot do, by key. Without OpenSSL librdkafka has passwords alone.
fn missing_of_build(tls: bool, sasl: Option<&str>, built: bool) -> Vec<(&'static str, String)> {
    let asked = [
        (tls, "tls", "TLS"),
        (
            sasl.is_some_and(|sasl| sasl.starts_with("scram-")),
            "sasl",
            "SCRAM",
        ),
        (sasl == Some("oauthbearer"), "sasl", "OAUTHBEARER"),
    ];
    let missing = asked.into_iter().filter(|(asked, ..)| *asked && !built);
    let message = |what| {
        format!(
            "{what} towards Kafka is not built into this binary: packages have it, and so have builds with the feature \"kafka-tls\" or \"kafka-tls-system\""
        )
    };
    missing.map(|(_, key, what)| (key, message(what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_openssl_says_what_it_lacks() {
        let lacks = |tls, sasl, built| -> Vec<String> {
            let missing = missing_of_build(tls, sasl, built);
            missing
                .into_iter()
                .map(|(key, why)| format!("{key}: {why}"))
                .collect()
        };
        for (tls, sasl, expected) in [
            (false, None, &[][..]),
            (false, Some("plain"), &[]),
            (true, Some("plain"), &["tls: TLS"]),
            (true, Some("scram-sha-512"), &["tls: TLS", "sasl: SCRAM"]),
            (
                true,
                Some("oauthbearer"),
                &["tls: TLS", "sasl: OAUTHBEARER"],
            ),
        ] {
            assert_eq!(lacks(tls, sasl, true), [""; 0], "{sasl:?}");
            let said = lacks(tls, sasl, false);
            assert_eq!(said.len(), expected.len(), "{said:?}");
            for (said, expected) in said.iter().zip(expected) {
                let is_so = said.starts_with(&format!("{expected} towards Kafka is not built in"));
                assert!(is_so && said.contains("\"kafka-tls\""), "{said}");
            }
        }
    }

    #[test]
    fn what_is_on_this_machine_is_known_by_its_address() {
        for (address, here) in [
            ("localhost:9092", true),
            ("127.0.0.1:9092", true),
            ("[::1]:9092", true),
            ("127.1.2.3", true),
            ("kafka:9092", false),
            ("localhost.example:9092", false),
            ("10.0.0.1:9092", false),
        ] {
            assert_eq!(is_here(address), here, "{address}");
        }
    }
}
