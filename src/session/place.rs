//! Where a frame goes that has been read.
//!
//! Apart from the connection because it decides and does nothing: it asks the platform, and takes an array
//! of messages apart.
//!
//! Invariants: a place borrows nothing from its frame; the messages of an array share its payload and are
//! not copied.

use bytes::Bytes;

use super::routes::Sorter;
use crate::frame::{Frame, Utf8Bytes};
use crate::platform::{Platform, Route};
use crate::protocol::envelope;

/// Where a frame goes, once its route no longer borrows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the caller of this request.
    Reply(u64),
    /// Into this bin of the sorter's.
    Bin(usize),
    /// To the HeartbeatManager.
    Heartbeat,
    /// Its messages have places of their own.
    Batch,
}

/// Looks for what it knows, then asks the platform.
#[inline(always)]
pub(crate) fn place(platform: &dyn Platform, sorter: &mut Sorter, payload: &[u8]) -> Place {
    match sorter.recognise(payload) {
        Some(bin) => Place::Bin(bin),
        None => ask(platform, sorter, payload),
    }
}

/// Asks the platform.
pub(crate) fn ask(platform: &dyn Platform, sorter: &mut Sorter, payload: &[u8]) -> Place {
    match platform.route(payload) {
        Route::Reply(id) => Place::Reply(id),
        Route::Notification(channel) => {
            if let Some(start) = platform.channel_start(payload) {
                sorter.learn(payload.get(..start).unwrap_or_default());
            }
            Place::Bin(sorter.place(Some(&channel)))
        }
        Route::Heartbeat => Place::Heartbeat,
        Route::Batch => Place::Batch,
        Route::Unrouted => Place::Bin(sorter.place(None)),
    }
}

/// The messages in a frame that is a JSON array, each with its place; none if it is no array.
pub(crate) fn messages(
    platform: &dyn Platform,
    sorter: &mut Sorter,
    frame: &Frame,
) -> Vec<(Place, Frame)> {
    let (whole, is_text): (&Bytes, bool) = match frame {
        Frame::Text(text) => (text.as_ref(), true),
        Frame::Binary(bytes) => (bytes, false),
        Frame::Ping(_) | Frame::Pong(_) | Frame::Close(_) => return Vec::new(),
    };
    let elements = envelope::elements(whole).unwrap_or_default();
    let each = elements.into_iter().map(|element| {
        let element = element.get();
        let place = match place(platform, sorter, element.as_bytes()) {
            // An array within an array is no message.
            Place::Batch => Place::Bin(sorter.place(None)),
            place => place,
        };
        let message = match is_text {
            true => Frame::Text(Utf8Bytes::part(whole, element)),
            false => Frame::Binary(whole.slice_ref(element.as_bytes())),
        };
        (place, message)
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::super::routes::Routes;
    use super::*;
    use crate::platform::JsonRpc;

    fn taken_apart(text: &str) -> Vec<(Place, Frame)> {
        let mut sorter = Sorter::new(&Routes::default());
        messages(&JsonRpc, &mut sorter, &Frame::text(text))
    }

    #[test]
    fn each_message_of_an_array_has_a_place_of_its_own() {
        let text = r#" [ {"id":7,"result":[1, 2]} , {"id":8,"error":{"code":1}}, 3, [4] ] "#;
        let found = taken_apart(text);
        let everything_else = Place::Bin(0);
        let expected = [
            (Place::Reply(7), r#"{"id":7,"result":[1, 2]}"#),
            (Place::Reply(8), r#"{"id":8,"error":{"code":1}}"#),
            (everything_else, "3"),
            (everything_else, "[4]"),
        ];
        assert_eq!(
            found,
            expected.map(|(place, text)| (place, Frame::text(text)))
        );
    }

    #[test]
    fn what_is_no_whole_array_is_left_as_it_is() {
        for text in [
            r#"[{"id":7,"result":1},"#,
            r#"{"id":7,"result":1}"#,
            "[]",
            "",
        ] {
            assert!(taken_apart(text).is_empty(), "{text}");
        }
    }
}
