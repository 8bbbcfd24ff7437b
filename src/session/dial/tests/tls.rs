//! `wss`: who is trusted, and how a refusal to trust is told.

use std::error::Error;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::config::tls::Tls;
use crate::error::Recovery;

/// A certificate authority made for one test.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            certificate,
            issuer: Issuer::new(params, key),
        }
    }

    fn trusted(&self) -> Tls {
        Tls::only(self.certificate.pem())
    }

    /// A certificate for `name` and its key.
    fn issue(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (certificate.der().clone(), key.into())
    }

    /// The options of a server that proves to be `name`.
    fn server(&self, name: &str) -> ServerConfig {
        let (certificate, key) = self.issue(name, |_| ());
        builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap()
    }
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
}

/// A server that upgrades; its handshake may fail.
async fn secured(config: ServerConfig) -> SocketAddr {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    server(async move |stream| {
        let mut stream = match acceptor.accept(stream).into_fallible().await {
            Ok(stream) => stream,
            // Held, so that our alert is read before the end of the connection.
            Err((_, _stream)) => return pending().await,
        };
        let request = read_request(&mut stream).await;
        let alpn = stream
            .get_ref()
            .1
            .alpn_protocol()
            .unwrap_or(b"none")
            .to_vec();
        let more = format!("X-Alpn: {}\r\n", String::from_utf8(alpn).unwrap());
        let mut answer = switching(&request, &more);
        answer.extend_from_slice(b"\x81\x02hi");
        stream.write_all(&answer).await.unwrap();
        stream.flush().await.unwrap();
        pending().await
    })
    .await
}

async fn dial_secured(host: &str, address: SocketAddr, tls: Tls) -> Result<Dialed, ConnectError> {
    let config = Config::builder(format!("wss://{host}:{}/ws", address.port()))
        .tls(tls)
        .build()
        .unwrap();
    dial(&config).await
}

fn assert_certificate_refused(error: ConnectError) {
    assert!(
        matches!(error, ConnectError::Certificate { .. }),
        "{error:?}"
    );
    assert_eq!(error.recovery(), Recovery::Stop);
    assert!(error.source().is_some());
}

#[tokio::test]
async fn a_custom_ca_is_trusted_by_name_and_by_address() {
    let authority = Authority::new();
    for host in ["localhost", "127.0.0.1"] {
        let address = secured(authority.server(host)).await;
        let dialed = dial_secured(host, address, authority.trusted())
            .await
            .unwrap();
        assert!(matches!(dialed.stream, TlsOrPlain::Tls(_)));
        assert!(dialed.timings.tls > Duration::ZERO);
        let der = Tls::only_der(authority.certificate.der().to_vec());
        let address = secured(authority.server(host)).await;
        dial_secured(host, address, der).await.unwrap();
    }
}

#[tokio::test]
async fn frames_behind_the_101_are_kept_under_tls() {
    let authority = Authority::new();
    let address = secured(authority.server("127.0.0.1")).await;
    let config = Config::builder(format!("wss://{address}/"))
        .tls(authority.trusted())
        .build()
        .unwrap();
    let mut socket = web_socket(dial(&config).await.unwrap(), &config);
    assert_eq!(next(&mut socket).await, Frame::text("hi"));
}

#[cfg(any(feature = "platform-roots", feature = "webpki-roots"))]
#[tokio::test]
async fn a_custom_ca_may_stand_beside_the_default_roots() {
    let authority = Authority::new();
    let address = secured(authority.server("localhost")).await;
    let tls = Tls::default().with_ca_pem(authority.certificate.pem());
    dial_secured("localhost", address, tls).await.unwrap();
}

#[tokio::test]
async fn an_unknown_authority_stops() {
    let address = secured(Authority::new().server("localhost")).await;
    let error = dial_secured("localhost", address, Authority::new().trusted())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "certificate of \"localhost\" was not accepted; an authority of your own is trusted by \
         Tls::with_ca_pem"
    );
    assert_certificate_refused(error);
}

#[cfg(feature = "webpki-roots")]
#[tokio::test]
async fn mozillas_list_does_not_know_our_authority() {
    let address = secured(Authority::new().server("localhost")).await;
    let error = dial_secured("localhost", address, Tls::webpki())
        .await
        .unwrap_err();
    assert_certificate_refused(error);
}

#[tokio::test]
async fn a_certificate_for_another_name_stops() {
    let authority = Authority::new();
    for host in ["localhost", "127.0.0.1"] {
        let address = secured(authority.server("other.example")).await;
        let error = dial_secured(host, address, authority.trusted())
            .await
            .unwrap_err();
        assert_certificate_refused(error);
    }
}

#[tokio::test]
async fn an_expired_certificate_stops() {
    let authority = Authority::new();
    let (certificate, key) = authority.issue("localhost", |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 2, 1);
    });
    let config = builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let address = secured(config).await;
    let error = dial_secured("localhost", address, authority.trusted())
        .await
        .unwrap_err();
    assert_certificate_refused(error);
}

#[tokio::test]
async fn http_1_1_is_offered_to_a_server_that_prefers_http_2() {
    let authority = Authority::new();
    let mut config = authority.server("localhost");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let address = secured(config).await;
    let dialed = dial_secured("localhost", address, authority.trusted())
        .await
        .unwrap();
    assert_eq!(dialed.response_headers["x-alpn"], "http/1.1");
}

#[tokio::test]
async fn no_provider_is_installed_for_the_process() {
    let authority = Authority::new();
    let address = secured(authority.server("localhost")).await;
    dial_secured("localhost", address, authority.trusted())
        .await
        .unwrap();
    assert!(CryptoProvider::get_default().is_none());
}

#[tokio::test]
async fn a_server_that_asks_for_our_certificate_is_a_tls_error() {
    // With TLS 1.3 its alert comes when our handshake has long ended.
    let authority = Authority::new();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.certificate.der().clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .unwrap();
    let (certificate, key) = authority.issue("localhost", |_| ());
    let config = builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let error = dial_secured("localhost", secured(config).await, authority.trusted())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_tls_is_a_tls_error() {
    let authority = Authority::new();
    let address = server(async |mut stream: TcpStream| {
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
        pending().await
    });
    let error = dial_secured("localhost", address.await, authority.trusted())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Retry);
}

#[tokio::test]
async fn a_server_that_cuts_the_handshake_is_a_tls_error() {
    let authority = Authority::new();
    let address = server(async |mut stream: TcpStream| {
        stream.read_exact(&mut [0; 16]).await.unwrap();
    });
    let error = dial_secured("localhost", address.await, authority.trusted())
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_ends_at_the_tls_limit() {
    let address = server(async |_stream| pending().await).await;
    let limits = PhaseLimits {
        tls: Duration::from_secs(4),
        ..PhaseLimits::default()
    };
    let config = Config::builder(format!("wss://{address}/"))
        .tls(Authority::new().trusted())
        .limits(limits)
        .build()
        .unwrap();
    let error = dial(&config).await.unwrap_err();
    assert_eq!(error.to_string(), "tls took longer than 4s");
}

#[tokio::test]
async fn unusable_trust_anchors_end_the_dial() {
    let address = secured(Authority::new().server("localhost")).await;
    let mut config = config(&format!("ws://localhost:{}/", address.port()));
    config.endpoint = Endpoint::parse(&format!("wss://localhost:{}/", address.port())).unwrap();
    config.tls = Tls::only("no pem");
    let error = dial(&config).await.unwrap_err();
    assert!(matches!(error, ConnectError::Config { .. }), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Stop);
}
