//! Erlang/OTP-style supervision trees for ractor actors.
