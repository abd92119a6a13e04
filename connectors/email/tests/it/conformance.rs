//! The suite that every connector passes, with passwords and with tokens.

use connector_testkit::connector_conformance;

use crate::fake_mail::FakeMail;

mod by_password {
    use super::*;

    connector_conformance!(FakeMail::start(), waive: [
        rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
    ]);
}

mod by_token {
    use super::*;

    connector_conformance!(FakeMail::with_oauth(), waive: [
        rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
    ]);
}
