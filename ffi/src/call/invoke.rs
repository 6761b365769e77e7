//! Making the call.

use std::ffi::c_void;
use std::mem::transmute;

use super::classify::{FLOAT_REGS, INT_REGS, PassBy, Prepared, code_ptr};

/// Bytes of arguments or results that need no allocation.
const INLINE_BYTES: usize = 256;
/// Arguments that need no allocation.
const INLINE_ARGS: usize = 16;

/// Memory for the arguments or the result of one call, aligned to 16, zeroed.
#[repr(C, align(16))]
pub struct CallBuffer {
    inline: [u8; INLINE_BYTES],
    /// Used instead when more is needed; 16-byte units.
    large: Vec<u128>,
}

impl CallBuffer {
    /// A buffer of at least `bytes`.
    #[inline]
    pub fn new(bytes: usize) -> CallBuffer {
        let large = if bytes > INLINE_BYTES { vec![0u128; bytes.div_ceil(16)] } else { Vec::new() };
        CallBuffer { inline: [0; INLINE_BYTES], large }
    }

    /// Its first byte.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        if self.large.is_empty() { self.inline.as_mut_ptr() } else { self.large.as_mut_ptr().cast() }
    }
}

type IntFn = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64) -> u64;
macro_rules! float_fn {
    ($ret:ty) => {
        unsafe extern "C" fn(u64, u64, u64, u64, u64, u64, f64, f64, f64, f64, f64, f64, f64, f64) -> $ret
    };
}
/// A variadic call announces how many floating point registers are in use; the rest is the same.
type VariadicFn = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64, ...) -> u64;
type VariadicF64 = unsafe extern "C" fn(u64, u64, u64, u64, u64, u64, ...) -> f64;

fn errno_place() -> *mut i32 {
    // SAFETY: always returns the address of this thread's variable.
    unsafe { libc::__errno_location() }
}

impl Prepared {
    /// Calls the C function at `address`.
    ///
    /// `args` holds the arguments at the offsets of `self.args`, each converted to its type; integers smaller than 8 bytes need
    /// not be extended. The result is stored at `ret`, extended to 8 bytes if it is an integer. `errno` is set before and read
    /// after the call.
    ///
    /// # Safety
    /// - `address` is a C function of this signature.
    /// - `args` points to `self.buffer_bytes` readable bytes, `ret` to `self.ret_bytes.max(8)` writable ones, both aligned to 16.
    /// - Whatever the function does with its arguments is allowed to it.
    pub unsafe fn invoke(&self, address: usize, args: *mut u8, ret: *mut u8, errno: &mut i32) {
        if self.in_registers {
            // SAFETY: passed on from the caller.
            unsafe { self.invoke_in_registers(address, args, ret, errno) }
        } else {
            // SAFETY: passed on from the caller.
            unsafe { self.invoke_by_libffi(address, args, ret, errno) }
        }
    }

    /// # Safety
    /// As for `invoke`; also all arguments fit into registers.
    unsafe fn invoke_in_registers(&self, address: usize, args: *mut u8, ret: *mut u8, errno: &mut i32) {
        let mut g = [0u64; INT_REGS];
        let mut x = [0f64; FLOAT_REGS];
        let (mut gi, mut xi) = (0, 0);
        for arg in &self.args {
            // SAFETY: every slot has 8 bytes at its offset (preparation gave it that much), aligned to 8.
            let word = unsafe { *args.add(arg.offset as usize).cast::<u64>() };
            match arg.pass {
                PassBy::Int { bytes, signed } => {
                    g[gi % INT_REGS] = extend(word, bytes, signed);
                    gi += 1;
                }
                PassBy::F32 => {
                    x[xi % FLOAT_REGS] = f64::from_bits(word & 0xffff_ffff);
                    xi += 1;
                }
                _ => {
                    x[xi % FLOAT_REGS] = f64::from_bits(word);
                    xi += 1;
                }
            }
        }
        let errno_place = errno_place();
        // SAFETY: System V passes integers and floats in independent register files, in order; a callee ignores registers beyond
        // its parameters. So calling with all of them loaded equals calling with the declared signature. The result register is
        // read as the declared class.
        unsafe {
            let p = address as *const c_void;
            *errno_place = *errno;
            let word = match (self.ret, self.variadic) {
                (PassBy::F64, true) => {
                    let f: VariadicF64 = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]).to_bits()
                }
                (PassBy::F32, true) | (_, true) => {
                    let f: VariadicFn = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
                }
                (PassBy::F64, false) => {
                    let f: float_fn!(f64) = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]).to_bits()
                }
                (PassBy::F32, false) => {
                    let f: float_fn!(f32) = transmute(p);
                    let r = f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
                    u64::from(r.to_bits())
                }
                (_, false) if !self.any_float => {
                    let f: IntFn = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5])
                }
                (_, false) => {
                    let f: float_fn!(u64) = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
                }
            };
            *errno = *errno_place;
            let word = match self.ret {
                PassBy::Int { bytes, signed } => extend(word, bytes, signed),
                _ => word,
            };
            ret.cast::<u64>().write(word);
        }
    }

    /// # Safety
    /// As for `invoke`.
    unsafe fn invoke_by_libffi(&self, address: usize, args: *mut u8, ret: *mut u8, errno: &mut i32) {
        let n = self.args.len();
        let mut inline = [std::ptr::null_mut::<c_void>(); INLINE_ARGS];
        let mut large = Vec::new();
        let pointers = if n <= INLINE_ARGS {
            &mut inline[..n]
        } else {
            large.resize(n, std::ptr::null_mut());
            &mut large[..]
        };
        for (pointer, arg) in pointers.iter_mut().zip(&self.args) {
            *pointer = args.wrapping_add(arg.offset as usize).cast();
        }
        let errno_place = errno_place();
        // SAFETY: the cif describes this signature and lives in `self`; each pointer leads to an argument of its type. The
        // result's place is at least as large as a register, which libffi demands for small integers.
        unsafe {
            *errno_place = *errno;
            libffi::raw::ffi_call(
                self.cif_ptr(),
                Some(*code_ptr(address).as_safe_fun()),
                ret.cast(),
                pointers.as_mut_ptr(),
            );
            *errno = *errno_place;
            if let PassBy::Int { bytes, signed } = self.ret {
                let word = extend(ret.cast::<u64>().read(), bytes, signed);
                ret.cast::<u64>().write(word);
            }
        }
    }
}

#[inline]
fn extend(word: u64, bytes: u8, signed: bool) -> u64 {
    match (bytes, signed) {
        (1, true) => word as i8 as i64 as u64,
        (1, false) => u64::from(word as u8),
        (2, true) => word as i16 as i64 as u64,
        (2, false) => u64::from(word as u16),
        (4, true) => word as i32 as i64 as u64,
        (4, false) => u64::from(word as u32),
        _ => word,
    }
}
