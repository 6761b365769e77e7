//! The heap verifier. Walks everything reachable with code of its own and reports the first breach.
//!
//! Invariants checked:
//! - a value's tag is its object's kind; the object is a whole cell of a block of its group, or large;
//! - no object is freed, poisoned memory;
//! - a black marked object refers to marked objects only (weak references aside), unless it is on the way to be looked
//!   at again; while marks stay for a minor cycle, a marked object that is not black is on that way;
//! - interned strings are found under their contents, and are the only ones with them;
//! - every live key of a table is found from its main node; `asize`, `hmask` and `extra` agree;
//! - closed upvalues point to themselves, open ones into the stack of their thread;
//! - the bytes charged are those of the blocks, large objects and memory outside.

use std::collections::HashSet;

use super::World;
use crate::cell::gc_ref::Gc;
use crate::cell::header::{Header, Kind, gcbits, strflags};
use crate::function::closure::{Func, LuaFunc, NativeFunc};
use crate::function::proto::Proto;
use crate::function::upvalue::Upval;
use crate::heap::arena::{self, FIRST, Group};
use crate::heap::{Heap, Phase};
use crate::state::Vm;
use crate::string::Str;
use crate::table::Table;
use crate::thread::Thread;
use crate::userdata::Userdata;
use crate::value::{Value, tag};

/// What is wrong, in words.
pub type Breach = String;

/// Verifies the heap of a VM; to be called at a safepoint.
pub fn check(vm: &mut Vm) -> Result<usize, Breach> {
    check_world(vm)
}

/// As [`check`], for any world. Returns the number of reachable objects.
pub fn check_world<W: World>(w: &mut W) -> Result<usize, Breach> {
    let mut roots = Vec::new();
    w.roots(&mut roots);
    let heap = w.heap();
    roots.extend_from_slice(heap.roots.values());
    let pending: HashSet<u64> = heap
        .lists
        .gray
        .iter()
        .chain(&heap.lists.again)
        .copied()
        .chain(heap.lists.sliced.iter().map(|s| s.0))
        .map(Gc::addr)
        .collect();
    let mut seen = HashSet::new();
    let mut todo = Vec::new();
    for v in roots {
        visit(heap, v, "a root", &mut seen, &mut todo)?;
    }
    for i in 0..heap.lists.finalize.len() {
        let h = heap.lists.finalize[i];
        if seen.insert(h.addr()) {
            todo.push(h);
        }
    }
    while let Some(h) = todo.pop() {
        let hdr = h.get(heap);
        let settled = (heap.phase == Phase::Mark || heap.gens.sticky)
            && heap.is_marked(h)
            && !pending.contains(&h.addr());
        let black = settled && hdr.gc & gcbits::BLACK != 0;
        if settled && !black && ![Kind::Str, Kind::Cdata, Kind::Thread].map(|k| k as u8).contains(&hdr.kind) {
            return Err(format!("a marked {} that is neither black nor remembered", kind_name(hdr.kind)));
        }
        let (kind, weak) = (hdr.kind, hdr.gc & (gcbits::WEAK_KEY | gcbits::WEAK_VAL) != 0);
        inspect(heap, h)?;
        let mut kids = Vec::new();
        children(heap, h, &mut kids);
        for v in kids {
            visit(heap, v, kind_name(kind), &mut seen, &mut todo)?;
            if black
                && !weak
                && let Some(c) = v.as_header()
                && !heap.is_marked(c)
            {
                return Err(format!("black {} refers to white {v:?}", kind_name(kind)));
            }
        }
    }
    accounting(heap)?;
    Ok(seen.len())
}

fn kind_name(kind: u8) -> &'static str {
    match kind {
        4 => "string",
        5 => "upvalue",
        6 => "thread",
        7 => "prototype",
        8 => "function",
        10 => "cdata",
        11 => "table",
        12 => "userdata",
        _ => "no kind",
    }
}

fn visit(
    heap: &Heap,
    v: Value,
    from: &str,
    seen: &mut HashSet<u64>,
    todo: &mut Vec<Gc<Header>>,
) -> Result<(), Breach> {
    let Some(h) = v.as_header() else { return Ok(()) };
    if !seen.insert(h.addr()) {
        return Ok(());
    }
    if h.addr() % 16 != 0 {
        return Err(format!("{from} refers to {v:?}, which is not aligned"));
    }
    let hdr = h.get(heap);
    if !(hdr.kind as u32) != v.tag() {
        return Err(format!("{from} refers to {v:?}, but the object there has kind {}", hdr.kind));
    }
    if hdr.gc & gcbits::LARGE == 0 {
        let b = arena::block_of(h.as_ptr() as *const u8);
        // SAFETY: an object without the bit is an arena cell, so its block is mapped.
        let (cell, end, index) = unsafe { ((*b).cell as u64, (*b).end as u64, (*b).index as usize) };
        let off = h.addr() - b as u64;
        if off < FIRST as u64 || off >= end || !(off - FIRST as u64).is_multiple_of(cell) {
            return Err(format!("{from} refers to {v:?}, which is inside a cell"));
        }
        let group = index / arena::CLASSES;
        let ok = match v.tag() {
            tag::STR => group == Group::Str as usize,
            tag::THREAD => group == Group::Drop as usize,
            tag::UDATA => group == Group::Drop as usize || group == Group::Obj as usize,
            _ => group == Group::Obj as usize,
        };
        if !ok {
            return Err(format!("{from} refers to {v:?} in a block of group {group}"));
        }
    }
    todo.push(h);
    Ok(())
}

fn inspect(heap: &Heap, h: Gc<Header>) -> Result<(), Breach> {
    match h.get(heap).kind {
        k if k == Kind::Str as u8 => {
            let s: Gc<Str> = h.cast();
            let o = s.get(heap);
            if o.hdr.flags & strflags::INTERNED != 0 && heap.str_find(o.bytes()) != Some(s) {
                return Err(format!("interned string {:?} is not in the table", o.bytes()));
            }
            if o.len as usize <= crate::limits::STR_INTERN_MAX && o.hdr.flags & strflags::INTERNED == 0 {
                return Err(format!("short string {:?} is not interned", o.bytes()));
            }
        }
        k if k == Kind::Tab as u8 => {
            let t = h.cast::<Table>().get(heap);
            let hsize = t.hash_size();
            if hsize != 0 && (hsize != 1 << t.hdr.extra || t.hdr.aux as usize > hsize)
                || hsize == 0 && t.hdr.extra != 0
            {
                return Err(format!("table with {hsize} nodes says {} bits", t.hdr.extra));
            }
            for n in t.nodes() {
                if !n.val.is_nil() && !std::ptr::eq(t.find(n.key), &n.val) {
                    return Err(format!("key {:?} of a table is not found", n.key));
                }
            }
        }
        k if k == Kind::Upval as u8 => {
            let u = h.cast::<Upval>().get(heap);
            if u.hdr.flags & 1 != 0 {
                if !std::ptr::eq(u.v, &u.tv) {
                    return Err("closed upvalue does not point to itself".into());
                }
            } else if let Some(t) = u.tv.as_obj::<Thread>() {
                let t = t.get(heap);
                if u.v < t.stack || u.v >= t.stack.wrapping_add(t.size as usize) {
                    return Err("open upvalue outside its thread's stack".into());
                }
            } else {
                return Err("open upvalue without a thread".into());
            }
        }
        _ => {}
    }
    Ok(())
}

/// What an object refers to, weak references included.
fn children(heap: &Heap, h: Gc<Header>, out: &mut Vec<Value>) {
    let table = |t: Gc<Table>| Value::obj(t);
    match h.get(heap).kind {
        k if k == Kind::Tab as u8 => {
            let t = h.cast::<Table>().get(heap);
            out.extend(t.meta.map(table));
            out.extend_from_slice(t.array());
            for n in t.nodes() {
                if !n.val.is_nil() {
                    out.extend([n.key, n.val]);
                }
            }
        }
        k if k == Kind::Func as u8 => {
            let f: Gc<Func> = h.cast();
            out.push(table(f.get(heap).env));
            if f.get(heap).is_native() {
                out.extend_from_slice(f.cast::<NativeFunc>().get(heap).upvals());
            } else {
                let f = f.cast::<LuaFunc>().get(heap);
                out.push(Value::obj(f.proto));
                out.extend(f.upvals().iter().map(|u| Value::obj(*u)));
            }
        }
        k if k == Kind::Upval as u8 => out.push(h.cast::<Upval>().get(heap).tv),
        k if k == Kind::Udata as u8 => {
            let u = h.cast::<Userdata>().get(heap);
            out.extend(u.meta.map(table));
            out.extend(u.env.map(table));
        }
        k if k == Kind::Proto as u8 => {
            let p = h.cast::<Proto>().get(heap);
            out.push(Value::obj(p.chunkname));
            for i in 1..=p.nkgc as usize {
                // SAFETY: `nkgc` constants lie below the middle of the constants.
                out.push(unsafe { *p.k.sub(i) });
            }
        }
        k if k == Kind::Thread as u8 => {
            let t = h.cast::<Thread>().get(heap);
            out.push(table(t.env));
            out.extend(t.resumer.map(Value::obj));
            let mut p = t.stack;
            while p < t.top {
                // SAFETY: slots below `top` are initialised.
                out.push(unsafe { *p });
                p = p.wrapping_add(1);
            }
        }
        _ => {}
    }
}

fn accounting(heap: &Heap) -> Result<(), Breach> {
    let mut sum = heap.acct.external + heap.intern.slots.len() * 8;
    for l in &heap.blocks {
        let swept = if l.sweep_end > 0 { l.swept } else { 0 };
        for b in l.blocks[..l.kept].iter().chain(&l.blocks[swept.max(l.kept)..]) {
            // SAFETY: blocks in the lists are mapped.
            sum += unsafe { (*b.as_ptr()).charged } as usize;
        }
    }
    for l in &heap.large {
        sum += heap.large_size(l.ptr.as_ptr()) + 16;
    }
    if sum == heap.acct.used {
        Ok(())
    } else {
        Err(format!("{} bytes are charged, but {sum} are in use", heap.acct.used))
    }
}
