//! The way to an OpenTelemetry collector, if this is built with feature `otel` and the environment names one.

use std::time::Duration;

#[cfg(feature = "otel")]
use mainstay::otel::{Otel, OtelError, OtelGuard};

/// What is open as long as the program runs.
pub(crate) struct Export {
    #[cfg(feature = "otel")]
    otel: Option<OtelGuard>,
}

impl Export {
    #[cfg(feature = "otel")]
    pub(crate) fn start() -> Result<Self, OtelError> {
        let named = std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        let otel = named.then(|| {
            Otel::from_env()
                .attribute("service.namespace", "mainstay")
                .start()
        });
        Ok(Self {
            otel: otel.transpose()?,
        })
    }

    #[cfg(not(feature = "otel"))]
    pub(crate) fn start() -> Result<Self, std::convert::Infallible> {
        Ok(Self {})
    }

    /// Sends what is left, for `within` at most, and says what was lost.
    pub(crate) async fn end(self, within: Duration) {
        #[cfg(feature = "otel")]
        if let Some(otel) = self.otel {
            match otel.shutdown(within).await {
                Ok(()) => println!("all was sent to the collector"),
                Err(error) => eprintln!("{error}"),
            }
        }
        #[cfg(not(feature = "otel"))]
        let _ = (self, within);
    }
}
