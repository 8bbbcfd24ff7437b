//! Which session stands under which connection id.
//!
//! Apart from the pool because a program can use it by itself: sessions started anywhere, found by name
//! everywhere.
//!
//! Invariants: an id has one session at a time; a session that has ended, in whatever way, is taken out by the
//! registry itself; nobody holds a lock of the map while waiting.

use std::borrow::Borrow;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use serde::{Serialize, Serializer};
use tokio::sync::watch;

use crate::error::DuplicateId;
use crate::session::Session;
use crate::session::plane::SessionState;
use crate::session::task::OwnedTask;

/// The name of a session that stays the same over its reconnects and restarts. Cheap to clone.
///
/// It appears in events and errors: keep credentials out of it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(Arc<str>);

impl ConnectionId {
    /// The id `id`.
    #[must_use]
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ConnectionId {
    fn from(id: &str) -> Self {
        Self::new(id)
    }
}

impl From<String> for ConnectionId {
    fn from(id: String) -> Self {
        Self::new(id)
    }
}

impl From<&ConnectionId> for ConnectionId {
    fn from(id: &ConnectionId) -> Self {
        id.clone()
    }
}

impl Serialize for ConnectionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Borrow<str> for ConnectionId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// A session together with its id.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Member {
    /// Its connection id.
    pub id: ConnectionId,
    /// Its handle.
    pub session: Session,
}

impl Member {
    /// A session under an id.
    #[must_use]
    pub fn new(id: impl Into<ConnectionId>, session: Session) -> Self {
        Self {
            id: id.into(),
            session,
        }
    }
}

/// Sessions by connection id. Cheap to clone; all clones are the same registry.
///
/// It holds a handle on each session, which therefore goes on until it ends, or is removed and let go of by
/// everybody else. A session that has ended is taken out by itself.
///
/// ```
/// use mainstay::Client;
/// use mainstay::pool::Registry;
/// # use mainstay::testing::ScriptedServer;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # let server = ScriptedServer::plain().await?;
/// let registry = Registry::new();
/// registry.insert("main", Client::connect(server.url()).await?)?;
///
/// let session = registry.lookup("main").expect("it was inserted");
/// assert!(registry.insert("main", session.clone()).is_err(), "the id is in use");
///
/// session.shutdown().await;
/// registry.gone("main").await;
/// assert!(registry.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    entries: DashMap<ConnectionId, Place>,
    /// Numbers places, so that a late removal does not meet a successor.
    numbers: AtomicU64,
    /// Counts what has changed.
    changes: watch::Sender<u64>,
}

/// What stands under an id.
struct Place {
    number: u64,
    /// `None` until the first incarnation of a pool's session is made.
    session: Option<Session>,
    /// Takes the session out when it has ended; a pool's own seat does that without.
    watcher: Option<OwnedTask>,
}

impl Place {
    /// Whether a seat frees it, and not its session's end.
    fn pooled(&self) -> bool {
        self.watcher.is_none()
    }
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                entries: DashMap::new(),
                numbers: AtomicU64::new(0),
                changes: watch::Sender::new(0),
            }),
        }
    }

    /// Puts a session under an id, until it ends.
    ///
    /// # Errors
    ///
    /// [`DuplicateId`] if there is a session under it already.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn insert(&self, id: impl Into<ConnectionId>, session: Session) -> Result<(), DuplicateId> {
        let id = id.into();
        let number = self.shared.number();
        let mut state = session.watch();
        // The task must hold nothing that keeps the session, or the registry, alive.
        let watcher = watcher(Arc::downgrade(&self.shared), id.clone(), number, &session);
        let place = Place {
            number,
            session: Some(session),
            watcher: Some(watcher),
        };
        self.take(id.clone(), place)?;
        // Its end may have been seen before it was there.
        if matches!(*state.borrow_and_update(), SessionState::Ended(_)) {
            self.vacate(&id, number);
        }
        Ok(())
    }

    /// The session under an id.
    #[must_use]
    pub fn lookup(&self, id: &str) -> Option<Session> {
        self.shared.entries.get(id)?.session.clone()
    }

    /// Takes the session under an id out, without ending it.
    pub fn remove(&self, id: &str) -> Option<Session> {
        self.take_out(id).and_then(|(_, session)| session)
    }

    /// All of them, in the order in which they were inserted.
    #[must_use]
    pub fn list(&self) -> Vec<Member> {
        let mut numbered: Vec<(u64, Member)> = self
            .shared
            .entries
            .iter()
            .filter_map(|entry| {
                let session = entry.session.clone()?;
                Some((entry.number, Member::new(entry.key(), session)))
            })
            .collect();
        numbered.sort_unstable_by_key(|(number, _)| *number);
        numbered.into_iter().map(|(_, member)| member).collect()
    }

    /// How many ids are in use.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.entries.len()
    }

    /// Whether no id is in use.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shared.entries.is_empty()
    }

    /// Waits until an id is not in use. Cancel safe.
    pub async fn gone(&self, id: &str) {
        let mut changes = self.changes();
        while self.shared.entries.contains_key(id) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Follows what is inserted, replaced and taken out.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Reserves an id for a session that is made anew at each of its starts.
    pub(crate) fn reserve(&self, id: ConnectionId) -> Result<Seat, DuplicateId> {
        let number = self.shared.number();
        self.take(
            id.clone(),
            Place {
                number,
                session: None,
                watcher: None,
            },
        )?;
        Ok(Seat {
            registry: Arc::downgrade(&self.shared),
            id,
            number,
        })
    }

    /// As [`Registry::remove`], and the number of the place if it is a pool's.
    pub(crate) fn take_out(&self, id: &str) -> Option<(Option<u64>, Option<Session>)> {
        let (_, place) = self.shared.entries.remove(id)?;
        self.shared.changed();
        Some((place.pooled().then_some(place.number), place.session))
    }

    /// The sessions that are a pool's own.
    pub(crate) fn pooled(&self) -> Vec<Session> {
        let entries = self.shared.entries.iter();
        let pooled = entries.filter(|entry| entry.pooled());
        pooled.filter_map(|entry| entry.session.clone()).collect()
    }

    /// What stands at this place.
    pub(crate) fn held(&self, id: &ConnectionId, number: u64) -> Option<Session> {
        let place = self.shared.entries.get(id)?;
        place.session.clone().filter(|_| place.number == number)
    }

    /// Takes out what stands at this place, and not at a later one of the same id.
    pub(crate) fn vacate(&self, id: &ConnectionId, number: u64) {
        self.shared.vacate(id, number);
    }

    fn take(&self, id: ConnectionId, place: Place) -> Result<(), DuplicateId> {
        match self.shared.entries.entry(id) {
            Entry::Occupied(taken) => return Err(DuplicateId::new(taken.key().as_str())),
            Entry::Vacant(free) => drop(free.insert(place)),
        }
        self.shared.changed();
        Ok(())
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let states = self.list().into_iter();
        f.debug_map()
            .entries(states.map(|member| (member.id, member.session.state().to_string())))
            .finish()
    }
}

impl Shared {
    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn vacate(&self, id: &ConnectionId, number: u64) {
        let vacated = self
            .entries
            .remove_if(id, |_, place| place.number == number);
        if vacated.is_some() {
            self.changed();
        }
    }
}

fn watcher(registry: Weak<Shared>, id: ConnectionId, number: u64, session: &Session) -> OwnedTask {
    let mut state = session.watch();
    OwnedTask::spawn(async move {
        // An error says that nothing is left of the session.
        let _ = state
            .wait_for(|state| matches!(state, SessionState::Ended(_)))
            .await;
        if let Some(registry) = registry.upgrade() {
            registry.vacate(&id, number);
        }
    })
}

/// An id that is held for one session over its restarts. Dropping it frees the id.
#[derive(Debug)]
pub(crate) struct Seat {
    registry: Weak<Shared>,
    id: ConnectionId,
    number: u64,
}

impl Seat {
    /// The number of its place.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Puts the session's present incarnation there; `false` if it has been taken out meanwhile.
    pub(crate) fn fill(&self, session: &Session) -> bool {
        let Some(registry) = self.registry.upgrade() else {
            return false;
        };
        let mut place = match registry.entries.get_mut(&self.id) {
            Some(place) if place.number == self.number => place,
            Some(_) | None => return false,
        };
        let before = place.session.replace(session.clone());
        drop(place);
        // Not under the map's lock: collectors may hear of its end.
        drop(before);
        registry.changed();
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(registry) = self.registry.upgrade() {
            registry.vacate(&self.id, self.number);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
