//! A real IMAP server with LMTP delivery: every local part is a mailbox, whatever the domain.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::certificate::{self, Certificate};
use super::server::{self, Plan, Server};
use super::smtp::{self, Dialect};
use super::{PATIENCE, mail, wait_for, wait_until};

/// Signs the tokens (JWT, HS256) that open the mailbox of their claim `email`.
pub const TOKEN_KEY: &[u8] = b"a-signing-key-of-the-test-provider";

pub struct Dovecot {
    /// Plain, with STARTTLS.
    pub imap_port: u16,
    /// TLS from the first byte.
    pub imaps_port: u16,
    pub lmtp_port: u16,
    /// Where Postfix asks whether a password is right.
    pub auth_port: u16,
    /// For `localhost` and 127.0.0.1; Postfix uses it too.
    pub certificate: Certificate,
    /// Every user's password.
    pub password: &'static str,
    server: Server,
}

impl Dovecot {
    pub fn start() -> Dovecot {
        let (server, (ports, certificate)) = Server::start(plan);
        let [imap_port, imaps_port, lmtp_port, auth_port] = ports;
        Dovecot {
            imap_port,
            imaps_port,
            lmtp_port,
            auth_port,
            certificate,
            password: "secret",
            server,
        }
    }

    /// Delivers over LMTP, without Postfix: the fast way in.
    ///
    /// The envelope's sender is the From address, as it is for a person's mail; the plus-address stays in
    /// Delivered-To.
    pub fn deliver(&self, recipient: &str, eml: &[u8]) {
        let from = mail::sender(eml).unwrap_or_else(|| "sender@customer.example".to_owned());
        self.deliver_from(&from, recipient, eml);
    }

    /// Delivers over LMTP with this envelope sender; an empty one is the null sender of automatic mail.
    pub fn deliver_from(&self, from: &str, recipient: &str, eml: &[u8]) {
        if let Err(refusal) = smtp::hand_over(self.lmtp_port, Dialect::Lmtp, from, recipient, eml) {
            panic!("Dovecot refuses a mail to {recipient}: {refusal}");
        }
    }

    /// Returns the files of the user's inbox, oldest delivery first.
    pub fn mailbox_files(&self, user: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in ["new", "cur"] {
            let Ok(entries) = std::fs::read_dir(self.maildir(user).join(folder)) else {
                continue;
            };
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort_by_key(|file| arrival(file));
        files
    }

    /// Returns the mails in the user's inbox, oldest delivery first.
    pub fn fetch_all(&self, user: &str) -> Vec<Vec<u8>> {
        // A reader moves files from new/ to cur/, so a listing may be out of date by the time it is read.
        wait_for("a stable listing of the inbox", PATIENCE, || {
            self.mailbox_files(user)
                .iter()
                .map(|file| std::fs::read(file).ok())
                .collect()
        })
    }

    /// Waits until the user's inbox holds at least `count` mails and returns all of them.
    pub fn wait_for_mails(&self, user: &str, count: usize) -> Vec<Vec<u8>> {
        wait_for(&format!("{count} mails for {user}"), PATIENCE, || {
            Some(self.fetch_all(user)).filter(|mails| mails.len() >= count)
        })
    }

    /// Gives the inbox a new UIDVALIDITY, as after a restore from a backup or a move to another server.
    ///
    /// The same mails stay, numbered anew from 1 in the opposite order, so that a reader which ignores the change
    /// loses mail, and one which starts over doubles it. Sessions are ended.
    pub fn reset_uidvalidity(&self, user: &str) {
        let before = self.status(user);
        let list = self.maildir(user).join("dovecot-uidlist");
        let next = self.maildir(user).join("dovecot-uidlist.next");
        let mut names: Vec<String> = self
            .mailbox_files(user)
            .iter()
            .map(|file| unique_name(file))
            .collect();
        names.reverse();
        let guid = format!(
            "{:032x}",
            u128::from(before.uidvalidity) << 64 | u128::from(std::process::id())
        );
        // Version 3 of the list: one header line, then "UID :FILE" with ascending UIDs.
        let mut content = format!(
            "3 V{} N{} G{guid}\n",
            before.uidvalidity + 17,
            names.len() + 1
        );
        for (index, name) in names.iter().enumerate() {
            writeln!(content, "{} :{name}", index + 1).expect("a string takes everything");
        }
        std::fs::write(&next, content).expect("the inbox can be written");
        let owner = std::fs::metadata(self.maildir(user)).expect("the inbox exists");
        std::os::unix::fs::chown(&next, Some(owner.uid()), Some(owner.gid()))
            .expect("the tests own the inbox");
        self.kick(user);
        std::fs::rename(&next, &list).expect("the list is in the same folder");
        for entry in std::fs::read_dir(self.maildir(user))
            .expect("the inbox exists")
            .flatten()
        {
            if entry
                .file_name()
                .to_string_lossy()
                .starts_with("dovecot.index")
            {
                std::fs::remove_file(entry.path()).ok();
            }
        }
        self.kick(user);
        let after = self.status(user);
        assert_ne!(after.uidvalidity, before.uidvalidity, "UIDVALIDITY changes");
        assert_eq!(after.messages, before.messages, "no mail is lost");
    }

    /// Ends the user's sessions from the server's side.
    pub fn kick(&self, user: &str) {
        // It fails where there is nobody to end; whoever needs one to be there waits with `wait_for_session`.
        self.doveadm(&["kick", user]);
    }

    /// Returns the process ids of the user's sessions.
    pub fn sessions(&self, user: &str) -> Vec<u32> {
        // One line per session: user, service, process id, address.
        let text = self.doveadm(&["who", "-1", user]);
        text.lines()
            .skip(1)
            .filter_map(|line| line.split_whitespace().nth(2)?.parse().ok())
            .collect()
    }

    /// Waits until the user has a session and returns its process id.
    pub fn wait_for_session(&self, user: &str) -> u32 {
        wait_for(&format!("an IMAP session of {user}"), PATIENCE, || {
            self.sessions(user).first().copied()
        })
    }

    /// Ends the user's session and waits until a new one is there: one forced reconnect.
    pub fn force_reconnect(&self, user: &str) {
        let old = self.wait_for_session(user);
        self.kick(user);
        wait_until(&format!("a new session of {user}"), PATIENCE, || {
            self.sessions(user).iter().any(|session| *session != old)
        });
    }

    /// Asks the server itself for the numbers of the inbox.
    pub fn status(&self, user: &str) -> Status {
        let stream = TcpStream::connect(("127.0.0.1", self.imap_port)).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out above zero");
        let mut stream = BufReader::new(stream);
        let commands = format!(
            "a LOGIN {user} {}\r\nb STATUS INBOX (UIDVALIDITY UIDNEXT MESSAGES)\r\nc LOGOUT\r\n",
            self.password
        );
        stream
            .get_mut()
            .write_all(commands.as_bytes())
            .expect("the server reads on");
        let line = stream
            .lines()
            .map(|line| line.expect("the server answers in time"))
            .find(|line| line.starts_with("* STATUS"))
            .expect("the server knows the inbox");
        let items: Vec<&str> = line.split(['(', ')', ' ']).collect();
        let number = |name: &str| {
            let value = items.iter().skip_while(|item| **item != name).nth(1);
            value
                .and_then(|value| value.parse().ok())
                .expect("a status item has a number")
        };
        Status {
            uidvalidity: number("UIDVALIDITY"),
            uidnext: number("UIDNEXT"),
            messages: number("MESSAGES"),
        }
    }

    /// Returns the UIDs of the inbox with the subject of each mail.
    pub fn subjects_by_uid(&self, user: &str) -> HashMap<u32, String> {
        let text = self.doveadm(&[
            "-f",
            "tab",
            "fetch",
            "-u",
            user,
            "uid hdr.subject",
            "mailbox",
            "INBOX",
        ]);
        text.lines()
            .skip(1)
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(uid, subject)| Some((uid.parse().ok()?, subject.to_owned())))
            .collect()
    }

    pub fn directory(&self) -> PathBuf {
        self.server.directory().to_owned()
    }

    fn maildir(&self, user: &str) -> PathBuf {
        self.server
            .directory()
            .join("mail")
            .join(user)
            .join("Maildir")
    }

    fn doveadm(&self, arguments: &[&str]) -> String {
        let configuration = self.server.directory().join("dovecot.conf");
        let output = server::as_root("doveadm")
            .arg("-c")
            .arg(configuration)
            .args(arguments)
            .output()
            .expect("doveadm comes with Dovecot");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub messages: u32,
}

fn plan() -> (Plan, ([u16; 4], Certificate)) {
    let dovecot = server::installed("/usr/sbin/dovecot");
    server::installed("/usr/lib/dovecot/lmtp");
    let directory = server::open_directory("dovecot");
    let path = directory.path().to_owned();
    let ports = [(); 4].map(|()| server::free_port());
    let certificate = certificate::make(&path);
    let configuration = path.join("dovecot.conf");
    std::fs::write(&configuration, settings(&path, ports, &certificate))
        .expect("a file in a fresh directory");
    std::fs::write(path.join("oauth2.conf"), token_settings(&path))
        .expect("a file in a fresh directory");
    // The key of tokens that name none; in base64 (https://doc.dovecot.org/2.3, OAuth2).
    let keys = path.join("keys/default/HS256");
    std::fs::create_dir_all(&keys).expect("a folder in a fresh directory");
    std::fs::write(keys.join("default"), STANDARD.encode(TOKEN_KEY))
        .expect("a file in a fresh directory");
    let (user, group) = server::mail_account();
    let made = server::as_root("install")
        .args(["-d", "-o", &user, "-g", &group])
        .arg(path.join("mail"))
        .status()
        .expect("install comes with every system");
    assert!(made.success(), "cannot make a mail directory for {user}");
    let command = vec![
        dovecot,
        "-F".to_owned(),
        "-c".to_owned(),
        configuration.display().to_string(),
    ];
    let plan = Plan {
        name: "Dovecot",
        log: path.join("dovecot.log"),
        directory,
        command,
        ports: ports.to_vec(),
    };
    (plan, (ports, certificate))
}

fn settings(path: &Path, ports: [u16; 4], certificate: &Certificate) -> String {
    let [imap_port, imaps_port, lmtp_port, auth_port] = ports;
    let (chain, key) = (certificate.chain.display(), certificate.key.display());
    let path = path.display();
    let (user, group) = server::mail_account();
    format!(
        "base_dir = {path}/run
state_dir = {path}/state
log_path = {path}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = yes
ssl_cert = <{chain}
ssl_key = <{key}
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
mail_uid = {user}
mail_gid = {group}
first_valid_uid = 1
first_valid_gid = 1
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0
# A mailbox is its local part, for those who log in and for what is delivered.
auth_username_format = %Ln
recipient_delimiter = +
# Durable mail is not what these tests are about, and the disk is slow.
mail_fsync = never
mail_max_userip_connections = 200
service imap-login {{
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = {imaps_port}
    ssl = yes
  }}
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {lmtp_port}
  }}
}}
service auth {{
  inet_listener {{
    address = 127.0.0.1
    port = {auth_port}
  }}
}}
passdb {{
  driver = static
  args = password=secret
  mechanisms = plain login
}}
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {path}/oauth2.conf
}}
userdb {{
  driver = static
  args = uid={user} gid={group} home={path}/mail/%u allow_all_users=yes
}}
"
    )
}

/// Tokens are checked here, without asking whoever issued them.
fn token_settings(path: &Path) -> String {
    format!(
        "introspection_mode = local
local_validation_key_dict = fs:posix:prefix={}/keys/
username_attribute = email
username_format = %Ln
",
        path.display()
    )
}

/// Returns the part of a mail's file name that never changes: the flags after the colon do.
fn unique_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split(':').next().unwrap_or_default().to_owned()
}

/// Returns when a mail came: its file name starts with "SECONDS.MmicrosecondsP...".
fn arrival(file: &Path) -> (u64, u64, String) {
    let name = unique_name(file);
    let mut parts = name.split('.');
    let seconds = parts.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let micros = parts
        .next()
        .and_then(|text| text.strip_prefix('M')?.split('P').next()?.parse().ok())
        .unwrap_or(0);
    (seconds, micros, name)
}
