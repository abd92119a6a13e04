//! Every parser of outside bytes, on the corpus that the fuzzers left and on inputs changed from it.
//! The long runs are `make fuzz`; this is what every run of the tests does of it, without a fuzzer.

#[path = "../../../fuzz/src/targets.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::support::random;

/// Inputs of each target that are changed from the corpus.
const CHANGED: usize = 400;

/// Words that parsers look for.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\r\n\r\n",
    b"--b",
    b"\0",
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b"<",
    b">",
    b"&#x",
    b";",
    b"=?utf-8?B?",
    b"?=",
    b"From ",
    b"Content-Type: ",
    b"* 1 FETCH (UID 1 BODY[] {9}\r\n",
    b"A0002 OK\r\n",
    b"99999999999999999999",
    b"-1",
    b"\xff\xfe",
    b"\xf0\x9f\x92\xa9",
    b"4111 1111 1111 1111",
];

fn kept(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files =
        fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|path| (path.display().to_string(), fs::read(path).unwrap()))
        .collect()
}

fn changed(corpus: &[(String, Vec<u8>)], seed: &mut u64) -> Vec<u8> {
    let mut pick = |bound: usize| (random(seed) % bound.max(1) as u64) as usize;
    let mut bytes = corpus[pick(corpus.len())].1.clone();
    for _ in 0..1 + pick(6) {
        let at = pick(bytes.len() + 1);
        match pick(6) {
            0 if at < bytes.len() => bytes[at] = pick(256) as u8,
            1 => bytes.truncate(at),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            // A piece of another input.
            3 => {
                let other = &corpus[pick(corpus.len())].1;
                let from = pick(other.len());
                let to = from + pick(other.len() - from + 1).min(4_000);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            4 => {
                let again = bytes[at..].to_vec();
                bytes.extend_from_slice(&again[..again.len().min(4_000)]);
            }
            _ => {
                let word = WORDS[pick(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}

#[test]
fn no_bytes_break_a_parser() {
    for (name, target) in targets::ALL {
        let corpus = kept(name);
        assert!(!corpus.is_empty(), "fuzz/corpus/{name} is empty");
        let run = |what: &str, bytes: &[u8]| {
            let done = catch_unwind(AssertUnwindSafe(|| target(bytes)));
            assert!(
                done.is_ok(),
                "{name} breaks on {what}: {}",
                bytes.escape_ascii()
            );
        };
        for (path, bytes) in &corpus {
            run(path, bytes);
        }
        let mut seed = 24;
        for number in 0..CHANGED {
            run(
                &format!("changed input {number}"),
                &changed(&corpus, &mut seed),
            );
        }
    }
}
