//! What the write-ahead log says of itself before SQLite reads it. SQLite reads it up to the first frame whose sum is
//! wrong and forgets the rest: that is right where a power cut tore the last commit, and loses what was acknowledged
//! where the disk changed a bit in the middle. The two can be told apart. Each commit is synced before the next is written, so
//! a commit that another one follows was whole once; and a commit that is all there but for one bit was not torn.
//! A single bit is put right, and said, where only one can have been it; anything else ends the start, before anything
//! was changed.
//!
//! The format: <https://sqlite.org/fileformat2.html>, 4. The sum of a frame goes on from that of the frame before.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const HEADER_BYTES: usize = 32;
const FRAME_BYTES: usize = 24;
/// Of what comes before the sums, in the header and in a frame.
const HEADER_SUMMED: usize = 24;
const FRAME_SUMMED: usize = 8;
/// The last bit says in which order sums read words.
const MAGIC: u32 = 0x377f_0682;
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing was acknowledged that SQLite will not read: no damage, or a torn end.
    Whole,
    /// One bit is not what was written: this one, of this byte of the file.
    Flipped { byte: u64, bit: u8 },
    /// Commits that were acknowledged cannot be read.
    Damaged { frame: u64 },
}

/// The sums so far.
type Sums = (u32, u32);

struct Header {
    is_big_endian: bool,
    page_bytes: usize,
    salts: [u8; 8],
    sums: Sums,
}

/// Looks at a log, in one pass; a file that is not there, or empty, is whole.
pub(super) fn look(path: &Path) -> io::Result<Found> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Whole),
        Err(error) => return Err(error),
    };
    let mut first = [0; HEADER_BYTES];
    let is_there = file.metadata()?.len() >= HEADER_BYTES as u64;
    if !is_there {
        return Ok(Found::Whole);
    }
    file.read_exact(&mut first)?;
    let Some(header) = header(&first) else {
        let fix = fix(&mut first, |first| header(first).is_some());
        return Ok(match fix {
            Fix::Bit(byte, bit) => Found::Flipped { byte, bit },
            // A header is written and synced before anything follows it: zeros are what was never written.
            Fix::None if first == [0; HEADER_BYTES] => Found::Whole,
            Fix::None | Fix::Several => Found::Damaged { frame: 0 },
        });
    };
    frames(file, &header)
}

/// Puts the bit right.
pub(super) fn put_right(path: &Path, byte: u64, bit: u8) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut one = [0];
    file.read_exact_at(&mut one, byte)?;
    file.write_all_at(&[one[0] ^ (1 << bit)], byte)?;
    file.sync_all()
}

fn frames(file: File, header: &Header) -> io::Result<Found> {
    let mut file = BufReader::with_capacity(1 << 20, file);
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let mut frame = vec![0; FRAME_BYTES + header.page_bytes];
    let mut sums = header.sums;
    let mut number = 0_u64;
    while fill(&mut file, &mut frame)? {
        number += 1;
        if header.follows(sums, &frame) {
            sums = stored(&frame);
            continue;
        }
        let before = (number - 1) * frame.len() as u64 + HEADER_BYTES as u64;
        let fix = header.fix(sums, &mut frame);
        if let Fix::Bit(byte, bit) = fix {
            frame[byte as usize] ^= 1 << bit;
        }
        let is_lost = match fix {
            Fix::None => header.goes_on_after(&mut file, frame)?,
            Fix::Bit(..) | Fix::Several => header.is_complete(&mut file, sums, frame)?,
        };
        return Ok(match fix {
            _ if !is_lost => Found::Whole,
            Fix::Bit(byte, bit) => Found::Flipped {
                byte: before + byte,
                bit,
            },
            Fix::None | Fix::Several => Found::Damaged { frame: number },
        });
    }
    Ok(Found::Whole)
}

impl Header {
    /// Whether a frame is the next one of this log.
    fn follows(&self, before: Sums, frame: &[u8]) -> bool {
        self.is_of_this_log(frame) && self.sum(before, frame) == stored(frame)
    }

    fn is_of_this_log(&self, frame: &[u8]) -> bool {
        frame.get(8..16) == Some(&self.salts)
    }

    fn sum(&self, before: Sums, frame: &[u8]) -> Sums {
        let (summed, page) = frame.split_at(FRAME_BYTES);
        let so_far = sum(self.is_big_endian, before, &summed[..FRAME_SUMMED]);
        sum(self.is_big_endian, so_far, page)
    }

    /// The one bit without which it is not the next one.
    fn fix(&self, before: Sums, frame: &mut [u8]) -> Fix {
        // Of a frame of an earlier log, nearly all of the salts is another.
        let salts = frame[8..16].iter().zip(&self.salts);
        let wrong: u32 = salts.map(|(a, b)| (a ^ b).count_ones()).sum();
        match wrong > 1 {
            true => Fix::None,
            false => fix(frame, |frame| self.follows(before, frame)),
        }
    }

    /// Whether, behind a frame that cannot be read, a commit of this log is followed by a frame that was chained to
    /// it. What is left there of a commit that was torn, and of what that wrote over, never is.
    fn goes_on_after(&self, file: &mut BufReader<File>, mut before: Vec<u8>) -> io::Result<bool> {
        let mut frame = vec![0; before.len()];
        while fill(file, &mut frame)? {
            let is_commit = self.is_of_this_log(&before) && is_commit(&before);
            if is_commit && self.follows(stored(&before), &frame) {
                return Ok(true);
            }
            std::mem::swap(&mut before, &mut frame);
        }
        Ok(false)
    }

    /// Whether all of a commit is there, from one of its frames on. One that is not was never acknowledged: what a power
    /// cut tore off may have been a bit.
    fn is_complete(
        &self,
        file: &mut BufReader<File>,
        before: Sums,
        mut frame: Vec<u8>,
    ) -> io::Result<bool> {
        // What is wrong may be the sums themselves.
        let mut sums = [stored(&frame), self.sum(before, &frame)];
        while !is_commit(&frame) {
            let is_there = fill(file, &mut frame)?;
            if !is_there || !sums.iter().any(|sums| self.follows(*sums, &frame)) {
                return Ok(false);
            }
            sums = [stored(&frame); 2];
        }
        Ok(true)
    }
}

fn header(bytes: &[u8]) -> Option<Header> {
    let magic = number(bytes, 0);
    let page_bytes = number(bytes, 8) as usize;
    let is_big_endian = magic == MAGIC + 1;
    let sums = (number(bytes, 24), number(bytes, 28));
    let is_right = (is_big_endian || magic == MAGIC)
        && page_bytes.is_power_of_two()
        && PAGE_BYTES.contains(&page_bytes)
        && sum(is_big_endian, (0, 0), &bytes[..HEADER_SUMMED]) == sums;
    is_right.then(|| Header {
        is_big_endian,
        page_bytes,
        salts: std::array::from_fn(|at| bytes[16 + at]),
        sums,
    })
}

/// Whether a commit ends with this frame: it says how many pages the database has then.
fn is_commit(frame: &[u8]) -> bool {
    frame[4..8] != [0; 4]
}

/// The sums that a frame has.
fn stored(frame: &[u8]) -> Sums {
    (number(frame, 16), number(frame, 20))
}

fn number(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

fn sum(is_big_endian: bool, (mut one, mut two): Sums, bytes: &[u8]) -> Sums {
    let word = |bytes: &[u8]| {
        let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
        match is_big_endian {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(word(&pair[..4])).wrapping_add(two);
        two = two.wrapping_add(word(&pair[4..])).wrapping_add(one);
    }
    (one, two)
}

/// What makes bytes right that are not.
enum Fix {
    /// No single bit.
    None,
    /// This one, of that byte.
    Bit(u64, u8),
    /// One of several: the sum of a page does not tell all its upper bits apart.
    Several,
}

/// Tries every bit; the bytes are left as they were.
fn fix(bytes: &mut [u8], is_right: impl Fn(&[u8]) -> bool) -> Fix {
    let mut found = Fix::None;
    for byte in 0..bytes.len() {
        for bit in 0..8 {
            bytes[byte] ^= 1 << bit;
            let fixes = is_right(bytes);
            bytes[byte] ^= 1 << bit;
            match found {
                Fix::None if fixes => found = Fix::Bit(byte as u64, bit),
                Fix::Bit(..) if fixes => return Fix::Several,
                _ => {}
            }
        }
    }
    found
}

/// Whether there was one more of them.
fn fill(file: &mut BufReader<File>, frame: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(frame) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    /// A log of three commits of several frames each, and where each ends.
    fn log() -> (Vec<u8>, [usize; 3]) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log.db");
        let conn = Connection::open(&path).expect("a database");
        conn.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE kept (bytes)")
            .expect("a table");
        let wal = dir.path().join("log.db-wal");
        let ends = [0, 1, 2].map(|_| {
            conn.execute("INSERT INTO kept VALUES (randomblob(20000))", [])
                .expect("a row");
            usize::try_from(std::fs::metadata(&wal).expect("a log").len()).expect("a length")
        });
        (std::fs::read(&wal).expect("a log"), ends)
    }

    fn found(log: &[u8]) -> Found {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        std::fs::write(&path, log).expect("a file");
        look(&path).expect("it can be read")
    }

    fn changed(log: &[u8], at: usize, change: impl Fn(&mut [u8])) -> Found {
        let mut log = log.to_vec();
        change(&mut log[at..]);
        found(&log)
    }

    #[test]
    fn what_a_power_cut_leaves_is_whole_and_what_a_disk_changed_is_damage() {
        let (log, [first, second, third]) = log();
        let sector = |bytes: &mut [u8]| bytes[..512].fill(0x5a);
        let bit = |bytes: &mut [u8]| bytes[1] ^= 4;
        assert_eq!(found(&log), Found::Whole);
        assert_eq!(found(&[]), Found::Whole);
        for torn in [second + 1, second + 5_000, third - 1] {
            assert_eq!(found(&log[..torn]), Found::Whole, "cut at {torn}");
        }
        for torn in [second + 1_000, third - 2_000] {
            assert_eq!(changed(&log, torn, sector), Found::Whole, "torn at {torn}");
        }
        for at in [64, first + 1_000, second - 2_000] {
            let done = changed(&log, at, sector);
            assert!(matches!(done, Found::Damaged { .. }), "{at}: {done:?}");
        }
        // Of a commit that was cut off, a bit may be what was torn.
        let cut = &log[..second + 2 * 4_120];
        assert_eq!(changed(cut, second + 24, bit), Found::Whole);
        // Low bits, which the sum tells apart, wherever they are: of the header, of a commit, of the last one.
        for at in [16, first + 1_000, second + 8, third - 4_000] {
            let done = Found::Flipped {
                byte: at as u64 + 1,
                bit: 2,
            };
            assert_eq!(changed(&log, at, bit), done, "{at}");
        }
        // The highest bit of a word: the sum is the same with that of another word. In the last commit, too.
        for at in [first + 24 + 1_003, third - 4_120 + 24 + 1_003] {
            let done = changed(&log, at, |bytes| bytes[0] ^= 0x80);
            assert!(matches!(done, Found::Damaged { .. }), "{at}: {done:?}");
        }
    }
}
