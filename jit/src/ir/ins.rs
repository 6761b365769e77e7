//! One IR instruction: eight bytes, and the literals that operand fields may hold.

use super::ops::IrOp;
use super::refs::Ref;
use super::ty::Ty;

/// Type byte of an instruction: type and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(transparent)]
pub struct IrT(u8);

impl IrT {
    const GUARD: u8 = 0x80;
    const PHI: u8 = 0x40;
    const MARK: u8 = 0x20;
    const TYPE: u8 = 0x1f;

    /// A type without flags.
    pub const fn of(t: Ty) -> IrT {
        IrT(t as u8)
    }

    /// A type with the guard flag: the instruction may leave the trace.
    pub const fn guard(t: Ty) -> IrT {
        IrT(t as u8 | IrT::GUARD)
    }

    /// The type.
    pub const fn ty(self) -> Ty {
        Ty::ALL[(self.0 & IrT::TYPE) as usize]
    }

    /// May the instruction leave the trace?
    pub const fn is_guard(self) -> bool {
        self.0 & IrT::GUARD != 0
    }

    /// The same with or without the guard flag.
    pub const fn with_guard(self, g: bool) -> IrT {
        IrT(self.0 & IrT::TYPE | if g { IrT::GUARD } else { 0 })
    }

    /// Is the value one side of a `PHI` (or may become one)?
    pub const fn is_phi(self) -> bool {
        self.0 & IrT::PHI != 0
    }

    /// Sets or clears the phi flag.
    pub const fn set_phi(&mut self, on: bool) {
        self.0 = self.0 & !IrT::PHI | if on { IrT::PHI } else { 0 };
    }

    /// Is the working mark of a pass set?
    pub const fn is_marked(self) -> bool {
        self.0 & IrT::MARK != 0
    }

    /// Sets or clears the working mark.
    pub const fn set_mark(&mut self, on: bool) {
        self.0 = self.0 & !IrT::MARK | if on { IrT::MARK } else { 0 };
    }
}

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ins {
    /// Operation.
    pub op: IrOp,
    /// Type of the result, guard flag.
    pub t: IrT,
    /// First operand: reference bits or a literal.
    pub a: u16,
    /// Second operand.
    pub b: u16,
    /// Previous instruction with the same operation (0: none).
    pub prev: u16,
}

impl Ins {
    /// An instruction from raw operand fields.
    pub const fn raw(op: IrOp, t: IrT, a: u16, b: u16) -> Ins {
        Ins { op, t, a, b, prev: 0 }
    }

    /// An instruction on two references.
    pub const fn new(op: IrOp, t: IrT, a: Ref, b: Ref) -> Ins {
        Ins::raw(op, t, a.bits(), b.bits())
    }

    /// First operand as a reference.
    pub const fn ra(&self) -> Ref {
        Ref::from_bits(self.a)
    }

    /// Second operand as a reference.
    pub const fn rb(&self) -> Ref {
        Ref::from_bits(self.b)
    }

    /// Type of the result.
    pub const fn ty(&self) -> Ty {
        self.t.ty()
    }

    /// May it leave the trace?
    pub const fn is_guard(&self) -> bool {
        self.t.is_guard()
    }
}

/// Bits of the second operand of `SLOAD`.
pub mod sload {
    /// The slot belongs to the parent (value handed over by a side exit).
    pub const PARENT: u16 = 1;
    /// A frame slot.
    pub const FRAME: u16 = 2;
    /// Check the type of the slot.
    pub const TYPECHECK: u16 = 4;
    /// Convert: the slot holds a number, the result is an integer (guarded to be exact).
    pub const CONVERT: u16 = 8;
    /// The slot is never written by the trace.
    pub const READONLY: u16 = 16;
    /// Inherited by side traces without a new check.
    pub const INHERIT: u16 = 32;
    /// Letters for dumps, in bit order.
    pub const LETTERS: &[u8; 6] = b"PFTCRI";
}

/// Second operand of `CONV`: source type in the low five bits, then the mode.
pub mod conv {
    /// A guarded `TOBIT` is of a whole number of smaller magnitude.
    pub const WHOLE_MAX: i64 = 1 << 46;
    use super::Ty;
    /// Source type mask.
    pub const SRC: u16 = 0x1f;
    /// Guarded: the result must be exact.
    pub const CHECK: u16 = 0x20;
    /// Guarded, and the value is used as an index: minus zero is fine, as everywhere in keys.
    pub const INDEX: u16 = 0x40;
    /// Sign-extend when widening.
    pub const SEXT: u16 = 0x80;

    /// Operand for a plain conversion.
    pub const fn from(t: Ty) -> u16 {
        t as u16
    }

    /// Source type of an operand.
    pub const fn src(lit: u16) -> Ty {
        Ty::ALL[(lit & SRC) as usize]
    }
}

/// Functions of `FPMATH`.
pub mod fpm {
    /// `math.floor`
    pub const FLOOR: u16 = 0;
    /// `math.ceil`
    pub const CEIL: u16 = 1;
    /// Round toward zero.
    pub const TRUNC: u16 = 2;
    /// `math.sqrt`
    pub const SQRT: u16 = 3;
    /// `math.log`
    pub const LOG: u16 = 4;
    /// Base-2 logarithm.
    pub const LOG2: u16 = 5;
    /// `math.exp`
    pub const EXP: u16 = 6;
    /// `math.sin`
    pub const SIN: u16 = 7;
    /// `math.cos`
    pub const COS: u16 = 8;
    /// `math.tan`
    pub const TAN: u16 = 9;
    /// `math.log10`
    pub const LOG10: u16 = 10;
    /// `math.asin`
    pub const ASIN: u16 = 11;
    /// `math.acos`
    pub const ACOS: u16 = 12;
    /// `math.atan`
    pub const ATAN: u16 = 13;
    /// `math.sinh`
    pub const SINH: u16 = 14;
    /// `math.cosh`
    pub const COSH: u16 = 15;
    /// `math.tanh`
    pub const TANH: u16 = 16;
    /// Names for dumps.
    pub const NAMES: &[&str] = &[
        "floor", "ceil", "trunc", "sqrt", "log", "log2", "exp", "sin", "cos", "tan", "log10", "asin", "acos",
        "atan", "sinh", "cosh", "tanh",
    ];
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident $text:literal $ty:ident;)*) => {
        /// Object fields that `FLOAD` and `FREF` name.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u8)]
        pub enum Field { $($(#[$doc])* $name,)* }

        impl Field {
            /// All fields, in order.
            pub const ALL: &'static [Field] = &[$(Field::$name,)*];

            /// Name in dumps.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$name => $text,)* }
            }

            /// Type of the loaded value.
            pub const fn ty(self) -> Ty {
                match self { $(Field::$name => Ty::$ty,)* }
            }

            /// By literal.
            pub const fn from_lit(n: u16) -> Field {
                Field::ALL[n as usize]
            }
        }
    };
}

fields! {
    /// Length of a string.
    StrLen "str.len" Int;
    /// Environment of a function.
    FuncEnv "func.env" Tab;
    /// Entry instruction pointer of a function (identifies its prototype).
    FuncPc "func.pc" P64;
    /// Flags byte of a function's header (native or not).
    FuncFlags "func.flags" U8;
    /// Metatable of a table, as a nullable pointer.
    TabMeta "tab.meta" Tab;
    /// Array part.
    TabArray "tab.array" P64;
    /// Node array.
    TabNode "tab.node" P64;
    /// Size of the array part.
    TabAsize "tab.asize" Int;
    /// Size of the hash part minus one.
    TabHmask "tab.hmask" Int;
    /// Negative metamethod cache.
    TabNomm "tab.nomm" U8;
    /// Metatable of a userdata.
    UdataMeta "udata.meta" Tab;
    /// Type id of a cdata.
    CdataCtypeid "cdata.ctypeid" Int;
    /// Payload of a cdata that is a pointer, reference or function.
    CdataPtr "cdata.ptr" P64;
    /// Payload of a cdata that is a 64-bit integer.
    CdataInt64 "cdata.int64" I64;
    /// Native id of a native function.
    FuncNativeId "func.nid" Int;
}

/// The second operand of `NATIVE`.
pub mod native {
    /// Arguments: the low bits.
    pub const ARGS: u16 = 0x7f;
    /// Results start at this bit.
    pub const RESULTS_AT: u16 = 7;
    /// Most results.
    pub const RESULTS_MAX: u16 = 0x7f;
    /// There must be as many results as that; else they are cut or filled up with nil.
    pub const EXACT: u16 = 0x4000;
}
