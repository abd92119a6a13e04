//! The table in ARCHITECTURE.md says who may use whom; the code must agree. So must the names in the
//! table of what holds each promise.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn modules_use_only_what_the_architecture_allows() {
    let allowed = table();
    let mut forbidden = Vec::new();
    for file in rust_files(Path::new("src")) {
        let Some(module) = module_of(&file) else {
            continue;
        };
        let Some(may_use) = allowed.get(&module) else {
            panic!(
                "{module} ({}) is missing in the table of ARCHITECTURE.md",
                file.display()
            );
        };
        if may_use.contains("everything") {
            continue;
        }
        for used in used_modules(&file) {
            if used != module && !may_use.contains(&used) {
                forbidden.push(format!("{}: {module} uses {used}", file.display()));
            }
        }
    }
    assert!(forbidden.is_empty(), "{}", forbidden.join("\n"));
}

#[test]
fn every_module_of_the_table_exists() {
    for module in table().keys() {
        let path = Path::new("src").join(format!("{module}.rs"));
        assert!(
            path.exists(),
            "{} is in the table of ARCHITECTURE.md and not in the tree",
            path.display()
        );
    }
}

#[test]
fn only_channels_names_a_connector() {
    for file in rust_files(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap();
        let names = text.contains("connector_email") || text.contains("connector_webhook");
        assert!(
            !names || file.ends_with("channels.rs"),
            "{} names a connector",
            file.display()
        );
    }
}

#[test]
fn connectors_see_only_the_contract() {
    for entry in fs::read_dir("connectors").unwrap() {
        let manifest = entry.unwrap().path().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        let dependencies = text.split("[dev-dependencies]").next().unwrap_or_default();
        for other in [
            "switchboard",
            "connector-webhook",
            "connector-email",
            "connector-testkit",
        ] {
            let named = dependencies.lines().any(|line| {
                line.starts_with(&format!("{other}.")) || line.starts_with(&format!("{other} "))
            });
            assert!(!named, "{} depends on {other}", manifest.display());
        }
    }
}

/// A test that was renamed, or a file that was moved, leaves no row behind that nobody can repeat.
#[test]
fn every_test_and_file_that_holds_a_promise_is_there() {
    let files: Vec<PathBuf> = ["src", "connectors", "tests", ".cargo"]
        .into_iter()
        .flat_map(|dir| files(Path::new(dir)))
        .collect();
    let texts = files.iter().filter(|file| is_rust(file));
    let code: String = texts
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let promises = fs::read_to_string("docs/promises.md").unwrap();
    let rows = promises.lines().filter(|line| line.starts_with("| "));
    let mut stale = Vec::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').collect();
        let (mechanism, tests) = (cells[2], cells[3]);
        for name in quoted(mechanism).filter(|name| has_extension(name)) {
            if !files.iter().any(|file| file.ends_with(name)) {
                stale.push(format!("no file {name}: {row}"));
            }
        }
        for test in quoted(tests) {
            let name = test.rsplit("::").next().unwrap_or(test);
            let is_there = [format!("fn {name}("), format!("mod {name} {{")];
            if !is_there.iter().any(|words| code.contains(words)) {
                stale.push(format!("no test {name}: {row}"));
            }
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

/// How long a comparison takes tells how much of a MAC was right: none may be one by `==`.
#[test]
fn macs_are_compared_in_constant_time() {
    let mut compared = Vec::new();
    let sources = ["src", "connectors"].map(|dir| rust_files(Path::new(dir)));
    for file in sources.into_iter().flatten() {
        if file.components().any(|part| part.as_os_str() == "tests") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().zip(1..);
        let mut seeded = 0_u32;
        for (line, number) in lines {
            // What a bug put in on purpose says counts only where it is asked for.
            let asked = std::env::var(switchboard::seeded::ASKED).unwrap_or_default();
            if line.contains("bug!(") && !line.contains(&format!("\"{asked}\"")) {
                seeded = 3;
            }
            let is_compared = [" == ", " != "].iter().any(|sign| {
                let sides = line.split_once(sign);
                sides.is_some_and(|(left, right)| is_mac(left, true) || is_mac(right, false))
            });
            if is_compared && seeded == 0 {
                compared.push(format!("{}:{number}: {}", file.display(), line.trim()));
            }
            seeded = seeded.saturating_sub(1);
        }
    }
    assert!(compared.is_empty(), "{}", compared.join("\n"));
}

/// Whether the word before the sign, or behind it, names a MAC.
fn is_mac(side: &str, before: bool) -> bool {
    let words = side.split(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '.'));
    let mut words = words.filter(|word| !word.is_empty());
    let word = if before {
        words.next_back()
    } else {
        words.next()
    };
    let name = word
        .and_then(|word| word.rsplit('.').next())
        .unwrap_or_default();
    ["mac", "hmac", "signature", "test_mac"].contains(&name)
}

/// What stands between backticks.
pub fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

fn has_extension(name: &str) -> bool {
    [".rs", ".sql", ".toml"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// The rows of the table, by module.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string("ARCHITECTURE.md").unwrap();
    let section = text
        .split("## Who may use whom")
        .nth(1)
        .expect("the section is there");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let mut cells = row.trim_matches('|').splitn(2, '|');
        let module = words(cells.next().unwrap_or_default())
            .pop_first()
            .expect("a module's name");
        (module, words(cells.next().unwrap_or_default()))
    })
    .collect()
}

fn words(cell: &str) -> BTreeSet<String> {
    cell.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

pub fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = files(dir);
    files.retain(|file| is_rust(file));
    files
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

/// The top module a file belongs to; none for the roots and for files of tests.
fn module_of(file: &Path) -> Option<String> {
    let inside = file.strip_prefix("src").ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    let test = file.file_stem().is_some_and(|stem| stem == "tests");
    (!test && name != "lib" && name != "main").then(|| name.to_owned())
}

fn used_modules(file: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(file).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut used = BTreeSet::new();
    for line in code {
        for part in line.split("crate::").skip(1) {
            let named: Vec<&str> = match part.strip_prefix('{') {
                Some(list) => list.split([',', '}']).map(str::trim).collect(),
                None => vec![part],
            };
            for name in named {
                let module: String = name
                    .chars()
                    .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                    .collect();
                if !module.is_empty() {
                    used.insert(module);
                }
            }
        }
    }
    used
}
