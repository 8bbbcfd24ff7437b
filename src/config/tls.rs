//! Whom to trust on `wss://`, and which cryptography to do it with.
//!
//! A file of its own because it alone knows about features: which trust anchors and which crypto
//! provider are compiled in.
//!
//! Invariants: nothing process-wide is read or installed, so a program's own choice of provider is
//! never touched; what is missing is a [`ConfigError`], never a panic; certificates never appear in
//! `Debug`. Deliberately absent: an option that accepts any certificate. For a test server, trust
//! its CA with [`Tls::only`].

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::error::ConfigError;

/// Trust anchors and crypto provider.
///
/// The default trusts what the platform trusts (feature `platform-roots`), else Mozilla's list
/// (feature `webpki-roots`), else only the certificates that are added here.
#[derive(Clone, Default)]
#[must_use = "hand it to `ConfigBuilder::tls`"]
pub struct Tls {
    anchors: Anchors,
    added: Vec<Added>,
    provider: Option<Arc<CryptoProvider>>,
    /// Filled at first use and shared by all clones, so that sessions are resumed across
    /// reconnects. Replaced by an empty one whenever an option changes.
    built: Arc<OnceLock<Arc<ClientConfig>>>,
}

/// Where trust begins, apart from what was added by hand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Anchors {
    /// The platform's where that is compiled in, else Mozilla's, else none.
    #[default]
    Default,
    #[cfg(feature = "platform-roots")]
    Platform,
    #[cfg(feature = "webpki-roots")]
    Webpki,
    /// Nothing but what was added.
    Added,
}

/// Certificates as they were given; they are read when the configuration is built.
#[derive(Clone)]
enum Added {
    Pem(Vec<u8>),
    Der(Vec<u8>),
}

impl Tls {
    /// Trusts what the operating system trusts.
    ///
    /// On Linux its list is read once per configuration; later changes to it need a new one.
    #[cfg(feature = "platform-roots")]
    pub fn platform() -> Self {
        Self {
            anchors: Anchors::Platform,
            ..Self::default()
        }
    }

    /// Trusts Mozilla's list as it was when the `webpki-roots` crate was published.
    #[cfg(feature = "webpki-roots")]
    pub fn webpki() -> Self {
        Self {
            anchors: Anchors::Webpki,
            ..Self::default()
        }
    }

    /// Trusts the certificates in `pem` and nothing else. More may follow with
    /// [`Tls::with_ca_pem`].
    pub fn only(pem: impl Into<Vec<u8>>) -> Self {
        Self {
            anchors: Anchors::Added,
            ..Self::default()
        }
        .with_ca_pem(pem)
    }

    /// Trusts the certificate `der` and nothing else. More may follow with [`Tls::with_ca_der`].
    pub fn only_der(der: impl Into<Vec<u8>>) -> Self {
        Self {
            anchors: Anchors::Added,
            ..Self::default()
        }
        .with_ca_der(der)
    }

    /// Also trusts every certificate in `pem`, of which there must be at least one.
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.added.push(Added::Pem(pem.into()));
        self.changed()
    }

    /// Also trusts the certificate `der`.
    pub fn with_ca_der(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.added.push(Added::Der(der.into()));
        self.changed()
    }

    /// Does its cryptography with `provider`. Default: `ring`, else `aws-lc-rs`, by feature.
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self.changed()
    }

    /// The configuration for rustls: built at the first call, the same one at every later call,
    /// also through a clone.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if a certificate cannot be read, if nobody would be trusted, or if no crypto
    /// provider is compiled in.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, ConfigError> {
        if let Some(config) = self.built.get() {
            return Ok(Arc::clone(config));
        }
        let config = self.build()?;
        // Of two callers at once the first one's is kept.
        Ok(Arc::clone(self.built.get_or_init(|| Arc::new(config))))
    }

    /// Which anchors, and how many were added.
    pub(super) fn summary(&self) -> String {
        let anchors = match self.anchors {
            Anchors::Default => "default",
            #[cfg(feature = "platform-roots")]
            Anchors::Platform => "platform",
            #[cfg(feature = "webpki-roots")]
            Anchors::Webpki => "webpki",
            Anchors::Added => "only",
        };
        match self.added.len() {
            0 => anchors.to_owned(),
            added => format!("{anchors} + {added} given"),
        }
    }

    fn changed(mut self) -> Self {
        self.built = Arc::default();
        self
    }

    fn build(&self) -> Result<ClientConfig, ConfigError> {
        let provider = match &self.provider {
            Some(provider) => Arc::clone(provider),
            None => compiled_provider().ok_or_else(|| {
                let remedy = "switch on the feature `ring` or `aws-lc-rs`, or give one";
                ConfigError::new("tls.provider", "none", remedy)
            })?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| {
                let remedy =
                    format!("use a provider with the cipher suites of tls 1.2 or 1.3 ({error})");
                ConfigError::new("tls.provider", "this provider", remedy)
            })?;
        let added = self.added()?;
        let verifier = match self.anchors {
            #[cfg(feature = "platform-roots")]
            Anchors::Default | Anchors::Platform => platform_verifier(added, provider),
            #[cfg(feature = "webpki-roots")]
            Anchors::Webpki => verifier(mozilla(), added, provider),
            #[cfg(all(feature = "webpki-roots", not(feature = "platform-roots")))]
            Anchors::Default => verifier(mozilla(), added, provider),
            #[cfg(not(any(feature = "platform-roots", feature = "webpki-roots")))]
            Anchors::Default => verifier(RootCertStore::empty(), added, provider),
            Anchors::Added => verifier(RootCertStore::empty(), added, provider),
        }?;
        let mut config = builder
            // This is rustls' door for any verifier of one's own; those here do verify.
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        // A server that also speaks HTTP/2 must not choose it: RFC 6455 needs HTTP/1.1.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn added(&self) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
        let mut certificates = Vec::new();
        for (index, added) in self.added.iter().enumerate() {
            let refuse = |remedy: String| {
                Err(ConfigError::new(
                    "tls.ca",
                    format!("certificate source {}", index + 1),
                    remedy,
                ))
            };
            let before = certificates.len();
            match added {
                Added::Der(der) => certificates.push(CertificateDer::from(der.clone())),
                Added::Pem(pem) => {
                    for certificate in CertificateDer::pem_slice_iter(pem) {
                        match certificate {
                            Ok(certificate) => certificates.push(certificate),
                            Err(error) => return refuse(format!("give valid pem ({error})")),
                        }
                    }
                    if certificates.len() == before {
                        return refuse("give pem with a BEGIN CERTIFICATE section".to_owned());
                    }
                }
            }
            // Tried here, where the source can still be named.
            let mut probe = RootCertStore::empty();
            for certificate in &certificates[before..] {
                if let Err(error) = probe.add(certificate.clone()) {
                    return refuse(format!("give an x.509 certificate ({error})"));
                }
            }
        }
        Ok(certificates)
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("anchors", &self.anchors)
            .field("added", &self.added.len())
            .field("provider_given", &self.provider.is_some())
            .finish()
    }
}

/// The provider that was compiled in; `ring` if both were. Not the process's default one.
fn compiled_provider() -> Option<Arc<CryptoProvider>> {
    #[cfg(feature = "ring")]
    return Some(Arc::new(rustls::crypto::ring::default_provider()));
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    return Some(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    None
}

/// Verifies against `anchors` and what was added; refuses to trust nobody.
fn verifier(
    mut anchors: RootCertStore,
    added: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    for certificate in added {
        anchors.add(certificate).map_err(|error| {
            ConfigError::new(
                "tls.ca",
                "a certificate",
                format!("give an x.509 certificate ({error})"),
            )
        })?;
    }
    if anchors.is_empty() {
        let remedy = "switch on the feature `platform-roots` or `webpki-roots`, or give a CA";
        return Err(ConfigError::new("tls", "without trust anchors", remedy));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(anchors), provider)
        .build()
        .map(|verifier| verifier as Arc<dyn ServerCertVerifier>)
        .map_err(|error| {
            ConfigError::new(
                "tls",
                "these trust anchors",
                format!("give a CA that can be used ({error})"),
            )
        })
}

#[cfg(feature = "platform-roots")]
fn platform_verifier(
    added: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ConfigError> {
    match rustls_platform_verifier::Verifier::new_with_extra_roots(added, provider) {
        Ok(verifier) => Ok(Arc::new(verifier)),
        Err(error) => {
            let remedy = format!(
                "install the system's certificates, or use Tls::webpki or Tls::only ({error})"
            );
            Err(ConfigError::new("tls", "the platform's roots", remedy))
        }
    }
}

#[cfg(feature = "webpki-roots")]
fn mozilla() -> RootCertStore {
    RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca() -> rcgen::Certificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.self_signed(&key).unwrap()
    }

    #[test]
    fn a_clone_shares_the_configuration_until_an_option_changes() {
        let tls = Tls::only(ca().pem());
        let first = tls.client_config().unwrap();
        assert!(Arc::ptr_eq(&first, &tls.clone().client_config().unwrap()));
        let changed = tls.with_ca_der(ca().der().to_vec());
        assert!(!Arc::ptr_eq(&first, &changed.client_config().unwrap()));
    }

    #[test]
    fn only_http_1_1_is_offered() {
        let config = Tls::only(ca().pem()).client_config().unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    #[test]
    fn certificates_that_cannot_be_read_are_named() {
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (tls, value, remedy) in [
            (Tls::only(broken), "source 1", "give valid pem"),
            (Tls::only(""), "source 1", "BEGIN CERTIFICATE"),
            (Tls::only(key), "source 1", "BEGIN CERTIFICATE"),
            (
                Tls::only(ca().pem()).with_ca_pem(not_x509),
                "source 2",
                "x.509",
            ),
            (Tls::only_der(*b"der"), "source 1", "x.509"),
        ] {
            let error = tls.client_config().unwrap_err();
            assert_eq!(error.option, "tls.ca");
            assert!(error.value.contains(value), "{error}");
            assert!(error.remedy.contains(remedy), "{error}");
        }
    }

    #[test]
    fn a_provider_without_cipher_suites_is_refused() {
        let mut provider = rustls::crypto::ring::default_provider();
        provider.cipher_suites.clear();
        let tls = Tls::only(ca().pem()).provider(Arc::new(provider));
        assert_eq!(tls.client_config().unwrap_err().option, "tls.provider");
    }

    #[test]
    fn trusting_nobody_is_refused() {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let error = verifier(RootCertStore::empty(), Vec::new(), provider).unwrap_err();
        assert_eq!(error.option, "tls");
    }

    #[cfg(feature = "webpki-roots")]
    #[test]
    fn mozillas_list_can_be_added_to() {
        Tls::webpki()
            .with_ca_pem(ca().pem())
            .client_config()
            .unwrap();
    }

    #[test]
    fn debug_counts_certificates() {
        let tls = Tls::only(ca().pem()).with_ca_pem(ca().pem());
        let text = format!("{tls:?}");
        assert_eq!(
            text,
            "Tls { anchors: Added, added: 2, provider_given: false }"
        );
    }
}
