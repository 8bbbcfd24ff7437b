//! The macro that spares users ractor's `cluster` feature.
//!
//! Invariants: it expands by the features of *this* crate, so that a downstream crate needs none.

/// Makes local types messages of ractor, whether or not its `cluster` feature is on.
///
/// ```
/// struct Tick;
/// mainstay_supervisors::message!(Tick);
/// ```
#[cfg(feature = "cluster")]
#[macro_export]
macro_rules! message {
    ($($message:ty),+ $(,)?) => {
        $(impl $crate::ractor::Message for $message {})+
    };
}

/// Makes local types messages of ractor, whether or not its `cluster` feature is on.
///
/// ```
/// struct Tick;
/// mainstay_supervisors::message!(Tick);
/// ```
#[cfg(not(feature = "cluster"))]
#[macro_export]
macro_rules! message {
    ($($message:ty),+ $(,)?) => {};
}
