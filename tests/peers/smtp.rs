//! The client's half of SMTP and LMTP, small enough to show a refusal exactly as the server gave it.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::PATIENCE;

/// A reply that was not the one asked for.
#[derive(Debug)]
pub struct Refusal {
    pub during: &'static str,
    pub code: u16,
    pub text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.during, self.text)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Smtp,
    Lmtp,
}

/// Hands over one mail to one recipient. An empty `from` is the null sender.
pub fn hand_over(
    port: u16,
    dialect: Dialect,
    from: &str,
    to: &str,
    eml: &[u8],
) -> Result<(), Refusal> {
    let mut session = Session::connect(port);
    session.expect("connect", 220)?;
    let greeting = if dialect == Dialect::Lmtp {
        "LHLO"
    } else {
        "EHLO"
    };
    session.ask("greeting", &format!("{greeting} test.example"), 250)?;
    session.ask("MAIL FROM", &format!("MAIL FROM:<{from}>"), 250)?;
    session.ask("RCPT TO", &format!("RCPT TO:<{to}>"), 250)?;
    session.ask("DATA", "DATA", 354)?;
    session.write(&on_the_wire(eml));
    session.expect("end of data", 250)?;
    session.ask("QUIT", "QUIT", 221)
}

/// Says who one is (RFC 4954) and leaves.
pub fn log_in(port: u16, user: &str, password: &str) -> Result<(), Refusal> {
    let mut session = Session::connect(port);
    session.expect("connect", 220)?;
    session.ask("greeting", "EHLO test.example", 250)?;
    let plain = STANDARD.encode(format!("\0{user}\0{password}"));
    session.ask("AUTH", &format!("AUTH PLAIN {plain}"), 235)?;
    session.ask("QUIT", "QUIT", 221)
}

/// Returns the mail with CRLF line ends, leading dots doubled, and the closing dot.
fn on_the_wire(eml: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(eml.len() + eml.len() / 16 + 8);
    for line in eml
        .strip_suffix(b"\n")
        .unwrap_or(eml)
        .split(|byte| *byte == b'\n')
    {
        if line.starts_with(b".") {
            wire.push(b'.');
        }
        wire.extend_from_slice(line.strip_suffix(b"\r").unwrap_or(line));
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

struct Session {
    stream: BufReader<TcpStream>,
}

impl Session {
    fn connect(port: u16) -> Session {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a time-out above zero");
        Session {
            stream: BufReader::new(stream),
        }
    }

    fn ask(&mut self, during: &'static str, line: &str, wanted: u16) -> Result<(), Refusal> {
        self.write(format!("{line}\r\n").as_bytes());
        self.expect(during, wanted)
    }

    fn write(&mut self, bytes: &[u8]) {
        self.stream
            .get_mut()
            .write_all(bytes)
            .expect("the server reads on");
    }

    fn expect(&mut self, during: &'static str, wanted: u16) -> Result<(), Refusal> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let length = self
                .stream
                .read_line(&mut line)
                .expect("the server answers in time");
            text.push_str(&line);
            // RFC 5321 section 4.2.1: a hyphen after the code says that more lines follow.
            if length == 0 || line.as_bytes().get(3) != Some(&b'-') {
                break;
            }
        }
        let code = text
            .get(..3)
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0);
        if code == wanted {
            Ok(())
        } else {
            Err(Refusal {
                during,
                code,
                text: text.trim_end().to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn dots_are_doubled_and_lines_end_in_crlf() {
        let wire = super::on_the_wire(b"a: b\n\n.dot\r\n..two\nend");
        assert_eq!(wire, b"a: b\r\n\r\n..dot\r\n...two\r\nend\r\n.\r\n");
    }
}
