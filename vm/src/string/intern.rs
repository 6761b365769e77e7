//! Making strings: the hash, the intern table, long strings and their interned twins.

use super::Str;
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits, strflags};
use crate::heap::arena::{self, Group, prefetch};
use crate::heap::{Heap, InternSlots, Phase};
use crate::limits::STR_INTERN_MAX;
use crate::value::Value;

/// Strings of so many bytes are looked for as two words.
pub(crate) const SHORT_MAX: usize = 16;

const K1: u64 = 0xd6e8_feb8_6659_fd93;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let r = a as u128 * b as u128;
    r as u64 ^ (r >> 64) as u64
}

#[inline(always)]
fn read8(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3], b[at + 4], b[at + 5], b[at + 6], b[at + 7]])
}

#[inline(always)]
fn read4(b: &[u8], at: usize) -> u64 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]) as u64
}

/// Hash of a string's bytes under a secret seed; covers all bytes. The secret enters both factors of every product:
/// a known one could be made zero by chosen contents, and then nothing else would count.
#[inline(always)]
pub fn hash_bytes(seed: u64, b: &[u8]) -> u32 {
    let n = b.len();
    let k = seed.rotate_left(32) ^ K1;
    if n <= SHORT_MAX {
        return hash_words(seed, short_words(b), n);
    }
    let acc = if n <= 2 * SHORT_MAX { fold(read8(b, 0) ^ k, read8(b, 8) ^ seed) } else { hash_blocks(seed, k, b) };
    let h = fold(read8(b, n - 16) ^ acc, read8(b, n - 8) ^ k ^ n as u64);
    (h ^ h >> 32) as u32
}

/// The bytes of a string of at most 16 in two words: below 8 bytes all in the first one, padded with zeros; else the
/// first and the last eight.
#[inline(always)]
fn short_words(b: &[u8]) -> (u64, u64) {
    let n = b.len();
    if n >= 8 {
        (read8(b, 0), read8(b, n - 8))
    } else if n >= 4 {
        (read4(b, 0) | read4(b, n - 4) << (8 * (n - 4)), 0)
    } else if n > 0 {
        let (mid, last) = (n / 2, n - 1);
        (b[0] as u64 | (b[mid] as u64) << (8 * mid) | (b[last] as u64) << (8 * last), 0)
    } else {
        (0, 0)
    }
}

/// [`hash_bytes`] of a string of at most 16 bytes, given as [`short_words`].
#[inline(always)]
fn hash_words(seed: u64, (x, y): (u64, u64), n: usize) -> u32 {
    let k = seed.rotate_left(32) ^ K1;
    let h = fold(x ^ seed, y ^ k ^ n as u64);
    (h ^ h >> 32) as u32
}

/// All of a string but its last 16 bytes or fewer.
fn hash_blocks(seed: u64, k: u64, b: &[u8]) -> u64 {
    let mut acc = seed;
    let mut at = 0;
    while at + 16 < b.len() {
        acc = fold(read8(b, at) ^ k, read8(b, at + 8) ^ acc);
        at += 16;
    }
    acc
}

/// Equality of contents, made for short ones.
#[inline(always)]
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    let n = a.len();
    if n != b.len() {
        return false;
    }
    if n > 32 {
        return a == b;
    }
    if n >= 8 {
        let mut at = 0;
        while at + 8 < n {
            if read8(a, at) != read8(b, at) {
                return false;
            }
            at += 8;
        }
        read8(a, n - 8) == read8(b, n - 8)
    } else if n >= 4 {
        read4(a, 0) == read4(b, 0) && read4(a, n - 4) == read4(b, n - 4)
    } else {
        n == 0 || a[0] == b[0] && a[n / 2] == b[n / 2] && a[n - 1] == b[n - 1]
    }
}

/// Are these the contents of the interned string `o` of `n` bytes, at most [`SHORT_MAX`]? They are given as
/// [`short_words`].
///
/// # Safety
/// `o` lies in the heap.
#[inline(always)]
unsafe fn is_words(o: *const Str, words: (u64, u64), n: usize) -> bool {
    // SAFETY: a string's cell has 16 bytes for the contents at least, so both words can be read. Below 8 bytes the rest of
    // the first one is zeros in an interned string (`intern_new`).
    unsafe {
        let p = (o as *const u8).add(Str::DATA_OFFSET) as *const u64;
        let last = (p as *const u8).wrapping_add(n).wrapping_sub(8) as *const u64;
        p.read() == words.0 && (n < 8 || last.read_unaligned() == words.1)
    }
}

/// The word at `p`.
///
/// # Safety
/// Eight bytes can be read there.
#[inline(always)]
unsafe fn word(p: *const u8) -> u64 {
    // SAFETY: the caller's promise.
    unsafe { (p as *const u64).read_unaligned() }
}

/// The address of the string of the `n` bytes at `p`; 0 when there is none, or the collector wants to be told that it is
/// used.
///
/// # Safety
/// `p` points to `n` bytes of the contents of a string; `n` is at least 1 and at most 7.
#[inline(always)]
pub(crate) unsafe fn find_tiny(heap: *const Heap, p: *const u8, n: usize) -> u64 {
    // SAFETY: the caller's promise; in front of a string's contents is its head of more than eight bytes.
    unsafe {
        if (*heap).phase == Phase::SweepStrings {
            return 0;
        }
        let x = word(p.add(n).sub(8)) >> (64 - 8 * n);
        // The rest of the word is zeros in an interned string, see `is_words`.
        find(heap, n, hash_words((*heap).seed, (x, 0), n), |o| word((o as *const u8).add(Str::DATA_OFFSET)) == x)
    }
}

/// The same for `n` from 8 to [`SHORT_MAX`].
///
/// # Safety
/// As said.
#[inline(always)]
pub(crate) unsafe fn find_short(heap: *const Heap, p: *const u8, n: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        if (*heap).phase == Phase::SweepStrings {
            return 0;
        }
        let (x, y) = (word(p), word(p.add(n).sub(8)));
        find(heap, n, hash_words((*heap).seed, (x, y), n), |o| {
            let q = (o as *const u8).add(Str::DATA_OFFSET);
            word(q) == x && word(q.add(n).sub(8)) == y
        })
    }
}

/// The same for `n` above [`SHORT_MAX`], up to twice that.
///
/// # Safety
/// As said.
#[inline(always)]
pub(crate) unsafe fn find_medium(heap: *const Heap, p: *const u8, n: usize) -> u64 {
    // SAFETY: the caller's promise; a string of `n` bytes has these words as well.
    unsafe {
        if (*heap).phase == Phase::SweepStrings {
            return 0;
        }
        let (x, y, z, w) = (word(p), word(p.add(8)), word(p.add(n - 16)), word(p.add(n - 8)));
        let seed = (*heap).seed;
        let k = seed.rotate_left(32) ^ K1;
        let h = fold(z ^ fold(x ^ k, y ^ seed), w ^ k ^ n as u64);
        find(heap, n, (h ^ h >> 32) as u32, |o| {
            let q = (o as *const u8).add(Str::DATA_OFFSET);
            word(q) == x && word(q.add(8)) == y && word(q.add(n - 16)) == z && word(q.add(n - 8)) == w
        })
    }
}

/// The address of the string of `n` bytes with this hash that `is_it` confirms, or 0.
///
/// # Safety
/// `heap` is a heap. `is_it` is asked about interned strings of `n` bytes only.
#[inline(always)]
unsafe fn find(heap: *const Heap, n: usize, hash: u32, is_it: impl Fn(*const Str) -> bool) -> u64 {
    let tag = slot_tag(hash);
    let mut i = hash as usize;
    // SAFETY: the index is masked by the size of the table, a power of two; its slots hold the addresses of live strings.
    unsafe {
        // Table and size are loaded anew for each slot: whoever calls this has no registers to keep them in.
        loop {
            let slots = (&raw const (*heap).intern.slots).cast::<*const [u64]>().read_volatile();
            i &= slots.len() - 1;
            let slot = *(slots as *const u64).add(i);
            if (slot ^ tag) >> TAG_SHIFT == 0 {
                let o = ((slot ^ tag) & !15) as *const Str;
                if !o.is_null() && (*o).len as usize == n && is_it(o) {
                    return o as u64;
                }
            }
            if slot == 0 {
                return 0;
            }
            i += 1;
        }
    }
}

/// Copies bytes, most often a few: a call would cost more than the copy.
///
/// # Safety
/// `out` has room for the bytes and does not overlap them.
#[inline(always)]
unsafe fn copy_short(b: &[u8], out: *mut u8) {
    let n = b.len();
    let p = b.as_ptr();
    // SAFETY: every access is inside the `n` bytes of either side: the second word of a pair ends with the last byte.
    unsafe {
        if n > 16 {
            std::ptr::copy_nonoverlapping(p, out, n);
        } else if n >= 8 {
            let (x, y) = ((p as *const u64).read_unaligned(), (p.add(n - 8) as *const u64).read_unaligned());
            (out as *mut u64).write_unaligned(x);
            (out.add(n - 8) as *mut u64).write_unaligned(y);
        } else if n >= 4 {
            let (x, y) = ((p as *const u32).read_unaligned(), (p.add(n - 4) as *const u32).read_unaligned());
            (out as *mut u32).write_unaligned(x);
            (out.add(n - 4) as *mut u32).write_unaligned(y);
        } else if n > 0 {
            let (x, y, z) = (p.read(), p.add(n / 2).read(), p.add(n - 1).read());
            out.write(x);
            out.add(n / 2).write(y);
            out.add(n - 1).write(z);
        }
    }
}

/// Appends bytes, most often a few.
#[inline(always)]
pub(crate) fn append(buf: &mut Vec<u8>, b: &[u8]) {
    buf.reserve(b.len());
    let at = buf.len();
    // SAFETY: there is room for the bytes behind `at`, and a reference to them cannot lie in there.
    unsafe {
        copy_short(b, buf.as_mut_ptr().add(at));
        buf.set_len(at + b.len());
    }
}

/// How many slots ahead of the sweep mark bits are fetched.
const SWEEP_AHEAD: usize = 12;

/// Bits of the hash kept above the address in a slot.
const TAG_SHIFT: u32 = 48;

/// Slots of the intern table that may be in use. How many a search looks at should be the same for nearly every string,
/// since the processor guesses it: a small table is emptier.
fn room(slots: usize) -> usize {
    const SMALL: usize = 8 * 1024;
    if slots <= SMALL { slots / 2 } else { slots / 8 * 5 }
}

#[inline(always)]
fn slot_tag(hash: u32) -> u64 {
    ((hash >> 16) as u64) << TAG_SHIFT
}

#[inline(always)]
fn slot_addr(slot: u64) -> u64 {
    slot & ((1 << TAG_SHIFT) - 16)
}

fn slot_str(slot: u64) -> Option<Gc<Str>> {
    Gc::from_addr(slot_addr(slot))
}

impl Heap {
    /// The hash that a string of these bytes has in this heap.
    #[inline]
    pub fn str_hash_of(&self, b: &[u8]) -> u32 {
        hash_bytes(self.seed, b)
    }

    /// A string object. Up to [`STR_INTERN_MAX`] bytes equal contents give one object.
    #[inline]
    pub fn str(&mut self, b: &[u8]) -> Gc<Str> {
        if b.len() <= STR_INTERN_MAX { self.str_intern(b) } else { self.str_long(b) }
    }

    /// The interned string of these bytes, however long.
    #[inline]
    pub fn str_intern(&mut self, b: &[u8]) -> Gc<Str> {
        let n = b.len();
        if n > SHORT_MAX {
            return self.intern_long(b);
        }
        if n == 1
            && let Some(s) = Gc::from_addr(self.one_byte[b[0] as usize])
        {
            return s;
        }
        let words = short_words(b);
        let hash = hash_words(self.seed, words, n);
        let found = self.intern_search(hash, |o| {
            // SAFETY: `o` is an interned string.
            o.len as usize == n && unsafe { is_words(o, words, n) }
        });
        match found {
            Ok(s) => {
                if n == 1 {
                    self.one_byte[b[0] as usize] = s.addr();
                }
                s
            }
            Err(at) => self.intern_new(b, hash, at),
        }
    }

    fn intern_long(&mut self, b: &[u8]) -> Gc<Str> {
        let hash = hash_bytes(self.seed, b);
        let n = b.len();
        let found = if n <= 2 * SHORT_MAX {
            // Two or three words and the last one: no loop.
            let words = (read8(b, 0), read8(b, 8), read8(b, n - 16), read8(b, n - 8));
            self.intern_search(hash, |o| {
                let s = o.bytes();
                s.len() == n && words == (read8(s, 0), read8(s, 8), read8(s, n - 16), read8(s, n - 8))
            })
        } else {
            self.intern_lookup(b, hash)
        };
        match found {
            Ok(s) => s,
            Err(at) => self.intern_new(b, hash, at),
        }
    }

    /// A string that is not in the table yet and belongs in slot `at`.
    fn intern_new(&mut self, b: &[u8], hash: u32, at: usize) -> Gc<Str> {
        let s = self.str_alloc(b.len(), hash, strflags::HASHED | strflags::INTERNED);
        // SAFETY: `str_alloc` made room for these bytes, and for eight at least; nobody else has seen the object yet.
        unsafe {
            let p = (s.as_ptr() as *mut u8).add(Str::DATA_OFFSET);
            if b.len() < 8 {
                // `is_words` compares whole words.
                (p as *mut u64).write(0);
            }
            copy_short(b, p);
        }
        self.intern_insert(at, s, hash);
        if b.len() == 1 {
            self.one_byte[b[0] as usize] = s.addr();
        }
        s
    }

    /// A long string: not interned, not hashed.
    fn str_long(&mut self, b: &[u8]) -> Gc<Str> {
        let s = self.str_alloc(b.len(), 0, strflags::LONG);
        // SAFETY: `str_alloc` made room for these bytes; nobody else has seen the object yet.
        unsafe {
            let p = s.as_ptr() as *mut u8;
            std::ptr::copy_nonoverlapping(b.as_ptr(), p.add(Str::DATA_OFFSET), b.len());
        }
        s
    }

    /// A string of `len` bytes that `fill` writes; they start as zeros.
    pub fn str_with(&mut self, len: usize, fill: impl FnOnce(&mut [u8])) -> Gc<Str> {
        if len <= STR_INTERN_MAX {
            let mut buf = [0u8; STR_INTERN_MAX];
            fill(&mut buf[..len]);
            return self.str_intern(&buf[..len]);
        }
        let s = self.str_alloc(len, 0, strflags::LONG);
        // SAFETY: `str_alloc` made room for `len` bytes; they are initialised here, and nobody else has seen
        // the object yet.
        fill(unsafe {
            let p = (s.as_ptr() as *mut u8).add(Str::DATA_OFFSET);
            p.write_bytes(0, len);
            std::slice::from_raw_parts_mut(p, len)
        });
        s
    }

    /// `n` bytes of a string from `at` on, as a string. They are hashed and compared where they lie: a copy on the
    /// native stack, just written, would have to reach the cache first.
    ///
    /// # Panics
    /// When the range is not inside the string.
    pub fn str_sub(&mut self, s: Gc<Str>, at: usize, n: usize) -> Gc<Str> {
        let part = &s.get(self).bytes()[at..at + n];
        // SAFETY: the contents of a string do not move or change, and nothing is freed before this function returns.
        let part = unsafe { std::slice::from_raw_parts(part.as_ptr(), n) };
        self.str(part)
    }

    /// The contents of strings one after another, `total` bytes in all (at most `STR_LEN_MAX`).
    ///
    /// # Panics
    /// When the parts are not strings, or not of `total` bytes.
    pub fn str_join(&mut self, parts: &[Value], total: usize) -> Gc<Str> {
        let mut buf = [0u8; STR_INTERN_MAX];
        let s = if total > STR_INTERN_MAX { Some(self.str_alloc(total, 0, strflags::LONG)) } else { None };
        let out = match s {
            // SAFETY: inside the object, behind its head.
            Some(s) => unsafe { (s.as_ptr() as *mut u8).add(Str::DATA_OFFSET) },
            None => buf.as_mut_ptr(),
        };
        let mut at = 0;
        for part in parts {
            let b = part.as_obj::<Str>().expect("a part of a string").get(self).bytes();
            assert!(b.len() <= total - at, "the parts of a string are longer than they were");
            // SAFETY: `out` has room for `total` bytes (the buffer by the test, the object by its allocation), and
            // the assertion above leaves `b` inside of it. It is not a part: it was made here.
            unsafe { copy_short(b, out.add(at)) };
            at += b.len();
        }
        assert!(at == total, "the parts of a string are shorter than they were");
        match s {
            Some(s) => s,
            None => self.str_intern(&buf[..total]),
        }
    }

    /// The concatenation of two strings' bytes.
    pub fn str_concat2(&mut self, a: Gc<Str>, b: Gc<Str>) -> Gc<Str> {
        let (la, lb) = (a.get(self).len as usize, b.get(self).len as usize);
        let len = la + lb;
        let mut buf = [0u8; STR_INTERN_MAX];
        let long = len > STR_INTERN_MAX;
        let s = if long { Some(self.str_alloc(len, 0, strflags::LONG)) } else { None };
        // SAFETY: both sources hold their lengths of bytes, and the target has room for the sum: the
        // buffer by the test, the object by its allocation. They cannot overlap.
        unsafe {
            let out = match s {
                Some(s) => (s.as_ptr() as *mut u8).add(Str::DATA_OFFSET),
                None => buf.as_mut_ptr(),
            };
            std::ptr::copy_nonoverlapping(a.get(self).bytes().as_ptr(), out, la);
            std::ptr::copy_nonoverlapping(b.get(self).bytes().as_ptr(), out.add(la), lb);
        }
        match s {
            Some(s) => s,
            None => self.str_intern(&buf[..len]),
        }
    }

    /// A string object with the closing NUL; the bytes are left for the caller to write.
    pub(super) fn str_alloc(&mut self, len: usize, hash: u32, flags: u8) -> Gc<Str> {
        debug_assert!(len <= crate::limits::STR_LEN_MAX);
        let (p, large) = self.alloc(Group::Str, Str::DATA_OFFSET + len + 1);
        // SAFETY: the allocation holds the struct, the bytes and the NUL.
        unsafe {
            let hdr = Header { kind: Kind::Str as u8, gc: large, flags, extra: 0, aux: 0 };
            (p as *mut Str).write(Str { hdr, len: len as u32, hash });
            p.add(Str::DATA_OFFSET + len).write(0);
        }
        Gc::from_addr(p as u64).expect("the allocator never returns null")
    }

    /// The interned string equal to `s`, made if there is none: the form in which it is a table key.
    #[inline]
    pub fn str_key(&mut self, s: Gc<Str>) -> Gc<Str> {
        if !s.get(self).is_long() {
            return s;
        }
        let hash = self.str_hash(s);
        match self.intern_lookup(s.get(self).bytes(), hash) {
            Ok(twin) => twin,
            Err(at) => {
                // The first one of its contents becomes the interned one itself.
                let flags = &mut s.get_mut(self).hdr.flags;
                *flags = *flags & !strflags::LONG | strflags::INTERNED;
                self.intern_insert(at, s, hash);
                s
            }
        }
    }

    /// As [`Heap::str_key`], but finds only: `None` means no table can have this key.
    #[inline]
    pub fn str_key_find(&self, s: Gc<Str>) -> Option<Gc<Str>> {
        let o = s.get(self);
        if !o.is_long() {
            return Some(s);
        }
        let hash =
            if o.hdr.flags & strflags::HASHED != 0 { o.hash } else { hash_bytes(self.seed, o.bytes()) };
        self.intern_lookup(o.bytes(), hash).ok()
    }

    /// The interned string of these bytes, if it exists.
    pub fn str_find(&self, b: &[u8]) -> Option<Gc<Str>> {
        self.intern_lookup(b, hash_bytes(self.seed, b)).ok()
    }

    /// Hash of a string; computed and kept on first use for a long one.
    pub fn str_hash(&mut self, s: Gc<Str>) -> u32 {
        let o = s.get(self);
        if o.hdr.flags & strflags::HASHED != 0 {
            return o.hash;
        }
        let hash = hash_bytes(self.seed, o.bytes());
        let o = s.get_mut(self);
        o.hash = hash;
        o.hdr.flags |= strflags::HASHED;
        hash
    }

    /// Are the contents equal?
    #[inline(always)]
    pub fn str_eq(&self, a: Gc<Str>, b: Gc<Str>) -> bool {
        a == b || str_eq_slow(a.get(self), b.get(self))
    }

    // -- the table

    /// Finds a string; else the slot where it belongs.
    fn intern_lookup(&self, b: &[u8], hash: u32) -> Result<Gc<Str>, usize> {
        self.intern_search(hash, |o| same_bytes(o.bytes(), b))
    }

    /// Finds the string with this hash that `is_it` confirms; else the slot where it belongs.
    #[inline(always)]
    fn intern_search(&self, hash: u32, is_it: impl Fn(&Str) -> bool) -> Result<Gc<Str>, usize> {
        let slots = &self.intern.slots;
        let mask = slots.len() - 1;
        let tag = hash >> 16;
        let mut i = hash as usize & mask;
        let mut hole = usize::MAX;
        loop {
            let slot = slots[i];
            if (slot >> TAG_SHIFT) as u32 == tag
                && let Some(s) = slot_str(slot)
            {
                let o = s.get(self);
                if o.hash == hash && is_it(o) {
                    if self.phase == Phase::SweepStrings {
                        self.mark_shared(s.cast());
                    }
                    return Ok(s);
                }
            }
            if slot <= InternSlots::DELETED {
                if slot == 0 {
                    return Err(if hole != usize::MAX { hole } else { i });
                }
                hole = hole.min(i);
            }
            i = (i + 1) & mask;
        }
    }

    fn intern_insert(&mut self, at: usize, s: Gc<Str>, hash: u32) {
        s.get_mut(self).hdr.aux = self.str_numbers.take();
        let large = if s.get(self).hdr.gc & gcbits::LARGE != 0 { InternSlots::LARGE } else { 0 };
        if self.intern.slots[at] == 0 {
            self.intern.used += 1;
        }
        self.intern.slots[at] = s.addr() | slot_tag(hash) | large;
        self.intern.live += 1;
        self.acct.credit -= self.acct.string_weight as isize;
        self.intern.peak = self.intern.peak.max(self.intern.live);
        if self.phase == Phase::SweepStrings {
            self.mark_shared(s.cast());
        }
        if self.intern.used > room(self.intern.slots.len()) {
            self.intern_grow();
        }
    }

    /// Makes room: doubles the table, or only drops deleted slots when there are many.
    #[cold]
    fn intern_grow(&mut self) {
        let old_len = self.intern.slots.len();
        let len = if self.intern.live * 3 > room(old_len) * 2 { old_len * 2 } else { old_len };
        self.intern_rebuild(len);
    }

    fn intern_rebuild(&mut self, len: usize) {
        // A full table would never end a probe.
        assert!(self.intern.live < len, "the intern table is never made smaller than its strings");
        let mut slots = vec![0u64; len].into_boxed_slice();
        let mask = len - 1;
        let sweep = self.phase == Phase::SweepStrings;
        let old = std::mem::take(&mut self.intern.slots);
        let mut live = 0;
        for (i, &slot) in old.iter().enumerate() {
            if let Some(&ahead) = old.get(i + 16) {
                prefetch(slot_addr(ahead) as *const u8);
            }
            if slot <= InternSlots::DELETED {
                continue;
            }
            let Some(s) = slot_str(slot) else { continue };
            // Slots the sweep has not reached: decide now, their place is lost.
            if sweep && i < self.intern.sweep_at && !self.slot_marked(slot) {
                continue;
            }
            let mut at = s.get(self).hash as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
            live += 1;
        }
        self.acct.returned(old.len() * 8);
        self.acct.charge(len * 8);
        if sweep {
            self.intern.sweep_at = 0;
        }
        self.intern.slots = slots;
        self.intern.live = live;
        self.intern.used = live;
    }

    #[inline(always)]
    fn slot_marked(&self, slot: u64) -> bool {
        let p = slot_addr(slot) as *const u8;
        if slot & InternSlots::LARGE != 0 { self.large_marked(p) } else { self.cell_marked(p) }
    }

    /// Throws dead strings out of up to `max` slots; returns whether the whole table was looked at. Goes
    /// downwards: then a deleted slot at the end of a probe chain needs no marker.
    pub fn intern_sweep(&mut self, max: usize) -> bool {
        let mask = self.intern.slots.len() - 1;
        let end = self.intern.sweep_at;
        let start = end.saturating_sub(max);
        for i in (start..end).rev() {
            if let Some(ahead) = i.checked_sub(SWEEP_AHEAD) {
                let slot = self.intern.slots[ahead];
                if slot > InternSlots::DELETED {
                    prefetch(arena::mark_word(slot_addr(slot) as *const u8, self.mark_set));
                }
            }
            let slot = self.intern.slots[i];
            if slot == 0 {
                continue;
            }
            if slot > InternSlots::DELETED {
                if self.slot_marked(slot) {
                    continue;
                }
                self.intern.live -= 1;
            }
            if self.intern.slots[(i + 1) & mask] == 0 {
                self.intern.slots[i] = 0;
                self.intern.used -= 1;
            } else {
                self.intern.slots[i] = InternSlots::DELETED;
            }
        }
        self.intern.sweep_at = start;
        start == 0
    }

    /// After a sweep: gives memory back when the table was much too large throughout the cycle.
    pub fn intern_shrink(&mut self) {
        let len = self.intern.slots.len();
        if len > 1024 && self.intern.peak * 6 < len {
            self.intern_rebuild(len / 2);
        }
        self.intern.peak = self.intern.live;
    }

    /// Number of interned strings.
    pub fn intern_count(&self) -> usize {
        self.intern.live
    }
}

#[cold]
fn str_eq_slow(a: &Str, b: &Str) -> bool {
    a.len == b.len && a.len as usize > STR_INTERN_MAX && a.bytes() == b.bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_strings_with_equal_contents_are_one_object() {
        let mut h = Heap::new();
        for n in 0..=STR_INTERN_MAX {
            let text = vec![b'a' + (n % 26) as u8; n];
            assert_eq!(h.str(&text), h.str(&text));
            assert_eq!(h.str(&text).bytes(&h), text);
        }
        assert_eq!(h.intern_count(), STR_INTERN_MAX + 1);
    }

    #[test]
    fn strings_end_in_nul() {
        let mut h = Heap::new();
        for n in [0, 1, 15, 16, 40, 41, 600] {
            let s = h.str(&vec![b'z'; n]);
            // SAFETY: one byte behind the contents is part of the object.
            assert_eq!(unsafe { *s.bytes(&h).as_ptr().add(n) }, 0);
        }
    }

    #[test]
    fn many_strings_survive_growth_of_the_table() {
        let mut h = Heap::new();
        let all: Vec<_> = (0..20000).map(|i| h.str(format!("s{i}").as_bytes())).collect();
        for (i, s) in all.iter().enumerate() {
            assert_eq!(h.str_find(format!("s{i}").as_bytes()), Some(*s));
        }
        assert_eq!(h.str_find(b"absent"), None);
    }

    #[test]
    fn the_first_long_string_used_as_key_is_its_own_twin() {
        let mut h = Heap::new();
        let (a, b) = (h.str(&[b'q'; 50]), h.str(&[b'q'; 50]));
        assert_eq!(h.str_key_find(a), None);
        assert_eq!(h.str_key(a), a);
        assert_eq!(h.str_key(b), a);
        assert!(!a.get(&h).is_long() && b.get(&h).is_long());
        assert!(h.str_eq(a, b));
    }

    #[test]
    fn concatenation_interns_short_results() {
        let mut h = Heap::new();
        let (a, b) = (h.str(b"foo"), h.str(b"bar"));
        assert_eq!(h.str_concat2(a, b), h.str(b"foobar"));
        let (c, d) = (h.str(&[b'c'; 30]), h.str(&[b'd'; 30]));
        let e = h.str_concat2(c, d);
        assert_eq!(e.bytes(&h), [[b'c'; 30], [b'd'; 30]].concat());
    }

    #[test]
    fn parts_of_every_length_are_joined() {
        let mut h = Heap::new();
        let text: Vec<u8> = (0..100).map(|i| b'0' + i).collect();
        for n in 0..60 {
            let parts = [&text[..n], &text[n..n + 3], &text[n + 3..n + 20]].map(|b| Value::obj(h.str(b)));
            let s = h.str_join(&parts, n + 20);
            assert_eq!(s.bytes(&h), &text[..n + 20]);
            assert_eq!(s == h.str(&text[..n + 20]), n + 20 <= STR_INTERN_MAX);
        }
    }

    #[test]
    fn hashes_of_short_keys_spread() {
        let mut low = std::collections::HashSet::new();
        for i in 0..4096u32 {
            low.insert(hash_bytes(1, format!("k{i}").as_bytes()) & 4095);
        }
        // A random function hits about 63 %.
        assert!(low.len() > 2400, "{}", low.len());
    }
}
