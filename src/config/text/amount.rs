//! Durations and sizes: whole numbers with units, so that nobody has to guess what `90` means.

use std::time::Duration;

/// Milliseconds per unit, largest first. There is no month: write days.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longest duration a configuration may name: 100 years, so that adding it to a time never overflows.
const DURATION_MAX: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Reads `"30d"`, `"15m"`, `"1h30m"`: whole numbers, each with a unit, largest unit first.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "\"{text}\" is not a duration: write whole numbers with a unit (w, d, h, m, s, ms), as \"15m\", \"1h30m\" or \"30d\""
        )
    };
    let mut rest = text;
    let mut total_ms: u64 = 0;
    let mut units = DURATION_UNITS.iter();
    while !rest.is_empty() {
        let (number, tail) = split_number(rest).ok_or_else(wrong)?;
        let unit_chars = tail.chars().take_while(char::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(unit_chars).ok_or_else(wrong)?;
        // `by_ref().find` also refuses a repeated or a growing unit.
        let (_, unit_ms) = units
            .by_ref()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        total_ms = number
            .checked_mul(*unit_ms)
            .and_then(|ms| total_ms.checked_add(ms))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    let total = Duration::from_millis(total_ms);
    if text.is_empty() {
        return Err(wrong());
    }
    if total > DURATION_MAX {
        return Err(format!("\"{text}\" is longer than 100 years"));
    }
    Ok(total)
}

/// The text of a duration, which [`parse_duration`] reads back (to the millisecond).
pub fn duration_text(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, unit_ms) in DURATION_UNITS.iter().filter(|(unit, _)| *unit != "w") {
        let count = rest / unit_ms;
        rest %= unit_ms;
        if count > 0 {
            text.push_str(&format!("{count}{unit}"));
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

const SIZE_UNITS: &[(&str, u64)] = &[
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads `"64KiB"`, `"10MiB"`, `"1GB"` into bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!("\"{text}\" is not a size: write a whole number with KiB, MiB or GiB, as \"10MiB\"")
    };
    let (number, unit) = split_number(text).ok_or_else(wrong)?;
    let (_, unit_bytes) = SIZE_UNITS
        .iter()
        .find(|(name, _)| *name == unit.trim_start())
        .ok_or_else(wrong)?;
    number.checked_mul(*unit_bytes).ok_or_else(wrong)
}

/// Splits leading digits off.
fn split_number(text: &str) -> Option<(u64, &str)> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, rest) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_falling_units() {
        for (text, seconds) in [
            ("30d", 2_592_000),
            ("1h30m", 5400),
            ("2w1d", 1_296_000),
            ("0s", 0),
            ("90s", 90),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in [
            "",
            "30",
            "d",
            "1.5h",
            "30 d",
            "-1s",
            "1m1h",
            "1h1h",
            "1x",
            "1é",
            "99999999999999999999d",
            "101y",
            "40000d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_need_a_unit() {
        for (text, bytes) in [
            ("64KiB", 65_536),
            ("10MiB", 10 << 20),
            ("1 GiB", 1 << 30),
            ("2MB", 2_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "10", "10M", "MiB", "1.5MiB", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(ms in 0u64..3_000_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse_duration(&duration_text(duration)), Ok(duration));
        }
    }
}
