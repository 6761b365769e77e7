//! C data in the interpreter's fast paths: elements and members that the ffi has described (`cdata::Shapes`), and arithmetic on
//! 64-bit integers. Everything else is asked of the ffi.

use super::dispatch::{next, op, tail};
use super::handlers::index::get_method;
use super::index::{get_slow, set_slow};
use crate::bytecode::ops::Mm;
use crate::cdata::{Cdata, Scalar, Where, ctid};
use crate::state::Vm;
use crate::value::{Value, tag};

/// Addresses below this are NULL and an offset: the ffi makes an error of them.
const NULL_PAGE_BYTES: usize = 4096;

/// The number cut to 64 bits; what does not fit gives the smallest integer, as on x86-64.
///
/// # Safety
/// None needed.
#[inline(always)]
unsafe fn cut(n: f64) -> i64 {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: SSE2 is part of the architecture.
    unsafe {
        use std::arch::x86_64::{_mm_cvttsd_si64, _mm_set_sd};
        _mm_cvttsd_si64(_mm_set_sd(n))
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    {
        if n >= -9223372036854775808.0 && n < 9223372036854775808.0 { n as i64 } else { i64::MIN }
    }
}

/// Where the elements or members of `$o`, an object whose shape `$s` is known, begin.
macro_rules! start {
    ($cd:expr, $s:expr) => {{
        let data = ($cd as *const u8).add((*$cd).offset as usize);
        if (*$s).at as u8 == Where::Inline as u8 { data as usize } else { *(data as *const usize) }
    }};
}

macro_rules! load {
    ($ty:ty, $p:expr, |$x:ident| $v:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident) => {{
        let $x = *($p as *const Unaligned<$ty>);
        let $x = $x.0;
        *$base.add($a) = $v;
        next!($pc, $base, $k, $vm)
    }};
}

/// A scalar anywhere in memory.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Reads the element `$e` at `$p` into register `$a`. Falls through for what needs an object.
macro_rules! read {
    ($e:expr, $p:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident) => {{
        let p: usize = $p;
        if p >= NULL_PAGE_BYTES {
            match (*$e).scalar {
                Scalar::F64 => load!(f64, p, |x| Value::num(x), $pc, $base, $k, $vm, $a),
                Scalar::I32 => load!(i32, p, |x| Value::num_trusted(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::U8 => load!(u8, p, |x| Value::num_trusted(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::U32 => load!(u32, p, |x| Value::num_trusted(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::F32 => load!(f32, p, |x| Value::num(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::I8 => load!(i8, p, |x| Value::num_trusted(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::I16 => load!(i16, p, |x| Value::num_trusted(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::U16 => load!(u16, p, |x| Value::num_trusted(x as f64), $pc, $base, $k, $vm, $a),
                Scalar::Bool => load!(u8, p, |x| Value::bool(x != 0), $pc, $base, $k, $vm, $a),
                Scalar::None | Scalar::I64 | Scalar::U64 | Scalar::Ptr | Scalar::Ref => {}
            }
        }
    }};
}

/// Writes the number in register `$a` to the element `$e` at `$p`. Falls through for everything else.
macro_rules! write_to {
    ($e:expr, $p:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let e: *const crate::cdata::Elem = $e;
        let p: usize = $p;
        let v = *$base.add($a);
        if v.is_num() && p >= NULL_PAGE_BYTES && !(*e).read_only {
            let n = v.num_unchecked();
            match (*e).scalar {
                Scalar::F64 => {
                    *(p as *mut Unaligned<f64>) = Unaligned(n);
                    next!($pc, $base, $k, $vm)
                }
                Scalar::I32 | Scalar::U32 => {
                    *(p as *mut Unaligned<i32>) = Unaligned(cut(n) as i32);
                    next!($pc, $base, $k, $vm)
                }
                Scalar::U8 | Scalar::I8 => {
                    *(p as *mut i8) = cut(n) as i8;
                    next!($pc, $base, $k, $vm)
                }
                Scalar::F32 => {
                    *(p as *mut Unaligned<f32>) = Unaligned(n as f32);
                    next!($pc, $base, $k, $vm)
                }
                Scalar::I16 | Scalar::U16 => {
                    *(p as *mut Unaligned<i16>) = Unaligned(cut(n) as i16);
                    next!($pc, $base, $k, $vm)
                }
                Scalar::I64 => {
                    *(p as *mut Unaligned<i64>) = Unaligned(cut(n));
                    next!($pc, $base, $k, $vm)
                }
                Scalar::None | Scalar::Bool | Scalar::U64 | Scalar::Ptr | Scalar::Ref => {}
            }
        }
    }};
}

macro_rules! get_by_number {
    ($o:ident, $i:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let cd = $o.payload() as *const Cdata;
        let s = (*$vm).cdata_shapes.indexed_at((*cd).hdr.aux);
        if (*s).at as u8 != Where::Unknown as u8 {
            let i: i64 = $i;
            let at = start!(cd, s).wrapping_add((i as usize).wrapping_mul((*s).elem.bytes as usize));
            read!(&raw const (*s).elem, at, $pc, $base, $k, $vm, $a)
        }
    }};
}

macro_rules! set_by_number {
    ($o:ident, $i:expr, $pc:ident, $base:ident, $k:ident, $vm:ident, $a:ident, $d:ident) => {{
        let cd = $o.payload() as *const Cdata;
        let s = (*$vm).cdata_shapes.indexed_at((*cd).hdr.aux);
        if (*s).at as u8 != Where::Unknown as u8 {
            let i: i64 = $i;
            let at = start!(cd, s).wrapping_add((i as usize).wrapping_mul((*s).elem.bytes as usize));
            write_to!(&raw const (*s).elem, at, $pc, $base, $k, $vm, $a, $d)
        }
    }};
}

op! {
    /// `TGETV` of something that is no table.
    #[inline(never)]
    get_other_v |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        let key = *base.add(d & 0xff);
        if o.tag() == tag::CDATA && key.is_num() {
            get_by_number!(o, cut(key.num_unchecked()), pc, base, k, vm, a, d)
        }
        tail!(get_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// `TGETB` of something that is no table.
    #[inline(never)]
    get_other_b |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        if o.tag() == tag::CDATA {
            get_by_number!(o, (d & 0xff) as i64, pc, base, k, vm, a, d)
        }
        tail!(get_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// `TGETS` of something that is no table.
    #[inline(never)]
    get_other_s |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        if o.tag() == tag::CDATA {
            let key = (*k.sub(1 + (d & 0xff))).0;
            let cd = o.payload() as *const Cdata;
            let id = (*cd).hdr.aux;
            let s = (*vm).cdata_shapes.named_at(id, key);
            if (*s).key == key && (*s).ctypeid == id {
                let at = start!(cd, s).wrapping_add((*s).elem.bytes as usize);
                read!(&raw const (*s).elem, at, pc, base, k, vm, a)
            }
            tail!(get_slow, pc, base, k, vm, a, d)
        }
        tail!(get_method, pc, base, k, vm, a, d)
    }
}
op! {
    /// `TSETV` to something that is no table.
    #[inline(never)]
    set_other_v |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        let key = *base.add(d & 0xff);
        if o.tag() == tag::CDATA && key.is_num() {
            set_by_number!(o, cut(key.num_unchecked()), pc, base, k, vm, a, d)
        }
        tail!(set_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// `TSETB` to something that is no table.
    #[inline(never)]
    set_other_b |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        if o.tag() == tag::CDATA {
            set_by_number!(o, (d & 0xff) as i64, pc, base, k, vm, a, d)
        }
        tail!(set_slow, pc, base, k, vm, a, d)
    }
}
op! {
    /// `TSETS` to something that is no table.
    #[inline(never)]
    set_other_s |pc, base, k, vm, a, d| {
        let o = *base.add(d >> 8);
        if o.tag() == tag::CDATA {
            let key = (*k.sub(1 + (d & 0xff))).0;
            let cd = o.payload() as *const Cdata;
            let id = (*cd).hdr.aux;
            let s = (*vm).cdata_shapes.named_at(id, key);
            if (*s).key == key && (*s).ctypeid == id {
                let at = start!(cd, s).wrapping_add((*s).elem.bytes as usize);
                write_to!(&raw const (*s).elem, at, pc, base, k, vm, a, d)
            }
        }
        tail!(set_slow, pc, base, k, vm, a, d)
    }
}

/// `o[key]` of an object whose shape is known, where an object has to be made of the element.
#[inline]
pub(crate) fn boxed(vm: &mut Vm, o: Value, key: Value) -> Option<Value> {
    let cd = o.as_obj::<Cdata>()?;
    let object = cd.get(&vm.heap);
    let (at, elem, index) = match key.as_num() {
        Some(n) => {
            let i = vm.cdata_shapes.indexed(object.ctypeid());
            // SAFETY: no precondition.
            (i.at, i.elem, unsafe { cut(n) })
        }
        None => {
            let n = vm.cdata_shapes.named(object.ctypeid(), key.0);
            (n.at, n.elem, 1)
        }
    };
    let data = object.data_ptr() as usize;
    let start = match at {
        Where::Unknown => return None,
        Where::Inline => data,
        // SAFETY: an object with such a shape is a pointer or reference: its payload is an address.
        Where::Behind => unsafe { *(data as *const usize) },
    };
    let p = start.wrapping_add((index as usize).wrapping_mul(elem.bytes as usize));
    if p < NULL_PAGE_BYTES {
        return None;
    }
    let word = match elem.scalar {
        Scalar::Ref => p as u64,
        // SAFETY: the program's pointers are trusted, as everywhere in the ffi; no alignment is assumed.
        Scalar::I64 | Scalar::U64 | Scalar::Ptr => unsafe { (p as *const u64).read_unaligned() },
        _ => return None,
    };
    Some(Value::obj(vm.heap.new_int64(elem.ctypeid, word)))
}

/// A number or an object of type `int64_t` or `uint64_t`.
#[derive(Clone, Copy)]
enum Wide {
    Num(f64),
    Int(u64, bool),
}

#[inline]
fn wide(vm: &Vm, v: Value) -> Option<Wide> {
    if let Some(n) = v.as_num() {
        return Some(Wide::Num(n));
    }
    let cd = v.as_obj::<Cdata>()?.get(&vm.heap);
    let id = cd.ctypeid();
    if id != ctid::INT64 && id != ctid::UINT64 {
        return None;
    }
    // SAFETY: an object of these types has eight bytes, aligned to eight.
    Some(Wide::Int(unsafe { *(cd.data_ptr() as *const u64) }, id == ctid::UINT64))
}

impl Wide {
    /// As 64 bits for an operation that is unsigned or not; `None` for what the ffi's rules decide.
    #[inline]
    fn bits(self, unsigned: bool) -> Option<u64> {
        match self {
            Wide::Int(v, _) => Some(v),
            // SAFETY: no precondition.
            Wide::Num(n) if !unsigned || n.abs() < 9223372036854775808.0 => Some(unsafe { cut(n) } as u64),
            Wide::Num(_) => None,
        }
    }
}

/// Both operands of an operation on 64-bit integers, at least one of which is one; and whether it is unsigned.
#[inline]
fn both(vm: &Vm, l: Value, r: Value) -> Option<(u64, u64, bool)> {
    let (x, y) = (wide(vm, l)?, wide(vm, r)?);
    let unsigned = matches!(x, Wide::Int(_, true)) || matches!(y, Wide::Int(_, true));
    Some((x.bits(unsigned)?, y.bits(unsigned)?, unsigned))
}

/// Sums, differences and products of 64-bit integers; `None` for everything else.
#[inline]
pub(crate) fn int64_arith(vm: &mut Vm, mm: Mm, l: Value, r: Value) -> Option<Value> {
    let (x, y, unsigned) = both(vm, l, r)?;
    let n = match mm {
        Mm::Add => x.wrapping_add(y),
        Mm::Sub => x.wrapping_sub(y),
        Mm::Mul => x.wrapping_mul(y),
        _ => return None,
    };
    Some(Value::obj(vm.heap.new_int64(if unsigned { ctid::UINT64 } else { ctid::INT64 }, n)))
}

/// `l < r`, `l <= r`, `l == r` of 64-bit integers; `None` for everything else.
#[inline]
pub(crate) fn int64_compare(vm: &Vm, mm: Mm, l: Value, r: Value) -> Option<bool> {
    let (x, y, unsigned) = both(vm, l, r)?;
    let (sx, sy) = (x as i64, y as i64);
    Some(match mm {
        Mm::Eq => x == y,
        Mm::Lt => {
            if unsigned {
                x < y
            } else {
                sx < sy
            }
        }
        _ => {
            if unsigned {
                x <= y
            } else {
                sx <= sy
            }
        }
    })
}
