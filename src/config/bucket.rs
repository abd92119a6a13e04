//! `store.blobs_url`: `s3://bucket/prefix`.

/// The bucket and what the names in it begin with, which may be nothing.
pub fn parse(url: &str) -> Result<(String, String), String> {
    let wrong = |what: &str| format!("{what}: use s3://bucket or s3://bucket/prefix");
    let Some(rest) = url.strip_prefix("s3://") else {
        return Err(wrong("this is no URL of a bucket"));
    };
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let is_name = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let fits = |letter: u8| is_name(letter) || letter == b'-' || letter == b'.';
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(fits) {
        return Err(wrong(
            "a bucket's name has 3 to 63 small letters, digits, dots and dashes",
        ));
    }
    let prefix = prefix.trim_end_matches('/');
    let segment = |part: &str| {
        let safe = |letter: u8| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter);
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(safe)
    };
    if !prefix.is_empty() && !prefix.split('/').all(segment) {
        return Err(wrong(
            "a prefix has letters, digits, dots, dashes and slashes between them",
        ));
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}
