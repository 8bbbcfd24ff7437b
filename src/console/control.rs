//! An actor of a tree, found by the id that an inspection shows.
//!
//! Apart from the conversation because it walks trees and knows no client.
//!
//! Invariant: only what a served tree holds is found, and each supervisor is asked with a deadline.

use std::time::Duration;

use mainstay_supervisors::SupervisorRef;
use mainstay_supervisors::ractor::ActorCell;
use tokio::time::timeout;

/// How long a supervisor may take to tell its children.
const PATIENCE: Duration = Duration::from_secs(1);

/// The actor with this id in the tree; its root included.
pub(super) async fn find(tree: &SupervisorRef, id: &str) -> Option<ActorCell> {
    let mut left = vec![tree.clone()];
    while let Some(supervisor) = left.pop() {
        if supervisor.cell().get_id().to_string() == id {
            return Some(supervisor.cell().clone());
        }
        let children = timeout(PATIENCE, supervisor.which_children()).await;
        for child in children.ok().and_then(Result::ok).unwrap_or_default() {
            match (child.supervisor, child.cell) {
                (Some(below), _) => left.push(below),
                (None, Some(cell)) if cell.get_id().to_string() == id => return Some(cell),
                (None, Some(_) | None) => {}
            }
        }
    }
    None
}
