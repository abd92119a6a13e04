//! A provider's OAuth endpoints in this process: tokens that end, refresh tokens that rotate, codes
//! for devices and for browsers. Its access tokens are JWTs that a mail server can check by itself.
#![allow(dead_code, reason = "the daemon's tests use another part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const CLIENT_ID: &str = "switchboard-test-client";
pub const CLIENT_SECRET: &str = "client-secret-2718-word";
/// What signs the access tokens.
pub const SIGNING_KEY: &[u8] = b"a-signing-key-of-the-test-provider";

pub type Form = BTreeMap<String, String>;

#[derive(Clone)]
pub struct FakeOauth {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    user: String,
    options: Options,
    count: u64,
    refresh: BTreeSet<String>,
    access: BTreeSet<String>,
    codes: BTreeMap<String, Code>,
    /// Codes of devices, and whether a person agreed.
    devices: BTreeMap<String, (String, bool)>,
    forms: Vec<Form>,
}

#[derive(Clone)]
struct Code {
    challenge: String,
    redirect_uri: String,
}

/// How the provider behaves.
#[derive(Debug, Clone)]
pub struct Options {
    pub lifetime_seconds: u64,
    /// Each refresh token is good once.
    pub rotates: bool,
    /// As many token requests are carried out, and their answers are lost.
    pub lost_answers: usize,
    /// As many token requests are answered 503.
    pub outages: usize,
    /// Every token request is refused with this error.
    pub refuses: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lifetime_seconds: 3_600,
            rotates: true,
            lost_answers: 0,
            outages: 0,
            refuses: None,
        }
    }
}

impl FakeOauth {
    /// `user`: whose mailbox its tokens open.
    pub async fn start(user: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let oauth = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::default(),
        };
        oauth.state().user = user.to_owned();
        let server = oauth.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        oauth
    }

    /// The channel's `oauth` table.
    pub fn config(&self) -> Value {
        json!({
            "client_id": CLIENT_ID, "client_secret": { "env": "OAUTH_SECRET" },
            "token_url": self.url("token"), "device_authorization_url": self.url("device"),
            "authorize_url": self.url("authorize?app=mail"), "scopes": ["mail", "offline_access"],
        })
    }

    /// What an earlier run was granted, as it is kept.
    pub fn kept(&self) -> String {
        let mut state = self.state();
        let refresh = state.issue_refresh();
        let access = state.issue_access();
        json!({
            "token_url": self.url("token"), "client_id": CLIENT_ID, "scopes": "mail offline_access",
            "refresh_token": refresh, "access_token": access,
        })
        .to_string()
    }

    pub fn set(&self, change: impl FnOnce(&mut Options)) {
        change(&mut self.state().options);
    }

    /// Whether a mail server should let somebody in with this token.
    pub fn accepts(&self, token: &str) -> bool {
        self.state().access.contains(token)
    }

    /// Access tokens are good no longer; refresh tokens are.
    pub fn withdraw_access(&self) {
        self.state().access.clear();
    }

    pub fn withdraw_everything(&self) {
        let mut state = self.state();
        state.access.clear();
        state.refresh.clear();
    }

    /// A person opens the address, enters the code, and agrees. Returns the redirect's query.
    pub fn agree(&self, url: &str, code: Option<&str>) -> Option<String> {
        let mut state = self.state();
        if let Some(code) = code {
            let mut devices = state.devices.values_mut();
            let device = devices.find(|(user_code, _)| user_code == code);
            device.expect("a code that was handed out").1 = true;
            return None;
        }
        let (_, query) = url.split_once('?').unwrap();
        let asked = form(query);
        assert_eq!(asked["client_id"], CLIENT_ID);
        assert_eq!(asked["response_type"], "code");
        assert_eq!(asked["code_challenge_method"], "S256");
        state.count += 1;
        let code = format!("code {}", state.count);
        let issued = Code {
            challenge: asked["code_challenge"].clone(),
            redirect_uri: asked["redirect_uri"].clone(),
        };
        state.codes.insert(code.clone(), issued);
        let mut answer = url::form_urlencoded::Serializer::new(String::new());
        answer.append_pair("code", &code);
        answer.append_pair("state", &asked["state"]);
        Some(answer.finish())
    }

    /// The bodies of token requests, oldest first.
    pub fn forms(&self) -> Vec<Form> {
        self.state().forms.clone()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn serve(&self, mut stream: TcpStream) -> Option<()> {
        let (path, body) = request(&mut stream).await?;
        let form = form(&body);
        let (status, answer) = match path.as_str() {
            "/token" => self.state().token(&form)?,
            "/device" => (200, self.state().device(&form)),
            _ => (404, json!({})),
        };
        let answer = answer.to_string();
        let response = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
            answer.len()
        );
        stream.write_all(response.as_bytes()).await.ok()
    }
}

impl State {
    fn token(&mut self, form: &Form) -> Option<(u16, Value)> {
        self.forms.push(form.clone());
        let refused = |error: &str| {
            let told = json!({ "error": error, "error_description": "about kim@shop.example" });
            Some((400, told))
        };
        if self.options.outages > 0 {
            self.options.outages -= 1;
            return Some((503, json!({})));
        }
        if let Some(error) = self.options.refuses {
            return refused(error);
        }
        let word = |key: &str| form.get(key).cloned().unwrap_or_default();
        if word("client_id") != CLIENT_ID || word("client_secret") != CLIENT_SECRET {
            return refused("invalid_client");
        }
        let mut answer =
            json!({ "token_type": "Bearer", "expires_in": self.options.lifetime_seconds });
        match word("grant_type").as_str() {
            "refresh_token" => {
                if !self.refresh.contains(&word("refresh_token")) {
                    return refused("invalid_grant");
                }
                if self.options.rotates {
                    // One whose answer is lost is accepted again, as providers do for a while.
                    if self.options.lost_answers == 0 {
                        self.refresh.remove(&word("refresh_token"));
                    }
                    answer["refresh_token"] = self.issue_refresh().into();
                }
            }
            "client_credentials" => {}
            "authorization_code" => {
                let Some(code) = self.codes.remove(&word("code")) else {
                    return refused("invalid_grant");
                };
                let verifier = word("code_verifier");
                let challenge = digest::digest(&digest::SHA256, verifier.as_bytes());
                if code.challenge != URL_SAFE_NO_PAD.encode(challenge)
                    || code.redirect_uri != word("redirect_uri")
                {
                    return refused("invalid_grant");
                }
                answer["refresh_token"] = self.issue_refresh().into();
            }
            "urn:ietf:params:oauth:grant-type:device_code" => {
                match self.devices.get(&word("device_code")) {
                    Some((_, true)) => answer["refresh_token"] = self.issue_refresh().into(),
                    Some(_) => return refused("authorization_pending"),
                    None => return refused("expired_token"),
                }
            }
            _ => return refused("unsupported_grant_type"),
        }
        answer["access_token"] = self.issue_access().into();
        if self.options.lost_answers > 0 {
            self.options.lost_answers -= 1;
            return None;
        }
        Some((200, answer))
    }

    fn device(&mut self, form: &Form) -> Value {
        assert_eq!(form["scope"], "mail offline_access");
        self.count += 1;
        let (device_code, user_code) = (
            format!("device-{}", self.count),
            format!("WDJB-{:04}", self.count),
        );
        self.devices
            .insert(device_code.clone(), (user_code.clone(), false));
        json!({
            "device_code": device_code, "user_code": user_code, "expires_in": 900, "interval": 1,
            "verification_uri": "https://provider.example/device",
        })
    }

    fn issue_refresh(&mut self) -> String {
        self.count += 1;
        let token = format!("refresh-token-number-{:08}-of-the-fake", self.count);
        self.refresh.insert(token.clone());
        token
    }

    fn issue_access(&mut self) -> String {
        self.count += 1;
        let claims = json!({
            "email": self.user, "sub": self.user, "jti": self.count,
            "iat": seconds_now(), "exp": seconds_now() + self.options.lifetime_seconds,
        });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(json!({ "alg": "HS256", "typ": "JWT" })),
            part(claims)
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, SIGNING_KEY);
        let signature = hmac::sign(&key, signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        self.access.insert(token.clone());
        token
    }
}

/// Real time: mail servers check a token's end by their own clock.
#[expect(
    clippy::disallowed_methods,
    reason = "tokens of real servers end in real time"
)]
fn seconds_now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn form(text: &str) -> Form {
    url::form_urlencoded::parse(text.as_bytes())
        .into_owned()
        .collect()
}

/// Path and body of a request.
async fn request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_length = name.eq_ignore_ascii_case("content-length");
                is_length.then(|| value.trim().parse::<usize>().ok())?
            });
            if body.len() >= length.unwrap_or(0) {
                let path = head.split(' ').nth(1)?.to_owned();
                return Some((path, body.to_owned()));
            }
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok()?;
        if count == 0 {
            return None;
        }
        read.extend_from_slice(&chunk[..count]);
    }
}
