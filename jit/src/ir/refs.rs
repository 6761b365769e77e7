//! Typed references into the IR. Knows no instruction.

/// A reference to an IR value. Constants lie below [`Ref::BIAS`] and grow down, instructions lie at or
/// above it and grow up, so that every operand is smaller than its user.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Ref(u16);

impl Ref {
    /// Border between constants and instructions.
    pub const BIAS: u16 = 0x8000;
    /// No operand.
    pub const NONE: Ref = Ref(0);
    /// The constant `true`.
    pub const TRUE: Ref = Ref(Ref::BIAS - 3);
    /// The constant `false`.
    pub const FALSE: Ref = Ref(Ref::BIAS - 2);
    /// The constant `nil`.
    pub const NIL: Ref = Ref(Ref::BIAS - 1);
    /// The instruction that stands for the base of the trace's frame.
    pub const BASE: Ref = Ref(Ref::BIAS);
    /// First ordinary instruction.
    pub const FIRST: Ref = Ref(Ref::BIAS + 1);

    /// From raw bits (an operand field).
    pub const fn from_bits(n: u16) -> Ref {
        Ref(n)
    }

    /// Raw bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The `i`-th constant.
    pub const fn konst(i: usize) -> Ref {
        Ref(Ref::BIAS - 1 - i as u16)
    }

    /// The `i`-th instruction; 0 is [`Ref::BASE`].
    pub const fn ins(i: usize) -> Ref {
        Ref(Ref::BIAS + i as u16)
    }

    /// Is it a constant?
    pub const fn is_const(self) -> bool {
        self.0 < Ref::BIAS && self.0 != 0
    }

    /// Is it an instruction?
    pub const fn is_ins(self) -> bool {
        self.0 >= Ref::BIAS
    }

    /// Is there no operand?
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Index among the constants.
    pub const fn const_index(self) -> usize {
        (Ref::BIAS - 1 - self.0) as usize
    }

    /// Index among the instructions.
    pub const fn ins_index(self) -> usize {
        (self.0 - Ref::BIAS) as usize
    }

    /// The next instruction.
    pub const fn next(self) -> Ref {
        Ref(self.0 + 1)
    }
}

impl std::fmt::Debug for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_none() {
            f.write_str("-")
        } else if self.is_const() {
            write!(f, "k{}", self.const_index())
        } else {
            write!(f, "{:04}", self.ins_index())
        }
    }
}

/// Number of a snapshot within its trace; exits are numbered alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct SnapNo(u16);

impl SnapNo {
    /// From an index.
    pub const fn new(n: usize) -> SnapNo {
        SnapNo(n as u16)
    }

    /// As an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
