//! The accept loop of a test server, and the owner of its connections' tasks.
//!
//! A file of its own because both servers share it, and because the promise "nothing outlives its
//! server" is kept here and nowhere else.
//!
//! Invariants: the accept task owns every connection task; dropping the [`Listener`] ends all of
//! them; at most [`MOST_CONNECTIONS`] exist at once, later ones are dropped unserved.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::certificate::{CertificateOptions, Certificates, StartError};
use super::door::{Door, Shutter};
use super::memory::{self, MemoryConnector};
use super::stream::Pipe;
use crate::connector::Connector;

/// How many connections a test server serves at once.
pub(super) const MOST_CONNECTIONS: usize = 4096;

/// Where and how to listen.
#[derive(Debug, Clone, Default)]
pub(super) struct ListenOptions {
    pub(super) tls: bool,
    pub(super) ipv6: bool,
    /// Neither address nor port, then.
    pub(super) in_memory: bool,
    /// 0 lets the system choose.
    pub(super) port: u16,
    pub(super) certificate: CertificateOptions,
}

/// A bound address, not yet served.
pub(super) struct Bound {
    door: Door,
    connector: Option<MemoryConnector>,
    pub(super) address: SocketAddr,
    pub(super) certificates: Option<Certificates>,
}

impl Bound {
    pub(super) async fn bind(options: &ListenOptions) -> Result<Self, StartError> {
        let ip = match options.ipv6 {
            true => IpAddr::V6(Ipv6Addr::LOCALHOST),
            false => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        let certificates = match options.tls {
            true => Some(Certificates::make(&options.certificate)?),
            false => None,
        };
        if options.in_memory {
            let (connector, door) = memory::door();
            return Ok(Self {
                door: Door::memory(door),
                connector: Some(connector),
                address: memory::ADDRESS,
                certificates,
            });
        }
        let tcp = TcpListener::bind((ip, options.port))
            .await
            .map_err(StartError::Bind)?;
        let address = tcp.local_addr().map_err(StartError::Bind)?;
        Ok(Self {
            door: Door::tcp(tcp, address),
            connector: None,
            address,
            certificates,
        })
    }

    /// Serves every connection with `serve`, which gets its number, counted from 1.
    pub(super) fn serve<S, F>(self, mut serve: S) -> Listener
    where
        S: FnMut(u64, Pipe) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let accepted = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let count = Arc::clone(&accepted);
        let mut door = self.door;
        let (shutter, mut orders) = Shutter::new();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut stopped = stopped;
            loop {
                tokio::select! {
                    // First, so that nobody comes in after the door has been told to shut.
                    biased;
                    Some((time, done)) = orders.recv() => {
                        door.shut(time);
                        let _ = done.send(());
                    }
                    pipe = door.accept() => {
                        if connections.len() < MOST_CONNECTIONS {
                            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                            connections.spawn(serve(number, pipe));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                    _ = &mut stopped => break,
                }
            }
            drop(door);
            connections.shutdown().await;
        });
        Listener {
            address: self.address,
            certificates: self.certificates,
            accepted,
            connector: self.connector,
            shutter,
            stop: Some(stop),
            task,
        }
    }
}

/// A served address.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) certificates: Option<Certificates>,
    accepted: Arc<AtomicU64>,
    connector: Option<MemoryConnector>,
    shutter: Shutter,
    /// Taken by the first `stop`.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// What shuts the door.
    pub(super) fn shutter(&self) -> Shutter {
        self.shutter.clone()
    }

    /// What brings sessions here, if it is in memory.
    pub(super) fn connector(&self) -> Option<Arc<dyn Connector>> {
        let connector = self.connector.clone()?;
        Some(Arc::new(connector))
    }

    /// The scheme and authority of the server's URL.
    ///
    /// With TLS over IPv4 the host is `localhost`, as a certificate usually has names.
    pub(super) fn origin(&self) -> String {
        let (address, port) = (self.address, self.address.port());
        match (&self.certificates, address.is_ipv4()) {
            (Some(_), true) => format!("wss://localhost:{port}"),
            (Some(_), false) => format!("wss://{address}"),
            (None, _) => format!("ws://{address}"),
        }
    }

    pub(super) fn ca_certificate_pem(&self) -> Option<&str> {
        Some(self.certificates.as_ref()?.ca_pem.as_str())
    }

    pub(super) fn ca_certificate_der(&self) -> Option<&[u8]> {
        Some(self.certificates.as_ref()?.ca_der.as_ref())
    }

    /// Ends every connection without a word and returns when no task is left.
    pub(super) async fn stop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
            let _ = (&mut self.task).await;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // The task owns the others and takes them along.
        self.task.abort();
    }
}
