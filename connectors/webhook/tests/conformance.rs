//! The conformance suite over a shop that lives in this process.

#[cfg(test)]
mod fake {
    pub mod shop;
}

use connector_testkit::connector_conformance;

use crate::fake::shop::FakeShop;

connector_conformance!(FakeShop::start(true));

/// The same shop without a memory for `webhook-id`: what may be repeated changes, nothing else.
mod forgetful {
    use super::*;

    connector_conformance!(FakeShop::start(false));
}
