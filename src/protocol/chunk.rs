//! How much room a read is given: more when reads fill it, less when they have brought little for long.
//!
//! Apart from those who read because both wires do.

/// Room that is made for a read at least.
pub(crate) const LEAST: usize = 4096;
/// Reads in a row that need little of the room before it becomes less.
const PATIENCE: u8 = 32;

/// The room of one connection's reads, in bytes.
#[derive(Debug)]
pub(crate) struct Chunk {
    room: usize,
    most: usize,
    /// Reads in a row that needed little of it.
    little: u8,
}

impl Chunk {
    /// Little at first, and never more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            room: LEAST.min(most),
            most,
            little: 0,
        }
    }

    /// What the next read is given.
    pub(crate) fn room(&self) -> usize {
        self.room
    }

    /// The most that a read is ever given.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// A read has brought so many bytes of those for which there was `room`. One that filled it makes the next room
    /// larger, many that needed little make it smaller.
    pub(crate) fn on_read(&mut self, bytes: usize, room: usize) {
        if bytes >= room {
            self.little = 0;
            self.room = self.room.saturating_mul(2).min(self.most);
        } else if bytes >= self.room / 8 || self.room <= LEAST {
            self.little = 0;
        } else {
            self.little += 1;
            if self.little == PATIENCE {
                self.little = 0;
                self.room /= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_traffic() {
        let mut chunk = Chunk::new(100_000);
        let mut rooms = Vec::new();
        for _ in 0..6 {
            rooms.push(chunk.room());
            chunk.on_read(chunk.room(), chunk.room());
        }
        assert_eq!(rooms, [4096, 8192, 16_384, 32_768, 65_536, 100_000]);
        for _ in 0..PATIENCE - 1 {
            chunk.on_read(100, chunk.room());
        }
        // Not little.
        chunk.on_read(20_000, chunk.room());
        assert_eq!(chunk.room(), 100_000);
        for _ in 0..10 * u32::from(PATIENCE) {
            chunk.on_read(100, chunk.room());
        }
        assert!((LEAST / 2..=LEAST).contains(&chunk.room()));
    }
}
