//! Which files this program's sessions record to: each has its own.
//!
//! Apart from the tape because it is about all sessions of a program, and begins before there is a tape.
//!
//! Invariants: a file has one session from its start to its end, over all of its incarnations; what a session that is
//! over has yet to write stands in the file before the next one begins, or never does; nothing is opened here; nobody
//! waits for a disk with the table locked.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};

use super::disk::Disk;
use super::{Tape, leave, lock};
use crate::config::Record;
use crate::error::RecordError;

/// A session's right to a file. Who has a clone goes on having it; the last one's drop gives it back.
#[derive(Debug)]
pub(crate) struct Claim {
    file: PathBuf,
}

/// What is known of a file.
#[derive(Debug)]
struct Claimed {
    claim: Weak<Claim>,
    /// Who writes it, or is over and may yet have something to write.
    writer: Option<Writer>,
}

/// A tape, and its disk, which is there for as long as the tape's own end takes.
#[derive(Debug, Clone)]
struct Writer {
    tape: Weak<Tape>,
    disk: Arc<Mutex<Disk>>,
}

/// By files as the system spells them.
static CLAIMED: Mutex<BTreeMap<PathBuf, Claimed>> = Mutex::new(BTreeMap::new());

impl Claim {
    /// Claims the file of a session that is to be started.
    pub(crate) fn on(record: &Record) -> Result<Arc<Self>, RecordError> {
        let file = look(&record.path)?;
        if keeps_nothing(&file) {
            return Ok(Arc::new(Self { file }));
        }
        let taken = || RecordError::Taken {
            path: record.path.clone(),
        };
        let mut table = lock(&CLAIMED);
        if let Some(claimed) = table.get(&file) {
            if claimed.is_held() {
                return Err(taken());
            }
            let writer = claimed.writer.clone();
            drop(table);
            // One that a disk holds up has not gone.
            if !writer.is_none_or(Writer::goes) {
                return Err(taken());
            }
            table = lock(&CLAIMED);
            if table.get(&file).is_some_and(Claimed::is_held) {
                return Err(taken());
            }
        }
        let claim = Arc::new(Self { file: file.clone() });
        let claimed = Claimed {
            claim: Arc::downgrade(&claim),
            writer: None,
        };
        table.insert(file, claimed);
        Ok(claim)
    }

    /// From now on this tape writes the file; that of an earlier incarnation no longer does.
    pub(super) fn is_of(&self, tape: &Arc<Tape>) {
        let writer = Writer {
            tape: Arc::downgrade(tape),
            disk: Arc::clone(&tape.disk),
        };
        let before = lock(&CLAIMED)
            .get_mut(&self.file)
            .and_then(|claimed| claimed.writer.replace(writer));
        if let Some(before) = before {
            // One that a disk holds up appends what it still has.
            before.goes();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        forget_the_gone();
    }
}

impl Claimed {
    fn is_held(&self) -> bool {
        // Not upgraded: the drop of what comes of that would lock the table once more.
        self.claim.strong_count() > 0
    }

    fn is_of_use(&self) -> bool {
        let writer = self.writer.as_ref();
        self.is_held() || writer.is_some_and(|writer| writer.tape.strong_count() > 0)
    }
}

impl Writer {
    /// Has it write what it still has and then nothing more. Whether it does.
    fn goes(self) -> bool {
        match self.tape.upgrade() {
            Some(tape) => tape.leave(),
            // It is being dropped, and has written all or will find that it may not.
            None => leave(&self.disk, |_| ()),
        }
    }
}

/// Nobody has these files any more.
pub(super) fn forget_the_gone() {
    let mut table = lock(&CLAIMED);
    let gone = table.iter().filter(|(_, claimed)| !claimed.is_of_use());
    let gone: Vec<PathBuf> = gone.map(|(file, _)| file.clone()).collect();
    let gone: Vec<_> = gone.iter().map(|file| table.remove(file)).collect();
    // A file may be closed by this.
    drop(table);
    drop(gone);
}

/// Whether it is no file that one could empty for another, but a device or a pipe.
fn keeps_nothing(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| !found.is_file())
}

/// The file at a path as the system spells it, as far as that is known without opening it.
fn look(path: &Path) -> Result<PathBuf, RecordError> {
    let given = || path.to_owned();
    let ends = path.as_os_str().as_encoded_bytes().last();
    let named = ends.is_some_and(|end| !std::path::is_separator(char::from(*end)));
    if !named || std::fs::metadata(path).is_ok_and(|found| found.is_dir()) {
        return Err(RecordError::IsFolder { path: given() });
    }
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    match std::fs::metadata(folder) {
        Ok(found) if found.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RecordError::NoFolder {
                path: given(),
                folder: folder.to_owned(),
            });
        }
        Ok(_) => {
            return Err(RecordError::NotInFolder {
                path: given(),
                folder: folder.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            return Err(RecordError::NotInFolder {
                path: given(),
                folder: folder.to_owned(),
            });
        }
        // What a look does not tell is the disk's to refuse.
        Err(_) => {}
    }
    let file = std::fs::canonicalize(path).or_else(|_| {
        let name = path.file_name().unwrap_or_default();
        std::fs::canonicalize(folder).map(|folder| folder.join(name))
    });
    Ok(file.unwrap_or_else(|_| given()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::tests::{lines, path, taken};
    use super::*;
    use crate::session::reporter::Reporter;

    fn tape(record: &Record, claim: Arc<Claim>) -> Arc<Tape> {
        let tape = Tape::new(Reporter::new("s", Vec::new()), record.clone(), None);
        tape.claimed(claim);
        tape
    }

    #[test]
    fn what_is_left_of_a_session_is_written_before_the_next_one_has_its_file() {
        let path = path("left");
        let record = Record::to(&path).append(true);
        let first = tape(&record, Claim::on(&record).unwrap());
        first.push(&mut taken(0..2));
        first.finish();
        // Killed in the middle of a turn.
        first.push(&mut taken(2..3));
        let second = tape(&record, Claim::on(&record).unwrap());
        assert_eq!(lines(&path).len(), 3);
        // Later than that is too late, and counted.
        first.push(&mut taken(3..5));
        first.flush();
        drop(first);
        second.push(&mut taken(5..6));
        second.flush();
        assert_eq!(lines(&path).len(), 4);
    }

    #[test]
    fn what_comes_too_late_is_counted() {
        let path = path("late");
        let record = Record::to(&path);
        let first = tape(&record, Claim::on(&record).unwrap());
        first.finish();
        let second = Claim::on(&record).unwrap();
        first.push(&mut taken(0..3));
        first.flush();
        assert_eq!(first.statistics().dropped, 3);
        assert_eq!(first.statistics().errors, 0);
        assert!(lines(&path).is_empty());
        drop(second);
    }

    #[test]
    fn a_session_that_a_disk_holds_up_keeps_its_file() {
        let path = path("held");
        let record = Record::to(&path);
        let first = tape(&record, Claim::on(&record).unwrap());
        first.ending.store(true, Ordering::Release);
        let writing = lock(&first.disk);
        first.finish();
        let refused = Claim::on(&record).unwrap_err();
        assert!(matches!(refused, RecordError::Taken { .. }));
        drop(writing);
        Claim::on(&record).unwrap();
    }

    #[test]
    fn who_has_a_claim_has_it_over_all_incarnations_and_only_the_latest_writes() {
        let path = path("incarnations");
        let record = Record::to(&path);
        let claim = Claim::on(&record).unwrap();
        let first = tape(&record, Arc::clone(&claim));
        first.push(&mut taken(0..1));
        first.finish();
        assert!(Claim::on(&record).is_err());
        let again = record.clone().append(true);
        let second = tape(&again, Arc::clone(&claim));
        first.push(&mut taken(1..2));
        second.push(&mut taken(2..3));
        drop((first, second));
        assert_eq!(lines(&path).len(), 2);
        assert!(Claim::on(&record).is_err());
        drop(claim);
        Claim::on(&record).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn what_keeps_nothing_can_be_many_sessions() {
        let record = Record::to("/dev/null");
        let first = tape(&record, Claim::on(&record).unwrap());
        let second = tape(&record, Claim::on(&record).unwrap());
        for tape in [first, second] {
            tape.push(&mut taken(0..1));
            tape.flush();
            assert_eq!(tape.statistics().dropped, 0);
        }
    }

    #[test]
    fn nothing_is_remembered_of_files_that_nobody_has() {
        let path = path("forgotten");
        let record = Record::to(&path);
        let file = look(&path).unwrap();
        let known = || lock(&CLAIMED).contains_key(&file);
        let tape = tape(&record, Claim::on(&record).unwrap());
        assert!(known());
        tape.finish();
        assert!(known(), "it may have more to write");
        drop(tape);
        assert!(!known());
        drop(Claim::on(&record).unwrap());
        assert!(!known());
    }
}
