//! Writing JSON that says what was meant.
//!
//! Apart from serde_json because that writes a number that is not finite as `null`, which a venue takes for an option
//! that was left out: an order whose price is not a number would go out without one.
//!
//! Invariants: what has such a number anywhere is refused by the member's name; everything else is written as
//! serde_json writes it.

pub(super) mod odd;

use std::fmt;

use serde::ser::{
    Error as _, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};
use serde_json::value::RawValue;

/// `value` as JSON text.
///
/// # Errors
///
/// What cannot be written, and where it stands.
pub(crate) fn text(value: &(impl Serialize + ?Sized)) -> Result<String, String> {
    finite(value)?;
    serde_json::to_string(value).map_err(|error| error.to_string())
}

/// The same, to be put into other JSON as it is.
pub(crate) fn raw(value: &(impl Serialize + ?Sized)) -> Result<Box<RawValue>, String> {
    finite(value)?;
    serde_json::value::to_raw_value(value).map_err(|error| error.to_string())
}

fn finite(value: &(impl Serialize + ?Sized)) -> Result<(), String> {
    value
        .serialize(Finite)
        .map_err(|refused| refused.to_string())
}

/// Looks at every number and writes nothing.
#[derive(Clone, Copy)]
struct Finite;

/// Why a value is refused: by the way to the number, or in its own words.
#[derive(Debug)]
struct Refused {
    /// From the outermost member inwards, each ahead of a dot or a bracket.
    path: String,
    why: String,
}

impl Refused {
    fn within(self, member: impl fmt::Display) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        let path = format!("{member}{dot}{}", self.path);
        Self { path, ..self }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.is_empty() {
            true => f.write_str(&self.why),
            false => write!(f, "{}: {}", self.path, self.why),
        }
    }
}

impl std::error::Error for Refused {}

impl serde::ser::Error for Refused {
    fn custom<T: fmt::Display>(why: T) -> Self {
        let (path, why) = (String::new(), why.to_string());
        Self { path, why }
    }
}

fn number(value: f64) -> Result<(), Refused> {
    match value.is_finite() {
        true => Ok(()),
        false => Err(Refused::custom(format!("{value} is no number in json"))),
    }
}

/// Values with nothing in them to look at.
macro_rules! plain {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, _: $type) -> Result<(), Refused> {
            Ok(())
        })*
    };
}

impl Serializer for Finite {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    plain! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    fn serialize_f32(self, value: f32) -> Result<(), Refused> {
        number(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Refused> {
        number(value)
    }

    fn serialize_none(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
    ) -> Result<(), Refused> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value
            .serialize(self)
            .map_err(|refused| refused.within(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Items, Refused> {
        Ok(Items::default())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members, Refused> {
        Ok(Members)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members, Refused> {
        Ok(Members)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Members, Refused> {
        Ok(Members)
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Refused> {
        Ok(())
    }
}

/// An array, by the index of the next item.
#[derive(Default)]
struct Items(usize);

impl Items {
    fn item(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), Refused> {
        let index = self.0;
        self.0 += 1;
        let looked = value.serialize(Finite);
        looked.map_err(|refused| refused.within(format_args!("[{index}]")))
    }
}

/// An object.
struct Members;

impl Members {
    fn member(name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Refused> {
        value
            .serialize(Finite)
            .map_err(|refused| refused.within(name))
    }
}

macro_rules! items {
    ($($kind:ident: $method:ident),* $(,)?) => {
        $(impl $kind for Items {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.item(value)
            }

            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        })*
    };
}

items! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}

macro_rules! members {
    ($($kind:ident),* $(,)?) => {
        $(impl $kind for Members {
            type Ok = ();
            type Error = Refused;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Refused> {
                Self::member(name, value)
            }

            fn end(self) -> Result<(), Refused> {
                Ok(())
            }
        })*
    };
}

members!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Members {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), Refused> {
        // What can be no key is serde_json's to refuse.
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        Self::member("*", value)
    }

    fn serialize_entry<K: Serialize + ?Sized, T: Serialize + ?Sized>(
        &mut self,
        key: &K,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(Finite).map_err(|refused| {
            let name = serde_json::to_string(key).unwrap_or_default();
            refused.within(name.trim_matches('"'))
        })
    }

    fn end(self) -> Result<(), Refused> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Serialize)]
    struct Order {
        legs: Vec<Leg>,
        note: Option<&'static str>,
    }

    #[derive(Serialize)]
    struct Leg {
        price: Option<f64>,
        sizes: (f32, u8),
        kind: Kind,
    }

    #[derive(Serialize)]
    enum Kind {
        Market,
        Limit(f64),
        Stop { at: f64 },
        Pair(f64, f64),
    }

    fn order(price: f64, size: f32, kind: Kind) -> Order {
        let leg = |price, size, kind| Leg {
            price: Some(price),
            sizes: (size, 1),
            kind,
        };
        Order {
            legs: vec![leg(1.0, 1.0, Kind::Market), leg(price, size, kind)],
            note: None,
        }
    }

    #[test]
    fn a_number_that_is_not_finite_is_refused_by_its_place() {
        for (odd, place) in [
            (order(f64::NAN, 1.0, Kind::Market), "legs[1].price: NaN"),
            (
                order(1.0, f32::INFINITY, Kind::Market),
                "legs[1].sizes[0]: inf",
            ),
            (
                order(1.0, 1.0, Kind::Limit(f64::NAN)),
                "legs[1].kind.Limit: NaN",
            ),
            (
                order(
                    1.0,
                    1.0,
                    Kind::Stop {
                        at: f64::NEG_INFINITY,
                    },
                ),
                "legs[1].kind.at: -inf",
            ),
            (
                order(1.0, 1.0, Kind::Pair(1.0, f64::NAN)),
                "legs[1].kind[1]: NaN",
            ),
        ] {
            let error = text(&odd).unwrap_err();
            assert_eq!(error, format!("{place} is no number in json"));
            assert_eq!(raw(&odd).unwrap_err(), error);
        }
        assert_eq!(text(&f64::NAN).unwrap_err(), "NaN is no number in json");
        let map = HashMap::from([("a", Some(f64::NAN))]);
        assert_eq!(text(&map).unwrap_err(), "a: NaN is no number in json");
        let whole = order(1.5, 2.0, Kind::Stop { at: 3.0 });
        assert_eq!(
            text(&whole).unwrap(),
            serde_json::to_string(&whole).unwrap()
        );
    }

    #[test]
    fn json_that_is_written_already_stays_as_it_is() {
        let numbers = RawValue::from_string("[1e400, null]".to_owned()).unwrap();
        assert_eq!(text(&numbers).unwrap(), "[1e400, null]");
        assert_eq!(
            raw(&json!({ "a": [null, 1.5] })).unwrap().get(),
            r#"{"a":[null,1.5]}"#
        );
    }

    #[test]
    fn what_serde_json_refuses_is_refused() {
        let bytes = HashMap::from([(vec![1_u8], 1)]);
        assert!(text(&bytes).unwrap_err().contains("key"));
    }

    proptest! {
        #[test]
        fn whatever_is_finite_is_written_as_serde_json_writes_it(
            numbers in prop::collection::vec(any::<f64>(), 0..8),
            name: String,
        ) {
            let value = HashMap::from([(name, numbers)]);
            let expected = serde_json::to_string(&value).unwrap();
            match text(&value) {
                Ok(written) => {
                    prop_assert!(value.values().flatten().all(|number| number.is_finite()));
                    prop_assert_eq!(&written, &expected);
                    prop_assert!(serde_json::from_str::<Value>(&written).is_ok());
                }
                Err(_) => prop_assert!(value.values().flatten().any(|number| !number.is_finite())),
            }
        }
    }
}
