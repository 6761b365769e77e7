//! Hashing for names and small keys: fast, and seeded so that nobody can write a source whose keys
//! collide.

use std::hash::{BuildHasher, Hasher};

/// Odd, with its bits well mixed.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplies to 128 bits and folds the halves.
fn fold(a: u64, b: u64) -> u64 {
    let wide = a as u128 * b as u128;
    wide as u64 ^ (wide >> 64) as u64
}

/// Makes hashers with one seed.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64);

impl Default for Seed {
    /// A seed nobody outside can foresee.
    fn default() -> Seed {
        Seed(std::hash::RandomState::new().hash_one(0u64))
    }
}

impl Seed {
    /// Hash of a byte string.
    pub fn bytes(self, bytes: &[u8]) -> u64 {
        let mut h = self.hasher(bytes.len() as u64);
        h.write(bytes);
        h.finish()
    }

    fn hasher(self, start: u64) -> SeededHasher {
        SeededHasher {
            state: self.0.wrapping_add(start.wrapping_mul(ODD)),
            key: self.0.rotate_left(32) ^ ODD,
        }
    }
}

impl BuildHasher for Seed {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        self.hasher(0)
    }
}

/// A map with such hashing.
pub type FastMap<K, V> = std::collections::HashMap<K, V, Seed>;

/// Hashes words by multiplication.
pub struct SeededHasher {
    state: u64,
    key: u64,
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for w in words {
            self.write_u64(u64::from_le_bytes(*w));
        }
        if !tail.is_empty() {
            self.write_u64(tail.iter().fold(0, |acc, &b| acc << 8 | b as u64));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n as u64);
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n as u64);
    }

    fn write_u64(&mut self, n: u64) {
        self.state = fold(self.state ^ n, self.key);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_depend_on_all_bytes_and_on_the_seed() {
        let (a, b) = (Seed::default(), Seed::default());
        assert_ne!(a.bytes(b"name"), b.bytes(b"name"));
        let keys = [&b"a"[..], b"b", b"ab", b"ba", b"a\0", b"\0a", b"abcdefgh", b"abcdefgi", b"abcdefgha"];
        let mut hashes: Vec<u64> = keys.iter().map(|k| a.bytes(k)).collect();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), keys.len());
    }
}
