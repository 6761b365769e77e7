//! Constant folding. NaN and -0 are never made constants: a constant table keyed by value would
//! confuse them with others.

use super::*;
use crate::value::number::to_bit;

/// The result of `a op b` when it may be a constant.
pub(super) fn binary(op: BinOp, a: f64, b: f64) -> Option<f64> {
    let bits = |f: fn(i32, i32) -> i32| f(to_bit(a), to_bit(b)) as f64;
    let n = match op {
        BinOp::Add => a + b,
        BinOp::Sub => a - b,
        BinOp::Mul => a * b,
        BinOp::Div => a / b,
        BinOp::Mod => a - (a / b).floor() * b,
        BinOp::Pow => a.powf(b),
        BinOp::BitAnd => bits(|x, y| x & y),
        BinOp::BitOr => bits(|x, y| x | y),
        BinOp::BitXor => bits(|x, y| x ^ y),
        BinOp::Shl => bits(|x, y| x.wrapping_shl(y as u32)),
        BinOp::Shr => bits(|x, y| (x as u32).wrapping_shr(y as u32) as i32),
        BinOp::Sar => bits(|x, y| x.wrapping_shr(y as u32)),
        _ => return None,
    };
    (!n.is_nan() && n.to_bits() != (-0.0f64).to_bits()).then_some(n)
}

/// `n` as a signed 16-bit literal.
pub(super) fn as_i16(n: f64) -> Option<u32> {
    let k = n as i16;
    (k as f64 == n).then_some(k as u16 as u32)
}

/// `n` as an unsigned 8-bit literal.
pub(super) fn as_u8(n: f64) -> Option<u32> {
    let k = n as u8;
    (k as f64 == n).then_some(k as u32)
}

/// Size operand of a hash part for `n` keys: log2 of the size, at least 1; 0 for no hash part.
pub(super) fn hash_bits(n: u32) -> u32 {
    match n {
        0 => 0,
        1 => 1,
        n => 32 - (n - 1).leading_zeros(),
    }
}
