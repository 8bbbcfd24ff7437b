//! A task with an owner: dropping the owner ends the task.

use std::future::Future;

use tokio::task::JoinHandle;

/// The owner of one task.
#[derive(Debug)]
pub(crate) struct OwnedTask(JoinHandle<()>);

impl OwnedTask {
    /// Starts a task that ends at the latest when its owner does.
    pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }

    /// Waits for its end. Cancel safe; the task goes on.
    pub(crate) async fn finished(&mut self) {
        // A panic has been told to the owner by other means, and an abort was the owner's own.
        let _ = (&mut self.0).await;
    }
}

impl Drop for OwnedTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
