//! A record as it stands in Kafka: CloudEvents 1.0 in binary mode. The value is the envelope, the attributes
//! are headers. Captured bytes and attachments are in the blob store; headers name them.

use bytes::Bytes;
use rdkafka::message::{Header, OwnedHeaders};

use crate::blobs::{Blobs, hex, unhex};
use crate::bus::{
    Carried, Content, INBOUND_TYPE, MARK_TYPE, NewBlob, NewRecord, RecordKey, decode,
};

const RAW: &str = "ce_raw";
const BLOBS: &str = "ce_blobs";
const TYPE: &str = "ce_type";
/// Headers of a record that are read, and bytes of them together: a foreign one may have any number.
const HEADERS_MAX: usize = 64;
const HEADER_BYTES_MAX: usize = 256 * 1024;

/// Headers as they are: what has no value has an empty one here.
pub type Headers = Vec<(String, Vec<u8>)>;

/// The key as it stands in Kafka.
pub fn key(key: RecordKey) -> String {
    format!("{:016x}", key.0)
}

/// The headers of a record.
pub fn headers(record: &NewRecord) -> OwnedHeaders {
    let envelope = &record.envelope;
    let source = format!("/brands/{}/channels/{}", envelope.brand, envelope.channel);
    let time = jiff::Timestamp::from_microsecond(envelope.arrived_at).unwrap_or_default();
    let attributes = [
        ("content-type", "application/json"),
        ("ce_specversion", "1.0"),
        (TYPE, INBOUND_TYPE),
        ("ce_id", envelope.event.dedupe_key.as_str()),
        ("ce_source", &source),
        ("ce_time", &time.to_string()),
        ("ce_partitionkey", &key(record.key)),
    ];
    let mut headers = OwnedHeaders::new_with_capacity(attributes.len() + 2);
    for (key, value) in attributes {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    if let Some(raw) = &record.raw {
        let value = Some(&name(raw));
        headers = headers.insert(Header { key: RAW, value });
    }
    if !record.blobs.is_empty() {
        let names: Vec<String> = record.blobs.iter().map(name).collect();
        let value = Some(&names.join(" "));
        headers = headers.insert(Header { key: BLOBS, value });
    }
    headers
}

/// A record as it came, not yet read.
#[derive(Debug, Clone)]
pub struct Taken {
    pub offset: i64,
    /// `None`: a record without a value, which nothing of ours is.
    pub value: Option<Bytes>,
    /// What its headers name, or what is wrong with them.
    pub beside: Result<Beside, String>,
    /// All that fit.
    pub headers: Headers,
    /// UTC microseconds, when Kafka took it.
    pub taken_at: i64,
}

/// Digests and lengths of captured bytes and attachments.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    raw: Option<([u8; 32], u64)>,
    blobs: Vec<([u8; 32], u64)>,
}

impl Beside {
    /// Reads the headers. What others put beside ours is nobody's business.
    pub fn read<'a>(
        headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    ) -> Result<Self, String> {
        let mut beside = Self::default();
        for (key, value) in headers.take(HEADERS_MAX) {
            if key != RAW && key != BLOBS {
                continue;
            }
            let wrong = || format!("its header {key} names no bytes");
            let value = value.filter(|value| value.len() <= HEADER_BYTES_MAX);
            let text = value.and_then(|value| std::str::from_utf8(value).ok());
            let names = text.ok_or_else(wrong)?.split(' ').map(parse);
            let names: Vec<_> = names.collect::<Option<_>>().ok_or_else(wrong)?;
            match key {
                RAW => beside.raw = names.first().copied(),
                _ => beside.blobs = names,
            }
        }
        Ok(beside)
    }
}

/// As many headers as fit.
pub fn fitting<'a>(headers: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Headers {
    let mut bytes = 0;
    let headers = headers.map(|(key, value)| (key.to_owned(), value.unwrap_or_default().to_vec()));
    let fits = |(key, value): &(String, Vec<u8>)| {
        bytes += key.len() + value.len();
        bytes <= HEADER_BYTES_MAX
    };
    headers.take(HEADERS_MAX).take_while(fits).collect()
}

/// The headers of a mark: a CloudEvent without data, as small as one can be.
pub fn mark(id: &str) -> OwnedHeaders {
    let attributes = [
        ("ce_specversion", "1.0"),
        (TYPE, MARK_TYPE),
        ("ce_id", id),
        ("ce_source", "/bus"),
    ];
    let headers = OwnedHeaders::new_with_capacity(attributes.len());
    attributes
        .into_iter()
        .fold(headers, |headers, (key, value)| {
            let value = Some(value);
            headers.insert(Header { key, value })
        })
}

/// Whether a header says that its record is a mark, which has no position.
pub fn says_mark(key: &str, value: Option<&[u8]>) -> bool {
    key == TYPE && value == Some(MARK_TYPE.as_bytes())
}

pub fn is_mark(headers: &Headers) -> bool {
    headers
        .iter()
        .any(|(key, value)| says_mark(key, Some(value)))
}

impl Taken {
    pub fn bytes_len(&self) -> usize {
        let headers = self.headers.iter();
        let beside: usize = headers.map(|(key, value)| key.len() + value.len()).sum();
        self.value.as_ref().map_or(0, Bytes::len) + beside
    }

    /// What it says, and what it brings. Files that it names are held from here on.
    pub fn read(&self, blobs: &Blobs) -> (Content, Carried) {
        let body = self.value.clone().unwrap_or_default();
        let unreadable = |reason: &str| Content::Unreadable {
            reason: reason.to_owned(),
        };
        let content = match (&self.value, &self.beside) {
            (None, _) => unreadable("it has no value"),
            (Some(_), Err(wrong)) => unreadable(wrong),
            (Some(body), Ok(_)) => decode(body),
        };
        let file = |(sha256, bytes_len): ([u8; 32], u64)| NewBlob {
            sha256,
            bytes_len,
            inline: None,
            hold: Some(std::sync::Arc::new(blobs.hold(sha256))),
        };
        let beside = self.beside.as_ref().ok();
        let carried = Carried {
            raw: beside.and_then(|beside| beside.raw).map(file),
            blobs: beside
                .map(|beside| beside.blobs.iter().copied().map(file).collect())
                .unwrap_or_default(),
            arrived_at: match &content {
                Content::Envelope(envelope) => envelope.arrived_at,
                _ => self.taken_at,
            },
            headers: self.headers.clone(),
            body,
        };
        (content, carried)
    }
}

fn name(blob: &NewBlob) -> String {
    format!("{}:{}", hex(&blob.sha256), blob.bytes_len)
}

fn parse(name: &str) -> Option<([u8; 32], u64)> {
    let (sha256, bytes_len) = name.split_once(':')?;
    Some((unhex(sha256)?, bytes_len.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a record, and the raw bytes' length and number of blobs that it brings.
    fn read(
        value: Option<&str>,
        headers: &[(&str, Option<&[u8]>)],
    ) -> (String, Option<u64>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let taken = Taken {
            offset: 7,
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            beside: Beside::read(headers.iter().copied()),
            headers: fitting(headers.iter().copied()),
            taken_at: 42,
        };
        let (content, carried) = taken.read(&Blobs::open(dir.path()).unwrap());
        assert_eq!(carried.body, value.unwrap_or_default());
        assert_eq!(carried.arrived_at, 42);
        let said = match content {
            Content::Unreadable { reason } => reason,
            Content::Newer { major } => format!("newer: {major}"),
            Content::Envelope(_) => "an envelope".to_owned(),
        };
        let raw = carried.raw.map(|raw| raw.bytes_len);
        (said, raw, carried.blobs.len())
    }

    #[test]
    fn what_is_foreign_or_damaged_says_why_and_keeps_its_bytes() {
        let digest = "ab".repeat(32);
        let good = format!("{digest}:7");
        let two = format!("{good} {good}");
        let newer = r#"{"major":9}"#;
        for (value, headers, expected) in [
            (None, vec![], ("it has no value", None, 0)),
            (
                Some(newer),
                vec![
                    ("ce_raw", Some(good.as_bytes())),
                    ("ce_blobs", Some(two.as_bytes())),
                ],
                ("newer: 9", Some(7), 2),
            ),
            (
                Some(newer),
                vec![("ce_raw", Some(&b"ab:7"[..]))],
                ("its header ce_raw names no bytes", None, 0),
            ),
            (
                Some(newer),
                vec![("ce_blobs", Some(&b"\xff"[..]))],
                ("its header ce_blobs names no bytes", None, 0),
            ),
            (
                Some(newer),
                vec![("ce_blobs", None)],
                ("its header ce_blobs names no bytes", None, 0),
            ),
            (
                Some(newer),
                vec![("theirs", Some(&b"\xff"[..]))],
                ("newer: 9", None, 0),
            ),
            (
                Some("poison"),
                vec![],
                ("not an envelope: Syntax error at line 1 column 1", None, 0),
            ),
        ] {
            let (said, raw, blobs) = read(value, &headers);
            assert_eq!(
                (said.as_str(), raw, blobs),
                expected,
                "{value:?} {headers:?}"
            );
        }
    }
}
