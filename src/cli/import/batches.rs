//! Items out of files, a batch at a time. Whatever the files are, what comes out are bytes with
//! the place where they stood.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use connector_api::Bytes;
use serde::{Deserialize, Serialize};

use crate::blobs::{hex, sha256};
use crate::daemon::import::{BATCH_BYTES_MAX, BATCH_ITEMS_MAX};

use super::Layout;
use super::files::Files;
use super::lines::Lines;
use super::mbox::{How, Mbox};

/// Bytes before a position that tell whether the file is still the same up to there.
const CHECKED_BYTES: u64 = 4096;

/// Where an import goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Position {
    /// Within one file, with a digest of what stands before.
    Offset { bytes: u64, check: String },
    /// Behind that many files of a directory, with a digest of what they are.
    Files { count: u64, check: String },
}

/// One item of a file.
pub struct Item {
    /// Where it stands, for a person.
    pub place: String,
    /// Its bytes, or why they cannot be had.
    pub content: Result<Bytes, String>,
    pub after: Behind,
    /// How much of [`Reader::size`] lies behind it.
    pub done: u64,
}

/// Where the next item begins.
#[derive(Debug, Clone)]
pub enum Behind {
    Offset(u64),
    Files { count: u64, check: String },
}

/// Gives the items of its files one after the other.
pub trait Reader: Send {
    fn next(&mut self) -> io::Result<Option<Item>>;
    /// Of everything, in bytes or files.
    fn size(&self) -> u64;
    /// What the operator should know of what was read so far.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Some items.
pub struct Batch {
    pub items: Vec<Bytes>,
    /// Where each of them stood.
    pub places: Vec<String>,
    /// What could not be read, and why.
    pub unreadable: Vec<(String, String)>,
    pub after: Position,
    pub done: u64,
}

/// A path's items in batches.
pub struct Batches {
    reader: Box<dyn Reader>,
    /// Too large for the batch before.
    held: Option<Item>,
    shown: String,
    /// Where positions are offsets.
    file: Option<File>,
}

impl Batches {
    /// Opens `path`, behind `after` where that still fits it; says whether it did.
    pub fn open(
        layout: Layout,
        how: How,
        path: &Path,
        after: Option<&Position>,
    ) -> Result<(Self, bool), String> {
        let shown = path.display().to_string();
        let failed = |error: io::Error| format!("cannot read {shown}: {error}");
        let single = path.is_file() && layout != Layout::Eml;
        let file = single.then(|| File::open(path)).transpose();
        let file = file.map_err(failed)?;
        let offset = match (after, &file) {
            (Some(Position::Offset { bytes, check }), Some(file)) => {
                let same = check_at(file, *bytes).is_ok_and(|found| found == *check);
                same.then_some(*bytes)
            }
            _ => None,
        };
        let mut resumed = offset.is_some();
        let reader: Box<dyn Reader> = match layout {
            Layout::Mbox => Box::new(Mbox::open(path, how, offset.unwrap_or(0))?),
            Layout::Jsonl => Box::new(Lines::open(path, offset.unwrap_or(0))?),
            Layout::Eml | Layout::Maildir => {
                let mut files = Files::open(layout, path)?;
                if let Some(Position::Files { count, check }) = after {
                    resumed = files.go_on(*count, check);
                }
                Box::new(files)
            }
        };
        let batches = Self {
            reader,
            held: None,
            shown,
            file,
        };
        Ok((batches, resumed))
    }

    pub fn size(&self) -> u64 {
        self.reader.size()
    }

    pub fn remarks(&self) -> Vec<String> {
        self.reader.remarks()
    }

    /// The next items; `None` when there are none left.
    pub fn next(&mut self) -> Result<Option<Batch>, String> {
        let mut bytes = 0;
        let mut last = None;
        let (mut items, mut places, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
        while items.len() < BATCH_ITEMS_MAX && unreadable.len() < BATCH_ITEMS_MAX {
            let next = match self.held.take() {
                Some(item) => Some(item),
                None => self.reader.next().map_err(|error| self.failed(&error))?,
            };
            let Some(item) = next else { break };
            let length = item.content.as_ref().map_or(0, |content| content.len()) as u64;
            if !items.is_empty() && bytes + length > BATCH_BYTES_MAX {
                self.held = Some(item);
                break;
            }
            bytes += length;
            last = Some((item.after, item.done));
            match item.content {
                Ok(content) => {
                    items.push(content);
                    places.push(item.place);
                }
                Err(reason) => unreadable.push((item.place, reason)),
            }
        }
        let Some((after, done)) = last else {
            return Ok(None);
        };
        Ok(Some(Batch {
            items,
            places,
            unreadable,
            after: self.position(after)?,
            done,
        }))
    }

    fn position(&self, after: Behind) -> Result<Position, String> {
        let offset = match after {
            Behind::Files { count, check } => return Ok(Position::Files { count, check }),
            Behind::Offset(bytes) => bytes,
        };
        let check = match &self.file {
            Some(file) => check_at(file, offset).map_err(|error| self.failed(&error))?,
            None => String::new(),
        };
        Ok(Position::Offset {
            bytes: offset,
            check,
        })
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("reading {}: {error}", self.shown)
    }
}

/// A digest of the bytes before `offset`.
fn check_at(file: &File, offset: u64) -> io::Result<String> {
    let from = offset.saturating_sub(CHECKED_BYTES);
    let mut bytes = vec![0; usize::try_from(offset - from).unwrap_or(0)];
    file.read_exact_at(&mut bytes, from)?;
    Ok(hex(&sha256(&bytes)))
}
