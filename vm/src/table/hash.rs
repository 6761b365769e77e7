//! The hash part: chained nodes in one block, free ones found from the top. And growing.
//!
//! Every live key is reachable from its main node. A deleted entry keeps its key, so that `next` finds
//! its place; once the collector has passed, a deleted reference key is a *dead key*: tag `TRACE`, which
//! no program can make, with the old address. It never equals a key looked for.

use super::array::{BINS, best_size, count_array, count_key};
use super::{NODE, Node, Table, TableErr, hash_bits};
use crate::cell::gc_ref::Gc;
use crate::cell::header::gcbits;
use crate::heap::Heap;
use crate::heap::arena::{CELL_MAX, prefetch};
use crate::limits::{TABLE_ARRAY_MAX, TABLE_HASH_BITS_MAX};
use crate::string::Str;
use crate::value::{Value, tag};

/// How many entries ahead of the one being entered memory is fetched when a table grows.
const AHEAD: usize = 12;

/// Hash of a key that is not a string: its bits, mixed.
#[inline(always)]
pub fn hash_bits_of(v: Value) -> u32 {
    let x = v.0 ^ v.0 >> 32;
    (x.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// Hash of a canonical key.
#[inline(always)]
fn hash_of(v: Value) -> u32 {
    match v.as_obj::<Str>() {
        // SAFETY: a key that is hashed is alive: it is looked for or inserted.
        Some(s) => unsafe { (*s.as_ptr()).hdr.aux },
        None => hash_bits_of(v),
    }
}

/// The canonical form of a number key: integers (and -0) as integers.
#[inline(always)]
fn canonical_num(v: Value) -> (Value, Option<i32>) {
    let n = v.num_unchecked();
    let i = n as i32;
    if i as f64 == n { (Value::int(i), Some(i)) } else { (v, None) }
}

/// Makes the key of a deleted entry a dead key.
#[inline(always)]
pub fn dead_key(key: Value) -> Value {
    Value(tag::bits(tag::TRACE) | key.payload())
}

impl Table {
    /// `t[s]` for an interned string; nil if absent.
    #[inline(always)]
    pub fn gets(&self, s: Gc<Str>) -> Value {
        let p = self.find_str(s);
        // SAFETY: `find_str` returns null or a slot of this table.
        if p.is_null() { Value::NIL } else { unsafe { *p } }
    }

    /// Slot of an interned string key; null if absent.
    #[inline(always)]
    pub fn find_str(&self, s: Gc<Str>) -> *mut Value {
        // SAFETY: a string that is looked for is alive.
        let hash = unsafe { (*s.as_ptr()).hdr.aux };
        self.walk(Value::obj(s), hash)
    }

    /// Slot of a canonical key in the hash part; null if absent.
    #[inline(always)]
    pub fn find_hashed(&self, key: Value) -> *mut Value {
        self.walk(key, hash_of(key))
    }

    #[inline(always)]
    fn walk(&self, key: Value, hash: u32) -> *mut Value {
        // SAFETY: the index is masked by the size; chains stay inside the part and end in null.
        unsafe {
            let mut n = self.node.add((hash & self.hmask) as usize);
            loop {
                if (*n).key.0 == key.0 {
                    return &raw mut (*n).val;
                }
                n = Node::following(n);
                if n.is_null() {
                    return std::ptr::null_mut();
                }
            }
        }
    }

    /// Slot of any key; null if absent. A long string must be given as its interned twin.
    #[inline]
    pub fn find(&self, key: Value) -> *mut Value {
        if key.is_num() {
            return match canonical_num(key) {
                (_, Some(i)) => self.find_int(i as i64),
                (k, None) => self.find_hashed(k),
            };
        }
        // Nil is the key of free nodes.
        if key.is_nil() { std::ptr::null_mut() } else { self.find_hashed(key) }
    }

    #[inline(always)]
    fn main_node(&self, hash: u32) -> *mut Node {
        // SAFETY: masked by the size of the part.
        unsafe { self.node.add((hash & self.hmask) as usize) }
    }

    /// Takes a node for a key that the table does not have, and returns the slot of its value (nil).
    /// `None`: there is no free node.
    #[inline(always)]
    fn place(&mut self, key: Value, hash: u32) -> Option<*mut Value> {
        // SAFETY: a table's parts are as `Table` describes them; nodes are only looked at through raw
        // pointers. The shared nil node is not written: its size is that of an empty part.
        unsafe {
            let n = self.main_node(hash);
            if (*n).val.is_nil() && self.hmask != 0 {
                (*n).key = key;
                (*n).hash = hash;
                return Some(&raw mut (*n).val);
            }
            let free = take_free(self)?;
            let other = self.main_node((*n).hash);
            if other != n {
                // A guest sits in our main node: it moves to the free one.
                let mut before = other;
                loop {
                    let next = Node::following(before);
                    if next == n {
                        break;
                    }
                    before = next;
                }
                *free = *n;
                Node::set_following(free, Node::following(n));
                Node::set_following(before, free);
                *n = Node { val: Value::NIL, key, next: 0, hash };
                adopt(self, n, free);
                return Some(&raw mut (*n).val);
            }
            Node::set_following(free, Node::following(n));
            Node::set_following(n, free);
            (*free).key = key;
            (*free).hash = hash;
            Some(&raw mut (*free).val)
        }
    }
}

impl Heap {
    /// Slot to write `key` to; inserts the key if it is new. The caller runs the barrier for what it
    /// stores, and forgets cached metamethods (`hdr.flags = 0`).
    pub fn slot_for_set(&mut self, t: Gc<Table>, key: Value) -> Result<*mut Value, TableErr> {
        if let Some(s) = key.as_obj::<Str>() {
            let s = self.str_key(s);
            return self.slot_for_key(t, Value::obj(s));
        }
        if key.is_num() {
            let n = key.num_unchecked();
            if n.is_nan() {
                return Err(TableErr::NanIndex);
            }
            return match canonical_num(key) {
                (_, Some(i)) => self.slot_for_int(t, i as i64),
                (k, None) => self.slot_for_key(t, k),
            };
        }
        if key.is_nil() {
            return Err(TableErr::NilIndex);
        }
        self.slot_for_key(t, key)
    }

    /// As [`Heap::slot_for_set`] for a canonical key that is not an integer: an interned string, a
    /// fraction, an object, a boolean.
    #[inline]
    pub fn slot_for_key(&mut self, t: Gc<Table>, key: Value) -> Result<*mut Value, TableErr> {
        let p = t.get(self).find_hashed(key);
        if !p.is_null() { Ok(p) } else { self.insert_key(t, key) }
    }

    /// Inserts a canonical key that the table does not have, and returns the slot of its value (nil).
    /// Runs the barrier for the key.
    #[inline(never)]
    pub fn insert_key(&mut self, t: Gc<Table>, key: Value) -> Result<*mut Value, TableErr> {
        if key.is_gc() {
            self.barrier(t);
        }
        let hash = hash_of(key);
        loop {
            if let Some(slot) = t.get_mut(self).place(key, hash) {
                return Ok(slot);
            }
            self.rehash(t, key)?;
            let tab = t.get(self);
            let p = tab.find(key);
            if !p.is_null() {
                return Ok(p);
            }
        }
    }

    /// The table is full and `key` is to come: sizes both parts anew.
    fn rehash(&mut self, t: Gc<Table>, key: Value) -> Result<(), TableErr> {
        let mut bins = [0; BINS];
        let tab = t.get(self);
        let mut candidates = count_array(tab, &mut bins);
        let mut total = candidates + 1;
        if tab.hmask != 0 {
            for n in tab.nodes() {
                if !n.val.is_nil() {
                    candidates += count_key(n.key, &mut bins) as u32;
                    total += 1;
                }
            }
        }
        candidates += count_key(key, &mut bins) as u32;
        let (asize, inside) = best_size(&bins, candidates);
        self.resize(t, asize, hash_bits((total - inside) as usize))
    }

    /// Gives the table parts of these sizes (array slots, key 0 included; log2 of nodes) and enters
    /// everything anew.
    pub fn resize(&mut self, t: Gc<Table>, asize: u32, hbits: u32) -> Result<(), TableErr> {
        if asize as usize > TABLE_ARRAY_MAX || hbits > TABLE_HASH_BITS_MAX {
            return Err(TableErr::Overflow);
        }
        let nodes = if hbits == 0 { 0 } else { 1usize << hbits };
        let tab = t.get(self);
        let (old_asize, old_nodes) = (tab.asize, tab.hash_size());
        let need = asize.saturating_sub(old_asize) as usize * 8 + nodes.saturating_sub(old_nodes) * NODE;
        if need > 1024 {
            self.may_alloc(need)?;
        }
        let (old_array, old_node) = (tab.array, tab.node);
        let (array_part, node_part) = (tab.array_part(), tab.node_part());
        let keep_array = asize == old_asize;
        // A large array grows in place.
        let grown = match array_part {
            Some((p, bytes)) if asize > old_asize && bytes > CELL_MAX => {
                // SAFETY: the part has these bytes, and the table gets the new address below.
                Some(unsafe { self.grow_part(p, bytes, asize as usize * 8) } as *mut Value)
            }
            _ => None,
        };
        let array = if let Some(grown) = grown {
            grown
        } else if keep_array {
            old_array
        } else if asize == 0 {
            std::ptr::without_provenance_mut(8)
        } else {
            self.alloc_part(asize as usize * 8) as *mut Value
        };
        let node = if nodes == 0 { self.nil_node_ptr() } else { self.alloc_part(nodes * NODE) as *mut Node };
        // SAFETY: the new parts have room for their sizes; the old ones stay until the end. Keys of
        // entries with a value are alive.
        unsafe {
            if !keep_array {
                let n = asize.min(old_asize) as usize;
                if grown.is_none() {
                    std::ptr::copy_nonoverlapping(old_array, array, n);
                }
                for i in n..asize as usize {
                    array.add(i).write(Value::NIL);
                }
            }
            for i in 0..nodes {
                node.add(i).write(Node::FREE);
            }
            let tab = &mut *t.as_ptr();
            tab.array = array;
            tab.asize = asize;
            tab.node = node;
            tab.hmask = (nodes as u32).saturating_sub(1);
            tab.hdr.aux = nodes as u32;
            tab.hdr.extra = hbits as u8;
            for i in asize..old_asize {
                let v = *old_array.add(i as usize);
                if !v.is_nil() {
                    let slot = self.slot_for_int(t, i as i64)?;
                    *slot = v;
                }
            }
            for i in 0..old_nodes {
                let n = *old_node.add(i);
                if i + AHEAD < old_nodes {
                    let hash = (*old_node.add(i + AHEAD)).hash;
                    prefetch(node.add(hash as usize & nodes.saturating_sub(1)) as *const u8);
                }
                if n.val.is_nil() {
                    continue;
                }
                let slot = match n.key.is_num().then(|| canonical_num(n.key).1) {
                    Some(Some(k)) => self.slot_for_int(t, k as i64)?,
                    _ => match t.get_mut(self).place(n.key, n.hash) {
                        Some(slot) => slot,
                        None => self.insert_key(t, n.key)?,
                    },
                };
                *slot = n.val;
            }
            if !keep_array
                && grown.is_none()
                && let Some((p, bytes)) = array_part
            {
                self.free_part(p, bytes);
            }
            if let Some((p, bytes)) = node_part {
                self.free_part(p, bytes);
            }
        }
        // The new parts have not been seen by the collector.
        if t.get(self).hdr.gc & gcbits::BLACK != 0 {
            self.barrier_back(t.cast());
        }
        Ok(())
    }

    /// Removes all entries and keeps the parts (`table.clear`).
    pub fn clear_table(&mut self, t: Gc<Table>) {
        // SAFETY: the parts are as `Table` describes them; the shared nil node is not written.
        unsafe {
            let tab = &mut *t.as_ptr();
            for i in 0..tab.asize as usize {
                tab.array.add(i).write(Value::NIL);
            }
            for i in 0..tab.hash_size() {
                tab.node.add(i).write(Node::FREE);
            }
            tab.hdr.aux = tab.hash_size() as u32;
            tab.hdr.flags = 0;
        }
    }

    /// Removes the entries whose key or value is dead (weak tables). `dead` is told whether it is a key.
    pub fn clear_weak(&mut self, t: Gc<Table>, dead: &dyn Fn(&Heap, Value, bool) -> bool) {
        // SAFETY: the parts are as `Table` describes them; the shared nil node is not written.
        unsafe {
            let tab = &mut *t.as_ptr();
            for i in 0..tab.asize as usize {
                let p = tab.array.add(i);
                if dead(self, *p, false) {
                    *p = Value::NIL;
                }
            }
            for i in 0..tab.hash_size() {
                let n = tab.node.add(i);
                if !(*n).val.is_nil() && (dead(self, (*n).key, true) || dead(self, (*n).val, false)) {
                    (*n).val = Value::NIL;
                }
                // The key of an entry deleted since the table was looked at is not kept alive either.
                if (*n).val.is_nil() && (*n).key.is_gc() {
                    (*n).key = dead_key((*n).key);
                }
            }
        }
    }
}

impl Gc<Table> {
    /// Gives the table parts of these sizes; see [`Heap::resize`].
    pub fn resize(self, heap: &mut Heap, asize: u32, hbits: u32) -> Result<(), TableErr> {
        heap.resize(self, asize, hbits)
    }

    /// Makes room for all array slots below `end`, for a constructor that ends with all values of a call: with one slot more, as
    /// LuaJIT does, for what `#` finds among nils depends on it.
    pub fn reserve_array(self, heap: &mut Heap, end: u32) -> Result<(), TableErr> {
        let tab = self.get(heap);
        if end <= tab.asize {
            return Ok(());
        }
        if end as usize >= TABLE_ARRAY_MAX {
            return Err(TableErr::Overflow);
        }
        let hbits = if tab.hmask == 0 { 0 } else { tab.hmask.trailing_ones() };
        self.resize(heap, end + 1, hbits)
    }

    /// Removes all entries and keeps the parts.
    pub fn clear(self, heap: &mut Heap) {
        heap.clear_table(self)
    }
}

/// The next free node from the top.
///
/// # Safety
/// The table's parts are valid.
#[inline(always)]
unsafe fn take_free(t: &mut Table) -> Option<*mut Node> {
    while t.hdr.aux > 0 {
        t.hdr.aux -= 1;
        // SAFETY: the free index never exceeds the size of the part.
        let n = unsafe { t.node.add(t.hdr.aux as usize) };
        // SAFETY: as above.
        if unsafe { (*n).key.is_nil() } {
            return Some(n);
        }
    }
    None
}

/// A guest left node `n` for `free` and took the rest of the chain along. Nodes of that rest whose keys
/// belong to `n` are chained to it again.
///
/// # Safety
/// The table's parts are valid, and `n` and `free` are nodes of it.
unsafe fn adopt(t: &Table, n: *mut Node, free: *mut Node) {
    let mut before = free;
    // SAFETY: chains stay inside the part and end in null.
    unsafe {
        loop {
            let m = Node::following(before);
            if m.is_null() {
                return;
            }
            if !(*m).val.is_nil() && t.main_node((*m).hash) == n {
                Node::set_following(before, Node::following(m));
                Node::set_following(m, Node::following(n));
                Node::set_following(n, m);
            } else {
                before = m;
            }
        }
    }
}
