//! The length operator: a border of the table.

use super::Table;
use crate::cell::gc_ref::Gc;
use crate::heap::Heap;
use crate::limits::TABLE_ARRAY_MAX;

impl Table {
    /// A border: `t[n] ~= nil` and `t[n + 1] == nil`, or 0. Which one, is as in LuaJIT: when the last
    /// array slot is nil, a binary search inside the array part; else the hash part is searched on.
    #[inline]
    pub fn len(&self) -> u64 {
        let array = self.array();
        let mut hi = array.len().saturating_sub(1);
        if hi > 0 && array[hi].is_nil() {
            let mut lo = 0;
            while hi - lo > 1 {
                let mid = (lo + hi) / 2;
                // Which way it goes is as good as random: two selects, no branch.
                let nil = array[mid].is_nil();
                hi = std::hint::select_unpredictable(nil, mid, hi);
                lo = std::hint::select_unpredictable(nil, lo, mid);
            }
            return lo as u64;
        }
        if self.hmask == 0 { hi as u64 } else { self.len_hash(hi as i64) as u64 }
    }

    /// Is a border at 0?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline(never)]
    fn len_hash(&self, last: i64) -> i64 {
        let mut lo = last;
        let mut hi = lo + 1;
        while !self.geti(hi).is_nil() {
            lo = hi;
            hi += hi;
            if hi > i32::MAX as i64 - 2 {
                // A table made to have no border up there: count.
                let mut n = 1;
                while n < TABLE_ARRAY_MAX as i64 * 16 && !self.geti(n).is_nil() {
                    n += 1;
                }
                return n - 1;
            }
        }
        while hi - lo > 1 {
            let mid = (lo + hi) / 2;
            if self.geti(mid).is_nil() {
                hi = mid;
            } else {
                lo = mid;
            }
        }
        lo
    }
}

impl Gc<Table> {
    /// `#t` without metamethods.
    #[inline(always)]
    pub fn len(self, heap: &Heap) -> u64 {
        self.get(heap).len()
    }
}
