//! Making the call.

use std::ffi::c_void;
use std::mem::{MaybeUninit, transmute};

use super::classify::{FLOAT_REGS, INT_REGS, PassBy, Prepared, code_ptr};
use super::direct::Registers;

/// Bytes of arguments or results that need no allocation.
const INLINE_BYTES: usize = 256;
/// Arguments that need no allocation.
const INLINE_ARGS: usize = 16;

/// Memory for the arguments or the result of one call, aligned to 16. Its contents are unspecified at first.
#[repr(C, align(16))]
pub struct CallBuffer {
    inline: MaybeUninit<[u8; INLINE_BYTES]>,
    /// Used instead when more is needed; 16-byte units.
    large: Vec<u128>,
}

impl CallBuffer {
    /// A buffer of at least `bytes`.
    #[inline]
    pub fn new(bytes: usize) -> CallBuffer {
        let large = if bytes > INLINE_BYTES { vec![0u128; bytes.div_ceil(16)] } else { Vec::new() };
        CallBuffer { inline: MaybeUninit::uninit(), large }
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        if self.large.is_empty() { INLINE_BYTES } else { self.large.len() * 16 }
    }

    /// Its first byte.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        if self.large.is_empty() { self.inline.as_mut_ptr().cast() } else { self.large.as_mut_ptr().cast() }
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

/// Address of this thread's `errno`.
pub fn errno_address() -> usize {
    errno_place() as usize
}

fn errno_place() -> *mut i32 {
    // SAFETY: always returns the address of this thread's variable.
    unsafe { libc::__errno_location() }
}

impl Prepared {
    /// Calls the C function at `address`.
    ///
    /// `args` holds the arguments at the offsets of `self.args`, each converted to its type; integers smaller than 8 bytes need
    /// not be extended. The result is stored at the start of `ret`, extended to 8 bytes if it is an integer. `errno` is set
    /// before and read after the call. Panics if a buffer is too small.
    ///
    /// That the function has this signature is what the program declared; nothing can check it.
    pub fn invoke(&self, address: usize, args: &mut CallBuffer, ret: &mut CallBuffer, errno: &mut i32) {
        assert!(args.bytes() >= self.buffer_bytes as usize && ret.bytes() >= self.ret_bytes.max(8) as usize);
        let (args, ret) = (args.as_mut_ptr(), ret.as_mut_ptr());
        if self.in_registers {
            // SAFETY: the buffers are large enough and aligned to 16; the signature is the program's declaration, which is the
            // ffi's contract with it.
            unsafe { self.invoke_in_registers(address, args, ret, errno) }
        } else {
            // SAFETY: as above.
            unsafe { self.invoke_by_libffi(address, args, ret, errno) }
        }
    }

    /// Whether `invoke_registers` can make the call.
    #[inline]
    pub fn takes_words(&self) -> bool {
        self.in_registers && !self.variadic
    }

    /// Calls the C function at `address` with what `registers` holds: one word per argument, in order. Only if `takes_words`.
    ///
    /// That the function has this signature is what the program declared; nothing can check it.
    #[inline]
    pub fn invoke_registers(&self, address: usize, registers: &Registers, errno: &mut i32) -> u64 {
        assert!(self.takes_words());
        // SAFETY: all arguments fit into registers; the signature is the program's declaration, which is the ffi's contract with
        // it.
        unsafe { self.call_with_registers(address, &registers.g, &registers.x, errno) }
    }

    /// # Safety
    /// - `address` is a C function of this signature, and all arguments fit into registers.
    /// - `args` points to `self.buffer_bytes` readable bytes, `ret` to `self.ret_bytes.max(8)` writable ones, aligned to 16.
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
        // SAFETY: passed on from the caller; the result's place is a word at least.
        unsafe {
            let word = self.call_with_registers(address, &g, &x, errno);
            ret.cast::<u64>().write(word);
        }
    }

    /// # Safety
    /// `address` is a C function of this signature, and all its arguments are in `g` and `x`.
    #[inline]
    unsafe fn call_with_registers(
        &self,
        address: usize,
        g: &[u64; INT_REGS],
        x: &[f64; FLOAT_REGS],
        errno: &mut i32,
    ) -> u64 {
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
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
                        .to_bits()
                }
                (PassBy::F32, true) | (_, true) => {
                    let f: VariadicFn = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
                }
                (PassBy::F64, false) => {
                    let f: float_fn!(f64) = transmute(p);
                    f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7])
                        .to_bits()
                }
                (PassBy::F32, false) => {
                    let f: float_fn!(f32) = transmute(p);
                    let r =
                        f(g[0], g[1], g[2], g[3], g[4], g[5], x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]);
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
            match self.ret {
                PassBy::Int { bytes, signed } => extend(word, bytes, signed),
                _ => word,
            }
        }
    }

    /// # Safety
    /// - `address` is a C function of this signature.
    /// - `args` points to `self.buffer_bytes` readable bytes, `ret` to `self.ret_bytes.max(8)` writable ones, aligned to 16.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clib::Library;
    use crate::cparse::declare;
    use crate::ctype::{CTypeId, CTypeTable, Symbol};

    /// Calls `name` of libc or libm with words as arguments; returns the first words of the result.
    fn call(declaration: &str, name: &str, extra: &[CTypeId], words: &[u64]) -> [u64; 2] {
        let mut table = CTypeTable::default();
        declare(&mut table, declaration.as_bytes(), &[]).expect("valid");
        let Some(&Symbol::Extern { ty, .. }) = table.symbol(name.as_bytes()) else { panic!("not declared") };
        let func = table.signature(ty).expect("a function").clone();
        let prepared = Prepared::new(&table, &func, extra).expect("callable");
        let mut args = CallBuffer::new(prepared.buffer_bytes as usize);
        let base = args.as_mut_ptr() as usize;
        for (slot, word) in prepared.args.iter().zip(words) {
            // SAFETY: the slot has 8 bytes at its offset.
            unsafe { ((base + slot.offset as usize) as *mut u64).write(*word) };
        }
        let mut ret = CallBuffer::new(prepared.ret_bytes as usize);
        // Dropping it would unload a library that it opened itself.
        let library = Library::default_namespace();
        let address = library.symbol(name.as_bytes()).expect("in libc or libm");
        prepared.invoke(address, &mut args, &mut ret, &mut 0);
        let at = ret.as_mut_ptr().cast::<u64>();
        // SAFETY: a buffer has at least 256 bytes.
        unsafe { [*at, *at.add(1)] }
    }

    #[test]
    fn scalars_travel_in_registers() {
        assert_eq!(call("int abs(int);", "abs", &[], &[-5i32 as u32 as u64])[0], 5);
        assert_eq!(call("double fabs(double);", "fabs", &[], &[(-2.5f64).to_bits()])[0], 2.5f64.to_bits());
        let r = call("float fabsf(float);", "fabsf", &[], &[u64::from((-2.5f32).to_bits())])[0];
        assert_eq!(r as u32, 2.5f32.to_bits());
        assert_eq!(call("int toupper(int);", "toupper", &[], &[0xdead_beef_0000_0061])[0], 0x41);
        let r = call("double ldexp(double, int);", "ldexp", &[], &[1.5f64.to_bits(), 4]);
        assert_eq!(r[0], 24f64.to_bits());
    }

    #[test]
    fn negative_results_are_extended() {
        let text = c"-12";
        assert_eq!(call("int atoi(const char *);", "atoi", &[], &[text.as_ptr() as u64])[0] as i64, -12);
    }

    #[test]
    fn structs_come_back_by_value() {
        let declaration =
            "typedef struct { int quot, rem; } div_t; typedef struct { long quot, rem; } ldiv_t;
                           div_t div(int, int); ldiv_t ldiv(long, long);";
        assert_eq!(call(declaration, "div", &[], &[17, 5])[0], 2 << 32 | 3);
        assert_eq!(call(declaration, "ldiv", &[], &[17, 5]), [3, 2]);
    }

    #[test]
    fn varargs_take_integers_floats_and_more_than_registers_hold() {
        let declaration = "int snprintf(char *, size_t, const char *, ...);";
        let mut out = [0u8; 128];
        let mut words = vec![out.as_mut_ptr() as u64, 128, c"%d %.1f %s %d %d %d %d %.2f".as_ptr() as u64];
        words.extend([7, 2.5f64.to_bits(), c"x".as_ptr() as u64, 1, 2, 3, 4, 0.25f64.to_bits()]);
        let i = CTypeId::INT32;
        let extra = [i, CTypeId::DOUBLE, CTypeId::P_CCHAR, i, i, i, i, CTypeId::DOUBLE];
        let n = call(declaration, "snprintf", &extra, &words)[0] as usize;
        assert_eq!(&out[..n], b"7 2.5 x 1 2 3 4 0.25");
        let n = call(declaration, "snprintf", &extra[..2], &words[..5])[0] as usize;
        assert!(out.starts_with(b"7 2.5 ") && n > 5);
    }

    #[test]
    fn long_double_cannot_be_called() {
        let mut table = CTypeTable::default();
        declare(&mut table, b"long double fabsl(long double);", &[]).expect("valid");
        let Some(&Symbol::Extern { ty, .. }) = table.symbol(b"fabsl") else { panic!("not declared") };
        let func = table.signature(ty).expect("a function").clone();
        assert!(Prepared::new(&table, &func, &[]).is_err());
    }
}
