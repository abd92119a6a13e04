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
#[cfg(test)]
mod tests;

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
