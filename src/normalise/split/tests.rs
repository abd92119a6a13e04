use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::*;
use crate::normalise::clean::{Lines, Removed, clean};
use crate::normalise::html;

/// Checks the new words of `text`, white space aside.
fn check(text: &str, expected: &str) {
    let visible = split(text).visible(text);
    assert_eq!(words(&visible), words(expected), "{text}");
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn introductions_in_many_languages_end_the_new_words() {
    for header in [
        "On Tue, 3 Mar 2026 at 10:12, Shop Support <help@shop.example> wrote:",
        "On Tue, 3 Mar 2026 at 10:12, Shop Support\n<help@shop.example> wrote:",
        "On Mar 3, 2026, at 10:12 AM, Shop Support <help@shop.example>\nwrote:",
        "Am 03.03.2026 um 10:12 schrieb Shop Support <help@shop.example>:",
        "Am Di., 3. März 2026 um 10:12 Uhr schrieb Shop Support <\nhelp@shop.example>:",
        "Shop Support <help@shop.example> schrieb am Di., 3. März 2026, 10:12:",
        "Le mar. 3 mars 2026 à 10:12, Shop Support <help@shop.example> a écrit :",
        "El mar, 3 mar 2026 a las 10:12, Shop Support (<help@shop.example>) escribió:",
        "Il giorno mar 3 mar 2026 alle ore 10:12 Shop Support <help@shop.example> ha scritto:",
        "Op di 3 mrt 2026 om 10:12 schreef Shop Support <help@shop.example>:",
        "W dniu 3.03.2026 o 10:12, Shop Support pisze:",
        "wt., 3 mar 2026 o 10:12 Shop Support <help@shop.example> napisał(a):",
        "Em ter., 3 de mar. de 2026 às 10:12, Shop Support <help@shop.example> escreveu:",
        "Den tis 3 mars 2026 kl 10:12 skrev Shop Support <help@shop.example>:",
        "3.3.2026, 10:12, \"Shop Support\" <help@shop.example>:",
        "вт, 3 мар. 2026 г. в 10:12, Shop Support <help@shop.example> написал:",
        "út 3. 3. 2026 v 10:12 odesílatel Shop Support <help@shop.example> napsal:",
        "2026年3月3日 10:12，Shop Support <help@shop.example> 写道：",
    ] {
        check(
            &format!("It is the blue one.\n\n{header}\n\n> Which one?\n"),
            "It is the blue one.",
        );
        check(
            &format!("It is the blue one.\n\n{header}\n\nWhich one?\n"),
            "It is the blue one.",
        );
    }
}

#[test]
fn header_blocks_and_separators_end_the_new_words() {
    for header in [
        "-----Original Message-----\nFrom: Shop",
        "________________________________\nFrom: Shop <help@shop.example>\nSent: Tuesday, 3 March 2026 10:12\nTo: Ada\nSubject: Which one",
        "*From:* Shop <help@shop.example>\n*Sent:* Tuesday\n*To:* Ada\n*Subject:* Which one",
        "**Von:** Shop\n**Gesendet:** Dienstag\n**An:** Ada\n**Betreff:** AW: Welche",
        "Von: Shop [mailto:help@shop.example]\nGesendet: Dienstag, 3. März 2026 10:12\nAn: Ada\nBetreff: Welche",
        "De : Shop <help@shop.example>\nEnvoyé : mardi 3 mars 2026 10:12\nÀ : Ada\nObjet : RE: Laquelle",
        "De: Shop <help@shop.example>\nEnviado el: martes, 3 de marzo de 2026 10:12\nPara: Ada\nAsunto: RE: Cuál",
        "Da: Shop <help@shop.example>\nInviato: martedì 3 marzo 2026 10:12\nA: Ada\nOggetto: R: Quale",
        "Van: Shop <help@shop.example>\nVerzonden: dinsdag 3 maart 2026 10:12\nAan: Ada\nOnderwerp: RE: Welke",
        "Od: Shop <help@shop.example>\nWysłano: wtorek, 3 marca 2026 10:12\nDo: Ada\nTemat: Odp: Który",
        "-------- Ursprüngliche Nachricht --------\nVon: Shop",
        "-------- Message d'origine --------\nDe: Shop",
        "Begin forwarded message:\n\nFrom: Shop",
    ] {
        check(
            &format!("It is the blue one.\n\n{header}\n\nWhich one?\n"),
            "It is the blue one.",
        );
    }
}

#[test]
fn signatures_are_told_from_words() {
    for signature in [
        "-- \nAda Lovelace\nAnalytical Engines Ltd",
        "--\nAda Lovelace",
        "Sent from my iPhone",
        "Von meinem iPhone gesendet",
        "Gesendet von Outlook für Android<https://aka.ms/AAb9ysg>",
        "Envoyé de mon iPhone",
        "Enviado desde mi iPhone",
        "Inviato da iPhone",
        "Verstuurd vanaf mijn iPhone",
        "Wysłane z iPhone'a",
        "Get Outlook for iOS<https://aka.ms/o0ukef>",
        "______\nlist mailing list\nlist@lists.example",
    ] {
        check(
            &format!("It is the blue one.\n\n{signature}\n"),
            "It is the blue one.",
        );
        check(
            &format!(
                "It is the blue one.\n\n{signature}\n\nOn 3 Mar 2026 10:12, Shop wrote:\n> Which?\n"
            ),
            "It is the blue one.",
        );
    }
}

#[test]
fn what_only_looks_like_a_quotation_stays() {
    for text in [
        "Hello,\nOn Monday 3 March I wrote:\nplease send the blue one.\nNobody answered.",
        "On the other hand it is blue.\nOn 3 March it was red.",
        "Red\n--\nGreen\n--\nBlue",
        "Options:\n-- red\n-- blue",
        "From: Berlin\nTo: Paris\nplease deliver it there",
        "It is blue.\n\nSent with DHL on Monday",
        "It is blue.\n\nVon meinem Konto wurden 20 Euro abgebucht",
        "the price\n>100 euro is too much",
        "Sent from my iPhone\n\nPS: it is the blue one, not the red one.",
        "one line",
        "",
    ] {
        check(text, text);
    }
}

#[test]
fn answers_between_and_below_quoted_lines_are_kept() {
    check(
        "On 3 Mar 2026, Shop wrote:\n> Which colour?\nBlue.\n> Which size?\n42.\n\nThanks",
        "Blue. 42. Thanks",
    );
    check("> Which colour?\n> Which size?\n\nBlue, 42.", "Blue, 42.");
}

#[test]
fn a_mail_with_nothing_new_keeps_its_whole_text() {
    for text in [
        "> Which colour?\n> Which size?",
        "On 3 Mar 2026 10:12, Shop <help@shop.example> wrote:\n\nWhich colour?",
        "-- \nAda",
    ] {
        check(text, text);
        assert!(split(text).is_whole(), "{text}");
    }
}

#[test]
fn parts_cover_every_word_once() {
    let text = "Blue.\n\n-- \nAda\n\nOn 3 Mar 2026 10:12, Shop wrote:\n> Which?\n";
    let split = split(text);
    let parts = split
        .own
        .iter()
        .chain(&split.signature)
        .chain(&split.quoted);
    let all: Vec<&str> = parts.filter_map(|part| text.get(part.clone())).collect();
    assert_eq!(words(&all.join("\n")), words(text));
}

#[test]
fn hostile_text_is_split_in_linear_time() {
    for piece in [
        "1\n",
        "On 3 Mar\n",
        "On 3 Mar 2026 10:12, Shop wrote:\n> a\n",
        "On 3 Mar 2026 10:12, Shop <a@b.example>\n",
        "From: a@b.example\n",
        "wrote @ 1:\n",
        "> a\nb\n",
        "--\n",
        "____\n\n",
        "Sent from my iPhone\n",
        "\n",
    ] {
        let text = piece.repeat(60_000 / piece.len());
        let split = split(&text);
        assert!(split.visible(&text).len() <= text.len() * 3, "{piece}");
    }
}

#[derive(Deserialize)]
struct Expected {
    words: usize,
    first: String,
    last: String,
    hash: String,
}

/// The least share of files whose new words are exactly those a person would take.
const EXACT_SHARE_MIN: f64 = 0.95;

/// The table has every file of the folder; a new one has to be read before it counts.
fn expected() -> BTreeMap<String, Expected> {
    let table =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/reply_split/expected.toml");
    let table = std::fs::read_to_string(&table).expect("the table of expected splits is there");
    let table: BTreeMap<String, Expected> = toml::from_str(&table).expect("the table is valid");
    let files = std::fs::read_dir(shared().join("fixtures/email_reply")).expect("the folder lists");
    let mut files: Vec<String> = files
        .map(|file| file.expect("it has a name").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(table.keys().cloned().collect::<Vec<_>>(), files);
    table
}

#[test]
fn real_replies_are_split_as_a_person_would() {
    let table = expected();
    let mut exact = 0;
    for (file, expected) in &table {
        let text = readable(file);
        let found = words(&split(&text).visible(&text));
        if format!("{:016x}", fnv1a(&found)) == expected.hash {
            exact += 1;
            assert_eq!(found.split(' ').count(), expected.words, "{file}");
        } else {
            println!("{file}: not exact: {found}");
        }
    }
    let share = f64::from(exact) / table.len() as f64;
    println!(
        "{exact} of {} replies split exactly: {:.1} %",
        table.len(),
        share * 100.0
    );
    assert!(
        share >= EXACT_SHARE_MIN,
        "only {:.1} % of the replies are split exactly",
        share * 100.0
    );
}

#[test]
fn no_word_of_a_customer_is_lost_in_any_reply() {
    for (file, expected) in expected() {
        let text = readable(&file);
        let found = words(&split(&text).visible(&text));
        assert!(
            holds_words(&found, &expected),
            "{file}: new words were lost: {found}"
        );
    }
}

/// Whether a run of words in `found` is the expected text.
fn holds_words(found: &str, expected: &Expected) -> bool {
    let words: Vec<&str> = found.split(' ').collect();
    words.windows(expected.words).any(|run| {
        run.first() == Some(&expected.first.as_str())
            && run.last() == Some(&expected.last.as_str())
            && format!("{:016x}", fnv1a(&run.join(" "))) == expected.hash
    })
}

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The text of one file as it comes out of clean-up, before the split.
fn readable(file: &str) -> String {
    let path = shared().join("fixtures/email_reply").join(file);
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()));
    let raw = String::from_utf8_lossy(&bytes).replace("\r\n", "\n");
    let raw = if file.ends_with("_R_S") {
        unmarked(&raw)
    } else {
        raw
    };
    let mut text = match Path::new(file)
        .extension()
        .and_then(|extension| extension.to_str())
    {
        Some("html") => html::to_text(&raw),
        Some("eml") => plain_part(&raw),
        _ => raw,
    };
    clean(
        &mut text,
        Lines::Kept,
        usize::MAX,
        "text",
        &mut Removed::default(),
    );
    text
}

/// One file has its authors' marks before quoted lines and before the signature, and a header.
fn unmarked(raw: &str) -> String {
    let (_, body) = raw.split_once("\n\n").unwrap_or(("", raw));
    body.replace("#reply#", "").replace("#sig#", "")
}

/// The plain text of a simple mail: enough for these few.
fn plain_part(mail: &str) -> String {
    let (head, body) = mail
        .split_once("\n\n")
        .expect("a mail has a header and a body");
    let Some((_, boundary)) = head.split_once("boundary=") else {
        return body.to_owned();
    };
    let boundary = boundary
        .lines()
        .next()
        .unwrap_or_default()
        .trim_matches('"');
    body.split(&format!("--{boundary}"))
        .filter_map(|part| part.split_once("\n\n"))
        .find(|(head, _)| head.contains("text/plain"))
        .map(|(_, text)| text.to_owned())
        .expect("a multipart mail has a plain part")
}

fn shared() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let shared = std::env::var_os("SWITCHBOARD_SHARED").map_or(default, PathBuf::from);
    assert!(
        shared.join("fixtures/email_reply").is_dir(),
        "{} has no fixtures/email_reply: set SWITCHBOARD_SHARED to the folder of shared fixtures",
        shared.display()
    );
    shared
}
