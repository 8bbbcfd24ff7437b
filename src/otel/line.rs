//! The way to a collector: a thread with a small runtime, and connections made on it.
//!
//! Apart because of what the batch processors are: threads without a runtime, which wait for a future. A client
//! that needs a runtime where it is awaited panics there, and all is lost silently; these do not need one.
//!
//! Invariants: nothing here runs on the program's runtime; no span or record of what happens here is exported; every request ends within its limit; a response is
//! read up to [`LARGEST`] bytes.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry::Context;
use opentelemetry_http::{HttpClient, HttpError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;
use url::Url;

use crate::connector::ByteStream;

/// An answer of a collector is some bytes; this is what OpenTelemetry's own clients bear.
const LARGEST: usize = 4 * 1024 * 1024;

/// The thread and its runtime; they end when this is dropped.
#[derive(Debug)]
pub(super) struct Engine {
    handle: Handle,
    _running: oneshot::Sender<()>,
}

impl Engine {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let (running, stopped) = oneshot::channel();
        thread::Builder::new()
            .name("mainstay-otel".to_owned())
            .spawn(move || {
                let _silent = Context::enter_telemetry_suppressed_scope();
                // Either way nobody needs it any more.
                let _ = runtime.block_on(stopped);
            })?;
        Ok(Self {
            handle,
            _running: running,
        })
    }

    /// A channel for gRPC; it connects when it is first used, and again after a loss.
    pub(super) fn channel(&self, dial: Dial, timeout: Duration) -> Channel {
        // To the channel it is never TLS, which is the dial's; to the collector it is what it is.
        let _entered = self.handle.enter();
        Endpoint::from(dial.authority.clone())
            .origin(dial.origin.clone())
            .timeout(timeout)
            .connect_timeout(timeout)
            .connect_with_connector_lazy(dial)
    }

    /// A client for HTTP/1.1.
    pub(super) fn client(&self, dial: Dial, timeout: Duration) -> Http {
        Http {
            client: Client::builder(TokioExecutor::new()).build(dial),
            handle: self.handle.clone(),
            timeout,
        }
    }
}

/// A client that may be awaited on any thread.
pub(super) struct Http {
    client: Client<Dial, Full<Bytes>>,
    handle: Handle,
    timeout: Duration,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

type Answer = Result<Response<Bytes>, HttpError>;

impl HttpClient for Http {
    // As `async_trait` writes it, which is not needed for one function.
    fn send_bytes<'s, 'f>(
        &'s self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Answer> + Send + 'f>>
    where
        's: 'f,
        Self: 'f,
    {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let exchange = async move {
            let response = client.request(request.map(Full::new)).await?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, LARGEST).collect().await?;
            Ok(Response::from_parts(parts, body.to_bytes()))
        };
        let answer = self
            .handle
            .spawn(async move { tokio::time::timeout(timeout, exchange).await? });
        Box::pin(async move { answer.await? })
    }
}

/// Opens connections to one collector.
#[derive(Clone)]
pub(super) struct Dial {
    host: String,
    port: u16,
    /// The collector as if without TLS.
    authority: Uri,
    /// The collector as it is.
    origin: Uri,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Dial {
    /// To the host of `url`, with `tls` if that is to be. Nothing if `url` has no host that can be dialed.
    pub(super) fn new(url: &Url, tls: Option<Arc<ClientConfig>>, http2: bool) -> Option<Self> {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        let port = url.port_or_known_default()?;
        let tls = match tls {
            None => None,
            Some(config) => {
                let mut config = ClientConfig::clone(&config);
                config.alpn_protocols = if http2 {
                    vec![b"h2".to_vec()]
                } else {
                    vec![b"http/1.1".to_vec()]
                };
                let name = ServerName::try_from(host.clone()).ok()?;
                Some((TlsConnector::from(Arc::new(config)), name))
            }
        };
        let as_if = |scheme: &str| {
            let text = format!("{scheme}://{}:{port}", url.host_str()?);
            text.parse().ok()
        };
        Some(Self {
            host,
            port,
            authority: as_if("http")?,
            origin: as_if(url.scheme())?,
            tls,
        })
    }
}

impl Service<Uri> for Dial {
    type Response = TokioIo<Line>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let Self {
            host, port, tls, ..
        } = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect((host.as_str(), port)).await?;
            stream.set_nodelay(true)?;
            let line: Box<dyn ByteStream> = match tls {
                None => Box::new(stream),
                Some((connector, name)) => Box::new(connector.connect(name, stream).await?),
            };
            Ok(TokioIo::new(Line(line)))
        })
    }
}

/// An open connection, with or without TLS.
pub(super) struct Line(Box<dyn ByteStream>);

impl Connection for Line {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
