//! Which partition a key belongs to.
//!
//! Its own file because it is a promise that outlives a process: what was stored by it must be found by it.
//!
//! Invariants: the same key and number of partitions give the same partition in every process, on every
//! machine and in every version.

use crate::id::ChildId;

/// What a partition can be chosen by.
///
/// Integers by their value: the remainder of the division by the number of partitions, never negative.
/// Text and bytes by FNV-1a with 64 bits. Both are the same in every process, on every machine and in
/// every version of this crate. For other types choose a part of them that identifies them.
pub trait PartitionKey {
    /// Which of so many partitions, from zero on; there is at least one. Of a number beyond, the remainder is
    /// taken.
    fn partition(&self, partitions: usize) -> usize;
}

macro_rules! by_value {
    ($($integer:ty),+) => {
        $(impl PartitionKey for $integer {
            fn partition(&self, partitions: usize) -> usize {
                let whole = i128::try_from(*self).map(|value| {
                    let partitions = i128::try_from(partitions).unwrap_or(i128::MAX);
                    value.rem_euclid(partitions)
                });
                // Only a `u128` can be too large, and then it is not negative.
                let rest = whole.unwrap_or_else(|_| (*self as u128 % partitions as u128) as i128);
                usize::try_from(rest).unwrap_or(0)
            }
        })+
    };
}

by_value!(
    u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize
);

impl PartitionKey for [u8] {
    fn partition(&self, partitions: usize) -> usize {
        fnv_1a(self).partition(partitions)
    }
}

impl PartitionKey for Vec<u8> {
    fn partition(&self, partitions: usize) -> usize {
        self.as_slice().partition(partitions)
    }
}

impl PartitionKey for str {
    fn partition(&self, partitions: usize) -> usize {
        self.as_bytes().partition(partitions)
    }
}

impl PartitionKey for String {
    fn partition(&self, partitions: usize) -> usize {
        self.as_str().partition(partitions)
    }
}

impl PartitionKey for ChildId {
    fn partition(&self, partitions: usize) -> usize {
        self.as_str().partition(partitions)
    }
}

impl<K: PartitionKey + ?Sized> PartitionKey for &K {
    fn partition(&self, partitions: usize) -> usize {
        (**self).partition(partitions)
    }
}

/// Fowler, Noll and Vo, `draft-eastlake-fnv`.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// From the test vectors of `draft-eastlake-fnv`.
    #[test]
    fn the_hash_is_the_named_one() {
        assert_eq!(fnv_1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv_1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv_1a(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn integers_go_by_their_value() {
        assert_eq!(7u8.partition(4), 3);
        assert_eq!(0i64.partition(4), 0);
        assert_eq!((-1i32).partition(4), 3);
        assert_eq!(u128::MAX.partition(10), 5);
        assert_eq!(i128::MIN.partition(1), 0);
        assert_eq!(usize::MAX.partition(usize::MAX), 0);
    }

    proptest! {
        #[test]
        fn every_key_has_a_partition(
            text in ".*", number: u128, signed: i128, partitions in 1usize..100,
        ) {
            prop_assert!(text.as_str().partition(partitions) < partitions);
            prop_assert_eq!(text.partition(partitions), text.as_bytes().partition(partitions));
            prop_assert!(number.partition(partitions) < partitions);
            prop_assert!(signed.partition(partitions) < partitions);
        }
    }
}
