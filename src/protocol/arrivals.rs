//! How many messages have come whole, told from the bytes as they are read.
//!
//! tungstenite makes room for the next read before it looks whether there is anything to read. Room that messages still
//! in somebody's hands were cut out of can't be used again, so it takes new room, which costs more than the messages.
//! Whoever knows that nothing whole is left can pass on what it holds first.
//!
//! Invariants: what a peer sends is measured, never judged; a message is counted with the last byte of its last frame.

/// Bytes of the longest head of a frame (RFC 6455, section 5.2).
const LONGEST_HEAD: usize = 14;

/// The messages of one connection, counted as they come. A control frame is a message, too.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    /// Bytes that the present frame's payload still lacks.
    missing: u64,
    /// Bytes of the present frame's payload.
    present: u64,
    /// The longest payload of which something came with the last read.
    longest: u64,
    /// Whether the present frame ends a message.
    ends: bool,
    /// A head that has come in part.
    head: [u8; LONGEST_HEAD],
    known: usize,
    whole: u64,
}

impl Arrivals {
    /// These bytes have come.
    pub(crate) fn on_read(&mut self, bytes: &[u8]) {
        self.longest = self.present;
        let mut rest = bytes;
        loop {
            let payload = usize::try_from(self.missing).unwrap_or(usize::MAX);
            let Some(behind) = rest.get(payload..) else {
                self.missing -= rest.len() as u64;
                return;
            };
            rest = behind;
            self.missing = 0;
            self.present = 0;
            self.whole += u64::from(self.ends);
            self.ends = false;
            if rest.is_empty() {
                return;
            }
            let Some(head) = self.take_head(rest) else {
                return;
            };
            rest = &rest[head..];
        }
    }

    /// Messages that have come whole so far.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// Bytes of the last frame's payload, if it has not come whole.
    pub(crate) fn present(&self) -> u64 {
        self.present
    }

    /// Bytes of the longest payload of which something came with the last read.
    pub(crate) fn longest(&self) -> u64 {
        self.longest
    }

    /// Begins the frame whose head ends in `bytes`, and says where; `None` if it does not.
    #[inline]
    fn take_head(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.known == 0
            && let Some((head, payload)) = extent(bytes)
        {
            self.begin(bytes[0], payload);
            return Some(head);
        }
        self.put_head_together(bytes)
    }

    #[cold]
    fn put_head_together(&mut self, bytes: &[u8]) -> Option<usize> {
        let known = self.known;
        let more = bytes.len().min(LONGEST_HEAD - known);
        self.head[known..known + more].copy_from_slice(&bytes[..more]);
        let Some((head, payload)) = extent(&self.head[..known + more]) else {
            self.known += more;
            return None;
        };
        self.known = 0;
        self.begin(self.head[0], payload);
        Some(head - known)
    }

    fn begin(&mut self, first: u8, payload: u64) {
        self.ends = first & 0x80 != 0;
        (self.missing, self.present) = (payload, payload);
        self.longest = self.longest.max(payload);
    }
}

/// The bytes of a frame's head and of its payload, if the head is there whole (RFC 6455, section 5.2).
#[inline]
pub(crate) fn extent(bytes: &[u8]) -> Option<(usize, u64)> {
    let [_, second, rest @ ..] = bytes else {
        return None;
    };
    let (payload, head) = match (second & 0x7f, rest) {
        (126, [a, b, ..]) => (u64::from(u16::from_be_bytes([*a, *b])), 4),
        (127, [a, b, c, d, e, f, g, h, ..]) => {
            (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), 10)
        }
        (126 | 127, _) => return None,
        (short, _) => (u64::from(short), 2),
    };
    let masked = second & 0x80 != 0;
    let head = if masked { head + 4 } else { head };
    (bytes.len() >= head).then_some((head, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Arrivals;

    /// A frame of `length` bytes as a peer may write it, masked against the rules or not.
    fn frame(ends: bool, masked: bool, length: usize) -> Vec<u8> {
        let mut frame = vec![if ends { 0x82 } else { 0x02 }];
        let mask = if masked { 0x80 } else { 0 };
        match length {
            0..=125 => frame.push(mask | length as u8),
            126..=0xffff => {
                frame.push(mask | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + if masked { 4 } else { 0 } + length, 0xff);
        frame
    }

    proptest! {
        /// However the bytes are cut, a message counts when its last byte has come, and not before.
        #[test]
        fn a_message_counts_with_its_last_byte(
            frames in prop::collection::vec(
                (any::<bool>(), any::<bool>(), prop_oneof![0usize..300, 65_000usize..66_000]),
                1..8,
            ),
            cuts in prop::collection::vec(1usize..70_000, 1..40),
        ) {
            let mut stream = Vec::new();
            let mut ends_at = Vec::new();
            for (ends, masked, length) in frames {
                stream.extend(frame(ends, masked, length));
                if ends {
                    ends_at.push(stream.len());
                }
            }
            let mut arrivals = Arrivals::default();
            let mut read = 0;
            for cut in cuts.into_iter().cycle() {
                let until = (read + cut).min(stream.len());
                arrivals.on_read(&stream[read..until]);
                read = until;
                let whole = ends_at.iter().filter(|end| **end <= read).count();
                prop_assert_eq!(arrivals.whole(), whole as u64);
                if read == stream.len() {
                    break;
                }
            }
        }

        /// A peer's bytes are measured and never judged.
        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut arrivals = Arrivals::default();
            for piece in pieces {
                arrivals.on_read(&piece);
            }
        }
    }
}
