//! Subjects of mails: the marks that mail programs put before them. An answer has "Re: " and what it
//! answers (RFC 5322, section 3.6.5), once; where two subjects are compared the marks do not count.

use connector_api::Namespace;

/// What is put before the subject of an answer, in lower case and without the colon: English, German,
/// Dutch, Scandinavian, Finnish, Polish, Turkish, Italian, Portuguese, Hungarian, Latvian, Welsh,
/// Greek, Hebrew, Chinese, Japanese and Korean marks.
const OF_ANSWERS: [&str; 22] = [
    "re", "aw", "antw", "antwort", "sv", "vs", "odp", "ynt", "rif", "r", "res", "vá", "atb",
    "atb.", "απ", "σχετ", "השב", "回复", "回覆", "答复", "返信", "회신",
];
/// The same of what is forwarded: English, German, French and Spanish.
const OF_FORWARDS: [&str; 5] = ["fw", "fwd", "wg", "tr", "rv"];

/// The subject of an answer in a conversation of this subject: by mail it says that it is one. What
/// says so already, in whatever language, stays as it is.
pub fn of_answer(to: &Namespace, subject: Option<String>) -> Option<String> {
    let by_mail = |subject: String| match marked(&subject, &OF_ANSWERS) {
        Some(_) => subject,
        None => format!("Re: {subject}"),
    };
    match *to == Namespace::email() {
        true => subject.map(by_mail),
        false => subject,
    }
}

/// A subject to be compared: without marks, in lower case and single spaces.
pub fn plain(subject: &str) -> String {
    let words: Vec<&str> = subject.split_whitespace().collect();
    let plain = words.join(" ").to_lowercase();
    let mut rest = plain.as_str();
    while let Some(after) = marked(rest, &OF_ANSWERS).or_else(|| marked(rest, &OF_FORWARDS)) {
        rest = after;
    }
    rest.to_owned()
}

/// What follows one of these marks: `Re: …`, `RE[2]: …`, `AW : …`, `Re：…`.
fn marked<'s>(subject: &'s str, marks: &[&str]) -> Option<&'s str> {
    let (mark, rest) = subject.trim_start().split_once([':', '：'])?;
    let mark = mark.trim_end().to_lowercase();
    // Some programs count.
    let counted = mark
        .strip_suffix([']', ')'])
        .and_then(|mark| mark.rsplit_once(['[', '(']));
    let mark = match &counted {
        Some((mark, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => mark.trim_end(),
        _ => mark.as_str(),
    };
    marks.contains(&mark).then(|| rest.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered_by_mail(subject: &str) -> String {
        of_answer(&Namespace::email(), Some(subject.to_owned())).unwrap()
    }

    #[test]
    fn an_answer_says_so_once_in_whatever_language_it_was_said_before() {
        for fresh in [
            "Order 17",
            "Refund: order 17",
            "Fwd: Order 17",
            "WG: Bestellung",
            "Rechnung",
            "re order 17",
            "R2: broken",
            "Reg: order",
            "",
            "[shop] Re: Order 17",
        ] {
            assert_eq!(answered_by_mail(fresh), format!("Re: {fresh}"));
        }
        for answered in [
            "Re: Order 17",
            "RE: RE: Order 17",
            "re:Order 17",
            "  Re : Commande 17",
            "Re[2]: Order 17",
            "RE(3): Order 17",
            "AW: Bestellung 17",
            "Antwort: Bestellung 17",
            "Antw: Bestelling 17",
            "SV: Beställning 17",
            "VS: Tilaus 17",
            "Odp: Zamówienie 17",
            "YNT: Sipariş 17",
            "R: Ordine 17",
            "RES: Pedido 17",
            "Vá: Rendelés 17",
            "ΑΠ: Παραγγελία 17",
            "回复：订单 17",
            "答复: 订单 17",
        ] {
            assert_eq!(answered_by_mail(answered), answered);
        }
    }
    #[test]
    fn elsewhere_than_by_mail_a_subject_stays_as_it_is() {
        let chat = Namespace::account("webhook", "shop-chat");
        let known = Some("Order 17".to_owned());
        assert_eq!(of_answer(&chat, known.clone()), known);
        assert_eq!(of_answer(&Namespace::email(), None), None);
    }

    #[test]
    fn subjects_are_compared_without_the_marks_of_answers_and_forwards() {
        for marked in [
            "Order 17",
            "RE: AW: order  17",
            "Fwd: Re[2]: Order 17",
            "WG : order 17",
            "回复：Order 17",
        ] {
            assert_eq!(plain(marked), "order 17");
        }
        assert_eq!(plain("Refund: order 17"), "refund: order 17");
        assert_eq!(plain("Re:"), "");
    }
}
