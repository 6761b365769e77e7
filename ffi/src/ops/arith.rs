//! Arithmetic and comparison: 64-bit integers and pointers.
//!
//! An operation on numbers is done with unsigned 64-bit integers if one of them is such, else with signed ones.

use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::value::Value;

use crate::cdata::access::{self, Scalar};
use crate::cdata::{as_cdata, new_pointer, new_scalar, place, raw_place};
use crate::convert::{compatible_pointees, num_to_i64, num_to_u64};
use crate::ctype::name::type_name;
use crate::ctype::{CTypeId, CTypeTable, Kind};
use crate::state::Ffi;

/// One side of an operation.
#[derive(Clone, Copy, Debug)]
enum Operand {
    /// A number; the flag tells an unsigned 64-bit integer.
    Number(Scalar, bool),
    /// An address and what is there.
    Pointer(usize, CTypeId),
    /// Anything else.
    Other,
}

/// The result of an operation.
pub enum Outcome {
    /// Done.
    Value(Value),
    /// Not an operation on C data as such: a metatype may know, else [`refusal`] is the error (equality is never one).
    Meta,
}

fn operand(vm: &Vm, types: &CTypeTable, v: Value, other: Value) -> Operand {
    if let Some(n) = v.as_num() {
        return Operand::Number(Scalar::Float(n), false);
    }
    if let Some(cd) = as_cdata(v) {
        let p = place(vm, types, cd);
        if access::is_null(p.addr) && !matches!(types.kind(p.ty), Kind::Array { .. }) {
            return Operand::Other;
        }
        let ty = match types.enumeration(p.ty) {
            // Type objects too: equal types compare equal.
            Some(e) => e.base,
            None => p.ty,
        };
        return match types.kind(ty) {
            Kind::Ptr { to, bytes } => Operand::Pointer(access::load_pointer(p.addr, bytes), to),
            Kind::Func(_) => Operand::Pointer(access::load_pointer(p.addr, 8), ty),
            Kind::Array { elem, .. } => Operand::Pointer(p.addr, elem),
            kind => match access::load_scalar(kind, p.addr) {
                Some(s) => Operand::Number(s, kind == Kind::Int { bytes: 8, unsigned: true }),
                None => Operand::Other,
            },
        };
    }
    if v.is_nil() {
        return Operand::Pointer(0, CTypeId::VOID);
    }
    if let Some(s) = v.as_obj::<Str>() {
        // The name of a member of the other side's enum.
        if let Some(e) = as_cdata(other).and_then(|cd| types.enumeration(place(vm, types, cd).ty))
            && let Some(&value) = e.consts.get(s.bytes(&vm.heap))
        {
            return Operand::Number(Scalar::Int(value), false);
        }
    }
    Operand::Other
}

fn to_bits(s: Scalar, unsigned: bool) -> u64 {
    match s {
        Scalar::Int(v) => v as u64,
        Scalar::Uint(v) => v,
        Scalar::Float(n) if unsigned => num_to_u64(n),
        Scalar::Float(n) => num_to_i64(n) as u64,
    }
}

/// Signed division; by zero the most negative integer.
pub fn div_i64(a: i64, b: i64) -> i64 {
    if b == 0 { i64::MIN } else { a.wrapping_div(b) }
}

/// Signed remainder with the sign of the dividend; by zero the most negative integer.
pub fn mod_i64(a: i64, b: i64) -> i64 {
    if b == 0 { i64::MIN } else { a.wrapping_rem(b) }
}

/// Unsigned division; by zero 2^63.
pub fn div_u64(a: u64, b: u64) -> u64 {
    a.checked_div(b).unwrap_or(1 << 63)
}

/// Unsigned remainder; by zero 2^63.
pub fn mod_u64(a: u64, b: u64) -> u64 {
    a.checked_rem(b).unwrap_or(1 << 63)
}

/// `a ^ b` modulo 2^64.
pub fn pow_u64(a: u64, b: u64) -> u64 {
    let (mut base, mut exponent, mut result) = (a, b, 1u64);
    while exponent != 0 {
        if exponent & 1 != 0 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// `a ^ b` of signed integers: a negative exponent gives 0 except for bases 1 and -1, and the largest integer for base 0.
pub fn pow_i64(a: i64, b: i64) -> i64 {
    if b >= 0 {
        return pow_u64(a as u64, b as u64) as i64;
    }
    match a {
        0 => i64::MAX,
        1 => 1,
        -1 => 1 - 2 * (b & 1),
        _ => 0,
    }
}

/// Applies `mm` to two values of which at least one is C data.
pub fn apply(vm: &mut Vm, ffi: &Ffi, mm: Mm, a: Value, b: Value) -> Outcome {
    let types = ffi.types.borrow();
    // Of structs only a metatype knows.
    let is_record = |v: Value| {
        as_cdata(v).is_some_and(|cd| match types.kind(raw_place(vm, cd).ty) {
            Kind::Record(_) => true,
            Kind::Ref { to } => matches!(types.kind(to), Kind::Record(_)),
            _ => false,
        })
    };
    if is_record(a) || is_record(b) {
        return Outcome::Meta;
    }
    if !matches!(mm, Mm::Len | Mm::Concat) {
        let x = operand(vm, &types, a, b);
        let y = operand(vm, &types, b, a);
        match (x, y) {
            (Operand::Number(x, ux), Operand::Number(y, uy)) => {
                let unsigned = ux || uy;
                return numbers(vm, mm, to_bits(x, unsigned), to_bits(y, unsigned), unsigned);
            }
            (Operand::Pointer(p, to), Operand::Pointer(q, other)) => {
                if let Some(v) = two_pointers(&types, mm, (p, to), (q, other)) {
                    return Outcome::Value(v);
                }
            }
            (Operand::Pointer(p, to), Operand::Number(n, _)) if matches!(mm, Mm::Add | Mm::Sub) => {
                let n = to_bits(n, false);
                let n = if mm == Mm::Sub { n.wrapping_neg() } else { n };
                if let Some(size) = types.size(to) {
                    drop(types);
                    return moved(vm, ffi, p, to, n, size);
                }
            }
            (Operand::Number(n, _), Operand::Pointer(p, to)) if mm == Mm::Add => {
                if let Some(size) = types.size(to) {
                    drop(types);
                    return moved(vm, ffi, p, to, to_bits(n, false), size);
                }
            }
            _ => {}
        }
    }
    Outcome::Meta
}

fn moved(vm: &mut Vm, ffi: &Ffi, p: usize, to: CTypeId, n: u64, size: u32) -> Outcome {
    let address = p.wrapping_add((n as usize).wrapping_mul(size as usize));
    let known = ffi.types.borrow().known_ptr(to);
    let ty = known.unwrap_or_else(|| ffi.types.borrow_mut().ptr_to(to));
    Outcome::Value(new_pointer(vm, ty, address))
}

fn two_pointers(
    types: &CTypeTable,
    mm: Mm,
    (p, to): (usize, CTypeId),
    (q, other): (usize, CTypeId),
) -> Option<Value> {
    if mm == Mm::Eq {
        return Some(Value::bool(p == q));
    }
    if !matches!(mm, Mm::Sub | Mm::Lt | Mm::Le) || !compatible_pointees(types, to, other, true) {
        return None;
    }
    match mm {
        Mm::Lt => Some(Value::bool(p < q)),
        Mm::Le => Some(Value::bool(p <= q)),
        _ => {
            let size = types.size(to).filter(|&s| s != 0)?;
            Some(Value::num(((p as i64).wrapping_sub(q as i64) / i64::from(size)) as f64))
        }
    }
}

fn numbers(vm: &mut Vm, mm: Mm, a: u64, b: u64, unsigned: bool) -> Outcome {
    let (x, y) = (a as i64, b as i64);
    let bits = match mm {
        Mm::Eq => return Outcome::Value(Value::bool(a == b)),
        Mm::Lt => return Outcome::Value(Value::bool(if unsigned { a < b } else { x < y })),
        Mm::Le => return Outcome::Value(Value::bool(if unsigned { a <= b } else { x <= y })),
        Mm::Add => a.wrapping_add(b),
        Mm::Sub => a.wrapping_sub(b),
        Mm::Mul => a.wrapping_mul(b),
        Mm::Unm => a.wrapping_neg(),
        Mm::Div if unsigned => div_u64(a, b),
        Mm::Div => div_i64(x, y) as u64,
        Mm::Mod if unsigned => mod_u64(a, b),
        Mm::Mod => mod_i64(x, y) as u64,
        Mm::Pow if unsigned => pow_u64(a, b),
        _ => pow_i64(x, y) as u64,
    };
    let ty = if unsigned { CTypeId::UINT64 } else { CTypeId::INT64 };
    Outcome::Value(new_scalar(vm, ty, 8, bits))
}

/// The message for an operation that nobody knows.
pub fn refusal(vm: &Vm, types: &CTypeTable, mm: Mm, a: Value, b: Value) -> Vec<u8> {
    let mut names = [String::new(), String::new()];
    let mut enum_at = None;
    let mut string_at = None;
    for (i, v) in [a, b].into_iter().enumerate() {
        names[i] = match as_cdata(v) {
            Some(cd) => {
                let p = place(vm, types, cd);
                if types.enumeration(p.ty).is_some() {
                    enum_at = Some(i);
                }
                type_name(types, p.ty)
            }
            None => {
                if v.as_obj::<Str>().is_some() {
                    string_at = Some(i);
                }
                v.type_name().to_owned()
            }
        };
    }
    let [first, second] = &names;
    let text = match (mm, enum_at, string_at) {
        (_, Some(e), Some(s)) if e != s => format!("cannot convert '{}' to '{}'", names[s], names[e]),
        (Mm::Len, ..) => format!("attempt to get length of '{first}'"),
        (Mm::Concat, ..) => format!("attempt to concatenate '{first}' and '{second}'"),
        (Mm::Lt | Mm::Le, ..) => format!("attempt to compare '{first}' with '{second}'"),
        _ => format!("attempt to perform arithmetic on '{first}' and '{second}'"),
    };
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn division_by_zero_gives_the_smallest_integer() {
        assert_eq!(div_i64(5, 0), i64::MIN);
        assert_eq!(div_i64(i64::MIN, -1), i64::MIN);
        assert_eq!(mod_i64(i64::MIN, -1), 0);
        assert_eq!(div_u64(5, 0), 1 << 63);
        assert_eq!(mod_i64(-7, 3), -1);
    }

    #[test]
    fn powers_wrap_and_negative_exponents_vanish() {
        assert_eq!(pow_i64(2, 63), i64::MIN);
        assert_eq!(pow_i64(-2, 3), -8);
        assert_eq!(pow_i64(-1, -3), -1);
        assert_eq!(pow_i64(-1, -4), 1);
        assert_eq!(pow_i64(3, -1), 0);
        assert_eq!(pow_u64(2, u64::MAX), 0);
    }
}
