//! What users of other desks complain about, each as a test that bears the number of its issue.
//! Mails come as bytes through the email connector's own parser.
//!
//! Here is what becomes of a mail once it is here. The rest is tested where it would go wrong:
//!
//! | issue | test |
//! | --- | --- |
//! | chatwoot 4532 | `inbound::chatwoot_4532_no_error_ends_the_reading_of_a_mailbox`, `inbound::tests` (in the library) |
//! | chatwoot 6604, 10429, 15857 | connector-email `complaints` |
//! | chatwoot 6046 | here, and connector-email `hooks` for what the services post |
//! | chatwoot 9314 | `api::messages::chatwoot_9314_the_same_key_sends_once_and_never_something_else` |
//! | chatwoot 14120 | `lanes::chatwoot_14120_an_answer_sent_again_leaves_again_and_is_sent_only_then` |
//! | chatwoot 15131 | `daemon::alerts`, `alerts::tests` (in the library) |
//! | chatwoot 15204 | `daemon::complaints::chatwoot_15204_how_long_mails_take_and_where_is_measured` |
//! | erxes-api 690 | connector-email `complaints` |
//! | freescout 661 | `daemon::supervise::tests` (in the library) |
//! | freescout 1611 | `daemon::complaints::freescout_1611_a_mailbox_read_again_from_its_start_makes_nothing_new` |
//! | freescout 2445, 3670, 4143, chatwoot 5131 | `loops::freescout_3670_2445_4143_chatwoot_5131_exchanges_between_machines_end_after_two_mails` |
//! | freescout 3406, 4064 | connector-email `complaints` |
//! | freescout 3585 | `lanes::freescout_3585_an_answer_is_sent_once_by_however_many_and_after_a_crash_by_nobody` |
//! | freescout 3694 | `daemon::alerts`, `alerts::tests` (in the library) |
//! | libredesk, its 48 hours | connector-email `complaints` |
//! | zammad 1239 | `lanes::zammad_1239_a_reply_that_is_put_off_is_tried_for_five_days_and_then_refused` |
//! | zammad 2754 | connector-email `complaints` |
//! | zammad 5540 | `daemon::complaints` for channels, connector-email `complaints` for mailboxes of one |
//! | zammad 5915 | here for two readers, `daemon::complaints` for two daemons |

mod lost;
mod order;
mod threads;
mod twice;

use connector_api::Bytes;
use connector_email::parse::{OwnAddresses, ParseSettings, parse};
use expect_test::Expect;

use crate::support::{Desk, Said};

/// A mail to `support-mail`, with lines of header before its text. What stands first is what our
/// own server stamped: its sender is proven.
pub fn proven(head: &str, text: &str) -> Said {
    let from = head.lines().find_map(|line| line.strip_prefix("From: "));
    let domain = from.and_then(|from| from.rsplit_once('@'));
    let domain = domain.map_or("", |(_, domain)| domain.trim_end_matches('>'));
    let stamp = format!("Authentication-Results: mx.shop.example; dmarc=pass header.from={domain}");
    claimed(&format!("{stamp}\n{head}"), text)
}

/// The same where nothing proves who wrote.
pub fn claimed(head: &str, text: &str) -> Said {
    let mail = format!("{}\n\n{text}\n", head.trim_end()).replace('\n', "\r\n");
    let settings = ParseSettings {
        own: OwnAddresses::new(["support@shop.example"]),
        authserv_id: Some("mx.shop.example".to_owned()),
        mail_bytes_max: 1024 * 1024,
    };
    Said {
        channel: "support-mail",
        event: parse(Bytes::from(mail), &settings),
        keyed: true,
        imported: false,
    }
}

/// What there is. Keys made from a mail's content are left out: tokens of an installation are part
/// of it.
pub async fn shown(desk: &Desk) -> String {
    let text = desk.shows().await;
    let mut pieces = text.split("sha256:");
    let mut shown = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        shown += "sha256";
        shown += piece.trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    shown
}

async fn check(mails: impl IntoIterator<Item = Said>, expected: Expect) {
    let mut desk = Desk::new().await;
    for mail in mails {
        desk.deliver([mail]).await;
    }
    expected.assert_eq(&shown(&desk).await);
}

/// Has `ada@example.com` ask, an agent answer, and gives the id of the answer as mail carries it.
pub async fn answered(desk: &mut Desk) -> String {
    let question = "From: Ada <ada@example.com>\nSubject: Order 17\nMessage-ID: <a1@example.com>";
    desk.deliver([proven(question, "Where is it?")]).await;
    let answer = desk.reply(1, "On its way.").await;
    let conversation = desk.conversation(1).await.id;
    let token = desk.keys.reply_tokens.mint(conversation);
    let id = desk
        .keys
        .ids
        .encode(switchboard::ids::IdKind::Message, answer.id.0);
    format!("{token}.{id}@shop.example")
}
