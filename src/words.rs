//! Words for people: counts in sentences ("1 channel", "2 channels"), and what an error comes to.

use std::fmt::Display;

/// A count with what is counted: as one, or as many.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let what = if count == N::from(1) { one } else { many };
    format!("{count} {what}")
}

/// The last cause in one line: those around it name the request and its tries.
pub fn innermost(error: &dyn std::error::Error) -> String {
    const CHARS_MAX: usize = 200;
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let said = last.to_string();
    let line = said.lines().next().unwrap_or_default();
    line.chars().take(CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_something_is_not_many() {
        let said = |count: i64| counted(count, "answer waits", "answers wait");
        assert_eq!(
            [said(0), said(1), said(2)],
            ["0 answers wait", "1 answer waits", "2 answers wait"]
        );
    }
}
