//! The number of a C type.
//!
//! The first numbers are fixed: the VM writes literals such as `1LL` without asking the type table, and C data carries
//! the bare number in its header.

use std::fmt;

/// Index of a type in a `CTypeTable`. Equal types have equal ids within one table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CTypeId(u32);

macro_rules! fixed_ids {
    ($($(#[$doc:meta])* $name:ident = $n:literal;)*) => {
        impl CTypeId {
            $($(#[$doc])* pub const $name: CTypeId = CTypeId($n);)*
        }
    };
}

fixed_ids! {
    /// No type: the reserved entry 0.
    NONE = 0;
    /// `void`
    VOID = 1;
    /// `const void`
    CVOID = 2;
    /// `bool`
    BOOL = 3;
    /// `const char`
    CCHAR = 4;
    /// `int8_t`; also `char` where plain char is signed
    INT8 = 5;
    /// `uint8_t`
    UINT8 = 6;
    /// `int16_t`
    INT16 = 7;
    /// `uint16_t`
    UINT16 = 8;
    /// `int32_t`
    INT32 = 9;
    /// `uint32_t`
    UINT32 = 10;
    /// `int64_t`
    INT64 = 11;
    /// `uint64_t`
    UINT64 = 12;
    /// `float`
    FLOAT = 13;
    /// `double`
    DOUBLE = 14;
    /// `complex float`
    COMPLEX_FLOAT = 15;
    /// `complex double`
    COMPLEX_DOUBLE = 16;
    /// `void *`
    P_VOID = 17;
    /// `const void *`
    P_CVOID = 18;
    /// `const char *`
    P_CCHAR = 19;
    /// `uint8_t *`
    P_UINT8 = 20;
    /// `const char []`: the type of a string literal
    A_CCHAR = 21;
    /// The type of a type object, as `ffi.typeof` returns it; its payload is a 32-bit type id
    CTYPEID = 22;
}

impl CTypeId {
    /// The number as stored in a C data header. Total: a foreign number is refused by the table, not here.
    pub const fn from_raw(raw: u32) -> CTypeId {
        CTypeId(raw)
    }

    /// The bare number.
    pub const fn raw(self) -> u32 {
        self.0
    }

    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for CTypeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}
