//! Raw memory: the only place where C objects are read and written.
//!
//! The functions are safe to call in Rust's sense only as far as the program's own pointers are right. That is the ffi's
//! contract with the program: an address comes from a C data object whose bytes the program may set at will, and following it
//! is what the program asked for. Everything above this file computes addresses and sizes from types.

use crate::ctype::{BitRange, Kind};

/// Addresses below this are what becomes of NULL and an offset; nothing is ever mapped there.
const NULL_PAGE_BYTES: usize = 4096;

/// Whether an address is NULL or NULL with a small offset: refused before it is followed.
#[inline]
pub fn is_null(addr: usize) -> bool {
    addr < NULL_PAGE_BYTES
}

/// A C scalar, widened.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scalar {
    /// Signed integers up to 64 bits.
    Int(i64),
    /// Unsigned integers up to 64 bits; `bool` too.
    Uint(u64),
    /// Floating point.
    Float(f64),
}

macro_rules! load {
    ($ty:ty, $addr:expr) => {{
        // SAFETY: the program's pointers are trusted (see the head of this file); no alignment is assumed.
        unsafe { ($addr as *const $ty).read_unaligned() }
    }};
}

macro_rules! store {
    ($ty:ty, $addr:expr, $value:expr) => {{
        // SAFETY: the program's pointers are trusted (see the head of this file); no alignment is assumed.
        unsafe { ($addr as *mut $ty).write_unaligned($value) }
    }};
}

/// Reads an unsigned integer of 1, 2, 4 or 8 bytes.
#[inline]
pub fn load_uint(addr: usize, bytes: u8) -> u64 {
    match bytes {
        1 => u64::from(load!(u8, addr)),
        2 => u64::from(load!(u16, addr)),
        4 => u64::from(load!(u32, addr)),
        _ => load!(u64, addr),
    }
}

/// Reads a signed integer of 1, 2, 4 or 8 bytes.
#[inline]
pub fn load_int(addr: usize, bytes: u8) -> i64 {
    match bytes {
        1 => i64::from(load!(i8, addr)),
        2 => i64::from(load!(i16, addr)),
        4 => i64::from(load!(i32, addr)),
        _ => load!(i64, addr),
    }
}

/// Writes the low bytes of an integer.
#[inline]
pub fn store_int(addr: usize, bytes: u8, value: u64) {
    match bytes {
        1 => store!(u8, addr, value as u8),
        2 => store!(u16, addr, value as u16),
        4 => store!(u32, addr, value as u32),
        _ => store!(u64, addr, value),
    }
}

/// Reads a `float` (4) or `double` (8).
#[inline]
pub fn load_float(addr: usize, bytes: u8) -> f64 {
    if bytes == 4 { f64::from(load!(f32, addr)) } else { load!(f64, addr) }
}

/// Writes a `float` (4) or `double` (8).
#[inline]
pub fn store_float(addr: usize, bytes: u8, value: f64) {
    if bytes == 4 { store!(f32, addr, value as f32) } else { store!(f64, addr, value) }
}

/// Reads a pointer of 8 or 4 bytes.
#[inline]
pub fn load_pointer(addr: usize, bytes: u8) -> usize {
    if bytes == 4 { load!(u32, addr) as usize } else { load!(usize, addr) }
}

/// Writes a pointer of 8 or 4 bytes.
#[inline]
pub fn store_pointer(addr: usize, bytes: u8, value: usize) {
    if bytes == 4 { store!(u32, addr, value as u32) } else { store!(usize, addr, value) }
}

/// Reads a scalar; `None` if the shape is not one.
#[inline]
pub fn load_scalar(kind: Kind, addr: usize) -> Option<Scalar> {
    Some(match kind {
        Kind::Bool => Scalar::Uint(u64::from(load!(u8, addr) != 0)),
        Kind::Int { bytes: bytes @ 1..=8, unsigned: true } => Scalar::Uint(load_uint(addr, bytes)),
        Kind::Int { bytes: bytes @ 1..=8, unsigned: false } => Scalar::Int(load_int(addr, bytes)),
        Kind::Float { bytes: bytes @ (4 | 8) } => Scalar::Float(load_float(addr, bytes)),
        _ => return None,
    })
}

/// Reads a bit field; the result is not sign-extended.
pub fn load_bits(addr: usize, bits: BitRange) -> u64 {
    let last = (usize::from(bits.pos) + usize::from(bits.width) - 1) / 8;
    let mut value = 0u128;
    for i in 0..=last {
        value |= u128::from(load!(u8, addr + i)) << (8 * i);
    }
    let mask = if bits.width >= 64 { u64::MAX } else { (1 << bits.width) - 1 };
    (value >> bits.pos) as u64 & mask
}

/// Writes a bit field; bits around it stay.
pub fn store_bits(addr: usize, bits: BitRange, value: u64) {
    let last = (usize::from(bits.pos) + usize::from(bits.width) - 1) / 8;
    let mask = if bits.width >= 64 { u64::MAX } else { (1 << bits.width) - 1 };
    let (mask, value) = (u128::from(mask) << bits.pos, u128::from(value & mask) << bits.pos);
    for i in 0..=last {
        let (m, v) = ((mask >> (8 * i)) as u8, (value >> (8 * i)) as u8);
        let old = load!(u8, addr + i);
        store!(u8, addr + i, old & !m | v);
    }
}

/// Copies bytes; the areas may overlap.
#[inline]
pub fn copy(to: usize, from: usize, bytes: usize) {
    // SAFETY: the program's pointers are trusted (see the head of this file).
    unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) }
}

/// Sets bytes.
#[inline]
pub fn fill(to: usize, bytes: usize, value: u8) {
    // SAFETY: the program's pointers are trusted (see the head of this file).
    unsafe { std::ptr::write_bytes(to as *mut u8, value, bytes) }
}

/// Writes bytes that Rust owns.
#[inline]
pub fn store_bytes(to: usize, from: &[u8]) {
    copy(to, from.as_ptr() as usize, from.len());
}

/// Length in bytes of a zero-terminated string.
pub fn string_length(addr: usize) -> usize {
    // SAFETY: the program's pointers are trusted (see the head of this file).
    unsafe { libc::strlen(addr as *const libc::c_char) }
}

/// Looks at bytes.
pub fn with_bytes<R>(addr: usize, bytes: usize, f: impl FnOnce(&[u8]) -> R) -> R {
    if bytes == 0 {
        return f(&[]);
    }
    // SAFETY: the program's pointers are trusted (see the head of this file); nothing writes while `f` runs, because `f` is
    // handed nothing that could run the program.
    f(unsafe { std::slice::from_raw_parts(addr as *const u8, bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_fields_keep_their_neighbours() {
        let mut memory = [0xffu8; 16];
        let addr = memory.as_mut_ptr() as usize;
        store_bits(addr, BitRange { pos: 5, width: 64 }, 0);
        assert_eq!(load_bits(addr, BitRange { pos: 0, width: 5 }), 0x1f);
        assert_eq!(load_bits(addr, BitRange { pos: 5, width: 64 }), 0);
        assert_eq!(load_bits(addr, BitRange { pos: 69, width: 3 }), 7);
        store_bits(addr, BitRange { pos: 7, width: 3 }, 0b101);
        assert_eq!(load_bits(addr, BitRange { pos: 7, width: 3 }), 0b101);
        assert_eq!(memory[0], 0x1f | 0x80);
    }
}
