//! The body of an answer other than 101.
