//! The tape alone: bounds, refusals of the disk, and what is in the file when.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::UNIX_EPOCH;

use super::super::reporter::Reporter;
use super::*;
use crate::frame::Frame;
use crate::protocol::recording::{Confidence, Direction, Entry, Metadata};
use crate::telemetry::Collector;

/// The file of one test, in a folder of its own that is gone with its owner.
pub(super) struct File(PathBuf);

impl Deref for File {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for File {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<&File> for PathBuf {
    fn from(file: &File) -> Self {
        file.0.clone()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
    }
}

/// A path of this test's own; what an earlier run left there is removed.
pub(super) fn path(test: &str) -> File {
    let folder = std::env::temp_dir().join(format!("mainstay-{}-{test}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    File(folder.join("session.jsonl"))
}

pub(super) fn taken(numbers: std::ops::Range<u64>) -> Strip {
    let mut strip = Strip::default();
    for number in numbers {
        strip.at(UNIX_EPOCH + Duration::from_micros(number));
        let frame = Frame::text(number.to_string());
        strip.push(Direction::In, &frame, None, Confidence::Open);
    }
    strip
}

pub(super) fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn texts(path: &Path) -> Vec<String> {
    let entries = lines(path)
        .into_iter()
        .filter(|line| !line.is_empty())
        .map(|line| Entry::parse(&line).unwrap());
    entries
        .filter_map(|entry| Some(entry.frame()?.as_text()?.to_owned()))
        .collect()
}

#[test]
fn what_was_pushed_is_written_in_order_by_the_flush() {
    let path = path("order");
    let tape = Tape::new(Reporter::new("s", Vec::new()), Record::to(&path), None);
    tape.push(&mut taken(0..250));
    assert!(lines(&path).is_empty());
    tape.flush();
    let expected: Vec<_> = (0..250).map(|number| number.to_string()).collect();
    assert_eq!(texts(&path), expected);
    let statistics = tape.statistics();
    assert_eq!((statistics.entries, statistics.dropped), (250, 0));
    assert_eq!(statistics.bytes, std::fs::metadata(&path).unwrap().len());
}

/// Counts the interruptions of a recording by what was interrupted.
#[derive(Debug, Default)]
struct Interruptions(Mutex<Vec<&'static str>>);

impl Collector for Interruptions {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        if let TelemetryEvent::RecordingInterrupted { operation, .. } = *event {
            lock(&self.0).push(operation);
        }
    }
}

/// What is said of each interruption.
#[derive(Debug, Default)]
struct Told(Mutex<Vec<[String; 4]>>);

impl Collector for Told {
    fn on_event(&self, _session: &str, event: &TelemetryEvent<'_>) {
        if let TelemetryEvent::RecordingInterrupted {
            path,
            operation,
            error,
            remedy,
        } = *event
        {
            lock(&self.0).push([path, operation, error, remedy].map(str::to_owned));
        }
    }
}

#[test]
fn who_is_told_of_an_interruption_learns_where_what_why_and_what_to_do() {
    let file = path("remedy");
    let missing = file.with_file_name("gone").join("session.jsonl");
    let folder = file.with_file_name("folder");
    std::fs::create_dir(&folder).unwrap();
    for (path, why, what_to_do) in [
        (missing, "os error", "create the folder"),
        (folder, "os error", "name a file"),
    ] {
        let told = Arc::new(Told::default());
        let reporter = Reporter::new("s", vec![told.clone()]);
        let tape = Tape::new(reporter, Record::to(&path), None);
        tape.push(&mut taken(0..1));
        tape.flush();
        let said = lock(&told.0).remove(0);
        assert_eq!(said[..2], [path.display().to_string(), "open".to_owned()]);
        assert!(
            said[2].contains(why) && said[3].contains(what_to_do),
            "{said:?}"
        );
    }
}

#[test]
fn every_refusal_has_a_remedy_that_fits_it() {
    use io::ErrorKind as Kind;
    for (kind, word) in [
        (Kind::PermissionDenied, "write"),
        (Kind::StorageFull, "room"),
        (Kind::ReadOnlyFilesystem, "another"),
        (Kind::InvalidFilename, "name"),
        (Kind::Other, "disk"),
    ] {
        let said = remedy(kind);
        assert!(said.contains(word), "{kind}: {said}");
    }
}

#[test]
fn frames_that_are_left_out_are_told_of_once_until_the_recording_has_been_idle() {
    let path = path("told");
    let told = Arc::new(Interruptions::default());
    let record = Record::to(&path).flush_at(1).bounds(10, 1 << 20);
    let tape = Tape::new(Reporter::new("s", vec![told.clone()]), record, None);
    for series in 1..=2 {
        for _ in 0..3 {
            tape.push(&mut taken(0..15));
            tape.flush();
        }
        assert_eq!(*lock(&told.0), vec!["queue"; series]);
        for _ in 0..8 {
            tape.flush();
        }
    }
    assert_eq!(tape.statistics().dropped, 30);
}

#[test]
fn a_full_queue_sheds_counts_and_says_so_where_it_happened() {
    let path = path("full");
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to(&path).flush_at(1).bounds(10, 1 << 20),
        None,
    );
    tape.push(&mut taken(0..15));
    tape.flush();
    tape.push(&mut taken(15..17));
    tape.flush();
    assert_eq!(tape.statistics().dropped, 5);
    let lines = lines(&path);
    assert_eq!(lines.len(), 13);
    assert_eq!(
        Entry::parse(&lines[10]).unwrap(),
        Entry::dropped(UNIX_EPOCH + Duration::from_micros(10), 5, 0)
    );
    let metadata = Metadata::of(&lines);
    assert_eq!((metadata.count, metadata.dropped), (12, 5));
}

#[test]
fn a_full_queue_is_one_of_too_many_bytes_too_but_one_large_frame_is_let_in() {
    let path = path("bytes");
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to(&path).flush_at(1).bounds(100, 1000),
        None,
    );
    let large = || {
        let mut strip = Strip::default();
        strip.at(UNIX_EPOCH);
        let frame = Frame::text("x".repeat(5000));
        strip.push(Direction::Out, &frame, None, Confidence::Open);
        strip
    };
    tape.push(&mut large());
    tape.push(&mut large());
    tape.flush();
    tape.push(&mut large());
    drop(tape);
    let metadata = Metadata::of(lines(&path));
    assert_eq!((metadata.count, metadata.dropped), (2, 1));
}

#[test]
fn the_recorder_is_woken_once_until_it_begins() {
    let path = path("wake");
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to(&path).flush_at(10),
        None,
    );
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    tape.on_wake(move || count.fetch_add(1, Ordering::SeqCst) < usize::MAX);
    tape.push(&mut taken(0..9));
    assert_eq!(woken.load(Ordering::SeqCst), 0);
    tape.push(&mut taken(0..30));
    tape.push(&mut taken(0..30));
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    tape.flush();
    tape.push(&mut taken(0..10));
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}

#[test]
fn a_disk_that_refuses_is_counted_and_what_waits_is_written_when_it_is_back() {
    let path = path("refusal");
    let folder = path.parent().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    let tape = Tape::new(Reporter::new("s", Vec::new()), Record::to(&path), None);
    tape.push(&mut taken(0..3));
    tape.flush();
    tape.flush();
    assert_eq!(tape.statistics().errors, 2);
    std::fs::create_dir_all(folder).unwrap();
    tape.flush();
    assert_eq!(texts(&path), ["0", "1", "2"]);
    assert_eq!(tape.statistics().dropped, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_counted_together_with_what_it_cost() {
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to("/dev/full"),
        None,
    );
    tape.push(&mut taken(0..3));
    tape.flush();
    let statistics = tape.statistics();
    assert_eq!(
        (statistics.errors, statistics.dropped, statistics.entries),
        (1, 3, 0)
    );
}

#[cfg(unix)]
#[test]
fn what_a_disk_has_refused_stands_in_the_file_when_it_takes_again() {
    let path = path("full");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let tape = Tape::new(Reporter::new("s", Vec::new()), Record::to(&path), None);
    tape.push(&mut taken(0..3));
    tape.flush();
    // What was refused is refused again, and not counted again.
    tape.flush();
    assert_eq!(tape.statistics().dropped, 3);
    std::fs::remove_file(&path).unwrap();
    tape.push(&mut taken(3..5));
    tape.flush();
    let recorded: Vec<Recorded> = lines(&path)
        .iter()
        .filter(|line| !line.is_empty())
        .map(|line| Entry::parse(line).unwrap().recorded)
        .collect();
    let dropped = Recorded::Dropped {
        inbound: 3,
        outbound: 0,
    };
    assert_eq!(recorded.first(), Some(&dropped));
    assert_eq!(texts(&path), ["3", "4"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_is_full_when_the_session_ends_is_not_asked_for_ever() {
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to("/dev/full"),
        None,
    );
    tape.push(&mut taken(0..3));
    tape.finish();
    tape.flush();
    assert_eq!(tape.statistics().dropped, 3);
}

#[test]
fn a_file_is_emptied_first_unless_it_is_to_be_appended_to() {
    let path = path("append");
    for (append, expected) in [(false, 1), (true, 2), (false, 1)] {
        let tape = Tape::new(
            Reporter::new("s", Vec::new()),
            Record::to(&path).append(append),
            None,
        );
        tape.push(&mut taken(0..1));
        drop(tape);
        assert_eq!(lines(&path).len(), expected);
    }
}

#[test]
fn what_waits_is_written_when_the_session_ends_and_when_the_last_owner_goes() {
    let path = path("drop");
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to(&path).durable(true),
        None,
    );
    tape.push(&mut taken(0..5));
    tape.finish();
    assert_eq!(lines(&path).len(), 5);
    tape.push(&mut taken(5..7));
    drop(tape);
    assert_eq!(lines(&path).len(), 7);
}

#[test]
fn a_panic_in_the_middle_of_a_turn_costs_nothing_that_was_pushed() {
    let path = path("panic");
    let tape = Tape::new(Reporter::new("s", Vec::new()), Record::to(&path), None);
    tape.push(&mut taken(0..5));
    let held = Arc::clone(&tape);
    let panicked = std::thread::spawn(move || {
        let _disk = lock(&held.disk);
        panic!("while the disk is held");
    });
    assert!(panicked.join().is_err());
    drop(tape);
    assert_eq!(lines(&path).len(), 5);
}

#[test]
fn the_entry_at_which_somebody_panicked_is_counted_and_what_is_behind_it_is_written() {
    let path = path("begun");
    let tape = Tape::new(Reporter::new("s", Vec::new()), Record::to(&path), None);
    tape.push(&mut taken(0..5));
    let held = Arc::clone(&tape);
    let panicked = std::thread::spawn(move || {
        let mut disk = lock(&held.disk);
        assert!(lock(&held.queue).take(&mut disk.strip));
        let noted = disk.strip.next().unwrap();
        let begun = (noted.at, noted.note.direction);
        disk.begun = Some(begun);
        disk.line.extend_from_slice(b"half a line");
        panic!("at the first of five");
    });
    assert!(panicked.join().is_err());
    tape.flush();
    let expected = Entry::dropped(UNIX_EPOCH, 1, 0);
    assert_eq!(Entry::parse(&lines(&path)[0]).unwrap(), expected);
    assert_eq!(texts(&path), ["1", "2", "3", "4"]);
    assert_eq!(tape.statistics().dropped, 1);
}

#[test]
fn what_is_being_written_counts_in_the_bounds() {
    let path = path("hand");
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to(&path).flush_at(1).bounds(10, 1 << 20),
        None,
    );
    tape.push(&mut taken(0..10));
    let mut disk = lock(&tape.disk);
    assert!(lock(&tape.queue).take(&mut disk.strip));
    tape.push(&mut taken(10..12));
    drop(disk);
    tape.flush();
    assert_eq!(texts(&path).len(), 10);
    assert_eq!(tape.statistics().dropped, 2);
}

#[test]
fn who_keeps_up_writes_what_comes_and_is_not_woken_for_it() {
    let path = path("pace");
    let tape = Tape::new(
        Reporter::new("s", Vec::new()),
        Record::to(&path).flush_at(10),
        None,
    );
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    tape.on_wake(move || count.fetch_add(1, Ordering::SeqCst) < usize::MAX);
    tape.push(&mut taken(0..10));
    tape.keep_up();
    assert_eq!(texts(&path).len(), 10);
    assert_eq!(woken.load(Ordering::SeqCst), 1);
    // Nobody is awake any more.
    tape.push(&mut taken(10..20));
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}
