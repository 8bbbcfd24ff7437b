//! A certificate authority and a server certificate, made when a TLS server starts.
//!
//! A file of its own because it alone knows `rcgen` and the options of a TLS server.
//!
//! Invariants: keys exist in memory only and differ at every start; the crypto provider is `ring`,
//! given explicitly, and no process-wide one is read or installed.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// Why a test server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The loopback address could not be bound.
    #[error("could not listen on the loopback")]
    Bind(#[source] io::Error),
    /// The certificates could not be made.
    #[error("could not make a test certificate")]
    Certificate(#[source] rcgen::Error),
    /// The TLS options were refused.
    #[error("could not set up TLS for a test server")]
    Tls(#[source] rustls::Error),
}

/// What the server's certificate says.
#[derive(Debug, Clone)]
pub(super) struct CertificateOptions {
    /// Names and addresses it is good for.
    pub(super) names: Vec<String>,
    /// Whether its time is over.
    pub(super) expired: bool,
}

impl Default for CertificateOptions {
    fn default() -> Self {
        Self {
            names: ["localhost", "127.0.0.1", "::1"].map(String::from).into(),
            expired: false,
        }
    }
}

/// The authority a client should trust, and the options of a server it vouches for.
#[derive(Debug, Clone)]
pub(super) struct Certificates {
    pub(super) ca_pem: String,
    pub(super) ca_der: CertificateDer<'static>,
    pub(super) server: Arc<ServerConfig>,
}

impl Certificates {
    pub(super) fn make(options: &CertificateOptions) -> Result<Self, StartError> {
        let ca_key = KeyPair::generate().map_err(StartError::Certificate)?;
        let mut ca = CertificateParams::new(Vec::new()).map_err(StartError::Certificate)?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name
            .push(DnType::CommonName, "mainstay test authority");
        let authority = ca.self_signed(&ca_key).map_err(StartError::Certificate)?;
        let issuer = Issuer::new(ca, ca_key);

        let key = KeyPair::generate().map_err(StartError::Certificate)?;
        let mut leaf =
            CertificateParams::new(options.names.clone()).map_err(StartError::Certificate)?;
        leaf.distinguished_name
            .push(DnType::CommonName, "mainstay test server");
        if options.expired {
            leaf.not_before = date_time_ymd(2020, 1, 1);
            leaf.not_after = date_time_ymd(2020, 2, 1);
        }
        let leaf = leaf
            .signed_by(&key, &issuer)
            .map_err(StartError::Certificate)?;
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());

        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(StartError::Tls)?
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key.into())
            .map_err(StartError::Tls)?;
        Ok(Self {
            ca_pem: authority.pem(),
            ca_der: authority.der().clone(),
            server: Arc::new(server),
        })
    }
}
