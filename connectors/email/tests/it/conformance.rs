//! The suite that every connector passes.

use connector_testkit::connector_conformance;

use crate::fake_mail::FakeMail;

connector_conformance!(FakeMail::start(), waive: [
    rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
]);
