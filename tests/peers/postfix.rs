//! A real mail transfer agent: takes mail over SMTP, delivers to Dovecot, and writes genuine bounces.
//!
//! `shop.example` and `customer.example` are delivered to Dovecot. Mail to `gone.example` is accepted and then comes
//! back as a 5.1.1 delivery status notification; `refused.example` is refused with 550 and `busy.example` with 451
//! while the client is still connected; every other domain bounces with 5.4.6.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::dovecot::Dovecot;
use super::server::{self, Plan, Server};
use super::smtp::{self, Dialect, Refusal};

pub struct Postfix {
    /// Plain, with STARTTLS. AUTH is offered and not asked for.
    pub smtp_port: u16,
    /// TLS from the first byte.
    pub smtps_port: u16,
    server: Server,
}

impl Postfix {
    pub fn start(dovecot: &Dovecot) -> Postfix {
        Postfix::start_with(dovecot, "")
    }

    /// With further lines of main.cf, which override what stands before them.
    pub fn start_with(dovecot: &Dovecot, further: &str) -> Postfix {
        let (server, [smtp_port, smtps_port]) = Server::start(|| plan(dovecot, further));
        Postfix {
            smtp_port,
            smtps_port,
            server,
        }
    }

    /// Sends a mail as its sender's server would; an empty `from` is the null sender.
    pub fn send(&self, from: &str, to: &str, eml: &[u8]) {
        if let Err(refusal) = self.try_send(from, to, eml) {
            panic!("Postfix refuses a mail to {to}: {refusal}");
        }
    }

    /// Sends a mail and returns the server's refusal where there is one.
    pub fn try_send(&self, from: &str, to: &str, eml: &[u8]) -> Result<(), Refusal> {
        Postfix::send_at(self.smtp_port, from, to, eml)
    }

    /// Logs in as a client that sends with a password would.
    pub fn try_login(&self, user: &str, password: &str) -> Result<(), Refusal> {
        smtp::log_in(self.smtp_port, user, password)
    }

    /// Sends a mail through another port, such as a proxy's.
    pub fn send_at(port: u16, from: &str, to: &str, eml: &[u8]) -> Result<(), Refusal> {
        smtp::hand_over(port, Dialect::Smtp, from, to, eml)
    }

    /// What it has written about itself.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.server.directory().join("maillog")).unwrap_or_default()
    }

    pub fn directory(&self) -> PathBuf {
        self.server.directory().to_owned()
    }
}

/// Makes the queue's folders as Postfix's own installer does, which takes a second, then becomes the master process.
/// The master closes every possible descriptor when it starts, hence the small limit.
const START: &str = r#"
set -e
cd "$1"
mkdir -p queue/pid data
chown postfix data
cd queue
private="active bounce corrupt defer deferred flush hold incoming private saved trace"
mkdir -p $private maildrop public
chmod 700 $private
chown postfix $private
chown postfix:postdrop maildrop public
chmod 730 maildrop
chmod 710 public
ulimit -n 1024
exec /usr/lib/postfix/sbin/master -c "$1/etc" -s
"#;

fn plan(dovecot: &Dovecot, further: &str) -> (Plan, [u16; 2]) {
    server::installed("/usr/lib/postfix/sbin/master");
    let directory = server::open_directory("postfix");
    let path = directory.path().to_owned();
    let ports = [(); 2].map(|()| server::free_port());
    let etc = path.join("etc");
    std::fs::create_dir(&etc).expect("a fresh directory");
    let settings = format!("{}{further}\n", settings(&path, dovecot));
    write_old(&etc.join("main.cf"), &settings);
    write_old(&etc.join("master.cf"), &services(ports));
    let command = ["sh", "-c", START, "sh", &path.display().to_string()]
        .map(str::to_owned)
        .to_vec();
    let plan = Plan {
        name: "Postfix",
        log: path.join("maillog"),
        directory,
        command,
        ports: ports.to_vec(),
    };
    (plan, ports)
}

/// Postfix waits until its configuration is more than a second old, lest it read a half-written one.
fn write_old(path: &Path, content: &str) {
    let mut file = File::create(path).expect("a file in a fresh directory");
    file.write_all(content.as_bytes())
        .expect("the disk has room");
    file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000))
        .expect("we own the file");
}

fn settings(path: &Path, dovecot: &Dovecot) -> String {
    let path = path.display();
    let (lmtp_port, auth_port) = (dovecot.lmtp_port, dovecot.auth_port);
    let (chain, key) = (
        dovecot.certificate.chain.display(),
        dovecot.certificate.key.display(),
    );
    format!(
        "compatibility_level = 3.6
maillog_file = {path}/maillog
maillog_file_prefixes = {path}
queue_directory = {path}/queue
data_directory = {path}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.test.example
mydestination =
mynetworks = 127.0.0.0/8
recipient_delimiter = +
virtual_mailbox_domains = shop.example, customer.example, gone.example, refused.example, busy.example
virtual_mailbox_maps = static:ok
virtual_transport = lmtp:inet:127.0.0.1:{lmtp_port}
transport_maps = inline:{{gone.example=nouser:}}
default_transport = error:5.4.6 no outside mail
relay_transport = error:5.4.6 no outside mail
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions = check_recipient_access inline:{{
  {{ refused.example = 550 5.1.1 no such user }},
  {{ busy.example = 451 4.3.0 try again later }} }}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {chain}
smtpd_tls_key_file = {key}
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:127.0.0.1:{auth_port}
message_size_limit = 26214400
alias_maps =
alias_database =
# A delivery put off while Dovecot is away is tried again at once, not in minutes.
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 2s
"
    )
}

/// Returns the services that these tests use, none of them in a chroot.
fn services([smtp_port, smtps_port]: [u16; 2]) -> String {
    format!(
        "127.0.0.1:{smtp_port} inet n - n - - smtpd
127.0.0.1:{smtps_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
nouser unix - n n - - pipe flags=R user=nobody argv=/bin/sh -c {EXIT_NO_USER}
"
    )
}

/// EX_NOUSER of sysexits.h is 67, from which the pipe service makes a genuine 5.1.1. Braces keep the words together.
const EXIT_NO_USER: &str = "{ exit 67 }";
