//! Weak tables: which ones are, and what is thrown out of them when marking ends.

use crate::bytecode::ops::Mm;
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits};
use crate::heap::Heap;
use crate::string::Str;
use crate::table::Table;
use crate::value::Value;

/// The weakness a metatable gives: [`gcbits::WEAK_KEY`], [`gcbits::WEAK_VAL`], both or 0.
pub fn mode(heap: &mut Heap, meta: Gc<Table>) -> u8 {
    if meta.get(heap).hdr.flags & 1 << Mm::Mode as u8 != 0 {
        return 0;
    }
    let Some([name, _]) = heap.gc_names else { return 0 };
    let v = meta.get(heap).gets(name.cast());
    if v.is_nil() {
        meta.get_mut(heap).hdr.flags |= 1 << Mm::Mode as u8;
    }
    let Some(s) = v.as_obj::<Str>() else { return 0 };
    let mut bits = 0;
    for c in s.bytes(heap) {
        match c {
            b'k' => bits |= gcbits::WEAK_KEY,
            b'v' => bits |= gcbits::WEAK_VAL,
            _ => {}
        }
    }
    bits
}

/// Throws dead keys and values out of the weak tables of this cycle. Strings never go: they are values.
/// Objects about to be finalized go as values, but stay as keys until they are freed.
pub fn clear(heap: &mut Heap) {
    let tables = std::mem::take(&mut heap.lists.weak);
    for t in &tables {
        keep_strings(heap, t.cast());
        heap.clear_weak(t.cast(), &|heap, v, is_key| match v.as_header() {
            Some(h) => is_dead(heap, h, is_key),
            None => false,
        });
    }
    heap.lists.weak = tables;
    heap.lists.weak.clear();
}

fn is_dead(heap: &Heap, h: Gc<Header>, is_key: bool) -> bool {
    if !heap.is_marked(h) {
        return true;
    }
    let hdr = h.get(heap);
    !is_key && hdr.kind == Kind::Udata as u8 && hdr.gc & gcbits::FINALIZED != 0
}

/// Strings in a weak table are alive as long as their entry is.
fn keep_strings(heap: &mut Heap, t: Gc<Table>) {
    let total = t.get(heap).asize as usize + t.get(heap).hash_size();
    let asize = t.get(heap).asize as usize;
    for i in 0..total {
        let o = t.get(heap);
        let (k, v) = if i < asize {
            (Value::NIL, o.array()[i])
        } else {
            let n = o.nodes()[i - asize];
            if n.val.is_nil() {
                continue;
            }
            (n.key, n.val)
        };
        for v in [k, v] {
            if v.is::<Str>()
                && let Some(h) = v.as_header()
            {
                heap.set_mark(h);
            }
        }
    }
}
