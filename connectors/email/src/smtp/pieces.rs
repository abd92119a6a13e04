//! The bytes of a mail, made while they are written: texts are here, files are read and encoded a
//! piece at a time, so a mail with 18 MiB of files costs no more memory than one without.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use connector_api::{Bytes, Error, FileContent, Result};

/// Bytes of a file in one line of base64; 76 characters is the most that RFC 2045 allows.
const LINE_BYTES: usize = 57;

/// Read from a file at a time: whole lines, so that pieces can be put one behind the other.
const READ_BYTES: usize = 1024 * LINE_BYTES;

/// A mail in order.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(Vec<u8>),
    /// A file as base64.
    File {
        content: FileContent,
        size: u64,
    },
}

impl Pieces {
    /// Adds bytes that are fit for a mail as they are.
    pub(crate) fn text(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        match self.0.last_mut() {
            Some(Piece::Text(last)) => last.extend_from_slice(text),
            _ => self.0.push(Piece::Text(text.to_vec())),
        }
    }

    /// Adds a file as base64 with its line ends.
    pub(crate) fn file(&mut self, content: &FileContent, size: u64) {
        self.0.push(Piece::File {
            content: content.clone(),
            size,
        });
    }

    /// How many bytes will be written, without doubled dots (RFC 1870, section 3).
    pub(crate) fn len(&self) -> u64 {
        let lens = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::File { size, .. } => encoded_len(*size),
        });
        lens.sum()
    }

    pub(crate) fn is_ascii(&self) -> bool {
        self.0.iter().all(|piece| match piece {
            Piece::Text(text) => text.is_ascii(),
            Piece::File { .. } => true,
        })
    }

    /// Reads the mail from its beginning.
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader {
            pieces: self.0.iter(),
            file: None,
        }
    }
}

/// Hands out a mail chunk by chunk.
pub(crate) struct Reader<'a> {
    pieces: std::slice::Iter<'a, Piece>,
    file: Option<OpenFile<'a>>,
}

struct OpenFile<'a> {
    content: &'a FileContent,
    size: u64,
    at: u64,
}

impl Reader<'_> {
    /// The next bytes of the mail; `None` behind its last.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if let Some(file) = &mut self.file {
                match file.next().await? {
                    Some(lines) => return Ok(Some(lines)),
                    None => self.file = None,
                }
            }
            match self.pieces.next() {
                Some(Piece::Text(text)) => return Ok(Some(Bytes::copy_from_slice(text))),
                Some(Piece::File { content, size: 0 }) => {
                    let file = OpenFile {
                        content,
                        size: 0,
                        at: 0,
                    };
                    file.ends().await?;
                    return Ok(Some(Bytes::from_static(b"\r\n")));
                }
                Some(Piece::File { content, size }) => {
                    let (size, at) = (*size, 0);
                    self.file = Some(OpenFile { content, size, at });
                }
                None => return Ok(None),
            }
        }
    }
}

impl OpenFile<'_> {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        let left = self.size.saturating_sub(self.at);
        if left == 0 {
            self.ends().await?;
            return Ok(None);
        }
        let wanted = usize::try_from(left).unwrap_or(READ_BYTES).min(READ_BYTES);
        let mut raw = Vec::with_capacity(wanted);
        while raw.len() < wanted {
            let read = self.content.read_at(self.at, wanted - raw.len()).await?;
            if read.is_empty() {
                return Err(changed(self.size, self.at));
            }
            self.at += read.len() as u64;
            raw.extend_from_slice(&read);
        }
        Ok(Some(encode(&raw)))
    }

    /// The announced size must be the true one: more bytes would be missing from the mail.
    async fn ends(&self) -> Result<()> {
        match self.content.read_at(self.size, 1).await?.is_empty() {
            true => Ok(()),
            false => Err(changed(self.size, self.size + 1)),
        }
    }
}

fn changed(size: u64, found: u64) -> Error {
    Error::rejected(format!(
        "a file is not what was accepted: {size} bytes then, {found} bytes or more now"
    ))
}

fn encode(raw: &[u8]) -> Bytes {
    let mut lines = String::with_capacity(raw.len() / LINE_BYTES * 78 + 80);
    for line in raw.chunks(LINE_BYTES) {
        STANDARD.encode_string(line, &mut lines);
        lines.push_str("\r\n");
    }
    Bytes::from(lines)
}

/// An empty file is an empty line: a part has to end one before its boundary.
fn encoded_len(size: u64) -> u64 {
    let lines = size.div_ceil(LINE_BYTES as u64).max(1);
    size.div_ceil(3) * 4 + lines * 2
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_api::{ReadFile, async_trait};
    use proptest::prelude::*;

    use super::*;

    /// Gives fewer bytes than it is asked for, as files may.
    struct Stingy(Vec<u8>, usize);

    #[async_trait]
    impl ReadFile for Stingy {
        async fn read_at(&self, offset: u64, bytes_max: usize) -> Result<Bytes> {
            let behind = self.0.get(offset as usize..).unwrap_or_default();
            let piece = behind.get(..bytes_max.min(self.1)).unwrap_or(behind);
            Ok(Bytes::copy_from_slice(piece))
        }
    }

    async fn whole(pieces: &Pieces) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let mut reader = pieces.reader();
        while let Some(chunk) = reader.next().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn the_size_is_known_before_and_the_file_comes_out_as_it_went_in(
            len in prop_oneof![0usize..300, 58_000usize..59_000],
            step in 1usize..5_000,
        ) {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 7 % 251) as u8).collect();
            let mut pieces = Pieces::default();
            pieces.text("before\r\n\r\n");
            pieces.file(&FileContent::new(Arc::new(Stingy(bytes.clone(), step))), len as u64);
            pieces.text("--b--\r\n");
            let all = run(whole(&pieces)).unwrap();
            prop_assert_eq!(all.len() as u64, pieces.len());
            let text = String::from_utf8(all).unwrap();
            prop_assert!(text.lines().all(|line| line.len() <= 76));
            let inner = text.strip_prefix("before\r\n\r\n").unwrap().strip_suffix("--b--\r\n").unwrap();
            prop_assert_eq!(STANDARD.decode(inner.replace("\r\n", "")).unwrap(), bytes);
        }
    }

    #[test]
    fn a_file_that_is_not_as_large_as_it_was_is_refused() {
        for (is, said) in [(100, 101), (101, 100), (1, 0), (0, 1), (70_000, 60_000)] {
            let mut pieces = Pieces::default();
            pieces.file(&FileContent::from(Bytes::from(vec![1; is])), said);
            let error = run(whole(&pieces)).unwrap_err();
            assert_eq!(
                error.kind,
                connector_api::ErrorKind::Rejected,
                "{is} {said}: {error}"
            );
        }
    }
}
