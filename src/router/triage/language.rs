//! Which language a message is written in: an ISO 639-1 code, or `unknown` for short and unclear
//! texts. Common words decide where they are clear, which costs little; letter statistics decide
//! the rest. Links, addresses and numbers say nothing about it.

use std::collections::HashMap;
use std::sync::LazyLock;

use whatlang::{Detector, Lang};

use super::Label;

/// Below this many letters a guess is worth nothing.
const LETTERS_MIN: usize = 20;
/// Read at most, in bytes; more makes it slower, not better.
const BYTES_MAX: usize = 320;
/// So many common words, so far ahead of any other language, decide without statistics.
const WORDS_CLEAR_MIN: u32 = 3;
const WORDS_LEAD_MIN: u32 = 2;
/// How sure the statistics must be alone, and where at least some common words agree.
const CONFIDENCE_ALONE_MIN: f64 = 0.6;
const CONFIDENCE_AGREED_MIN: f64 = 0.05;
const WORDS_AGREEING_MIN: u32 = 2;
/// Shares of right answers, in per cent, as measured on sentences of 21 languages.
const COMMON_WORDS_CONFIDENCE: u8 = 95;
const AGREED_CONFIDENCE: u8 = 80;
/// A letter of a script that needs few letters to say much counts this often.
const DENSE_LETTER_WEIGHT: usize = 4;

/// Languages looked for, with their codes.
#[rustfmt::skip]
const LANGUAGES: &[(Lang, &str)] = &[
    (Lang::Eng, "en"), (Lang::Deu, "de"), (Lang::Fra, "fr"), (Lang::Spa, "es"), (Lang::Nld, "nl"),
    (Lang::Ita, "it"), (Lang::Pol, "pl"), (Lang::Por, "pt"), (Lang::Swe, "sv"), (Lang::Dan, "da"),
    (Lang::Nob, "nb"), (Lang::Fin, "fi"), (Lang::Ces, "cs"), (Lang::Slk, "sk"), (Lang::Hun, "hu"),
    (Lang::Ron, "ro"), (Lang::Tur, "tr"), (Lang::Rus, "ru"), (Lang::Ukr, "uk"), (Lang::Bul, "bg"),
    (Lang::Ell, "el"), (Lang::Ara, "ar"), (Lang::Heb, "he"), (Lang::Hin, "hi"), (Lang::Jpn, "ja"),
    (Lang::Kor, "ko"), (Lang::Cmn, "zh"), (Lang::Vie, "vi"), (Lang::Tha, "th"), (Lang::Ind, "id"),
];

/// Words that are frequent in one language; those of several count for each.
#[rustfmt::skip]
const COMMON_WORDS: &[(&str, &str)] = &[
    ("en", "the and you have not is are was were this that with for my your it what when where please from would could been has had they there will can do does i i'm i've don't haven't order ordered received thank thanks hello"),
    ("de", "der die das und ich nicht ist sind war habe haben mit für auf ein eine einen mein meine sie wir bitte wann wo von zu noch wurde auch aber dem den es im wie kann vielen dank hallo guten"),
    ("fr", "le la les et je vous nous pas est sont suis ai avez une des dans pour avec sur mon ma mes que qui ce cette mais du au bonjour merci votre n'ai j'ai c'est n'est été quand où"),
    ("es", "el la los las y que de no es por para con una mi he ha pero está cuando dónde como muy hola gracias quiero tengo del se su lo más todavía estoy buenos días"),
    ("nl", "de het een en ik niet is zijn was heb heeft met voor van op mijn uw jullie dat deze wat wanneer waar nog maar ook aan te bij graag alvast bedankt hallo geen wordt kan"),
    ("it", "il la lo gli e che non è sono ho ha di un una per con mio mia del della ma come quando dove questo grazie buongiorno vorrei anche più si nel alla stato ancora"),
    ("pl", "i w na z nie jest się to że do mam czy jak proszę dziękuję dzień dobry ale gdzie kiedy moje mój moja od dla za po nadal został jestem o"),
    ("pt", "o os as e que não é de do da um uma em para com meu minha você mas quando onde obrigado obrigada olá tenho foi ainda está por no na mais"),
    ("sv", "och jag inte är det att en ett på med för som har min mitt ni när var men till av hej tack kan den vi från om"),
    ("da", "og jeg ikke er det at en et på med for som har min mit når hvor men til af hej tak kan den vi fra om af blev"),
    ("nb", "og jeg ikke er det at en et på med for som har min mitt når hvor men til av hei takk kan den vi fra om ble"),
    ("fi", "ja ei en on että se olen mutta kun missä kiitos hei minun ole tilaus vielä myös tai oli ovat"),
    ("cs", "a je se na že to v s jsem ale kde kdy prosím děkuji dobrý den můj moje není byl pro o z jak by jste"),
    ("sk", "a je sa na že to v s som ale kde kedy prosím ďakujem dobrý deň môj moje nie bol pre o z ako by ste"),
    ("hu", "a az és nem is hogy van egy meg de mikor hol köszönöm kérem üdvözlöm rendelés még csak volt vagy ez"),
    ("ro", "și în nu este am de la cu pe că o un ce mai pentru dar când unde mulțumesc bună ziua comanda din sunt fost"),
    ("tr", "ve bir bu ne için ile da de ama çok değil var yok benim nerede zaman merhaba teşekkürler lütfen olarak daha"),
    ("ru", "и я не на что это вы мне мой мой мы как но есть был заказ здравствуйте спасибо пожалуйста когда где из для его очень меня уже ещё если от"),
    ("uk", "і я не на що це ви мені мій ми як але є був замовлення дякую коли де із для його дуже мене вже ще якщо від та"),
    ("bg", "и аз не на че това вие ми моята ние как но има беше поръчка здравейте благодаря моля кога къде от за много още ако е се да"),
    ("id", "dan yang di ke dari ini itu saya tidak ada untuk dengan akan sudah belum pesanan terima kasih kapan mana"),
    ("vi", "và là của có không tôi được cho này với những một các đã khi nào đâu cảm ơn chưa hàng"),
];

/// The language of subject and text together.
pub fn detect(subject: &str, text: &str) -> Label {
    static DETECTOR: LazyLock<Detector> = LazyLock::new(|| {
        Detector::with_allowlist(LANGUAGES.iter().map(|(lang, _)| *lang).collect())
    });
    let (words, weight) = words_of(text, subject);
    if weight < LETTERS_MIN {
        return Label::default();
    }
    let votes = Votes::count(&words);
    if let Some(best) = votes.clear() {
        return Label::new(best, COMMON_WORDS_CONFIDENCE, Vec::new());
    }
    let Some(info) = DETECTOR.detect(&words) else {
        return Label::default();
    };
    let code = LANGUAGES
        .iter()
        .find(|(lang, _)| *lang == info.lang())
        .map(|(_, code)| *code);
    let agreed = |code| votes.of(code) >= WORDS_AGREEING_MIN && votes.lead(code) > 0;
    match code {
        Some(code) if info.confidence() >= CONFIDENCE_ALONE_MIN => {
            Label::new(code, percent(info.confidence()), Vec::new())
        }
        Some(code) if info.confidence() >= CONFIDENCE_AGREED_MIN && agreed(code) => {
            Label::new(code, AGREED_CONFIDENCE, Vec::new())
        }
        _ => Label::default(),
    }
}

/// How many common words of each language a text holds.
struct Votes([u32; COMMON_WORDS.len()]);

impl Votes {
    fn count(words: &str) -> Self {
        // Only words of ours are keys, so the hash need not withstand an attacker's choice.
        type Languages = HashMap<&'static str, Vec<usize>, foldhash::fast::FixedState>;
        static LANGUAGES_OF: LazyLock<Languages> = LazyLock::new(|| {
            let mut languages = Languages::default();
            for (at, (_, words)) in COMMON_WORDS.iter().enumerate() {
                for word in words.split(' ') {
                    languages.entry(word).or_default().push(at);
                }
            }
            languages
        });
        let mut votes = [0; COMMON_WORDS.len()];
        for word in words.split(' ') {
            for &at in LANGUAGES_OF.get(word).into_iter().flatten() {
                if let Some(count) = votes.get_mut(at) {
                    *count += 1;
                }
            }
        }
        Self(votes)
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, u32)> {
        COMMON_WORDS.iter().map(|(code, _)| *code).zip(self.0)
    }

    fn of(&self, wanted: &str) -> u32 {
        self.iter()
            .find(|(code, _)| *code == wanted)
            .map_or(0, |(_, count)| count)
    }

    /// The language that is far ahead.
    fn clear(&self) -> Option<&'static str> {
        let (best, count) = self.iter().max_by_key(|(_, count)| *count)?;
        (count >= WORDS_CLEAR_MIN && self.lead(best) >= WORDS_LEAD_MIN).then_some(best)
    }

    /// By how much a language is ahead of all others.
    fn lead(&self, wanted: &str) -> u32 {
        let next = self
            .iter()
            .filter(|(code, _)| *code != wanted)
            .map(|(_, count)| count)
            .max();
        self.of(wanted).saturating_sub(next.unwrap_or(0))
    }
}

fn percent(share: f64) -> u8 {
    (1..=100)
        .rev()
        .find(|percent| f64::from(*percent) <= share * 100.0)
        .unwrap_or(0)
}

/// The words of text and subject in lower case, without those that hold digits, links or addresses;
/// and what their letters weigh together.
fn words_of(text: &str, subject: &str) -> (String, usize) {
    let mut words = String::with_capacity(BYTES_MAX + 64);
    let mut weight = 0;
    let is_word = |word: &&str| {
        let mut bytes = word.bytes();
        bytes.all(|byte| !matches!(byte, b'@' | b'/' | b'0'..=b'9')) && !word.starts_with("www.")
    };
    for word in text
        .split_whitespace()
        .chain(subject.split_whitespace())
        .filter(is_word)
    {
        if words.len() >= BYTES_MAX {
            break;
        }
        for c in word.chars().take(BYTES_MAX) {
            match c {
                'a'..='z' | '\'' => words.push(c),
                'A'..='Z' => words.push(c.to_ascii_lowercase()),
                '\u{2019}' => words.push('\''),
                _ if c.is_alphabetic() => words.extend(c.to_lowercase()),
                _ => continue,
            }
            weight += match c {
                '\u{2e80}'.. => DENSE_LETTER_WEIGHT,
                _ => 1,
            };
        }
        words.push(' ');
    }
    (words, weight)
}
