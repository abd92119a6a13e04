//! An mbox as a stream of mails (RFC 4155). Mails begin at lines that say `From `, somebody, and a
//! date; such lines within a mail are quoted with `>`, in one of two ways.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use connector_api::Bytes;

use crate::daemon::import::ITEM_BYTES_MAX;

use super::Quoting;
use super::batches::{Behind, Item, Reader};

/// Longest piece of a line read at once, in bytes; the line between two mails is far shorter.
const PIECE_BYTES_MAX: u64 = 64 * 1024;

pub struct Mbox {
    input: BufReader<File>,
    quoting: Quoting,
    shown: String,
    size: u64,
    /// Bytes read.
    offset: u64,
    /// Where the mail begins whose first line was read, and its number from where reading began.
    begin: Option<u64>,
    count: u64,
    piece: Vec<u8>,
}

impl Mbox {
    /// Opens a file at the first line of a mail.
    pub fn open(path: &Path, quoting: Quoting, offset: u64) -> Result<Self, String> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| format!("cannot read {shown}: {error}");
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut mbox = Self {
            input: BufReader::new(file),
            quoting,
            size,
            offset,
            begin: None,
            count: 0,
            piece: Vec::new(),
            shown: shown.clone(),
        };
        if mbox.read_piece().map_err(failed)? {
            if !mbox.piece.starts_with(b"From ") {
                return Err(format!(
                    "{shown} is no mbox: its first line does not begin with \"From \""
                ));
            }
            mbox.begin = Some(offset);
        }
        Ok(mbox)
    }

    /// Reads a line, or as much of a long one as is read at once; says whether there was one.
    fn read_piece(&mut self) -> io::Result<bool> {
        self.piece.clear();
        let mut limited = (&mut self.input).take(PIECE_BYTES_MAX);
        let read = limited.read_until(b'\n', &mut self.piece)?;
        self.offset += read as u64;
        Ok(read > 0)
    }
}

impl Reader for Mbox {
    fn next(&mut self) -> io::Result<Option<Item>> {
        let Some(begin) = self.begin.take() else {
            return Ok(None);
        };
        self.count += 1;
        let mut mail = Mail::default();
        // The rest of a "From " line that is longer than a piece is none of the mail's.
        let mut is_line_start = self.piece.ends_with(b"\n");
        let mut is_heading = !is_line_start;
        loop {
            if !self.read_piece()? {
                break;
            }
            if is_line_start && is_between_mails(&self.piece) {
                self.begin = Some(self.offset - self.piece.len() as u64);
                break;
            }
            if !is_heading {
                let quoted = is_line_start && is_quoted(&self.piece, self.quoting);
                mail.push(self.piece.get(usize::from(quoted)..).unwrap_or_default());
            }
            is_line_start = self.piece.ends_with(b"\n");
            is_heading &= !is_line_start;
        }
        let end = self.begin.unwrap_or(self.offset);
        Ok(Some(Item {
            place: format!("{}: mail {} at byte {begin}", self.shown, self.count),
            content: mail.finish(),
            after: Behind::Offset(end),
            done: end,
        }))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// A mail as it is on the wire: lines end with CRLF (RFC 5322, section 2.1), so that it has the
/// size and the digests that it has in its mailbox.
#[derive(Default)]
pub struct Mail {
    bytes: Vec<u8>,
    /// Larger than is read.
    too_large: bool,
}

impl Mail {
    /// Adds a line, or a piece of one.
    pub fn push(&mut self, piece: &[u8]) {
        let room = usize::try_from(ITEM_BYTES_MAX).unwrap_or(usize::MAX);
        if self.too_large || self.bytes.len() + piece.len() + 1 > room {
            self.too_large = true;
            self.bytes = Vec::new();
            return;
        }
        match piece.strip_suffix(b"\n") {
            Some(line) => {
                self.bytes.extend_from_slice(line);
                if !self.bytes.ends_with(b"\r") {
                    self.bytes.push(b'\r');
                }
                self.bytes.push(b'\n');
            }
            None => self.bytes.extend_from_slice(piece),
        }
    }

    /// The mail without the empty line that an mbox puts behind it.
    fn finish(mut self) -> Result<Bytes, String> {
        if self.bytes.ends_with(b"\r\n\r\n") {
            self.bytes.truncate(self.bytes.len() - 2);
        }
        self.whole()
    }

    pub fn whole(self) -> Result<Bytes, String> {
        match self.too_large {
            true => Err(format!("larger than {ITEM_BYTES_MAX} bytes")),
            false if self.bytes.trim_ascii().is_empty() => Err("it is empty".to_owned()),
            false => Ok(Bytes::from(self.bytes)),
        }
    }
}

/// Whether a line stands between two mails: `From `, an address or `-`, and a date as asctime(3)
/// writes it, whatever stands around it. A sentence that begins with "From" has no such date.
fn is_between_mails(line: &[u8]) -> bool {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let Some(rest) = line.strip_prefix(b"From ") else {
        return false;
    };
    let rest = String::from_utf8_lossy(rest);
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let day = words
        .windows(2)
        .position(|pair| DAYS.contains(&pair[0]) && MONTHS.contains(&pair[1]));
    let is_time = |word: &str| {
        let parts: Vec<&str> = word.split(':').collect();
        let digits = |part: &&str| {
            (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        };
        (2..=3).contains(&parts.len()) && parts.iter().all(digits)
    };
    let behind = day.and_then(|at| words.get(at + 2..)).unwrap_or_default();
    behind.iter().any(|word| is_time(word))
}

/// Whether a line has a `>` more than its mail.
fn is_quoted(line: &[u8], quoting: Quoting) -> bool {
    let marks = line.iter().take_while(|byte| **byte == b'>').count();
    let from = line.get(marks..).unwrap_or_default().starts_with(b"From ");
    match quoting {
        Quoting::Mboxrd => from && marks > 0,
        Quoting::Mboxo => from && marks == 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mails(text: &str, quoting: Quoting) -> Vec<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mails");
        std::fs::write(&path, text).unwrap();
        let mut mbox = Mbox::open(&path, quoting, 0).unwrap();
        let mut found = Vec::new();
        while let Some(item) = mbox.next().unwrap() {
            let bytes = item.content.unwrap();
            found.push(String::from_utf8(bytes.to_vec()).unwrap());
            // Whatever comes next is found from there, too.
            let Behind::Offset(after) = item.after else {
                panic!("an mbox has offsets")
            };
            let mut rest = Mbox::open(&path, quoting, after).unwrap();
            let next = rest.next().unwrap().map(|item| item.content.unwrap());
            let again = text.get(after as usize..).unwrap();
            assert_eq!(next.is_some(), again.starts_with("From "), "{again}");
        }
        found
    }

    const LINE: &str = "From kim@c.example Mon Jan  5 09:00:00 2026\n";

    #[test]
    fn a_quoted_line_gets_back_what_its_way_of_quoting_added() {
        let text = format!("{LINE}A: b\n\n>From here\n>>From there\n> From me\nFrom: you\n");
        let body = |mails: Vec<String>| mails[0].split_once("\r\n\r\n").unwrap().1.to_owned();
        assert_eq!(
            body(mails(&text, Quoting::Mboxrd)),
            "From here\r\n>From there\r\n> From me\r\nFrom: you\r\n"
        );
        assert_eq!(
            body(mails(&text, Quoting::Mboxo)),
            "From here\r\n>>From there\r\n> From me\r\nFrom: you\r\n"
        );
    }

    #[test]
    fn mails_begin_at_lines_with_a_date_only_and_lose_the_empty_line_behind_them() {
        let text = format!(
            "{LINE}A: 1\n\nFrom Monday on it rained.\n\nFrom me\n\n{LINE}A: 2\n\nx\n\
             From 17@xxx Tue Jun 02 10:11:12 +0000 2026\r\nA: 3\r\n\r\ny\r\n\n\
             From - Wed Jan 07 10:11 2026\nA: 4\n\n"
        );
        assert_eq!(
            mails(&text, Quoting::Mboxrd),
            [
                "A: 1\r\n\r\nFrom Monday on it rained.\r\n\r\nFrom me\r\n",
                "A: 2\r\n\r\nx\r\n",
                "A: 3\r\n\r\ny\r\n",
                "A: 4\r\n",
            ]
        );
    }

    #[test]
    fn a_line_without_end_and_a_mail_that_is_too_large_take_no_memory_and_hide_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mails");
        let large = "x".repeat(usize::try_from(ITEM_BYTES_MAX).unwrap() + 1);
        let text = format!("{LINE}A: 1\n\n{large}\n\n{LINE}A: 2\n\nsmall\n");
        std::fs::write(&path, text).unwrap();
        let mut mbox = Mbox::open(&path, Quoting::Mboxrd, 0).unwrap();
        let first = mbox.next().unwrap().unwrap();
        assert!(first.content.unwrap_err().contains("larger than"));
        assert!(mbox.piece.capacity() <= 2 * PIECE_BYTES_MAX as usize);
        let second = mbox.next().unwrap().unwrap();
        assert!(second.content.unwrap().ends_with(b"small\r\n"));
        assert!(mbox.next().unwrap().is_none());
    }

    #[test]
    fn a_file_that_is_no_mbox_is_refused_and_an_empty_one_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mails");
        std::fs::write(&path, "Subject: one mail\n\nx\n").unwrap();
        let error = Mbox::open(&path, Quoting::Mboxrd, 0).err().unwrap();
        assert!(error.contains("no mbox"), "{error}");
        std::fs::write(&path, "").unwrap();
        let mut mbox = Mbox::open(&path, Quoting::Mboxrd, 0).unwrap();
        assert!(mbox.next().unwrap().is_none());
    }
}
