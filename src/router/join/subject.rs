//! Subjects, compared.

/// A subject without reply and forward marks, in lower case and single spaces.
pub(super) fn plain_subject(subject: &str) -> String {
    const MARKS: [&str; 14] = [
        "re:", "aw:", "fw:", "fwd:", "wg:", "antw:", "sv:", "vs:", "tr:", "rv:", "odp:", "ynt:",
        "rif:", "r:",
    ];
    let mut plain = subject
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .to_lowercase();
    while let Some(rest) = MARKS.iter().find_map(|mark| plain.strip_prefix(mark)) {
        plain = rest.trim_start().to_owned();
    }
    plain
}
