//! SMTP on the wire: commands and replies, line by line and capped. What a mail is and what a
//! reply means is decided above.
//!
//! Our own, because a mail must be written while its files are read, and its size compared with
//! what the server takes: lettre's client wants the whole mail at once and does not tell `SIZE`.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsConnector;

use crate::dial::dial;

/// Longest line of a reply, in bytes: RFC 5321, section 4.5.3.1.5, allows 512, servers write more.
const LINE_BYTES_MAX: u64 = 4 * 1024;

/// Most lines of one reply.
const REPLY_LINES_MAX: usize = 200;

trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// A connection, plain or encrypted.
pub(crate) struct Wire {
    stream: BufReader<Box<dyn Transport>>,
    patience: Duration,
    /// Whether the next byte of a mail begins a line.
    at_line_start: bool,
}

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) lines: Vec<String>,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Lost {
    Io(io::Error),
    Closed,
    /// No SMTP.
    Nonsense,
    Slow,
}

impl Reply {
    pub(crate) fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }

    /// 4xx: it may go better later.
    pub(crate) fn is_passing(&self) -> bool {
        (400..500).contains(&self.code)
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // By the innermost cause.
            Self::Io(error) => match error.get_ref() {
                Some(inner) => write!(f, "{inner}"),
                None => write!(f, "{}", error.kind()),
            },
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Nonsense => f.write_str("the answer is no SMTP"),
            Self::Slow => f.write_str("no answer in time"),
        }
    }
}

impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl Wire {
    /// Connects, or says why not; `patience` is how long the server may take for each answer.
    pub(crate) async fn connect(host: &str, port: u16, patience: Duration) -> Result<Self, String> {
        let stream = dial(host, port, patience).await?;
        Ok(Self::over(stream, patience))
    }

    fn over(stream: impl Transport + 'static, patience: Duration) -> Self {
        Self {
            stream: BufReader::new(Box::new(stream)),
            patience,
            at_line_start: true,
        }
    }

    /// Goes on over TLS. What was sent in plain text behind the last reply is dropped: a man in
    /// the middle could have put it there (CVE-2011-0411).
    pub(crate) async fn encrypt(
        self,
        host: &str,
        client: &Arc<rustls::ClientConfig>,
    ) -> Result<Self, Lost> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(client));
        let plain = self.stream.into_inner();
        let handshake = async { Ok(connector.connect(name, plain).await?) };
        let stream = in_time(self.patience, handshake).await?;
        Ok(Self::over(stream, self.patience))
    }

    /// Sends one line and returns the reply to it.
    pub(crate) async fn ask(&mut self, line: &str) -> Result<Reply, Lost> {
        self.say(line).await?;
        self.reply().await
    }

    /// Sends one line. It has no line break in it: every caller writes only what was checked, and
    /// what slipped through would be a second command.
    pub(crate) async fn say(&mut self, line: &str) -> Result<(), Lost> {
        if line.contains(['\r', '\n']) {
            return Err(Lost::Io(io::Error::other("a command has two lines")));
        }
        let line = format!("{line}\r\n");
        let writing = async {
            self.stream.write_all(line.as_bytes()).await?;
            Ok(self.stream.flush().await?)
        };
        in_time(self.patience, writing).await
    }

    pub(crate) async fn reply(&mut self) -> Result<Reply, Lost> {
        let patience = self.patience;
        self.reply_within(patience).await
    }

    pub(crate) async fn reply_within(&mut self, limit: Duration) -> Result<Reply, Lost> {
        in_time(limit, self.read_reply()).await
    }

    async fn read_reply(&mut self) -> Result<Reply, Lost> {
        let mut lines = Vec::new();
        while lines.len() < REPLY_LINES_MAX {
            let mut line = Vec::new();
            let mut capped = (&mut self.stream).take(LINE_BYTES_MAX);
            if capped.read_until(b'\n', &mut line).await? == 0 {
                return Err(Lost::Closed);
            }
            let (code, is_last, text) = read_line(&line).ok_or(Lost::Nonsense)?;
            lines.push(text);
            if is_last {
                return Ok(Reply { code, lines });
            }
        }
        Err(Lost::Nonsense)
    }

    /// Writes a piece of a mail, with the dots at the beginnings of its lines doubled (RFC 5321,
    /// section 4.5.2). It is [`Wire::end_mail`] that sends it on its way.
    pub(crate) async fn write_mail(&mut self, piece: &[u8]) -> Result<(), Lost> {
        let mut stuffed = Vec::with_capacity(piece.len() + 64);
        for line in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.at_line_start && line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
            self.at_line_start = line.ends_with(b"\n");
        }
        Ok(self.stream.write_all(&stuffed).await?)
    }

    /// Everything but the final dot has left us.
    pub(crate) async fn flush_mail(&mut self) -> Result<(), Lost> {
        if !self.at_line_start {
            self.stream.write_all(b"\r\n").await?;
            self.at_line_start = true;
        }
        Ok(self.stream.flush().await?)
    }

    /// The final dot. From its first byte on the mail may be the server's.
    pub(crate) async fn end_mail(&mut self, limit: Duration) -> Result<Reply, Lost> {
        let asking = async {
            self.stream.write_all(b".\r\n").await?;
            self.stream.flush().await?;
            self.read_reply().await
        };
        in_time(limit, asking).await
    }
}

/// Reads replies from bytes that are all there already, until one is none: what a fuzzer runs.
pub(crate) async fn replies(answers: &[u8]) -> usize {
    let stream = tokio::io::join(io::Cursor::new(answers.to_vec()), tokio::io::sink());
    let mut wire = Wire::over(stream, Duration::from_secs(30));
    let mut replies = 0;
    while wire.reply().await.is_ok() {
        replies += 1;
    }
    replies
}

async fn in_time<T>(
    limit: Duration,
    future: impl Future<Output = Result<T, Lost>>,
) -> Result<T, Lost> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => Err(Lost::Slow),
    }
}

/// `250-text` or `250 text`: the code, whether it is the reply's last line, the text.
fn read_line(line: &[u8]) -> Option<(u16, bool, String)> {
    let line = line.strip_suffix(b"\n")?;
    let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
    let (digits, rest) = line.split_at_checked(3)?;
    let is_code = digits.bytes().all(|byte| byte.is_ascii_digit());
    let code = is_code.then(|| digits.parse().ok()).flatten()?;
    let is_last = match rest.chars().next() {
        Some('-') => false,
        Some(' ') | None => true,
        Some(_) => return None,
    };
    let text = rest.strip_prefix(['-', ' ']).unwrap_or_default();
    (200..600)
        .contains(&code)
        .then(|| (code, is_last, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(future)
    }

    async fn reply_to(said: &[u8]) -> Result<Reply, Lost> {
        let (ours, mut theirs) = tokio::io::duplex(1024 * 1024);
        let mut wire = Wire::over(ours, Duration::from_secs(5));
        theirs.write_all(said).await.unwrap();
        drop(theirs);
        wire.reply().await
    }

    #[test]
    fn replies_are_read_line_by_line_and_nothing_else_is_one() {
        let long = [b"250 ".as_slice(), &[b'x'; 5_000], b"\r\n"].concat();
        let endless = b"250-x\r\n".repeat(300);
        for (said, expected) in [
            (b"250 ok\r\n".as_slice(), Some((250, vec!["ok"]))),
            (b"250-a\r\n250 b\r\n", Some((250, vec!["a", "b"]))),
            (b"421\r\n", Some((421, vec![""]))),
            (b"250 bare line feed\n", Some((250, vec!["bare line feed"]))),
            (b"<html>\r\n", None),
            (b"2\xff0 x\r\n", None),
            (b"999 x\r\n", None),
            (b"+50 x\r\n", None),
            (b"250 cut off", None),
            (b"", None),
            (&long, None),
            (&endless, None),
        ] {
            let found = run(reply_to(said))
                .ok()
                .map(|reply| (reply.code, reply.lines));
            let expected = expected
                .map(|(code, lines)| (code, lines.into_iter().map(str::to_owned).collect()));
            assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(said));
        }
    }

    #[test]
    fn dots_are_doubled_wherever_a_piece_ends() {
        for cut in 0..12 {
            let mail = b".a\r\n..b\r\n.c";
            let (first, second) = mail.split_at(cut.min(mail.len()));
            let written = run(async {
                let (ours, mut theirs) = tokio::io::duplex(1024);
                let mut wire = Wire::over(ours, Duration::from_secs(5));
                wire.write_mail(first).await.unwrap();
                wire.write_mail(second).await.unwrap();
                wire.flush_mail().await.unwrap();
                drop(wire);
                let mut all = Vec::new();
                theirs.read_to_end(&mut all).await.unwrap();
                all
            });
            assert_eq!(written, b"..a\r\n...b\r\n..c\r\n", "cut at {cut}");
        }
    }

    #[test]
    fn a_command_of_two_lines_is_not_sent() {
        let written = run(async {
            let (ours, mut theirs) = tokio::io::duplex(1024);
            let mut wire = Wire::over(ours, Duration::from_secs(5));
            assert!(wire.say("MAIL FROM:<a>\r\nRCPT TO:<b>").await.is_err());
            drop(wire);
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).await.unwrap();
            all
        });
        assert!(written.is_empty());
    }
}
