//! The cases. Each is one async function that takes the kit and says what is wrong.

pub(crate) mod always;
pub(crate) mod attachments;
pub(crate) mod authorize;
pub(crate) mod faults;
pub(crate) mod inbound;
pub(crate) mod inventory;
pub(crate) mod parsing;
pub(crate) mod pull;
pub(crate) mod secrecy;
pub(crate) mod send;
pub(crate) mod several;
pub(crate) mod stream;
pub(crate) mod webhook;

use connector_api::Capabilities;
use futures::future::LocalBoxFuture;

use crate::kit::{Kit, Verdict};

pub(crate) struct Case {
    pub name: &'static str,
    /// Whether the capabilities ask for it.
    pub gate: fn(&Capabilities) -> bool,
    pub run: for<'a> fn(&'a Kit) -> LocalBoxFuture<'a, Verdict>,
}

/// The gates of [`crate::each_case!`].
mod gate {
    use super::Capabilities;

    pub fn always(_: &Capabilities) -> bool {
        true
    }

    /// Has a connection of its own to the provider.
    pub fn connecting(can: &Capabilities) -> bool {
        can.send || pull(can)
    }

    pub fn authorizing(can: &Capabilities) -> bool {
        can.authorization
    }

    pub fn inbound(can: &Capabilities) -> bool {
        can.webhook || pull(can)
    }

    pub fn conversing(can: &Capabilities) -> bool {
        inbound(can) && can.send
    }

    pub fn webhook(can: &Capabilities) -> bool {
        can.webhook
    }

    pub fn pull(can: &Capabilities) -> bool {
        can.poll || can.stream
    }

    pub fn replayable(can: &Capabilities) -> bool {
        can.replayable && pull(can)
    }

    pub fn listing(can: &Capabilities) -> bool {
        can.inventory && pull(can)
    }

    pub fn poll(can: &Capabilities) -> bool {
        can.poll
    }

    pub fn stream(can: &Capabilities) -> bool {
        can.stream
    }

    pub fn send(can: &Capabilities) -> bool {
        can.send
    }

    pub fn idempotent(can: &Capabilities) -> bool {
        can.send && can.send_idempotent
    }

    pub fn receipts(can: &Capabilities) -> bool {
        can.send && can.receipts
    }

    pub fn attachments(can: &Capabilities) -> bool {
        can.send && can.attachment_bytes_max.is_some()
    }

    pub fn several(can: &Capabilities) -> bool {
        can.send && can.recipients_max > 1
    }

    pub fn html(can: &Capabilities) -> bool {
        can.send && can.html
    }

    /// The HTML shows a file by its `content_id`.
    pub fn images(can: &Capabilities) -> bool {
        html(can) && attachments(can)
    }

    /// All files together have a limit.
    pub fn sum(can: &Capabilities) -> bool {
        attachments(can) && can.attachments_bytes_max.is_some()
    }

    pub fn starts(can: &Capabilities) -> bool {
        can.send && can.starts && inbound(can)
    }
}

#[doc(hidden)]
#[macro_export]
macro_rules! case_table {
    ($([$module:ident $case:ident $gate:ident])*) => {
        pub(crate) const CASES: &[Case] = &[$(
            Case {
                name: names::$case,
                gate: gate::$gate,
                run: |kit| Box::pin($module::$case(kit)),
            },
        )*];

        /// Every case, in the order of the list.
        pub const CASE_NAMES: &[&str] = &[$(stringify!($case)),*];

        /// One constant per case, so that a waiver of an unknown case does not compile.
        #[allow(non_upper_case_globals)]
        pub mod names {
            $(pub const $case: &str = stringify!($case);)*
        }
    };
}

crate::each_case!(case_table);
