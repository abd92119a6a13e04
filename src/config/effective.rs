//! The configuration in force, printed with where each value was set. Secrets are references
//! everywhere, so it can be shown to anyone who may see the configuration file.

use serde_json::Value;

use super::Config;
use super::tree::{KeyPath, Tree, key_text};

/// The configuration as TOML that loads to the same, each value followed by its origin.
pub fn effective(config: &Config) -> String {
    let mut lines = Vec::new();
    print_table(&config.tree, &KeyPath::default(), &mut lines);
    lines.join("\n") + "\n"
}

fn print_table(tree: &Tree, path: &KeyPath, lines: &mut Vec<String>) {
    // Sections and what has an id get a header; tables further in are written with dotted keys.
    let depth = path.steps().len();
    let (tables, values): (Vec<_>, Vec<_>) = tree
        .table(path)
        .partition(|(_, value)| value.is_object() && depth < 2);
    if depth == 2 || (depth == 1 && !values.is_empty()) {
        lines.push(format!("\n[{path}]"));
    }
    for (key, value) in values {
        if key == "rules" && depth == 0 {
            print_rules(tree, lines);
        } else {
            print_value(tree, &path.key(key), &key_text(key), value, lines);
        }
    }
    for (key, _) in tables {
        print_table(tree, &path.key(key), lines);
    }
}

fn print_value(tree: &Tree, path: &KeyPath, key: &str, value: &Value, lines: &mut Vec<String>) {
    match value.as_object() {
        Some(members) if !members.is_empty() => {
            for (inner, value) in members {
                print_value(
                    tree,
                    &path.key(inner),
                    &format!("{key}.{}", key_text(inner)),
                    value,
                    lines,
                );
            }
        }
        _ => lines.push(format!(
            "{key} = {}  # {}",
            toml_text(value),
            tree.origin(path)
        )),
    }
}

fn print_rules(tree: &Tree, lines: &mut Vec<String>) {
    let rules = KeyPath::of(["rules"]);
    let list: Vec<String> = tree
        .get(&rules)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, rule)| format!("  {},  # {}", toml_text(rule), tree.origin(&rules.item(at))))
        .collect();
    if !list.is_empty() {
        lines.push(format!("rules = [\n{}\n]", list.join("\n")));
    }
}

fn toml_text(value: &Value) -> String {
    match value {
        Value::Array(items) => format!(
            "[{}]",
            Vec::from_iter(items.iter().map(toml_text)).join(", ")
        ),
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let members = table
                .iter()
                .map(|(key, value)| format!("{} = {}", key_text(key), toml_text(value)));
            format!("{{ {} }}", Vec::from_iter(members).join(", "))
        }
        // A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
        Value::String(_) => value.to_string().replace('\u{7f}', "\\u007F"),
        other => other.to_string(),
    }
}
