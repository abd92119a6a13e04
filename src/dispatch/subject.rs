//! The subject of an answer by mail: "Re: " and what it answers (RFC 5322, section 3.6.5), once.

use connector_api::Namespace;

/// What mail programs put before the subject of an answer, in lower case and without the colon:
/// English, German, Dutch, Scandinavian, Finnish, Polish, Turkish, Italian, Portuguese, Hungarian,
/// Welsh, Latvian, Greek, Hebrew, Chinese, Japanese and Korean ones. Marks of forwarded mail are none.
const MARKS: [&str; 22] = [
    "re", "aw", "antw", "antwort", "sv", "vs", "odp", "ynt", "rif", "r", "res", "vá", "atb",
    "atb.", "απ", "σχετ", "השב", "回复", "回覆", "答复", "返信", "회신",
];

/// The subject of an answer in a conversation of this subject: by mail it says that it is one.
pub fn of_answer(to: &Namespace, subject: Option<String>) -> Option<String> {
    match *to == Namespace::email() {
        true => subject.map(|subject| by_mail(&subject)),
        false => subject,
    }
}

/// What says already that it is an answer, in whatever language, stays as it is.
fn by_mail(subject: &str) -> String {
    match is_answer(subject) {
        true => subject.to_owned(),
        false => format!("Re: {subject}"),
    }
}

/// `Re: …`, `RE[2]: …`, `AW : …`, `Re：…`.
fn is_answer(subject: &str) -> bool {
    let Some((mark, _)) = subject.trim_start().split_once([':', '：']) else {
        return false;
    };
    let mark = mark.trim_end().to_lowercase();
    // Some programs count.
    let counted = mark
        .strip_suffix([']', ')'])
        .and_then(|mark| mark.rsplit_once(['[', '(']));
    let mark = match &counted {
        Some((mark, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => mark.trim_end(),
        _ => mark.as_str(),
    };
    MARKS.contains(&mark)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(by_mail(fresh), format!("Re: {fresh}"));
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
            assert_eq!(by_mail(answered), answered);
        }
    }
    #[test]
    fn elsewhere_than_by_mail_a_subject_stays_as_it_is() {
        let chat = Namespace::account("webhook", "shop-chat");
        let known = Some("Order 17".to_owned());
        assert_eq!(of_answer(&chat, known.clone()), known);
        assert_eq!(of_answer(&Namespace::email(), None), None);
    }
}
