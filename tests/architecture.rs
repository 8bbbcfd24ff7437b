//! The house's own rules, checked against its source text: which floor may import which, and what a
//! pure file never names.
//!
//! DESIGN in one sentence: imports go downward only, and the floors below the session know no clock,
//! no socket, no task and no actor.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module of the first level, its floor, and the modules that it may import.
const FLOORS: &[(&str, &[&str])] = &[
    ("close", &["error"]),
    ("error", &["close"]),
    ("frame", &[]),
    ("telemetry", &[]),
    ("connector", &[]),
    ("config", &["connector", "error", "telemetry"]),
    ("protocol", &["close", "config", "error", "frame"]),
    ("hooks", &["close", "error", "frame", "protocol"]),
    ("platform", &["config", "error", "frame", "protocol"]),
    (
        "adapters",
        &["close", "config", "error", "frame", "platform", "protocol"],
    ),
    (
        "session",
        &[
            "close",
            "config",
            "connector",
            "error",
            "frame",
            "hooks",
            "platform",
            "protocol",
            "telemetry",
        ],
    ),
    ("replay", &["error", "protocol"]),
    (
        "pool",
        &[
            "config",
            "error",
            "frame",
            "platform",
            "protocol",
            "session",
            "telemetry",
        ],
    ),
    ("instruments", &["protocol", "session"]),
    ("prometheus", &["error", "instruments"]),
    (
        "otel",
        &["config", "connector", "error", "instruments", "prometheus"],
    ),
    ("inspect", &["error", "pool", "protocol", "session"]),
    ("console", &["error", "inspect", "session"]),
    // Binaries see what a user sees.
    ("bin", &[]),
    (
        "testing",
        &[
            "close",
            "config",
            "connector",
            "error",
            "frame",
            "platform",
            "protocol",
            "adapters",
            "replay",
            // The fault kit runs a session of ours; no session knows the kit.
            "session",
        ],
    ),
];

/// Floors whose files are pure.
const PURE: &[&str] = &[
    "close", "error", "frame", "config", "protocol", "platform", "hooks", "adapters",
];

/// What a pure file never names, and why.
const IMPURE: &[(&str, &str)] = &[
    ("Instant::now", "time is an argument"),
    ("SystemTime::now", "time is an argument"),
    (".elapsed()", "time is an argument"),
    ("tokio::", "no runtime"),
    ("ractor::", "no actor"),
    ("fastrand::", "randomness is an argument"),
    ("rand::", "randomness is an argument"),
    ("tracing::", "machines do not log"),
    ("std::thread", "no thread"),
    ("std::net::TcpStream", "no socket"),
    ("println!", "no output"),
];

/// Exceptions, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    // What the backend has checked to be text while reading is not checked again.
    ("src/frame/text.rs", "tokio_tungstenite::", "payload type"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `folder`, with its path relative to the root.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a folder of the project") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&root().join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let name = path
                .strip_prefix(root())
                .expect("beneath the root")
                .display()
                .to_string();
            (name, text)
        })
        .collect()
}

/// The module of the first level that a file belongs to.
fn module(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("src/")?;
    let first = rest.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first)).filter(|module| *module != "lib")
}

/// The code of a file without its comments and without its tests, which may use anything.
fn code(text: &str) -> String {
    let without_tests = text.split("#[cfg(test)]").next().unwrap_or(text);
    without_tests
        .lines()
        .map(|line| line.split("//").next().unwrap_or(line))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn every_module_stands_in_the_table() {
    for (path, _) in sources("src") {
        if let Some(module) = module(&path) {
            assert!(
                FLOORS.iter().any(|(known, _)| *known == module),
                "{path} has no floor"
            );
        }
    }
}

#[test]
fn imports_go_downward_only() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        let Some(module) = module(&path) else {
            continue;
        };
        let allowed = FLOORS
            .iter()
            .find(|(known, _)| *known == module)
            .map_or(&[][..], |(_, may)| *may);
        let code = code(&text);
        for (other, _) in FLOORS {
            let names = [format!("crate::{other}::"), format!("crate::{other};")];
            let imported = names.iter().any(|name| code.contains(name.as_str()));
            if imported && *other != module && !allowed.contains(other) {
                wrong.push(format!("{path} imports {other}"));
            }
        }
        // Inside the crate a type is imported from where it is defined.
        for root_name in [
            "crate::Session",
            "crate::Frame",
            "crate::Config;",
            "crate::{",
        ] {
            if code.contains(root_name) {
                wrong.push(format!(
                    "{path} imports through the crate root ({root_name})"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pure_files_name_no_clock_no_runtime_no_actor() {
    let mut wrong = Vec::new();
    for (path, text) in sources("src") {
        if !module(&path).is_some_and(|module| PURE.contains(&module)) || path.contains("/tests") {
            continue;
        }
        let mut code = code(&text);
        for (file, word, _) in EXCEPTIONS {
            if path == *file {
                code = code.replace(word, "");
            }
        }
        for (word, reason) in IMPURE {
            if code.contains(word) {
                wrong.push(format!("{path} names {word}: {reason}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_session_reads_the_clock_in_one_place() {
    for (path, text) in sources("src/session") {
        if path == "src/session/clock.rs" || path.contains("/tests") {
            continue;
        }
        let code = code(&text)
            .replace("tokio::time::Instant::now", "")
            .replace("SystemTime::now", "");
        let imports_tokio = code.contains("use tokio::time::") && code.contains("Instant");
        assert!(
            imports_tokio || !code.contains("Instant::now"),
            "{path} reads the system's clock"
        );
    }
}

#[test]
fn only_the_transports_own_files_touch_a_socket() {
    for (path, text) in sources("src") {
        // Those of the live view are local ones, the export speaks to a collector, the page to Prometheus: no session's.
        let other = path == "src/console/place.rs"
            || path.starts_with("src/bin/")
            || path == "src/otel/line.rs"
            || path == "src/prometheus/server.rs";
        let socket =
            path.starts_with("src/session/dial") || path.starts_with("src/testing") || other;
        if !socket && !path.contains("/tests") {
            assert!(
                !code(&text).contains("TcpStream"),
                "{path} touches a socket"
            );
        }
    }
}

#[test]
fn only_those_that_export_name_opentelemetry() {
    for (path, text) in sources("src") {
        let exports = ["instruments", "otel", "prometheus"];
        if !module(&path).is_some_and(|module| exports.contains(&module)) {
            let named = code(&text).contains("opentelemetry");
            assert!(!named, "{path} measures where frames pass");
        }
    }
}

#[test]
fn no_client_or_machine_knows_a_venue() {
    for (path, text) in sources("src") {
        if path.starts_with("src/session") || path.starts_with("src/protocol") {
            let code = code(&text).to_lowercase();
            for venue in ["deribit", "binance", "kraken", "coinbase", "bybit", "okx"] {
                assert!(!code.contains(venue), "{path} knows {venue}");
            }
        }
    }
}

#[test]
fn there_is_no_unsafe_and_no_mod_rs() {
    for folder in ["src", "supervisors/src"] {
        for (path, text) in sources(folder) {
            assert!(!path.ends_with("mod.rs"), "{path}");
            let code = code(&text);
            assert!(
                !code.contains("unsafe {") && !code.contains("unsafe fn"),
                "{path} is unsafe"
            );
        }
    }
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(manifest.contains("unsafe_code = \"forbid\""));
}

#[test]
fn no_queue_of_the_session_is_unbounded() {
    for (path, text) in sources("src") {
        let code = code(&text);
        assert!(
            !code.contains("unbounded"),
            "{path} has a queue without a bound"
        );
    }
}

#[test]
fn every_file_opens_with_its_purpose() {
    for folder in ["src", "supervisors/src"] {
        for (path, text) in sources(folder) {
            assert!(
                text.trim_start().starts_with("//!"),
                "{path} does not say what it is"
            );
        }
    }
}

/// Every test, with the files that have one of that name.
fn functions() -> BTreeMap<String, Vec<String>> {
    let mut functions = BTreeMap::<String, Vec<String>>::new();
    for folder in ["src", "tests", "supervisors/src", "supervisors/tests"] {
        for (path, source) in sources(folder) {
            let mut is_test = false;
            for line in source.lines() {
                let line = line.trim_start();
                is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
                let name = line
                    .strip_prefix("async fn ")
                    .or_else(|| line.strip_prefix("fn "));
                if let Some(name) = name.and_then(|rest| rest.split(['(', '<']).next())
                    && std::mem::take(&mut is_test)
                {
                    let paths = functions.entry(name.to_owned()).or_default();
                    paths.push(path.clone());
                }
            }
        }
    }
    functions
}

/// The name at the beginning of a text.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

/// The names that a line of source declares: an item, a field or a variant.
fn declared(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let public = line.strip_prefix("pub").map_or(line, |rest| {
        let rest = match rest.strip_prefix('(') {
            Some(rest) => rest.split_once(')').map_or(rest, |(_, rest)| rest),
            None => rest,
        };
        rest.trim_start()
    });
    let bare = public.strip_prefix("async ").unwrap_or(public);
    let bare = match bare.strip_prefix("const fn ") {
        Some(rest) => return Some(name(rest)),
        None => bare,
    };
    let keywords = [
        "fn ",
        "struct ",
        "enum ",
        "trait ",
        "mod ",
        "type ",
        "const ",
        "static ",
        "macro_rules! ",
    ];
    if let Some(rest) = keywords.iter().find_map(|word| bare.strip_prefix(word)) {
        return Some(name(rest));
    }
    let word = name(public);
    let rest = &public[word.len()..];
    let field = rest.starts_with(": ");
    let variant = word.starts_with(|c: char| c.is_ascii_uppercase())
        && (rest.is_empty() || rest.starts_with([',', '(']) || rest.starts_with(" {"));
    (!word.is_empty() && (field || variant)).then_some(word)
}

/// The words in backticks.
fn code_words(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Whether a cell of the parity table names something that shows its row.
fn shows(cell: &str, functions: &BTreeMap<String, Vec<String>>) -> bool {
    if cell == "–" {
        return true;
    }
    let mut named = code_words(cell).peekable();
    named.peek().is_some()
        && named.all(|word| match word.split_once("::") {
            Some((file, test)) => functions
                .get(test.rsplit("::").next().unwrap_or(test))
                .is_some_and(|paths| paths.iter().any(|path| path == file)),
            // An example that CI runs, or a file whose doc tests it runs.
            None => cell.contains('(') && root().join(word).exists(),
        })
}

#[test]
fn every_row_of_the_parity_table_names_what_is_there() {
    let text = fs::read_to_string(root().join("docs/parity.md")).expect("docs/parity.md");
    let functions = functions();
    let mut items = BTreeSet::new();
    for folder in ["src", "supervisors/src"] {
        for (_, source) in sources(folder) {
            items.extend(source.lines().filter_map(declared).map(str::to_owned));
        }
    }
    items.extend(["mainstay", "supervisors"].map(str::to_owned));
    let (mut wrong, mut rows) = (Vec::new(), 0);
    for (number, line) in (1..).zip(text.lines()) {
        let Some(row) = line
            .strip_prefix("| ")
            .and_then(|line| line.strip_suffix(" |"))
        else {
            continue;
        };
        let row = row.replace("\\|", "/");
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let [theirs, ours, shown, verdict] = cells[..] else {
            wrong.push(format!("{number}: {} cells", cells.len()));
            continue;
        };
        if (theirs, ours) == ("theirs", "ours") {
            continue;
        }
        rows += 1;
        let left_out = verdict.starts_with("left out: ");
        if cells.iter().any(|cell| cell.is_empty()) {
            wrong.push(format!("{number}: an empty cell"));
        }
        if verdict != "same"
            && !left_out
            && !["better: ", "same: "]
                .iter()
                .any(|word| verdict.starts_with(word))
        {
            wrong.push(format!("{number}: verdict {verdict:?}"));
        }
        if ours == "–" && !left_out {
            wrong.push(format!("{number}: nothing of ours, and not left out"));
        }
        if !shows(shown, &functions) || (shown == "–" && !left_out) {
            wrong.push(format!("{number}: shown by {shown}"));
        }
        for item in code_words(ours) {
            // A variable of the environment is not declared, nor is a file.
            if item.starts_with("DERIBIT_") || root().join(item).exists() {
                continue;
            }
            let unknown = |part: &&str| !name(part).is_empty() && !items.contains(name(part));
            if let Some(part) = item.split("::").find(unknown) {
                wrong.push(format!("{number}: no item {part} in {item}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows > 600, "{rows} rows");
}

/// What the macros of this name are given, all over `text`.
fn given<'t>(text: &'t str, open: &str) -> impl Iterator<Item = &'t str> {
    let lists = text.split(open).skip(1);
    let lists = lists.map(|rest| rest.split(");").next().unwrap_or(rest));
    lists.flat_map(|list| list.split(',').map(str::trim))
}

#[test]
fn every_error_is_explained_and_every_explanation_is_a_heading_of_the_guide() {
    // The test kit's errors end a test; those of the second wire become close reasons; these two are between
    // the library's own parts.
    let own = ["src/testing", "src/bin", "src/protocol/framing.rs"];
    let inner = ["TransportEnd", "Refusal"];
    let (mut errors, mut explained, mut codes) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (path, text) in sources("src") {
        if own.iter().any(|own| path.starts_with(own)) || path.contains("/tests") {
            continue;
        }
        let code = code(&text);
        for derived in code.split("thiserror::Error)]").skip(1) {
            let item = derived.lines().map(str::trim_start).find(|line| {
                let bare = line.trim_start_matches("pub(crate) ");
                let bare = bare.trim_start_matches("pub ");
                bare.starts_with("enum ") || bare.starts_with("struct ")
            });
            let named = item.and_then(|line| {
                let rest = line.strip_prefix("pub ")?;
                rest.split_once(' ').map(|(_, rest)| name(rest))
            });
            errors.extend(named.map(str::to_owned));
        }
        explained.extend(given(&code, "explained!(").map(str::to_owned));
        let entries = code.split("Entry::new(").skip(1);
        let first = entries.filter_map(|rest| rest.trim_start().strip_prefix('"'));
        codes.extend(first.filter_map(|rest| rest.split('"').next().map(str::to_owned)));
    }
    for known in ["ReplayError", "NotAlive", "FlushError", "ConfigError"] {
        assert!(errors.iter().any(|error| error == known), "{errors:?}");
    }
    errors.retain(|error| !inner.contains(&&**error) && !explained.contains(error));
    assert!(errors.is_empty(), "without an explanation: {errors:?}");
    let guide = fs::read_to_string(root().join("src/error/guide.md")).expect("the guide");
    let headings = guide.lines().filter_map(|line| line.strip_prefix("## "));
    let headings: BTreeSet<String> = headings.map(str::to_owned).collect();
    let unsaid: Vec<_> = codes.difference(&headings).collect();
    assert!(unsaid.is_empty(), "no heading of the guide: {unsaid:?}");
    assert!(
        codes.contains("recording-line") && codes.contains("closed-eof"),
        "{codes:?}"
    );
    let higher = [
        "recording-",
        "book-",
        "not-ready",
        "console-",
        "otel-",
        "prometheus-",
        "no-thread",
    ];
    let stale = headings.iter().filter(|heading| {
        higher.iter().any(|start| heading.starts_with(start)) && !codes.contains(*heading)
    });
    assert_eq!(stale.collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn no_text_holds_two_versions_of_itself() {
    let docs = fs::read_dir(root().join("docs")).expect("a folder of the project");
    let docs = docs.map(|entry| entry.expect("an entry").path());
    let own = ["ARCHITECTURE.md", "CHANGELOG.md", "README.md"].map(|file| root().join(file));
    for path in docs.chain(own).filter(|path| path.is_file()) {
        let text = fs::read_to_string(&path).expect("a text");
        let mark = text.lines().find(|line| line.starts_with("<<<<<<< "));
        assert_eq!(mark, None, "{} was merged by halves", path.display());
    }
}

#[test]
fn the_architecture_text_names_a_test_for_each_invariant() {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    assert!(
        text.lines().count() < 300,
        "ARCHITECTURE.md is too long to be read"
    );
    let tests = functions();
    let mut named = 0;
    let invariants = text.lines().filter(|line| line.starts_with("| I"));
    for (number, line) in (1..).zip(invariants) {
        assert!(line.starts_with(&format!("| I{number} |")), "{line}");
        let guards = line.split('|').nth(3).unwrap_or_default();
        for guard in guards.split('`').skip(1).step_by(2) {
            named += 1;
            assert!(
                tests.contains_key(guard),
                "ARCHITECTURE.md names a test that is not there: {guard}"
            );
        }
        assert!(guards.contains('`'), "an invariant without a test: {line}");
    }
    assert!(named >= 9, "each invariant of the design has a guard");
}

/// What stands between backticks in the last column of a table.
fn named(text: &str) -> Vec<&str> {
    let rows = text.lines().filter_map(|row| row.strip_suffix(" |"));
    let last = rows.filter_map(|row| row.rsplit_once(" | "));
    last.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_promise_names_tests_that_are_there() {
    let promises = fs::read_to_string(root().join("docs/promises.md")).expect("a chapter");
    let named = named(&promises);
    assert!(named.len() > 30, "{named:?}");
    for name in named {
        let (file, test) = name.split_once("::").unwrap_or((name, ""));
        let text = fs::read_to_string(root().join(file));
        let text = text.unwrap_or_else(|error| panic!("{name}: {error}"));
        if !test.is_empty() {
            assert!(text.contains(&format!("fn {test}(")), "{name} is not there");
        }
    }
}
