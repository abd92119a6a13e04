//! One program for all targets, so that it is linked once: `FUZZ_TARGET` names the one that runs.

#![no_main]

mod targets;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(known, _)| *known == name);
    let known: Vec<&str> = targets::ALL.iter().map(|(known, _)| *known).collect();
    found.unwrap_or_else(|| panic!("FUZZ_TARGET is one of {}", known.join(", "))).1
});

fuzz_target!(|data: &[u8]| TARGET(data));
