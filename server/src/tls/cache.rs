//! Sessions that servers keep for clients which come back: in a worker, or in memory that the workers share.

use rustls::server::StoresServerSessions;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Sessions of one worker.
#[derive(Debug)]
pub struct Builtin {
    most: usize,
    lifetime: Duration,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    sessions: HashMap<Vec<u8>, (Instant, Vec<u8>)>,
    /// Oldest first; some may be gone.
    order: VecDeque<Vec<u8>>,
}

impl Builtin {
    /// At most so many, each for so long.
    pub fn new(most: usize, lifetime: Duration) -> Builtin {
        Builtin { most: most.max(1), lifetime, kept: Mutex::default() }
    }

    fn with<R>(&self, f: impl FnOnce(&mut Kept) -> R) -> R {
        f(&mut self.kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_at(&self, key: Vec<u8>, value: Vec<u8>, now: Instant) {
        self.with(|k| {
            if k.sessions.insert(key.clone(), (now, value)).is_none() {
                k.order.push_back(key);
            }
            while k.order.len() > self.most
                && let Some(oldest) = k.order.pop_front()
            {
                k.sessions.remove(&oldest);
            }
        });
    }

    fn get_at(&self, key: &[u8], now: Instant) -> Option<Vec<u8>> {
        self.with(|k| {
            let (since, value) = k.sessions.get(key)?;
            (now.duration_since(*since) < self.lifetime).then(|| value.clone())
        })
    }
}

impl StoresServerSessions for Builtin {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(key, value, Instant::now());
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_at(key, Instant::now())
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        let found = self.get(key);
        // Its place in the order stays until it is the oldest.
        self.with(|k| k.sessions.remove(key));
        found
    }

    fn can_cache(&self) -> bool {
        true
    }
}

/// Where a zone keeps sessions.
pub trait SessionMemory: std::fmt::Debug + Send + Sync {
    /// Keeps a session for so many milliseconds. False when there is no room.
    fn put(&self, key: &[u8], value: &[u8], ttl_ms: u64) -> bool;
    /// The session of that key; `take` forgets it.
    fn get(&self, key: &[u8], take: bool) -> Option<Vec<u8>>;
}

/// A zone of `ssl_session_cache shared:NAME:SIZE`. The configuration names it; its memory is made afterwards.
#[derive(Debug)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: usize,
    /// Its memory.
    pub memory: OnceLock<Arc<dyn SessionMemory>>,
}

/// Sessions of a server in a zone.
#[derive(Debug)]
pub struct InZone {
    /// The zone.
    pub zone: Arc<Zone>,
    /// How long each is kept.
    pub lifetime_ms: u64,
}

impl StoresServerSessions for InZone {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.zone.memory.get().is_some_and(|m| m.put(&key, &value, self.lifetime_ms))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.zone.memory.get()?.get(key, false)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.zone.memory.get()?.get(key, true)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_keeps_the_newest_sessions_for_their_time() {
        let c = Builtin::new(2, Duration::from_secs(10));
        let start = Instant::now();
        for key in 1..=3u8 {
            c.put_at(vec![key], vec![key], start);
        }
        assert_eq!(c.get_at(&[1], start), None);
        assert_eq!(c.get_at(&[2], start), Some(vec![2]));
        assert_eq!(c.get_at(&[3], start + Duration::from_secs(10)), None);
        assert_eq!(c.take(&[2]), Some(vec![2]));
        assert_eq!(c.take(&[2]), None);
        c.put_at(vec![3], vec![9], start);
        assert_eq!(c.get_at(&[3], start), Some(vec![9]));
        assert!(c.with(|k| k.order.len()) <= 2);
    }
}
