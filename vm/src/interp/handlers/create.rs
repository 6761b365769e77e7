//! Small tables and closures made in the handler: a cell off the current run, filled in. Whatever needs more (a new run,
//! parts outside the cell, a collector step) is a helper's. As there, the instruction's address is kept: line hooks tell a new
//! line by the last instruction that made something.

use crate::bytecode::protodef::{UV_IMMUTABLE, UV_INDEX, UV_LOCAL, UV_SLOT};
use crate::cell::gc_ref::Gc;
use crate::cell::header::Kind;
use crate::function::closure::{Func, LuaFunc};
use crate::function::proto::Proto;
use crate::function::upvalue::Upval;
use crate::heap::alloc::take_cell;
use crate::heap::arena::{CELL_MAX, class_of_small};
use crate::interp::dispatch::{func_ptr, next, op, put, tail};
use crate::interp::func::new_closure;
use crate::interp::index::{dup_table, new_table};
use crate::state::Vm;
use crate::table::{Node, PARTS_OFFSET, Table};
use crate::value::{Value, tag};

/// Array slots of a table made here.
const SLOTS_MAX: usize = 24;

op! { TNEW |pc, base, k, vm, a, d| {
    // D: array slots in the low bits, log2 of the nodes above.
    if d <= SLOTS_MAX && (*vm).heap.acct.due == 0 {
        let p = take_cell(&raw mut (*vm).heap, class_of_small(PARTS_OFFSET + d * 8)) as *mut Table;
        if !p.is_null() {
            *(p as *mut u64) = Kind::Tab as u64;
            let array = (p as *mut u8).add(PARTS_OFFSET) as *mut Value;
            (*p).array = array;
            (*p).node = (*vm).heap.nil_node_ptr();
            (*p).meta = None;
            (*p).asize = d as u32;
            (*p).hmask = 0;
            let mut i = 0;
            while i < d {
                put(array.add(i), Value::NIL);
                i += 1;
            }
            *base.add(a) = Value(tag::bits(tag::TAB) | p as u64);
            (*vm).pc = pc;
            next!(pc, base, k, vm)
        }
    }
    tail!(new_table, pc, base, k, vm, a, d)
} }

op! { TDUP |pc, base, k, vm, a, d| {
    let src = (*k.sub(1 + d)).payload() as *const Table;
    let asize = (*src).asize as usize;
    let nodes = if (*src).hmask == 0 { 0 } else { (*src).hmask as usize + 1 };
    let bytes = PARTS_OFFSET + asize * 8 + nodes * size_of::<Node>();
    if bytes <= CELL_MAX && (*vm).heap.acct.due == 0 {
        let p = take_cell(&raw mut (*vm).heap, class_of_small(bytes)) as *mut Table;
        if !p.is_null() {
            *(p as *mut u64) = Kind::Tab as u64;
            (*p).hdr.extra = (*src).hdr.extra;
            (*p).hdr.aux = (*src).hdr.aux;
            (*p).meta = None;
            (*p).asize = asize as u32;
            (*p).hmask = (*src).hmask;
            let array = (p as *mut u8).add(PARTS_OFFSET) as *mut Value;
            (*p).array = array;
            let from = (*src).array;
            let mut i = 0;
            while i < asize {
                put(array.add(i), *from.add(i));
                i += 1;
            }
            (*p).node = (*vm).heap.nil_node_ptr();
            if nodes != 0 {
                let to = array.add(asize);
                (*p).node = to as *mut Node;
                // Nodes come in pairs: always a multiple of 16 bytes.
                let from = (*src).node as *const u128;
                let pairs = nodes * size_of::<Node>() / 16;
                let mut i = 0;
                while i < pairs {
                    (to as *mut u128).add(i).write_unaligned(from.add(i).read_unaligned());
                    i += 1;
                }
            }
            *base.add(a) = Value(tag::bits(tag::TAB) | p as u64);
            (*vm).pc = pc;
            next!(pc, base, k, vm)
        }
    }
    tail!(dup_table, pc, base, k, vm, a, d)
} }

/// The open upvalue of a slot of the running coroutine.
#[inline(never)]
unsafe extern "C" fn open_upval(vm: *mut Vm, slot: *mut Value) -> *mut Upval {
    // SAFETY: the handler holds no reference to the VM, and the slot lies in the running coroutine's stack.
    unsafe { (*vm).cur.find_upval(&mut (*vm).heap, slot).as_ptr() }
}

/// Upvalues of a closure made here.
const UPVALS_MAX: usize = 24;

op! { FNEW |pc, base, k, vm, a, d| {
    let pt = (*k.sub(1 + d)).payload() as *mut Proto;
    let n = (*pt).nupvals as usize;
    if n <= UPVALS_MAX && (*vm).heap.acct.due == 0 {
        let p = take_cell(&raw mut (*vm).heap, class_of_small(LuaFunc::UPVALS_OFFSET + n * 8)) as *mut LuaFunc;
        if !p.is_null() {
            let parent: *const Func = func_ptr(*base.sub(2));
            *(p as *mut u64) = Kind::Func as u64 | (n as u64) << 32;
            (*p).func.pc = (*pt).code as *const u32;
            (*p).func.env = (*parent).env;
            (*p).proto = Gc::from_ptr(std::ptr::NonNull::new_unchecked(pt));
            (*pt).closures = (*pt).closures.wrapping_add(1);
            let to = (p as *mut u8).add(LuaFunc::UPVALS_OFFSET) as *mut *mut Upval;
            let of_parent = (parent as *const u8).add(LuaFunc::UPVALS_OFFSET) as *const *mut Upval;
            let uv = (*pt).uv;
            let mut i = 0;
            while i < n {
                let desc = *uv.add(i);
                let u = if desc & UV_LOCAL != 0 {
                    let u = open_upval(vm, base.add((desc & UV_SLOT) as usize));
                    (*u).hdr.extra = (desc & UV_IMMUTABLE != 0) as u8;
                    u
                } else {
                    *of_parent.add((desc & UV_INDEX) as usize)
                };
                to.add(i).write_volatile(u);
                i += 1;
            }
            *base.add(a) = Value(tag::bits(tag::FUNC) | p as u64);
            (*vm).pc = pc;
            next!(pc, base, k, vm)
        }
    }
    tail!(new_closure, pc, base, k, vm, a, d)
} }
