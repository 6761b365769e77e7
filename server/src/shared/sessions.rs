//! Sessions of TLS in memory that all workers share.

use std::io;

use super::shdict::{ShDict, StoreMode, Value};
use crate::http1::clock;
use crate::tls::cache::SessionMemory;

/// The memory of a zone of sessions. When it is full the sessions that were not used for longest go.
pub struct Sessions(ShDict);

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Sessions").field(&self.0.name()).finish()
    }
}

impl Sessions {
    /// Makes a zone.
    pub fn new(name: &str, size_bytes: usize, alert: fn(&str)) -> io::Result<Sessions> {
        ShDict::new(name, size_bytes, alert).map(Sessions)
    }
}

impl SessionMemory for Sessions {
    fn put(&self, key: &[u8], value: &[u8], ttl_ms: u64) -> bool {
        let value = Value::String(value);
        self.0.store(StoreMode::Set, false, key, value, ttl_ms, 0, clock::now_ms()).is_ok()
    }

    fn get(&self, key: &[u8], take: bool) -> Option<Vec<u8>> {
        let now_ms = clock::now_ms();
        let found = self.0.get(key, now_ms, false, |found| match found.map(|f| f.value) {
            Some(Value::String(text)) => Some(text.to_vec()),
            _ => None,
        });
        if take {
            self.0.delete(key, now_ms);
        }
        found.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_kept_once_and_for_their_time() {
        let s = Sessions::new("s", 64 * 1024, |_| {}).expect("memory");
        assert!(s.put(b"k", b"v", 60_000) && s.put(b"l", b"w", 60_000));
        assert_eq!(s.get(b"k", false).as_deref(), Some(&b"v"[..]));
        assert_eq!(s.get(b"k", true).as_deref(), Some(&b"v"[..]));
        assert_eq!(s.get(b"k", false), None);
        for n in 0..2000u32 {
            assert!(s.put(&n.to_be_bytes(), &[0; 200], 60_000), "session {n}");
        }
        assert_eq!(s.get(b"l", false), None, "the oldest went");
        assert!(s.get(&1999u32.to_be_bytes(), false).is_some());
    }
}
