//! Numbers of records. An offset is unique in its partition only, and a message bears its record's number, so
//! the number of the partition is in the low bits: it needs no lookup, is the same when decided again, and
//! rises within a partition.
//!
//! The records of a topic that follows another have higher numbers than all of that one: what came later is found
//! by a higher number. The same goes for an installation that was moved here, whose messages have numbers of another
//! bus. So numbers begin at a base, a multiple of what a partition's number takes. Within the bus
//! numbers are without it; it is added where they go out and taken off where they come in.

use crate::bus::PARTITION_BITS;

/// Highest number of a partition; the one above it is in the numbers that the store gives out itself.
pub const PARTITION_MAX: u32 = (1 << PARTITION_BITS) - 2;

/// The number of the record at an offset. Numbers of partitions begin with 1, so that of the first record
/// is above 0, which is the position where nothing is decided.
pub fn record(offset: i64, partition: u32) -> i64 {
    offset << PARTITION_BITS | i64::from(partition)
}

pub fn partition_of(record: i64) -> u32 {
    u32::try_from(record & ((1 << PARTITION_BITS) - 1)).unwrap_or_default()
}

/// The number by which the store knows a record, or a position.
pub fn outside(record: i64, base: i64) -> i64 {
    match record {
        0 => 0,
        record => base + record,
    }
}

/// The number within the bus of what the store knows.
pub fn inside(position: i64, base: i64) -> i64 {
    (position - base).max(0)
}

/// The offset behind a position.
pub fn next_offset(position: i64) -> i64 {
    match position {
        0 => 0,
        position => (position >> PARTITION_BITS) + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_above_the_position_before_it_and_tells_partition_and_offset() {
        for partition in [1, 7, PARTITION_MAX] {
            let mut position = 0;
            for offset in [0, 1, 2, 1 << 40] {
                let number = record(offset, partition);
                assert!(number > position);
                assert_eq!(partition_of(number), partition);
                assert_eq!(next_offset(number), offset + 1);
                position = number;
            }
        }
        assert_eq!(next_offset(0), 0);
    }

    #[test]
    fn above_a_base_the_partition_is_the_same_and_nothing_decided_is_still_0() {
        let base = 7 << 28;
        for number in [record(0, 1), record(9, PARTITION_MAX)] {
            let known = outside(number, base);
            assert!(known > base);
            assert_eq!(partition_of(known), partition_of(number));
            assert_eq!(inside(known, base), number);
        }
        assert_eq!((outside(0, base), inside(0, base)), (0, 0));
    }
}
