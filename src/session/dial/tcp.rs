//! From a host to an established TCP connection.
//!
//! A file of its own because several addresses race here, as in RFC 8305 (Happy Eyeballs), and
//! nowhere else.
//!
//! Invariants: every address is tried before the attempt fails; one that does not answer holds the
//! next one back by [`ATTEMPT_DELAY`] at most; the sockets that lose are closed when one wins.
//! Deliberately absent: deadlines, which the caller sets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::sleep;

use crate::config::endpoint::Endpoint;
use crate::error::ConnectError;

/// How long one address may keep quiet before the next is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// All addresses of the endpoint, in the order in which to try them; at least one.
pub(super) async fn resolve(endpoint: &Endpoint) -> Result<VecDeque<SocketAddr>, ConnectError> {
    let failed = |error| ConnectError::Dns {
        host: endpoint.host().to_owned(),
        source: Arc::new(error),
    };
    let addresses = lookup_host((endpoint.host(), endpoint.port()))
        .await
        .map_err(failed)?;
    let addresses = interleave(addresses);
    if addresses.is_empty() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotFound,
            "no address",
        )));
    }
    Ok(addresses)
}

/// Connects to the first of `addresses` that answers.
pub(super) async fn connect(
    mut addresses: VecDeque<SocketAddr>,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let mut attempts = FuturesUnordered::new();
    let mut failure = None;
    loop {
        if let Some(address) = addresses.pop_front() {
            attempts.push(async move {
                let connected = TcpStream::connect(address).await.and_then(|stream| {
                    // A small frame must not wait for the acknowledgement of the one before.
                    stream.set_nodelay(true)?;
                    Ok(stream)
                });
                (address, connected)
            });
        }
        let next_address = async {
            if addresses.is_empty() {
                std::future::pending().await
            } else {
                sleep(ATTEMPT_DELAY).await;
            }
        };
        tokio::select! {
            // In this order, so that a connection that stands is taken.
            biased;
            ended = attempts.next() => match ended {
                Some((address, Ok(stream))) => return Ok((stream, address)),
                Some((address, Err(error))) => failure = Some((address, error)),
                None => {
                    let (address, error) = failure.map_or_else(
                        || (String::new(), io::Error::new(io::ErrorKind::NotFound, "no address")),
                        |(address, error): (SocketAddr, _)| (address.to_string(), error),
                    );
                    return Err(ConnectError::Tcp { address, source: Arc::new(error) });
                }
            },
            () = next_address => {}
        }
    }
}

/// Alternates between the families, beginning with the one that the resolver prefers.
fn interleave(addresses: impl Iterator<Item = SocketAddr>) -> VecDeque<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == preferred);
    let mut second = second.into_iter();
    let mut mixed = VecDeque::new();
    for address in first {
        mixed.push_back(address);
        mixed.extend(second.next());
    }
    mixed.extend(second);
    mixed
}
