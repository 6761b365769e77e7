//! A compiled function as plain data: what the compiler makes, what bytecode files hold, and what
//! the heap turns into a prototype. Knows no heap.

/// Bits of [`ProtoDef::flags`].
pub mod protoflags {
    /// Has child prototypes.
    pub const CHILD: u8 = 1;
    /// Vararg function.
    pub const VARARG: u8 = 2;
    /// Uses 64-bit or complex literals, itself or in a child.
    pub const FFI: u8 = 4;
    /// JIT compilation is disabled for it.
    pub const NOJIT: u8 = 8;
    /// Some loop or header was patched to an `I` form. Never set in a `ProtoDef`.
    pub const ILOOP: u8 = 16;
    /// Contains `UCLO`.
    pub const UCLO: u8 = 32;
}

/// Bit of an upvalue description: the index is a register of the enclosing function.
pub const UV_LOCAL: u16 = 0x8000;
/// Bit of an upvalue description: the captured local is never assigned after its declaration.
pub const UV_IMMUTABLE: u16 = 0x4000;
/// Bits of an upvalue description: the register.
pub const UV_SLOT: u16 = 0xff;
/// Bits of an upvalue description: the index in the enclosing function's upvalues.
pub const UV_INDEX: u16 = 0x3fff;

/// Bias of the number constant of `TSETM`: the first index is the low word of the double
/// `2^52 + index`.
pub const TSETM_BIAS: f64 = 4503599627370496.0;

/// A name or string: shared by everything in a chunk that spells it.
pub type Name = std::rc::Rc<[u8]>;

/// One function.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProtoDef {
    /// Instructions; the first is `FUNCF` or `FUNCV` with the frame size in `A`.
    pub code: Vec<u32>,
    /// Line of each instruction; empty when stripped.
    pub lines: Vec<u32>,
    /// Number constants, indexed upward.
    pub knum: Vec<f64>,
    /// Other constants; index `i` is what `R[a] = K.gc[i]` names.
    pub kgc: Vec<KGc>,
    /// Upvalue descriptions: [`UV_LOCAL`], [`UV_IMMUTABLE`] and a register or upvalue index of the
    /// enclosing function.
    pub upvals: Vec<u16>,
    /// Fixed parameters.
    pub numparams: u8,
    /// Registers a frame needs.
    pub framesize: u8,
    /// [`protoflags`].
    pub flags: u8,
    /// Line of the definition; 0 for a main chunk.
    pub firstline: u32,
    /// Line of the final `end`.
    pub lastline: u32,
    /// Chunk name as given (`=x`, `@file` or source text).
    pub chunkname: Name,
    /// Upvalue names; empty when stripped.
    pub upvalue_names: Vec<Name>,
    /// Locals in order of declaration; empty when stripped.
    pub locals: Vec<LocalVar>,
}

/// Where one local variable lives.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalVar {
    /// Name; internal ones read `(for index)` and the like.
    pub name: Name,
    /// First instruction at which it is active.
    pub startpc: u32,
    /// First instruction at which it no longer is.
    pub endpc: u32,
    /// Register.
    pub slot: u8,
}

/// A constant that is not a number, with strings of type `S` and functions of type `F`.
#[derive(Clone, Debug, PartialEq)]
pub enum KGc<S = Name, F = Box<ProtoDef>> {
    /// A string.
    Str(S),
    /// A nested function, operand of `FNEW`.
    Proto(F),
    /// A table to copy, operand of `TDUP`.
    TableTemplate {
        /// Values of the array part: `array[i]` has key `i`, index 0 included. Nil in holes. Its
        /// length is the wanted size of the array part.
        array: Vec<KVal<S>>,
        /// Keys and values of the hash part, in order of insertion, keys unique. A nil value
        /// reserves a node: code that follows stores into it.
        hash: Vec<(KVal<S>, KVal<S>)>,
    },
    /// `1LL`
    Int64(i64),
    /// `1ULL`
    UInt64(u64),
    /// `1i`: a complex number with this imaginary part and real part 0.
    Complex(f64),
}

/// A key or value of a template table.
#[derive(Clone, Debug, PartialEq)]
pub enum KVal<S = Name> {
    /// nil
    Nil,
    /// A boolean.
    Bool(bool),
    /// A number; as key never NaN.
    Num(f64),
    /// A string.
    Str(S),
}
