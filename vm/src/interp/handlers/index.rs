//! Table access. Fast when the operand is a table and no metamethod is involved.

use crate::bytecode::ops::{Mm, Op};
use crate::cell::header::{Header, gcbits, strflags};
use crate::function::closure::{Func, LuaFunc};
use crate::interp::cdata::{get_other_b, get_other_s, get_other_v, set_other_b, set_other_s, set_other_v};
use crate::interp::dispatch::{enter_func, func_ptr, next, op, tail};
use crate::interp::index::{get_slow, raw_get, raw_set, set_multi, set_slow, table_barrier};
use crate::table::{Node, Table};
use crate::thread::frame;
use crate::userdata::Userdata;
use crate::value::{Value, tag};

/// Node of a string key; null if absent.
///
/// # Safety
/// `t` is a table and `key` an interned string.
#[inline(always)]
pub(crate) unsafe fn node_str(t: *const Table, key: Value) -> *mut Node {
    // SAFETY: the index is masked by the size of the hash part; chains stay inside it and end in null.
    unsafe {
        // Volatile, so that the load is not folded into the mask's instruction: that saves a register.
        let hash = (&raw const (*(key.payload() as *const Header)).aux).read_volatile();
        let mut n = (*t).node.add(((*t).hmask & hash) as usize);
        loop {
            if (*n).key.0 == key.0 {
                return n;
            }
            n = Node::following(n);
            if n.is_null() {
                return n;
            }
        }
    }
}

/// The node a string key belongs in. The handlers look there only; the rest of a chain is walked out of line.
///
/// # Safety
/// As for [`node_str`].
#[inline(always)]
unsafe fn main_node(t: *const Table, key: Value) -> *mut Node {
    // SAFETY: the index is masked by the size of the hash part.
    unsafe {
        // Volatile, so that the load is not folded into the mask's instruction: that saves a register.
        let hash = (&raw const (*(key.payload() as *const Header)).aux).read_volatile();
        (*t).node.add(((*t).hmask & hash) as usize)
    }
}

/// The number cut to 32 bits, one instruction; anything that does not fit gives some integer.
///
/// # Safety
/// None needed on the processors known; elsewhere a saturating conversion stands in.
#[inline(always)]
pub(crate) unsafe fn cut(n: f64) -> i32 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of the architecture.
    unsafe {
        use std::arch::x86_64::{_mm_cvttsd_si32, _mm_set_sd};
        _mm_cvttsd_si32(_mm_set_sd(n))
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        n as i32
    }
}

/// Has [`cut`] taken nothing from `n`? Where it is one instruction, also true of a NaN, whose `i` as an unsigned number is
/// beyond every array: two comparisons that become one branch, because the unordered case needs none of its own.
#[inline(always)]
#[allow(clippy::nonminimal_bool, clippy::neg_cmp_op_on_partial_ord)]
fn is_cut(i: i32, n: f64) -> bool {
    let back = i as f64;
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        !(back < n || back > n)
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        back == n
    }
}

/// Is `__index` (`__newindex`) known to be absent?
///
/// # Safety
/// `t` is a table.
#[inline(always)]
unsafe fn no_meta(t: *const Table, mm: Mm) -> bool {
    // SAFETY: a metatable is a live table.
    unsafe {
        match (*t).meta {
            None => true,
            Some(mt) => (*mt.as_ptr()).hdr.flags & 1 << mm as u8 != 0,
        }
    }
}

macro_rules! get_str {
    ($t:expr, $key:expr, $slow:ident, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let key = $key;
        let n = main_node($t, key);
        if (*n).key.0 == key.0 {
            let v = (*n).val;
            if !v.is_nil() {
                *$base.add($a) = v;
                next!($pc, $base, $k, $vm)
            }
        }
        tail!($slow, $pc, $base, $k, $vm, $a, $d)
    }};
}

/// Calls the `__index` function `$f` for the table `$t` and a key: its result goes to the instruction's register. Falls
/// through when the stack has no room.
macro_rules! call_index {
    ($vm:ident, $base:ident, $pc:ident, $t:expr, $key:expr, $f:expr) => {{
        let caller = func_ptr(*$base.sub(2)) as *const LuaFunc;
        let delta = (*(*caller).proto.as_ptr()).framesize as usize + frame::CONT_SLOTS;
        let nb = $base.add(delta);
        if nb.add(2) <= *(*$vm).stack_limit.as_ptr() {
            *nb.sub(4) = frame::raw(frame::Cont::Ra as u64);
            *nb.sub(3) = frame::raw($pc as u64);
            *nb.sub(2) = $f;
            *nb.sub(1) = frame::raw(frame::link(delta, frame::FrameType::Cont));
            *nb = Value(tag::bits(tag::TAB) | $t as u64);
            *nb.add(1) = $key;
            enter_func!(nb, $vm, 3)
        }
    }};
}

/// The same for keys elsewhere in their chain, and for inherited ones: follows `__index` tables.
macro_rules! get_str_far {
    ($t:expr, $key:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let mut t: *const Table = $t;
        let mut left = 8;
        while left > 0 {
            let n = node_str(t, $key);
            if !n.is_null() && !(*n).val.is_nil() {
                *$base.add($a) = (*n).val;
                next!($pc, $base, $k, $vm)
            }
            let Some(mt) = (*t).meta else {
                *$base.add($a) = Value::NIL;
                next!($pc, $base, $k, $vm)
            };
            let n = node_str(mt.as_ptr(), (*$vm).index_name);
            if n.is_null() {
                break;
            }
            if (*n).val.tag() != tag::TAB {
                if (*n).val.tag() == tag::FUNC {
                    call_index!($vm, $base, $pc, t, $key, (*n).val);
                }
                break;
            }
            t = (*n).val.payload() as *const Table;
            left -= 1;
        }
        tail!(get_slow, $pc, $base, $k, $vm, $a, $d)
    }};
}

macro_rules! get_int {
    ($t:expr, $i:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let t = $t;
        let i: usize = $i;
        if i < (*t).asize as usize {
            let v = *(*t).array.add(i);
            if !v.is_nil() {
                *$base.add($a) = v;
                next!($pc, $base, $k, $vm)
            }
        }
        tail!(get_int_far, $pc, $base, $k, $vm, $a, $d)
    }};
}

op! {
    /// An integer key whose entry in the array part of the table is nil, or that is outside of it. Without a hash part it
    /// is absent: nil, or the `__index` function's business. Apart from the handlers, where the code for it would lie in
    /// the way of the usual case.
    #[inline(never)]
    get_int_far |pc, base, k, vm, a, d| {
        let t = (*base.add(d >> 8)).payload() as *const Table;
        if (*t).hmask == 0 || int_key(pc, base, d) < (*t).asize as usize {
            let Some(mt) = (*t).meta else {
                *base.add(a) = Value::NIL;
                next!(pc, base, k, vm)
            };
            if (*mt.as_ptr()).hdr.flags & 1 << Mm::Index as u8 != 0 {
                *base.add(a) = Value::NIL;
                next!(pc, base, k, vm)
            }
            let n = node_str(mt.as_ptr(), (*vm).index_name);
            if !n.is_null() && (*n).val.tag() == tag::FUNC {
                let op = *(pc.sub(1) as *const u8);
                let key =
                    if op == Op::TGETB as u8 { Value::num_trusted((d & 0xff) as f64) } else { *base.add(d & 0xff) };
                call_index!(vm, base, pc, t, key, (*n).val);
            }
        }
        tail!(get_slow, pc, base, k, vm, a, d)
    }
}

/// The integer key of the `TGETB`, `TGETV`, `TSETB` or `TSETV` in front of `pc`.
///
/// # Safety
/// There is such an instruction, with operands `d`; where the key is in a register, that holds a number.
#[inline(always)]
unsafe fn int_key(pc: *const u32, base: *const Value, d: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let op = *(pc.sub(1) as *const u8);
        if op == Op::TGETB as u8 || op == Op::TSETB as u8 {
            d & 0xff
        } else {
            cut((*base.add(d & 0xff)).num_unchecked()) as u32 as usize
        }
    }
}

op! { GGET |pc, base, k, vm, a, d| {
    let f: *const Func = func_ptr(*base.sub(2));
    get_str!((*f).env.as_ptr(), *k.sub(1 + d), get_global_far, pc, base, k, vm, a, d)
} }
op! { TGETS |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    if o.tag() == tag::TAB {
        get_str!(o.payload() as *const Table, *k.sub(1 + (d & 0xff)), get_field_far, pc, base, k, vm, a, d)
    }
    tail!(get_other_s, pc, base, k, vm, a, d)
} }
op! {
    /// `TGETS` of a field that is not in its main node.
    #[inline(never)]
    get_field_far |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        get_str_far!(o.payload() as *const Table, *k.sub(1 + (d & 0xff)), pc, base, k, vm, a, d)
    }
}
op! {
    /// `TGETS` of a string or userdata whose `__index` is a table: methods of objects, functions of C libraries.
    #[inline(never)]
    get_method |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        let meta = match o.tag() {
            tag::STR => (*vm).base_meta[!tag::STR as usize],
            tag::UDATA => (*(o.payload() as *const Userdata)).meta,
            _ => None,
        };
        if let Some(mt) = meta {
            let n = node_str(mt.as_ptr(), (*vm).index_name);
            if !n.is_null() && (*n).val.tag() == tag::TAB {
                let key = *k.sub(1 + (d & 0xff));
                get_str_far!((*n).val.payload() as *const Table, key, pc, base, k, vm, a, d)
            }
        }
        tail!(get_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// `GGET` of a global that is not in its main node.
    #[inline(never)]
    get_global_far |pc, base, k, vm, a, d| {
        let f: *const Func = func_ptr(*base.sub(2));
        get_str_far!((*f).env.as_ptr(), *k.sub(1 + d), pc, base, k, vm, a, d)
    }
}
op! { TGETB |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    if o.tag() == tag::TAB {
        get_int!(o.payload() as *const Table, d & 0xff, pc, base, k, vm, a, d)
    }
    tail!(get_other_b, pc, base, k, vm, a, d)
} }
op! { TGETV |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    let key = *base.add(d & 0xff);
    if o.tag() == tag::TAB {
        if key.is_num() {
            let n = key.num_unchecked();
            let i = cut(n);
            if is_cut(i, n) {
                get_int!(o.payload() as *const Table, i as u32 as usize, pc, base, k, vm, a, d)
            }
        } else {
            tail!(get_str_key, pc, base, k, vm, a, d)
        }
    }
    tail!(get_other_v, pc, base, k, vm, a, d)
} }
op! {
    /// `TGETV` of a table with a key that is no number. A long string has no node: it is dealt with out of line.
    #[inline(never)]
    get_str_key |pc, base, k, vm, a, d| {
        let key = *base.add(d & 0xff);
        if key.tag() == tag::STR {
            let o = *base.add(d >> 8);
            get_str!(o.payload() as *const Table, key, get_str_key_far, pc, base, k, vm, a, d)
        }
        tail!(get_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// The same with a string that is not in its main node.
    #[inline(never)]
    get_str_key_far |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        let key = *base.add(d & 0xff);
        if (*(key.payload() as *const Header)).flags & strflags::INTERNED == 0 {
            tail!(get_slow, pc, base, k, vm, a, d)
        }
        get_str_far!(o.payload() as *const Table, key, pc, base, k, vm, a, d)
    }
}
op! { TGETR |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    let key = *base.add(d & 0xff);
    let t = o.payload() as *const Table;
    let i = cut(key.num_unchecked()) as u32 as usize;
    if i < (*t).asize as usize {
        *base.add(a) = *(*t).array.add(i);
        next!(pc, base, k, vm)
    }
    tail!(raw_get, pc, base, k, vm, a, d)
} }

macro_rules! store {
    ($slot:expr, $v:expr, $t:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $d:ident) => {{
        let v = $v;
        *$slot = v;
        if (*$t).hdr.gc & gcbits::BLACK != 0 {
            tail!(table_barrier, $pc, $base, $k, $vm, $t as usize, $d)
        }
        next!($pc, $base, $k, $vm)
    }};
}

macro_rules! set_str {
    ($t:expr, $key:expr, $slow:ident, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let t: *mut Table = $t;
        let key = $key;
        let n = main_node(t, key);
        if (*n).key.0 == key.0 && !(*n).val.is_nil() {
            (*t).hdr.flags = 0;
            store!(&raw mut (*n).val, *$base.add($a), t, $pc, $base, $k, $vm, $d)
        }
        tail!($slow, $pc, $base, $k, $vm, $a, $d)
    }};
}

/// The same for keys elsewhere in their chain, and for entries that are nil.
macro_rules! set_str_far {
    ($t:expr, $key:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let t: *mut Table = $t;
        let n = node_str(t, $key);
        if !n.is_null() && (!(*n).val.is_nil() || no_meta(t, Mm::Newindex)) {
            (*t).hdr.flags = 0;
            store!(&raw mut (*n).val, *$base.add($a), t, $pc, $base, $k, $vm, $d)
        }
        tail!(set_slow, $pc, $base, $k, $vm, $a, $d)
    }};
}

macro_rules! set_int {
    ($t:expr, $i:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let t: *mut Table = $t;
        let i: usize = $i;
        if i < (*t).asize as usize {
            let slot = (*t).array.add(i);
            if (*slot).is_nil() {
                tail!(set_int_new, $pc, $base, $k, $vm, slot as usize, t as usize)
            }
            store!(slot, *$base.add($a), t, $pc, $base, $k, $vm, $d)
        }
        tail!(set_slow, $pc, $base, $k, $vm, $a, $d)
    }};
}

op! {
    /// A store to an integer key whose entry in the array part is nil: `a` is the slot's address, `d` the table's. Apart
    /// from the handlers, where the code for it would lie in the way of the usual case.
    #[inline(never)]
    set_int_new |pc, base, k, vm, a, d| {
        let slot = a as *mut Value;
        let t = d as *mut Table;
        let ins = pc.sub(1) as *const u8;
        if no_meta(t, Mm::Newindex) {
            store!(slot, *base.add(*ins.add(1) as usize), t, pc, base, k, vm, d)
        }
        tail!(set_slow, pc, base, k, vm, *ins.add(1) as usize, *(ins as *const u16).add(1) as usize)
    }
}

op! { GSET |pc, base, k, vm, a, d| {
    let f: *const Func = func_ptr(*base.sub(2));
    set_str!((*f).env.as_ptr(), *k.sub(1 + d), set_global_far, pc, base, k, vm, a, d)
} }
op! { TSETS |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    if o.tag() == tag::TAB {
        set_str!(o.payload() as *mut Table, *k.sub(1 + (d & 0xff)), set_field_far, pc, base, k, vm, a, d)
    }
    tail!(set_other_s, pc, base, k, vm, a, d)
} }
op! {
    /// `TSETS` of a field that is not in its main node.
    #[inline(never)]
    set_field_far |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        set_str_far!(o.payload() as *mut Table, *k.sub(1 + (d & 0xff)), pc, base, k, vm, a, d)
    }
}
op! {
    /// `GSET` of a global that is not in its main node.
    #[inline(never)]
    set_global_far |pc, base, k, vm, a, d| {
        let f: *const Func = func_ptr(*base.sub(2));
        set_str_far!((*f).env.as_ptr(), *k.sub(1 + d), pc, base, k, vm, a, d)
    }
}
op! { TSETB |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    if o.tag() == tag::TAB {
        set_int!(o.payload() as *mut Table, d & 0xff, pc, base, k, vm, a, d)
    }
    tail!(set_other_b, pc, base, k, vm, a, d)
} }
op! { TSETV |pc, base, k, vm, a, d| {
    let o = *base.add(d >> 8);
    let key = *base.add(d & 0xff);
    if o.tag() == tag::TAB {
        if key.is_num() {
            let n = key.num_unchecked();
            let i = cut(n);
            if is_cut(i, n) {
                set_int!(o.payload() as *mut Table, i as u32 as usize, pc, base, k, vm, a, d)
            }
        } else {
            tail!(set_str_key, pc, base, k, vm, a, d)
        }
    }
    tail!(set_other_v, pc, base, k, vm, a, d)
} }
op! {
    /// `TSETV` of a table with a key that is no number.
    #[inline(never)]
    set_str_key |pc, base, k, vm, a, d| {
        let key = *base.add(d & 0xff);
        if key.tag() == tag::STR {
            let o = *base.add(d >> 8);
            set_str!(o.payload() as *mut Table, key, set_str_key_far, pc, base, k, vm, a, d)
        }
        tail!(set_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// The same with a string that is not in its main node.
    #[inline(never)]
    set_str_key_far |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        let key = *base.add(d & 0xff);
        if (*(key.payload() as *const Header)).flags & strflags::INTERNED == 0 {
            tail!(set_slow, pc, base, k, vm, a, d)
        }
        set_str_far!(o.payload() as *mut Table, key, pc, base, k, vm, a, d)
    }
}
op! { TSETM |pc, base, k, vm, a, d| {
    tail!(set_multi, pc, base, k, vm, a, d)
} }
op! { TSETR |pc, base, k, vm, a, d| {
    tail!(raw_set, pc, base, k, vm, a, d)
} }
