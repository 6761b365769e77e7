//! The types that exist before any declaration.

use super::info::{ArrayLen, CType, Kind, Quals};
use super::{CTypeId, CTypeTable, Symbol};

/// What differs between the C ABIs of the supported processors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abi {
    /// Whether plain `char` has no sign.
    pub char_unsigned: bool,
    /// Whether `wchar_t` has no sign.
    pub wchar_unsigned: bool,
    /// Whether an unnamed bit field raises the alignment of its record.
    pub unnamed_bits_align: bool,
    /// Size in bytes of `long double`.
    pub long_double_bytes: u8,
}

impl Abi {
    /// System V on x86-64.
    pub const X86_64: Abi =
        Abi { char_unsigned: false, wchar_unsigned: false, unnamed_bits_align: false, long_double_bytes: 16 };
    /// AAPCS64 as Linux has it.
    pub const AARCH64: Abi =
        Abi { char_unsigned: true, wchar_unsigned: true, unnamed_bits_align: true, long_double_bytes: 16 };

    /// The ABI of the machine that runs this code.
    pub const fn host() -> Abi {
        if cfg!(target_arch = "aarch64") { Abi::AARCH64 } else { Abi::X86_64 }
    }
}

const fn int(bytes: u8, unsigned: bool) -> CType {
    CType::plain(Kind::Int { bytes, unsigned })
}

const fn constant(ty: CType) -> CType {
    CType { quals: Quals::CONST, ..ty }
}

const fn ptr(to: CTypeId) -> CType {
    CType::plain(Kind::Ptr { to, bytes: 8 })
}

/// Types in the order of their fixed ids, beginning with `NONE`; `CTYPEID` follows separately because it needs an enum.
fn fixed(abi: Abi) -> [CType; 22] {
    let void = CType::plain(Kind::Void);
    [
        void,
        void,
        constant(void),
        CType::plain(Kind::Bool),
        constant(int(1, abi.char_unsigned)),
        int(1, false),
        int(1, true),
        int(2, false),
        int(2, true),
        int(4, false),
        int(4, true),
        int(8, false),
        int(8, true),
        CType::plain(Kind::Float { bytes: 4 }),
        CType::plain(Kind::Float { bytes: 8 }),
        CType::plain(Kind::Complex { bytes: 8 }),
        CType::plain(Kind::Complex { bytes: 16 }),
        ptr(CTypeId::VOID),
        ptr(CTypeId::CVOID),
        ptr(CTypeId::CCHAR),
        ptr(CTypeId::UINT8),
        CType::plain(Kind::Array { elem: CTypeId::CCHAR, len: ArrayLen::Unknown }),
    ]
}

/// Fills an empty table: fixed ids, then the predefined typedefs.
pub(super) fn populate(table: &mut CTypeTable) {
    let abi = table.abi();
    for (index, ty) in fixed(abi).into_iter().enumerate() {
        table.push_fixed(index, ty);
    }
    table.push_ctypeid();

    let wchar = if abi.wchar_unsigned { CTypeId::UINT32 } else { CTypeId::INT32 };
    let typedefs: [(&str, CTypeId); 16] = [
        ("va_list", CTypeId::P_VOID),
        ("__builtin_va_list", CTypeId::P_VOID),
        ("__gnuc_va_list", CTypeId::P_VOID),
        ("ptrdiff_t", CTypeId::INT64),
        ("size_t", CTypeId::UINT64),
        ("wchar_t", wchar),
        ("int8_t", CTypeId::INT8),
        ("int16_t", CTypeId::INT16),
        ("int32_t", CTypeId::INT32),
        ("int64_t", CTypeId::INT64),
        ("uint8_t", CTypeId::UINT8),
        ("uint16_t", CTypeId::UINT16),
        ("uint32_t", CTypeId::UINT32),
        ("uint64_t", CTypeId::UINT64),
        ("intptr_t", CTypeId::INT64),
        ("uintptr_t", CTypeId::UINT64),
    ];
    for (name, ty) in typedefs {
        table.declare(name.as_bytes().into(), Symbol::Type(ty));
    }
    table.declare(b"ssize_t".as_slice().into(), Symbol::Type(CTypeId::INT64));
}
