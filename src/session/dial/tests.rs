//! The dial against real sockets on the loopback.
