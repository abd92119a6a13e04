use super::run::passes_luhn;
use super::*;

/// A small generator with a seed, so that every run checks the same numbers (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 33).expect("31 bits fit") % bound
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count)
            .map(|_| char::from(b'0' + u8::try_from(self.below(10)).expect("one digit")))
            .collect()
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

/// Prefix and length of the cards that are in people's pockets.
const BRANDS: &[(&str, usize)] = &[
    ("4", 16),
    ("4", 16),
    ("4", 19),
    ("51", 16),
    ("53", 16),
    ("55", 16),
    ("2221", 16),
    ("2450", 16),
    ("2720", 16),
    ("34", 15),
    ("37", 15),
    ("6011", 16),
    ("644", 16),
    ("65", 16),
    ("3528", 16),
    ("3589", 16),
    ("300", 14),
    ("305", 14),
    ("36", 14),
    ("38", 14),
    ("62", 16),
    ("622126", 17),
    ("62", 19),
    ("5018", 16),
    ("6304", 18),
    ("6759", 19),
    ("6761", 13),
    ("2200", 16),
    ("508", 16),
];

fn pan(random: &mut Random) -> String {
    let (prefix, length) = BRANDS[random.below(BRANDS.len())];
    let body = format!("{prefix}{}", random.digits(length - prefix.len() - 1));
    (0..10)
        .map(|check| format!("{body}{check}"))
        .find(|number| passes_luhn(&values(number)))
        .expect("one of ten check digits fits")
}

fn values(number: &str) -> Vec<u8> {
    number.bytes().map(|digit| digit - b'0').collect()
}

/// Puts `separator` where the card has its gaps.
fn grouped(pan: &str, separator: &str) -> String {
    let gaps: &[usize] = match pan.len() {
        14 | 15 => &[4, 10],
        13 => &[4, 7, 10],
        _ => &[4, 8, 12, 16],
    };
    let mut out = String::new();
    for (at, digit) in pan.chars().enumerate() {
        if gaps.contains(&at) {
            out.push_str(separator);
        }
        out.push(digit);
    }
    out
}

fn in_script(pan: &str, zero: char) -> String {
    pan.chars()
        .map(|digit| match digit.to_digit(10) {
            Some(value) => {
                char::from_u32(zero as u32 + value).expect("scripts have ten digits in a row")
            }
            None => digit,
        })
        .collect()
}

const SPELLINGS: usize = 12;

fn spell(pan: &str, spelling: usize) -> String {
    match spelling {
        0 => pan.to_owned(),
        1 => grouped(pan, " "),
        2 => grouped(pan, "-"),
        3 => grouped(pan, "."),
        4 => grouped(pan, "\u{a0}"),
        5 => grouped(pan, "\u{2009}"),
        6 => grouped(pan, " - "),
        7 => grouped(pan, "\n"),
        8 => pan.chars().map(String::from).collect::<Vec<_>>().join(" "),
        9 => in_script(&grouped(pan, "\u{3000}"), '\u{ff10}'),
        10 => in_script(pan, '\u{660}'),
        _ => {
            let (head, tail) = pan.split_at(pan.len() / 2);
            format!("{}\r\n{tail}", head)
        }
    }
}

/// What may be left of a number: nothing beyond its first six and last four digits.
fn is_redacted(text: &str, pan: &str) -> bool {
    let plain: String = text
        .chars()
        .filter_map(digit_value)
        .map(|digit| char::from(b'0' + digit))
        .collect();
    let (head, rest) = pan.split_at(6);
    let (_, tail) = rest.split_at(rest.len() - 4);
    !plain.contains(pan) && text.contains(&format!("{head}*")) && text.contains(&format!("*{tail}"))
}

#[test]
fn ten_thousand_card_numbers_in_twelve_spellings_are_redacted() {
    const NUMBERS: usize = 10_000;
    let mut random = Random(0x5eed);
    let mut found = [0usize; SPELLINGS];
    for _ in 0..NUMBERS {
        let pan = pan(&mut random);
        for (spelling, count) in found.iter_mut().enumerate() {
            let mut text = format!(
                "Hello, please charge {} until 12/27, thanks",
                spell(&pan, spelling)
            );
            redact(&mut text);
            *count += usize::from(is_redacted(&text, &pan));
        }
    }
    let total: usize = found.iter().sum();
    let recall = total as f64 / (NUMBERS * SPELLINGS) as f64;
    println!("recall {:.3} %, by spelling {found:?}", recall * 100.0);
    assert!(
        recall >= 0.999,
        "recall is {:.3} %: {found:?}",
        recall * 100.0
    );
}

#[test]
fn ten_thousand_other_numbers_are_left_alone() {
    const NUMBERS: usize = 10_000;
    let mut random = Random(0xca4d);
    let mut wrong = Vec::new();
    for at in 0..NUMBERS {
        let number = other_number(&mut random, at);
        let text = format!("My number is {number}, thanks");
        if !find(&text).is_empty() {
            wrong.push(number);
        }
    }
    println!(
        "{} of {NUMBERS} other numbers taken for cards: {wrong:?}",
        wrong.len()
    );
    assert!(wrong.len() * 1_000 <= NUMBERS, "taken for cards: {wrong:?}");
}

/// An order, phone, account or tracking number as shops and carriers write them.
fn other_number(random: &mut Random, at: usize) -> String {
    match at % 20 {
        0 => format!("#{}", random.digits(6)),
        1 => format!(
            "{}-{}-{}",
            random.digits(3),
            random.digits(7),
            random.digits(7)
        ),
        2 => format!(
            "{}-{}-{}",
            random.digits(2),
            random.digits(5),
            random.digits(5)
        ),
        3 => format!("ORD-2026-{}", random.digits(8)),
        4 => format!("10{}", random.digits(12)),
        5 => random.digits(12),
        6 => format!("+49 1{} {}", random.digits(2), random.digits(8)),
        7 => format!(
            "+1 ({}) {}-{}",
            random.digits(3),
            random.digits(3),
            random.digits(4)
        ),
        8 => format!("0{}/{}", random.digits(3), random.digits(7)),
        9 => format!("0044 7{} {}", random.digits(3), random.digits(6)),
        10 => format!("491{}", random.digits(10)),
        11 => iban(random, "DE", 18, true),
        12 => iban(random, "FR", 23, false),
        13 => iban(random, "NL", 14, true),
        14 => format!(
            "1Z{}{}",
            random.one_of(&["A1B", "9X8", "E12"]),
            random.digits(13)
        ),
        15 => grouped_by_four(&format!("94{}", random.digits(20))),
        16 => format!("JJD{}", random.digits(18)),
        17 => format!("00340434{}", random.digits(12)),
        18 => format!("RR{}DE", random.digits(9)),
        _ => format!(
            "2026-{}-{} {}:{}",
            random.digits(2),
            random.digits(2),
            random.digits(2),
            random.digits(2)
        ),
    }
}

/// An account number with its check digits (ISO 7064 MOD 97-10).
fn iban(random: &mut Random, country: &str, length: usize, spaced: bool) -> String {
    let account = random.digits(length);
    let letters: String = country
        .bytes()
        .map(|letter| (u32::from(letter) - 55).to_string())
        .collect();
    let digits = format!("{account}{letters}00");
    let rest = digits.bytes().fold(0u32, |rest, digit| {
        (rest * 10 + u32::from(digit - b'0')) % 97
    });
    let iban = format!("{country}{:02}{account}", 98 - rest);
    if spaced { grouped_by_four(&iban) } else { iban }
}

fn grouped_by_four(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    chars
        .chunks(4)
        .map(|chunk| chunk.iter().collect::<String>())
        .collect::<Vec<_>>()
        .join(" ")
}

fn check(text: &str, expected: &str) {
    let mut redacted = text.to_owned();
    redact(&mut redacted);
    assert_eq!(redacted, expected, "{text}");
}

#[test]
fn the_first_six_and_last_four_digits_may_stay() {
    check("4111111111111111", "411111******1111");
    check(
        "pay with 4111 1111 1111 1111 please",
        "pay with 411111******1111 please",
    );
    check("3782-822463-10005", "378282*****0005");
    check("30569309025904.", "305693****5904.");
}

#[test]
fn a_card_is_found_among_other_numbers() {
    check(
        "4111 1111 1111 1111 12/27 123",
        "411111******1111 12/27 123",
    );
    check("4111 1111 1111 1111 1227 123", "411111******1111 1227 123");
    check(
        "order 77 4111111111111111 10001",
        "order 77 411111******1111 10001",
    );
    check(
        "5555555555554444, 4012888888881881",
        "555555******4444, 401288******1881",
    );
    check("> 4111 1111\n> 1111 1111", "> 411111******1111");
    check("VISA4111111111111111", "VISA411111******1111");
    check("卡号4111111111111111是", "卡号411111******1111是");
    check("4️⃣111 1111 1111 1111", "411111******1111");
    check("my old card 4222222222222", "my old card 422222***2222");
    check(
        "card 4111111111111111exp12/27",
        "card 411111******1111exp12/27",
    );
    check(
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 12/27",
        "411111******1111 12/27",
    );
    check(
        "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1, 12/27.",
        "411111******1111, 12/27.",
    );
    check(
        "4111/1111/1111/1111 4111_1111_1111_1111",
        "411111******1111 411111******1111",
    );
    check("4111-1111 1111.1111", "411111******1111");
    check("4111 1111 11\r\n11 1111", "411111******1111");
    check("411111 1111111111", "411111******1111");
    check("४१११ ११११ ११११ ११११", "411111******1111");
}

#[test]
fn hostile_text_is_searched_in_linear_time() {
    for piece in [
        "4111111111111111 ",
        "4111 ",
        "4 ",
        "DE89 4111 ",
        "1",
        "٤",
        "4-",
        "4\n",
    ] {
        let text = piece.repeat(100_000 / piece.len());
        let mut redacted = text.clone();
        redact(&mut redacted);
        assert!(redacted.len() <= text.len(), "{piece}");
    }
}

#[test]
fn numbers_that_are_no_cards_stay() {
    for text in [
        "4111111111111112",
        "DE89 3704 0044 0532 0130 00",
        "GB82 WEST 1234 5698 7654 32",
        "1Z4111111111111111",
        "41111111111111111111111",
        "4111x1111x1111x1111",
        "550e8400-e29b-41d4-a716-446655440000",
        "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
        "",
    ] {
        check(text, text);
    }
}
