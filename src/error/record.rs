//! Why a session's recording has no file.
//!
//! Apart from the other errors because this is known before anything is dialed, and of the file alone; what a disk refuses
//! later is counted and told, and hinders nobody.
//!
//! Invariants: each names the path as it was given, and what to do.

use std::path::PathBuf;

use super::Recovery;

/// A session cannot be recorded to the path that it was given. Nothing was dialed, and no file was touched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Another session that is not over records there.
    #[error(
        "another session of this program records to {path:?}: give each session a path of its own"
    )]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// There is no folder for the file.
    #[error("{path:?} cannot be recorded to, since there is no folder {folder:?}: create it first")]
    NoFolder {
        /// The path.
        path: PathBuf,
        /// What is missing.
        folder: PathBuf,
    },
    /// What should be the file's folder is something else.
    #[error(
        "{path:?} cannot be recorded to, since {folder:?} is no folder: give a path within a folder"
    )]
    NotInFolder {
        /// The path.
        path: PathBuf,
        /// What is in its place.
        folder: PathBuf,
    },
    /// The path is a folder's.
    #[error("{path:?} cannot be recorded to, since it is a folder: name a file")]
    IsFolder {
        /// The path.
        path: PathBuf,
    },
}

impl RecordError {
    /// Another path, or another time.
    #[must_use]
    pub fn recovery(&self) -> Recovery {
        Recovery::Stop
    }
}
