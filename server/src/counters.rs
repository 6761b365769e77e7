//! Counters that all processes of a server see.
//!
//! Each worker counts in a place of its own, so that none waits for another; whoever asks adds them up.
#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use crate::mapping::Mapping;

/// Bytes of a place: as many as no two workers should write to at once.
const PLACE_BYTES: usize = 64;
/// Counters in a place.
const COUNTERS: usize = PLACE_BYTES / size_of::<AtomicU64>();

/// Places for the counters of some workers. Processes forked after its creation share it.
pub struct Counters {
    map: Mapping,
    places: usize,
}

impl Counters {
    /// Counters at zero. Errors are the system's.
    pub fn new(places: usize) -> io::Result<Counters> {
        let places = places.max(1);
        let len = places.checked_mul(PLACE_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Counters { map: Mapping::new(len)?, places })
    }

    /// How many workers have a place of their own.
    pub fn places(&self) -> usize {
        self.places
    }

    fn at(&self, place: usize, counter: usize) -> &AtomicU64 {
        assert!(counter < COUNTERS);
        // SAFETY: the mapping is page-aligned and holds `places` times `COUNTERS` numbers; both indices are within.
        // Zeroed bytes are such numbers.
        unsafe {
            &*self.map.base().cast::<AtomicU64>().as_ptr().add(place % self.places * COUNTERS + counter)
        }
    }

    /// Adds to a counter of a place; places beyond the last one are shared.
    pub fn add(&self, place: usize, counter: usize, n: i64) {
        self.at(place, counter).fetch_add(n as u64, Relaxed);
    }

    /// A counter over all places. Never below zero, although single places may be for a moment.
    pub fn sum(&self, counter: usize) -> u64 {
        let total = (0..self.places).map(|p| self.at(p, counter).load(Relaxed)).fold(0, u64::wrapping_add);
        u64::try_from(total as i64).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn places_are_added_up_and_may_wrap_around() {
        let c = Counters::new(2).expect("mapped");
        c.add(0, 3, 5);
        c.add(1, 3, -2);
        c.add(2, 3, 1);
        assert_eq!((c.sum(3), c.sum(2)), (4, 0));
        c.add(1, 0, -1);
        assert_eq!(c.sum(0), 0);
        c.add(0, 0, 3);
        assert_eq!(c.sum(0), 2);
    }
}
