//! How far the From address is proven, by the `Authentication-Results` (RFC 8601) of our own
//! mail server and nobody else's.
//!
//! Anyone can write that header into a mail. The receiving server puts its own above everything
//! the sender wrote, so only the topmost one of the mail counts, and only with the configured
//! `authserv_id`. The server must stamp every mail (RFC 8601, section 5, also has it remove
//! foreign ones with its id): a server that does not stamp must not be configured as trusted.
//! ARC results are somebody else's word and prove nothing here.

use connector_api::{Evidence, Method};

use crate::parse::headers::Headers;

/// Stands for the id where there is none: Exchange Online begins with the first result, and ends
/// with `compauth`, which is its own
/// (<https://learn.microsoft.com/defender-office-365/message-headers-eop-mdo>).
const MICROSOFT365: &str = "microsoft365";

/// What the trusted header says about the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthResults {
    /// The result of `dmarc`, in lower case.
    dmarc: Option<String>,
    /// Its `header.from`, in lower case.
    header_from: Option<String>,
}

/// Returns what the trusted server found, or `None` when nothing of it can be relied on.
pub(crate) fn trusted(headers: &Headers<'_>, authserv_id: &str) -> Option<AuthResults> {
    let topmost = headers.first("authentication-results")?;
    let value = strip_comments(&topmost.unfolded())?;
    let mut statements = value.split(';').peekable();
    if authserv_id.eq_ignore_ascii_case(MICROSOFT365) {
        let named = |statement: &str| statement.trim_start().starts_with("compauth=");
        if !statements.peek()?.contains('=') || !value.split(';').any(named) {
            return None;
        }
    } else {
        // The id may be followed by a version: `mx.example.org 1;`.
        let id = statements.next()?.split_whitespace().next()?;
        if !id.trim_matches('"').eq_ignore_ascii_case(authserv_id) {
            return None;
        }
    }
    let mut results = AuthResults {
        dmarc: None,
        header_from: None,
    };
    for statement in statements {
        read_statement(statement, &mut results)?;
    }
    Some(results)
}

impl AuthResults {
    /// The evidence for a mail whose only From address has this domain.
    pub(crate) fn evidence(&self, from_domain: &str) -> Evidence {
        let is_pass = self.dmarc.as_deref() == Some("pass");
        let is_aligned = self
            .header_from
            .as_deref()
            .is_some_and(|domain| domain.eq_ignore_ascii_case(from_domain));
        if is_pass && is_aligned {
            Evidence::Verified(Method::Dmarc)
        } else {
            Evidence::Claimed
        }
    }
}

/// Reads `dmarc=pass header.from=example.org`. Two statements about dmarc contradict each other
/// sooner or later: then nothing of the header counts.
fn read_statement(statement: &str, results: &mut AuthResults) -> Option<()> {
    let spaced = statement.replace('=', " = ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut pairs = words.split(|&word| word == "=");
    let method = pairs.next()?.last().copied();
    let Some(method) = method else {
        return Some(());
    };
    let (name, version) = method.split_once('/').unwrap_or((method, "1"));
    if !name.eq_ignore_ascii_case("dmarc") || version != "1" {
        return Some(());
    }
    if results.dmarc.is_some() {
        return None;
    }
    let mut key = "dmarc".to_owned();
    for pair in pairs {
        let value = pair.first().copied().unwrap_or_default();
        let value = value.trim_matches('"').to_ascii_lowercase();
        match key.as_str() {
            "dmarc" => results.dmarc = Some(value),
            "header.from" if results.header_from.is_none() => results.header_from = Some(value),
            "header.from" => return None,
            _ => {}
        }
        key = pair
            .last()
            .copied()
            .unwrap_or_default()
            .to_ascii_lowercase();
    }
    Some(())
}

/// Removes comments, which nest and may hold anything; `None` when quotes or comments are left
/// open: such a value says nothing certain.
fn strip_comments(value: &str) -> Option<String> {
    let mut out = String::with_capacity(value.len());
    let mut depth = 0usize;
    let mut quoted = false;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                let escaped = chars.next()?;
                if depth == 0 && !escaped.is_control() && !matches!(escaped, ';' | '=' | '"') {
                    out.push(escaped);
                } else if depth == 0 {
                    return None;
                }
            }
            '"' if depth == 0 => quoted = !quoted,
            // A quoted separator could be read two ways.
            ';' | '=' if quoted => return None,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth = depth.checked_sub(1)?,
            c if depth == 0 => out.push(c),
            _ => {}
        }
    }
    (depth == 0 && !quoted).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIED: Evidence = Evidence::Verified(Method::Dmarc);

    fn check(headers: &str, expected: Evidence) {
        check_by("mx.test.example", headers, expected);
    }

    fn check_by(authserv_id: &str, headers: &str, expected: Evidence) {
        let mail = format!("{headers}\r\nFrom: Ada <ada@shop.example>\r\n\r\n");
        let (headers, _) = Headers::split(mail.as_bytes());
        let evidence = trusted(&headers, authserv_id).map_or(Evidence::Claimed, |results| {
            results.evidence("shop.example")
        });
        assert_eq!(evidence, expected, "{mail}");
    }

    #[test]
    fn the_configured_servers_dmarc_pass_verifies() {
        for value in [
            "mx.test.example; dmarc=pass header.from=shop.example",
            "MX.Test.Example 1; spf=pass smtp.mailfrom=x@y.example; dmarc=pass (p=reject dis=none) header.from=Shop.Example",
            "mx.test.example;\r\n\tdkim=pass header.d=shop.example;\r\n\tdmarc = pass\r\n\theader.from = shop.example",
            "mx.test.example; dmarc=pass policy.dmarc=none header.from=shop.example",
        ] {
            check(
                &format!("Received: by mx.test.example\r\nAuthentication-Results: {value}"),
                VERIFIED,
            );
        }
    }

    #[test]
    fn everything_else_stays_a_claim() {
        for value in [
            "other.example; dmarc=pass header.from=shop.example",
            "mx.test.example.evil.example; dmarc=pass header.from=shop.example",
            "mx.test.example; dmarc=fail header.from=shop.example",
            "mx.test.example; dmarc=pass header.from=evil.example",
            "mx.test.example; dmarc=pass",
            "mx.test.example; none",
            "mx.test.example; spf=pass smtp.mailfrom=shop.example; dkim=pass header.d=shop.example",
            "mx.test.example; dmarc=fail (dmarc=pass header.from=shop.example) header.from=shop.example",
            "mx.test.example; dmarc=fail header.from=evil.example; dmarc=pass header.from=shop.example",
            "mx.test.example; dmarc=pass header.from=shop.example header.from=evil.example",
            "mx.test.example; spf=fail reason=\"x; dmarc=pass header.from=shop.example\"",
            "mx.test.example; spf=fail reason=\"x\\\"; dmarc=pass header.from=shop.example",
            "mx.test.example; (dmarc=pass header.from=shop.example",
            "",
        ] {
            check(
                &format!("Authentication-Results: {value}"),
                Evidence::Claimed,
            );
        }
    }

    #[test]
    fn exchange_online_names_no_server_and_is_believed_where_it_is_configured() {
        const PASS: &str = "spf=pass (sender IP is 192.0.2.1)\r\n smtp.mailfrom=shop.example; dkim=pass (signature was verified)\r\n header.d=shop.example;dmarc=pass action=none\r\n header.from=shop.example;compauth=pass reason=100";
        let without = PASS.replace(";compauth=pass reason=100", "");
        let failed = PASS.replace("dmarc=pass", "dmarc=fail");
        let named = format!("mx.test.example; {PASS}");
        for (authserv_id, value, expected) in [
            ("microsoft365", PASS, VERIFIED),
            ("mx.test.example", PASS, Evidence::Claimed),
            ("microsoft365", &without, Evidence::Claimed),
            ("microsoft365", &failed, Evidence::Claimed),
            ("microsoft365", &named, Evidence::Claimed),
        ] {
            let header = format!("Authentication-Results: {value}");
            check_by(authserv_id, &header, expected);
            let below = format!("Authentication-Results: dkim=none;dmarc=none\r\n{header}");
            check_by(authserv_id, &below, Evidence::Claimed);
        }
    }

    #[test]
    fn a_forged_header_below_another_one_does_not_count() {
        let forged = "Authentication-Results: mx.test.example; dmarc=pass header.from=shop.example";
        check(forged, VERIFIED);
        for above in [
            "Authentication-Results: mx.test.example; dmarc=none header.from=shop.example",
            "Authentication-Results: mx.test.example; spf=pass",
            "Authentication-Results: inner.test.example; dmarc=fail header.from=shop.example",
            "Authentication-Results: garbage",
        ] {
            check(&format!("{above}\r\n{forged}"), Evidence::Claimed);
            check(
                &format!("{above}\r\nReceived: by mx.test.example\r\n{forged}"),
                Evidence::Claimed,
            );
        }
        check(
            "ARC-Authentication-Results: i=1; mx.test.example; dmarc=pass header.from=shop.example",
            Evidence::Claimed,
        );
    }
}
