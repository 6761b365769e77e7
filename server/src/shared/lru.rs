//! The records of a dictionary: entries in hash buckets and in one queue, most recently used first.
//!
//! Knows the byte layout of an entry and keeps bucket chains, queue and list
//! values linked. Decides nothing about expiry, eviction or errors.
//!
//! ```text
//! entry: hash_next u32 | prev u32 | next u32 | flags u32 | expires_ms u64 | hash u32
//!        | value_len u32 | key_len u16 | kind u8 | 0 | key bytes | value bytes
//! list value: head u32 | tail u32 | count u32
//! list node: prev u32 | next u32 | len u32 | kind u32 | bytes
//! ```

use super::slab::{Cell, Slab, get32, get64, put32, put64};

/// Bytes of an entry before its key.
pub const ENTRY_HEAD: usize = 36;
/// Bytes of a list node before its data.
pub const NODE_HEAD: usize = 16;
/// Bytes of a list value.
pub const LIST_VALUE: usize = 12;

const W_HEAD: usize = 0;
const W_TAIL: usize = 1;
const W_BUCKETS: usize = 2;
const W_MASK: usize = 3;
const W_COUNT: usize = 4;

const E_CHAIN: usize = 0;
const E_PREV: usize = 4;
const E_NEXT: usize = 8;
const E_FLAGS: usize = 12;
const E_EXPIRES: usize = 16;
const E_HASH: usize = 24;
const E_VALUE_LEN: usize = 28;
const E_KEY_LEN: usize = 32;
const E_KIND: usize = 34;

/// What an entry or list node holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One byte, 0 or 1.
    Bool = 1,
    /// Eight bytes of a double.
    Number = 3,
    /// Bytes.
    String = 4,
    /// A list header.
    List = 5,
}

impl Kind {
    fn from_byte(b: u8) -> Kind {
        match b {
            1 => Kind::Bool,
            3 => Kind::Number,
            5 => Kind::List,
            _ => Kind::String,
        }
    }
}

/// The linked records of one zone.
pub struct Entries<'a> {
    /// The allocator below.
    pub slab: Slab<'a>,
}

impl<'a> Entries<'a> {
    /// Wraps a formatted zone.
    pub fn new(mem: &'a mut [u8]) -> Entries<'a> {
        Entries { slab: Slab::new(mem) }
    }

    /// Empties the zone and lays out buckets and queue.
    pub fn format(&mut self) {
        self.slab.format();
        let buckets = (self.slab.mem.len() / 512).next_power_of_two().clamp(16, 1 << 24);
        for w in [W_HEAD, W_TAIL, W_COUNT, W_BUCKETS, W_MASK] {
            self.slab.set_user(w, 0);
        }
        // A zone too small for its buckets has no room for an entry either: every store says "no memory".
        if let Some(cell) = self.slab.alloc(buckets * 4) {
            self.slab.mem[cell.byte()..cell.byte() + buckets * 4].fill(0);
            self.slab.set_user(W_BUCKETS, cell.raw());
            self.slab.set_user(W_MASK, buckets as u32 - 1);
        }
    }

    fn at(&self, e: Cell, field: usize) -> u32 {
        get32(self.slab.mem, e.byte() + field)
    }

    fn put(&mut self, e: Cell, field: usize, v: u32) {
        put32(self.slab.mem, e.byte() + field, v);
    }

    fn bucket(&self, hash: u32) -> Option<usize> {
        let cell = self.slab.user(W_BUCKETS);
        (cell != 0).then(|| Cell::from_raw(cell).byte() + (hash & self.slab.user(W_MASK)) as usize * 4)
    }

    /// Number of entries, expired ones included.
    pub fn len(&self) -> usize {
        self.slab.user(W_COUNT) as usize
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of a key, or `Cell::NONE`.
    pub fn find(&self, hash: u32, key: &[u8]) -> Cell {
        let Some(b) = self.bucket(hash) else { return Cell::NONE };
        let mut e = Cell::from_raw(get32(self.slab.mem, b));
        while e.is_some() {
            if self.at(e, E_HASH) == hash && self.key(e) == key {
                return e;
            }
            e = Cell::from_raw(self.at(e, E_CHAIN));
        }
        Cell::NONE
    }

    /// Allocates and links an entry at the queue's head; the value's bytes are left for the caller.
    pub fn insert(&mut self, hash: u32, key: &[u8], kind: Kind, value_len: usize) -> Option<Cell> {
        let bucket = self.bucket(hash)?;
        let e = self.slab.alloc(ENTRY_HEAD + key.len() + value_len)?;
        let chain = get32(self.slab.mem, bucket);
        self.put(e, E_CHAIN, chain);
        self.put(e, E_FLAGS, 0);
        self.put(e, E_HASH, hash);
        put64(self.slab.mem, e.byte() + E_EXPIRES, 0);
        self.put(e, E_VALUE_LEN, value_len as u32);
        let at = e.byte();
        self.slab.mem[at + E_KEY_LEN..at + E_KEY_LEN + 2].copy_from_slice(&(key.len() as u16).to_ne_bytes());
        self.set_kind(e, kind);
        self.slab.mem[at + ENTRY_HEAD..at + ENTRY_HEAD + key.len()].copy_from_slice(key);
        put32(self.slab.mem, bucket, e.raw());
        self.link_head(e);
        let n = self.slab.user(W_COUNT);
        self.slab.set_user(W_COUNT, n + 1);
        Some(e)
    }

    /// Unlinks and frees an entry with everything it owns.
    pub fn remove(&mut self, e: Cell) {
        if self.kind(e) == Kind::List {
            self.list_clear(e);
        }
        let hash = self.at(e, E_HASH);
        let next = self.at(e, E_CHAIN);
        let bucket = self.bucket(hash).expect("an entry exists only in a zone with buckets");
        let mut at = bucket;
        loop {
            let c = Cell::from_raw(get32(self.slab.mem, at));
            assert!(c.is_some(), "entry missing from its bucket");
            if c == e {
                break;
            }
            at = c.byte() + E_CHAIN;
        }
        put32(self.slab.mem, at, next);
        self.unlink(e);
        self.slab.free(e);
        let n = self.slab.user(W_COUNT);
        self.slab.set_user(W_COUNT, n - 1);
    }

    fn link_head(&mut self, e: Cell) {
        let head = self.slab.user(W_HEAD);
        self.put(e, E_PREV, 0);
        self.put(e, E_NEXT, head);
        if head == 0 {
            self.slab.set_user(W_TAIL, e.raw());
        } else {
            self.put(Cell::from_raw(head), E_PREV, e.raw());
        }
        self.slab.set_user(W_HEAD, e.raw());
    }

    fn unlink(&mut self, e: Cell) {
        let (prev, next) = (self.at(e, E_PREV), self.at(e, E_NEXT));
        if prev == 0 {
            self.slab.set_user(W_HEAD, next);
        } else {
            self.put(Cell::from_raw(prev), E_NEXT, next);
        }
        if next == 0 {
            self.slab.set_user(W_TAIL, prev);
        } else {
            self.put(Cell::from_raw(next), E_PREV, prev);
        }
    }

    /// Whether the entry is the most recently used one.
    pub fn is_head(&self, e: Cell) -> bool {
        self.slab.user(W_HEAD) == e.raw()
    }

    /// Makes the entry the most recently used one.
    pub fn touch(&mut self, e: Cell) {
        if !self.is_head(e) {
            self.unlink(e);
            self.link_head(e);
        }
    }

    /// The least recently used entry.
    pub fn tail(&self) -> Cell {
        Cell::from_raw(self.slab.user(W_TAIL))
    }

    /// The entry used next more recently than `e`.
    pub fn newer(&self, e: Cell) -> Cell {
        Cell::from_raw(self.at(e, E_PREV))
    }

    /// The entry's key.
    pub fn key(&self, e: Cell) -> &[u8] {
        let at = e.byte();
        let n =
            u16::from_ne_bytes([self.slab.mem[at + E_KEY_LEN], self.slab.mem[at + E_KEY_LEN + 1]]) as usize;
        &self.slab.mem[at + ENTRY_HEAD..at + ENTRY_HEAD + n]
    }

    fn value_at(&self, e: Cell) -> usize {
        e.byte() + ENTRY_HEAD + self.key(e).len()
    }

    /// The entry's value bytes.
    pub fn value(&self, e: Cell) -> &[u8] {
        let at = self.value_at(e);
        &self.slab.mem[at..at + self.value_len(e)]
    }

    /// The entry's value bytes, to be written.
    pub fn value_mut(&mut self, e: Cell) -> &mut [u8] {
        let (at, n) = (self.value_at(e), self.value_len(e));
        &mut self.slab.mem[at..at + n]
    }

    /// Length of the value in bytes.
    pub fn value_len(&self, e: Cell) -> usize {
        self.at(e, E_VALUE_LEN) as usize
    }

    /// What the entry holds.
    pub fn kind(&self, e: Cell) -> Kind {
        Kind::from_byte(self.slab.mem[e.byte() + E_KIND])
    }

    /// Changes what the entry holds.
    pub fn set_kind(&mut self, e: Cell, kind: Kind) {
        self.slab.mem[e.byte() + E_KIND] = kind as u8;
    }

    /// Expiry in milliseconds of the wall clock; 0 means never.
    pub fn expires_ms(&self, e: Cell) -> u64 {
        get64(self.slab.mem, e.byte() + E_EXPIRES)
    }

    /// Sets the expiry.
    pub fn set_expires_ms(&mut self, e: Cell, v: u64) {
        put64(self.slab.mem, e.byte() + E_EXPIRES, v);
    }

    /// The user's flags.
    pub fn flags(&self, e: Cell) -> u32 {
        self.at(e, E_FLAGS)
    }

    /// Sets the user's flags.
    pub fn set_flags(&mut self, e: Cell, v: u32) {
        self.put(e, E_FLAGS, v);
    }

    fn list_word(&self, e: Cell, word: usize) -> u32 {
        get32(self.slab.mem, self.value_at(e) + word * 4)
    }

    fn set_list_word(&mut self, e: Cell, word: usize, v: u32) {
        let at = self.value_at(e) + word * 4;
        put32(self.slab.mem, at, v);
    }

    /// Makes the value an empty list; only for an entry of kind `List`.
    pub fn list_init(&mut self, e: Cell) {
        self.value_mut(e).fill(0);
    }

    /// Number of elements.
    pub fn list_len(&self, e: Cell) -> u32 {
        self.list_word(e, 2)
    }

    /// Adds an element at the front or the back; `false` when there is no room.
    pub fn list_push(&mut self, e: Cell, front: bool, kind: Kind, data: &[u8]) -> bool {
        let Some(n) = self.slab.alloc(NODE_HEAD + data.len()) else { return false };
        let (near, far) = if front { (0, 1) } else { (1, 0) };
        let old = self.list_word(e, near);
        // Node words: 0 previous, 1 next. A node pushed in front has the old head as its next.
        let at = n.byte();
        put32(self.slab.mem, at + near * 4, 0);
        put32(self.slab.mem, at + far * 4, old);
        put32(self.slab.mem, at + 8, data.len() as u32);
        put32(self.slab.mem, at + 12, kind as u32);
        self.slab.mem[at + NODE_HEAD..at + NODE_HEAD + data.len()].copy_from_slice(data);
        if old == 0 {
            self.set_list_word(e, far, n.raw());
        } else {
            put32(self.slab.mem, Cell::from_raw(old).byte() + near * 4, n.raw());
        }
        self.set_list_word(e, near, n.raw());
        let count = self.list_len(e) + 1;
        self.set_list_word(e, 2, count);
        true
    }

    /// Takes an element off the front or the back.
    pub fn list_pop(&mut self, e: Cell, front: bool) -> Option<(Kind, Vec<u8>)> {
        let (near, far) = if front { (0, 1) } else { (1, 0) };
        let n = Cell::from_raw(self.list_word(e, near));
        if !n.is_some() {
            return None;
        }
        let at = n.byte();
        let next = get32(self.slab.mem, at + far * 4);
        let len = get32(self.slab.mem, at + 8) as usize;
        let kind = Kind::from_byte(get32(self.slab.mem, at + 12) as u8);
        let data = self.slab.mem[at + NODE_HEAD..at + NODE_HEAD + len].to_vec();
        self.set_list_word(e, near, next);
        if next == 0 {
            self.set_list_word(e, far, 0);
        } else {
            put32(self.slab.mem, Cell::from_raw(next).byte() + near * 4, 0);
        }
        let count = self.list_len(e) - 1;
        self.set_list_word(e, 2, count);
        self.slab.free(n);
        Some((kind, data))
    }

    /// Frees all elements.
    pub fn list_clear(&mut self, e: Cell) {
        while self.list_pop(e, true).is_some() {}
    }

    /// Checks queue against buckets; for tests and for doubtful zones. True when they agree.
    pub fn check(&self) -> bool {
        let mut seen = 0usize;
        let mut e = self.tail();
        let mut older = Cell::NONE;
        while e.is_some() {
            if seen > self.len() || self.find(self.at(e, E_HASH), self.key(e)) != e {
                return false;
            }
            if Cell::from_raw(self.at(e, E_NEXT)) != older {
                return false;
            }
            seen += 1;
            older = e;
            e = self.newer(e);
        }
        seen == self.len() && self.slab.user(W_HEAD) == older.raw()
    }
}
