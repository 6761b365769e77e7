//! Type tags: the upper 17 bits of a value, as in LuaJIT's GC64 layout.

/// A type tag: the value shifted right by 47 bits, as a 32-bit number with all higher bits set.
/// Tags count downward from all ones.
pub type Tag = u32;

/// `nil`: all 64 bits set.
pub const NIL: Tag = !0;
/// `false`.
pub const FALSE: Tag = !1;
/// `true`.
pub const TRUE: Tag = !2;
/// Light userdata.
pub const LIGHTUD: Tag = !3;
/// String.
pub const STR: Tag = !4;
/// Upvalue object (never visible to programs).
pub const UPVAL: Tag = !5;
/// Coroutine.
pub const THREAD: Tag = !6;
/// Prototype (never visible to programs).
pub const PROTO: Tag = !7;
/// Function.
pub const FUNC: Tag = !8;
/// Trace object (never visible to programs).
pub const TRACE: Tag = !9;
/// C data.
pub const CDATA: Tag = !10;
/// Table.
pub const TAB: Tag = !11;
/// Full userdata.
pub const UDATA: Tag = !12;
/// Numbers have this tag or a lower one.
pub const NUMX: Tag = !13;

/// How far a tag is shifted.
pub const TAG_SHIFT: u32 = 47;
/// The payload bits.
pub const PAYLOAD_MASK: u64 = (1 << TAG_SHIFT) - 1;
/// Values below this are numbers.
pub const NUM_LIMIT: u64 = 0xfff9_0000_0000_0000;

/// The 64-bit pattern of a tag with an empty payload.
#[inline(always)]
pub const fn bits(tag: Tag) -> u64 {
    ((tag as i32 as i64) << TAG_SHIFT) as u64
}

const _: () = {
    // The lowest tag still lies above every number, infinities and the canonical NaN included.
    assert!(bits(NUMX) == NUM_LIMIT && bits(UDATA) > NUM_LIMIT);
    assert!(bits(NIL) | PAYLOAD_MASK == !0);
};
