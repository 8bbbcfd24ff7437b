//! Whether and how a session is recorded.
//!
//! Apart because most sessions are not recorded, and those that are have many questions answered at once.
//!
//! Invariants: what is to be taken out of a recording never appears in `Debug`; bounds are above zero.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::ConfigError;

/// Where a session's frames are written down, and what is left out.
///
/// The format is `mainstay::protocol::recording`'s. Credentials that the session's platform knows of, and
/// members with names such as `access_token` or `password`, never reach the file; name what else is secret.
///
/// Each session needs a path of its own. One whose file another session of the program records to is refused
/// ([`RecordError`](crate::error::RecordError)), and so is one whose file can have no place: its folder is missing, or the path is
/// a folder. A path is free again when [`Session::shutdown`](crate::Session::shutdown) has returned or the session's last handle
/// was dropped; what a dropped session has not written by the time at which another one takes its file is left out. Other
/// processes are not noticed: two programs that record to one file destroy it for each other. Reading it while it is
/// written is free to all, and so is a device such as `/dev/null`.
///
/// What a disk refuses later hinders no session: it is counted ([`Session::recording`](crate::Session::recording)) and told,
/// and what waits is written when the disk takes it again.
///
/// ```
/// use mainstay::Config;
/// use mainstay::config::Record;
///
/// # fn main() -> Result<(), mainstay::error::ConfigErrors> {
/// let record = Record::to("/tmp/session.jsonl").append(true).redact_member("account_id");
/// let config = Config::builder("wss://example.com/").record(record).build()?;
/// # let _ = config;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "give it to `ConfigBuilder::record`"]
pub struct Record {
    /// The file. Its folder must exist, and no two sessions of a program that run have one file.
    pub path: PathBuf,
    /// Whether to go on after what the file already holds. Default no: it is emptied first.
    pub append: bool,
    /// The longest time that an entry waits before it is written. Default 1 s: what a crash of the
    /// program can cost.
    pub flush_every: Duration,
    /// How many entries are written at the latest. Default 100.
    pub flush_at: usize,
    /// Entries that may wait to be written. Default 65,536; beyond, frames are left out of the recording
    /// and counted.
    pub capacity: usize,
    /// Bytes of payload that may wait to be written. Default 64 MiB; beyond, as above.
    pub max_bytes: usize,
    /// Whether each write is waited for until the disk has it (`fsync`). Default no: what has been written
    /// survives the program, but not the machine.
    pub durable: bool,
    members: Vec<String>,
    methods: Vec<String>,
    texts: Vec<String>,
}

impl Record {
    /// Records into the file at `path`.
    pub fn to(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            append: false,
            flush_every: Duration::from_secs(1),
            flush_at: 100,
            capacity: 65_536,
            max_bytes: 64 * 1024 * 1024,
            durable: false,
            members: Vec::new(),
            methods: Vec::new(),
            texts: Vec::new(),
        }
    }

    /// Whether to go on after what the file already holds. Default no.
    pub fn append(mut self, append: bool) -> Self {
        self.append = append;
        self
    }

    /// The longest time that an entry waits before it is written. Default 1 s.
    pub fn flush_every(mut self, interval: Duration) -> Self {
        self.flush_every = interval;
        self
    }

    /// How many entries are written at the latest. Default 100.
    pub fn flush_at(mut self, entries: usize) -> Self {
        self.flush_at = entries;
        self
    }

    /// Entries, and bytes of payload, that may wait to be written. Default 65,536 and 64 MiB.
    pub fn bounds(mut self, entries: usize, bytes: usize) -> Self {
        (self.capacity, self.max_bytes) = (entries, bytes);
        self
    }

    /// Whether each write is waited for until the disk has it. Default no.
    pub fn durable(mut self, durable: bool) -> Self {
        self.durable = durable;
        self
    }

    /// Takes out the values of members with this name, wherever they stand. Case, `_` and `-` do not matter.
    pub fn redact_member(mut self, name: impl Into<String>) -> Self {
        self.members.push(name.into());
        self
    }

    /// Takes out all values of requests of this method, and every text of their answers.
    pub fn redact_method(mut self, method: impl Into<String>) -> Self {
        self.methods.push(method.into());
        self
    }

    /// Takes out this text wherever it appears. It is not shown by `Debug`.
    pub fn redact_text(mut self, text: impl Into<String>) -> Self {
        self.texts.push(text.into());
        self
    }

    /// Names of members that the user has added.
    pub(crate) fn members(&self) -> &[String] {
        &self.members
    }

    /// Methods that the user has named.
    pub(crate) fn methods(&self) -> &[String] {
        &self.methods
    }

    /// Texts that the user has named.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Names everything that cannot work.
    pub(super) fn check(&self, longest: Duration, errors: &mut Vec<ConfigError>) {
        if self.path.as_os_str().is_empty() {
            let remedy = "name a file";
            errors.push(ConfigError::new("record.path", "", remedy));
        }
        if self.flush_every.is_zero() || self.flush_every > longest {
            let (found, remedy) = (
                format!("{:?}", self.flush_every),
                "give a duration above zero, of at most a year",
            );
            errors.push(ConfigError::new("record.flush_every", found, remedy));
        }
        for (option, value, largest) in [
            ("record.flush_at", self.flush_at, self.capacity),
            ("record.capacity", self.capacity, 1 << 24),
            ("record.max_bytes", self.max_bytes, 1 << 32),
        ] {
            if value == 0 || value > largest {
                let remedy = format!("give a number from 1 to {largest}");
                errors.push(ConfigError::new(option, value.to_string(), remedy));
            }
        }
        for (option, given) in [
            ("record.redact_member", &self.members),
            ("record.redact_method", &self.methods),
            ("record.redact_text", &self.texts),
        ] {
            if given.iter().any(String::is_empty) {
                let remedy = "leave it out, or say what is to be taken out";
                errors.push(ConfigError::new(option, "", remedy));
            }
        }
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("path", &self.path)
            .field("append", &self.append)
            .field("flush_every", &self.flush_every)
            .field("flush_at", &self.flush_at)
            .field("capacity", &self.capacity)
            .field("max_bytes", &self.max_bytes)
            .field("durable", &self.durable)
            .field("members", &self.members)
            .field("methods", &self.methods)
            .field("texts", &self.texts.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let day = Duration::from_secs(24 * 3600);
        let record = || Record::to("session.jsonl");
        let check = |record: Record| {
            let mut errors = Vec::new();
            record.check(day, &mut errors);
            errors
        };
        assert!(check(record()).is_empty());
        for (odd, option) in [
            (Record::to(""), "record.path"),
            (record().flush_every(Duration::ZERO), "record.flush_every"),
            (record().flush_every(2 * day), "record.flush_every"),
            (record().flush_at(0), "record.flush_at"),
            (record().flush_at(11).bounds(10, 1), "record.flush_at"),
            (record().bounds(usize::MAX, 1), "record.capacity"),
            (record().bounds(100, 0), "record.max_bytes"),
            (record().redact_text(""), "record.redact_text"),
        ] {
            let errors = check(odd);
            assert!(
                errors.iter().any(|error| error.option == option),
                "{option}: {errors:?}"
            );
        }
    }

    #[test]
    fn a_debug_text_shows_no_secret() {
        let record = Record::to("session.jsonl").redact_text("hunter2");
        assert!(!format!("{record:?}").contains("hunter2"));
    }
}
