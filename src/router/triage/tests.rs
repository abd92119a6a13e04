use std::path::{Path, PathBuf};

use super::*;

fn labels(subject: &str, text: &str) -> Labels {
    let input = TriageInput {
        subject: Some(subject),
        text,
        ..TriageInput::default()
    };
    classify(&input, Keywords::builtin())
}

#[test]
fn what_a_customer_wants_is_found_in_seven_languages() {
    for (text, intent) in [
        (
            "Where is my order? It should be here since Monday.",
            "delivery",
        ),
        ("Wo bleibt mein Paket?", "delivery"),
        ("Je n'ai toujours pas reçu mon colis.", "delivery"),
        ("¿Dónde está mi pedido?", "delivery"),
        ("Waar blijft mijn pakket?", "delivery"),
        ("Il mio pacco non è ancora arrivato.", "delivery"),
        ("Gdzie jest moja paczka?", "delivery"),
        ("Please cancel my order", "order"),
        ("Ich möchte meine Bestellung stornieren", "order"),
        ("Je voudrais annuler ma commande", "order"),
        ("Quiero cancelar mi pedido", "order"),
        ("Ik wil mijn bestelling annuleren", "order"),
        ("Vorrei annullare il mio ordine", "order"),
        ("Chcę anulować zamówienie", "order"),
        ("I want my money back", "refund"),
        ("Wann bekomme ich meine Rückerstattung?", "refund"),
        ("Wann kommt die Rueckerstattung", "unknown"),
        ("Quand serai-je remboursée ?", "refund"),
        ("Quiero un reembolso", "refund"),
        ("Wanneer krijg ik mijn geld terug?", "refund"),
        ("Quando arriva il rimborso?", "unknown"),
        ("Proszę o zwrot pieniędzy", "refund"),
        ("How do I get a return label?", "return"),
        ("ICH MÖCHTE DIE SCHUHE ZURÜCKSCHICKEN", "return"),
        ("Ich moechte die Schuhe zurueckschicken", "return"),
        ("Je souhaite retourner cet article", "return"),
        ("Quiero devolver el vestido", "return"),
        ("Kan ik deze schoenen retourneren?", "return"),
        ("Come posso fare un reso?", "return"),
        ("Chcę zwrócić towar", "return"),
        ("I was charged twice", "payment"),
        ("Ich brauche eine Rechnung", "payment"),
        ("Le paiement ne passe pas", "payment"),
        ("Is this jacket back in stock?", "product"),
        ("Welche Größe soll ich nehmen?", "product"),
        ("I want to make a complaint", "complaint"),
        (
            "Die Tasse kam zerbrochen an, das ist ein Fall für eine Reklamation",
            "complaint",
        ),
        ("Hello, how are you?", "unknown"),
        ("In return I can offer you nothing", "unknown"),
        ("My reorderings are arriving", "unknown"),
        ("I want a refund or you cancel my order", "unknown"),
    ] {
        assert_eq!(labels("", text).intent.value, intent, "{text}");
    }
}

#[test]
fn a_label_names_the_words_it_rests_on() {
    let labels = labels(
        "Urgent",
        "I am very disappointed. Where is my order? No tracking link either.",
    );
    assert_eq!(
        labels.intent.evidence,
        ["where is my order", "tracking link"]
    );
    assert_eq!(
        labels.urgency,
        Label::new("high", 80, vec!["urgent".to_owned()])
    );
    assert_eq!(labels.sentiment.value, "negative");
    assert!(labels.has("urgency:high") && labels.has("intent:delivery"));
    assert!(!labels.has("urgency:low") && !labels.has("mood:good") && !labels.has("urgency"));
}

#[test]
fn every_listed_intent_has_its_words_and_every_table_a_listed_intent() {
    let intents = tables::ALL.iter().filter_map(|table| match table.sign {
        keywords::Sign::Intent(intent) => Some(intent),
        _ => None,
    });
    assert_eq!(intents.collect::<Vec<_>>(), INTENTS);
}

#[test]
fn phrases_do_not_reach_over_the_subject_line() {
    assert_eq!(labels("money", "back to you").intent.value, UNKNOWN);
    assert_eq!(labels("", "money\nback").intent.value, "refund");
}

#[test]
fn language_is_named_only_where_it_is_clear() {
    for (text, language) in [
        (
            "Guten Tag, ich habe gestern etwas bestellt und noch keine Bestätigung bekommen.",
            "de",
        ),
        (
            "Hello, I ordered something yesterday and have not heard from you since.",
            "en",
        ),
        (
            "Bonjour, j'ai commandé hier et je n'ai pas encore eu de nouvelles de votre part.",
            "fr",
        ),
        (
            "Dzień dobry, wczoraj złożyłem zamówienie i nie dostałem potwierdzenia.",
            "pl",
        ),
        (
            "Здравствуйте, я вчера сделал заказ и не получил подтверждения.",
            "ru",
        ),
        ("ok", UNKNOWN),
        (
            "1234 5678 https://shop.example/orders/and/some/english/words",
            UNKNOWN,
        ),
        ("", UNKNOWN),
    ] {
        assert_eq!(labels("", text).language.value, language, "{text}");
    }
}

#[test]
fn automatic_mail_and_the_providers_spam_verdict_are_passed_on() {
    let input = TriageInput {
        automatic: Some(Automatic::Bounce),
        provider_spam: Some(true),
        ..TriageInput::default()
    };
    let labels = classify(&input, Keywords::builtin());
    assert_eq!(
        labels.automatic,
        Label::new("yes", 100, vec!["bounce".to_owned()])
    );
    assert!(labels.is_spam());
    assert!(!self::labels("", "win a free prize").is_spam());
}

#[test]
fn labels_are_stored_compactly_and_read_back() {
    let labels = labels(
        "",
        "Ich möchte bitte meine Bestellung stornieren, vielen Dank für die Hilfe",
    );
    let json = serde_json::to_string(&labels).expect("labels are JSON");
    assert!(
        json.contains(r#""intent":["order",70,["Bestellung stornieren"]]"#)
            || json.contains(r#""intent":["order",70,["bestellung stornieren"]]"#),
        "{json}"
    );
    assert!(!json.contains(UNKNOWN), "{json}");
    assert_eq!(
        serde_json::from_str::<Labels>(&json).expect("they read back"),
        labels
    );
    assert_eq!(
        serde_json::from_str::<Labels>("{}").expect("nothing is known"),
        Labels::default()
    );
}

/// Which of our intents a text of the public customer-support sample speaks of; empty: none.
fn accepted(intent: &str) -> &'static [&'static str] {
    match intent {
        "cancel_order" | "change_order" | "place_order" | "check_cancellation_fee" => &["order"],
        "track_order" => &["delivery", "order"],
        "delivery_options"
        | "delivery_period"
        | "change_shipping_address"
        | "set_up_shipping_address" => &["delivery"],
        "check_invoices" | "get_invoice" | "check_payment_methods" | "payment_issue" => {
            &["payment"]
        }
        "check_refund_policy" | "get_refund" | "track_refund" => &["refund"],
        "complaint" => &["complaint"],
        _ => &[],
    }
}

/// A wrong intent splits a conversation, so few may be wrong; a missing one costs nothing.
const PRECISION_MIN: f64 = 0.95;

#[test]
fn a_known_intent_is_nearly_always_right() {
    let table = std::fs::read_to_string(shared().join("bitext_cs/train20k.csv"))
        .expect("the sample is readable");
    let (mut right, mut wrong, mut unknown) = (0u32, 0u32, 0u32);
    for line in table.lines().skip(1).step_by(7) {
        let Some((rest, intent)) = line.rsplit_once(',') else {
            continue;
        };
        let Some((rest, _)) = rest.rsplit_once(',') else {
            continue;
        };
        let Some((_, text)) = rest.split_once(',') else {
            continue;
        };
        match labels("", text.trim_matches('"')).known_intent() {
            None => unknown += 1,
            Some(found) if accepted(intent).contains(&found) => right += 1,
            Some(found) => {
                wrong += 1;
                println!("{found} instead of {intent}: {text}");
            }
        }
    }
    let precision = f64::from(right) / f64::from(right + wrong);
    println!(
        "precision {:.2} % ({right} right, {wrong} wrong, {unknown} unknown)",
        precision * 100.0
    );
    assert!(
        right > 500 && precision >= PRECISION_MIN,
        "{right} right, {wrong} wrong"
    );
}

#[test]
fn a_known_language_is_nearly_always_right() {
    let table =
        std::fs::read_to_string(shared().join("langid/dev.tsv")).expect("the sample is readable");
    let (mut right, mut wrong, mut unknown) = (0u32, 0u32, 0u32);
    for line in table.lines().step_by(3) {
        let mut fields = line.split('\t');
        let (Some(language), Some("sentences"), Some(text)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        match labels("", text).known_language() {
            None => unknown += 1,
            Some(found) if found == language => right += 1,
            Some(_) => wrong += 1,
        }
    }
    let precision = f64::from(right) / f64::from(right + wrong);
    println!(
        "precision {:.2} % ({right} right, {wrong} wrong, {unknown} unknown)",
        precision * 100.0
    );
    assert!(
        right > 500 && precision >= 0.97,
        "{right} right, {wrong} wrong"
    );
}

fn shared() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("SWITCHBOARD_SHARED")
        .map_or(default, PathBuf::from)
        .join("triage");
    assert!(
        shared.is_dir(),
        "{} is missing: set SWITCHBOARD_SHARED to the folder of shared fixtures",
        shared.display()
    );
    shared
}
