//! `ngx.shared` dictionaries: get, set, incr, lists, expiry and eviction over one shared zone.
//!
//! The semantics are lua-nginx-module's; times are passed in by the caller.
//! Knows no Lua value: keys and values are bytes, numbers and booleans.

use std::io;

use super::lru::{ENTRY_HEAD, Entries, Kind, LIST_VALUE};
use super::shm::{Guard, Region};
use super::slab::Cell;

/// Longest key in bytes.
pub const KEY_BYTES_MAX: usize = 65_535;

/// How often an eviction is tried before a store gives up.
const EVICTION_ROUNDS_MAX: u32 = 30;

/// A value as it is stored or found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Value<'a> {
    /// A boolean.
    Bool(bool),
    /// A double.
    Number(f64),
    /// Bytes.
    String(&'a [u8]),
}

/// A value taken out of a list.
#[derive(Clone, PartialEq, Debug)]
pub enum Owned {
    /// A double.
    Number(f64),
    /// Bytes.
    String(Vec<u8>),
}

/// What a lookup found.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Found<'a> {
    /// The value.
    pub value: Value<'a>,
    /// The user's flags.
    pub flags: u32,
    /// Whether the entry had already expired (only with `get_stale`).
    pub stale: bool,
}

/// Why an operation was refused; `text` is what scripts see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DictError {
    /// No such key.
    NotFound,
    /// `add` on a live key.
    Exists,
    /// The zone is full.
    NoMemory,
    /// `incr` on something else.
    NotANumber,
    /// A plain read of a list.
    IsAList,
    /// A list operation on something else.
    NotAList,
}

impl DictError {
    /// The error string that scripts compare with.
    pub fn text(self) -> &'static str {
        match self {
            DictError::NotFound => "not found",
            DictError::Exists => "exists",
            DictError::NoMemory => "no memory",
            DictError::NotANumber => "not a number",
            DictError::IsAList => "value is a list",
            DictError::NotAList => "value not a list",
        }
    }
}

/// Which store is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StoreMode {
    /// Whether there or not.
    Set,
    /// Only when there is none.
    Add,
    /// Only when there is one.
    Replace,
}

/// The answer to a store or incr that went well.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stored {
    /// Live entries had to go to make room.
    pub forcible: bool,
}

/// One dictionary. Made in the master, used by every worker.
pub struct ShDict {
    name: String,
    region: Region,
    capacity: usize,
    alert: fn(&str),
}

impl ShDict {
    /// Maps and formats a zone of `capacity` bytes. `alert` is told when a zone had to be emptied.
    pub fn new(name: &str, capacity: usize, alert: fn(&str)) -> io::Result<ShDict> {
        let region = Region::new(capacity)?;
        let dict = ShDict { name: name.to_owned(), region, capacity, alert };
        let mut g = dict.region.lock();
        Entries::new(&mut g).format();
        drop(g);
        Ok(dict)
    }

    /// The zone's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configured size in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The mapping, for tests that break it on purpose.
    #[cfg(test)]
    pub fn region(&self) -> &Region {
        &self.region
    }

    fn lock(&self) -> Guard<'_> {
        let mut g = self.region.lock();
        if g.was_dirty() {
            Entries::new(&mut g).format();
            g.set_clean();
            (self.alert)(&format!(
                "shared dict \"{}\" was left inconsistent by a process that died while changing it, emptied",
                self.name
            ));
        }
        g
    }

    fn mutate<R>(&self, f: impl FnOnce(&mut Entries<'_>) -> R) -> R {
        let mut g = self.lock();
        g.set_dirty();
        let r = f(&mut Entries::new(&mut g));
        g.set_clean();
        r
    }

    /// Looks a key up and hands what it found to `f`. The entry becomes the most recently used one.
    pub fn get<R>(
        &self,
        key: &[u8],
        now_ms: u64,
        stale: bool,
        f: impl FnOnce(Option<Found<'_>>) -> R,
    ) -> Result<R, DictError> {
        let mut g = self.lock();
        let hash = hash_of(key);
        let (e, head) = {
            let d = Entries::new(&mut g);
            let e = d.find(hash, key);
            (e, !e.is_some() || d.is_head(e))
        };
        if !head {
            g.set_dirty();
            Entries::new(&mut g).touch(e);
            g.set_clean();
        }
        let d = Entries::new(&mut g);
        if !e.is_some() {
            return Ok(f(None));
        }
        let gone = is_expired(&d, e, now_ms);
        if gone && !stale {
            return Ok(f(None));
        }
        let raw = d.value(e);
        let value = match d.kind(e) {
            Kind::Bool => Value::Bool(raw.first() == Some(&1)),
            Kind::Number => Value::Number(number_from(raw)),
            Kind::String => Value::String(raw),
            Kind::List => return Err(DictError::IsAList),
        };
        Ok(f(Some(Found { value, flags: d.flags(e), stale: gone })))
    }

    /// `set`, `add`, `replace` and their safe forms. `safe` refuses to evict live entries.
    #[allow(clippy::too_many_arguments)]
    pub fn store(
        &self,
        mode: StoreMode,
        safe: bool,
        key: &[u8],
        value: Value<'_>,
        ttl_ms: u64,
        flags: u32,
        now_ms: u64,
    ) -> Result<Stored, (DictError, Stored)> {
        let no = |e| Err((e, Stored { forcible: false }));
        self.mutate(|d| {
            drop_expired_tail(d, now_ms);
            let hash = hash_of(key);
            let e = d.find(hash, key);
            let live = e.is_some() && !is_expired(d, e, now_ms);
            match mode {
                StoreMode::Replace if !live => return no(DictError::NotFound),
                StoreMode::Add if live => return no(DictError::Exists),
                _ => {}
            }
            let mut scratch = [0u8; 8];
            let (kind, bytes) = encode(value, &mut scratch);
            let expires = if ttl_ms == 0 { 0 } else { now_ms + ttl_ms };
            if e.is_some() {
                if d.kind(e) != Kind::List && d.value_len(e) == bytes.len() {
                    d.touch(e);
                    fill(d, e, kind, bytes, expires, flags);
                    return Ok(Stored { forcible: false });
                }
                d.remove(e);
            }
            match insert_evicting(d, hash, key, kind, bytes.len(), safe, now_ms) {
                (Some(e), stored) => {
                    fill(d, e, kind, bytes, expires, flags);
                    Ok(stored)
                }
                (None, stored) => Err((DictError::NoMemory, stored)),
            }
        })
    }

    /// Removes a key; it does not matter whether it was there.
    pub fn delete(&self, key: &[u8], now_ms: u64) {
        self.mutate(|d| {
            drop_expired_tail(d, now_ms);
            let e = d.find(hash_of(key), key);
            if e.is_some() {
                d.remove(e);
            }
        });
    }

    /// Adds to a number. `init` (value, time to live in ms) starts a missing one.
    pub fn incr(
        &self,
        key: &[u8],
        by: f64,
        init: Option<(f64, u64)>,
        now_ms: u64,
    ) -> Result<(f64, Stored), (DictError, Stored)> {
        let no = |e| Err((e, Stored { forcible: false }));
        self.mutate(|d| {
            drop_expired_tail(d, now_ms);
            let hash = hash_of(key);
            let e = d.find(hash, key);
            if e.is_some() && !is_expired(d, e, now_ms) {
                d.touch(e);
                if d.kind(e) != Kind::Number {
                    return no(DictError::NotANumber);
                }
                let v = number_from(d.value(e)) + by;
                d.value_mut(e).copy_from_slice(&v.to_ne_bytes());
                return Ok((v, Stored { forcible: false }));
            }
            let Some((start, ttl_ms)) = init else { return no(DictError::NotFound) };
            if e.is_some() {
                d.remove(e);
            }
            let v = start + by;
            let expires = if ttl_ms == 0 { 0 } else { now_ms + ttl_ms };
            match insert_evicting(d, hash, key, Kind::Number, 8, false, now_ms) {
                (Some(e), stored) => {
                    fill(d, e, Kind::Number, &v.to_ne_bytes(), expires, 0);
                    Ok((v, stored))
                }
                (None, stored) => Err((DictError::NoMemory, stored)),
            }
        })
    }

    /// Lets `change` see the bytes under a key and replace them: `None` leaves them, nothing at all removes
    /// them. Nobody else sees the key meanwhile. False when there is no room.
    pub fn update(
        &self,
        key: &[u8],
        ttl_ms: u64,
        now_ms: u64,
        change: &mut dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> bool {
        self.mutate(|d| {
            drop_expired_tail(d, now_ms);
            let hash = hash_of(key);
            let e = d.find(hash, key);
            let live = e.is_some() && !is_expired(d, e, now_ms);
            let Some(value) = change(live.then(|| d.value(e))) else { return true };
            let expires = if ttl_ms == 0 { 0 } else { now_ms + ttl_ms };
            if e.is_some() && d.kind(e) == Kind::String && d.value_len(e) == value.len() {
                d.touch(e);
                fill(d, e, Kind::String, &value, expires, 0);
                return true;
            }
            if e.is_some() {
                d.remove(e);
            }
            if value.is_empty() {
                return true;
            }
            match insert_evicting(d, hash, key, Kind::String, value.len(), false, now_ms) {
                (Some(e), _) => {
                    fill(d, e, Kind::String, &value, expires, 0);
                    true
                }
                (None, _) => false,
            }
        })
    }

    /// `lpush` (front) and `rpush`: returns the list's new length. Never evicts.
    pub fn push(&self, key: &[u8], front: bool, value: Value<'_>, now_ms: u64) -> Result<u32, DictError> {
        self.mutate(|d| {
            drop_expired_tail(d, now_ms);
            let hash = hash_of(key);
            let mut e = d.find(hash, key);
            if e.is_some() && is_expired(d, e, now_ms) {
                d.remove(e);
                e = Cell::NONE;
            }
            if e.is_some() {
                if d.kind(e) != Kind::List {
                    return Err(DictError::NotAList);
                }
                d.touch(e);
            } else {
                e = d.insert(hash, key, Kind::List, LIST_VALUE).ok_or(DictError::NoMemory)?;
                d.list_init(e);
            }
            let mut scratch = [0u8; 8];
            let (kind, bytes) = encode(value, &mut scratch);
            if !d.list_push(e, front, kind, bytes) {
                if d.list_len(e) == 0 {
                    d.remove(e);
                }
                return Err(DictError::NoMemory);
            }
            Ok(d.list_len(e))
        })
    }

    /// `lpop` (front) and `rpop`.
    pub fn pop(&self, key: &[u8], front: bool, now_ms: u64) -> Result<Option<Owned>, DictError> {
        self.mutate(|d| {
            let e = d.find(hash_of(key), key);
            if !e.is_some() || is_expired(d, e, now_ms) {
                return Ok(None);
            }
            if d.kind(e) != Kind::List {
                return Err(DictError::NotAList);
            }
            d.touch(e);
            let got = d.list_pop(e, front).map(|(kind, bytes)| match kind {
                Kind::Number => Owned::Number(number_from(&bytes)),
                _ => Owned::String(bytes),
            });
            if d.list_len(e) == 0 {
                d.remove(e);
            }
            Ok(got)
        })
    }

    /// Length of a list; 0 when there is none.
    pub fn llen(&self, key: &[u8], now_ms: u64) -> Result<u32, DictError> {
        let mut g = self.lock();
        let d = Entries::new(&mut g);
        let e = d.find(hash_of(key), key);
        if !e.is_some() || is_expired(&d, e, now_ms) {
            return Ok(0);
        }
        if d.kind(e) != Kind::List { Err(DictError::NotAList) } else { Ok(d.list_len(e)) }
    }

    /// Milliseconds left; 0 when the key never expires, negative when it has expired but is still there.
    pub fn ttl_ms(&self, key: &[u8], now_ms: u64) -> Result<i64, DictError> {
        let mut g = self.lock();
        let d = Entries::new(&mut g);
        let e = d.find(hash_of(key), key);
        if !e.is_some() {
            return Err(DictError::NotFound);
        }
        let expires = d.expires_ms(e);
        Ok(if expires == 0 { 0 } else { expires as i64 - now_ms as i64 })
    }

    /// Sets the time to live; 0 means for ever. Revives an expired entry that is still there.
    pub fn expire(&self, key: &[u8], ttl_ms: u64, now_ms: u64) -> Result<(), DictError> {
        self.mutate(|d| {
            let e = d.find(hash_of(key), key);
            if !e.is_some() {
                return Err(DictError::NotFound);
            }
            d.set_expires_ms(e, if ttl_ms == 0 { 0 } else { now_ms + ttl_ms });
            Ok(())
        })
    }

    /// Marks every entry as expired. Memory is given back later.
    pub fn flush_all(&self) {
        self.mutate(|d| {
            let mut e = d.tail();
            while e.is_some() {
                d.set_expires_ms(e, 1);
                e = d.newer(e);
            }
        });
    }

    /// Frees expired entries, at most `max` of them (0: all); returns how many.
    pub fn flush_expired(&self, max: usize, now_ms: u64) -> usize {
        self.mutate(|d| {
            let (mut freed, mut e) = (0, d.tail());
            while e.is_some() && (max == 0 || freed < max) {
                let newer = d.newer(e);
                let t = d.expires_ms(e);
                if t != 0 && t <= now_ms {
                    d.remove(e);
                    freed += 1;
                }
                e = newer;
            }
            freed
        })
    }

    /// Live keys, least recently used first, at most `max` (0: all).
    pub fn keys(&self, max: usize, now_ms: u64) -> Vec<Vec<u8>> {
        let mut g = self.lock();
        let d = Entries::new(&mut g);
        let mut keys = Vec::new();
        let mut e = d.tail();
        while e.is_some() && (max == 0 || keys.len() < max) {
            let t = d.expires_ms(e);
            if t == 0 || t > now_ms {
                keys.push(d.key(e).to_vec());
            }
            e = d.newer(e);
        }
        keys
    }

    /// Bytes in wholly free pages.
    pub fn free_space(&self) -> usize {
        let mut g = self.lock();
        Entries::new(&mut g).slab.free_page_bytes()
    }

    /// Whether queue and buckets agree.
    pub fn check(&self) -> bool {
        let mut g = self.lock();
        Entries::new(&mut g).check()
    }
}

fn hash_of(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

fn number_from(raw: &[u8]) -> f64 {
    raw.try_into().map(f64::from_ne_bytes).unwrap_or(f64::NAN)
}

fn encode<'a>(value: Value<'a>, scratch: &'a mut [u8; 8]) -> (Kind, &'a [u8]) {
    match value {
        Value::Bool(b) => {
            scratch[0] = b as u8;
            (Kind::Bool, &scratch[..1])
        }
        Value::Number(n) => {
            *scratch = n.to_ne_bytes();
            (Kind::Number, &scratch[..])
        }
        Value::String(s) => (Kind::String, s),
    }
}

fn fill(d: &mut Entries<'_>, e: Cell, kind: Kind, bytes: &[u8], expires: u64, flags: u32) {
    d.set_kind(e, kind);
    d.set_expires_ms(e, expires);
    d.set_flags(e, flags);
    d.value_mut(e).copy_from_slice(bytes);
}

fn is_expired(d: &Entries<'_>, e: Cell, now_ms: u64) -> bool {
    let t = d.expires_ms(e);
    t != 0 && t < now_ms.max(2)
}

/// Frees at most two expired entries from the old end of the queue.
fn drop_expired_tail(d: &mut Entries<'_>, now_ms: u64) -> u32 {
    let mut freed = 0;
    for _ in 0..2 {
        let e = d.tail();
        if !e.is_some() {
            break;
        }
        let t = d.expires_ms(e);
        if t == 0 || t > now_ms {
            break;
        }
        d.remove(e);
        freed += 1;
    }
    freed
}

fn insert_evicting(
    d: &mut Entries<'_>,
    hash: u32,
    key: &[u8],
    kind: Kind,
    value_len: usize,
    safe: bool,
    now_ms: u64,
) -> (Option<Cell>, Stored) {
    let mut stored = Stored { forcible: false };
    if u32::try_from(ENTRY_HEAD + key.len() + value_len).is_err() {
        return (None, stored);
    }
    if let Some(e) = d.insert(hash, key, kind, value_len) {
        return (Some(e), stored);
    }
    if safe {
        return (None, stored);
    }
    for _ in 0..EVICTION_ROUNDS_MAX {
        let oldest = d.tail();
        if !oldest.is_some() {
            break;
        }
        d.remove(oldest);
        drop_expired_tail(d, now_ms);
        stored.forcible = true;
        if let Some(e) = d.insert(hash, key, kind, value_len) {
            return (Some(e), stored);
        }
    }
    (None, stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dict(kb: usize) -> ShDict {
        ShDict::new("t", kb * 1024, |m| panic!("unexpected alert: {m}")).unwrap()
    }

    fn set(d: &ShDict, k: &str, v: &str, ttl: u64, now: u64) -> Result<Stored, (DictError, Stored)> {
        d.store(StoreMode::Set, false, k.as_bytes(), Value::String(v.as_bytes()), ttl, 0, now)
    }

    fn get(d: &ShDict, k: &str, now: u64) -> Option<String> {
        d.get(k.as_bytes(), now, false, |f| {
            f.map(|f| match f.value {
                Value::String(s) => String::from_utf8_lossy(s).into_owned(),
                Value::Number(n) => n.to_string(),
                Value::Bool(b) => b.to_string(),
            })
        })
        .unwrap()
    }

    #[test]
    fn set_get_replace_add_delete() {
        let d = dict(64);
        assert_eq!(get(&d, "a", 10), None);
        set(&d, "a", "one", 0, 10).unwrap();
        set(&d, "a", "two", 0, 10).unwrap();
        set(&d, "a", "longer", 0, 10).unwrap();
        assert_eq!(get(&d, "a", 10).as_deref(), Some("longer"));
        let add = d.store(StoreMode::Add, false, b"a", Value::Number(1.0), 0, 0, 10);
        assert_eq!(add.unwrap_err().0, DictError::Exists);
        let rep = d.store(StoreMode::Replace, false, b"zz", Value::Bool(true), 0, 0, 10);
        assert_eq!(rep.unwrap_err().0, DictError::NotFound);
        d.delete(b"a", 10);
        assert_eq!(get(&d, "a", 10), None);
        assert!(d.check());
    }

    #[test]
    fn expired_key_is_gone_but_get_stale_sees_it_and_ttl_is_negative() {
        let d = dict(64);
        set(&d, "k", "v", 100, 1000).unwrap();
        assert_eq!(d.ttl_ms(b"k", 1040), Ok(60));
        assert_eq!(get(&d, "k", 1200), None);
        let stale = d.get(b"k", 1200, true, |f| f.map(|f| f.stale)).unwrap();
        assert_eq!(stale, Some(true));
        assert_eq!(d.ttl_ms(b"k", 1200), Ok(-100));
        d.expire(b"k", 50, 1200).unwrap();
        assert_eq!(get(&d, "k", 1240).as_deref(), Some("v"));
        assert_eq!(d.ttl_ms(b"none", 0), Err(DictError::NotFound));
    }

    #[test]
    fn incr_with_and_without_init() {
        let d = dict(64);
        assert_eq!(d.incr(b"n", 1.0, None, 1).unwrap_err().0, DictError::NotFound);
        assert_eq!(d.incr(b"n", 2.0, Some((10.0, 100)), 1).unwrap().0, 12.0);
        assert_eq!(d.incr(b"n", 2.0, None, 50).unwrap().0, 14.0);
        assert_eq!(d.ttl_ms(b"n", 51), Ok(50));
        assert_eq!(d.incr(b"n", 1.0, Some((0.0, 0)), 500).unwrap().0, 1.0);
        set(&d, "s", "x", 0, 1).unwrap();
        assert_eq!(d.incr(b"s", 1.0, None, 1).unwrap_err().0, DictError::NotANumber);
    }

    #[test]
    fn full_zone_evicts_the_least_recently_used_and_says_so() {
        let d = dict(64);
        let big = "x".repeat(1000);
        let mut n = 0;
        while !set(&d, &format!("k{n}"), &big, 0, 1).unwrap().forcible {
            n += 1;
            get(&d, "k0", 1);
            assert!(n < 1000);
        }
        assert!(get(&d, "k0", 1).is_some(), "recently used key must survive");
        assert_eq!(get(&d, "k1", 1), None);
        let safe = d.store(StoreMode::Set, true, b"new", Value::String(big.as_bytes()), 0, 0, 1);
        assert_eq!(safe.unwrap_err().0, DictError::NoMemory);
        let huge = "y".repeat(100_000);
        assert_eq!(set(&d, "huge", &huge, 0, 1).unwrap_err().0, DictError::NoMemory);
        assert!(d.check());
    }

    #[test]
    fn lists_push_and_pop_at_both_ends() {
        let d = dict(64);
        assert_eq!(d.push(b"l", true, Value::String(b"b"), 1), Ok(1));
        assert_eq!(d.push(b"l", true, Value::String(b"a"), 1), Ok(2));
        assert_eq!(d.push(b"l", false, Value::Number(3.0), 1), Ok(3));
        assert_eq!(d.llen(b"l", 1), Ok(3));
        assert_eq!(d.get(b"l", 1, false, |_| ()).unwrap_err(), DictError::IsAList);
        assert_eq!(d.pop(b"l", false, 1), Ok(Some(Owned::Number(3.0))));
        assert_eq!(d.pop(b"l", true, 1), Ok(Some(Owned::String(b"a".to_vec()))));
        assert_eq!(d.pop(b"l", true, 1), Ok(Some(Owned::String(b"b".to_vec()))));
        assert_eq!(d.pop(b"l", true, 1), Ok(None));
        assert_eq!(d.llen(b"l", 1), Ok(0));
        set(&d, "s", "x", 0, 1).unwrap();
        assert_eq!(d.push(b"s", true, Value::Number(1.0), 1), Err(DictError::NotAList));
        set(&d, "l2", "x", 0, 1).unwrap();
        assert!(d.check());
    }

    #[test]
    fn flush_all_hides_and_flush_expired_frees() {
        let d = dict(64);
        for i in 0..5 {
            set(&d, &format!("k{i}"), "v", 0, 100).unwrap();
        }
        assert_eq!(d.keys(0, 100).len(), 5);
        assert_eq!(d.keys(2, 100), vec![b"k0".to_vec(), b"k1".to_vec()]);
        d.flush_all();
        assert_eq!(get(&d, "k1", 100), None);
        assert_eq!(d.keys(0, 100).len(), 0);
        assert_eq!(d.flush_expired(2, 100), 2);
        assert_eq!(d.flush_expired(0, 100), 3);
        assert!(d.check());
    }
}
