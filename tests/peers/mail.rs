//! Small edits of mails that tests send and receive.

/// Returns the mail as a receiving server hands it on that has checked its sender.
///
/// `verdict` is a DMARC result (`pass`, `fail`); SPF and DKIM are stamped with the same one.
pub fn with_auth_results(
    eml: &[u8],
    authserv_id: &str,
    from_domain: &str,
    verdict: &str,
) -> Vec<u8> {
    // RFC 8601 section 2.2; `policy.` and comments are as common receivers write them.
    let mut stamped = format!(
        "Authentication-Results: {authserv_id};\r\n\
         \tdmarc={verdict} (p=REJECT sp=REJECT dis=NONE) header.from={from_domain};\r\n\
         \tspf={verdict} smtp.mailfrom={from_domain};\r\n\
         \tdkim={verdict} header.d={from_domain} header.s=s1\r\n"
    )
    .into_bytes();
    stamped.extend_from_slice(eml);
    stamped
}

/// Returns the first header of that name, unfolded, without the line end.
pub fn header(eml: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(eml).replace("\r\n", "\n");
    let (head, _) = text.split_once("\n\n").unwrap_or((text.as_str(), ""));
    let unfolded = head.replace("\n ", " ").replace("\n\t", " ");
    unfolded
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

/// Returns the address in a From header, or `None` where there is none to be found.
pub fn sender(eml: &[u8]) -> Option<String> {
    let from = header(eml, "From")?;
    let address = match from.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or_default(),
        None => from.as_str(),
    };
    let plain = address.bytes().all(|byte| byte.is_ascii_graphic()) && address.contains('@');
    plain.then(|| address.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{header, sender, with_auth_results};

    #[test]
    fn a_stamp_stands_above_the_mail_it_vouches_for() {
        let mail = with_auth_results(
            b"From: Ada <ada@customer.example>\r\n\r\nhi\r\n",
            "mx.shop.example",
            "customer.example",
            "pass",
        );
        let stamp = header(&mail, "authentication-results").expect("the stamp");
        assert!(stamp.starts_with("mx.shop.example; dmarc=pass"), "{stamp}");
        assert!(stamp.contains("header.from=customer.example"), "{stamp}");
        assert_eq!(sender(&mail).as_deref(), Some("ada@customer.example"));
        assert!(mail.ends_with(b"\r\n\r\nhi\r\n"));
    }

    #[test]
    fn a_sender_that_is_no_address_is_none() {
        for from in [
            "",
            "From: nobody in particular\r\n",
            "From: <\u{e4}@customer.example>\r\n",
        ] {
            assert_eq!(sender(format!("{from}\r\nhi").as_bytes()), None, "{from:?}");
        }
    }
}
