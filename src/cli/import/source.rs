//! What a path is before anything of it is read: where, whether an import can go on in it, and which
//! layout it has.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use connector_api::ImportFormat;

use super::Layout;

/// Where a file or a directory really is: the same one by whatever name.
pub fn locate(path: &Path) -> Result<PathBuf, String> {
    let failed = |error: io::Error| format!("cannot read {}: {error}", path.display());
    // Looked at as it is named: a pipe has no other name.
    let readable = match fs::metadata(path) {
        Ok(metadata) => metadata.is_file() || metadata.is_dir(),
        Err(_) if path == Path::new("-") => false,
        Err(error) => return Err(failed(error)),
    };
    match readable {
        true => path.canonicalize().map_err(failed),
        false => Err(format!(
            "{} is no file: an import goes on where it was stopped, which standard input and pipes cannot; \
             write it into a file first",
            path.display()
        )),
    }
}

/// Packed files are none that an import can go on in.
pub fn refuse_packed(path: &Path) -> Result<(), String> {
    const KINDS: [(&[u8], &str, &str); 5] = [
        (b"\x1f\x8b", "gzip", "gunzip -k"),
        (b"BZh", "bzip2", "bunzip2 -k"),
        (b"\xfd7zXZ", "xz", "unxz -k"),
        (b"\x28\xb5\x2f\xfd", "zstd", "unzstd"),
        (b"PK\x03\x04", "zip", "unzip"),
    ];
    if path.is_dir() {
        return Ok(());
    }
    let start = start(path)?;
    let found = KINDS.iter().find(|(magic, ..)| start.starts_with(magic));
    match found {
        Some((_, kind, unpack)) => Err(format!(
            "{shown} is packed ({kind}): unpack it first: {unpack} {shown}",
            shown = path.display()
        )),
        None => Ok(()),
    }
}

fn start(path: &Path) -> Result<Vec<u8>, String> {
    let mut start = Vec::new();
    let file = File::open(path).and_then(|file| file.take(16).read_to_end(&mut start));
    file.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(start)
}

/// What a path holds, for a channel that reads `format`.
pub fn recognise(path: &Path, format: ImportFormat) -> Result<Layout, String> {
    if path.is_dir() {
        let is_maildir = path.join("cur").is_dir() || path.join("new").is_dir();
        return Ok(match is_maildir {
            true => Layout::Maildir,
            false => Layout::Eml,
        });
    }
    let start = start(path)?;
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    let is = |name: &str| extension == name;
    Ok(match format {
        _ if is("eml") => Layout::Eml,
        _ if is("jsonl") || is("ndjson") || start.starts_with(b"{") => Layout::Jsonl,
        _ if is("mbox") || start.starts_with(b"From ") => Layout::Mbox,
        ImportFormat::Json => Layout::Jsonl,
        _ => Layout::Eml,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_told_by_its_name_and_its_first_bytes() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("box/cur")).unwrap();
        let kind = |name: &str| recognise(&dir.path().join(name), ImportFormat::Mail);
        assert_eq!(kind("box"), Ok(Layout::Maildir));
        assert_eq!(kind("box/cur"), Ok(Layout::Eml));
        for (name, start, format, layout) in [
            ("x", "From a Mon", ImportFormat::Mail, Layout::Mbox),
            ("x", "Return-Path: <>", ImportFormat::Mail, Layout::Eml),
            ("x.eml", "From a Mon", ImportFormat::Mail, Layout::Eml),
            ("x", "{\"type\"", ImportFormat::Mail, Layout::Jsonl),
            ("x", " {", ImportFormat::Json, Layout::Jsonl),
        ] {
            let path = dir.path().join(name);
            fs::write(&path, start).unwrap();
            assert_eq!(recognise(&path, format), Ok(layout), "{name} {start}");
        }
    }
}
