//! Counts in sentences that people read: "1 channel", "2 channels".

use std::fmt::Display;

/// A count with what is counted: as one, or as many.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let what = if count == N::from(1) { one } else { many };
    format!("{count} {what}")
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
