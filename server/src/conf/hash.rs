//! A fast hash for tables whose keys the configuration gives.
//!
//! What is looked up may come from a client, but nothing of a client's is ever put in: there is no table
//! to be flooded. Not for anything else.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table by names of the configuration.
pub type NameMap<V> = HashMap<Box<[u8]>, V, BuildHasherDefault<NameHasher>>;

/// Multiplies and rotates eight bytes at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct NameHasher(u64);

impl NameHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for NameHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.add(u64::from_le_bytes(word.try_into().expect("eight bytes")));
        }
        let rest = words.remainder();
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.add(u64::from_le_bytes(last));
        }
    }

    fn write_usize(&mut self, n: usize) {
        self.add(n as u64);
    }

    fn finish(&self) -> u64 {
        // The table looks at the upper bits and at the lower ones.
        self.0 ^ (self.0 >> 29)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_spread() {
        let mut map = NameMap::default();
        for n in 0..1000 {
            map.insert(format!("/path/{n}").into_bytes().into(), n);
        }
        assert!((0..1000).all(|n| map.get(format!("/path/{n}").as_bytes()) == Some(&n)));
        assert_eq!(map.get(&b"/path/1000"[..]), None);
        let mut seen = std::collections::HashSet::new();
        for n in 0..1000u32 {
            let mut h = NameHasher::default();
            h.write(&n.to_be_bytes());
            seen.insert(h.finish() & 0xffff);
        }
        assert!(seen.len() > 900, "{}", seen.len());
    }
}
