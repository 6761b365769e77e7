//! Bytecode files: prototypes as bytes (`string.dump`) and back (`load`). What comes back is
//! verified, so that the interpreter may trust it however hostile the bytes were.
//!
//! ```text
//! file   = ESC 'L' 'J' version flags [name] proto
//! name   = bytes                       unless stripped
//! proto  = protoflags numparams framesize
//!          [firstline lastline]                              unless stripped
//!          ncode code*  nnum num*  nkgc kgc*  nupval upval*
//!          [line deltas, upvalue names, locals]     unless stripped
//! kgc    = tag payload                 see dump.rs
//! bytes  = length byte*                integers are ULEB128 but for code (32 bit) and numbers (64 bit)
//! ```

pub mod dump;
pub mod undump;
pub mod verify;

/// First bytes of a bytecode file: those that programs look for to tell bytecode from source.
pub const MAGIC: [u8; 3] = [0x1b, b'L', b'J'];
/// Version of the format and of the instruction set. LuaJIT's own versions are small numbers.
const VERSION: u8 = 0xa1;
/// Flag of a file without debug information.
const STRIPPED: u8 = 1;
/// Most functions nested in each other.
const NESTING_MAX: usize = crate::limits::SYNTAX_LEVELS_MAX;

/// Tags of constants.
mod kgc_tag {
    pub(super) const STR: u8 = 0;
    pub(super) const PROTO: u8 = 1;
    pub(super) const TABLE: u8 = 2;
    pub(super) const INT64: u8 = 3;
    pub(super) const UINT64: u8 = 4;
    pub(super) const COMPLEX: u8 = 5;
}

/// Tags of template keys and values.
mod kval_tag {
    pub(super) const NIL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const NUM: u8 = 3;
    pub(super) const STR: u8 = 4;
}

#[cfg(test)]
mod tests;
