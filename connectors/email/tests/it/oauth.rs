//! Tokens that end, rotate, are withdrawn and get lost.

use std::sync::Arc;
use std::time::Duration;

use connector_api::{
    Authorization, AuthorizationRequest, AuthorizationStep, BrandId, BuildContext,
    CancellationToken, Connector, Health, Progress, Way,
};
use connector_testkit::{
    FakeProvider, FixedClock, LoopbackHttp, MemoryCredentials, RecordingIntake, StaticSecrets,
};
use serde_json::{Value, json};

use crate::fake_mail::FakeMail;
use crate::fake_oauth::FakeOauth;

/// A channel that logs in with tokens, and what is around it.
struct Desk {
    fake: FakeMail,
    oauth: FakeOauth,
    clock: Arc<FixedClock>,
    kept: Arc<MemoryCredentials>,
}

impl Desk {
    async fn open() -> Self {
        let fake = FakeMail::with_oauth().await;
        Self {
            oauth: fake.oauth.clone().unwrap(),
            kept: Arc::new(MemoryCredentials::new(fake.credentials())),
            clock: Arc::default(),
            fake,
        }
    }

    fn channel(&self) -> Arc<dyn Connector> {
        self.channel_with(|_| {})
    }

    fn channel_with(&self, change: impl FnOnce(&mut Value)) -> Arc<dyn Connector> {
        let mut config = self.fake.config();
        change(&mut config);
        let context = BuildContext::new(
            "support-mail".parse().unwrap(),
            BrandId::default(),
            self.clock.clone(),
            Arc::new(LoopbackHttp::new()),
            Arc::new(StaticSecrets::new(self.fake.secrets())),
        )
        .with_credentials(self.kept.clone());
        let built = (connector_email::REGISTRATION.build)(config, context);
        Arc::from(built.unwrap())
    }

    /// The grant types of the token requests so far.
    fn asked(&self) -> Vec<String> {
        let forms = self.oauth.forms();
        forms
            .iter()
            .map(|form| form["grant_type"].clone())
            .collect()
    }

    fn kept_word(&self, key: &str) -> String {
        let (_, value) = self.kept.shown().remove(0);
        let value: Value = serde_json::from_str(&value).unwrap();
        value[key].as_str().unwrap_or_default().to_owned()
    }
}

fn reason(health: &Health) -> &str {
    match health {
        Health::Unauthorized { reason }
        | Health::Unreachable { reason }
        | Health::Degraded { reason } => reason,
        _ => "",
    }
}

#[tokio::test]
async fn a_kept_token_is_used_until_shortly_before_its_end_and_both_servers_share_it() {
    let desk = Desk::open().await;
    let channel = desk.channel();
    assert_eq!(channel.health().await, Health::Ready);
    assert!(desk.asked().is_empty(), "the kept token is good");
    desk.oauth.withdraw_access();
    assert_eq!(channel.health().await, Health::Ready);
    assert_eq!(
        desk.asked(),
        ["refresh_token"],
        "refused once, renewed once"
    );
    desk.clock.advance(Duration::from_secs(3_299));
    assert_eq!(channel.health().await, Health::Ready);
    assert_eq!(desk.asked().len(), 1);
    desk.clock.advance(Duration::from_secs(1));
    assert_eq!(channel.health().await, Health::Ready);
    assert_eq!(desk.asked().len(), 2, "renewed before its end");
}

#[tokio::test]
async fn a_server_with_the_standard_mechanism_only_is_logged_in_to() {
    let desk = Desk::open().await;
    desk.fake.imap.set(|options| options.is_standard = true);
    assert_eq!(desk.channel().health().await, Health::Ready);
    desk.oauth.withdraw_access();
    assert_eq!(desk.channel().health().await, Health::Ready);
}

#[tokio::test]
async fn a_rotated_token_is_kept_before_it_is_used_and_a_restart_goes_on_with_it() {
    let desk = Desk::open().await;
    let before = desk.kept_word("refresh_token");
    for round in 0..3 {
        desk.oauth.withdraw_access();
        assert_eq!(desk.channel().health().await, Health::Ready, "{round}");
    }
    let after = desk.kept_word("refresh_token");
    assert_ne!(before, after);
    let forms = desk.oauth.forms();
    let used: Vec<&str> = forms
        .iter()
        .map(|form| form["refresh_token"].as_str())
        .collect();
    assert_eq!(used.len(), 3);
    assert!(
        !used.contains(&after.as_str()),
        "the next one is kept, unused"
    );
}

#[tokio::test]
async fn a_token_that_somebody_else_rotated_is_taken_from_where_it_is_kept() {
    let desk = Desk::open().await;
    let before_the_reload = desk.channel();
    assert_eq!(before_the_reload.health().await, Health::Ready);
    for round in 0..2 {
        desk.oauth.withdraw_access();
        assert_eq!(desk.channel().health().await, Health::Ready, "{round}");
    }
    desk.oauth.withdraw_access();
    assert_eq!(before_the_reload.health().await, Health::Ready);
}

#[tokio::test]
async fn a_rotated_token_that_could_not_be_kept_is_not_lost_while_the_daemon_lives() {
    let desk = Desk::open().await;
    let channel = desk.channel();
    desk.oauth.withdraw_access();
    desk.kept.fail_next(1);
    let health = channel.health().await;
    assert!(matches!(health, Health::Unreachable { .. }), "{health:?}");
    assert_eq!(channel.health().await, Health::Ready, "saved, then used");
    assert_eq!(desk.asked().len(), 1);
    assert_eq!(desk.channel().health().await, Health::Ready, "and kept");
    assert_eq!(desk.asked().len(), 1);
}

#[tokio::test]
async fn a_renewal_that_nobody_waits_for_any_more_is_kept_all_the_same() {
    let desk = Desk::open().await;
    let channel = desk.channel();
    let before = desk.kept_word("refresh_token");
    desk.oauth.withdraw_access();
    // Given up at every place where it waits: a stop, a health check that takes too long.
    for patience_micros in (0..400).map(|step| step * 50) {
        let health = channel.health();
        let patience = Duration::from_micros(patience_micros);
        drop(tokio::time::timeout(patience, health).await);
        if desk.kept_word("refresh_token") != before {
            break;
        }
    }
    assert_eq!(desk.channel().health().await, Health::Ready);
    let refused = desk.oauth.forms().len();
    let mut used: Vec<String> = desk
        .oauth
        .forms()
        .iter()
        .map(|form| form["refresh_token"].clone())
        .collect();
    used.sort();
    used.dedup();
    assert_eq!(used.len(), refused, "no token was used twice");
}

#[tokio::test]
async fn an_answer_that_is_lost_and_an_outage_are_tried_again_with_the_same_token() {
    let desk = Desk::open().await;
    let channel = desk.channel();
    desk.oauth.withdraw_access();
    desk.oauth.set(|options| options.lost_answers = 1);
    let health = channel.health().await;
    assert!(matches!(health, Health::Unreachable { .. }), "{health:?}");
    desk.oauth.set(|options| options.outages = 1);
    let health = channel.health().await;
    assert!(matches!(health, Health::Unreachable { .. }), "{health:?}");
    assert_eq!(channel.health().await, Health::Ready);
    let forms = desk.oauth.forms();
    assert_eq!(forms.len(), 3);
    assert!(forms.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_refused_grant_says_what_to_run_and_a_refused_client_what_to_mend() {
    let desk = Desk::open().await;
    let channel = desk.channel();
    desk.oauth.withdraw_everything();
    let health = channel.health().await;
    assert!(matches!(health, Health::Unauthorized { .. }), "{health:?}");
    let expected = "the provider no longer accepts the grant (invalid_grant): run `switchboard channel authorize support-mail`";
    assert!(reason(&health).ends_with(expected), "{health:?}");
    desk.oauth
        .set(|options| options.refuses = Some("invalid_client"));
    let health = channel.health().await;
    assert!(
        reason(&health).contains("see oauth.client_id"),
        "{health:?}"
    );
    let stream = channel.stream_source().unwrap();
    let intake = Arc::new(RecordingIntake::default());
    let stop = CancellationToken::new();
    desk.oauth.set(|options| options.refuses = None);
    let ended = stream.run(None, intake, stop).await.unwrap_err();
    assert_eq!(ended.kind, connector_api::ErrorKind::Auth);
}

#[tokio::test]
async fn a_grant_is_never_sent_to_another_endpoint_or_for_another_client() {
    let desk = Desk::open().await;
    let elsewhere = FakeOauth::start("support@shop.example").await;
    let other_url = elsewhere.url("token");
    for (key, value) in [("token_url", other_url.as_str()), ("client_id", "another")] {
        let channel = desk.channel_with(|config| config["oauth"][key] = json!(value));
        let health = channel.health().await;
        assert!(
            reason(&health).contains("nobody has granted access"),
            "{key}: {health:?}"
        );
    }
    assert!(elsewhere.forms().is_empty() && desk.asked().is_empty());
}

#[tokio::test]
async fn an_application_asks_for_itself_and_keeps_nothing() {
    let desk = Desk::open().await;
    let before = desk.kept.shown();
    let channel = desk.channel_with(|config| {
        config["oauth"]["grant"] = json!("client_credentials");
    });
    assert_eq!(channel.health().await, Health::Ready);
    assert_eq!(desk.asked(), ["client_credentials"]);
    assert_eq!(desk.kept.shown(), before);
    let authorization = channel.authorization().unwrap();
    assert!(authorization.ways().is_empty());
    let refused = authorization.begin(AuthorizationRequest::Device).await;
    assert!(refused.unwrap_err().message.contains("client_credentials"));
}

#[tokio::test]
async fn a_session_is_made_anew_before_its_token_ends_and_every_mail_comes_once() {
    let desk = Desk::open().await;
    desk.oauth.set(|options| options.lifetime_seconds = 600);
    desk.oauth.withdraw_access();
    let channel = desk.channel_with(|config| config["poll_interval"] = json!("1s"));
    let intake = Arc::new(RecordingIntake::default());
    let stop = CancellationToken::new();
    let (reading, token) = (intake.clone(), stop.clone());
    let run = tokio::spawn(async move {
        let stream = channel.stream_source().unwrap();
        stream.run(None, reading, token).await
    });
    desk.fake.imap.listening().await;
    let mut keys = Vec::new();
    for round in 0..4 {
        keys.push(format!(
            "mid:{}",
            desk.fake.customer_says(&format!("{round}")).await
        ));
        intake.wait_for_events(keys.len()).await.unwrap();
        let renewed = desk.asked().len();
        desk.clock.advance(Duration::from_secs(480));
        desk.fake.imap.announce();
        keys.push(format!("mid:{}", desk.fake.customer_says("and more").await));
        intake.wait_for_events(keys.len()).await.unwrap();
        while desk.asked().len() == renewed {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(intake.keys(), keys);
    stop.cancel();
    run.await.unwrap().unwrap();
}

async fn granted(authorization: &dyn Authorization, step: AuthorizationStep) -> bool {
    matches!(authorization.advance(step).await, Ok(Progress::Granted))
}

#[tokio::test]
async fn a_device_waits_until_the_person_agrees_and_a_code_is_good_once() {
    let desk = Desk::open().await;
    desk.oauth.withdraw_everything();
    let channel = desk.channel();
    let authorization = channel.authorization().unwrap();
    assert_eq!(authorization.ways(), [Way::Device, Way::Redirect]);

    let device = authorization
        .begin(AuthorizationRequest::Device)
        .await
        .unwrap();
    let step = AuthorizationStep {
        state: device.state,
        answer: None,
    };
    let Ok(Progress::Waiting { ask_after, state }) = authorization.advance(step).await else {
        panic!("nobody has agreed");
    };
    assert_eq!(ask_after, Duration::from_secs(1));
    // A provider in trouble costs no code: it is asked less often.
    desk.oauth.set(|options| options.outages = 2);
    let mut state = state;
    for seconds in [2, 4, 4] {
        let step = AuthorizationStep {
            state,
            answer: None,
        };
        let Ok(Progress::Waiting {
            ask_after,
            state: next,
        }) = authorization.advance(step).await
        else {
            panic!("the code is as good as before");
        };
        assert_eq!(ask_after, Duration::from_secs(seconds));
        state = next;
    }
    desk.oauth.agree(&device.url, device.code.as_deref());
    assert!(
        granted(
            authorization,
            AuthorizationStep {
                state,
                answer: None
            }
        )
        .await
    );
    assert_eq!(channel.health().await, Health::Ready);

    let request = AuthorizationRequest::Redirect { port: 4711 };
    let browser = authorization.begin(request).await.unwrap();
    assert!(
        browser.url.contains("app=mail&response_type=code"),
        "{}",
        browser.url
    );
    assert!(browser.url.contains("127.0.0.1%3A4711"), "{}", browser.url);
    let answer = desk.oauth.agree(&browser.url, None);
    for expected in [true, false] {
        let step = AuthorizationStep {
            state: browser.state.clone(),
            answer: answer.clone().map(Into::into),
        };
        assert_eq!(granted(authorization, step).await, expected);
    }
    assert_eq!(channel.health().await, Health::Ready);
}
