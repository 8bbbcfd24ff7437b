//! Any bytes in any pieces: the framing of the fast wire tells the same frames, answers and errors as tungstenite.

#![no_main]

#[path = "../../src/protocol/framing/tests/pair.rs"]
mod pair;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use mainstay::Frame;
use mainstay::protocol::framing::Framing;

use pair::{Script, ours, reference};

#[derive(Debug, Arbitrary)]
struct Input<'f> {
    close_after: Option<u8>,
    cuts: [u8; 4],
    bytes: &'f [u8],
}

fuzz_target!(|input: Input<'_>| {
    let mut pieces = Vec::new();
    let mut rest = input.bytes;
    for cut in input.cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, more) = rest.split_at(rest.len().min(usize::from(*cut).max(1)));
        pieces.push(piece.to_vec());
        rest = more;
    }
    let script = Script {
        pieces,
        close_after: input.close_after.map(usize::from),
    };
    assert_eq!(ours(&script), reference(&script));
});
