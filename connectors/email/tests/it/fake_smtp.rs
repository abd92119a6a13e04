//! An SMTP server in this process that keeps what it is given and fails on command.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use super::fake_imap::Accepts;

pub struct FakeSmtp {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    login: String,
    /// The user's name, and which tokens let them in.
    tokens: Option<(String, Accepts)>,
    taken: Vec<Taken>,
    data_commands: usize,
    silences: usize,
    faults: VecDeque<Fault>,
    answers: HashMap<String, String>,
    /// The answer to `MAIL FROM:<>`.
    null_sender: Option<String>,
    size: Option<u64>,
    connections: usize,
    commands: Vec<String>,
}

/// A mail as it was handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub from: String,
    pub to: Vec<String>,
    pub raw: Vec<u8>,
}

/// What the next connection meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// This answer to a command (`MAIL`, `RCPT`, `DATA`, `AUTH`), to the final dot (`.`), or as the
    /// greeting (`connect`).
    Answer(&'static str, String),
    /// Hangs up instead of answering; a mail that was complete is kept.
    HangUp(&'static str),
    /// Hangs up when it has read that many bytes of the mail.
    HangUpWithin(usize),
    /// Hangs up at the next command after so many mails.
    #[allow(dead_code, reason = "the daemon's tests do without")]
    HangUpAfter(usize),
    /// Keeps the mail and says something that is no SMTP.
    Garbage,
    /// Keeps the mail and never answers.
    #[allow(dead_code, reason = "only the daemon's tests wait for it")]
    Silence,
}

impl FakeSmtp {
    pub async fn start(user: &str, password: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let login = format!("\0{user}\0{password}");
        let state = Arc::new(Mutex::new(State {
            login: base64::engine::general_purpose::STANDARD.encode(login),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, state }
    }

    /// Lets the user in with a token that this accepts, too.
    #[allow(dead_code, reason = "the daemon's tests use passwords")]
    pub fn take_tokens(&self, user: &str, accepts: Accepts) {
        self.state().tokens = Some((user.to_owned(), accepts));
    }

    pub fn fail_next(&self, fault: Fault) {
        self.state().faults.push_back(fault);
    }

    /// From now on this is the answer to a recipient.
    #[allow(dead_code, reason = "the daemon's tests do without")]
    pub fn answer_recipient(&self, address: &str, answer: &str) {
        let (address, answer) = (address.to_owned(), answer.to_owned());
        self.state().answers.insert(address, answer);
    }

    /// From now on this is the answer to the null sender.
    #[allow(dead_code, reason = "the daemon's tests do without")]
    pub fn answer_null_sender(&self, answer: &str) {
        self.state().null_sender = Some(answer.to_owned());
    }

    /// Offers `SIZE` with this limit.
    #[allow(dead_code, reason = "the daemon's tests do without")]
    pub fn limit_size(&self, bytes: u64) {
        self.state().size = Some(bytes);
    }

    #[allow(dead_code, reason = "the daemon's tests do without")]
    pub fn connections(&self) -> usize {
        self.state().connections
    }

    /// Everything that was said, without the mails.
    #[allow(dead_code, reason = "the daemon's tests do without")]
    pub fn commands(&self) -> Vec<String> {
        self.state().commands.clone()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.state().taken.clone()
    }

    /// How often somebody got as far as `DATA`.
    pub fn data_commands(&self) -> usize {
        self.state().data_commands
    }

    /// How many mails it took without ever answering.
    #[allow(dead_code, reason = "only the daemon's tests wait for it")]
    pub fn silences(&self) -> usize {
        self.state().silences
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    stream.set_nodelay(true).unwrap();
    lock(&state).connections += 1;
    let fault = lock(&state).faults.pop_front();
    let (read, out) = stream.into_split();
    let mut connection = Connection {
        lines: BufReader::new(read),
        out,
        state,
        fault,
        from: String::new(),
        to: Vec::new(),
        mails: 0,
    };
    connection.run().await;
}

struct Connection {
    lines: BufReader<OwnedReadHalf>,
    out: OwnedWriteHalf,
    state: Arc<Mutex<State>>,
    fault: Option<Fault>,
    from: String,
    to: Vec<String>,
    mails: usize,
}

impl Connection {
    async fn run(&mut self) -> Option<()> {
        let greeting = match &self.fault {
            Some(Fault::Answer("connect", answer)) => answer.clone(),
            _ => "220 fake.test.example ESMTP".to_owned(),
        };
        self.say(&greeting).await?;
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).await.ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            let verb = line.split(' ').next()?.to_uppercase();
            lock(&self.state).commands.push(line.clone());
            match &self.fault {
                Some(Fault::Answer(at, answer)) if *at == verb => {
                    let answer = answer.clone();
                    self.say(&answer).await?;
                    continue;
                }
                Some(Fault::HangUp(at)) if *at == verb => return None,
                Some(Fault::HangUpAfter(mails)) if *mails == self.mails => return None,
                _ => {}
            }
            match verb.as_str() {
                "EHLO" => {
                    self.say("250-fake.test.example").await?;
                    let size = lock(&self.state).size;
                    if let Some(size) = size {
                        self.say(&format!("250-SIZE {size}")).await?;
                    }
                    let tokens = lock(&self.state).tokens.is_some();
                    let more = if tokens { " XOAUTH2" } else { "" };
                    self.say(&format!("250-AUTH PLAIN LOGIN{more}")).await?;
                    self.say("250 8BITMIME").await?;
                }
                "AUTH" if line.starts_with("AUTH XOAUTH2 ") => self.by_token(&line).await?,
                "AUTH" => {
                    let is_good = line == format!("AUTH PLAIN {}", lock(&self.state).login);
                    let answer = match is_good {
                        true => "235 welcome".to_owned(),
                        false => format!("535 5.7.8 not with {line}"),
                    };
                    self.say(&answer).await?;
                }
                "MAIL" => {
                    self.from = address_in(&line)?;
                    let refusal = lock(&self.state).null_sender.clone();
                    let refusal = refusal.filter(|_| self.from.is_empty());
                    self.say(refusal.as_deref().unwrap_or("250 ok")).await?;
                }
                "RCPT" => {
                    let address = address_in(&line)?;
                    let answer = lock(&self.state).answers.get(&address).cloned();
                    if answer.is_none() {
                        self.to.push(address);
                    }
                    self.say(&answer.unwrap_or_else(|| "250 ok".to_owned()))
                        .await?;
                }
                "RSET" => {
                    self.from.clear();
                    self.to.clear();
                    self.say("250 ok").await?;
                }
                "DATA" => self.data().await?,
                "QUIT" => {
                    self.say("221 bye").await?;
                    return None;
                }
                _ => self.say("502 no such command").await?,
            }
        }
    }

    async fn by_token(&mut self, line: &str) -> Option<()> {
        let response = base64::engine::general_purpose::STANDARD
            .decode(line.rsplit(' ').next()?)
            .ok()?;
        let response = String::from_utf8(response).ok()?;
        let known = lock(&self.state).tokens.clone();
        let is_good = known.is_some_and(|(user, Accepts(accepts))| {
            let rest = response.strip_prefix(&format!("user={user}\x01auth=Bearer "));
            let token = rest.and_then(|rest| rest.strip_suffix("\x01\x01"));
            token.is_some_and(|token| accepts(token))
        });
        if is_good {
            return self.say("235 welcome").await;
        }
        self.say("334 eyJzdGF0dXMiOiI0MDEifQ==").await?;
        let mut line = String::new();
        self.lines.read_line(&mut line).await.ok()?;
        match line.trim_end() {
            "" => self.say("535 5.7.8 not with that token").await,
            _ => self.say("500 what is that").await,
        }
    }

    async fn data(&mut self) -> Option<()> {
        lock(&self.state).data_commands += 1;
        self.say("354 go ahead").await?;
        if let Some(Fault::HangUpWithin(bytes)) = self.fault {
            let mut some = vec![0; bytes];
            self.lines.read_exact(&mut some).await.ok()?;
            return None;
        }
        let raw = self.content().await?;
        let taken = Taken {
            from: std::mem::take(&mut self.from),
            to: std::mem::take(&mut self.to),
            raw,
        };
        match self.fault.clone() {
            Some(Fault::Answer(".", answer)) => return self.say(&answer).await,
            Some(Fault::HangUp(".")) => {
                lock(&self.state).taken.push(taken);
                return None;
            }
            Some(Fault::Silence) => {
                lock(&self.state).taken.push(taken);
                lock(&self.state).silences += 1;
                return std::future::pending().await;
            }
            Some(Fault::Garbage) => {
                lock(&self.state).taken.push(taken);
                return self.say("<html>what?").await;
            }
            _ => {}
        }
        lock(&self.state).taken.push(taken);
        self.mails += 1;
        self.say("250 2.0.0 queued").await
    }

    /// Reads up to the final dot and takes the stuffed dots out again.
    async fn content(&mut self) -> Option<Vec<u8>> {
        let mut raw = Vec::new();
        loop {
            let mut line = Vec::new();
            if self.lines.read_until(b'\n', &mut line).await.ok()? == 0 {
                return None;
            }
            if line == b".\r\n" {
                return Some(raw);
            }
            raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    async fn say(&mut self, line: &str) -> Option<()> {
        let line = format!("{line}\r\n");
        self.out.write_all(line.as_bytes()).await.ok()
    }
}

fn address_in(line: &str) -> Option<String> {
    let (_, rest) = line.split_once('<')?;
    let (address, _) = rest.split_once('>')?;
    Some(address.to_owned())
}
