//! The bit library: 32-bit operations with signed results; 64-bit ones on integer C data.

use super::new_string;
use crate::interp::handlers::builtin as fast;
use crate::state::native::{
    Effect, Entry, NativeFn, NativeResult, NativeRow, Outcome, Raised, SigType, Takes, TypedSig,
};
use crate::state::{Handler, Vm};
use crate::value::{Value, number, tag};

const fn row(name: &'static str, f: NativeFn, sig: TypedSig, fast: Handler) -> NativeRow {
    NativeRow::new(name, f).with_sig(sig).with_fast(fast)
}

const fn unary(f: extern "C" fn(i32) -> i32) -> TypedSig {
    TypedSig { args: &[SigType::Int], ret: SigType::Int, effect: Effect::Pure, addr: f as *const () }
}

const fn binary(f: extern "C" fn(i32, i32) -> i32) -> TypedSig {
    TypedSig {
        args: &[SigType::Int, SigType::Int],
        ret: SigType::Int,
        effect: Effect::Pure,
        addr: f as *const (),
    }
}

/// Functions of this library.
pub const FNS: &[NativeRow] = &[
    row("bit.arshift", arshift, binary(arshift32), fast::ARSHIFT),
    row("bit.band", band, binary(band32), fast::BITAND),
    row("bit.bnot", bnot, unary(bnot32), fast::BITNOT),
    row("bit.bor", bor, binary(bor32), fast::BITOR),
    row("bit.bswap", bswap, unary(bswap32), fast::BSWAP),
    row("bit.bxor", bxor, binary(bxor32), fast::BITXOR),
    row("bit.lshift", lshift, binary(lshift32), fast::LSHIFT),
    row("bit.rol", rol, binary(rol32), fast::ROL),
    row("bit.ror", ror, binary(ror32), fast::ROR),
    row("bit.rshift", rshift, binary(rshift32), fast::RSHIFT),
    row("bit.tobit", tobit, unary(tobit32), fast::TOBIT),
    NativeRow::new("bit.tohex", tohex).plain(Takes::Values),
];

/// Opens the library.
pub fn open(vm: &mut Vm) {
    super::new_library(vm, "bit", FNS);
}

extern "C" fn arshift32(a: i32, n: i32) -> i32 {
    a >> (n & 31)
}
extern "C" fn band32(a: i32, b: i32) -> i32 {
    a & b
}
extern "C" fn bnot32(a: i32) -> i32 {
    !a
}
extern "C" fn bor32(a: i32, b: i32) -> i32 {
    a | b
}
extern "C" fn bswap32(a: i32) -> i32 {
    a.swap_bytes()
}
extern "C" fn bxor32(a: i32, b: i32) -> i32 {
    a ^ b
}
extern "C" fn lshift32(a: i32, n: i32) -> i32 {
    ((a as u32) << (n & 31)) as i32
}
extern "C" fn rol32(a: i32, n: i32) -> i32 {
    a.rotate_left(n as u32 & 31)
}
extern "C" fn ror32(a: i32, n: i32) -> i32 {
    a.rotate_right(n as u32 & 31)
}
extern "C" fn rshift32(a: i32, n: i32) -> i32 {
    (a as u32 >> (n & 31)) as i32
}
extern "C" fn tobit32(a: i32) -> i32 {
    a
}

/// An operand: a number, or 64 bits of C data and whether they are unsigned.
#[derive(Clone, Copy)]
enum Operand {
    Number(f64),
    Wide(u64, bool),
}

impl Operand {
    /// The low 32 bits.
    fn narrow(self) -> i32 {
        match self {
            Operand::Number(n) => number::to_bit(n),
            Operand::Wide(b, _) => b as i32,
        }
    }

    /// 64 bits: beside C data a number counts with all its bits, cut towards zero.
    fn wide(self) -> u64 {
        match self {
            Operand::Number(n) => match n >= -9223372036854775808.0 && n < 9223372036854775808.0 {
                true => n as i64 as u64,
                false => i64::MIN as u64,
            },
            Operand::Wide(b, _) => b,
        }
    }
}

fn operand(vm: &mut Vm, i: usize) -> Result<Operand, Raised> {
    let v = vm.arg(i);
    if v.tag() == tag::CDATA
        && let Some(hooks) = vm.cdata.as_ref()
    {
        return match hooks.to_bits64(vm, v) {
            Some((bits, unsigned)) => Ok(Operand::Wide(bits, unsigned)),
            None => {
                let text = [b"cannot convert '", &hooks.type_name(vm, v)[..], b"' to 'int64_t'"].concat();
                Err(vm.arg_error(i, &text))
            }
        };
    }
    vm.check_num(i).map(Operand::Number)
}

/// A 64-bit result as C data.
fn wide_result(vm: &mut Vm, bits: u64, unsigned: bool) -> NativeResult {
    match vm.cdata.is_some() {
        true => {
            let id = if unsigned { crate::cdata::ctid::UINT64 } else { crate::cdata::ctid::INT64 };
            let cd = vm.heap.new_int64(id, bits);
            Ok(Outcome::one(Value::obj(cd)))
        }
        false => Err(vm.throw_plain(b"64-bit bit operations need the ffi library")),
    }
}

fn one(vm: &mut Vm, narrow: fn(i32) -> i32, wide: fn(u64) -> u64) -> NativeResult {
    match operand(vm, 0)? {
        a @ Operand::Number(_) => Ok(Outcome::one(Value::int(narrow(a.narrow())))),
        Operand::Wide(a, u) => wide_result(vm, wide(a), u),
    }
}

fn fold(vm: &mut Vm, e: Entry, narrow: fn(i32, i32) -> i32, wide: fn(u64, u64) -> u64) -> NativeResult {
    let first = operand(vm, 0)?;
    let mut acc = first.narrow();
    let mut unsigned = None;
    for i in 0..e.count() {
        let b = operand(vm, i)?;
        if let Operand::Wide(_, u) = b {
            unsigned = Some(unsigned == Some(true) || u);
        } else if i > 0 {
            acc = narrow(acc, b.narrow());
        }
    }
    let Some(unsigned) = unsigned else { return Ok(Outcome::one(Value::int(acc))) };
    let mut acc = first.wide();
    for i in 1..e.count() {
        acc = wide(acc, operand(vm, i)?.wide());
    }
    wide_result(vm, acc, unsigned)
}

fn shift(vm: &mut Vm, narrow: fn(i32, i32) -> i32, wide: fn(u64, u32) -> u64) -> NativeResult {
    let a = operand(vm, 0)?;
    let n = operand(vm, 1)?.narrow();
    match a {
        Operand::Number(_) => Ok(Outcome::one(Value::int(narrow(a.narrow(), n)))),
        Operand::Wide(a, u) => wide_result(vm, wide(a, n as u32 & 63), u),
    }
}

/// `bit.tobit(x)`: the low 32 bits as a signed number.
fn tobit(vm: &mut Vm, _: Entry) -> NativeResult {
    Ok(Outcome::one(Value::int(operand(vm, 0)?.narrow())))
}

/// `bit.bnot(x)`.
fn bnot(vm: &mut Vm, _: Entry) -> NativeResult {
    one(vm, |a| !a, |a| !a)
}

/// `bit.bswap(x)`.
fn bswap(vm: &mut Vm, _: Entry) -> NativeResult {
    one(vm, i32::swap_bytes, u64::swap_bytes)
}

/// `bit.band(x, ...)`.
fn band(vm: &mut Vm, e: Entry) -> NativeResult {
    fold(vm, e, |a, b| a & b, |a, b| a & b)
}

/// `bit.bor(x, ...)`.
fn bor(vm: &mut Vm, e: Entry) -> NativeResult {
    fold(vm, e, |a, b| a | b, |a, b| a | b)
}

/// `bit.bxor(x, ...)`.
fn bxor(vm: &mut Vm, e: Entry) -> NativeResult {
    fold(vm, e, |a, b| a ^ b, |a, b| a ^ b)
}

/// `bit.lshift(x, n)`.
fn lshift(vm: &mut Vm, _: Entry) -> NativeResult {
    shift(vm, |a, n| lshift32(a, n), |a, n| a << n)
}

/// `bit.rshift(x, n)`: fills with zeros.
fn rshift(vm: &mut Vm, _: Entry) -> NativeResult {
    shift(vm, |a, n| rshift32(a, n), |a, n| a >> n)
}

/// `bit.arshift(x, n)`: fills with the sign.
fn arshift(vm: &mut Vm, _: Entry) -> NativeResult {
    shift(vm, |a, n| arshift32(a, n), |a, n| (a as i64 >> n) as u64)
}

/// `bit.rol(x, n)`.
fn rol(vm: &mut Vm, _: Entry) -> NativeResult {
    shift(vm, |a, n| rol32(a, n), u64::rotate_left)
}

/// `bit.ror(x, n)`.
fn ror(vm: &mut Vm, _: Entry) -> NativeResult {
    shift(vm, |a, n| ror32(a, n), u64::rotate_right)
}

/// `bit.tohex(x, n)`: the `n` (default 8, or 16 for 64-bit data) lowest hex digits; upper case if `n` < 0.
fn tohex(vm: &mut Vm, _: Entry) -> NativeResult {
    let a = operand(vm, 0)?;
    let (bits, digits) = match a {
        Operand::Number(_) => (a.narrow() as u32 as u64, 8),
        Operand::Wide(b, _) => (b, 16),
    };
    let n = if vm.arg_opt(1).is_none() { digits } else { operand(vm, 1)?.narrow() };
    let letters = if n < 0 { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
    let len = n.unsigned_abs().min(254) as usize;
    let out: Vec<u8> = (0..len)
        .rev()
        .map(|i| if i < 16 { letters[(bits >> (4 * i) & 15) as usize] } else { b'0' })
        .collect();
    Ok(Outcome::one(new_string(vm, &out)?))
}
