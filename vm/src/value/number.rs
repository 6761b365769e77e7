//! Conversions between doubles, integers and text. Knows no heap.

/// The integer with the same value, if there is one in 32 bits. `-0.0` gives 0.
#[inline(always)]
pub fn to_i32_exact(n: f64) -> Option<i32> {
    let i = n as i32;
    if i as f64 == n { Some(i) } else { None }
}

/// LuaJIT's conversion for bit operations: the low 32 bits of the number rounded to nearest even.
/// Defined for magnitudes below 2^51; larger ones give unspecified bits, as there.
#[inline(always)]
pub fn to_bit(n: f64) -> i32 {
    (n + 6755399441055744.0).to_bits() as i32
}
