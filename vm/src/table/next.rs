//! Iteration: the array part in order, then the nodes in theirs.

use super::{InvalidKey, Table};
use crate::cell::gc_ref::Gc;
use crate::heap::Heap;
use crate::string::Str;
use crate::value::{Value, tag};

impl Table {
    /// The first entry at or after position `at`: the position behind it, its key and value. Positions
    /// count array slots, then nodes.
    #[inline]
    pub fn next_at(&self, at: u32) -> Option<(u32, Value, Value)> {
        let array = self.array();
        let mut i = at as usize;
        while i < array.len() {
            if !array[i].is_nil() {
                return Some((i as u32 + 1, Value::int(i as i32), array[i]));
            }
            i += 1;
        }
        let nodes = self.nodes();
        let mut j = i - array.len();
        while j < nodes.len() {
            let n = &nodes[j];
            if !n.val.is_nil() {
                return Some(((array.len() + j) as u32 + 1, n.key, n.val));
            }
            j += 1;
        }
        None
    }

    /// Position behind the entry of `key` (0 for nil). A key whose entry was deleted is still found as
    /// long as nothing was inserted. A long string must be given as its interned twin.
    #[inline]
    pub fn position_after(&self, key: Value) -> Result<u32, InvalidKey> {
        if key.is_nil() {
            return Ok(0);
        }
        let mut key = key;
        if key.is_num() {
            let n = key.num_unchecked();
            let i = n as i32;
            if i as f64 == n {
                if (i as u32) < self.asize {
                    return Ok(i as u32 + 1);
                }
                key = Value::int(i);
            }
        }
        let p = self.find_hashed(key);
        if !p.is_null() {
            let off = p as usize - self.node as usize;
            return Ok(self.asize + (off / super::NODE) as u32 + 1);
        }
        if key.is_gc() {
            // The collector may have turned a deleted key into a dead one.
            for (i, n) in self.nodes().iter().enumerate() {
                if n.key.tag() == tag::TRACE && n.key.payload() == key.payload() {
                    return Ok(self.asize + i as u32 + 1);
                }
            }
        }
        // A loop specialised on `next` became a generic one while it ran: its control value is a position.
        if key.0 >> 32 == KEY_INDEX {
            return Ok(key.0 as u32);
        }
        Err(InvalidKey)
    }
}

/// Upper half of the control value of a loop specialised on `next` (a light userdata no program can have); the lower
/// half is the position.
pub const KEY_INDEX: u64 = 0xfffe_7fff;

impl Gc<Table> {
    /// The entry after `key`, `None` at the end (`next`).
    pub fn next(self, heap: &Heap, key: Value) -> Result<Option<(Value, Value)>, InvalidKey> {
        let key = match key.as_obj::<Str>() {
            Some(s) => Value::obj(heap.str_key_find(s).ok_or(InvalidKey)?),
            None => key,
        };
        let t = self.get(heap);
        Ok(t.next_at(t.position_after(key)?).map(|(_, k, v)| (k, v)))
    }

    /// The first entry at or after a position; see [`Table::next_at`].
    #[inline(always)]
    pub fn next_at(self, heap: &Heap, at: u32) -> Option<(u32, Value, Value)> {
        self.get(heap).next_at(at)
    }
}
