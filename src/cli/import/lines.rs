//! JSONL as a stream of items: one a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use connector_api::Bytes;
use serde_json::Value;

use crate::daemon::import::ITEM_BYTES_MAX;

use super::batches::{Behind, Item, Reader};

pub struct Lines {
    input: BufReader<File>,
    shown: String,
    size: u64,
    offset: u64,
    /// Line numbers are from the file's start only where reading began there.
    from_start: bool,
    line: u64,
}

impl Lines {
    pub fn open(path: &Path, offset: u64) -> Result<Self, String> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| format!("cannot read {shown}: {error}");
        let mut file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(Self {
            input: BufReader::new(file),
            shown: shown.clone(),
            size,
            offset,
            from_start: offset == 0,
            line: 0,
        })
    }

    /// The rest of a line that is too long, without keeping it.
    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let bytes = self.input.fill_buf()?;
            if bytes.is_empty() {
                return Ok(());
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(bytes.len(), |at| at + 1);
            self.input.consume(length);
            self.offset += length as u64;
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

impl Reader for Lines {
    fn next(&mut self) -> io::Result<Option<Item>> {
        loop {
            let begin = self.offset;
            let mut line = Vec::new();
            let mut limited = (&mut self.input).take(ITEM_BYTES_MAX + 1);
            let read = limited.read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(None);
            }
            self.offset += read as u64;
            self.line += 1;
            let too_long = read as u64 > ITEM_BYTES_MAX;
            if too_long && !line.ends_with(b"\n") {
                self.skip_line()?;
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let place = match self.from_start {
                true => format!("{}: line {}", self.shown, self.line),
                false => format!("{}: line at byte {begin}", self.shown),
            };
            let content = match too_long {
                true => Err(format!("larger than {ITEM_BYTES_MAX} bytes")),
                false if is_printed_by_parse(&line) => Err(
                    "this is what `switchboard parse` prints, which is for reading: import the \
                     captured files themselves"
                        .to_owned(),
                ),
                false => Ok(Bytes::copy_from_slice(line.trim_ascii())),
            };
            return Ok(Some(Item {
                place,
                content,
                after: Behind::Offset(self.offset),
                done: self.offset,
            }));
        }
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// `parse` shows an event after normalising, without HTML and without the bytes of its files.
fn is_printed_by_parse(line: &[u8]) -> bool {
    let has = |value: &Value, key: &str| value.get(key).is_some();
    let looks = |needle: &[u8]| line.windows(needle.len()).any(|part| part == needle);
    looks(b"\"dedupe_key\"")
        && serde_json::from_slice(line)
            .is_ok_and(|value: Value| has(&value, "dedupe_key") && !has(&value, "type"))
}
