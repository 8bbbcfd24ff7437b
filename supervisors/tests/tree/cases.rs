//! The table of cases in `README.md`, held against the doc comments of the tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Cases that a text names, `EXD-19, 20` and `EXP-06..10` included.
fn cases(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut family = String::new();
    let mut last = 0;
    let mut range = false;
    for word in text.split_inclusive([' ', ',', ';', ':', '.', '|', '(', ')']) {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let (name, number) = bare.rsplit_once('-').unwrap_or(("", bare));
        let number = match number.parse::<u32>() {
            Ok(number) if number < 100 && number.to_string().len() <= 2 => number,
            _ if bare.is_empty() || bare == "and" => {
                range |= word == ".";
                continue;
            }
            _ => {
                family.clear();
                continue;
            }
        };
        if ["OTP", "EXD", "EXP", "EXS", "EXT", "RX"]
            .iter()
            .any(|suite| name.starts_with(suite))
        {
            family = name.to_owned();
        } else if !name.is_empty() {
            family.clear();
        }
        if !family.is_empty() {
            let first = if range { last } else { number };
            found.extend((first..=number).map(|nth| format!("{family}-{nth:02}")));
        }
        (last, range) = (number, false);
    }
    found
}

fn sources(of: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(of).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") {
            found.push(path);
        }
    }
}

/// The cases in the doc of each test.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    let mut tests = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let (mut doc, mut tested) = (String::new(), false);
        for line in text.lines().map(str::trim) {
            if let Some(more) = line.strip_prefix("///") {
                doc += more;
            } else if line.starts_with("#[") {
                tested |= line.contains("test");
            } else {
                let name = line.trim_start_matches("async ").strip_prefix("fn ");
                let name = name.and_then(|rest| rest.split('(').next());
                if let Some(name) = name.filter(|_| tested) {
                    tests.insert(name.to_owned(), cases(&doc));
                }
                (doc, tested) = (String::new(), false);
            }
        }
    }
    tests
}

#[test]
fn the_table_of_cases_and_the_docs_of_tests_say_the_same() {
    let readme = include_str!("../README.md");
    let (table, _) = readme
        .split_once("| Case | How it is meant here |")
        .unwrap();
    let documented = documented();
    let mut listed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut wrong = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let (case, tests) = row[2..].split_once(" | ").unwrap();
        let named = tests.split('`').skip(1).step_by(2);
        for test in named.map(|path| path.rsplit("::").next().unwrap()) {
            let known = documented.get(test);
            if known.is_none() && !matches!(test, "Case" | "Test" | "*") && test.contains('_') {
                wrong.push(format!("{case}: there is no test {test}"));
            }
            for case in cases(case) {
                if known.is_some_and(|known| !known.contains(&case)) {
                    wrong.push(format!("the doc of {test} does not name {case}"));
                }
                listed.entry(case).or_default().insert(test.to_owned());
            }
        }
    }
    for (test, cases) in &documented {
        for case in cases {
            if !listed.get(case).is_some_and(|tests| tests.contains(test)) {
                wrong.push(format!("the table does not name {test} for {case}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(listed.len() > 120, "{} cases", listed.len());
}
