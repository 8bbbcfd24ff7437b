//! Erlang/OTP-style supervision trees for ractor actors.
#![allow(missing_docs)]
pub mod backoff {
    #[derive(Debug, Clone)]
    pub struct Backoff;
    impl Backoff {
        pub fn new(_: std::time::Duration, _: std::time::Duration) -> Self {
            Self
        }
    }
}
