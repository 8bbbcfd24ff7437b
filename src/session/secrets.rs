//! What this session knows to be secret, where the connection and the actors share it.
//!
//! Apart from the machine (`protocol/secrets`) because this is read while a connection runs, and learns meanwhile.
//!
//! Invariants: whatever a peer said passes here before it becomes an error, a reason, a notice or a line of a recording;
//! reading takes no lock.

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::value::RawValue;

use crate::config::Config;
use crate::error::{ConnectError, DecodeError, ErrorObject};
use crate::frame::Frame;
use crate::protocol::call::Call;
use crate::protocol::recording::REDACTED;
use crate::protocol::secrets::Secrets;

/// The secrets of one session.
#[derive(Debug)]
pub(crate) struct Known(ArcSwap<Secrets>);

impl Known {
    /// What the configuration holds: headers, and the URLs' queries.
    pub(crate) fn of(config: &Config) -> Self {
        let mut secrets = Secrets::new();
        for (name, value) in &config.headers {
            if let Ok(value) = value.to_str() {
                secrets.add_named(name.as_str(), value);
            }
        }
        let queries = config
            .endpoints()
            .filter_map(|one| one.resource().split_once('?'));
        for member in queries.flat_map(|(_, query)| query.split('&')) {
            if let Some((name, value)) = member.split_once('=') {
                secrets.add_named(name, value);
            }
        }
        Self(ArcSwap::from_pointee(secrets))
    }

    /// A request that bears credentials is about to be written.
    pub(crate) fn learn_request(&self, call: &Call) {
        if let Some(params) = call.params() {
            self.learn(|secrets| secrets.learn_request(params.get()));
        }
    }

    /// The venue granted something.
    pub(crate) fn learn_grant(&self, result: &RawValue) {
        self.learn(|secrets| secrets.learn_grant(result.get()));
    }

    fn learn(&self, learn: impl Fn(&mut Secrets) -> bool) {
        self.0.rcu(|known| {
            let mut secrets = Secrets::clone(known);
            match learn(&mut secrets) {
                true => Arc::new(secrets),
                false => Arc::clone(known),
            }
        });
    }

    /// What a peer wrote.
    pub(crate) fn clean(&self, text: String) -> String {
        match self.0.load().clean(&text) {
            Cow::Borrowed(_) => text,
            Cow::Owned(cleaned) => cleaned,
        }
    }

    /// Whether something secret may be in these bytes, which may be many payloads.
    pub(crate) fn may_be_in(&self, bytes: &[u8]) -> bool {
        self.0.load().may_be_in(bytes)
    }

    /// A frame on its way to a log or a recording.
    pub(crate) fn clean_frame(&self, frame: Frame) -> Frame {
        let secrets = self.0.load();
        match secrets.is_empty() {
            true => frame,
            false => secrets.clean_frame(frame),
        }
    }

    /// The error in an answer.
    pub(crate) fn clean_error(&self, mut error: ErrorObject) -> ErrorObject {
        error.message = self.clean(error.message);
        error.data = error.data.map(|data| {
            let text = self.clean(data.get().to_owned());
            match RawValue::from_string(text) {
                Ok(cleaned) => cleaned,
                // What is taken out of the middle of something leaves nothing to be read.
                Err(_) => serde_json::value::to_raw_value(REDACTED).unwrap_or_default(),
            }
        });
        error
    }

    /// What a platform found wrong with an answer; it may quote.
    pub(crate) fn clean_decoding(&self, mut error: DecodeError) -> DecodeError {
        error.detail = self.clean(error.detail);
        error
    }

    /// Why an attempt failed: a refusal has headers and a body.
    pub(crate) fn clean_refusal(&self, mut error: ConnectError) -> ConnectError {
        match &mut error {
            ConnectError::Refused { response } => {
                let secrets = self.0.load();
                response.body = secrets.clean_bytes(std::mem::take(&mut response.body));
                for value in response.headers.values_mut() {
                    let Ok(text) = value.to_str() else { continue };
                    if let Cow::Owned(cleaned) = secrets.clean(text)
                        && let Ok(cleaned) = http::HeaderValue::from_str(&cleaned)
                    {
                        *value = cleaned;
                    }
                }
            }
            ConnectError::Handshake { detail } => *detail = self.clean(std::mem::take(detail)),
            ConnectError::Config { .. }
            | ConnectError::Record { .. }
            | ConnectError::Timeout { .. }
            | ConnectError::Dns { .. }
            | ConnectError::Tcp { .. }
            | ConnectError::Tls { .. }
            | ConnectError::Certificate { .. }
            | ConnectError::Io { .. } => {}
        }
        error
    }
}
