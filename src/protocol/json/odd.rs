//! The bytes of a string that do not stand for themselves (RFC 8259, section 7), looked for eight at a time.
//!
//! Apart from those who look because several do: who escapes a text, and who skips a string.
//!
//! Invariants: a quote, a backslash and a control character are found wherever they stand, and nothing else is.

/// Bytes that are looked at together.
pub(in crate::protocol) const WORD: usize = size_of::<u64>();

/// Where in a word the first is that is a quote, a backslash or a control character.
#[inline(always)]
pub(in crate::protocol) fn first_odd(word: [u8; WORD]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; WORD]);
    const HIGH: u64 = ONES << 7;
    let word = u64::from_le_bytes(word);
    // A byte that is less borrows from the high bit; what it takes from those behind it does not matter.
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
    let is = |byte: u8| less(word ^ (ONES * u64::from(byte)), 1);
    let odd = (less(word, b' ') | is(b'"') | is(b'\\')) & HIGH;
    (odd != 0).then(|| odd.trailing_zeros() as usize / 8)
}

/// Whether a byte is one of these.
#[inline(always)]
pub(in crate::protocol) fn is_odd(byte: u8) -> bool {
    // All three are looked at: a loop over many bytes then looks at several at a time.
    (byte < b' ') | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_told_from_every_other_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            let expected = byte < b' ' || byte == b'"' || byte == b'\\';
            assert_eq!(is_odd(byte), expected, "{byte}");
            for place in 0..WORD {
                let mut word = [b'x'; WORD];
                word[place] = byte;
                assert_eq!(first_odd(word), expected.then_some(place), "{byte}");
            }
        }
    }
}
