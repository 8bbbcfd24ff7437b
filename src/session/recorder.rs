//! The Recorder actor: brings what waits on the tape to the disk.
//!
//! The last child of a session's tree, because nothing depends on it: it may fail, hang on a disk, or be
//! restarted at any time, and the session goes on.
//!
//! Invariants: it writes on a thread for blocking work, never on a worker of the runtime; it is woken at
//! most once for what it has yet to do, and not while there is much to do anyway; a new one finds what its predecessor
//! left.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::tape::Tape;
use super::task::OwnedTask;

/// Writes one session's recording.
#[derive(Debug)]
pub(crate) struct Recorder;

/// What a Recorder is told.
#[derive(Debug)]
pub(crate) enum RecorderMessage {
    /// Write what waits.
    Flush,
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(RecorderMessage);

/// What a Recorder is made of.
pub(crate) struct RecorderArguments {
    pub(crate) tape: Arc<Tape>,
}

/// What it remembers.
pub(crate) struct RecorderState {
    tape: Arc<Tape>,
    /// Asks for a flush in every interval.
    _timer: OwnedTask,
}

/// The disk's own thread panicked: a bug of ours.
#[derive(Debug, thiserror::Error)]
#[error("writing the recording failed: {0}")]
struct FlushFailed(String);

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Recorder {
    type Msg = RecorderMessage;
    type State = RecorderState;
    type Arguments = RecorderArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        RecorderArguments { tape }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        tape.forget_asking();
        let (interval, ticking) = (tape.record().flush_every, Arc::clone(&tape));
        let timer = OwnedTask::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                ticking.ask();
            }
        });
        Ok(RecorderState {
            tape,
            _timer: timer,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        // Opens the file, and writes what a predecessor left.
        myself.cast(RecorderMessage::Flush)?;
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RecorderMessage::Flush => write(&state.tape, |tape| tape.keep_up()).await,
            #[cfg(feature = "testing")]
            RecorderMessage::Crash => panic!("the recorder was told to panic"),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        write(&state.tape, |tape| tape.flush()).await
    }
}

async fn write(tape: &Arc<Tape>, how: fn(&Tape)) -> Result<(), ActorProcessingErr> {
    let tape = Arc::clone(tape);
    tokio::task::spawn_blocking(move || how(&tape))
        .await
        .map_err(|error| Box::new(FlushFailed(error.to_string())).into())
}
