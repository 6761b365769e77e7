//! Integer keys: access to the array part, and how large it should be.

use super::{Table, TableErr};
use crate::cell::gc_ref::Gc;
use crate::heap::Heap;
use crate::value::Value;

impl Table {
    /// `t[k]` for an integer; nil if absent.
    #[inline(always)]
    pub fn geti(&self, k: i64) -> Value {
        if (k as u64) < self.asize as u64 {
            // SAFETY: the index was just compared with the size of the array part.
            unsafe { *self.array.add(k as usize) }
        } else {
            self.geti_hash(k)
        }
    }

    #[inline(never)]
    fn geti_hash(&self, k: i64) -> Value {
        let p = self.find_hashed(Value::num(k as f64));
        // SAFETY: `find_hashed` returns null or a slot of this table.
        if p.is_null() { Value::NIL } else { unsafe { *p } }
    }

    /// Slot of an integer key; null if absent.
    #[inline(always)]
    pub fn find_int(&self, k: i64) -> *mut Value {
        if (k as u64) < self.asize as u64 {
            // SAFETY: the index was just compared with the size of the array part.
            unsafe { self.array.add(k as usize) }
        } else {
            self.find_hashed(Value::num(k as f64))
        }
    }
}

impl Heap {
    /// Slot to write an integer key to; inserts the key if it is new. The caller runs the barrier for
    /// what it stores.
    #[inline]
    pub fn slot_for_int(&mut self, t: Gc<Table>, k: i64) -> Result<*mut Value, TableErr> {
        let tab = t.get(self);
        if (k as u64) < tab.asize as u64 {
            // SAFETY: the index was just compared with the size of the array part.
            return Ok(unsafe { tab.array.add(k as usize) });
        }
        let key = Value::num(k as f64);
        let p = tab.find_hashed(key);
        if !p.is_null() { Ok(p) } else { self.insert_key(t, key) }
    }
}

/// Powers of two the counters distinguish.
pub(super) const BINS: usize = 28;

/// Counts integer keys by the power of two they fall under: bin `b` holds keys in `2^b + 1 ..= 2^(b+1)`
/// (bin 0 also 0 and 1). Returns whether the key could live in an array part.
pub(super) fn count_key(k: Value, bins: &mut [u32; BINS]) -> bool {
    let Some(n) = k.as_num() else { return false };
    let i = n as i32;
    if i as f64 != n || i < 0 || i as usize >= crate::limits::TABLE_ARRAY_MAX {
        return false;
    }
    bins[bin_of(i as u32)] += 1;
    true
}

fn bin_of(i: u32) -> usize {
    if i > 2 { 31 - (i - 1).leading_zeros() as usize } else { 0 }
}

/// Counts the entries of the array part.
pub(super) fn count_array(t: &Table, bins: &mut [u32; BINS]) -> u32 {
    let array = t.array();
    let mut total = 0;
    let mut i = 0;
    let mut b = 0;
    while i < array.len() {
        let end = array.len().min((2usize << b) + 1);
        let n = array[i..end].iter().filter(|v| !v.is_nil()).count() as u32;
        bins[b] += n;
        total += n;
        i = end;
        b += 1;
    }
    total
}

/// The largest array part (in slots, key 0 included) of which more than half would be used, and how many
/// of the `candidates` keys would live in it.
pub(super) fn best_size(bins: &[u32; BINS], candidates: u32) -> (u32, u32) {
    let (mut size, mut inside, mut sum) = (0, 0, 0u32);
    let mut b = 0;
    while b < BINS && 2 * candidates as u64 > 1 << b && sum != candidates {
        if bins[b] > 0 {
            sum += bins[b];
            if 2 * sum as u64 > 1 << b {
                size = (2u32 << b) + 1;
                inside = sum;
            }
        }
        b += 1;
    }
    (size, inside)
}
