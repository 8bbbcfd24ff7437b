//! Whom to trust on `wss://`.

/// Trust anchors and options of TLS.
#[derive(Debug, Clone, Default)]
pub struct Tls {}
