//! What `deploy/` says of the daemon is so: metrics that alerts and the dashboard ask for are metrics of the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::architecture::rust_files;

const PREFIX: &str = "switchboard_";
/// What a histogram makes of its name.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

/// Every name in a text that begins as metrics do.
fn names(text: &str) -> BTreeSet<&str> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    parts.filter(|part| part.starts_with(PREFIX)).collect()
}

#[test]
fn every_metric_that_alerts_and_the_dashboard_ask_for_is_one_of_the_code() {
    let code = rust_files(Path::new("src"))
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect::<String>();
    // With its quotes: the name of one is how another begins.
    let is_known = |name: &str| code.contains(&format!("\"{name}\""));
    for file in [
        "deploy/prometheus/alerts.yaml",
        "deploy/prometheus/alerts-test.yaml",
        "deploy/grafana/switchboard.json",
    ] {
        let text = fs::read_to_string(file).unwrap();
        let asked = names(&text);
        assert!(asked.len() > 5, "{file} asks for {asked:?}");
        for name in asked {
            let series = OF_HISTOGRAMS.iter().find_map(|end| name.strip_suffix(end));
            assert!(
                is_known(name) || series.is_some_and(is_known),
                "{file} asks for {name}, which nothing in src measures"
            );
        }
    }
}
