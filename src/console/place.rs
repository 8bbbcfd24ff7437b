//! Where a program can be looked at: a socket in the file system, or a port of the loopback.
//!
//! Apart from the server because files outlive programs: one that a dead program left behind is replaced, one that
//! is served is not, and there is no moment at which somebody else may open it.
//!
//! Invariants: the file has mode 0600 before it has its name; only this server's own file is removed at the end.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

use super::ServeError;

/// Where a program can be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A socket in the file system, which only its user may open. On Unix.
    Path(PathBuf),
    /// A port of the loopback, which every user of this machine can reach; port 0 lets the system choose.
    Loopback(SocketAddr),
}

impl From<&Path> for Place {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for Place {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Loopback(address)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

/// A place that is ours.
#[derive(Debug)]
pub(super) struct Bound {
    place: Place,
    /// Device and number of our file.
    #[cfg(unix)]
    file: Option<(u64, u64)>,
}

impl Bound {
    pub(super) fn place(&self) -> &Place {
        &self.place
    }
}

#[cfg(unix)]
impl Drop for Bound {
    fn drop(&mut self) {
        if let (Place::Path(path), Some(ours)) = (&self.place, self.file)
            && file::identity(path).is_ok_and(|found| found == ours)
        {
            // Somebody may have removed it between the two.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Who is waited for.
pub(super) enum Listener {
    #[cfg(unix)]
    File(tokio::net::UnixListener),
    Loopback(TcpListener),
}

/// Who has come.
pub(super) enum Stream {
    #[cfg(unix)]
    File(tokio::net::UnixStream),
    Loopback(tokio::net::TcpStream),
}

impl Listener {
    pub(super) async fn accept(&self) -> std::io::Result<Stream> {
        match self {
            #[cfg(unix)]
            Self::File(listener) => Ok(Stream::File(listener.accept().await?.0)),
            Self::Loopback(listener) => Ok(Stream::Loopback(listener.accept().await?.0)),
        }
    }
}

/// Takes a place.
pub(super) async fn bind(place: Place) -> Result<(Bound, Listener), ServeError> {
    match place {
        Place::Loopback(address) if !address.ip().is_loopback() => {
            Err(ServeError::NotLoopback { address })
        }
        Place::Loopback(address) => {
            let failed = |source| ServeError::Io {
                place: address.to_string(),
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            let bound = Bound {
                place: Place::Loopback(address),
                #[cfg(unix)]
                file: None,
            };
            Ok((bound, Listener::Loopback(listener)))
        }
        #[cfg(unix)]
        Place::Path(path) => file::bind(path),
        #[cfg(not(unix))]
        Place::Path(path) => Err(ServeError::NoFiles { path }),
    }
}

#[cfg(unix)]
mod file {
    use std::fs::{self, DirBuilder, Permissions};
    use std::io;
    use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};

    use tokio::net::UnixListener;

    use super::{Bound, Listener, Place};
    use crate::console::ServeError;

    pub(super) fn bind(path: PathBuf) -> Result<(Bound, Listener), ServeError> {
        free(&path)?;
        let failed = |source| ServeError::Io {
            place: path.display().to_string(),
            source,
        };
        // Made where only we may look, given its mode, and then its name: a file that is made with its name has
        // the process's own mode for a moment.
        let folder = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let nest = folder.join(format!(".m{}{}", std::process::id(), fastrand::u16(..)));
        DirBuilder::new()
            .mode(0o700)
            .create(&nest)
            .map_err(failed)?;
        let made = move_in(&nest.join("s"), &path);
        // Empty by now, unless it could not be made; nothing can be done about one that stays.
        let _ = fs::remove_file(nest.join("s"));
        let _ = fs::remove_dir(&nest);
        let (listener, file) = made.map_err(failed)?;
        let bound = Bound {
            place: Place::Path(path),
            file: Some(file),
        };
        Ok((bound, Listener::File(listener)))
    }

    fn move_in(nest: &Path, path: &Path) -> io::Result<(UnixListener, (u64, u64))> {
        let listener = UnixListener::bind(nest)?;
        fs::set_permissions(nest, Permissions::from_mode(0o600))?;
        let file = identity(nest)?;
        fs::rename(nest, path)?;
        Ok((listener, file))
    }

    /// Whether the place may be taken: nothing is there, or a socket that nobody serves.
    fn free(path: &Path) -> Result<(), ServeError> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Ok(found) if found.file_type().is_socket() => {}
            Ok(_) => {
                return Err(ServeError::Occupied {
                    path: path.to_owned(),
                });
            }
            Err(source) => {
                return Err(ServeError::Io {
                    place: path.display().to_string(),
                    source,
                });
            }
        }
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            // Whatever else it says, somebody may be there.
            Ok(_) | Err(_) => Err(ServeError::InUse {
                place: path.display().to_string(),
            }),
        }
    }

    pub(super) fn identity(path: &Path) -> io::Result<(u64, u64)> {
        let found = fs::symlink_metadata(path)?;
        Ok((found.dev(), found.ino()))
    }
}
