//! Many strings as one.

use super::Str;
use crate::cell::gc_ref::Gc;
use crate::cell::header::strflags;
use crate::heap::Heap;
use crate::limits::{STR_INTERN_MAX, STR_LEN_MAX};
use crate::table::Table;

impl Heap {
    /// The strings `t[from]` to `t[to]` with `sep` between them, written to their place at once. `None` where that is not
    /// all there is to it: something else is among them, an index is outside of the array part, or the result is short
    /// or larger than the heap has room for.
    pub fn join_strings(&mut self, t: Gc<Table>, from: usize, to: usize, sep: Option<Gc<Str>>) -> Option<Gc<Str>> {
        let sep_len = sep.map_or(0, |s| s.get(self).len as usize);
        let items = t.get(self).array().get(from..to.checked_add(1)?)?;
        let mut len = items.len().checked_sub(1)?.checked_mul(sep_len)?;
        for v in items {
            len = len.checked_add(v.as_obj::<Str>()?.get(self).len as usize)?;
        }
        if len <= STR_INTERN_MAX || len > STR_LEN_MAX || self.may_alloc(len).is_err() {
            return None;
        }
        let joined = self.str_alloc(len, 0, strflags::LONG);
        let items = &t.get(self).array()[from..=to];
        // SAFETY: the object has room for `len` bytes, which is what the pieces add up to: nothing has changed them
        // since they were counted. Nobody else has seen it.
        unsafe {
            let mut out = (joined.as_ptr() as *mut u8).add(Str::DATA_OFFSET);
            for (i, v) in items.iter().enumerate() {
                let pieces = [sep.filter(|_| i > 0), v.as_obj::<Str>()];
                for b in pieces.into_iter().flatten().map(|s| s.bytes(self)) {
                    std::ptr::copy_nonoverlapping(b.as_ptr(), out, b.len());
                    out = out.add(b.len());
                }
            }
        }
        Some(joined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::Value;

    #[test]
    fn strings_are_joined_whole_or_not_at_all() {
        let mut h = Heap::new();
        let t = h.new_table(20, 0);
        let mut want = Vec::new();
        for i in 1..=9 {
            let piece = vec![b'a' + i as u8; i * i];
            if i > 1 {
                want.extend_from_slice(b", ");
            }
            want.extend_from_slice(&piece);
            let s = h.str(&piece);
            t.seti(&mut h, i as i64, Value::obj(s)).unwrap();
        }
        let sep = h.str(b", ");
        let s = h.join_strings(t, 1, 9, Some(sep)).expect("strings only");
        assert_eq!(s.bytes(&h), want);
        let s = h.join_strings(t, 8, 9, None).expect("strings only");
        assert_eq!(s.bytes(&h), [vec![b'i'; 64], vec![b'j'; 81]].concat());
        // Short results are interned; 0 and 10 are nil; 30 is not in the array; there is nothing from 5 to 4.
        for (from, to) in [(1, 2), (0, 9), (1, 10), (1, 30), (5, 4), (usize::MAX, usize::MAX)] {
            assert!(h.join_strings(t, from, to, None).is_none());
        }
        t.seti(&mut h, 3, Value::num(3.0)).unwrap();
        assert!(h.join_strings(t, 1, 9, None).is_none());
        t.seti(&mut h, 3, Value::obj(sep)).unwrap();
        h.set_limit(h.total_bytes() + 50);
        assert!(h.join_strings(t, 1, 9, None).is_none());
    }
}
