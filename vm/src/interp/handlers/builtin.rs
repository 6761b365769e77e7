//! Library functions as handlers: what they do with the usual arguments, without leaving the interpreter. A row of a
//! library names its handler (`NativeRow::fast`); the function in the library does all the rest, and the same.
//!
//! A handler that makes an object goes to the library's function when a collector step is due, because the step
//! follows there.

use crate::bytecode::ops::Mm;
use crate::cell::gc_ref::Gc;
use crate::cell::header::gcbits;
use crate::function::closure::NativeFunc;
use crate::interp::dispatch::{constants, func_ptr, next, op, put, tail};
use crate::interp::handlers::arith::{floor, is_num_in, num_in};
use crate::interp::handlers::index::{cut, node_str};
use crate::interp::handlers::native::{any_native, one_result, results};
use crate::interp::index::barrier;
use crate::state::Vm;
use crate::string::Str;
use crate::string::intern::{SHORT_MAX, find_medium, find_short, find_tiny};
use crate::table::Table;
use crate::thread::frame;
use crate::value::{Value, number, tag};

/// The integer in a slot; leaves the handler when there is none.
macro_rules! int_or_leave {
    ($p:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let p = $p;
        if !is_num_in(p) {
            tail!(any_native, $pc, $base, $k, $vm, $a, $d)
        }
        let n = num_in(p);
        let i = cut(n);
        if i as f64 != n {
            tail!(any_native, $pc, $base, $k, $vm, $a, $d)
        }
        i as i64
    }};
}

/// The upvalues of the native whose frame starts at `base`.
///
/// # Safety
/// It is a native.
#[inline(always)]
unsafe fn upvals(base: *const Value) -> *const Value {
    // SAFETY: the upvalues lie behind the struct.
    unsafe { (func_ptr(*base.sub(2)) as *const u8).add(NativeFunc::UPVALS_OFFSET) as *const Value }
}

/// A function of one number.
macro_rules! of_number {
    ($name:ident |$x:ident| $e:expr) => {
        op! { $name |pc, base, k, vm, a, d| {
            if d >= 2 && is_num_in(base) {
                let $x = num_in(base);
                one_result!(vm, base, $e)
            }
            tail!(any_native, pc, base, k, vm, a, d)
        } }
    };
}
of_number!(ABS | x | Value::num(x.abs()));
of_number!(FLOOR | x | Value::num_trusted(floor(x)));
of_number!(CEIL | x | Value::num_trusted(-floor(-x)));
of_number!(SQRT | x | Value::num_trusted(x.sqrt()));
of_number!(TOBIT | x | Value::num_trusted(number::to_bit(x) as f64));
of_number!(BITNOT | x | Value::num_trusted(!number::to_bit(x) as f64));
of_number!(BSWAP | x | Value::num_trusted(number::to_bit(x).swap_bytes() as f64));

/// A shift: value and count.
macro_rules! shift {
    ($name:ident |$x:ident, $n:ident| $e:expr) => {
        op! { $name |pc, base, k, vm, a, d| {
            if d >= 3 && is_num_in(base) && is_num_in(base.add(1)) {
                let $x = number::to_bit(num_in(base));
                let $n = number::to_bit(num_in(base.add(1))) as u32;
                one_result!(vm, base, Value::num_trusted(($e) as f64))
            }
            tail!(any_native, pc, base, k, vm, a, d)
        } }
    };
}
shift!(LSHIFT | x, n | x.wrapping_shl(n));
shift!(RSHIFT | x, n | (x as u32).wrapping_shr(n) as i32);
shift!(ARSHIFT | x, n | x.wrapping_shr(n));
shift!(ROL | x, n | x.rotate_left(n & 31));
shift!(ROR | x, n | x.rotate_right(n & 31));

/// A function of one or more numbers, taken one after the other; two most often.
macro_rules! fold {
    ($name:ident $any:ident |$acc:ident, $x:ident| $e:expr, $from:expr, $into:expr) => {
        op! { $name |pc, base, k, vm, a, d| {
            if d == 3 && is_num_in(base) && is_num_in(base.add(1)) {
                let $acc = $from(num_in(base));
                let $x = $from(num_in(base.add(1)));
                one_result!(vm, base, $into($e))
            }
            tail!($any, pc, base, k, vm, a, d)
        } }
        op! {
            /// The same with any number of them.
            #[inline(never)]
            $any |pc, base, k, vm, a, d| {
            if d >= 2 && is_num_in(base) {
                let mut $acc = $from(num_in(base));
                let mut i = 1;
                while i + 1 < d {
                    let p = base.add(i);
                    if !is_num_in(p) {
                        tail!(any_native, pc, base, k, vm, a, d)
                    }
                    let $x = $from(num_in(p));
                    $acc = $e;
                    i += 1;
                }
                one_result!(vm, base, $into($acc))
            }
            tail!(any_native, pc, base, k, vm, a, d)
        } }
    };
}
#[inline(always)]
fn bits(n: i32) -> Value {
    Value::num_trusted(n as f64)
}
#[inline(always)]
fn same(n: f64) -> f64 {
    n
}
fold!(BITAND bit_and | acc, x | acc & x, number::to_bit, bits);
fold!(BITOR bit_or | acc, x | acc | x, number::to_bit, bits);
fold!(BITXOR bit_xor | acc, x | acc ^ x, number::to_bit, bits);
// A NaN loses against what follows.
fold!(MAX max_of | acc, x | if acc > x { acc } else { x }, same, Value::num_trusted);
fold!(MIN min_of | acc, x | if acc < x { acc } else { x }, same, Value::num_trusted);

/// The zero-based start and the length of the range `$i, $j` of a string of `$len` bytes; the length may be negative.
macro_rules! range {
    ($i:expr, $j:expr, $len:expr) => {{
        let len = $len as i64;
        let (i, j) = ($i, $j);
        let from = if i < 0 { len + i + 1 } else { i };
        let from = if from < 1 { 1 } else { from };
        let to = if j < 0 { len + j + 1 } else { j };
        let to = if to > len { len } else { to };
        (from - 1, to - from + 1)
    }};
}

/// Bytes that `string.byte` gives without asking for room on the stack.
const BYTES_MAX: i64 = 16;

op! {
    /// `string.byte(s, i, j)` of a few bytes.
    STRBYTE |pc, base, k, vm, a, d| {
        let s = *base;
        if d < 2 || s.tag() != tag::STR {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let o = s.payload() as *const Str;
        let mut i = 1;
        if d >= 3 {
            i = int_or_leave!(base.add(1), pc, base, k, vm, a, d);
        }
        let mut j = i;
        if d >= 4 {
            j = int_or_leave!(base.add(2), pc, base, k, vm, a, d);
        }
        let (at, n) = range!(i, j, (*o).len);
        let p = (o as *const u8).add(Str::DATA_OFFSET).wrapping_add(at as usize);
        if n == 1 {
            one_result!(vm, base, Value::num_trusted(*p as f64))
        }
        let link = (*base.sub(1)).0;
        if n > 1 && n <= BYTES_MAX && frame::is_lua(link) {
            let to = base.sub(2);
            let mut i = 0;
            while i < n as usize {
                put(to.add(i), Value::num_trusted(*p.add(i) as f64));
                i += 1;
            }
            results!(vm, base, link, n as usize, base, 0)
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

op! {
    /// `string.len(s)`.
    STRLEN |pc, base, k, vm, a, d| {
        let s = *base;
        if d >= 2 && s.tag() == tag::STR {
            let len = (*(s.payload() as *const Str)).len;
            one_result!(vm, base, Value::num_trusted(len as f64))
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

/// The string of `n` bytes at `p`, found or made.
#[inline(never)]
unsafe extern "C" fn substring(vm: *mut Vm, p: *const u8, n: usize) -> u64 {
    // SAFETY: the handler holds no reference to the VM and has checked the range. The contents of the string it lies in
    // do not move or change, and nothing is freed here. They are hashed and compared where they lie: a copy on the native
    // stack, just written, would have to reach the cache first.
    unsafe { Value::obj((*vm).heap.str(std::slice::from_raw_parts(p, n))).0 }
}

op! {
    /// `string.sub(s, i, j)`. A short piece that lies inside of the string and exists as a string already, as most do in
    /// programs that look at every piece of a text, is found without a call.
    STRSUB |pc, base, k, vm, a, d| {
        let s = *base;
        if d != 4 || s.tag() != tag::STR {
            tail!(piece, pc, base, std::ptr::null(), vm, 0, d)
        }
        if !is_num_in(base.add(1)) || !is_num_in(base.add(2)) {
            tail!(piece, pc, base, std::ptr::null(), vm, 0, d)
        }
        let (x, y) = (num_in(base.add(1)), num_in(base.add(2)));
        let (i, j) = (cut(x), cut(y));
        if i as f64 != x || j as f64 != y {
            tail!(piece, pc, base, std::ptr::null(), vm, 0, d)
        }
        let o = s.payload() as *const Str;
        let n = (j.wrapping_sub(i) as u32).wrapping_add(1);
        if i < 1 || j < i || j as u32 > (*o).len || n > 2 * SHORT_MAX as u32 {
            tail!(piece, pc, base, std::ptr::null(), vm, 0, d)
        }
        let p = (o as *const u8).add(Str::DATA_OFFSET - 1 + i as usize);
        if n != 1 {
            if n < 8 {
                tail!(tiny_piece, p as *const u32, base, std::ptr::null(), vm, 0, n as usize)
            }
            if n > SHORT_MAX as u32 {
                tail!(medium_piece, p as *const u32, base, std::ptr::null(), vm, 0, n as usize)
            }
            tail!(short_piece, p as *const u32, base, std::ptr::null(), vm, 0, n as usize)
        }
        let found = *(*vm).heap.one_byte.as_ptr().add(*p as usize);
        if found == 0 {
            tail!(piece, pc, base, std::ptr::null(), vm, 0, d)
        }
        one_result!(vm, base, Value(tag::bits(tag::STR) | found))
    }
}

/// Finds the piece of `d` bytes at `pc`.
macro_rules! found_piece {
    ($(#[$doc:meta])* $name:ident $find:ident) => {
        op! {
            $(#[$doc])*
            #[inline(never)]
            $name |pc, base, k, vm, a, d| {
                let found = $find(&raw const (*vm).heap, pc as *const u8, d);
                if found == 0 {
                    let pc = (*func_ptr(*base.sub(2))).pc.add(1);
                    tail!(piece, pc, base, std::ptr::null(), vm, 0, 4)
                }
                one_result!(vm, base, Value(tag::bits(tag::STR) | found))
            }
        }
    };
}
found_piece!(
    /// `STRSUB`: `d` bytes at `pc`, fewer than eight.
    tiny_piece find_tiny
);
found_piece!(
    /// `STRSUB`: `d` bytes at `pc`, from eight to `SHORT_MAX`.
    short_piece find_short
);
found_piece!(
    /// `STRSUB`: `d` bytes at `pc`, more than `SHORT_MAX`, at most twice as many.
    medium_piece find_medium
);

op! {
    /// `STRSUB` for all other pieces, and for strings that may not exist yet.
    #[inline(never)]
    piece |pc, base, k, vm, a, d| {
        let s = *base;
        if d < 3 || s.tag() != tag::STR || (*vm).heap.acct.due != 0 {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let o = s.payload() as *const Str;
        let i = int_or_leave!(base.add(1), pc, base, k, vm, a, d);
        let mut j = -1;
        if d >= 4 {
            j = int_or_leave!(base.add(2), pc, base, k, vm, a, d);
        }
        let (at, n) = range!(i, j, (*o).len);
        if n > SUB_MAX {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let n = if n < 0 { 0 } else { n as usize };
        let p = (o as *const u8).add(Str::DATA_OFFSET).wrapping_add(at as usize);
        let v = Value(substring(vm, p, n));
        one_result!(vm, base, v)
    }
}
/// Longer pieces ask for memory first.
const SUB_MAX: i64 = 4096;

/// The string of one byte.
#[inline(never)]
unsafe extern "C" fn one_byte(vm: *mut Vm, c: usize) -> u64 {
    // SAFETY: the handler holds no reference to the VM.
    unsafe { Value::obj((*vm).heap.str_intern(&[c as u8])).0 }
}

op! {
    /// `string.char(c)`.
    STRCHAR |pc, base, k, vm, a, d| {
        if d != 2 || (*vm).heap.acct.due != 0 {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let c = int_or_leave!(base, pc, base, k, vm, a, d);
        if !(0..256).contains(&c) {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let s = *(*vm).heap.one_byte.as_ptr().add(c as usize);
        if s == 0 {
            tail!(char_made, pc, base, k, vm, c as usize, d)
        }
        one_result!(vm, base, Value(tag::bits(tag::STR) | s))
    }
}
op! {
    /// The same with the code in `a`, of a string that may not exist yet.
    #[inline(never)]
    char_made |pc, base, k, vm, a, d| {
        let v = Value(one_byte(vm, a));
        one_result!(vm, base, v)
    }
}

/// Upvalues of `type`: the names by type index (`state::metatable`).
pub(crate) const TYPE_NAMES: usize = 14;

op! {
    /// `type(v)`: the names are the function's upvalues.
    TYPE |pc, base, k, vm, a, d| {
        if d < 2 || (*func_ptr(*base.sub(2))).hdr.aux as usize != TYPE_NAMES {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let v = *base;
        let i = if v.is_num() { TYPE_NAMES - 1 } else { !v.tag() as usize };
        one_result!(vm, base, *upvals(base).add(i))
    }
}

op! {
    /// `tonumber(n)` of a number.
    TONUMBER |pc, base, k, vm, a, d| {
        if d == 2 && is_num_in(base) {
            one_result!(vm, base, *base)
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

/// The text of a number.
#[inline(never)]
unsafe extern "C" fn number_text(vm: *mut Vm, n: Value) -> u64 {
    // SAFETY: the handler holds no reference to the VM.
    unsafe { Value::obj((*vm).tostring_raw(n)).0 }
}

op! {
    /// `tostring(v)` of strings and numbers.
    TOSTRING |pc, base, k, vm, a, d| {
        if d >= 2 {
            let v = *base;
            if v.tag() == tag::STR {
                one_result!(vm, base, v)
            }
            if v.is_num() && (*vm).base_meta[TYPE_NAMES - 1].is_none() && (*vm).heap.acct.due == 0 {
                let s = Value(number_text(vm, v));
                one_result!(vm, base, s)
            }
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

op! {
    /// `assert(v, ...)` of something true, as a statement.
    ASSERT |pc, base, k, vm, a, d| {
        let link = (*base.sub(1)).0;
        if d >= 2 && (*base).truthy() && wants(link, 0) {
            let base = base.sub(2).sub(*(link as *const u8).sub(3) as usize);
            let k = constants(base);
            next!(link as *const u32, base, k, vm)
        }
        tail!(assert_results, pc, base, k, vm, a, d)
    }
}
op! {
    /// The same where results are wanted.
    #[inline(never)]
    assert_results |pc, base, k, vm, a, d| {
        let link = (*base.sub(1)).0;
        if d >= 2 && (*base).truthy() && frame::is_lua(link) {
            results!(vm, base, link, 0, base, d - 1)
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

op! {
    /// `select(n, ...)` and `select('#', ...)`.
    SELECT |pc, base, k, vm, a, d| {
        if d >= 2 {
            let v = *base;
            if v.tag() == tag::STR {
                let o = v.payload() as *const Str;
                // An empty string has its NUL there.
                if *(o as *const u8).add(Str::DATA_OFFSET) == b'#' {
                    one_result!(vm, base, Value::num_trusted((d - 2) as f64))
                }
                tail!(any_native, pc, base, k, vm, a, d)
            }
            let i = int_or_leave!(base, pc, base, k, vm, a, d);
            let link = (*base.sub(1)).0;
            if i >= 1 && frame::is_lua(link) {
                let i = i as usize;
                let n = if d - 1 > i { d - 1 - i } else { 0 };
                let from = base.add(i);
                results!(vm, base, link, 0, from, n)
            }
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

/// `t[key]`, raw.
#[inline(never)]
unsafe extern "C" fn get_any(vm: *mut Vm, t: *mut Table, key: Value) -> u64 {
    // SAFETY: the handler holds no reference to the VM; a table's address is not null.
    unsafe { Gc::from_ptr(std::ptr::NonNull::new_unchecked(t)).getv(&(*vm).heap, key).0 }
}

op! {
    /// `rawget(t, key)`.
    RAWGET |pc, base, k, vm, a, d| {
        let t = *base;
        if d >= 3 && t.tag() == tag::TAB {
            let v = Value(get_any(vm, t.payload() as *mut Table, *base.add(1)));
            one_result!(vm, base, v)
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

op! {
    /// `getmetatable(t)` of a table.
    GETMETATABLE |pc, base, k, vm, a, d| {
        let v = *base;
        if d < 2 || v.tag() != tag::TAB {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let Some(mt) = (*(v.payload() as *const Table)).meta else { one_result!(vm, base, Value::NIL) };
        let n = node_str(mt.as_ptr(), Value::obj((*vm).mm_names[Mm::Metatable as usize]));
        if !n.is_null() && !(*n).val.is_nil() {
            one_result!(vm, base, (*n).val)
        }
        one_result!(vm, base, Value::obj(mt))
    }
}

op! {
    /// `setmetatable(t, mt)` of a table that has none.
    SETMETATABLE |pc, base, k, vm, a, d| {
        let (v, m) = (*base, *base.add(1));
        if d < 3 || v.tag() != tag::TAB || m.tag() != tag::TAB {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let t = v.payload() as *mut Table;
        if (*t).meta.is_some() {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        (*t).meta = Gc::from_addr(m.payload());
        if (*t).hdr.gc & gcbits::BLACK != 0 {
            barrier(vm, &raw mut (*t).hdr);
        }
        one_result!(vm, base, v)
    }
}

/// Returns three values that lie in the frame's function slot and above.
macro_rules! three_results {
    ($vm:ident, $base:ident, $link:ident, $x:expr, $y:expr, $z:expr) => {{
        *$base.sub(2) = $x;
        *$base.sub(1) = $y;
        *$base = $z;
        let base = $base.sub(2).sub(*($link as *const u8).sub(3) as usize);
        let k = constants(base);
        next!($link as *const u32, base, k, $vm)
    }};
}
/// Does the caller want so many values?
///
/// # Safety
/// `link` is a frame's link.
#[inline(always)]
unsafe fn wants(link: u64, n: u8) -> bool {
    // SAFETY: a Lua frame's link is the address behind its call instruction.
    unsafe { frame::is_lua(link) && *(link as *const u8).sub(1) == n + 1 }
}

op! {
    /// `pairs(t)` without `__pairs`, in a `for`.
    PAIRS |pc, base, k, vm, a, d| {
        let t = *base;
        let link = (*base.sub(1)).0;
        if d >= 2
            && t.tag() == tag::TAB
            && (!(*vm).compat52 || (*(t.payload() as *const Table)).meta.is_none())
            && wants(link, 3)
        {
            three_results!(vm, base, link, (*vm).next_func, t, Value::NIL)
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

op! {
    /// `ipairs(t)` without `__ipairs`, in a `for`. The iterator is its upvalue.
    IPAIRS |pc, base, k, vm, a, d| {
        let t = *base;
        let link = (*base.sub(1)).0;
        if d >= 2
            && t.tag() == tag::TAB
            && (!(*vm).compat52 || (*(t.payload() as *const Table)).meta.is_none())
            && wants(link, 3)
            && (*func_ptr(*base.sub(2))).hdr.aux == 1
        {
            three_results!(vm, base, link, *upvals(base), t, Value::num_trusted(0.0))
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}

op! {
    /// The iterator of `ipairs`, in a `for` of two variables over the array part.
    IPAIRSAUX |pc, base, k, vm, a, d| {
        let t = *base;
        let link = (*base.sub(1)).0;
        if d < 3 || t.tag() != tag::TAB || !wants(link, 2) {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let i = int_or_leave!(base.add(1), pc, base, k, vm, a, d) + 1;
        let t = t.payload() as *const Table;
        let (mut key, mut v) = (Value::NIL, Value::NIL);
        if (i as u64) < (*t).asize as u64 {
            v = *(*t).array.add(i as usize);
            if !v.is_nil() {
                key = Value::num_trusted(i as f64);
            }
        } else if (*t).hmask != 0 {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        *base.sub(2) = key;
        *base.sub(1) = v;
        let base = base.sub(2).sub(*(link as *const u8).sub(3) as usize);
        let k = constants(base);
        next!(link as *const u32, base, k, vm)
    }
}

/// The entry behind `key`, written to `out`: 1; at the end 0; for a key that the table does not have 2.
#[inline(never)]
unsafe extern "C" fn entry_behind(vm: *mut Vm, t: *mut Table, key: Value, out: *mut Value) -> usize {
    // SAFETY: the handler holds no reference to the VM; `out` has room for two values.
    unsafe {
        match Gc::from_ptr(std::ptr::NonNull::new_unchecked(t)).next(&(*vm).heap, key) {
            Ok(Some((k, v))) => {
                *out = k;
                *out.add(1) = v;
                1
            }
            Ok(None) => 0,
            Err(_) => 2,
        }
    }
}

op! {
    /// `next(t, key)`.
    NEXT |pc, base, k, vm, a, d| {
        let t = *base;
        let link = (*base.sub(1)).0;
        if d < 2 || t.tag() != tag::TAB || !frame::is_lua(link) {
            tail!(any_native, pc, base, k, vm, a, d)
        }
        let key = if d >= 3 { *base.add(1) } else { Value::NIL };
        let found = entry_behind(vm, t.payload() as *mut Table, key, base);
        if found == 1 {
            results!(vm, base, link, 0, base, 2)
        }
        if found == 0 {
            one_result!(vm, base, Value::NIL)
        }
        tail!(any_native, pc, base, k, vm, a, d)
    }
}
