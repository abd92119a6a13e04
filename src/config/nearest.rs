//! Finds the word that a mistyped one meant.

/// The known word that a mistyped one most likely meant.
pub fn nearest<'w>(word: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let distances = known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate));
    // A third of the word may be wrong, at least two letters (transposed `quuee`, `listn`).
    let distance_max = (word.chars().count() / 3).max(2);
    let (_, near) = distances
        .filter(|(distance, _)| *distance <= distance_max)
        .min()?;
    Some(near)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_another_word_finds_none() {
        let known = ["listen", "data_dir", "public_url", "queue"];
        for (word, near) in [
            ("listn", Some("listen")),
            ("quuee", Some("queue")),
            ("datadir", Some("data_dir")),
            ("publicurl", Some("public_url")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, known), near, "{word}");
        }
    }
}
