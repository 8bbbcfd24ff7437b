//! Access tokens of one connection, and the proof that a client knows the secret.
//!
//! A file of its own because both answer one question: may this connection do private things now?
//!
//! Invariants: tokens are fresh random strings of one connection (scope `connection`); a refresh
//! token is good once; nothing here is ever printed.

use std::fmt;
use std::time::Duration;

use rustls::crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::OkmBlock;
use tokio::time::Instant;

/// The tokens a connection got last.
#[derive(Clone)]
pub(super) struct Tokens {
    pub(super) access: String,
    pub(super) refresh: String,
    pub(super) expires: Instant,
}

impl Tokens {
    pub(super) fn new(connection: u64, life: Duration, now: Instant) -> Self {
        let word = |kind: char| {
            let (a, b) = (fastrand::u64(..), fastrand::u64(..));
            format!("{kind}{connection}.{a:016x}{b:016x}")
        };
        Self {
            access: word('a'),
            refresh: word('r'),
            expires: now + life,
        }
    }

    pub(super) fn good(&self, now: Instant) -> bool {
        now < self.expires
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens")
    }
}

/// The signature of `client_signature`: HMAC-SHA256 over the three values, in lower-case hex.
///
/// A secret above 64 bytes cannot be used here.
pub(super) fn signature(secret: &str, timestamp: &str, nonce: &str, data: &str) -> Option<String> {
    if secret.len() > 64 {
        return None;
    }
    // rustls lends its HMAC; a crate for one more hash would be brought for this alone.
    let hmac = TLS13_AES_128_GCM_SHA256.tls13()?.hkdf_provider;
    let key = OkmBlock::new(secret.as_bytes());
    let tag = hmac.hmac_sign(&key, format!("{timestamp}\n{nonce}\n{data}").as_bytes());
    Some(tag.as_ref().iter().fold(String::new(), |mut hex, byte| {
        hex.push_str(&format!("{byte:02x}"));
        hex
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, section 4.3, whose message happens to fit: "what do ya want for nothing?" does
    /// not, so the expected value comes from an independent implementation.
    #[test]
    fn a_signature_is_hmac_sha256_in_lower_case_hex() {
        let signed = signature("AMANDASECRECT", "1576074319000", "1iqt2wls", "").unwrap();
        assert_eq!(
            signed,
            "56590594f97921b09b18f166befe0d1319b198bbcdad7ca73382de2f88fe9aa1"
        );
    }
}
