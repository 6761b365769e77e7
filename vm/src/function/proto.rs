//! Prototypes on the heap: the compiled form of one function, shared by its closures.

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use crate::string::Str;
use crate::value::{Object, Value, tag};

/// Flags of a prototype (`Proto::flags`).
pub mod protoflags {
    /// Has child prototypes.
    pub const CHILD: u8 = 1;
    /// Vararg function.
    pub const VARARG: u8 = 2;
    /// Uses FFI constants.
    pub const FFI: u8 = 4;
    /// JIT compilation is disabled for it.
    pub const NOJIT: u8 = 8;
    /// Some loop or header was patched to an `I` form.
    pub const ILOOP: u8 = 16;
    /// Closes upvalues.
    pub const UCLO: u8 = 32;
}

/// A prototype. The code, constants and upvalue descriptions are separate boxed blocks with stable addresses.
#[repr(C)]
pub struct Proto {
    /// Header.
    pub hdr: Header,
    /// First instruction (a function header op).
    pub code: *mut u32,
    /// Middle of the constants: numbers at `k[0..nknum]`, the i-th gc constant at `k[-1 - i]`.
    /// Prototype and template constants are values with the internal tags.
    pub k: *mut Value,
    /// Instructions.
    pub ncode: u32,
    /// Number constants.
    pub nknum: u32,
    /// Gc constants.
    pub nkgc: u32,
    /// Registers a frame needs.
    pub framesize: u8,
    /// Fixed parameters.
    pub numparams: u8,
    /// [`protoflags`].
    pub flags: u8,
    /// Upvalues.
    pub nupvals: u8,
    /// `nupvals` descriptions: bit 15 local of the parent, bit 14 immutable, low bits index.
    pub uv: *mut u16,
    /// Root trace that starts at this function's header, or 0.
    pub trace: u32,
    /// Line of the definition.
    pub firstline: u32,
    /// Line of the final `end`.
    pub lastline: u32,
    /// Reserved.
    pub reserved: u32,
    /// Chunk name as given (`=x`, `@file` or source).
    pub chunkname: Gc<Str>,
    /// Lines and names; boxed, freed with the prototype.
    pub debug: *mut ProtoDebug,
}

/// The parts of a prototype only errors, hooks and `debug` look at. Empty vectors when stripped.
#[derive(Default, Debug)]
pub struct ProtoDebug {
    /// Line of each instruction.
    pub lines: Vec<u32>,
    /// Upvalue names.
    pub upvalue_names: Vec<Box<[u8]>>,
    /// Locals in order of their start.
    pub locals: Vec<LocalRange>,
}

/// Where one local variable lives.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalRange {
    /// Name; internal ones read `(for index)` and the like.
    pub name: Box<[u8]>,
    /// First instruction at which it is active.
    pub startpc: u32,
    /// First instruction at which it no longer is.
    pub endpc: u32,
    /// Register.
    pub slot: u8,
}

// SAFETY: `Proto` is `repr(C)` and starts with its header of kind `Proto`.
unsafe impl Object for Proto {
    const TAG: tag::Tag = tag::PROTO;
}

impl Proto {
    /// The instructions.
    #[inline(always)]
    pub fn code(&self) -> &[u32] {
        // SAFETY: the prototype owns `ncode` initialised words at `code` for as long as it lives.
        unsafe { std::slice::from_raw_parts(self.code, self.ncode as usize) }
    }

    /// The `i`-th gc constant.
    #[inline(always)]
    pub fn kgc(&self, i: u32) -> Option<Value> {
        if i >= self.nkgc {
            return None;
        }
        // SAFETY: the constants block holds `nkgc` values below `k`, and `i` was just checked.
        Some(unsafe { *self.k.sub(1 + i as usize) })
    }

    /// The `i`-th number constant.
    #[inline(always)]
    pub fn knum(&self, i: u32) -> Option<Value> {
        if i >= self.nknum {
            return None;
        }
        // SAFETY: the constants block holds `nknum` values from `k` upward, and `i` was just checked.
        Some(unsafe { *self.k.add(i as usize) })
    }

    /// Lines and names.
    #[inline(always)]
    pub fn debug_info(&self) -> &ProtoDebug {
        // SAFETY: the box belongs to the prototype and is freed with it.
        unsafe { &*self.debug }
    }

    /// Line of the instruction at `pos`; `None` when stripped.
    pub fn line_at(&self, pos: u32) -> Option<u32> {
        self.debug_info().lines.get(pos as usize).copied()
    }
}
