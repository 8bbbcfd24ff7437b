//! The venue: the embedded simulator with its faults, or the real one without.

use std::fmt;
use std::time::Duration;

use mainstay::adapters::deribit;
use mainstay::testing::deribit::{DeribitSimulator, Fault};

/// A fault that the program lives through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blow {
    TcpReset,
    Restart,
    HalfOpenSilence,
    PolicyClose,
    TokenExpires,
    PanicInClient,
    PanicInAdapter,
}

/// Which subscriptions a fault reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    All,
    Private,
}

impl Blow {
    pub(crate) fn reaches(self) -> Reach {
        match self {
            // Public data needs no token.
            Self::TokenExpires => Reach::Private,
            _ => Reach::All,
        }
    }
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TcpReset => "the venue resets the TCP connection",
            Self::Restart => "the venue restarts, and refuses the first two attempts to connect",
            Self::HalfOpenSilence => "the venue falls silent and leaves the connection half open",
            Self::PolicyClose => "the venue closes with code 1008",
            Self::TokenExpires => "the token expires and its renewal is refused",
            Self::PanicInClient => "our Client actor panics",
            Self::PanicInAdapter => "our Adapter actor panics",
        })
    }
}

/// Where the session connects.
pub(crate) enum Venue {
    Embedded(DeribitSimulator),
    Real {
        url: String,
        credentials: Option<(String, String)>,
    },
}

const EMBEDDED_ID: &str = "demo";
const EMBEDDED_SECRET: &str = "not a secret";

impl Venue {
    pub(crate) async fn from_environment() -> Result<Self, Box<dyn std::error::Error>> {
        let read = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let credentials = read("DERIBIT_CLIENT_ID").zip(read("DERIBIT_CLIENT_SECRET"));
        match (read("DERIBIT_URL"), credentials) {
            (Some(url), credentials) => Ok(Self::Real { url, credentials }),
            (None, Some(credentials)) => Ok(Self::Real {
                url: deribit::TEST_URL.to_owned(),
                credentials: Some(credentials),
            }),
            (None, None) => {
                let simulator = DeribitSimulator::builder()
                    .tls(true)
                    .credentials(EMBEDDED_ID, EMBEDDED_SECRET)
                    .token_life(Duration::from_secs(5))
                    .start()
                    .await?;
                Ok(Self::Embedded(simulator))
            }
        }
    }

    pub(crate) fn is_embedded(&self) -> bool {
        matches!(self, Self::Embedded(_))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Embedded(simulator) => simulator.url(),
            Self::Real { url, .. } => url.clone(),
        }
    }

    /// The certificate of the embedded venue's own authority.
    pub(crate) fn certificate(&self) -> Option<String> {
        match self {
            Self::Embedded(simulator) => simulator.ca_certificate_pem().map(ToOwned::to_owned),
            Self::Real { .. } => None,
        }
    }

    pub(crate) fn credentials(&self) -> Option<(String, String)> {
        match self {
            Self::Embedded(_) => Some((EMBEDDED_ID.to_owned(), EMBEDDED_SECRET.to_owned())),
            Self::Real { credentials, .. } => credentials.clone(),
        }
    }

    /// The faults to live through; the real venue is not asked for any.
    pub(crate) fn blows(&self) -> Vec<Blow> {
        match self {
            Self::Embedded(_) => vec![
                Blow::TcpReset,
                Blow::Restart,
                Blow::HalfOpenSilence,
                Blow::PolicyClose,
                Blow::TokenExpires,
                Blow::PanicInClient,
                Blow::PanicInAdapter,
            ],
            Self::Real { .. } => vec![Blow::PanicInClient, Blow::PanicInAdapter],
        }
    }

    /// Lets the fault happen. What happens in our own process is not the venue's affair.
    pub(crate) fn strike(&self, blow: Blow) {
        let Self::Embedded(simulator) = self else {
            return;
        };
        let faults = match blow {
            Blow::TcpReset => vec![Fault::TcpReset],
            Blow::Restart => vec![
                Fault::RefuseUpgrade {
                    status: 503,
                    headers: Vec::new(),
                    body: "starting".to_owned(),
                    times: 2,
                },
                Fault::TcpReset,
            ],
            Blow::HalfOpenSilence => vec![Fault::HalfOpen],
            Blow::PolicyClose => vec![Fault::Close {
                code: 1008,
                reason: "policy".to_owned(),
            }],
            Blow::TokenExpires => vec![Fault::RefuseRefresh(true), Fault::ExpireToken],
            Blow::PanicInClient | Blow::PanicInAdapter => Vec::new(),
        };
        for fault in faults {
            simulator.inject(fault);
        }
    }

    /// Takes back what lasts.
    pub(crate) fn heal(&self) {
        if let Self::Embedded(simulator) = self {
            simulator.inject(Fault::Heal);
        }
    }
}
