//! A collector that keeps what it receives, over gRPC by the generated services or over HTTP.
//!
//! In a file of its own because it knows the protocol and nothing of what the tests ask.
//!
//! Invariant: it runs on a runtime of its own, as a collector does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{
    LogsService, LogsServiceServer,
};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::{Request, Response, Status};

/// All that came so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) traces: Vec<ExportTraceServiceRequest>,
    pub(crate) logs: Vec<ExportLogsServiceRequest>,
    pub(crate) metrics: Vec<ExportMetricsServiceRequest>,
    /// The header `x-key` of each request; empty where it was missing.
    pub(crate) keys: Vec<String>,
}

type Shared = Arc<Mutex<Received>>;

pub(crate) struct Receiver {
    address: SocketAddr,
    received: Shared,
    runtime: Option<Runtime>,
}

impl Receiver {
    pub(crate) async fn grpc() -> Self {
        let (receiver, listener) = Self::listening().await;
        let service = Service(Arc::clone(&receiver.received));
        receiver.spawn(async move {
            tonic::transport::Server::builder()
                .add_service(TraceServiceServer::new(service.clone()).accept_compressed(Gzip))
                .add_service(LogsServiceServer::new(service.clone()).accept_compressed(Gzip))
                .add_service(MetricsServiceServer::new(service).accept_compressed(Gzip))
                .serve_with_incoming(tonic::transport::server::TcpIncoming::from(
                    TcpListener::from_std(listener).expect("a listener"),
                ))
                .await
                .expect("a server");
        });
        receiver
    }

    pub(crate) async fn http() -> Self {
        let (receiver, listener) = Self::listening().await;
        let received = Arc::clone(&receiver.received);
        receiver.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                let answering = service_fn(move |request| answer(request, Arc::clone(&received)));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), answering),
                );
            }
        });
        receiver
    }

    /// Takes metrics alone, over TLS with this certificate, whose name is `localhost`.
    pub(crate) async fn metrics_over_tls(grpc: bool, certificate: &Certificate) -> Self {
        let (receiver, listener) = Self::listening().await;
        let received = Arc::clone(&receiver.received);
        let acceptor = certificate.acceptor(if grpc { b"h2" } else { b"http/1.1" });
        receiver.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever does not trust it goes away.
                let Ok(stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let stream = TokioIo::new(stream);
                let received = Arc::clone(&received);
                if grpc {
                    let service = MetricsServiceServer::new(Service(received));
                    tokio::spawn(
                        hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                            .serve_connection(stream, TowerToHyperService::new(service)),
                    );
                } else {
                    let answering =
                        service_fn(move |request| answer(request, Arc::clone(&received)));
                    tokio::spawn(
                        hyper::server::conn::http1::Builder::new()
                            .serve_connection(stream, answering),
                    );
                }
            }
        });
        receiver
    }

    /// Its url for a client that speaks TLS.
    pub(crate) fn tls_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    async fn listening() -> (Self, std::net::TcpListener) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let receiver = Self {
            address: listener.local_addr().expect("an address"),
            received: Shared::default(),
            runtime: Some(runtime),
        };
        (receiver, listener)
    }

    fn spawn(&self, serving: impl Future<Output = ()> + Send + 'static) {
        self.runtime.as_ref().expect("alive").spawn(serving);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn received(&self) -> Received {
        self.received.lock().expect("nobody panicked").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime may not wait for its end within another one.
            runtime.shutdown_background();
        }
    }
}

/// A path at which nothing is taken.
pub(crate) const NOWHERE: &str = "/nothing/here";

/// A certificate made for one test.
pub(crate) struct Certificate(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        Self(made.expect("a certificate"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.cert.pem()
    }

    fn acceptor(&self, protocol: &[u8]) -> TlsAcceptor {
        let key = PrivatePkcs8KeyDer::from(self.0.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![self.0.cert.der().clone()], key.into())
            .expect("a certificate");
        config.alpn_protocols = vec![protocol.to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    received: Shared,
) -> Result<hyper::Response<Full<Bytes>>, Infallible> {
    let key = request.headers().get("x-key").cloned();
    let path = request.uri().path().to_owned();
    let kind = request.headers().get("content-type").cloned();
    let body = request.into_body().collect().await;
    let body = body.expect("a whole body").to_bytes();
    assert_eq!(kind.expect("a type"), "application/x-protobuf");
    let mut received = received.lock().expect("nobody panicked");
    received
        .keys
        .push(shown(key.as_ref().map(|key| key.as_bytes())));
    let answer = match path.as_str() {
        "/v1/traces" => {
            received.traces.push(decode(body));
            ExportTraceServiceResponse::default().encode_to_vec()
        }
        "/v1/logs" => {
            received.logs.push(decode(body));
            ExportLogsServiceResponse::default().encode_to_vec()
        }
        "/v1/metrics" => {
            received.metrics.push(decode(body));
            ExportMetricsServiceResponse::default().encode_to_vec()
        }
        NOWHERE => {
            let mut refusal = hyper::Response::new(Full::from(Bytes::new()));
            *refusal.status_mut() = hyper::StatusCode::NOT_FOUND;
            return Ok(refusal);
        }
        other => panic!("asked for {other}"),
    };
    Ok(hyper::Response::new(Full::from(answer)))
}

fn decode<M: Message + Default>(body: Bytes) -> M {
    M::decode(body).expect("protobuf")
}

fn shown(key: Option<&[u8]>) -> String {
    String::from_utf8_lossy(key.unwrap_or_default()).into_owned()
}

#[derive(Clone)]
struct Service(Shared);

impl Service {
    fn keep<M>(&self, request: Request<M>, keep: impl FnOnce(&mut Received, M)) {
        let mut received = self.0.lock().expect("nobody panicked");
        let key = request
            .metadata()
            .get("x-key")
            .map(|key| key.as_bytes().to_vec());
        received.keys.push(shown(key.as_deref()));
        keep(&mut received, request.into_inner());
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.keep(request, |received, sent| received.traces.push(sent));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.keep(request, |received, sent| received.logs.push(sent));
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.keep(request, |received, sent| received.metrics.push(sent));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}
