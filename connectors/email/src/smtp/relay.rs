//! Services that give every mail an id of their own in the place of ours. What the receiver's answers
//! and bounces name is then theirs, and they tell it when they take the mail.
//!
//! Only where the rule is known: what other servers write into that answer is a queue id
//! (`250 2.0.0 Ok: queued as 4Vx1`), which no mail bears.

/// Length of Amazon's ids, in characters: `010001890e5d2b1a-….-000000` has 60.
const SES_ID_CHARS: std::ops::RangeInclusive<usize> = 30..=100;

/// The ids that a mail is known by: ours, then those of the service, the first copy's last. The last
/// is what the receiver's program knows, so later answers refer to it.
pub(crate) fn ids(host: &str, own: String, verdicts: &[String]) -> Vec<String> {
    let mut ids = vec![own];
    if let Some(domain) = ses_domain(host) {
        let theirs = verdicts.iter().rev().filter_map(|words| ses_id(words));
        ids.extend(theirs.map(|id| format!("{id}@{domain}")));
    }
    ids
}

/// Whether the server is Postmark's, which keeps a Message-ID only where the mail asks for it, by
/// `X-PM-KeepID: true`.
pub(crate) fn wants_keep_id(host: &str) -> bool {
    host.to_ascii_lowercase().ends_with(".postmarkapp.com")
}

/// Amazon SES puts `<id@REGION.amazonses.com>` in the place of every Message-ID, in us-east-1
/// `<id@email.amazonses.com>`; the region stands in the name of its server.
fn ses_domain(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let rest = host
        .strip_prefix("email-smtp.")
        .or_else(|| host.strip_prefix("email-smtp-fips."))?;
    let region = rest
        .strip_suffix(".amazonaws.com")
        .or_else(|| rest.strip_suffix(".api.aws"))?;
    let is_region = !region.is_empty()
        && region
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    is_region.then(|| match region {
        "us-east-1" => "email.amazonses.com".to_owned(),
        region => format!("{region}.amazonses.com"),
    })
}

/// The id in `Ok 010001890e5d2b1a-6f6d…-000000`.
fn ses_id(words: &str) -> Option<&str> {
    let id = words.trim().strip_prefix("Ok ")?.trim();
    let is_id = SES_ID_CHARS.contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    is_id.then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "010001890e5d2b1a-6f6d0a1c-2b6e-4f3a-9d1e-5a7c1f0b2c3d-000000";
    const OTHER: &str = "010001890e5d2b1b-0f6d0a1c-2b6e-4f3a-9d1e-5a7c1f0b2c3d-000000";

    #[test]
    fn an_id_is_a_services_only_where_its_rule_is_known() {
        let ok = format!("Ok {ID}");
        for (host, words, domain) in [
            (
                "email-smtp.us-east-1.amazonaws.com",
                ok.as_str(),
                Some("email"),
            ),
            ("email-smtp.eu-west-1.amazonaws.com", &ok, Some("eu-west-1")),
            (
                "Email-SMTP-fips.us-west-2.amazonaws.com",
                &ok,
                Some("us-west-2"),
            ),
            (
                "email-smtp.eu-west-1.amazonaws.com",
                "2.0.0 Ok: queued as 4Vx1",
                None,
            ),
            ("email-smtp.eu-west-1.amazonaws.com", "Ok", None),
            (
                "email-smtp.eu-west-1.amazonaws.com",
                "Ok thank you for this, <script> is what it says",
                None,
            ),
            ("email-smtp.eu.west.amazonaws.com", &ok, None),
            ("email-smtp.eu-west-1.amazonaws.com.example", &ok, None),
            ("smtp.shop.example", &ok, None),
        ] {
            let found = ids(host, "own@shop.example".to_owned(), &[words.to_owned()]);
            let mut expected = vec!["own@shop.example".to_owned()];
            expected.extend(domain.map(|domain| format!("{ID}@{domain}.amazonses.com")));
            assert_eq!(found, expected, "{host} {words}");
        }
    }

    #[test]
    fn only_postmark_is_asked_to_keep_the_id() {
        for (host, expected) in [
            ("smtp.postmarkapp.com", true),
            ("SMTP-Broadcasts.postmarkapp.com", true),
            ("smtp.notpostmarkapp.com", false),
            ("smtp.postmarkapp.com.example", false),
        ] {
            assert_eq!(wants_keep_id(host), expected, "{host}");
        }
    }

    #[test]
    fn the_copy_of_whom_it_answers_is_what_later_answers_refer_to() {
        let verdicts = [format!("Ok {ID}"), format!("Ok {OTHER}")];
        let found = ids(
            "email-smtp.us-east-1.amazonaws.com",
            "own@x".to_owned(),
            &verdicts,
        );
        assert_eq!(found.last(), Some(&format!("{ID}@email.amazonses.com")));
        assert_eq!(found.len(), 3);
    }
}
