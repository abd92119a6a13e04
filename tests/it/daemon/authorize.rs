//! `channel authorize`: a person grants a mail channel access, while the daemon runs and while it
//! does not.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::Arc;

use super::fake_imap::{Accepts, FakeImap, USER};
use super::fake_oauth::{CLIENT_ID, CLIENT_SECRET, FakeOauth};
use super::mail::proven;
use super::process::{Installation, PATIENCE, binary};
use crate::peers::wait_until;

/// A mailbox that opens with tokens, and who issues them.
struct Provider {
    imap: FakeImap,
    oauth: FakeOauth,
    _runtime: tokio::runtime::Runtime,
}

impl Provider {
    fn open() -> Self {
        let runtime = super::own_runtime();
        let imap = runtime.block_on(FakeImap::start("no password"));
        let oauth = runtime.block_on(FakeOauth::start(USER));
        let issuer = oauth.clone();
        let accepts = Accepts(Arc::new(move |token| issuer.accepts(token)));
        imap.set(|options| options.tokens = Some(accepts));
        Self {
            imap,
            oauth,
            _runtime: runtime,
        }
    }

    fn installation(&self) -> Installation {
        let port = self.imap.address.port();
        let installation = Installation::new(&format!(
            "[queues.frontline]\n[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
             address = \"{USER}\"\nauthserv_id = \"mx.shop.example\"\n\
             imap = {{ host = \"127.0.0.1\", port = {port}, tls = \"none\" }}\n\
             smtp = {{ host = \"127.0.0.1\", port = 9, tls = \"none\" }}\n{}\
             [channels.other-mail]\nconnector = \"email\"\naddress = \"other@shop.example\"\nqueue = \"frontline\"\n\
             imap = {{ host = \"127.0.0.1\", port = 9, tls = \"none\", password = {{ file = \"{{dir}}/mail-password\" }} }}\n\
             smtp = {{ host = \"127.0.0.1\", port = 9, tls = \"none\" }}\n",
            oauth_table(&self.oauth)
        ));
        std::fs::write(installation.dir.path().join("oauth-secret"), CLIENT_SECRET).unwrap();
        installation
    }
}

/// The `oauth` line of a mail channel; its secret is in a file.
pub fn oauth_table(oauth: &FakeOauth) -> String {
    format!(
        "oauth = {{ client_id = \"{CLIENT_ID}\", client_secret = {{ file = \"{{dir}}/oauth-secret\" }}, \
         token_url = \"{}\", device_authorization_url = \"{}\", authorize_url = \"{}\", \
         scopes = [\"mail\", \"offline_access\"] }}\n",
        oauth.url("token"),
        oauth.url("device"),
        oauth.url("authorize"),
    )
}

/// The command at work.
struct Authorizing {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Authorizing {
    fn start(installation: &Installation, args: &[&str]) -> Self {
        let args = [&["channel", "authorize", "support-mail"], args].concat();
        let mut command = installation.command_line(binary().as_ref(), &args);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The rest of the first line that begins so.
    fn line_after(&mut self, beginning: &str) -> String {
        let line = self.lines.by_ref().find_map(|line| {
            let line = line.unwrap();
            line.strip_prefix(beginning).map(str::to_owned)
        });
        line.unwrap_or_else(|| panic!("it ended without saying {beginning:?}"))
    }

    /// Whether it ended well, and all that it said from here on.
    fn end(mut self) -> (bool, String) {
        let mut said: Vec<String> = self.lines.by_ref().map(Result::unwrap).collect();
        let ended = self.child.wait_with_output().unwrap();
        said.push(String::from_utf8(ended.stderr).unwrap());
        (ended.status.success(), said.join("\n"))
    }
}

/// Grants access with the code that the command shows.
pub fn authorize_by_device(installation: &Installation, oauth: &FakeOauth) {
    let mut command = Authorizing::start(installation, &["--by", "device"]);
    let code = command.line_after("and enter ");
    oauth.agree("", Some(&code));
    let (well, said) = command.end();
    assert!(well && said.contains("authorised and ready"), "{said}");
}

#[test]
fn a_running_daemon_goes_on_with_what_is_granted_in_a_browser_at_once() {
    let provider = Provider::open();
    let daemon = provider.installation();
    daemon.run();
    wait_until("the channel to ask for access", PATIENCE, || {
        let (state, reason) = daemon.channel_state("support-mail");
        state == "unauthorized"
            && reason.ends_with("run `switchboard channel authorize support-mail`")
    });
    let mut command = Authorizing::start(&daemon, &["--by", "redirect"]);
    let url = format!("http{}", command.line_after("http"));
    let query = provider.oauth.agree(&url, None).unwrap();
    let (_, rest) = url.split_once("127.0.0.1%3A").unwrap();
    let (port, _) = rest.split_once("%2F").unwrap();
    let icon = daemon
        .http
        .get(format!("http://127.0.0.1:{port}/favicon.ico"));
    assert_eq!(icon.send().unwrap().status(), 404);
    let page = daemon.http.get(format!("http://127.0.0.1:{port}/?{query}"));
    let page = page.send().unwrap().text().unwrap();
    assert!(page.contains("has access now"), "{page}");
    let (_, said) = command.end();
    // The mail server of this test takes no mail; the mailbox is what access was asked for.
    assert!(said.contains("granted"), "{said}");
    // Within the pause that an unauthorised channel makes by itself, which is a minute.
    wait_until("the mailbox to be read", PATIENCE, || {
        daemon.channel_state("support-mail").0 == "ready"
    });
    let token = daemon.token("ada");
    provider.imap.deliver(proven(
        "kim@customer.example",
        "Order 7",
        "kim-1",
        "",
        "Where is it?",
    ));
    provider.imap.announce();
    provider.imap.cut();
    assert!(daemon.claim(&token, "frontline").is_some());
}

#[test]
fn what_is_granted_while_no_daemon_runs_is_kept_sealed_and_used_by_the_next_one() {
    let provider = Provider::open();
    let installation = provider.installation();
    // Another channel that cannot be built is no hindrance; this one's faults are told.
    std::fs::remove_file(installation.dir.path().join("mail-password")).unwrap();
    let mut command = Authorizing::start(&installation, &[]);
    let code = command.line_after("and enter ");
    provider.oauth.agree("", Some(&code));
    let (_, said) = command.end();
    assert!(
        said.contains("granted") || said.contains("authorised"),
        "{said}"
    );
    std::fs::write(installation.dir.path().join("mail-password"), "secret").unwrap();
    installation.run();
    wait_until("the mailbox to be read", PATIENCE, || {
        installation.channel_state("support-mail").0 == "ready"
    });
    assert!(installation.terminate());
    let grants = provider.oauth.forms();
    assert_eq!(
        grants.last().unwrap()["grant_type"].rsplit(':').next(),
        Some("device_code")
    );
    for entry in std::fs::read_dir(installation.dir.path().join("data")).unwrap() {
        let path = entry.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        for clear in ["refresh-token-number", "refresh_token", "eyJ"] {
            let found = bytes
                .windows(clear.len())
                .any(|window| window == clear.as_bytes());
            assert!(!found, "{clear} in {}", path.display());
        }
    }
}

#[test]
fn what_cannot_be_authorised_is_said() {
    let provider = Provider::open();
    let installation = provider.installation();
    for (args, words) in [
        (
            ["channel", "authorize", "nobody"],
            "there is no channel \"nobody\"",
        ),
        (
            ["channel", "authorize", "other-mail"],
            "there is nothing to authorize",
        ),
    ] {
        let output = installation.command(&args);
        assert!(!output.status.success());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(words), "{said}");
    }
    let mut command = Authorizing::start(&installation, &["--by", "redirect"]);
    let url = format!("http{}", command.line_after("http"));
    use std::io::Write as _;
    let pasted = "http://127.0.0.1:1/?code=c&state=somebody-elses\n";
    let mut input = command.child.stdin.take().unwrap();
    input.write_all(pasted.as_bytes()).unwrap();
    drop(url);
    let (well, said) = command.end();
    assert!(!well && said.contains("another question"), "{said}");
    assert!(provider.oauth.forms().is_empty());
}
