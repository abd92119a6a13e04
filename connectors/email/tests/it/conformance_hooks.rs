//! The same suite for mail by webhook, once for each service.

use connector_testkit::connector_conformance;

use crate::fake_hook::{FakeHook, Service};

mod sendgrid {
    use super::*;

    connector_conformance!(FakeHook::start(Service::Sendgrid), waive: [
        rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
    ]);
}

mod postmark {
    use super::*;

    connector_conformance!(FakeHook::start(Service::Postmark), waive: [
        rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
        tampered_body_is_refused = "Postmark signs nothing, it only logs in",
        stale_timestamp_is_refused = "Postmark signs no time",
    ]);
}

mod mailgun {
    use super::*;

    connector_conformance!(FakeHook::start(Service::Mailgun), waive: [
        rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
        tampered_body_is_refused = "Mailgun signs a time and a token, not the mail",
    ]);
}

mod ses {
    use super::*;

    connector_conformance!(FakeHook::start(Service::Ses), waive: [
        rate_limit_carries_retry_after = "an SMTP answer has no place for a delay",
        tampered_body_is_refused = "SNS signs the members of its JSON, not the blanks between",
        unsigned_request_is_refused = "SNS signs inside of the body, no header takes part",
    ]);
}
