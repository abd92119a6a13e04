//! One client of the fake server: its commands and what they are answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{Accepts, Closed, Mail, Shared, USER, in_set};

struct Connection {
    lines: BufReader<OwnedReadHalf>,
    out: OwnedWriteHalf,
    shared: Arc<Shared>,
    is_listening: bool,
    selected: String,
    is_writing: bool,
}

pub(super) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    stream.set_nodelay(true).unwrap();
    let mut cuts = shared.cuts.subscribe();
    let (read, out) = stream.into_split();
    let mut connection = Connection {
        lines: BufReader::new(read),
        out,
        shared: Arc::clone(&shared),
        is_listening: false,
        selected: "INBOX".to_owned(),
        is_writing: false,
    };
    tokio::select! {
        _ = cuts.changed() => {}
        _ = connection.run() => {
            if connection.is_listening {
                shared.listening.send_modify(|count| *count = count.saturating_sub(1));
            }
        }
    }
}

impl Connection {
    async fn run(&mut self) -> Option<()> {
        let is_down = self.shared.state().options.is_down;
        if is_down {
            return None;
        }
        self.say("* OK ready").await?;
        loop {
            let line = self.line().await?;
            let (tag, command) = line.split_once(' ')?;
            self.shared.state().commands.push(command.to_owned());
            let upper = command.to_uppercase();
            let verb = upper.split(' ').next()?;
            match verb {
                "LOGIN" => self.login(tag, command).await?,
                "CAPABILITY" => {
                    let idle = if self.shared.state().options.no_idle {
                        ""
                    } else {
                        " IDLE"
                    };
                    let tokens = {
                        let options = &self.shared.state().options;
                        match (options.tokens.is_some(), options.is_standard) {
                            (false, _) => "",
                            (true, false) => " AUTH=XOAUTH2",
                            (true, true) => " AUTH=OAUTHBEARER",
                        }
                    };
                    let more = {
                        let mut state = self.shared.state();
                        let mails = state.folder("INBOX").mails.values();
                        let is_gmail = mails.clone().any(|mail| mail.gmail.is_some());
                        match (state.options.is_old, is_gmail) {
                            (true, _) => "",
                            (false, false) => " MOVE UIDPLUS",
                            (false, true) => " MOVE UIDPLUS X-GM-EXT-1",
                        }
                    };
                    self.say(&format!("* CAPABILITY IMAP4rev1{idle}{tokens}{more}"))
                        .await?;
                    self.done(tag).await?;
                }
                "AUTHENTICATE" => self.authenticate(tag, &upper).await?,
                "EXAMINE" | "SELECT" => self.open(tag, command).await?,
                "STATUS" => {
                    let name = quoted_in(command);
                    let is_there = self.shared.state().boxes.contains_key(&name);
                    match is_there {
                        true => self.done(tag).await?,
                        false => self.say(&format!("{tag} NO no such mailbox")).await?,
                    }
                }
                "LIST" => self.list(tag).await?,
                "UID"
                    if ["STORE", "MOVE", "COPY", "EXPUNGE"].contains(&upper.split(' ').nth(1)?) =>
                {
                    self.change(tag, command).await?;
                }
                "IDLE" => self.idle(tag).await?,
                "LOGOUT" => {
                    self.say("* BYE so long").await?;
                    self.done(tag).await?;
                    return None;
                }
                "NOOP" => {
                    self.exists().await?;
                    self.done(tag).await?;
                }
                "FETCH" => self.fetch_by_number(tag, &upper).await?,
                "UID" if upper.starts_with("UID FETCH") => self.fetch(tag, &upper).await?,
                "UID" if upper.starts_with("UID SEARCH") => self.search(tag, &upper).await?,
                _ => self.say(&format!("{tag} BAD unknown command")).await?,
            }
        }
    }

    async fn login(&mut self, tag: &str, command: &str) -> Option<()> {
        let is_good = {
            let mut state = self.shared.state();
            let expected = format!("LOGIN \"{USER}\" \"{}\"", state.password);
            let is_refused = state.options.logins_refused > 0;
            state.options.logins_refused = state.options.logins_refused.saturating_sub(1);
            command == expected && !is_refused
        };
        let answer = match is_good {
            true => "OK logged in".to_owned(),
            false => format!("NO [AUTHENTICATIONFAILED] not with {command}"),
        };
        self.say(&format!("{tag} {answer}")).await
    }

    /// A token, after the server said go on; refused in a challenge that wants its answer.
    async fn authenticate(&mut self, tag: &str, command: &str) -> Option<()> {
        let is_standard = self.shared.state().options.is_standard;
        let expected = if is_standard {
            "OAUTHBEARER"
        } else {
            "XOAUTH2"
        };
        if command != format!("AUTHENTICATE {expected}") {
            return self.say(&format!("{tag} NO no such mechanism")).await;
        }
        self.say("+ ").await?;
        let response = self.line().await?;
        let is_good = {
            let mut state = self.shared.state();
            let is_refused = state.options.logins_refused > 0;
            state.options.logins_refused = state.options.logins_refused.saturating_sub(1);
            let token = bearer(&response, is_standard);
            let accepts = state.options.tokens.clone();
            !is_refused && token.is_some_and(|token| accepts.is_some_and(|Accepts(is)| is(&token)))
        };
        if is_good {
            return self.done(tag).await;
        }
        let challenge = r#"{"status":"401","schemes":"bearer","scope":"mail"}"#;
        self.say(&format!("+ {}", STANDARD.encode(challenge)))
            .await?;
        let expected = if is_standard { "AQ==" } else { "" };
        match self.line().await? == expected {
            true => {
                self.say(&format!(
                    "{tag} NO [AUTHENTICATIONFAILED] not with {response}"
                ))
                .await
            }
            false => self.say(&format!("{tag} BAD what is that")).await,
        }
    }

    async fn open(&mut self, tag: &str, command: &str) -> Option<()> {
        let name = quoted_in(command);
        let closed = self.shared.state().options.closed.get(&name).copied();
        match closed {
            None => {}
            Some(Closed::Refused(words)) => return self.say(&format!("{tag} NO {words}")).await,
            Some(Closed::HangsUp) => return None,
            Some(Closed::Silent) => std::future::pending().await,
        }
        let numbers = {
            let state = self.shared.state();
            let folder = state.boxes.get(&name);
            folder.map(|folder| (folder.uidvalidity, folder.uid_next))
        };
        let Some((uidvalidity, uid_next)) = numbers else {
            return self
                .say(&format!("{tag} NO [NONEXISTENT] no such mailbox"))
                .await;
        };
        self.selected = name;
        self.is_writing = command.starts_with("SELECT");
        self.exists().await?;
        self.say(&format!("* OK [UIDVALIDITY {uidvalidity}] valid"))
            .await?;
        self.say(&format!("* OK [UIDNEXT {uid_next}] next")).await?;
        let mode = if self.is_writing {
            "READ-WRITE"
        } else {
            "READ-ONLY"
        };
        self.say(&format!("{tag} OK [{mode}] open")).await
    }

    async fn list(&mut self, tag: &str) -> Option<()> {
        let names: Vec<String> = self.shared.state().boxes.keys().cloned().collect();
        for name in names {
            self.say(&format!("* LIST (\\HasNoChildren) \"/\" \"{name}\""))
                .await?;
        }
        self.say("* LIST (\\Noselect) \"/\" \"Shared\"").await?;
        self.done(tag).await
    }

    /// `UID STORE`, `MOVE`, `COPY` and `EXPUNGE`, of a mailbox that is open for it.
    async fn change(&mut self, tag: &str, command: &str) -> Option<()> {
        let words: Vec<&str> = command.split(' ').collect();
        let target = quoted_in(command);
        let answer = {
            let mut state = self.shared.state();
            let is_refused = state.options.refused_changes > 0;
            state.options.refused_changes = state.options.refused_changes.saturating_sub(1);
            let is_beyond = state.options.is_old && ["MOVE", "EXPUNGE"].contains(&words[1]);
            if is_refused || is_beyond || !self.is_writing {
                "NO not that"
            } else {
                state.change(&self.selected, &words, &target);
                "OK done"
            }
        };
        let count = self.visible().len();
        self.say(&format!("* {count} EXISTS")).await?;
        self.say(&format!("{tag} {answer}")).await
    }

    async fn exists(&mut self) -> Option<()> {
        let count = self.visible().len();
        self.say(&format!("* {count} EXISTS")).await
    }

    async fn idle(&mut self, tag: &str) -> Option<()> {
        let mut news = self.shared.news.subscribe();
        news.borrow_and_update();
        self.say("+ idling").await?;
        // What came between the last look and now is announced, too.
        self.exists().await?;
        loop {
            let mut line = String::new();
            tokio::select! {
                changed = news.changed() => {
                    changed.ok()?;
                    self.exists().await?;
                }
                read = self.lines.read_line(&mut line) => {
                    if read.ok()? == 0 {
                        return None;
                    }
                    self.stall_if_dead().await;
                    return self.done(tag).await;
                }
            }
        }
    }

    async fn search(&mut self, tag: &str, command: &str) -> Option<()> {
        let mut mails = self.visible();
        mails.retain(|_, mail| !(command.contains("UNSEEN") && mail.is_seen));
        let uids: Vec<String> = mails.keys().map(u32::to_string).collect();
        self.say(&format!("* SEARCH {}", uids.join(" "))).await?;
        self.done(tag).await
    }

    async fn fetch_by_number(&mut self, tag: &str, command: &str) -> Option<()> {
        let set = command.split(' ').nth(1)?.to_owned();
        let mails = self.visible();
        let last = u32::try_from(mails.len()).ok()?;
        for (number, (uid, mail)) in (1u32..).zip(mails) {
            if in_set(&set, number, last) {
                self.fetched(number, uid, &mail, command).await?;
            }
        }
        self.done(tag).await
    }

    async fn fetch(&mut self, tag: &str, command: &str) -> Option<()> {
        if !self.is_listening {
            self.is_listening = true;
            self.shared.listening.send_modify(|count| *count += 1);
        }
        let set = command.split(' ').nth(2)?.to_owned();
        let mails = self.visible();
        let last = mails.keys().next_back().copied().unwrap_or_default();
        let wanted: Vec<(u32, u32, Mail)> = (1u32..)
            .zip(mails)
            .map(|(number, (uid, mail))| (number, uid, mail))
            .filter(|(_, uid, _)| in_set(&set, *uid, last))
            .collect();
        let wants_content = command.contains("BODY.PEEK[]");
        let is_down = {
            let options = &mut self.shared.state().options;
            let is_down = options.outage_fetches > 0;
            options.outage_fetches = options.outage_fetches.saturating_sub(wants_content.into());
            is_down && (wants_content || options.outage_of_headers && command.contains("BODY.PEEK"))
        };
        if is_down {
            return self.say(&format!("{tag} NO Server unavailable")).await;
        }
        let mut wanted = wanted;
        if wants_content && self.shared.state().options.empty_fetches > 0 {
            self.shared.state().options.empty_fetches -= 1;
            wanted
                .iter_mut()
                .for_each(|(_, _, mail)| mail.raw = Arc::default());
        }
        for (number, uid, mail) in wanted {
            let is_refused = self.shared.state().options.refused_bodies.contains(&uid);
            if is_refused && wants_content {
                return self.say(&format!("{tag} NO cannot read the mail")).await;
            }
            self.fetched(number, uid, &mail, command).await?;
        }
        if set.ends_with(":*") {
            self.arrive_late().await?;
        }
        self.done(tag).await
    }

    async fn arrive_late(&mut self) -> Option<()> {
        let late = self.shared.state().options.arrives_late.take();
        match late {
            None => Some(()),
            Some((0, raw)) => {
                self.shared.state().add(&self.selected, raw, None);
                self.exists().await
            }
            Some((others, raw)) => {
                self.shared.state().options.arrives_late = Some((others - 1, raw));
                Some(())
            }
        }
    }

    async fn fetched(&mut self, number: u32, uid: u32, mail: &Mail, command: &str) -> Option<()> {
        let mut items = vec![format!("UID {uid}").into_bytes()];
        if command.contains("RFC822.SIZE") {
            let claimed = self.shared.state().options.claimed_size;
            let size = claimed.unwrap_or(u32::try_from(mail.raw.len()).ok()?);
            items.push(format!("RFC822.SIZE {size}").into_bytes());
        }
        if let (true, Some((id, thread))) = (command.contains("X-GM-MSGID"), mail.gmail) {
            items.push(format!("X-GM-THRID {thread} X-GM-MSGID {id}").into_bytes());
        }
        if command.contains("INTERNALDATE") {
            let date = Timestamp::from_second(mail.date).ok()?;
            let date = date.strftime("%d-%b-%Y %H:%M:%S +0000");
            items.push(format!("INTERNALDATE \"{date}\"").into_bytes());
        }
        for (item, section, content) in [
            ("BODY.PEEK[]", "BODY[]", mail.raw.to_vec()),
            ("BODY.PEEK[HEADER]", "BODY[HEADER]", header_of(&mail.raw)),
            // All fields are more than was asked for, and no harm.
            (
                "BODY.PEEK[HEADER.FIELDS",
                "BODY[HEADER.FIELDS (MESSAGE-ID X-SWITCHBOARD-ID)]",
                header_of(&mail.raw),
            ),
        ] {
            if command.contains(item) {
                let mut literal = format!("{section} {{{}}}\r\n", content.len()).into_bytes();
                literal.extend(content);
                items.push(literal);
            }
        }
        let mut line = format!("* {number} FETCH (").into_bytes();
        line.extend(items.join(&b' '));
        line.extend(b")\r\n");
        let is_cut = {
            let mut state = self.shared.state();
            let is_cut = command.contains("BODY.PEEK") && state.options.cut_fetches > 0;
            if is_cut {
                state.options.cut_fetches -= 1;
            }
            is_cut
        };
        if is_cut {
            let half = line.len() / 2;
            self.out.write_all(line.get(..half)?).await.ok()?;
            return None;
        }
        self.out.write_all(&line).await.ok()
    }

    fn visible(&self) -> BTreeMap<u32, Mail> {
        let mut state = self.shared.state();
        let mut mails = state.folder(&self.selected).mails.clone();
        mails.retain(|uid, _| !state.options.invisible.contains(uid));
        mails
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.lines.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        self.stall_if_dead().await;
        Some(line.trim_end().to_owned())
    }

    async fn stall_if_dead(&self) {
        let is_dead = self.shared.state().options.is_dead;
        if is_dead {
            std::future::pending::<()>().await;
        }
    }

    async fn done(&mut self, tag: &str) -> Option<()> {
        self.say(&format!("{tag} OK done")).await
    }

    async fn say(&mut self, line: &str) -> Option<()> {
        let line = format!("{line}\r\n");
        self.out.write_all(line.as_bytes()).await.ok()
    }
}

/// The last quoted name of a command.
fn quoted_in(command: &str) -> String {
    let name = command.split('"').nth_back(1);
    name.unwrap_or_default().to_owned()
}

/// The token in a response, if the rest of it is as it should be.
fn bearer(response: &str, is_standard: bool) -> Option<String> {
    let response = String::from_utf8(STANDARD.decode(response).ok()?).ok()?;
    let rest = match is_standard {
        true => {
            let rest = response.strip_prefix(&format!("n,a={USER},\x01host=127.0.0.1\x01port="))?;
            rest.split_once('\x01')?.1
        }
        false => response.strip_prefix(&format!("user={USER}\x01"))?,
    };
    let token = rest
        .strip_prefix("auth=Bearer ")?
        .strip_suffix("\x01\x01")?;
    Some(token.to_owned())
}

fn header_of(raw: &[u8]) -> Vec<u8> {
    let end = raw.windows(4).position(|window| window == b"\r\n\r\n");
    raw.get(..end.map_or(raw.len(), |end| end + 4))
        .unwrap()
        .to_vec()
}
