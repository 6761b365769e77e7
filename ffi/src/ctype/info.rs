//! The description of one C type, one field, one declared name.
//!
//! Plain data: no table is needed to hold these, but ids in them mean something only together with the table that made
//! them.

use std::collections::HashMap;
use std::rc::Rc;

use super::CTypeId;

/// An identifier. Bytes, because C data fields may be named by any byte above 0x7f too.
pub type Name = Rc<[u8]>;

/// Type qualifiers. `restrict` is accepted and forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Quals(u8);

impl Quals {
    /// No qualifier.
    pub const NONE: Quals = Quals(0);
    /// `const`
    pub const CONST: Quals = Quals(1);
    /// `volatile`
    pub const VOLATILE: Quals = Quals(2);

    /// Both sets together.
    pub const fn with(self, other: Quals) -> Quals {
        Quals(self.0 | other.0)
    }

    /// Whether nothing is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `const` is set.
    pub const fn is_const(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether `volatile` is set.
    pub const fn is_volatile(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether every qualifier of `other` is set here too.
    pub const fn contains(self, other: Quals) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How many elements an array has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ArrayLen {
    /// `[n]`
    Fixed(u32),
    /// `[]`
    Unknown,
    /// `[?]`: chosen when an object is made
    Variable,
}

/// Calling convention of a function. All are the platform's own on x86-64 and AArch64; kept because the declaration
/// says so.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum CallConv {
    /// The platform's default.
    #[default]
    C,
    /// `__stdcall`
    Stdcall,
    /// `__fastcall`
    Fastcall,
    /// `__thiscall`
    Thiscall,
}

/// The shape of a type.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `void`
    Void,
    /// `bool`, one byte
    Bool,
    /// An integer of 1, 2, 4 or 8 bytes; of 16 or 32 for storage only
    Int {
        /// Size in bytes.
        bytes: u8,
        /// Whether it has no sign.
        unsigned: bool,
    },
    /// `float` (4), `double` (8) or `long double` (16, storage only)
    Float {
        /// Size in bytes.
        bytes: u8,
    },
    /// A pair of floats; `bytes` is the size of the pair
    Complex {
        /// Size in bytes of the pair.
        bytes: u8,
    },
    /// A SIMD vector
    Vector {
        /// Type of one lane.
        elem: CTypeId,
        /// Size in bytes of the whole.
        bytes: u32,
    },
    /// A pointer; `bytes` is 4 for `__ptr32`
    Ptr {
        /// What it points to.
        to: CTypeId,
        /// Size in bytes of the pointer itself.
        bytes: u8,
    },
    /// A C++ style reference
    Ref {
        /// What it refers to.
        to: CTypeId,
    },
    /// An array
    Array {
        /// Type of one element.
        elem: CTypeId,
        /// Number of elements.
        len: ArrayLen,
    },
    /// A struct or union; the number indexes the table's records
    Record(u32),
    /// An enum; the number indexes the table's enums
    Enum(u32),
    /// A function; the number indexes the table's functions
    Func(u32),
}

/// One type: shape, qualifiers and an explicit alignment if an attribute gave one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CType {
    /// The shape.
    pub kind: Kind,
    /// `const` and `volatile`.
    pub quals: Quals,
    /// log2 of an alignment given by an attribute on a type that is not a record of its own.
    pub align_log2: Option<u8>,
}

impl CType {
    /// A type with no qualifier and natural alignment.
    pub const fn plain(kind: Kind) -> CType {
        CType { kind, quals: Quals::NONE, align_log2: None }
    }
}

/// Position of a bit field inside its storage unit.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BitRange {
    /// Lowest bit, counted from the least significant bit of the byte at the field's offset.
    pub pos: u8,
    /// Number of bits, 1..=64.
    pub width: u8,
}

/// A member in declaration order.
#[derive(Clone, Debug)]
pub struct Field {
    /// `None` for an anonymous struct or union, whose members belong to the enclosing record as well.
    pub name: Option<Name>,
    /// Declared type.
    pub ty: CTypeId,
    /// Offset in bytes from the start of the record; for a bit field that of its storage unit.
    pub offset: u32,
    /// Set for bit fields.
    pub bits: Option<BitRange>,
}

/// A named constant: an enum member or a `static const`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constant {
    /// Declared type; for a member of an enum its integer type.
    pub ty: CTypeId,
    /// The value, sign or zero extended according to the type.
    pub value: i64,
}

/// What a name inside a record stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Member {
    /// A field, possibly of an anonymous inner record.
    Field {
        /// Type, with the qualifiers of anonymous records on the way added.
        ty: CTypeId,
        /// Offset in bytes from the start of the outer record.
        offset: u32,
        /// Set for bit fields.
        bits: Option<BitRange>,
    },
    /// A scoped constant.
    Const(Constant),
}

/// A struct or union.
#[derive(Debug)]
pub struct Record {
    /// `union` rather than `struct`.
    pub is_union: bool,
    /// Tag, if it has one.
    pub tag: Option<Name>,
    /// The unqualified type of this record; its number appears in the name of an untagged record.
    pub id: CTypeId,
    /// Whether the body was seen.
    pub complete: bool,
    /// Whether it ends in a `[?]` array.
    pub variable: bool,
    /// Whether a member, however deep, is `const`: then the whole cannot be assigned.
    pub has_const: bool,
    /// Size in bytes (without the variable part); meaningful when complete.
    pub size: u32,
    /// log2 of the alignment.
    pub align_log2: u8,
    /// Members in declaration order; unnamed bit fields are not among them.
    pub fields: Vec<Field>,
    /// Every name reachable with a dot.
    pub members: HashMap<Name, Member>,
}

/// An enum.
#[derive(Debug)]
pub struct EnumType {
    /// Tag, if it has one.
    pub tag: Option<Name>,
    /// The unqualified type of this enum.
    pub id: CTypeId,
    /// Whether the body was seen.
    pub complete: bool,
    /// The integer type that holds it: 32 bits, signed only if a member is negative.
    pub base: CTypeId,
    /// Member names and values.
    pub consts: HashMap<Name, i64>,
}

/// A function type.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct FuncType {
    /// Result type.
    pub ret: CTypeId,
    /// Parameter types after the usual adjustments (arrays and functions became pointers).
    pub params: Rc<[CTypeId]>,
    /// Whether it ends in `...`.
    pub variadic: bool,
    /// Calling convention.
    pub conv: CallConv,
}

/// What an ordinary name at file scope stands for.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// A typedef.
    Type(CTypeId),
    /// A constant.
    Const(Constant),
    /// A function or variable of some library; `link_name` is what an `__asm__` rename asked for.
    Extern {
        /// Declared type.
        ty: CTypeId,
        /// Name to look up instead of the declared one.
        link_name: Option<Name>,
    },
}
