//! The Client actor: the session's one authority over its connection.
//!
//! It owns no socket. It hears of the connection from the Transport, which it also monitors, and of
//! silence from the HeartbeatManager; it alone decides that a connection is given up. Under layer 1 it
//! outlives connections; under layer 2 it ends with one.
//!
//! Invariants: it knows no venue; it never waits for a socket or for another actor.

use std::sync::Arc;

use mainstay_supervisors::{Address, Down, MonitorRef, monitor};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};

use super::Sink;
use super::heartbeat_manager::{HeartbeatEvent, HeartbeatMessage};
use super::plane::Plane;
use super::spans::Traced;
use super::transport::{TransportEvent, TransportMessage};
use crate::close::CloseReason;
use crate::protocol::connection::{Connection, ConnectionAction};
use crate::protocol::continuity::Epoch;

/// Decides about one session's connection.
#[derive(Debug)]
pub(crate) struct Client;

/// What a Client is told.
#[derive(Debug)]
pub(crate) enum ClientMessage {
    /// From the Transport.
    Transport(TransportEvent),
    /// From the monitor on the Transport.
    TransportDown(Down),
    /// From the HeartbeatManager.
    Heartbeat(HeartbeatEvent),
    /// Give the connection of this epoch up.
    Abandon(Epoch, CloseReason),
    /// Panic, to show what happens then.
    #[cfg(feature = "testing")]
    Crash,
}

mainstay_supervisors::message!(Traced<ClientMessage>);

impl From<Down> for Traced<ClientMessage> {
    fn from(down: Down) -> Self {
        ClientMessage::TransportDown(down).into()
    }
}

/// What a Client reports upward.
#[derive(Debug, Clone)]
pub(crate) enum ClientEvent {
    /// It has started; who wants to know of its end monitors this cell.
    Started(ActorCell),
    /// A connection is open.
    Opened(Epoch),
    /// The connection is over.
    Closed,
}

/// What a Client is made of.
pub(crate) struct ClientArguments {
    pub(crate) plane: Arc<Plane>,
    pub(crate) transport: Address<Traced<TransportMessage>>,
    pub(crate) heartbeat: Address<Traced<HeartbeatMessage>>,
    /// Whether somebody above establishes the session. If not, open is live.
    pub(crate) established_above: bool,
    pub(crate) events: Sink<ClientEvent>,
}

/// What it remembers.
pub(crate) struct ClientState {
    arguments: ClientArguments,
    connection: Connection,
    /// The monitor on the present Transport.
    monitor: Option<MonitorRef>,
}

#[cfg_attr(feature = "async-trait", ractor::async_trait)]
impl Actor for Client {
    type Msg = Traced<ClientMessage>;
    type State = ClientState;
    type Arguments = ClientArguments;

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(ClientState {
            arguments,
            connection: Connection::new(),
            monitor: None,
        })
    }

    async fn post_start(
        &self,
        myself: ActorRef<Self::Msg>,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        (state.arguments.events)(ClientEvent::Started(myself.get_cell()));
        Ok(())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (message, span) = message.open(&state.arguments.plane, "client", &myself);
        let _within = span.enter();
        let action = match message {
            ClientMessage::Transport(TransportEvent::Started(transport)) => {
                state.watch(monitor(&myself, transport));
                ConnectionAction::None
            }
            ClientMessage::Transport(TransportEvent::Opened(epoch)) => {
                state.connection.on_opened(epoch)
            }
            ClientMessage::Transport(TransportEvent::Closed(reason)) => {
                // Its end has nothing to add.
                if let Some(monitor) = state.monitor.take() {
                    monitor.demonitor_flush();
                }
                state.connection.on_closed(reason)
            }
            ClientMessage::TransportDown(down) => state.transport_down(down),
            ClientMessage::Heartbeat(HeartbeatEvent::Silent { epoch, quiet }) => state
                .connection
                .on_unfit(epoch, CloseReason::Silent { quiet }),
            ClientMessage::Abandon(epoch, reason) => state.connection.on_unfit(epoch, reason),
            #[cfg(feature = "testing")]
            ClientMessage::Crash => panic!("the client was told to panic"),
        };
        state.perform(action);
        Ok(())
    }
}

impl ClientState {
    /// An earlier Transport's end says nothing about the present one.
    fn watch(&mut self, present: MonitorRef) {
        if let Some(earlier) = self.monitor.replace(present) {
            earlier.demonitor_flush();
        }
    }

    fn transport_down(&mut self, down: Down) -> ConnectionAction {
        let Some(ended) = down.claim() else {
            return ConnectionAction::None;
        };
        self.monitor = None;
        self.connection.on_closed(CloseReason::ActorEnded {
            actor: "transport".to_owned(),
            reason: ended.reason.to_string(),
        })
    }

    fn perform(&mut self, action: ConnectionAction) {
        match action {
            ConnectionAction::None => {}
            ConnectionAction::AnnounceOpened(epoch) => {
                // A HeartbeatManager that is not up yet looks for itself when it is.
                let _ = self
                    .arguments
                    .heartbeat
                    .cast(HeartbeatMessage::Watch(epoch).into());
                if !self.arguments.established_above {
                    self.arguments.plane.live(epoch, false);
                }
                (self.arguments.events)(ClientEvent::Opened(epoch));
            }
            ConnectionAction::AnnounceClosed(_reason) => {
                (self.arguments.events)(ClientEvent::Closed);
            }
            ConnectionAction::Abort(reason) => {
                // A Transport that is gone has given its connection up already.
                let _ = self
                    .arguments
                    .transport
                    .cast(TransportMessage::Abort(reason).into());
            }
        }
    }
}
