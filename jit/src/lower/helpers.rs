//! THE table of runtime helpers: functions that machine code calls. None of them raises, yields or collects;
//! one that cannot do its work answers null or a status, and the trace leaves through its exit to let the
//! interpreter do the operation again.

use crate::ir::ins::native;
use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::cell::header::Header;
use moonlit_vm::heap::Heap;
use moonlit_vm::raw;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

/// Machine types of helper arguments and results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// Double.
    Num,
    /// 32-bit integer.
    Int,
    /// Pointer or 64-bit word.
    Ptr,
    /// Address of the scratch words: supplied by the code generator.
    Scratch,
    /// The heap of the VM: supplied by the code generator, not by the IR.
    Heap,
}

/// Expands the table: calls `$m!` with all rows.
macro_rules! for_each_helper {
    ($m:ident) => {
        $m! {
            /// `a ^ b`
            Pow (Num, Num) Num = pow;
            /// `a * 2^b`
            Ldexp (Num, Num) Num = ldexp;
            /// Natural logarithm.
            Log (Num) Num = log;
            /// Base-2 logarithm.
            Log2 (Num) Num = log2;
            /// Exponential.
            Exp (Num) Num = exp;
            /// Sine.
            Sin (Num) Num = sin;
            /// Cosine.
            Cos (Num) Num = cos;
            /// Tangent.
            Tan (Num) Num = tan;
            /// Base-10 logarithm.
            Log10 (Num) Num = log10;
            /// Arc sine.
            Asin (Num) Num = asin;
            /// Arc cosine.
            Acos (Num) Num = acos;
            /// Arc tangent.
            Atan (Num) Num = atan;
            /// Hyperbolic sine.
            Sinh (Num) Num = sinh;
            /// Hyperbolic cosine.
            Cosh (Num) Num = cosh;
            /// Hyperbolic tangent.
            Tanh (Num) Num = tanh;
            /// Arc tangent of `a / b`.
            Atan2 (Num, Num) Num = atan2;
            /// C's remainder.
            Fmod (Num, Num) Num = fmod;
            /// Barrier of a black object that was written to.
            BarrierBack (Heap, Ptr) Nothing = barrier_back;
            /// New table: array slots, log2 of the hash size (0 none).
            TabNew (Heap, Int, Int) Ptr = tab_new;
            /// Copy of a template table.
            TabDup (Heap, Ptr) Ptr = tab_dup;
            /// Length of a table.
            TabLen (Ptr) Int = tab_len;
            /// Length of a table, tried first at a position where it probably is.
            TabLenHint (Ptr, Int) Int = tab_len_hint;
            /// Next entry of a table from a position on: key and value go to the scratch words; the position
            /// behind it, or -1 at the end.
            TabNext (Scratch, Ptr, Int) Int = tab_next;
            /// Slot of a boxed key in a table, or the nil node's.
            TabFind (Heap, Ptr, Ptr) Ptr = tab_find;
            /// Slot of a new key in a table; null when the table cannot grow.
            TabNewKey (Heap, Ptr, Ptr) Ptr = tab_new_key;
            /// Makes room for array slots below the given one; 0 when the table cannot grow.
            TabReserve (Heap, Ptr, Int) Int = tab_reserve;
            /// String from bytes; the length is at most a long string's.
            StrNew (Heap, Ptr, Int) Ptr = str_new;
            /// Equality of two strings by content.
            StrEq (Ptr, Ptr) Int = str_eq;
            /// Three-way comparison of two strings.
            StrCmp (Ptr, Ptr) Int = str_cmp;
            /// Concatenation of two strings; null when it would be too long.
            StrCat (Heap, Ptr, Ptr) Ptr = str_cat;
            /// Concatenation of boxed strings and numbers: VM, where they lie, how many. Null when it would be too long.
            StrJoin (Ptr, Ptr, Int) Ptr = str_join;
            /// String of a number.
            NumToStr (Heap, Num) Ptr = num_to_str;
            /// String of one character.
            StrChar (Heap, Int) Ptr = str_char;
            /// Calls the library function whose frame, with its arguments, is on the stack: VM, base, counts. The number of
            /// results, which are where the frame was; -1 if the interpreter has to do the call.
            CallNative (Ptr, Ptr, Int) Int = call_native;
            /// C data of a type with eight bytes of payload.
            CdataNew8 (Heap, Int, Ptr) Ptr = cdata_new8;
            /// Zero-filled C data of a type and size; null when there is no memory for it.
            CdataNew (Heap, Int, Ptr) Ptr = cdata_new;
            /// Copies bytes: to, from, count.
            MemCopy (Ptr, Ptr, Ptr) Nothing = mem_copy;
            /// Sets bytes: where, count, byte.
            MemFill (Ptr, Ptr, Int) Nothing = mem_fill;
            /// String from memory: address, length; null when it would be too long.
            StrOfMem (Heap, Ptr, Ptr) Ptr = str_of_mem;
            /// Length of a zero-terminated string.
            StrLen (Ptr) Ptr = str_len;
            /// Signed 64-bit division; by zero the most negative integer.
            DivI64 (Ptr, Ptr) Ptr = div_i64;
            /// Signed 64-bit remainder.
            ModI64 (Ptr, Ptr) Ptr = mod_i64;
            /// Unsigned 64-bit division; by zero 2^63.
            DivU64 (Ptr, Ptr) Ptr = div_u64;
            /// Unsigned 64-bit remainder.
            ModU64 (Ptr, Ptr) Ptr = mod_u64;
        }
    };
}

macro_rules! arg_of {
    (Nothing) => {
        None
    };
    ($t:ident) => {
        Some(Arg::$t)
    };
}

macro_rules! define_helpers {
    ($($(#[$doc:meta])* $name:ident ($($a:ident),*) $r:ident = $f:ident;)*) => {
        /// A runtime helper.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u16)]
        pub enum Helper { $($(#[$doc])* $name,)* }

        impl Helper {
            /// All helpers, in order.
            pub const ALL: &'static [Helper] = &[$(Helper::$name,)*];

            /// Argument types.
            pub const fn args(self) -> &'static [Arg] {
                match self { $(Helper::$name => &[$(Arg::$a),*],)* }
            }

            /// Result type.
            pub const fn ret(self) -> Option<Arg> {
                match self { $(Helper::$name => arg_of!($r),)* }
            }

            /// Address of the function.
            pub fn address(self) -> usize {
                match self { $(Helper::$name => $f as *const () as usize,)* }
            }

            /// Name in dumps.
            pub const fn name(self) -> &'static str {
                match self { $(Helper::$name => stringify!($f),)* }
            }
        }
    };
}
for_each_helper!(define_helpers);

macro_rules! math {
    ($($name:ident($($a:ident),+) = $e:expr;)*) => {
        $(extern "C" fn $name($($a: f64),+) -> f64 { $e })*
    };
}
math! {
    pow(a, b) = a.powf(b);
    ldexp(a, b) = a * 2f64.powi(b as i32);
    log(a) = a.ln();
    log2(a) = a.log2();
    exp(a) = a.exp();
    sin(a) = a.sin();
    cos(a) = a.cos();
    tan(a) = a.tan();
    log10(a) = a.log10();
    asin(a) = a.asin();
    acos(a) = a.acos();
    atan(a) = a.atan();
    sinh(a) = a.sinh();
    cosh(a) = a.cosh();
    tanh(a) = a.tanh();
    atan2(a, b) = a.atan2(b);
    fmod(a, b) = a % b;
}

fn handle<T>(p: *mut T) -> Gc<T> {
    Gc::from_addr(p as u64).expect("machine code passes objects it has loaded and type-checked")
}

extern "C" fn barrier_back(heap: *mut Heap, o: *mut Header) {
    // SAFETY: `heap` is the address of the VM's heap that the code was generated with; the VM is suspended in
    // the call into machine code, so nothing else borrows it.
    unsafe { (*heap).barrier_back(handle(o)) }
}

extern "C" fn tab_new(heap: *mut Heap, asize: i32, hbits: i32) -> *mut Table {
    // SAFETY: as in `barrier_back`. The sizes come from a TNEW instruction and are small.
    unsafe { (*heap).new_table(asize as u32, hbits as u32).as_ptr() }
}

extern "C" fn tab_dup(heap: *mut Heap, src: *mut Table) -> *mut Table {
    // SAFETY: as in `barrier_back`; the template is a constant of a live prototype.
    unsafe { (*heap).dup_table(handle(src)).as_ptr() }
}

extern "C" fn tab_len(t: *mut Table) -> i32 {
    // SAFETY: machine code passes a live table, and only reads happen here.
    unsafe { (*t).len() as i32 }
}

extern "C" fn tab_len_hint(t: *mut Table, hint: i32) -> i32 {
    // SAFETY: machine code passes a live table, and only reads happen here.
    let t = unsafe { &*t };
    let a = t.array();
    let h = hint as u32 as usize;
    // The plain search starts at the array's end: a border in the middle is its answer only if the end is nil.
    if h > 0 && h + 1 < a.len() && !a[h].is_nil() && a[h + 1].is_nil() && a[a.len() - 1].is_nil() {
        return hint;
    }
    t.len() as i32
}

extern "C" fn tab_next(out: *mut [u64; 2], t: *mut Table, at: i32) -> i32 {
    // SAFETY: `out` are the scratch words of the VM's exit buffer; `t` is a live table that is only read.
    unsafe {
        match (*t).next_at(at as u32) {
            Some((next, k, v)) => {
                *out = [k.0, v.0];
                next as i32
            }
            None => -1,
        }
    }
}

extern "C" fn tab_find(heap: *mut Heap, t: *mut Table, key: u64) -> *mut Value {
    // SAFETY: as in `barrier_back`; `t` is a live table.
    unsafe {
        let mut key = Value(key);
        if let Some(s) = key.as_obj::<Str>() {
            match (*heap).str_key_find(s) {
                Some(s) => key = Value::obj(s),
                None => return (*heap).nil_node_ptr() as *mut Value,
            }
        }
        let p = (*t).find(key);
        if p.is_null() { (*heap).nil_node_ptr() as *mut Value } else { p }
    }
}

extern "C" fn tab_new_key(heap: *mut Heap, t: *mut Table, key: u64) -> *mut Value {
    // SAFETY: as in `barrier_back`; `t` is a live table. The stored value follows at once, in machine code.
    unsafe {
        (*t).hdr.flags = 0;
        (*heap).slot_for_set(handle(t), Value(key)).unwrap_or(std::ptr::null_mut())
    }
}

extern "C" fn tab_reserve(heap: *mut Heap, t: *mut Table, end: i32) -> i32 {
    // SAFETY: as in `barrier_back`; `t` is a live table.
    unsafe { handle(t).reserve_array(&mut *heap, end as u32).is_ok() as i32 }
}

extern "C" fn str_new(heap: *mut Heap, p: *const u8, len: i32) -> *mut Str {
    // SAFETY: machine code has checked that `p` and `len` lie within a live string.
    unsafe { (*heap).str(std::slice::from_raw_parts(p, len as usize)).as_ptr() }
}

extern "C" fn str_eq(a: *mut Str, b: *mut Str) -> i32 {
    // SAFETY: both are live strings; they are only read.
    unsafe { (a == b || (*a).bytes() == (*b).bytes()) as i32 }
}

extern "C" fn str_cmp(a: *mut Str, b: *mut Str) -> i32 {
    // SAFETY: both are live strings; they are only read.
    unsafe { (*a).bytes().cmp((*b).bytes()) as i32 }
}

extern "C" fn str_cat(heap: *mut Heap, a: *mut Str, b: *mut Str) -> *mut Str {
    // SAFETY: as in `barrier_back`; both strings are live.
    unsafe {
        let (x, y) = ((*a).bytes(), (*b).bytes());
        let n = x.len() + y.len();
        if n > moonlit_vm::limits::STR_LEN_MAX || (n > 1 << 16 && (*heap).may_alloc(n).is_err()) {
            return std::ptr::null_mut();
        }
        let mut small = [0u8; 256];
        if n <= small.len() {
            small[..x.len()].copy_from_slice(x);
            small[x.len()..n].copy_from_slice(y);
            return (*heap).str(&small[..n]).as_ptr();
        }
        (*heap).str(&[x, y].concat()).as_ptr()
    }
}

extern "C" fn str_join(vm: *mut Vm, parts: *const Value, n: i32) -> *mut Str {
    // SAFETY: the VM is suspended in the call into machine code, which has just written `n` values, live strings and numbers,
    // to the exit buffer.
    let joined = unsafe { raw::join_from_trace(&mut *vm, std::slice::from_raw_parts(parts, n as usize)) };
    joined.map_or(std::ptr::null_mut(), |s| s.as_ptr())
}

extern "C" fn num_to_str(heap: *mut Heap, n: f64) -> *mut Str {
    // SAFETY: as in `barrier_back`.
    unsafe { (*heap).str(&moonlit_vm::value::number::to_text(n)).as_ptr() }
}

extern "C" fn str_char(heap: *mut Heap, c: i32) -> *mut Str {
    // SAFETY: as in `barrier_back`.
    unsafe { (*heap).str(&[c as u8]).as_ptr() }
}

extern "C" fn call_native(vm: *mut Vm, base: *mut Value, counts: i32) -> i32 {
    let counts = counts as u16;
    let args = usize::from(counts & native::ARGS);
    let results = usize::from(counts >> native::RESULTS_AT & native::RESULTS_MAX);
    // SAFETY: the VM is suspended in the call into machine code, which has written the frames to the stack, the function's
    // among them.
    let got = unsafe { raw::call_from_trace(&mut *vm, base, args, results, counts & native::EXACT != 0) };
    got.map_or(-1, |n| n as i32)
}

extern "C" fn cdata_new8(heap: *mut Heap, id: i32, word: u64) -> *mut Cdata {
    // SAFETY: as in `barrier_back`.
    unsafe { (*heap).new_int64(id as u32, word).as_ptr() }
}

extern "C" fn cdata_new(heap: *mut Heap, id: i32, size: u64) -> *mut Cdata {
    // SAFETY: as in `barrier_back`.
    unsafe {
        if size >= 1 << 31 || (size > 1 << 16 && (*heap).may_alloc(size as usize).is_err()) {
            return std::ptr::null_mut();
        }
        (*heap).new_cdata(id as u32, size as usize, 16).as_ptr()
    }
}

extern "C" fn mem_copy(to: *mut u8, from: *const u8, bytes: usize) {
    // SAFETY: the program's pointers and sizes are trusted, as everywhere in the ffi.
    unsafe { std::ptr::copy(from, to, bytes) }
}

extern "C" fn mem_fill(to: *mut u8, bytes: usize, byte: i32) {
    // SAFETY: as in `mem_copy`.
    unsafe { std::ptr::write_bytes(to, byte as u8, bytes) }
}

extern "C" fn str_of_mem(heap: *mut Heap, p: *const u8, bytes: usize) -> *mut Str {
    // SAFETY: as in `barrier_back`; the program's pointers and sizes are trusted, as everywhere in the ffi.
    unsafe {
        if bytes > moonlit_vm::limits::STR_LEN_MAX || (*heap).may_alloc(bytes).is_err() {
            return std::ptr::null_mut();
        }
        let bytes = if bytes == 0 { &[][..] } else { std::slice::from_raw_parts(p, bytes) };
        (*heap).str(bytes).as_ptr()
    }
}

extern "C" fn str_len(p: *const libc::c_char) -> usize {
    // SAFETY: the program's pointers are trusted, as everywhere in the ffi.
    unsafe { libc::strlen(p) }
}

extern "C" fn div_i64(a: i64, b: i64) -> i64 {
    if b == 0 { i64::MIN } else { a.wrapping_div(b) }
}

extern "C" fn mod_i64(a: i64, b: i64) -> i64 {
    if b == 0 { i64::MIN } else { a.wrapping_rem(b) }
}

extern "C" fn div_u64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(1 << 63)
}

extern "C" fn mod_u64(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(1 << 63)
}
