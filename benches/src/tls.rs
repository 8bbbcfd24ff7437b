//! Both sides of a TLS connection: a certificate that is made when a benchmark starts, and who trusts it.

use std::sync::Arc;

use mainstay::config::Tls;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

/// A certificate for `localhost` that vouches for itself.
#[derive(Clone)]
pub struct Authority {
    tls: Tls,
    server: Arc<ServerConfig>,
}

impl Authority {
    /// A new one.
    #[must_use]
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a certificate with its key");
        Self {
            tls: Tls::only(made.cert.pem()),
            server: Arc::new(server),
        }
    }

    /// The server's side of one connection.
    pub(crate) fn accept(&self) -> ServerConnection {
        ServerConnection::new(Arc::clone(&self.server)).expect("a connection")
    }

    /// What a client of ours trusts.
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    /// The baseline: tokio-tungstenite over tokio-rustls, with the options that a client of ours has.
    pub async fn socket(&self, port: u16) -> WebSocketStream<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(("127.0.0.1", port))
            .await
            .expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let connector = TlsConnector::from(self.tls.client_config().expect("options"));
        let name = NAME.try_into().expect("a name");
        let stream = connector.connect(name, stream).await.expect("TLS");
        let config = Some(WebSocketConfig::default());
        let opened = tokio_tungstenite::client_async_with_config(url(port), stream, config).await;
        opened.expect("an open socket").0
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

const NAME: &str = "localhost";

/// Where a client connects to.
#[must_use]
pub fn url(port: u16) -> String {
    format!("wss://{NAME}:{port}/")
}
