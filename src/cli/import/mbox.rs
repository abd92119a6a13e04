//! An mbox as a stream of mails (RFC 4155). Mails begin at lines that say `From `, somebody, and a
//! date, each in the way of the program that wrote it; such lines within a mail are quoted with `>`,
//! in one of two ways, or not at all. `Content-Length` is not read: programs that move mails between
//! files leave it wrong.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use connector_api::Bytes;

use crate::daemon::import::ITEM_BYTES_MAX;

use super::Quoting;
use super::batches::{Behind, Item, Reader};

mod between;

use between::Line;

/// Longest piece of a line read at once, in bytes; the line between two mails is far shorter.
const PIECE_BYTES_MAX: u64 = 64 * 1024;

pub struct Mbox {
    input: BufReader<File>,
    how: How,
    shown: String,
    size: u64,
    /// Bytes read, without those that were only looked at.
    offset: u64,
    from_start: bool,
    /// Where the mail begins whose first line was read, and its number from where reading began.
    begin: Option<u64>,
    count: u64,
    piece: Vec<u8>,
    /// What follows `piece`, where it was looked at.
    ahead: Option<Vec<u8>>,
    /// Lines that look like the one between two mails and were taken as text, and where the first is.
    doubtful: u64,
    first_doubtful: u64,
    is_cut_off: bool,
}

/// How an mbox is read.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub quoting: Quoting,
    /// The operator says that it is an mbox: it may be one mail with lines that look like others.
    pub certain: bool,
}

impl Mbox {
    /// Opens a file at the first line of a mail.
    pub fn open(path: &Path, how: How, offset: u64) -> Result<Self, String> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| format!("cannot read {shown}: {error}");
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut mbox = Self {
            input: BufReader::new(file),
            how,
            size,
            offset,
            from_start: offset == 0,
            begin: None,
            count: 0,
            piece: Vec::new(),
            ahead: None,
            doubtful: 0,
            first_doubtful: 0,
            is_cut_off: false,
            shown: shown.clone(),
        };
        if mbox.read_piece().map_err(failed)? {
            if !mbox.piece.starts_with(b"From ") {
                return Err(format!(
                    "{shown} is no mbox: its first line does not begin with \"From \""
                ));
            }
            if !mbox.piece.ends_with(b"\n") && mbox.piece.contains(&b'\r') {
                return Err(format!(
                    "the lines of {shown} end with CR alone, as old Macs wrote them: convert it first, \
                     as with tr '\\r' '\\n' < OLD > NEW"
                ));
            }
            mbox.begin = Some(offset);
        }
        Ok(mbox)
    }

    /// Reads a line, or as much of a long one as is read at once; says whether there was one.
    fn read_piece(&mut self) -> io::Result<bool> {
        match self.ahead.take() {
            Some(ahead) => self.piece = ahead,
            None => read_piece(&mut self.input, &mut self.piece)?,
        }
        self.offset += self.piece.len() as u64;
        Ok(!self.piece.is_empty())
    }

    /// Whether the piece, which begins a line, stands between two mails. After an empty line whatever
    /// begins with `From ` may, before a header; without one, as some programs write, only what
    /// has a date as asctime(3) writes it, too.
    fn is_between_mails(&mut self, after_empty: bool) -> io::Result<bool> {
        let line = between::read(&self.piece);
        if line == Line::Text || (!after_empty && line != Line::Dated) {
            return Ok(false);
        }
        let mut ahead = self.ahead.take().unwrap_or_default();
        if ahead.is_empty() {
            read_piece(&mut self.input, &mut ahead)?;
        }
        let begins = match line {
            Line::Dated => between::is_header(&ahead),
            _ => between::is_mail_header(&ahead),
        };
        self.ahead = Some(ahead);
        if !begins {
            self.doubtful += 1;
            if self.doubtful == 1 {
                self.first_doubtful = self.offset - self.piece.len() as u64;
            }
        }
        Ok(begins)
    }
}

fn read_piece(input: &mut BufReader<File>, piece: &mut Vec<u8>) -> io::Result<()> {
    piece.clear();
    let mut limited = input.take(PIECE_BYTES_MAX);
    limited.read_until(b'\n', piece).map(drop)
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
        let mut after_empty = false;
        loop {
            if !self.read_piece()? {
                self.is_cut_off = !is_line_start;
                break;
            }
            if is_line_start && self.is_between_mails(after_empty)? {
                self.begin = Some(self.offset - self.piece.len() as u64);
                break;
            }
            if !is_heading {
                let quoted = is_line_start && is_quoted(&self.piece, self.how.quoting);
                mail.push(self.piece.get(usize::from(quoted)..).unwrap_or_default());
            }
            after_empty = is_line_start && matches!(self.piece.as_slice(), b"\n" | b"\r\n");
            is_line_start = self.piece.ends_with(b"\n");
            is_heading &= !is_line_start;
        }
        let end = self.begin.unwrap_or(self.offset);
        let is_only = self.from_start && self.count == 1 && self.begin.is_none();
        let content = match is_only && self.doubtful > 0 && !self.how.certain {
            true => Err(format!(
                "all of it would be one mail, but {} more lines begin with \"From \", and none of them is \
                 followed by a header: --format mbox imports it as one mail",
                self.doubtful
            )),
            false => mail.finish(),
        };
        Ok(Some(Item {
            place: format!("{}: mail {} at byte {begin}", self.shown, self.count),
            content,
            after: Behind::Offset(end),
            done: end,
        }))
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn remarks(&self) -> Vec<String> {
        let (shown, first) = (&self.shown, self.first_doubtful);
        let doubtful = (self.doubtful > 0).then(|| {
            let lines = self.doubtful;
            format!(
                "{shown}: {lines} lines that begin with \"From \" were taken as text, as no header follows \
                 them; the first is at byte {first}"
            )
        });
        let cut_off = self.is_cut_off.then(|| {
            format!("{shown} ends within a line: its last mail is filed as far as it goes")
        });
        doubtful.into_iter().chain(cut_off).collect()
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
        let how = How {
            quoting,
            certain: true,
        };
        let mut mbox = Mbox::open(&path, how, 0).unwrap();
        let mut found = Vec::new();
        while let Some(item) = mbox.next().unwrap() {
            let bytes = item.content.unwrap();
            found.push(String::from_utf8(bytes.to_vec()).unwrap());
            // Whatever comes next is found from there, too.
            let Behind::Offset(after) = item.after else {
                panic!("an mbox has offsets")
            };
            let mut rest = Mbox::open(&path, how, after).unwrap();
            let next = rest.next().unwrap().map(|item| item.content.unwrap());
            let again = text.get(after as usize..).unwrap();
            assert_eq!(next.is_some(), again.starts_with("From "), "{again}");
        }
        found
    }

    const HOW: How = How {
        quoting: Quoting::Mboxrd,
        certain: false,
    };

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
    fn mails_begin_at_lines_that_a_header_follows_and_lose_the_empty_line_behind_them() {
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
        let mut mbox = Mbox::open(&path, HOW, 0).unwrap();
        let first = mbox.next().unwrap().unwrap();
        assert!(first.content.unwrap_err().contains("larger than"));
        assert!(mbox.piece.capacity() <= 2 * PIECE_BYTES_MAX as usize);
        let second = mbox.next().unwrap().unwrap();
        assert!(second.content.unwrap().ends_with(b"small\r\n"));
        assert!(mbox.next().unwrap().is_none());
    }

    /// What is read of a file, and what is said of it at its end.
    fn read(text: &[u8]) -> (Vec<Result<Bytes, String>>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mails");
        std::fs::write(&path, text).unwrap();
        let mut mbox = Mbox::open(&path, HOW, 0).unwrap();
        let mut found = Vec::new();
        while let Some(item) = mbox.next().unwrap() {
            found.push(item.content);
        }
        (found, mbox.remarks())
    }

    #[test]
    fn mails_are_told_apart_however_a_program_writes_the_line_between_them() {
        for line in [
            "From kim@c.example Mon Jan  5 09:00:00 2026",
            "From - Mon Jan  5 09:00:00 2026",
            "From MAILER-DAEMON Mon Jan  5 09:00 2026",
            "From ",
            "From -",
            "From kim@c.example",
            "From kim@c.example Mon, 05 Jan 2026 09:00:00 +0000",
            "From kim@c.example 2026-01-05T09:00:00Z",
            "From kim@c.example Mon Jan  5 2026",
            "From kim@c.example Mo Jan  5 09:00:00 2026",
            "From kim at c.example  Mon Jan  5 09:00:00 2026",
            "From ???@??? Mon Jan 05 09:00:00 2026",
        ] {
            for end in ["\n", "\r\n"] {
                let mail = format!(
                    "{line}\nX-Status: 1\nFrom: kim@c.example\n\nFrom here\nit went.\n\nBye\n\n"
                );
                let text = mail.repeat(20).replace('\n', end);
                let (found, remarks) = read(text.as_bytes());
                assert_eq!(found.len(), 20, "{line:?} {end:?}");
                let [only] = remarks.as_slice() else {
                    panic!("{remarks:?}")
                };
                assert!(only.contains(": 20 lines that begin"), "{only}");
                let first = text.find("From here").unwrap();
                let is_placed = only.ends_with(&format!("is at byte {first}"));
                assert!(is_placed, "{only}");
            }
        }
    }

    #[test]
    fn what_begins_no_mail_is_its_text_and_one_mail_with_many_such_lines_is_refused() {
        for (inner, count) in [
            // No header follows.
            ("\nFrom bob Mon Oct  5 09:00:00 2026\nsaid so.\n", 1),
            ("x\nFrom bob Mon Oct  5 09:00:00 2026\nsaid so.\n", 1),
            ("\nFrom Monday on:\nNote: no rain.\n", 1),
            ("\nFrom bob\n\nTo: me\n", 1),
            ("\nFrom bob", 0),
            // No empty line stands before it.
            ("x\nFrom bob\nTo: me\n", 0),
            ("x\n>From bob\nTo: me\n", 0),
        ] {
            let text = format!("{LINE}A: 1\n\n{inner}");
            let (found, remarks) = read(text.as_bytes());
            let [one] = found.as_slice() else {
                panic!("{inner:?}: {found:?}")
            };
            let said = format!(": {count} lines that begin with \"From \" were taken as text");
            let is_said = remarks.iter().any(|remark| remark.contains(&said));
            assert_eq!(is_said, count > 0, "{inner:?}: {remarks:?}");
            match one {
                Ok(_) => assert_eq!(count, 0, "{inner:?}"),
                Err(reason) => assert!(reason.contains("--format mbox"), "{inner:?}: {reason}"),
            }
            assert_eq!(mails(&text, Quoting::Mboxo).len(), 1, "{inner:?}");
            let (two, _) = read(format!("{text}\n\n{LINE}A: 2\n").as_bytes());
            assert!(two.len() == 2 && two.iter().all(Result::is_ok), "{inner:?}");
        }
    }

    #[test]
    fn a_file_that_ends_within_a_line_is_said_to() {
        let whole = format!("{LINE}A: 1\n\nx\n\n{LINE}A: 2\n\nYour parcel\n");
        assert_eq!(read(whole.as_bytes()).1, [""; 0]);
        let (found, remarks) = read(whole.trim_end().as_bytes());
        assert_eq!(found.len(), 2);
        assert!(remarks[0].contains("ends within a line"), "{remarks:?}");
    }

    #[test]
    fn a_file_that_is_no_mbox_is_refused_and_an_empty_one_holds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mails");
        std::fs::write(&path, "Subject: one mail\n\nx\n").unwrap();
        let error = Mbox::open(&path, HOW, 0).err().unwrap();
        assert!(error.contains("no mbox"), "{error}");
        std::fs::write(&path, format!("{LINE}A: 1\n\nx\n").replace('\n', "\r")).unwrap();
        let error = Mbox::open(&path, HOW, 0).err().unwrap();
        assert!(error.contains("tr '\\r' '\\n'"), "{error}");
        std::fs::write(&path, "").unwrap();
        let mut mbox = Mbox::open(&path, HOW, 0).unwrap();
        assert!(mbox.next().unwrap().is_none());
    }
}
