//! Where a daemon's mail comes from and goes to, in this process: no server is needed.

use super::fake_imap::{FakeImap, USER};
use super::fake_smtp::{FakeSmtp, Fault, Taken};
use super::process::{MAIL_PASSWORD, PATIENCE};
use crate::peers::wait_until;

/// A mailbox and a mail server, for the channel `support-mail`.
pub struct PostOffice {
    imap: FakeImap,
    smtp: FakeSmtp,
    runtime: tokio::runtime::Runtime,
}

impl PostOffice {
    pub fn open() -> Self {
        let runtime = super::own_runtime();
        Self {
            imap: runtime.block_on(FakeImap::start(MAIL_PASSWORD)),
            smtp: runtime.block_on(FakeSmtp::start(USER, MAIL_PASSWORD)),
            runtime,
        }
    }

    /// The mail channel's part of a configuration.
    pub fn config(&self) -> String {
        mail_channel(self.imap.address.port(), self.smtp.address.port(), USER)
    }

    /// Returns once somebody reads the mailbox: what lay in it before is history.
    pub fn wait_for_reader(&self) {
        let listening = self.imap.listening();
        let within = async { tokio::time::timeout(PATIENCE, listening).await };
        self.runtime
            .block_on(within)
            .expect("a reader of the mailbox");
    }

    pub fn deliver(&self, mail: Vec<u8>) {
        self.imap.deliver(mail);
    }

    /// Says nothing any more, and does not hang up; or is well again.
    pub fn go_dead(&self, dead: bool) {
        self.imap.set(|server| server.is_dead = dead);
        if !dead {
            self.imap.cut();
        }
    }

    /// The mails get other numbers under another UIDVALIDITY, and everybody has to connect again.
    pub fn renumber(&self) {
        self.imap.renumber();
        self.imap.cut();
    }

    /// How many times somebody logged in to the mailbox.
    pub fn logins(&self) -> usize {
        let commands = self.imap.commands();
        commands
            .iter()
            .filter(|line| line.contains("LOGIN"))
            .count()
    }

    /// The mails that left, as they were handed over.
    pub fn sent(&self) -> Vec<Taken> {
        self.smtp.taken()
    }

    /// The next mail arrives, and nobody is told.
    pub fn lose_next_answer(&self) {
        self.smtp.fail_next(Fault::HangUp("."));
    }

    /// Whoever sends the next mail waits in vain for an answer.
    pub fn leave_next_unanswered(&self) {
        self.smtp.fail_next(Fault::Silence);
    }

    /// Returns once a mail arrived whose sender waits in vain for the answer.
    pub fn wait_for_unanswered(&self) {
        let before = self.smtp.silences();
        self.smtp.fail_next(Fault::Silence);
        let is_silent = || self.smtp.silences() > before;
        wait_until("a mail to be sent", PATIENCE, is_silent);
    }
}

/// The channel `support-mail` with servers on loopback.
pub fn mail_channel(imap_port: u16, smtp_port: u16, user: &str) -> String {
    format!(
        "[channels.support-mail]\nconnector = \"email\"\nqueue = \"frontline\"\n\
         address = \"support@shop.example\"\nauthserv_id = \"{AUTHSERV_ID}\"\npoll_interval = \"5s\"\n\
         imap = {{ host = \"127.0.0.1\", port = {imap_port}, tls = \"none\", user = \"{user}\", password = {{ file = \"{{dir}}/mail-password\" }} }}\n\
         smtp = {{ host = \"127.0.0.1\", port = {smtp_port}, tls = \"none\" }}\n"
    )
}

/// Whose `Authentication-Results` the channel believes.
pub const AUTHSERV_ID: &str = "mx.shop.example";
