//! What the customers of a load run write: every message a pure function of its number, so that a redelivery is the
//! same bytes and nothing has to be remembered.

use std::fmt::Write as _;
use std::ops::Range;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::http;

/// Size of one event's JSON, as close as whole sentences come to it.
pub const EVENT_BYTES: usize = 2048;

/// Who writes and what; `n` counts the messages of a run, those put in beforehand first.
#[derive(Debug, Clone)]
pub struct Payloads {
    /// Keeps apart the runs over one data directory.
    pub run: String,
    /// Messages below this number were put in before the measuring.
    pub preloaded_messages: u64,
    /// Customers who have a conversation before the measuring.
    pub preloaded_customers: u64,
    /// How many of the measured messages come from somebody new.
    pub new_customers_percent: u64,
    /// When message 0 was written, in milliseconds since 1970; each later one a millisecond after.
    pub first_sent_at_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Customer {
    /// Somebody with a conversation that is open already.
    Known(u64),
    /// Somebody who writes for the first time, with this message.
    New(u64),
}

impl Payloads {
    pub fn customer(&self, n: u64) -> Customer {
        if n < self.preloaded_messages {
            return Customer::Known(n % self.preloaded_customers.max(1));
        }
        let chance = mix(n);
        if self.preloaded_customers == 0 || chance % 100 < self.new_customers_percent {
            Customer::New(n)
        } else {
            Customer::Known((chance >> 8) % self.preloaded_customers)
        }
    }

    /// Appends these messages as one webhook of many events.
    pub fn write_batch(&self, numbers: Range<u64>, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"events":["#);
        let first = numbers.start;
        for n in numbers {
            if n > first {
                out.push(b',');
            }
            self.write_event(n, out);
        }
        out.extend_from_slice(b"]}");
    }

    /// Appends message `n` as one webhook event.
    pub fn write_event(&self, n: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let run = &self.run;
        let customer = match self.customer(n) {
            Customer::Known(number) => format!("cust-{number}"),
            Customer::New(number) => format!("cust-{run}-{number}"),
        };
        let sent_at = self.first_sent_at_ms + i64::try_from(n).unwrap_or(i64::MAX / 2);
        let sent_at =
            jiff::Timestamp::from_millisecond(sent_at).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        let mut head = String::with_capacity(256);
        // Writing to a string cannot fail.
        write!(
            head,
            r#"{{"type":"message","id":"m-{run}-{n}","thread":"t-{customer}","from":{{"id":"{customer}","name":"Customer {customer}"}},"sent_at":"{sent_at}","text":"Order {number}. "#,
            number = mix(n) % 10_000_000,
        )
        .ok();
        out.extend_from_slice(head.as_bytes());
        let language = SENTENCES
            .get(usize::try_from(n % 4).unwrap_or(0))
            .copied()
            .unwrap_or_default();
        let mut chance = mix(n ^ 0x5eed);
        while out.len() - start < EVENT_BYTES - 40 {
            chance = mix(chance);
            let choice = usize::try_from(chance % language.len() as u64).unwrap_or(0);
            out.extend_from_slice(language.get(choice).copied().unwrap_or_default().as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(br#""}"#);
    }
}

/// Signs webhooks as Standard Webhooks says.
pub struct Signer {
    key: hmac::Key,
}

impl Signer {
    /// The key behind `whsec_`.
    pub fn new(key: &[u8]) -> Signer {
        Signer {
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    pub fn signature(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    }

    /// Writes a signed `POST /hooks/{channel}` into `out`, replacing what was there.
    pub fn write_webhook(
        &self,
        out: &mut Vec<u8>,
        channel: &str,
        id: &str,
        now_seconds: i64,
        body: &[u8],
    ) {
        let timestamp = now_seconds.to_string();
        let signature = self.signature(id, &timestamp, body);
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", id),
            ("webhook-timestamp", &timestamp),
            ("webhook-signature", &signature),
        ];
        http::write_request(out, "POST", &format!("/hooks/{channel}"), &headers, body);
    }
}

/// Spreads consecutive numbers evenly (the finaliser of SplitMix64).
pub fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

const SENTENCES: [&[&str]; 4] = [
    &[
        "The parcel was meant to come on Tuesday, and the driver never rang the bell.",
        "I have checked with both of my neighbours and neither of them has it.",
        "Your tracking page still says that it is being prepared for the journey.",
        "Could you please tell me whether it has left the warehouse at all?",
        "The lid of the blue teapot arrived with a crack along the handle.",
        "I would rather have a replacement than my money back, if that is possible.",
        "My daughter's birthday is on Saturday, so there is not much time left.",
        "The invoice shows two of them, although I ordered only a single one.",
        "I tried to change the address on the website, but the button does nothing.",
        "Thank you for the quick answer last week, that was very helpful.",
        "Please do not send it to the pickup shop, since I cannot carry it home.",
        "The colour in the picture is much warmer than what I have in front of me.",
    ],
    &[
        "Das Paket sollte am Dienstag kommen, aber bei mir hat niemand geklingelt.",
        "Ich habe beide Nachbarn gefragt, und keiner von ihnen hat es angenommen.",
        "In der Sendungsverfolgung steht immer noch, dass es vorbereitet wird.",
        "Sagen Sie mir bitte, ob es das Lager schon verlassen hat?",
        "Der Deckel der blauen Kanne hat einen Sprung, der bis zum Griff reicht.",
        "Ein Ersatz ist mir lieber als das Geld, falls das noch geht.",
        "Am Samstag hat meine Tochter Geburtstag, viel Zeit bleibt also nicht.",
        "Auf der Rechnung stehen zwei, obwohl ich nur eine einzige bestellt habe.",
        "Ich wollte die Anschrift selbst berichtigen, doch der Knopf tut nichts.",
        "Vielen Dank noch einmal, dass Sie letzte Woche so schnell geantwortet haben.",
        "Bitte nicht in den Paketladen schicken, ich kann es nicht nach Hause tragen.",
        "Auf dem Bild ist die Farbe viel heller als bei dem, was hier vor mir liegt.",
    ],
    &[
        "Le colis devait arriver mardi et le livreur n'a jamais frappé à la porte.",
        "J'ai demandé à mes deux voisins, et personne ne l'a reçu à ma place.",
        "La page de suivi indique toujours que la commande est en préparation.",
        "Pouvez-vous me dire si elle a déjà quitté votre entrepôt ?",
        "Le couvercle de la théière bleue est fendu jusqu'à la poignée.",
        "Je préfère un échange à un remboursement, si cela est encore possible.",
        "L'anniversaire de ma fille est samedi, il ne reste donc que peu de temps.",
        "La facture en compte deux alors que je n'en ai commandé qu'une seule.",
        "J'ai voulu corriger l'adresse moi-même, mais le bouton ne fait rien.",
        "Merci encore pour votre réponse si rapide de la semaine dernière.",
        "Ne l'envoyez pas au point relais, je ne peux pas le porter chez moi.",
        "Sur la photo, la couleur est bien plus claire que celle que j'ai reçue.",
    ],
    &[
        "El paquete tenía que llegar el martes y nadie ha llamado a mi puerta.",
        "He preguntado a mis dos vecinos y ninguno de ellos lo ha recogido.",
        "En la página de seguimiento todavía pone que se está preparando.",
        "¿Me pueden decir, por favor, si ya ha salido del almacén?",
        "La tapa de la tetera azul ha llegado con una grieta junto al asa.",
        "Prefiero que me envíen otra a que me devuelvan el dinero, si es posible.",
        "El sábado es el cumpleaños de mi hija, así que queda muy poco tiempo.",
        "En la factura aparecen dos, aunque yo solamente había pedido una.",
        "Quise corregir la dirección en la web, pero el botón no hace nada.",
        "Muchas gracias otra vez por contestar tan pronto la semana pasada.",
        "No lo manden al punto de recogida, porque no puedo llevarlo hasta casa.",
        "En la foto el color es mucho más claro que el que tengo aquí delante.",
    ],
];
