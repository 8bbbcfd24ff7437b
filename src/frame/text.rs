//! The text of a frame: bytes that are known to be UTF-8.
//!
//! Apart from the frame because it is held in one of two ways, which nobody sees. What tungstenite has checked, or has
//! made of a string, it gives back as a `str` for nothing. What the fast wire reads was checked here, several times as
//! fast; but only unsafe code, which there is none of in this crate, makes a `str` of bytes without looking.
//!
//! Invariants: the bytes are UTF-8; how they are held makes no difference to what is equal, to a hash or an order;
//! `Debug` shows the size, not the text.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

#[cfg(feature = "fast-wire")]
use bytes::Buf;
use bytes::{Bytes, BytesMut};
use tokio_tungstenite::tungstenite;

/// Text whose bytes are shared: a clone is of the same bytes.
///
/// [`as_bytes`](Self::as_bytes) and [`len`](Self::len) are free. So is [`as_str`](Self::as_str), and with it whatever a
/// `str` can do, but for text that came over the [fast wire](crate::config::WireBackend::Fast) or in an array of several
/// messages: each call looks whether it is UTF-8 again, which takes about the time of a copy. Who reads such a text
/// several times keeps the `str`, and who parses bytes begins with these.
///
/// ```
/// use mainstay::frame::Utf8Bytes;
///
/// let text = Utf8Bytes::from("tick");
/// assert_eq!(text, "tick");
/// assert_eq!(text.as_bytes(), b"tick");
/// assert!(Utf8Bytes::try_from(vec![0xff]).is_err());
/// ```
#[derive(Clone, Default)]
pub struct Utf8Bytes(Held);

/// Bytes up to which text is first looked at for being ASCII.
#[cfg(feature = "fast-wire")]
const SHORT: usize = 1024;

/// Who knows that they are UTF-8.
#[derive(Clone)]
enum Held {
    /// tungstenite, whose type says so.
    Typed(tungstenite::Utf8Bytes),
    /// This file alone, which looked when it took them.
    Checked(Bytes),
}

impl Utf8Bytes {
    /// Text that lives as long as the program.
    #[must_use]
    pub const fn from_static(text: &'static str) -> Self {
        Self(Held::Typed(tungstenite::Utf8Bytes::from_static(text)))
    }

    /// What stands behind the first `head` bytes, if it is text.
    #[cfg(feature = "fast-wire")]
    #[inline(always)]
    pub(crate) fn behind(head: usize, bytes: BytesMut) -> Option<Self> {
        if !is_text(bytes.get(head..)?) {
            return None;
        }
        // Behind the check: what was just cut out is moved by wider words than it was written by, which waits until that
        // has gone to the cache.
        let mut bytes = bytes.freeze();
        bytes.advance(head);
        Some(Self(Held::Checked(bytes)))
    }

    /// The `part` of what is held together.
    ///
    /// # Panics
    ///
    /// If it is none.
    pub(crate) fn part(whole: &Bytes, part: &str) -> Self {
        Self(Held::Checked(whole.slice_ref(part.as_bytes())))
    }

    /// What tungstenite has read.
    #[inline]
    pub(crate) fn typed(text: tungstenite::Utf8Bytes) -> Self {
        Self(Held::Typed(text))
    }

    /// The text in tungstenite's type, or the bytes of which only we know that they are one.
    pub(crate) fn into_typed(self) -> Result<tungstenite::Utf8Bytes, Bytes> {
        match self.0 {
            Held::Typed(text) => Ok(text),
            Held::Checked(bytes) => Err(bytes),
        }
    }

    /// A copy that holds nothing else.
    pub(super) fn detached(&self) -> Self {
        Self(match &self.0 {
            Held::Typed(text) => Held::Typed(text.as_str().into()),
            Held::Checked(bytes) => Held::Checked(Bytes::copy_from_slice(bytes)),
        })
    }

    /// The text. What it may cost is told [above](Self).
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Held::Typed(text) => text.as_str(),
            // It was UTF-8 when it was taken, and shared bytes do not change.
            Held::Checked(bytes) => simdutf8::basic::from_utf8(bytes).unwrap_or_default(),
        }
    }

    /// Its bytes.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        self.shared()
    }

    /// How many bytes it has.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.shared().len()
    }

    /// Whether it has none.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn shared(&self) -> &Bytes {
        match &self.0 {
            Held::Typed(text) => text.as_ref(),
            Held::Checked(bytes) => bytes,
        }
    }
}

/// Most text of machines is ASCII, and while it is short that is seen in half the time.
#[cfg(feature = "fast-wire")]
#[inline]
fn is_text(bytes: &[u8]) -> bool {
    (bytes.len() <= SHORT && is_ascii(bytes)) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Eight bytes at a time without a look in between, which the compiler makes more of.
#[cfg(feature = "fast-wire")]
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    let all = words
        .iter()
        .fold(0, |all, word| all | u64::from_ne_bytes(*word));
    let rest = match bytes.last_chunk::<8>() {
        Some(last) => u64::from_ne_bytes(*last),
        None => rest.iter().fold(0, |all, byte| all | u64::from(*byte)),
    };
    (all | rest) & 0x8080_8080_8080_8080 == 0
}

impl Default for Held {
    fn default() -> Self {
        Self::Typed(tungstenite::Utf8Bytes::default())
    }
}

impl Deref for Utf8Bytes {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Utf8Bytes {
    #[inline]
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<[u8]> for Utf8Bytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<Bytes> for Utf8Bytes {
    #[inline]
    fn as_ref(&self) -> &Bytes {
        self.shared()
    }
}

impl Borrow<str> for Utf8Bytes {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Utf8Bytes {
    fn from(text: &str) -> Self {
        Self(Held::Typed(text.into()))
    }
}

impl From<String> for Utf8Bytes {
    fn from(text: String) -> Self {
        Self(Held::Typed(text.into()))
    }
}

impl From<&String> for Utf8Bytes {
    fn from(text: &String) -> Self {
        Self(Held::Typed(text.into()))
    }
}

impl TryFrom<Bytes> for Utf8Bytes {
    type Error = Utf8Error;

    fn try_from(bytes: Bytes) -> Result<Self, Utf8Error> {
        bytes.try_into().map(Self::typed)
    }
}

impl TryFrom<BytesMut> for Utf8Bytes {
    type Error = Utf8Error;

    fn try_from(bytes: BytesMut) -> Result<Self, Utf8Error> {
        bytes.try_into().map(Self::typed)
    }
}

impl TryFrom<Vec<u8>> for Utf8Bytes {
    type Error = Utf8Error;

    fn try_from(bytes: Vec<u8>) -> Result<Self, Utf8Error> {
        bytes.try_into().map(Self::typed)
    }
}

impl From<Utf8Bytes> for Bytes {
    fn from(text: Utf8Bytes) -> Self {
        match text.0 {
            Held::Typed(text) => text.into(),
            Held::Checked(bytes) => bytes,
        }
    }
}

impl PartialEq for Utf8Bytes {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Utf8Bytes {}

/// With whatever a `&str` can be compared with.
impl<T> PartialEq<T> for Utf8Bytes
where
    for<'a> &'a str: PartialEq<T>,
{
    fn eq(&self, other: &T) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Utf8Bytes {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// That of `str`, which is that of the bytes.
impl Ord for Utf8Bytes {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

/// That of `str`, by which a map's keys are looked for.
impl Hash for Utf8Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}

impl fmt::Debug for Utf8Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Utf8Bytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::{BuildHasher, RandomState};

    use proptest::prelude::*;

    use super::*;

    /// The same text, held in both ways.
    fn both(text: &str) -> [Utf8Bytes; 2] {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let checked =
            Utf8Bytes::behind(2, BytesMut::from(&[b"\x81\x00", &bytes[..]].concat()[..])).unwrap();
        assert!(matches!(checked.0, Held::Checked(_)));
        let typed = Utf8Bytes::try_from(bytes).unwrap();
        assert!(matches!(typed.0, Held::Typed(_)));
        [typed, checked]
    }

    /// Long enough for whole blocks, and wrong at any place.
    fn nearly_text() -> impl Strategy<Value = Vec<u8>> {
        let wrong = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2);
        ("\\PC{0,20}[ -~]{0,150}\\PC{0,9}", wrong).prop_map(|(text, wrong)| {
            let mut bytes = text.into_bytes();
            for (at, byte) in wrong {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn what_is_text_here_is_text_for_the_standard_library(bytes in nearly_text()) {
            let ours = Utf8Bytes::behind(0, BytesMut::from(&bytes[..]));
            let theirs = std::str::from_utf8(&bytes);
            prop_assert_eq!(ours.is_some(), theirs.is_ok());
            if let (Some(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours.as_str(), theirs);
                prop_assert_eq!(ours.as_bytes(), &bytes[..]);
                prop_assert_eq!(ours.len(), bytes.len());
                prop_assert_eq!(ours.is_empty(), bytes.is_empty());
                prop_assert_eq!(ours.detached(), ours);
            }
            prop_assert_eq!(Utf8Bytes::try_from(bytes.clone()).err(), theirs.err());
            prop_assert_eq!(Utf8Bytes::try_from(Bytes::from(bytes.clone())).err(), theirs.err());
        }

        #[test]
        fn how_it_is_held_makes_no_difference(one in "[ab\u{e9}\u{1f600}]{0,3}", other in "[ab\u{e9}\u{1f600}]{0,3}") {
            let hasher = RandomState::new();
            for left in both(&one) {
                prop_assert_eq!(hasher.hash_one(&left), hasher.hash_one(&*one));
                prop_assert_eq!(left.to_string(), &*one);
                prop_assert!(left == &*one && left == one);
                for right in both(&other) {
                    prop_assert_eq!(left == right, one == other);
                    prop_assert_eq!(left.cmp(&right), one.cmp(&other));
                }
            }
        }
    }

    #[test]
    fn it_is_found_by_its_text() {
        for text in both("deribit") {
            assert!(HashSet::from([text]).contains("deribit"));
        }
    }

    #[test]
    fn each_way_gives_its_own_bytes_back() {
        for text in both("tick") {
            let at = text.as_bytes().as_ptr();
            assert_eq!(Bytes::from(text.clone()).as_ptr(), at);
            assert_ne!(text.detached().as_bytes().as_ptr(), at);
        }
        assert!(Utf8Bytes::default().is_empty());
        assert_eq!(Utf8Bytes::from_static("tick"), both("tick")[1]);
    }

    #[test]
    fn a_debug_text_shows_no_text() {
        for text in both("secret") {
            assert_eq!(format!("{text:?}"), "Utf8Bytes(6 bytes)");
        }
    }
}
