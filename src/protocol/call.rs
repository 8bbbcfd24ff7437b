//! What a platform asks the session to send: calls, opening steps, batches of channels.
//!
//! A platform only *describes* requests; ids, deadlines and the fate of each belong to the session.
//!
//! Invariants: parameters may hold credentials, so `Debug` never shows them.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use super::json;
use crate::error::RequestError;

/// A request without its id.
#[derive(Clone)]
pub struct Call {
    method: Cow<'static, str>,
    params: Option<Box<RawValue>>,
}

impl Call {
    /// A request of `method` with `params`, which are written as JSON at once.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unencodable`] if `params` cannot be written as JSON, which has no word for a number that is
    /// not finite.
    pub fn new(
        method: impl Into<Cow<'static, str>>,
        params: &impl Serialize,
    ) -> Result<Self, RequestError> {
        let method = method.into();
        match json::raw(params) {
            Ok(params) => Ok(Self {
                method,
                params: Some(params),
            }),
            Err(detail) => Err(RequestError::Unencodable {
                method: method.into_owned(),
                detail,
            }),
        }
    }

    /// A request of `method` without parameters.
    #[must_use]
    pub fn bare(method: impl Into<Cow<'static, str>>) -> Self {
        Self {
            method: method.into(),
            params: None,
        }
    }

    /// A request of `method` with parameters that are JSON already.
    #[must_use]
    pub fn raw(method: impl Into<Cow<'static, str>>, params: Box<RawValue>) -> Self {
        Self {
            method: method.into(),
            params: Some(params),
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The method, to be kept: not copied where it is known to the compiler.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        self.method.clone()
    }

    /// How many bytes method and parameters have.
    pub(crate) fn bytes(&self) -> usize {
        let params = self.params.as_ref().map_or(0, |params| params.get().len());
        self.method.len() + params
    }

    /// The parameters, as JSON.
    #[must_use]
    pub fn params(&self) -> Option<&RawValue> {
        self.params.as_deref()
    }
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// One step between an open connection and a live session. Each must succeed before the next begins.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Step {
    /// A plain request that must be answered with a result.
    Call(Call),
    /// Authentication: the platform is asked for a fresh request each time.
    Authenticate,
}

impl Step {
    /// The name under which a failure of this step is reported.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Call(call) => call.method(),
            Self::Authenticate => "authenticate",
        }
    }
}

/// What the venue granted when it accepted our credentials.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Grant {
    /// How long it lasts; without an end it is never renewed.
    pub lasts: Option<Duration>,
    /// The request that renews it; without one the session authenticates afresh.
    pub renewal: Option<Call>,
    /// A request that completes the authentication, such as an exchange of the token for another
    /// account's. Its answer grants what counts, and needs no completion itself; a renewal needs none either.
    pub then: Option<Call>,
    /// After how much of its life it is renewed; `None` for four fifths.
    pub renew_after: Option<Duration>,
}

impl Grant {
    /// A grant that lasts this long and is renewed by this request.
    #[must_use]
    pub fn new(lasts: Option<Duration>, renewal: Option<Call>) -> Self {
        Self {
            lasts,
            renewal,
            then: None,
            renew_after: None,
        }
    }

    /// The same grant, renewed after so much of its life; not before 200 ms, nor after its end.
    #[must_use]
    pub fn renew_after(self, after: Duration) -> Self {
        Self {
            renew_after: Some(after),
            ..self
        }
    }

    /// The same grant, which only counts when `call` has been answered too.
    #[must_use]
    pub fn then(self, call: Call) -> Self {
        Self {
            then: Some(call),
            ..self
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("lasts", &self.lasts)
            .finish_non_exhaustive()
    }
}

/// One request that subscribes to, or unsubscribes from, several channels at once.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Batch {
    /// The request.
    pub call: Call,
    /// The channels that it names, in the order of the user's wishes.
    pub channels: Vec<Arc<str>>,
}

impl Batch {
    /// The request `call`, which names `channels`.
    #[must_use]
    pub fn new(call: Call, channels: Vec<Arc<str>>) -> Self {
        Self { call, channels }
    }
}
