//! One supervised session: its connection, its actors, and the handle of its user.

#[cfg_attr(not(test), expect(dead_code, reason = "goes when the Transport dials"))]
pub(crate) mod dial;
