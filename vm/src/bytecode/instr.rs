//! The instruction word.
//!
//! ```text
//!   31      24 23      16 15       8 7        0
//!  +----------+----------+----------+----------+
//!  |    B     |    C     |    A     |    OP    |   A B C
//!  |          D          |    A     |    OP    |   A D
//!  +---------------------+----------+----------+
//! ```
//! In memory (little endian) the bytes are `OP A C B`, so that `OP`, `A` and `D` are separate
//! byte and word loads for the interpreter.

use super::ops::Op;

/// Bias of jump operands: `target = next + (D - BCBIAS_J)`.
pub const BCBIAS_J: u32 = 0x8000;

/// Value of an unused register operand.
pub const NO_REG: u32 = 0xff;

/// One encoded instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Instr(pub u32);

impl Instr {
    /// An `A D` instruction.
    pub const fn ad(op: Op, a: u32, d: u32) -> Instr {
        debug_assert!(a <= 0xff && d <= 0xffff);
        Instr(op as u32 | (a & 0xff) << 8 | (d & 0xffff) << 16)
    }

    /// An `A B C` instruction.
    pub const fn abc(op: Op, a: u32, b: u32, c: u32) -> Instr {
        debug_assert!(a <= 0xff && b <= 0xff && c <= 0xff);
        Instr(op as u32 | (a & 0xff) << 8 | (c & 0xff) << 16 | (b & 0xff) << 24)
    }

    /// An `A J` instruction that jumps `delta` instructions from the next one.
    pub const fn aj(op: Op, a: u32, delta: i32) -> Instr {
        Instr::ad(op, a, (delta + BCBIAS_J as i32) as u32 & 0xffff)
    }

    /// Op number, unchecked.
    pub const fn op_byte(self) -> u8 {
        self.0 as u8
    }

    /// The op. Panics on a word that no compiler made; untrusted code goes through the verifier first.
    pub const fn op(self) -> Op {
        match Op::from_u8(self.0 as u8) {
            Some(op) => op,
            None => panic!("invalid op byte"),
        }
    }

    /// Field A.
    pub const fn a(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    /// Field B.
    pub const fn b(self) -> u32 {
        self.0 >> 24
    }

    /// Field C.
    pub const fn c(self) -> u32 {
        self.0 >> 16 & 0xff
    }

    /// Field D.
    pub const fn d(self) -> u32 {
        self.0 >> 16
    }

    /// Jump distance from the next instruction.
    pub const fn j(self) -> i32 {
        self.d() as i32 - BCBIAS_J as i32
    }

    /// The same with another op.
    pub const fn with_op(self, op: Op) -> Instr {
        Instr(self.0 & !0xff | op as u32)
    }

    /// The same with another A.
    pub const fn with_a(self, a: u32) -> Instr {
        Instr(self.0 & !0xff00 | (a & 0xff) << 8)
    }

    /// The same with another D.
    pub const fn with_d(self, d: u32) -> Instr {
        Instr(self.0 & 0xffff | d << 16)
    }

    /// The same with another jump distance.
    pub const fn with_j(self, delta: i32) -> Instr {
        self.with_d((delta + BCBIAS_J as i32) as u32 & 0xffff)
    }

    /// The same with another C.
    pub const fn with_c(self, c: u32) -> Instr {
        Instr(self.0 & !0xff_0000 | (c & 0xff) << 16)
    }

    /// The same with another B.
    pub const fn with_b(self, b: u32) -> Instr {
        Instr(self.0 & 0xff_ffff | b << 24)
    }
}
