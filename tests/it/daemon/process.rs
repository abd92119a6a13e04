//! Starts the binary on a directory of its own, and talks to it as a UI or a shop would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use crate::peers::{free_port, wait_for, wait_until};

pub const PATIENCE: Duration = Duration::from_secs(30);
/// Of the mailbox; Dovecot's users have it, too.
pub const MAIL_PASSWORD: &str = "secret";
pub const SECRET: &str = "whsec_dGVzdC1zZWNyZXQtb2YtdGhlLXdlYmhvb2stY2hhbm5lbA==";

/// A directory with a configuration, and the daemon that runs on it now.
pub struct Installation {
    pub dir: tempfile::TempDir,
    child: Mutex<Option<Child>>,
    pub address: String,
    pub http: Client,
    scheme: &'static str,
}

/// The binary that cargo built with these tests, or another one that `SWITCHBOARD_BINARY` names: a release.
pub fn binary() -> &'static str {
    static NAMED: OnceLock<Option<String>> = OnceLock::new();
    let named = NAMED.get_or_init(|| std::env::var("SWITCHBOARD_BINARY").ok());
    (named.as_deref()).unwrap_or(env!("CARGO_BIN_EXE_switchboard"))
}

impl Installation {
    /// Writes the configuration; `{dir}` in it stands for the directory.
    pub fn new(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), SECRET).unwrap();
        fs::write(dir.path().join("mail-password"), MAIL_PASSWORD).unwrap();
        let http = Client::builder()
            .timeout(Duration::from_secs(70))
            .build()
            .unwrap();
        // One port over all restarts, as clients see it.
        let address = format!("127.0.0.1:{}", free_port());
        let installation = Self {
            dir,
            child: Mutex::new(None),
            address,
            http,
            scheme: "http",
        };
        installation.write_config(config);
        installation
    }

    /// It listens with TLS, with a certificate of that authority.
    pub fn over_tls(mut self, authority: &str) -> Self {
        let root = reqwest::Certificate::from_pem(authority.as_bytes()).unwrap();
        let client = Client::builder().tls_certs_only([root]);
        self.http = client.timeout(Duration::from_secs(70)).build().unwrap();
        self.scheme = "https";
        self
    }

    pub fn write_config(&self, config: &str) {
        let config = config.replace("{dir}", &self.dir.path().display().to_string());
        // As editors do it: a signal may come at any time, and half a file is another configuration.
        let beside = self.dir.path().join("config.next");
        fs::write(&beside, config).unwrap();
        fs::rename(beside, self.config()).unwrap();
    }

    pub fn start(config: &str) -> Self {
        let installation = Self::new(config);
        installation.run();
        installation
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("switchboard.toml")
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts the daemon and returns once it is ready.
    pub fn run(&self) {
        self.run_binary(Path::new(binary()));
    }

    /// The same with more arguments.
    pub fn run_with(&self, args: &[&str]) {
        self.run_binary_with(Path::new(binary()), args, &[]);
    }

    /// The same with more in its environment.
    pub fn run_in(&self, environment: &[(&str, &str)]) {
        self.run_binary_with(Path::new(binary()), &[], environment);
    }

    pub fn run_binary(&self, binary: &Path) {
        self.run_binary_with(binary, &[], &[]);
    }

    fn run_binary_with(&self, binary: &Path, args: &[&str], environment: &[(&str, &str)]) {
        self.spawn(binary, args, environment);
        wait_until(
            &format!("the daemon to be ready; log: {}", self.log().display()),
            PATIENCE,
            || self.is_ready(),
        );
    }

    fn spawn(&self, binary: &Path, args: &[&str], environment: &[(&str, &str)]) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let child = Command::new(binary)
            .args(["run", "--listen", &self.address])
            .args(args)
            .envs(environment.iter().copied())
            .arg("--config")
            .arg(self.config())
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.child.lock().unwrap() = Some(child);
    }

    fn is_ready(&self) -> bool {
        let asked = self.http.get(self.url("/readyz")).send();
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Starts the daemon, which may refuse to run; whether it runs.
    pub fn runs(&self) -> bool {
        self.spawn(Path::new(binary()), &[], &[]);
        wait_for("the daemon to be ready, or to end", PATIENCE, || {
            let ended = {
                let mut child = self.child.lock().unwrap();
                let ended = child.as_mut().expect("a daemon").try_wait().unwrap();
                ended.inspect(|_| *child = None)
            };
            match ended {
                Some(_) => Some(false),
                None => self.is_ready().then_some(true),
            }
        })
    }

    /// Ends it as a power cut of the process would.
    pub fn kill_9(&self) {
        let mut child = self.child.lock().unwrap().take().expect("a running daemon");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Ends it as systemd would; says whether it ended well.
    pub fn terminate(&self) -> bool {
        let mut child = self.child.lock().unwrap().take().expect("a running daemon");
        // The shell's own: a small Debian has no program of that name.
        Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", child.id())])
            .status()
            .unwrap();
        child.wait().unwrap().success()
    }

    /// Waits until it has ended itself, and says how.
    #[cfg(all(feature = "kafka", feature = "postgres"))]
    pub fn wait_for_end(&self) -> std::process::ExitStatus {
        let mut child = self.child.lock().unwrap().take().expect("a running daemon");
        wait_for("the daemon to end itself", PATIENCE, || {
            child.try_wait().unwrap()
        })
    }

    /// The process that runs now.
    pub fn pid(&self) -> u32 {
        let child = self.child.lock().unwrap();
        child.as_ref().expect("a running daemon").id()
    }

    /// Has it read its configuration again, as `systemctl reload` may.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.pid())])
            .status()
            .unwrap();
    }

    pub fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Runs another command of the binary on this installation.
    pub fn command(&self, args: &[&str]) -> std::process::Output {
        self.command_of(Path::new(binary()), args)
    }

    fn command_of(&self, binary: &Path, args: &[&str]) -> std::process::Output {
        // One that should end and does not fails its test.
        let line = self.command_line(binary, args);
        let mut bounded = Command::new("timeout");
        bounded.arg("120").arg(line.get_program());
        bounded.args(line.get_args()).output().unwrap()
    }

    /// The command line of another command, to be started.
    pub fn command_line(&self, binary: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .arg("--config")
            .arg(self.config())
            .arg("--data-dir")
            .arg(self.dir.path().join("data"));
        command
    }

    /// What `/readyz` says of a channel: its state, and the reason.
    pub fn channel_state(&self, channel: &str) -> (String, String) {
        let answer = self.http.get(self.url("/readyz")).send().unwrap();
        let states: Value = serde_json::from_str(&answer.text().unwrap()).unwrap();
        let name = format!("channel:{channel}");
        let parts = states.as_object().into_iter().flatten();
        let mut all = parts.map(|(_, value)| value).chain([&states]);
        let found = all.find_map(|states| states.get(&name).cloned());
        let found = found.unwrap_or_default();
        let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        (word("state"), word("reason"))
    }

    /// A token of an agent that reaches every queue.
    pub fn token(&self, agent: &str) -> String {
        self.token_of(Path::new(binary()), agent)
    }

    pub fn token_of(&self, binary: &Path, agent: &str) -> String {
        let output = self.command_of(
            binary,
            &["token", "create", "--role", "agent", "--agent", agent],
        );
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub fn get(&self, token: &str, path: &str) -> Value {
        let answer = self
            .http
            .get(self.url(path))
            .bearer_auth(token)
            .send()
            .unwrap();
        json_of(answer)
    }

    /// Every conversation, newest first.
    pub fn conversations(&self, token: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(token, &format!("/v1/conversations?limit=100{cursor}"));
            found.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return found,
            }
        }
    }

    /// A conversation's messages, oldest first.
    pub fn messages(&self, token: &str, conversation: &str) -> Vec<Value> {
        let mut found = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(
                token,
                &format!("/v1/conversations/{conversation}/messages?limit=100{cursor}"),
            );
            found.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        found.reverse();
        found
    }

    /// The next conversation of a queue, within 30 seconds.
    pub fn claim(&self, token: &str, queue: &str) -> Option<Value> {
        let url = self.url(&format!(
            "/v1/queues/{queue}/claim?wait=30s&expand=messages"
        ));
        let answer = self.http.post(url).bearer_auth(token).send().unwrap();
        (answer.status() != 204).then(|| json_of(answer))
    }

    pub fn reply(&self, token: &str, conversation: &str, key: &str, text: &str) -> Value {
        self.write(token, conversation, key, &json!({ "text": text }))
    }

    /// Answers with everything that an answer may have.
    pub fn write(&self, token: &str, conversation: &str, key: &str, written: &Value) -> Value {
        let url = self.url(&format!("/v1/conversations/{conversation}/messages"));
        let request = self
            .http
            .post(url)
            .bearer_auth(token)
            .header("Idempotency-Key", key);
        json_of(request.json(written).send().unwrap())
    }

    pub fn act(&self, token: &str, conversation: &str, action: &str) -> Value {
        let url = self.url(&format!("/v1/conversations/{conversation}/{action}"));
        json_of(self.http.post(url).bearer_auth(token).send().unwrap())
    }

    /// Sends a signed webhook.
    pub fn hook(&self, channel: &str, body: &Value) -> reqwest::Result<Response> {
        let body = body.to_string();
        let now = now();
        let signature = sign("delivery", now, &body);
        self.http
            .post(self.url(&format!("/hooks/{channel}")))
            .header("webhook-id", "delivery")
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signature)
            .body(body)
            .send()
    }

    /// Waits until a message has left, or whatever else `delivery` says.
    pub fn wait_for_delivery(&self, token: &str, message: &str, delivery: &str) -> Value {
        wait_for(&format!("{message} to be {delivery}"), PATIENCE, || {
            let view = self.get(token, &format!("/v1/messages/{message}"));
            (view["delivery"] == delivery).then_some(view)
        })
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = self
            .http
            .get(self.url("/metrics"))
            .send()
            .unwrap()
            .text()
            .unwrap();
        let lines = text.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            drop(child.kill());
            drop(child.wait());
        }
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log()).unwrap_or_default();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!(
                "--- the daemon's log, newest first ---\n{}",
                tail.join("\n")
            );
        }
    }
}

pub fn json_of(answer: Response) -> Value {
    let status = answer.status();
    let text = answer.text().unwrap();
    assert!(status.is_success(), "{status}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// Seconds since 1970, for signatures.
#[expect(
    clippy::disallowed_methods,
    reason = "the daemon under test has the machine's clock"
)]
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// `v1,…` of Standard Webhooks.
pub fn sign(id: &str, timestamp: i64, body: &str) -> String {
    let key = STANDARD
        .decode(SECRET.strip_prefix("whsec_").unwrap())
        .unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    let tag = hmac::sign(&key, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(tag))
}

/// A webhook message.
pub fn chat(id: &str, customer: &str, text: &str) -> Value {
    json!({ "type": "message", "id": id, "thread": customer, "from": { "id": customer, "name": customer }, "text": text })
}

/// A configuration with one webhook channel that delivers to `deliver_url`.
pub fn chat_config(deliver_url: &str) -> String {
    format!(
        "[queues.frontline]\n[channels.shop-chat]\nconnector = \"webhook\"\nqueue = \"frontline\"\n\
         secrets = [{{ file = \"{{dir}}/secret\" }}]\ndeliver_url = \"{deliver_url}\"\n"
    )
}
