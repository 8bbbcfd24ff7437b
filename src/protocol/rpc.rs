//! Typed requests: a call together with what its result is read as, how long it may take, and whether
//! it may be written a second time.
//!
//! Apart from [`Call`] because a platform sends calls of its own, whose answers nobody types. The macro
//! [`rpc!`](crate::rpc!) makes one constructor for each method of a venue, ours or yours.
//!
//! Invariants: parameters are written once, when the call is made, and never shown; what cannot be
//! written is reported when the call is used and not by a panic; a call that is not said to be
//! idempotent is not.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::call::Call;
use super::json;
use super::reconcile::Reconcile;
use crate::error::{DecodeError, RequestError};

/// Whether a request may be written a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Twice does what once does: it may be written again on another connection if the first one ended
    /// before the answer came. Reads are.
    Idempotent,
    /// It is written at most once, whatever becomes of it. Orders are. With a query
    /// ([`TypedCall::reconcile`]) the session finds out what became of one whose fate is unknown.
    AtMostOnce,
}

/// A request whose result is an `R`.
///
/// Give it to [`Session::invoke`](crate::Session::invoke). `Debug` shows no parameters.
#[must_use = "a call does nothing until it is given to a session"]
pub struct TypedCall<R> {
    method: Cow<'static, str>,
    /// As JSON, or what the encoder said.
    params: Result<Box<RawValue>, String>,
    class: Class,
    deadline: Option<Duration>,
    /// What is asked if its fate is unknown.
    reconcile: Option<Reconcile<R>>,
    result: PhantomData<fn() -> R>,
}

impl<R> TypedCall<R> {
    /// A request of `method`, without a deadline of its own.
    pub fn new(method: impl Into<Cow<'static, str>>, params: Params, class: Class) -> Self {
        Self {
            method: method.into(),
            params: params.written(),
            class,
            deadline: None,
            reconcile: None,
            result: PhantomData,
        }
    }

    /// The same request, to be answered within `deadline` instead of the session's request timeout.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The same request, written at most once, about which the venue is asked if its fate is unknown.
    pub fn reconcile(mut self, reconcile: Reconcile<R>) -> Self {
        self.class = Class::AtMostOnce;
        self.reconcile = Some(reconcile);
        self
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Whether it may be written a second time.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// How long it may take; `None` leaves that to the session.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// What is asked if its fate is unknown.
    pub(crate) fn reconciliation(&self) -> Option<&Reconcile<R>> {
        self.reconcile.as_ref()
    }

    /// The call without its types.
    ///
    /// # Errors
    ///
    /// [`RequestError::Unencodable`] if the parameters could not be written as JSON.
    pub fn call(&self) -> Result<Call, RequestError> {
        match &self.params {
            Ok(params) => Ok(Call::raw(self.method.clone(), params.clone())),
            Err(detail) => Err(RequestError::Unencodable {
                method: self.method.clone().into_owned(),
                detail: detail.clone(),
            }),
        }
    }
}

impl<R: DeserializeOwned> TypedCall<R> {
    /// Reads a result of this call.
    ///
    /// # Errors
    ///
    /// [`RequestError::Undecodable`], without the payload.
    pub fn read(&self, result: &RawValue) -> Result<R, RequestError> {
        serde_json::from_str(result.get()).map_err(|error| RequestError::Undecodable {
            method: self.method.clone().into_owned(),
            source: DecodeError::json_as::<R>("result", result.get().as_bytes(), &error),
        })
    }
}

impl<R> Clone for TypedCall<R> {
    fn clone(&self) -> Self {
        Self {
            method: self.method.clone(),
            params: self.params.clone(),
            class: self.class,
            deadline: self.deadline,
            reconcile: self.reconcile.clone(),
            result: PhantomData,
        }
    }
}

impl<R> fmt::Debug for TypedCall<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedCall")
            .field("method", &self.method)
            .field("class", &self.class)
            .field("deadline", &self.deadline)
            .field("reconcile", &self.reconcile)
            .finish_non_exhaustive()
    }
}

/// Parameters by name, written as JSON while they are added. No `Debug`: they may hold secrets.
#[derive(Clone)]
#[must_use = "parameters do nothing until they are given to a call"]
pub struct Params(Result<Written, String>);

#[derive(Clone)]
enum Written {
    /// The members so far, without the braces.
    Members(String),
    Whole(Box<RawValue>),
}

impl Params {
    /// An empty object.
    pub fn new() -> Self {
        Self(Ok(Written::Members(String::new())))
    }

    /// One value that is all of the parameters, usually a struct.
    pub fn whole(params: &impl Serialize) -> Self {
        Self(json::raw(params).map(Written::Whole))
    }

    /// Adds a member; what is `None` is left out. After [`Params::whole`] it adds nothing.
    pub fn with(self, name: &str, value: &impl Serialize) -> Self {
        let members = match self.0 {
            Ok(Written::Members(members)) => members,
            Ok(Written::Whole(_)) | Err(_) => return self,
        };
        let name = name.strip_prefix("r#").unwrap_or(name);
        Self(member(members, name, value))
    }

    fn written(self) -> Result<Box<RawValue>, String> {
        match self.0? {
            Written::Whole(params) => Ok(params),
            Written::Members(members) => {
                RawValue::from_string(format!("{{{members}}}")).map_err(|error| error.to_string())
            }
        }
    }
}

impl Default for Params {
    fn default() -> Self {
        Self::new()
    }
}

fn member(mut members: String, name: &str, value: &impl Serialize) -> Result<Written, String> {
    let value = json::text(value).map_err(|why| format!("{name}: {why}"))?;
    if value != "null" {
        if !members.is_empty() {
            members.push(',');
        }
        members.push_str(&json::text(name)?);
        members.push(':');
        members.push_str(&value);
    }
    Ok(Written::Members(members))
}

/// Makes typed requests out of a venue's list of methods: for each a function that returns a
/// [`TypedCall`](crate::TypedCall) for [`Session::invoke`](crate::Session::invoke).
///
/// One line for each method: documentation, visibility, a name with typed parameters, the type of the
/// result, the venue's word for the method, its class (`idempotent` or `at_most_once`), and, if it has one
/// of its own, the deadline. Parameters are sent by their names, and those that are `None` are left out; a
/// single parameter named `params` is the whole of them.
///
/// ```
/// use std::time::Duration;
/// use mainstay::protocol::rpc::Class;
///
/// /// An order at the fictitious Tulip Exchange.
/// #[derive(serde::Serialize)]
/// pub struct Order<'a> { bulb: &'a str, count: u32 }
///
/// /// What became of it.
/// #[derive(serde::Deserialize)]
/// pub struct Receipt { number: u64 }
///
/// mainstay::rpc! {
///     /// What a bulb costs.
///     pub fn price(bulb: &str, color: Option<&str>) -> f64 = "market/price", idempotent;
///     /// Buys bulbs. Never sent twice.
///     pub fn buy(params: &Order<'_>) -> Receipt = "trade/buy", at_most_once,
///         within Duration::from_secs(3);
/// }
///
/// let call = price("semper augustus", None);
/// assert_eq!((call.method(), call.class()), ("market/price", Class::Idempotent));
/// assert_eq!(call.call()?.params().unwrap().get(), r#"{"bulb":"semper augustus"}"#);
///
/// let call = buy(&Order { bulb: "viceroy", count: 2 });
/// assert_eq!((call.class(), call.deadline()), (Class::AtMostOnce, Some(Duration::from_secs(3))));
/// assert_eq!(call.call()?.params().unwrap().get(), r#"{"bulb":"viceroy","count":2}"#);
///
/// # async fn run(session: mainstay::Session) -> Result<(), mainstay::error::RequestError> {
/// // With a session of that venue:
/// let receipt = session.invoke(buy(&Order { bulb: "viceroy", count: 2 })).await?;
/// println!("bought: {}", receipt.number);
/// # Ok(())
/// # }
/// # Ok::<(), mainstay::error::RequestError>(())
/// ```
#[macro_export]
macro_rules! rpc {
    (@class idempotent) => { $crate::protocol::rpc::Class::Idempotent };
    (@class at_most_once) => { $crate::protocol::rpc::Class::AtMostOnce };
    (@method [$($doc:tt)*] [$vis:vis] $name:ident (params: $params:ty $(,)?)
        [$result:ty] [$method:expr] $class:ident [$($deadline:expr)?]) => {
        $($doc)*
        $vis fn $name(params: $params) -> $crate::protocol::rpc::TypedCall<$result> {
            $crate::protocol::rpc::TypedCall::new(
                $method,
                $crate::protocol::rpc::Params::whole(&params),
                $crate::rpc!(@class $class),
            )
            $(.within($deadline))?
        }
    };
    (@method [$($doc:tt)*] [$vis:vis] $name:ident ($($param:ident: $type:ty),* $(,)?)
        [$result:ty] [$method:expr] $class:ident [$($deadline:expr)?]) => {
        $($doc)*
        $vis fn $name($($param: $type),*) -> $crate::protocol::rpc::TypedCall<$result> {
            $crate::protocol::rpc::TypedCall::new(
                $method,
                $crate::protocol::rpc::Params::new()$(.with(stringify!($param), &$param))*,
                $crate::rpc!(@class $class),
            )
            $(.within($deadline))?
        }
    };
    ($(
        $(#[$doc:meta])*
        $vis:vis fn $name:ident ($($params:tt)*) -> $result:ty = $method:expr, $class:ident
            $(, within $deadline:expr)?;
    )*) => {
        $($crate::rpc!(@method [$(#[$doc])*] [$vis] $name ($($params)*)
            [$result] [$method] $class [$($deadline)?]);)*
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    rpc! {
        /// Without parameters.
        fn time() -> u64 = "time", idempotent;
        /// With some.
        fn place(name: &str, r#type: Option<&str>, amount: f64) -> u64 = "place", at_most_once,
            within Duration::from_secs(2);
        /// With a whole that cannot be written.
        fn odd(params: &std::collections::HashMap<Vec<u8>, u8>) -> u64 = "odd", idempotent;
    }

    fn params<R>(call: &TypedCall<R>) -> String {
        call.call().unwrap().params().unwrap().get().to_owned()
    }

    #[test]
    fn parameters_go_by_their_names_and_absent_ones_are_left_out() {
        assert_eq!(params(&time()), "{}");
        assert_eq!(
            params(&place("a\"b", Some("limit"), 1.5)),
            r#"{"name":"a\"b","type":"limit","amount":1.5}"#
        );
        assert_eq!(
            params(&place("a", None, 10.0)),
            r#"{"name":"a","amount":10.0}"#
        );
    }

    #[test]
    fn class_and_deadline_are_the_methods_own() {
        assert_eq!(
            (time().class(), time().deadline()),
            (Class::Idempotent, None)
        );
        let place = place("a", None, 1.0);
        assert_eq!(place.class(), Class::AtMostOnce);
        assert_eq!(place.deadline(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_cannot_be_written_is_an_error_of_the_call() {
        let bytes = std::collections::HashMap::from([(vec![1], 1)]);
        let error = odd(&bytes).call().unwrap_err();
        assert!(matches!(error, RequestError::Unencodable { method, .. } if method == "odd"));
        // serde_json would write it as `null`, and it would be left out like `None`.
        let error = place("a", None, f64::NAN).call().unwrap_err();
        assert!(
            matches!(&error, RequestError::Unencodable { detail, .. } if detail == "amount: NaN is no number in json"),
            "{error:?}"
        );
    }

    #[test]
    fn a_result_of_another_type_is_an_error_without_the_payload() {
        let result = RawValue::from_string("\"s3cret\"".to_owned()).unwrap();
        let error = time().read(&result).unwrap_err();
        assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
        let result = RawValue::from_string("7".to_owned()).unwrap();
        assert_eq!(time().read(&result).unwrap(), 7);
    }

    #[test]
    fn debug_shows_no_parameter() {
        assert!(!format!("{:?}", place("s3cret", None, 1.0)).contains("s3cret"));
    }
}
