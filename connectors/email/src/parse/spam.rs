//! What the spam filters on a mail's way call it. Anybody can write these headers, so only a yes
//! counts: whoever forges one gives up their own acknowledgement and gains nothing. A no proves
//! nothing and is not read.

use crate::parse::headers::Headers;

type Says = fn(&str) -> bool;

/// Headers, and which of their values (in lower case) mean spam.
const MARKS: [(&str, Says); 8] = [
    // SpamAssassin, and rspamd in its `extended_spam_headers`.
    ("x-spam-flag", starts_with_yes),
    ("x-spam-status", starts_with_yes),
    ("x-spam", starts_with_yes),
    // rspamd: what it would do, and `default: True [15.20 / 15.00];`.
    ("x-rspamd-action", |value| {
        matches!(value, "reject" | "add header" | "rewrite subject")
    }),
    ("x-spamd-result", |value| value.contains(": true")),
    // bogofilter.
    ("x-bogosity", |value| {
        starts_with_yes(value) || value.starts_with("spam")
    }),
    // Exchange: the verdict of its filter, and its level, of which 5 and above are spam.
    ("x-forefront-antispam-report", |value| {
        value.contains("sfv:spm")
    }),
    ("x-ms-exchange-organization-scl", |value| {
        value.parse::<i8>().is_ok_and(|level| level >= 5)
    }),
];

/// The header by which a filter calls the mail spam.
pub(crate) fn mark(headers: &Headers<'_>) -> Option<&'static str> {
    let says = |name: &'static str, says: Says| {
        headers
            .all(name)
            .any(|field| says(field.unfolded().to_lowercase().trim()))
    };
    let found = MARKS.iter().find(|(name, yes)| says(name, *yes));
    found.map(|(name, _)| *name)
}

fn starts_with_yes(value: &str) -> bool {
    value.starts_with("yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(header: &str, expected: Option<&str>) {
        let mail = format!("Subject: hello\n{header}\n\nhello");
        let (headers, _) = Headers::split(mail.as_bytes());
        assert_eq!(mark(&headers), expected, "{header}");
    }

    #[test]
    fn a_filters_yes_is_a_mark_and_its_no_is_nothing() {
        for (header, mark) in [
            ("X-Spam-Flag: YES", "x-spam-flag"),
            (
                "X-Spam-Status: Yes, score=9.1 required=5.0\n\ttests=BAYES_99",
                "x-spam-status",
            ),
            ("X-Spam: Yes", "x-spam"),
            ("X-Rspamd-Action: add header", "x-rspamd-action"),
            (
                "X-Spamd-Result: default: True [15.20 / 15.00];",
                "x-spamd-result",
            ),
            ("X-Bogosity: Spam, tests=bogofilter", "x-bogosity"),
            (
                "X-Forefront-Antispam-Report: CIP:192.0.2.1;SFV:SPM;H:x",
                "x-forefront-antispam-report",
            ),
            (
                "X-MS-Exchange-Organization-SCL: 6",
                "x-ms-exchange-organization-scl",
            ),
        ] {
            check(header, Some(mark));
        }
        for header in [
            "X-Spam-Flag: NO",
            "X-Spam-Status: No, score=-1.9 required=5.0",
            "X-Rspamd-Action: no action",
            "X-Spamd-Result: default: False [4.10 / 15.00];",
            "X-Bogosity: Ham, tests=bogofilter",
            "X-Forefront-Antispam-Report: SFV:NSPM",
            "X-MS-Exchange-Organization-SCL: -1",
            "X-Note: yes",
        ] {
            check(header, None);
        }
    }
}
