//! Machines that answer each other: our router, composer and parser against a second desk, vacation
//! notices, responders that say nothing about themselves and ticket systems, over seeded exchanges.
//! Nothing here has a server or a store; the facts of a desk live as long as its exchange, which
//! stays within the day for which an acknowledgement is remembered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use connector_api::{
    BrandId, BuildContext, Bytes, Clock, Error, Event, HttpClient, HttpRequest, HttpResponse,
    OutboundMessage, Recipient, SecretRef, SecretResolver, SecretString, Timestamp, async_trait,
};
use connector_email::parse::{OwnAddresses, ParseSettings, parse};
use connector_email::{Composer, Config};
use serde_json::json;
use switchboard::bus::{ENVELOPE_MAJOR, Envelope};
use switchboard::daemon::Keys;
use switchboard::ids::{IdKind, IdSource};
use switchboard::normalise::normalise;
use switchboard::router::effects::Acknowledgement;
use switchboard::router::keys::{DigestKey, digest};
use switchboard::router::{Facts, Policy, Prepared, route};

use crate::support::{channel_id, policy};

const EXCHANGES: u64 = 10_000;

/// Most automatic mails between two addresses, both ways together.
pub const PER_PAIR_MAX: usize = 2;

/// Mails after which an exchange counts as endless.
pub const MAILS_MAX: usize = 24;

/// Who is at the other end of an exchange, and how many automatic mails may come of it in all:
/// fewer than the bar where their own mail says that a machine wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Other {
    /// Another Switchboard.
    Desk,
    /// The same behind a relay that takes away every header that says so.
    StrippedDesk,
    /// A notice that says what it is in one of the usual ways, to everything that comes, and began
    /// the exchange.
    Vacation,
    /// Answers everything and says nothing.
    Responder,
    /// Opens a ticket for each mail and says nothing; may have an address for each ticket.
    Tickets,
}

const OTHERS: [(Other, usize); 5] = [
    (Other::Desk, 1),
    (Other::StrippedDesk, 2),
    (Other::Vacation, 0),
    (Other::Responder, 2),
    // A second one where the ticket has an address of its own: who writes from there is new to us.
    (Other::Tickets, 4),
];

/// One mail on its way.
#[derive(Debug, Clone)]
pub struct Mail {
    pub from: String,
    pub to: String,
    pub bytes: Vec<u8>,
    pub has_null_sender: bool,
}

/// Xorshift: the same exchange for the same seed.
pub struct Random(u64);

impl Random {
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    pub fn is(&mut self) -> bool {
        self.below(2) == 0
    }

    pub fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }
}

struct Counter(i64);

impl IdSource for Counter {
    fn next(&mut self) -> i64 {
        self.0 += 1;
        self.0
    }
}

/// What does not change from exchange to exchange.
pub struct World {
    pub ours: Office,
    pub theirs: Office,
}

/// One installation: policy and composer.
pub struct Office {
    pub address: String,
    policy: Policy,
    composer: Composer,
    settings: ParseSettings,
}

/// What one installation knows in one exchange.
pub struct Desk<'a> {
    office: &'a Office,
    facts: Facts,
    ids: Counter,
}

impl Office {
    pub fn new(address: &str) -> Self {
        let keys = Keys::derive(address.repeat(4).as_bytes());
        let mut policy = policy(&keys);
        for channel in policy.channels.values_mut() {
            channel.acknowledge = Some("We have your mail and answer within a day.".to_owned());
        }
        let config: Config = serde_json::from_value(json!({
            "address": address,
            "imap": { "host": "imap.example", "user": "u", "password": { "env": "P" } },
            "smtp": { "host": "smtp.example" },
        }))
        .unwrap();
        let context = BuildContext::new(
            "support-mail".parse().unwrap(),
            BrandId::default(),
            Arc::new(Still),
            Arc::new(Nowhere),
            Arc::new(Known),
        );
        Self {
            address: address.to_owned(),
            policy,
            composer: Composer::new(config, &context).unwrap(),
            settings: ParseSettings {
                own: OwnAddresses::new([address]),
                authserv_id: Some("mx.ours.example".to_owned()),
                mail_bytes_max: 1024 * 1024,
            },
        }
    }

    pub fn desk(&self) -> Desk<'_> {
        Desk {
            office: self,
            facts: Facts::default(),
            ids: Counter(1_000_000),
        }
    }
}

impl Desk<'_> {
    /// Takes a mail in as the daemon does, and gives what it sends by itself.
    pub async fn take(&mut self, mail: &Mail) -> Vec<Mail> {
        let office = self.office;
        let mut event = parse(Bytes::copy_from_slice(&mail.bytes), &office.settings);
        let answered = match &event.event {
            Event::Message(message) => message.thread.message_id.clone(),
            _ => None,
        };
        let digest = digest(&DigestKey::new(b"one for all"), &event);
        let normalised = normalise(&mut event);
        let offset = self.ids.next();
        let envelope = Envelope {
            major: ENVELOPE_MAJOR,
            brand: BrandId::default(),
            channel: channel_id("support-mail"),
            arrived_at: offset * 1_000_000,
            digest,
            imported: false,
            event,
            full_text: normalised.full_text,
        };
        let record = Prepared::new(offset, Arc::new(envelope));
        let effects = route(&[record], &mut self.facts, &office.policy, &mut self.ids);
        let mut sent = Vec::new();
        for acknowledgement in &effects.acknowledgements {
            sent.push(self.written(acknowledgement, answered.clone()).await);
        }
        sent
    }

    /// As `outbound` makes a message of an acknowledgement.
    async fn written(&self, new: &Acknowledgement, answered: Option<String>) -> Mail {
        let policy = &self.office.policy;
        let subject = self.facts.conversations[&new.conversation]
            .detail
            .subject
            .clone();
        let message = OutboundMessage {
            id: policy.ids.encode(IdKind::Message, new.id.0),
            conversation: policy.ids.encode(IdKind::Conversation, new.conversation.0),
            reply_token: policy.reply_tokens.mint(new.conversation),
            to: Recipient {
                namespace: new.namespace.clone(),
                address: new.address.clone(),
                name: None,
            },
            also_to: Vec::new(),
            cc: Vec::new(),
            bcc: Vec::new(),
            thread: None,
            subject,
            text: new.text.clone(),
            html: None,
            attachments: Vec::new(),
            references: answered.into_iter().collect(),
            automatic: true,
            accepted_at: Timestamp::UNIX_EPOCH,
        };
        let written = self.office.composer.write(&message).await.unwrap();
        Mail {
            from: self.office.address.clone(),
            to: new.address.clone(),
            bytes: written.bytes,
            has_null_sender: written.has_null_sender,
        }
    }
}

/// The other end.
struct Stranger<'a> {
    kind: Other,
    desk: Desk<'a>,
    /// One habit of each for the whole exchange.
    answers_reply_to: bool,
    refers: bool,
    own_address_per_ticket: u64,
    subject: &'static str,
    mark: &'static str,
    tickets: u64,
}

impl<'a> Stranger<'a> {
    fn new(kind: Other, world: &'a World, random: &mut Random) -> Self {
        Self {
            kind,
            desk: world.theirs.desk(),
            answers_reply_to: random.is(),
            refers: random.is(),
            own_address_per_ticket: random.below(3),
            subject: random.one_of(&["Re: ", "AW: ", "Fwd: ", "TR: ", "", "Ticket received: "]),
            mark: random.one_of(&[
                "Auto-Submitted: auto-replied\r\n",
                "X-Autoreply: yes\r\n",
                "Precedence: auto_reply\r\n",
                "Precedence: bulk\r\n",
                "X-Auto-Response-Suppress: All\r\n",
                "Return-Path: <>\r\n",
            ]),
            tickets: random.below(1_000_000),
        }
    }

    fn address(&self) -> String {
        match (self.kind, self.own_address_per_ticket) {
            (Other::Tickets, 1) => format!("help+{}@theirs.example", self.tickets),
            (Other::Tickets, 2) => format!("ticket-{}@theirs.example", self.tickets),
            _ => self.desk.office.address.clone(),
        }
    }

    /// The mail that begins the exchange: a person wrote, except with a vacation notice.
    fn first(&mut self, to: &str, random: &mut Random) -> Mail {
        match self.kind {
            Other::Vacation => self.answer(to, "<newsletter@ours.example>", "Our news", random),
            _ => self.mail(to, "", "A question", "Where is my order 4711?", random),
        }
    }

    async fn take(&mut self, mail: &Mail, random: &mut Random) -> Vec<Mail> {
        if matches!(self.kind, Other::Desk | Other::StrippedDesk) {
            return self.desk.take(mail).await;
        }
        let text = String::from_utf8_lossy(&mail.bytes).into_owned();
        let field = |name: &str| {
            let lines = text.lines().take_while(|line| !line.is_empty());
            let mut values = lines.filter_map(|line| line.strip_prefix(name));
            values.next().unwrap_or_default().trim().to_owned()
        };
        let reply_to = field("Reply-To:");
        let to = match self.answers_reply_to && !reply_to.is_empty() {
            true => reply_to.trim_matches(['<', '>']).to_owned(),
            false => mail.from.clone(),
        };
        vec![self.answer(&to, &field("Message-ID:"), &field("Subject:"), random)]
    }

    fn answer(&mut self, to: &str, id: &str, subject: &str, random: &mut Random) -> Mail {
        self.tickets += 1;
        let number = self.tickets;
        let (subject, text, mark) = match self.kind {
            Other::Vacation => (
                format!(
                    "{}{subject}",
                    random.one_of(&["Out of office: ", "Automatic reply: "])
                ),
                "I am away until Monday.".to_owned(),
                self.mark,
            ),
            Other::Tickets => (
                format!("{}[#{number}] {subject}", self.subject),
                format!(
                    "Your request was received as ticket number {number}. We will be in touch."
                ),
                "",
            ),
            _ => (
                format!("{}{subject}", self.subject),
                format!("Thank you for your mail of {number}, it matters to us very much."),
                "",
            ),
        };
        let refers = match self.refers {
            true => format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"),
            false => String::new(),
        };
        self.mail(to, &format!("{mark}{refers}"), &subject, &text, random)
    }

    fn mail(&self, to: &str, head: &str, subject: &str, text: &str, random: &mut Random) -> Mail {
        let from = self.address();
        let id = random.below(u64::MAX);
        let bytes = format!(
            "{head}From: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{id:x}@theirs.example>\r\n\r\n{text}\r\n"
        );
        Mail {
            from,
            to: to.to_owned(),
            bytes: bytes.into_bytes(),
            has_null_sender: false,
        }
    }
}

/// What servers on the way do: a relay may take headers away, the last one stamps.
pub fn deliver(mail: &mut Mail, is_stripped: bool, is_stamped: bool) {
    let text = String::from_utf8_lossy(&mail.bytes).into_owned();
    let mut head = String::new();
    let (fields, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let telling = [
        "auto-submitted:",
        "precedence:",
        "x-auto-response-suppress:",
        "x-loop:",
    ];
    if is_stamped {
        let domain = mail.from.rsplit_once('@').map_or("", |(_, domain)| domain);
        head.push_str(&format!(
            "Authentication-Results: mx.ours.example; dmarc=pass header.from={domain}\r\n"
        ));
    }
    if mail.has_null_sender && !is_stripped {
        head.push_str("Return-Path: <>\r\n");
    }
    for line in fields.split("\r\n") {
        let lower = line.to_lowercase();
        if !(is_stripped && telling.iter().any(|name| lower.starts_with(name))) {
            head.push_str(&format!("{line}\r\n"));
        }
    }
    mail.bytes = format!("{head}\r\n{body}").into_bytes();
}

/// Plays one exchange and gives how many automatic mails went between each two addresses.
async fn exchange(seed: u64, kind: Other, world: &World) -> BTreeMap<(String, String), usize> {
    let mut random = Random::of(seed);
    let mut ours = world.ours.desk();
    let mut stranger = Stranger::new(kind, world, &mut random);
    let is_stamped = random.is();
    let mut on_the_way = VecDeque::from([stranger.first(&world.ours.address, &mut random)]);
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut mails = 0;
    while let Some(mut mail) = on_the_way.pop_front() {
        mails += 1;
        if mails > MAILS_MAX {
            break;
        }
        let is_ours = mail.from == world.ours.address;
        deliver(
            &mut mail,
            kind == Other::StrippedDesk,
            is_stamped && !is_ours,
        );
        let sent = match is_ours {
            true => stranger.take(&mail, &mut random).await,
            false => ours.take(&mail).await,
        };
        for mail in sent {
            let mut pair = [mail.from.clone(), mail.to.clone()];
            // Our reply addresses are one mailbox.
            for address in &mut pair {
                if address.starts_with("support+") && address.ends_with("@ours.example") {
                    address.clone_from(&world.ours.address);
                }
            }
            pair.sort();
            let [one, other] = pair;
            *counts.entry((one, other)).or_default() += 1;
            on_the_way.push_back(mail);
        }
    }
    counts
}

#[test]
fn freescout_3670_2445_4143_chatwoot_5131_exchanges_between_machines_end_after_two_mails() {
    let world = World {
        ours: Office::new("support@ours.example"),
        theirs: Office::new("help@theirs.example"),
    };
    // Each kind on a thread of its own.
    std::thread::scope(|scope| {
        for (place, (kind, in_all_max)) in OTHERS.into_iter().enumerate() {
            let seeds = (place as u64..EXCHANGES).step_by(OTHERS.len());
            let world = &world;
            scope.spawn(move || check(kind, in_all_max, seeds, world));
        }
    });
}

fn check(kind: Other, in_all_max: usize, seeds: impl Iterator<Item = u64>, world: &World) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    let mut most = 0;
    for seed in seeds {
        let counts = runtime.block_on(exchange(seed, kind, world));
        let in_all: usize = counts.values().sum();
        let per_pair = counts.values().max().copied().unwrap_or_default();
        assert!(
            per_pair <= PER_PAIR_MAX && in_all <= in_all_max,
            "exchange {seed} with {kind:?}: {counts:?}"
        );
        most = in_all.max(most);
    }
    assert_eq!(most, in_all_max, "{kind:?} is as lively as it may be");
}

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
}

struct Nowhere;

#[async_trait]
impl HttpClient for Nowhere {
    async fn execute(&self, _: HttpRequest) -> connector_api::Result<HttpResponse> {
        Err(Error::unavailable("there is no network here"))
    }
}

struct Known;

impl SecretResolver for Known {
    fn resolve(&self, _: &SecretRef) -> connector_api::Result<SecretString> {
        Ok(SecretString::from("a secret".to_owned()))
    }
}
