//! Which prefixes and lengths card issuers use (ISO/IEC 7812 issuer identification numbers, as
//! the schemes publish them).

/// True when an issuer uses this prefix at this length.
pub fn is_known(digits: &[u8]) -> bool {
    let count = digits.len();
    let Some(prefix) = prefix(digits) else {
        return false;
    };
    let (four, three, two) = (prefix / 100, prefix / 1_000, prefix / 10_000);
    let visa = two / 10 == 4 && matches!(count, 13 | 16 | 18 | 19);
    let mastercard = (matches!(two, 51..=55) || matches!(four, 2221..=2720)) && count == 16;
    let amex = matches!(two, 34 | 37) && count == 15;
    let diners = (matches!(three, 300..=305 | 309) && count == 14)
        || (matches!(two, 36 | 38 | 39) && matches!(count, 14 | 16));
    let jcb = matches!(four, 3528..=3589) && (16..=19).contains(&count);
    // Discover and its partners, RuPay.
    let discover =
        (four == 6011 || matches!(three, 644..=649) || two == 65) && (16..=19).contains(&count);
    let unionpay = two == 62 && (16..=19).contains(&count);
    let maestro = (matches!(four, 5018 | 5020 | 5038 | 5893 | 6304 | 6390) || two == 67)
        && (13..=19).contains(&count);
    let mir = matches!(four, 2200..=2204) && (16..=19).contains(&count);
    let verve = (matches!(four, 5060 | 5061) || matches!(prefix, 507_865..=507_964))
        && matches!(count, 16 | 18 | 19);
    // RuPay, Dankort, Elo, Hipercard, InterPayment, Troy, Humo and Uzcard.
    let others = count == 16
        && (matches!(three, 508 | 607 | 608 | 636)
            || matches!(
                four,
                5019 | 5066 | 5067 | 5090 | 6277 | 6362 | 6363 | 9792 | 9860 | 8600
            )
            || prefix == 606_282);
    visa || mastercard
        || amex
        || diners
        || jcb
        || discover
        || unionpay
        || maestro
        || mir
        || verve
        || others
}

/// Visa issues no 13-digit cards any more. Such a number without a word about cards is as likely
/// a German or Austrian phone number without its plus, or an article number (EAN-13).
pub fn may_be_something_else(digits: &[u8]) -> bool {
    digits.len() == 13
        && digits.first() == Some(&4)
        && (matches!(digits.get(1), Some(3 | 9)) || is_ean13(digits))
}

fn prefix(digits: &[u8]) -> Option<u32> {
    let first = digits.get(..6)?;
    Some(
        first
            .iter()
            .fold(0, |sum, &digit| sum * 10 + u32::from(digit)),
    )
}

/// GS1 check digit: weights 1 and 3 in turn.
fn is_ean13(digits: &[u8]) -> bool {
    let weights = [1, 3].into_iter().cycle();
    let sum: u32 = digits
        .iter()
        .zip(weights)
        .map(|(&digit, weight)| u32::from(digit) * weight)
        .sum();
    sum.is_multiple_of(10)
}
