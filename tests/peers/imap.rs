//! A small IMAP client: what a person, a rule or a migration does to a mailbox.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use super::PATIENCE;

pub struct Imap {
    stream: BufReader<TcpStream>,
    commands: u32,
}

/// A mail with its date of arrival, as IMAP writes it.
pub struct Kept {
    pub date: String,
    pub raw: Vec<u8>,
}

impl Imap {
    pub fn log_in(port: u16, user: &str, password: &str) -> Imap {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out above zero");
        let mut imap = Imap {
            stream: BufReader::new(stream),
            commands: 0,
        };
        imap.response();
        imap.run(&format!("LOGIN {user} {password}"));
        imap
    }

    /// Makes a mailbox where it is not there yet.
    pub fn create(&mut self, mailbox: &str) {
        self.try_run(&format!("CREATE \"{mailbox}\""));
    }

    /// Every mail of a mailbox.
    pub fn mails(&mut self, mailbox: &str) -> Vec<Kept> {
        self.run(&format!("EXAMINE \"{mailbox}\""));
        if self.count(mailbox, "MESSAGES") == 0 {
            return Vec::new();
        }
        let fetched = self.run("FETCH 1:* (INTERNALDATE BODY.PEEK[])");
        fetched.iter().filter_map(|one| kept(one)).collect()
    }

    /// Puts a mail into a mailbox, as one that arrived at `date`, or now.
    pub fn append(&mut self, mailbox: &str, date: Option<&str>, raw: &[u8]) {
        let date = date.map(|date| format!(" \"{date}\"")).unwrap_or_default();
        let length = raw.len();
        self.commands += 1;
        let tag = format!("a{}", self.commands);
        self.say(format!("{tag} APPEND \"{mailbox}\"{date} {{{length}}}\r\n").as_bytes());
        let go_on = self.response();
        assert!(go_on.starts_with(b"+"), "{}", lossy(&go_on));
        self.say(&[raw, b"\r\n"].concat());
        let answer = self.tagged(&tag).1;
        assert!(answer.starts_with("OK"), "APPEND: {answer}");
    }

    /// A number of the mailbox: MESSAGES, UNSEEN, UIDVALIDITY.
    pub fn count(&mut self, mailbox: &str, item: &str) -> usize {
        let told = self.run(&format!("STATUS \"{mailbox}\" ({item})"));
        let line = lossy(told.last().expect("a STATUS response"));
        let number = line.rsplit([' ', ')']).find(|word| !word.trim().is_empty());
        let number = number.and_then(|word| word.trim().parse().ok());
        number.unwrap_or_else(|| panic!("no number in {line}"))
    }

    fn run(&mut self, command: &str) -> Vec<Vec<u8>> {
        let (told, answer) = self.try_run(command);
        assert!(answer.starts_with("OK"), "{command}: {answer}");
        told
    }

    fn try_run(&mut self, command: &str) -> (Vec<Vec<u8>>, String) {
        self.commands += 1;
        let tag = format!("a{}", self.commands);
        self.say(format!("{tag} {command}\r\n").as_bytes());
        self.tagged(&tag)
    }

    /// What was told on the way, and the answer to a command.
    fn tagged(&mut self, tag: &str) -> (Vec<Vec<u8>>, String) {
        let mut told = Vec::new();
        loop {
            let response = self.response();
            let text = lossy(&response);
            match text.strip_prefix(&format!("{tag} ")) {
                Some(answer) => return (told, answer.to_owned()),
                None => told.push(response),
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.stream
            .get_mut()
            .write_all(bytes)
            .expect("the server reads on");
    }

    /// One response with its literals.
    fn response(&mut self) -> Vec<u8> {
        let mut response = Vec::new();
        loop {
            let read = self.stream.read_until(b'\n', &mut response);
            assert!(read.expect("an answer in time") > 0, "the server hung up");
            let Some(length) = literal(&response) else {
                return response;
            };
            let mut bytes = vec![0; length];
            self.stream
                .read_exact(&mut bytes)
                .expect("the literal that was announced");
            response.extend(bytes);
        }
    }
}

/// The length of the literal that a line announces at its end.
fn literal(line: &[u8]) -> Option<usize> {
    let line = line.strip_suffix(b"}\r\n")?;
    let at = line.iter().rposition(|byte| *byte == b'{')?;
    lossy(line.get(at + 1..)?).parse().ok()
}

fn kept(response: &[u8]) -> Option<Kept> {
    let text = lossy(response);
    let (_, rest) = text.split_once("INTERNALDATE \"")?;
    let (date, _) = rest.split_once('"')?;
    let start = response.windows(3).position(|window| window == b"}\r\n")?;
    let length = literal(response.get(..start + 3)?)?;
    let raw = response.get(start + 3..start + 3 + length)?;
    Some(Kept {
        date: date.to_owned(),
        raw: raw.to_vec(),
    })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
