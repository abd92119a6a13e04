//! Configurations: what presets fill in, what wins over them, and what is refused.

use std::sync::Arc;

use connector_api::{AuthorizationRequest, BrandId, BuildContext, Connector, Result, Way};
use connector_testkit::{FixedClock, LoopbackHttp, StaticSecrets};
use serde_json::{Value, json};

fn build(config: Value) -> Result<Box<dyn Connector>> {
    let context = BuildContext::new(
        "support-mail".parse().unwrap(),
        BrandId::default(),
        Arc::<FixedClock>::default(),
        Arc::new(LoopbackHttp::new()),
        Arc::new(StaticSecrets::new([("SECRET", "a-secret-of-the-tests")])),
    );
    (connector_email::REGISTRATION.build)(config, context)
}

/// The configuration with these keys on top of an address.
fn with(keys: Value) -> Value {
    let mut config = json!({ "address": "support@shop.example" });
    let keys = keys.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(keys);
    config
}

fn check_refused(keys: Value, words: &str) {
    match build(with(keys.clone())) {
        Ok(_) => panic!("{keys} is taken"),
        Err(error) => assert!(error.message.contains(words), "{keys}: {error}"),
    }
}

async fn browser_url(keys: Value) -> String {
    let channel = build(with(keys)).unwrap();
    let authorization = channel.authorization().unwrap();
    let request = AuthorizationRequest::Redirect { port: 81 };
    authorization.begin(request).await.unwrap().url
}

#[tokio::test]
async fn a_preset_needs_an_address_and_a_client() {
    let url = browser_url(json!({ "preset": "gmail", "oauth": { "client_id": "c" } })).await;
    for part in [
        "https://accounts.google.com/o/oauth2/v2/auth?response_type=code",
        "redirect_uri=http%3A%2F%2F127.0.0.1%3A81%2F",
        "scope=https%3A%2F%2Fmail.google.com%2F",
        "access_type=offline",
        "login_hint=support%40shop.example",
    ] {
        assert!(url.contains(part), "{part} in {url}");
    }
    let microsoft = json!({ "preset": "microsoft365", "oauth": { "client_id": "c", "tenant": "shop.example" } });
    let url = browser_url(microsoft.clone()).await;
    for part in [
        "https://login.microsoftonline.com/shop.example/oauth2/v2.0/authorize?",
        "redirect_uri=http%3A%2F%2Flocalhost%3A81%2F",
        "IMAP.AccessAsUser.All",
        "SMTP.Send",
        "offline_access",
    ] {
        assert!(url.contains(part), "{part} in {url}");
    }
    let ways = |config| build(with(config)).unwrap().authorization().unwrap().ways();
    assert_eq!(ways(microsoft), [Way::Device, Way::Redirect]);
    let gmail = json!({ "preset": "gmail", "oauth": { "client_id": "c" } });
    assert_eq!(
        ways(gmail),
        [Way::Redirect],
        "its device codes cannot ask for mail"
    );
}

#[tokio::test]
async fn a_key_that_is_given_wins_over_the_preset() {
    let url = browser_url(json!({
        "preset": "gmail",
        "oauth": { "client_id": "c", "authorize_url": "https://proxy.example/a", "scopes": ["s"] },
    }))
    .await;
    assert!(url.starts_with("https://proxy.example/a?"), "{url}");
    assert!(url.contains("scope=s&"), "{url}");
    // A password where the provider still takes one: nothing is left to authorize.
    let password = json!({ "password": { "env": "SECRET" } });
    let config = json!({ "preset": "gmail", "imap": password, "smtp": password });
    assert!(build(with(config)).unwrap().authorization().is_none());
    let config = json!({ "preset": "gmail", "imap": { "host": "imap.elsewhere.example", "tls": "none", "password": { "env": "SECRET" } }, "smtp": password });
    let refused = build(with(config)).err().unwrap();
    assert!(
        refused
            .message
            .contains("loopback only, not for imap.elsewhere.example"),
        "{refused}"
    );
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let imap = json!({ "host": "imap.shop.example" });
    let smtp = json!({ "host": "smtp.shop.example" });
    let client = json!({ "client_id": "c", "token_url": "https://p.example/t", "authorize_url": "https://p.example/a" });
    let oauth = |key: &str, value: Value| {
        let mut oauth = client.clone();
        oauth[key] = value;
        json!({ "imap": imap, "smtp": smtp, "oauth": oauth })
    };
    let password = json!({ "password": { "env": "SECRET" } });
    for (keys, words) in [
        (
            json!({ "smtp": smtp }),
            "one of imap and webhook says how mail comes in (or a preset)",
        ),
        (
            json!({ "imap": imap, "smtp": smtp }),
            "imap.password is missing (or oauth)",
        ),
        (
            oauth("token_url", json!("http://p.example/t")),
            "must begin with https://",
        ),
        (oauth("token_url", json!("p")), "oauth.token_url"),
        (
            oauth("authorize_url", Value::Null),
            "for a person to grant access",
        ),
        (oauth("client_id", json!(" ")), "oauth.client_id is empty"),
        (oauth("scopes", json!(["a b"])), "one word without spaces"),
        (
            oauth("tenant", json!("t")),
            "belongs to the preset microsoft365",
        ),
        (
            oauth("grant", json!("client_credentials")),
            "client_credentials needs one",
        ),
        (
            oauth("client_secret", json!({ "env": "NONE" })),
            "oauth.client_secret",
        ),
        (
            json!({ "preset": "gmail", "imap": password, "smtp": password, "oauth": client }),
            "no server uses it",
        ),
        (
            json!({ "preset": "microsoft365", "imap": password, "smtp": password }),
            "takes no passwords any more",
        ),
        (
            json!({ "preset": "gmail", "oauth": { "client_id": "c", "client_secret": { "env": "SECRET" }, "grant": "client_credentials" } }),
            "Gmail knows no oauth.grant",
        ),
        (
            json!({ "preset": "microsoft365", "oauth": { "client_id": "c", "client_secret": { "env": "SECRET" }, "grant": "client_credentials" } }),
            "oauth.tenant is missing",
        ),
        (
            json!({ "imap": { "host": "h.example", "mailboxes": ["INBOX", "inbox"], "password": { "env": "SECRET" } }, "smtp": smtp }),
            "named twice",
        ),
        (
            json!({ "imap": { "host": "h.example", "mailboxes": [], "password": { "env": "SECRET" } }, "smtp": smtp }),
            "name between 1 and 20",
        ),
        (
            json!({ "imap": { "host": "h.example", "after": { "move": "INBOX" }, "password": { "env": "SECRET" } }, "smtp": smtp }),
            "would come again",
        ),
    ] {
        check_refused(keys, words);
    }
}
