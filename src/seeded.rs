//! Bugs put in on purpose, to see that the tests find them: each is a line `bug!("name")` where its mechanism is, and a row
//! of the table in docs/reliability.md. They are there only in builds with the feature `seeded-bugs`, and one at a time.

#[cfg(all(feature = "seeded-bugs", not(debug_assertions)))]
compile_error!("the feature `seeded-bugs` is for tests: nothing that runs may be built with it");

/// Names the bug that is to be there.
pub const ASKED: &str = "SWITCHBOARD_SEEDED_BUG";

/// Whether the bug of that name is there.
pub fn is(name: &str) -> bool {
    use std::sync::OnceLock;
    static ONE: OnceLock<Option<String>> = OnceLock::new();
    let one = ONE.get_or_init(|| std::env::var(ASKED).ok());
    one.as_deref() == Some(name)
}

/// Whether the bug of that name is there; never in what runs.
macro_rules! bug {
    ($name:literal) => {
        cfg!(feature = "seeded-bugs") && $crate::seeded::is($name)
    };
}
