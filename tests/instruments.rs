//! The table of metrics, held against what is written about it and what looks at it: document, dashboard, alerts.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mainstay::instruments::{ATTRIBUTES, Kind, TABLE, markdown};
use serde_json::Value;

/// Labels that Prometheus, or the exporter, adds by itself.
const ADDED: &[&str] = &["le", "job", "instance", "otel_scope_name"];

fn file(path: impl AsRef<Path>) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every series of the table, as Prometheus spells them, each with the name that it belongs to.
fn series() -> Vec<(String, &'static str)> {
    let rows = TABLE.iter().flat_map(|row| {
        let name = row.prometheus_name();
        let names = match row.kind() {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .map(|suffix| format!("{name}{suffix}"))
                .to_vec(),
            _ => vec![name],
        };
        names.into_iter().map(|series| (series, row.name()))
    });
    rows.collect()
}

/// The words of an expression that could be names.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Every series that the text names.
fn named(text: &str) -> BTreeSet<&str> {
    words(text)
        .filter(|word| word.starts_with("mainstay_"))
        .collect()
}

/// Every label that an expression chooses by, groups by or shows.
fn labels(expression: &str) -> BTreeSet<&str> {
    let mut labels = BTreeSet::new();
    for within in expression.split('{').skip(1) {
        let within = within.split('}').next().unwrap_or_default();
        let pairs = within.split(',').filter(|pair| pair.contains('='));
        labels.extend(pairs.filter_map(|pair| words(pair).next()));
    }
    for keyword in ["by (", "on ("] {
        for list in expression.split(keyword).skip(1) {
            labels.extend(words(list.split(')').next().unwrap_or_default()));
        }
    }
    labels
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value) {
                    ("expr", Value::String(text)) => found.push(text.clone()),
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

fn assert_known(place: &str, text: &str) {
    let series = series();
    for name in named(text) {
        let known = series.iter().any(|(known, _)| known == name);
        assert!(
            known,
            "{place} names {name}, which is no metric of the table"
        );
    }
    let known: BTreeSet<String> = ATTRIBUTES
        .iter()
        .map(|(name, _)| name.replace('.', "_"))
        .collect();
    for label in labels(text) {
        let known = known.contains(label) || ADDED.contains(&label);
        assert!(
            known,
            "{place} has the label {label}, which is no attribute"
        );
    }
}

#[test]
fn the_document_has_the_table() {
    let path = "docs/metrics.md";
    let text = file(path);
    let (begin, end) = ("<!-- table -->\n", "<!-- end of table -->");
    let (before, rest) = text.split_once(begin).expect("the place of the table");
    let (within, after) = rest.split_once(end).expect("the end of the table");
    let table = format!("\n{}\n", markdown());
    if std::env::var_os("MAINSTAY_WRITE_METRICS").is_some() {
        let whole = format!("{before}{begin}{table}{end}{after}");
        fs::write(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path), whole).expect("written");
        return;
    }
    assert_eq!(
        within, table,
        "run this test with MAINSTAY_WRITE_METRICS=1 to write the table anew"
    );
}

#[test]
fn names_units_and_attributes_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for row in TABLE {
        let name = row.name();
        assert!(seen.insert(name), "{name} is there twice");
        assert!(name.starts_with("mainstay."), "{name}");
        let plain = |c: char| c.is_ascii_lowercase() || c == '.' || c == '_';
        assert!(name.chars().all(plain), "{name}");
        assert!(row.description().ends_with('.'), "{name}");
        assert_eq!(
            row.kind() == Kind::Histogram,
            !row.bounds().is_empty(),
            "{name}"
        );
        let rising = row.bounds().windows(2).all(|pair| pair[0] < pair[1]);
        assert!(rising, "{name}: {:?}", row.bounds());
        for attribute in row.attributes() {
            let known = ATTRIBUTES.iter().any(|(known, _)| known == attribute);
            assert!(known, "{name} has {attribute}, which nobody explains");
        }
        let unit = row.unit();
        let annotated = unit.starts_with('{') && unit.ends_with('}');
        assert!(
            annotated || ["s", "By", "1"].contains(&unit),
            "{name}: {unit}"
        );
    }
    for (attribute, _) in ATTRIBUTES {
        let used = TABLE.iter().any(|row| row.attributes().contains(attribute));
        assert!(used, "{attribute} is explained and nowhere used");
    }
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value = serde_json::from_str(&file("dashboards/grafana.json")).expect("JSON");
    let mut all = Vec::new();
    expressions(&dashboard, &mut all);
    for expression in &all {
        assert_known("the dashboard", expression);
    }
    for row in TABLE {
        let shown = all.iter().any(|expression| {
            let named = named(expression);
            series()
                .iter()
                .any(|(series, name)| *name == row.name() && named.contains(series.as_str()))
        });
        assert!(shown, "{} is on no panel", row.name());
    }
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        assert!(ids.insert(panel["id"].as_u64()), "an id is there twice");
        assert!(panel["title"].is_string());
    }
}

#[test]
fn every_alert_speaks_of_metrics_that_there_are() {
    let text = file("dashboards/alerts.yml");
    let rules: Vec<&str> = text.split("      - alert: ").skip(1).collect();
    for rule in &rules {
        let name = rule.lines().next().unwrap_or_default();
        for part in ["expr: ", "severity: ", "summary: ", "description: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let (_, rest) = rule.split_once("expr: ").expect("an expression");
        let expression = rest
            .split("\n        ")
            .take_while(|line| ["for:", "labels:"].iter().all(|key| !line.starts_with(key)));
        let expression = expression.collect::<Vec<_>>().join(" ");
        assert!(!named(&expression).is_empty(), "{name}: {expression}");
        assert_known(name, &expression);
        assert_known(name, rule);
    }
    for wanted in [
        "MainstayGaps",
        "MainstayIntensityHigh",
        "MainstayBreakerOpen",
        "MainstayNoData",
        "MainstayReconnectStorm",
    ] {
        assert!(
            rules.iter().any(|rule| rule.starts_with(wanted)),
            "{wanted}"
        );
    }
    assert!(text.contains("mainstay_supervisor_intensity_ratio) > 0.9"));
}
