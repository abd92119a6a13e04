use proptest::prelude::*;

use super::*;

const HERE: Scope = Scope { brand: 1, queue: 2 };
const THERE: Scope = Scope {
    brand: 1,
    queue: 23,
};

/// As asked of one scope, without what is the same in each.
fn fts(text: &str) -> String {
    let query = match Query::parse(text) {
        Ok(query) => query.to_fts(&[HERE]).unwrap(),
        Err(error) => return error.to_string(),
    };
    let query = query.replace("1b2q", "").replace(" AND ", " ");
    query.trim_matches(['(', ')']).to_owned()
}

#[test]
fn every_word_is_asked_for_in_each_scope_and_stands_in_one() {
    let query = Query::parse("\"money back\" ord*").unwrap();
    assert_eq!(
        query.to_fts(&[HERE, THERE]).unwrap(),
        "(\"1b2qmoney 1b2qback\" AND \"1b2qord\"*) OR (\"1b23qmoney 1b23qback\" AND \"1b23qord\"*)"
    );
    assert_eq!(query.to_fts(&[]), None);
    assert_eq!(
        indexed("Money-back, \u{9000}\u{6b3e}!", THERE),
        "1b23qmoney 1b23qback 1b23q\u{9000} 1b23q\u{6b3e} "
    );
}

#[test]
fn what_is_written_in_pieces_or_in_another_form_is_the_same_word() {
    for (query, text) in [
        // As macOS writes names of files: NFD.
        ("\u{304b}\u{3099}", "\u{304c}"),
        (
            "\u{1112}\u{116a}\u{11ab}\u{1107}\u{116e}\u{11af}",
            "\u{d658}\u{bd88}",
        ),
        (
            "\u{d658}\u{bd88}",
            "\u{1112}\u{116a}\u{11ab}\u{1107}\u{116e}\u{11af}",
        ),
        ("R\u{fc}ckgabe", "RU\u{308}CKGABE"),
        ("STRASSE", "Stra\u{df}e"),
        ("\u{3c3}\u{3bf}\u{3c2}", "\u{3a3}\u{39f}\u{3a3}"),
        ("\u{130}zmir", "izmir"),
    ] {
        let asked = Query::parse(query).unwrap();
        assert!(asked.is_in(&[text]), "{query} in {text}");
        let there = Query::parse(text).unwrap().to_fts(&[HERE]);
        assert_eq!(asked.to_fts(&[HERE]), there, "{query}");
    }
    let two = Query::parse("ada parcel").unwrap();
    assert!(two.is_in(&["my parcel", "from Ada"]));
    assert!(!two.is_in(&["my parcel", "from Adam"]));
    assert!(
        !Query::parse("\"ada parcel\"")
            .unwrap()
            .is_in(&["parcel", "ada"])
    );
}

#[test]
fn a_question_is_words_and_phrases_and_never_syntax() {
    for (text, expected) in [
        ("refund", "\"refund\""),
        ("where is  it", "\"where\" \"is\" \"it\""),
        ("\"money back\" please", "\"money back\" \"please\""),
        ("ord* A-1042", "\"ord\"* \"a 1042\""),
        ("\"lost par\"*", "\"lost par\"*"),
        ("ada@shop.example", "\"ada shop example\""),
        (
            "AND OR NOT (x) {y}: z^2 -w",
            "\"and\" \"or\" \"not\" \"x\" \"y\" \"z 2\" \"w\"",
        ),
        ("col:umn NEAR(a b)", "\"col umn\" \"near a\" \"b\""),
        ("\"open", "\"open\""),
        ("Rückerstattung", "\"ruckerstattung\""),
        ("\u{9000}\u{6b3e}", "\"\u{9000} \u{6b3e}\""),
        ("\u{9000}*", "\"\u{9000}\"*"),
        ("", "there is no word in it"),
        ("\"\" * -- !", "there is no word in it"),
        ("a*", "a word with * needs 2 letters before it"),
    ] {
        assert_eq!(fts(text), expected, "{text}");
    }
    assert_eq!(
        fts(&"x".repeat(QUERY_CHARS_MAX + 1)),
        QueryError::TooLong.to_string()
    );
    let many = "x ".repeat(QUERY_WORDS_MAX + 1);
    assert_eq!(fts(&many), QueryError::TooManyWords.to_string());
}

fn shown(query: &str, text: &str) -> Option<String> {
    let Snippet { text, matches } = Query::parse(query).unwrap().snippet(text)?;
    let units: Vec<u16> = text.encode_utf16().collect();
    let (mut marked, mut at) = (String::new(), 0);
    for (from, to) in matches {
        marked += &String::from_utf16(&units[at..from]).unwrap();
        marked += &format!("[{}]", String::from_utf16(&units[from..to]).unwrap());
        at = to;
    }
    marked += &String::from_utf16(&units[at..]).unwrap();
    Some(marked)
}

#[test]
fn a_snippet_marks_what_was_asked_for_as_it_is_written() {
    for (query, text, expected) in [
        ("refund", "A Refund, please.", Some("A [Refund], please.")),
        (
            "ruck* straße",
            "R\u{fc}ckgabe,\nStra\u{df}e 5",
            Some("[R\u{fc}ckgabe], [Stra\u{df}e] 5"),
        ),
        (
            "cafe",
            "cafe\u{301} \u{1f600} cafe",
            Some("[cafe\u{301}] \u{1f600} [cafe]"),
        ),
        ("\"is it\"", "it is, is it?", Some("it is, [is it]?")),
        (
            "\u{9000}\u{6b3e}",
            "\u{8bf7}\u{9000}\u{6b3e}\u{5417}",
            Some("\u{8bf7}[\u{9000}\u{6b3e}]\u{5417}"),
        ),
        (
            "\u{d658}\u{bd88}",
            "\u{c8fc}\u{bb38}\u{d658}\u{bd88}\u{c744}",
            Some("\u{c8fc}\u{bb38}[\u{d658}\u{bd88}]\u{c744}"),
        ),
        ("refund", "nothing here", None),
    ] {
        assert_eq!(shown(query, text).as_deref(), expected, "{query}");
    }
    let long = format!("{} needle {}", "hay ".repeat(500), "straw ".repeat(500));
    let snippet = Query::parse("needle").unwrap().snippet(&long).unwrap();
    assert!(
        snippet.text.chars().count() <= SNIPPET_CHARS,
        "{}",
        snippet.text.len()
    );
    assert_eq!(
        snippet.matches,
        [(SNIPPET_BEFORE_CHARS, SNIPPET_BEFORE_CHARS + 6)]
    );
}

#[test]
fn a_snippet_is_looked_for_in_the_beginning_of_a_long_text_only() {
    let needle = Query::parse("needle").unwrap();
    let after = |hay: usize| format!("{} needle", "\u{fc}".repeat(hay / 2));
    assert!(
        needle
            .snippet(&after(SNIPPET_TEXT_BYTES_MAX - 10))
            .is_some()
    );
    assert_eq!(needle.snippet(&after(SNIPPET_TEXT_BYTES_MAX)), None);
    assert_eq!(needle.snippet(&after(SNIPPET_TEXT_BYTES_MAX - 5)), None);
}

proptest! {
    #[test]
    fn whatever_is_asked_of_whatever_text_offsets_are_within_it(query in ".{0,60}", text in ".{0,400}") {
        if let Ok(query) = Query::parse(&query) {
            if let Some(snippet) = query.snippet(&text) {
                let units = snippet.text.encode_utf16().count();
                prop_assert!(snippet.matches.iter().all(|(from, to)| from < to && *to <= units));
            }
            let fts = query.to_fts(&[HERE]).unwrap();
            prop_assert!(fts.chars().filter(|c| *c == '"').count() % 2 == 0);
        }
        // The index takes words apart at ASCII that is no letter and no digit.
        let words = indexed(&text, HERE);
        prop_assert!(words.chars().all(|c| c == ' ' || !c.is_ascii() || c.is_ascii_alphanumeric()));
    }
}
