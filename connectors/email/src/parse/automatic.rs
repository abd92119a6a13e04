//! Whether a machine wrote a mail, and which kind. Nothing automatic is ever answered
//! automatically (RFC 3834), so a miss here is a mail loop and a false hit is a customer who gets
//! no acknowledgement: both are kept rare by asking for signs that people do not produce.

use connector_api::{Automatic, reply_token_candidates};

use crate::parse::dsn::{parts_of, tells_refusal};
use crate::parse::headers::Headers;
use crate::parse::identity::OwnAddresses;
use crate::parse::limits::RECEIVED_MAX;
use crate::parse::mime::Part;
use crate::parse::threading::{message_id, own_id};

/// Decides from the most certain sign to the weakest. `null_sender` is what a service that received
/// the mail says of its envelope.
pub(crate) fn classify(
    root: &Part<'_>,
    author: &str,
    own: &OwnAddresses,
    null_sender: bool,
    text: &str,
) -> Option<Automatic> {
    let headers = &root.headers;
    if is_loop(headers, author, own) {
        return Some(Automatic::Loop);
    }
    if let Some(report) = report(root) {
        return Some(report);
    }
    let signs = Signs::read(headers, author, null_sender);
    if signs.is_daemons(headers) || (signs.sounds_like_bounce() && tells_refusal(root, text)) {
        return Some(Automatic::Bounce);
    }
    if signs.is_auto_reply(headers) {
        return Some(Automatic::AutoReply);
    }
    if signs.auto_submitted.is_some() {
        return Some(Automatic::Generated);
    }
    if is_bulk(headers) {
        return Some(Automatic::Bulk);
    }
    let is_machine = signs.null_sender || signs.role_sender || signs.may_be_auto_reply(headers);
    is_machine.then_some(Automatic::Generated)
}

/// Whether the sender asks for no automatic answer (MS-OXCMAIL, section 2.1.3.2.20; `DR` means
/// delivery reports, which an acknowledgement is one of). Ordinary Exchange mail says so, too: it
/// is no sign of a machine.
pub(crate) fn suppresses_answers(headers: &Headers<'_>) -> bool {
    let value = headers
        .lower("x-auto-response-suppress")
        .unwrap_or_default();
    value
        .split([',', ' '])
        .any(|word| matches!(word, "all" | "autoreply" | "oof" | "dr"))
}

/// Our own mail came back as a new one, or a mail goes in circles. A list or a forwarder may have
/// put another author into it: the id and `X-Loop`, which our automatic mail carries, stay.
fn is_loop(headers: &Headers<'_>, author: &str, own: &OwnAddresses) -> bool {
    let is_our_id = || {
        // Beside the Message-ID, which a relay may have replaced.
        let ids = [message_id(headers), own_id(headers)].into_iter().flatten();
        ids.into_iter().any(|id| {
            let is_ours = own.contains(author) || own.has_domain_of(&id);
            is_ours && !reply_token_candidates(&id).is_empty()
        })
    };
    let is_our_loop = || {
        let mut marks = headers.all("x-loop");
        marks.any(|field| own.contains(field.unfolded().trim_matches(['<', '>', ' '])))
    };
    headers.all("received").count() > RECEIVED_MAX || is_our_id() || is_our_loop()
}

/// What a report (RFC 6522) reports, by its type or by the part that holds it.
fn report(root: &Part<'_>) -> Option<Automatic> {
    // By what it declares: a report whose body is missing or broken is one all the same.
    let is_report = root.is_declared("multipart", "report");
    let report_type = match is_report {
        true => root.parameter("report-type").unwrap_or_default(),
        false => String::new(),
    };
    let has = |types: &[&str]| !parts_of(root, types).is_empty();
    match report_type.to_ascii_lowercase().as_str() {
        "delivery-status" => Some(Automatic::Bounce),
        "feedback-report" => Some(Automatic::FeedbackReport),
        "disposition-notification" => Some(Automatic::ReadReceipt),
        _ if has(&["message/feedback-report"]) => Some(Automatic::FeedbackReport),
        _ if has(&["message/delivery-status", "message/global-delivery-status"]) => {
            Some(Automatic::Bounce)
        }
        _ if has(&["message/disposition-notification"]) => Some(Automatic::ReadReceipt),
        _ if is_report => Some(Automatic::Generated),
        _ => None,
    }
}

/// The header signs that several rules need.
struct Signs {
    /// Its keyword, unless absent or `no`.
    auto_submitted: Option<String>,
    precedence: String,
    subject: String,
    /// `Return-Path: <>`: no answer is wanted by anyone (RFC 5321, section 4.5.5).
    null_sender: bool,
    /// The mail system itself.
    daemon_sender: bool,
    /// An address that nobody reads, or that a system writes from.
    role_sender: bool,
}

impl Signs {
    fn read(headers: &Headers<'_>, author: &str, null_sender: bool) -> Self {
        let keyword = |name| {
            let value: Option<String> = headers.lower(name);
            let value = value.unwrap_or_default();
            let word = value.split([';', ' ', '(']).next().unwrap_or_default();
            word.to_owned()
        };
        let auto_submitted = keyword("auto-submitted");
        let return_path = headers.first("return-path").map(|field| field.unfolded());
        let return_path = return_path.map(|path| path.to_lowercase());
        let null_path = return_path.as_deref().is_some_and(|path| {
            let path = path.trim_matches(['<', '>', ' ']);
            path.is_empty() || path.starts_with("mailer-daemon")
        });
        let null_sender = null_sender || null_path;
        let from = headers.lower("from").unwrap_or_default();
        let local = author.split('@').next().unwrap_or_default();
        let local: String = local.chars().filter(|c| c.is_alphanumeric()).collect();
        let daemon_sender = from.contains("mailer-daemon")
            || from.starts_with("mail delivery s")
            || local == "mailerdaemon";
        let role_sender = daemon_sender
            || matches!(local.as_str(), "postmaster" | "mdaemon" | "bounces")
            || ["noreply", "donotreply", "nichtantworten", "nepasrepondre"]
                .iter()
                .any(|word| local.contains(word));
        Self {
            auto_submitted: (!auto_submitted.is_empty() && auto_submitted != "no")
                .then_some(auto_submitted),
            precedence: keyword("precedence"),
            subject: headers.lower("subject").unwrap_or_default(),
            null_sender,
            daemon_sender,
            role_sender,
        }
    }

    /// From the mail system itself.
    fn is_daemons(&self, headers: &Headers<'_>) -> bool {
        headers.has("x-failed-recipients") || self.daemon_sender
    }

    /// Bounces that use no report: qmail, Exchange, Gmail, gateways. A shop's mails have such
    /// subjects, too, and so have people's answers to them: alone this is nothing.
    fn sounds_like_bounce(&self) -> bool {
        const SUBJECTS: [&str; 18] = [
            "undeliver",
            "non-deliver",
            "nondeliver",
            "failure notice",
            "delivery status",
            "delivery failure",
            "delivery failed",
            "delivery has failed",
            "delivery problem",
            "delivery notification",
            "mail delivery",
            "returned mail",
            "returning message",
            "returned to sender",
            "could not be delivered",
            "unzustellbar",
            "error sending your mail",
            "メールエラー",
        ];
        const ANSWERS: [&str; 6] = ["re:", "aw:", "antw:", "sv:", "fwd:", "wg:"];
        (self.null_sender || self.role_sender)
            && SUBJECTS.iter().any(|words| self.subject.contains(words))
            && !ANSWERS.iter().any(|mark| self.subject.starts_with(mark))
            && !self.has_vacation_subject()
    }

    fn is_auto_reply(&self, headers: &Headers<'_>) -> bool {
        const MARKS: [&str; 6] = [
            "x-autoreply",
            "x-autorespond",
            "x-autoresponder",
            "x-autoreply-from",
            "x-mail-autoreply",
            "x-vacation",
        ];
        let is_marked = MARKS.iter().any(|&name| {
            headers
                .lower(name)
                .is_some_and(|value| !matches!(value.as_str(), "no" | "false"))
        });
        let is_apple_vacation = headers.lower("x-apple-action").as_deref() == Some("vacation");
        is_marked
            || is_apple_vacation
            || self
                .auto_submitted
                .as_deref()
                .is_some_and(|keyword| keyword == "auto-replied")
            || matches!(self.precedence.as_str(), "auto_reply" | "auto-reply")
            || (self.null_sender && self.has_vacation_subject())
    }

    /// The subject of an auto-reply under an answer. People write such subjects, too, and Exchange
    /// asks for no answer in the mail of everybody: this much only spares the acknowledgement, the
    /// mail is queued like any other.
    fn may_be_auto_reply(&self, headers: &Headers<'_>) -> bool {
        let is_answer = headers.has("in-reply-to") || headers.has("references");
        self.has_vacation_subject() && (is_answer || suppresses_answers(headers))
    }

    /// A hint only: people write about being out of office, too.
    fn has_vacation_subject(&self) -> bool {
        const SUBJECTS: [&str; 21] = [
            "automatic reply",
            "auto reply",
            "auto-reply",
            "autoreply",
            "autoresponse",
            "auto response",
            "out of office",
            "out of the office",
            "vacation",
            "automatische antwort",
            "automatische beantwortung",
            "abwesenheit",
            "réponse automatique",
            "absence du bureau",
            "respuesta automática",
            "risposta automatica",
            "resposta automática",
            "automatisch antwoord",
            "autosvar",
            "自動返信",
            "自动回复",
        ];
        SUBJECTS.iter().any(|words| self.subject.starts_with(words))
    }
}

fn is_bulk(headers: &Headers<'_>) -> bool {
    let precedence = headers.lower("precedence").unwrap_or_default();
    matches!(precedence.trim(), "bulk" | "junk" | "list")
        || ["list-id", "list-unsubscribe", "list-post", "x-mailing-list"]
            .iter()
            .any(|&name| headers.has(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::mime::Walk;

    fn check(headers: &str, expected: Option<Automatic>) {
        check_text(headers, "hello", expected);
    }

    fn check_text(headers: &str, text: &str, expected: Option<Automatic>) {
        let from = headers.lines().find_map(|line| line.strip_prefix("From: "));
        let author = from.unwrap_or("ada@example.org");
        let mail = format!("{headers}\n\n{text}");
        let (fields, body) = Headers::split(mail.as_bytes());
        let root = Walk::default().tree(fields, body);
        let own = OwnAddresses::new(["support@shop.example"]);
        assert_eq!(
            classify(&root, author, &own, false, text),
            expected,
            "{headers}\n{text}"
        );
    }

    #[test]
    fn machines_are_told_by_what_people_do_not_write() {
        use Automatic::{AutoReply, Bounce, Bulk, FeedbackReport, Generated, Loop, ReadReceipt};
        let token = format!("sb{}", "k3".repeat(13));
        for (headers, expected) in [
            ("Auto-Submitted: auto-replied", AutoReply),
            ("Auto-Submitted: auto-replied (vacation)", AutoReply),
            ("Auto-Submitted: auto-generated; type=x", Generated),
            ("Auto-Submitted: auto-notified", Generated),
            ("X-Autoreply: yes", AutoReply),
            ("Precedence: auto_reply", AutoReply),
            ("Precedence: bulk", Bulk),
            ("List-Id: <list.example.org>", Bulk),
            ("Return-Path: <>", Generated),
            ("Return-Path: <>\nSubject: Out of office: Re: x", AutoReply),
            (
                "Subject: Automatic reply: x\nPrecedence: auto_reply",
                AutoReply,
            ),
            // A subject is only words: enough for no acknowledgement, not for no queue.
            ("Subject: Automatic reply: x\nIn-Reply-To: <a@b>", Generated),
            ("Subject: Vacation rental\nReferences: <a@b>", Generated),
            (
                "Subject: Vacation rental\nX-Auto-Response-Suppress: All\nIn-Reply-To: <a@b>",
                Generated,
            ),
            (
                "Subject: \u{81ea}\u{52d5}\u{8fd4}\u{4fe1}: x\nIn-Reply-To: <a@b>",
                Generated,
            ),
            (
                "From: no-reply@example.org\nSubject: Out of office: x",
                Generated,
            ),
            ("From: no-reply@example.org", Generated),
            ("From: MAILER-DAEMON@example.org", Bounce),
            ("From: postmaster@example.org", Generated),
            ("X-Failed-Recipients: ada@example.org", Bounce),
            (
                "Content-Type: multipart/report; report-type=delivery-status; boundary=b",
                Bounce,
            ),
            (
                "Content-Type: multipart/report; report-type=\"feedback-report\"",
                FeedbackReport,
            ),
            (
                "Content-Type: multipart/report; report-type=disposition-notification",
                ReadReceipt,
            ),
            ("Content-Type: multipart/report", Generated),
            (
                &*format!("From: support@shop.example\nMessage-ID: <{token}.m@shop.example>"),
                Loop,
            ),
            (&*"Received: x\n".repeat(51), Loop),
            // Whoever stands in From now.
            (&*format!("Message-ID: <{token}.m@shop.example>"), Loop),
            ("X-Loop: Support@shop.example", Loop),
            // A relay gave it another id on its way.
            (
                &*format!(
                    "Message-ID: <0102019b@eu-west-1.amazonses.com>\nX-Switchboard-ID: <{token}.m@shop.example>"
                ),
                Loop,
            ),
        ] {
            check(headers.trim_end(), Some(expected));
        }
    }

    #[test]
    fn a_bounce_without_a_report_quotes_a_server_or_brings_a_mail_back() {
        use Automatic::{AutoReply, Bounce, Generated};
        let refused =
            "Your mail to ada was refused:\n<ada@example.org>: host mx said: 550 no such user";
        let returned = "It comes back.\n\nReceived: from a by b\nMessage-ID: <a@b>";
        let said = "Still nothing. Please send it again, order 550.";
        for (headers, text, expected) in [
            (
                "From: postmaster@example.org\nSubject: Undeliverable: x",
                refused,
                Bounce,
            ),
            (
                "From: postmaster@example.org\nSubject: Undeliverable: x",
                returned,
                Bounce,
            ),
            (
                "From: postmaster@example.org\nSubject: Undeliverable: x",
                said,
                Generated,
            ),
            (
                "Return-Path: <>\nSubject: Returned mail: see transcript",
                refused,
                Bounce,
            ),
            (
                "Return-Path: <>\nSubject: Returned mail: see transcript",
                said,
                Generated,
            ),
            // A shop's own subjects, answered by a machine and by a person with a role's address.
            (
                "Return-Path: <>\nAuto-Submitted: auto-replied\nSubject: Automatic reply: My parcel could not be delivered",
                refused,
                AutoReply,
            ),
            (
                "Return-Path: <>\nAuto-Submitted: auto-replied\nSubject: Auto: Your delivery status",
                said,
                AutoReply,
            ),
            (
                "From: postmaster@example.org\nSubject: Re: Delivery status of order 17\nIn-Reply-To: <a@b>",
                refused,
                Generated,
            ),
        ] {
            check_text(headers, text, Some(expected));
        }
    }

    #[test]
    fn people_are_not_taken_for_machines() {
        let token = format!("sb{}", "k3".repeat(13));
        for headers in [
            "Subject: Where is my parcel?",
            "Auto-Submitted: no",
            "X-Auto-Response-Suppress: All",
            "Precedence: normal",
            "Subject: Out of office chairs?",
            "Subject: Vacation booking, automatic reply broken",
            "Subject: Re: Undeliverable: my parcel\nReturn-Path: <ada@example.org>",
            "Subject: failure notice in the tracking app",
            "From: support@shop.example\nMessage-ID: <typed-by-a-person@shop.example>",
            &format!("Message-ID: <{token}.m@other.example>"),
            "X-Loop: list@example.org",
            &format!("X-Switchboard-ID: <{token}.m@other.example>"),
            "X-Switchboard-ID: <typed-by-a-person@shop.example>",
            &format!("In-Reply-To: <{token}.m@shop.example>"),
            "Content-Type: multipart/mixed; boundary=b",
        ] {
            check(headers, None);
        }
    }
}
