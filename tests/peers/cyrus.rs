//! A second real IMAP server, by other authors and with another store: Cyrus, with LMTP delivery.
//!
//! Debian lets only one IMAP server be installed; `install.sh` unpacks this one's programs beside Dovecot.

use std::path::{Path, PathBuf};

use super::server::{self, Plan, Server};
use super::smtp::{self, Dialect};
use super::{mail, wait_until};

/// Where `install.sh` unpacks what Debian's package would put into /usr/lib/cyrus.
const UNPACKED: &str = "/usr/local/lib/switchboard-peers/cyrus-imapd/usr/lib/cyrus/bin";
const INSTALLED: &str = "/usr/lib/cyrus/bin";

pub struct Cyrus {
    pub imap_port: u16,
    pub lmtp_port: u16,
    server: Server,
}

impl Cyrus {
    /// Any password opens any mailbox; one is made at its owner's first login or mail.
    pub fn start() -> Cyrus {
        let (server, [imap_port, lmtp_port]) = Server::start(plan);
        Cyrus {
            imap_port,
            lmtp_port,
            server,
        }
    }

    /// Delivers over LMTP. The envelope's sender is the From address.
    pub fn deliver(&self, recipient: &str, eml: &[u8]) {
        let from = mail::sender(eml).unwrap_or_else(|| "sender@customer.example".to_owned());
        let handed = smtp::hand_over(self.lmtp_port, Dialect::Lmtp, &from, recipient, eml);
        if let Err(refusal) = handed {
            panic!("Cyrus refuses a mail to {recipient}: {refusal}");
        }
    }

    /// Ends every session from the server's side, and waits until they are gone.
    pub fn kick(&self) {
        let folder = self.server.directory().join("proc");
        let sessions = || {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            entries
                .filter(|entry| {
                    let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
                    text.starts_with("imap\t")
                })
                .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
                .collect::<Vec<u32>>()
        };
        let ended = sessions();
        for session in &ended {
            let killed = server::as_root("sh")
                .args(["-c", &format!("kill -TERM {session}")])
                .status();
            assert!(killed.is_ok(), "sh runs");
        }
        wait_until("the sessions to end", super::PATIENCE, || {
            sessions().iter().all(|session| !ended.contains(session))
        });
    }

    pub fn directory(&self) -> PathBuf {
        self.server.directory().to_owned()
    }
}

fn plan() -> (Plan, [u16; 2]) {
    let master = server::installed(&format!("{INSTALLED}/master"));
    let programs = match Path::new(&format!("{INSTALLED}/imapd")).exists() {
        true => INSTALLED,
        false => UNPACKED,
    };
    server::installed(&format!("{programs}/imapd"));
    let directory = server::open_directory("cyrus");
    let path = directory.path().to_owned();
    let ports = [(); 2].map(|()| server::free_port());
    for (name, text) in [
        ("imapd.conf", settings(&path)),
        ("cyrus.conf", services(&path, ports, programs)),
    ] {
        std::fs::write(path.join(name), text).expect("a file in a fresh directory");
    }
    let folders = ["conf/db", "conf/socket", "spool", "run", "proc", "lock"];
    let made = server::as_root("install")
        .args(["-d", "-o", "cyrus", "-g", "mail"])
        .args(
            ["conf", "conf/proc", "conf/lock", "conf/log", "conf/msg"].map(|name| path.join(name)),
        )
        .args(folders.map(|name| path.join(name)))
        .status()
        .expect("install comes with every system");
    assert!(made.success(), "cannot make directories for cyrus");
    let argument = |name: &str| path.join(name).display().to_string();
    let command = vec![
        master,
        "-C".to_owned(),
        argument("imapd.conf"),
        "-M".to_owned(),
        argument("cyrus.conf"),
        "-p".to_owned(),
        argument("master.pid"),
        "-D".to_owned(),
    ];
    let plan = Plan {
        name: "Cyrus",
        log: path.join("stderr"),
        directory,
        command,
        ports: ports.to_vec(),
    };
    (plan, ports)
}

fn settings(path: &Path) -> String {
    let path = path.display();
    format!(
        "configdirectory: {path}/conf
partition-default: {path}/spool
defaultpartition: default
cyrus_user: cyrus
sasl_pwcheck_method: alwaystrue
sasl_mech_list: PLAIN LOGIN
allowplaintext: yes
unixhierarchysep: yes
altnamespace: yes
virtdomains: off
autocreate_post: yes
autocreate_quota: 0
autocreate_inbox_folders: Returns | Done
lmtp_downcase_rcpt: yes
duplicatesuppression: no
idlesocket: {path}/run/idle
lmtpsocket: {path}/run/lmtp
notifysocket: {path}/run/notify
proc_path: {path}/proc
mboxname_lockpath: {path}/lock
master_bind_errors_fatal: yes
"
    )
}

fn services(path: &Path, [imap_port, lmtp_port]: [u16; 2], programs: &str) -> String {
    let settings = path.join("imapd.conf");
    let settings = settings.display();
    format!(
        "START {{
  recover cmd=\"{INSTALLED}/ctl_cyrusdb -r -C {settings}\"
}}
SERVICES {{
  imap cmd=\"{programs}/imapd -U 30 -C {settings}\" listen=\"127.0.0.1:{imap_port}\" prefork=0 maxchild=100
  lmtp cmd=\"{INSTALLED}/lmtpd -a -C {settings}\" listen=\"127.0.0.1:{lmtp_port}\" prefork=0 maxchild=20
}}
DAEMON {{
  idled cmd=\"{programs}/idled -C {settings}\"
}}
"
    )
}
