//! NaN-boxed values. No heap: a value only carries the address of an object.
//!
//! ```text
//!   number   any bit pattern below 0xfff9_0000_0000_0000 (NaNs are canonical: 0xfff8_...)
//!   others   |1111 1111 1111 1 tag:4 | payload: 47 bits |
//!   nil      all ones; false, true: tag, payload all ones
//! ```
//! Frame links on a Lua stack (code addresses and small integers) look like tiny numbers, which is
//! why the collector may scan a stack without knowing where they are.

pub mod number;
pub mod tag;
pub mod text;

use crate::cell::gc_ref::Gc;
use crate::cell::header::Header;
use tag::Tag;

/// A Lua value: 64 bits, NaN-boxed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Value(pub u64);

/// Implemented by every kind of object a [`Value`] can point to.
///
/// # Safety
/// The type must start with a [`Header`] whose kind is `TAG`'s kind, and be `repr(C)`.
pub unsafe trait Object {
    /// The tag of values that point to this kind.
    const TAG: Tag;
}

impl Value {
    /// `nil`.
    pub const NIL: Value = Value(!0);
    /// `false`.
    pub const FALSE: Value = Value(tag::bits(tag::FALSE) | tag::PAYLOAD_MASK);
    /// `true`.
    pub const TRUE: Value = Value(tag::bits(tag::TRUE) | tag::PAYLOAD_MASK);
    /// The canonical NaN.
    pub const NAN: Value = Value(0xfff8_0000_0000_0000);

    /// A number. NaNs are made canonical, so that no bit pattern can pose as a reference.
    #[inline(always)]
    pub fn num(n: f64) -> Value {
        if n.is_nan() { Value::NAN } else { Value(n.to_bits()) }
    }

    /// A number known not to be a foreign NaN (results of arithmetic on Lua numbers: the processor
    /// only makes NaNs that are canonical or copies of an operand).
    #[inline(always)]
    pub fn num_trusted(n: f64) -> Value {
        Value(n.to_bits())
    }

    /// An integral number.
    #[inline(always)]
    pub fn int(n: i32) -> Value {
        Value((n as f64).to_bits())
    }

    /// A boolean.
    #[inline(always)]
    pub const fn bool(b: bool) -> Value {
        if b { Value::TRUE } else { Value::FALSE }
    }

    /// A reference to an object.
    #[inline(always)]
    pub fn obj<T: Object>(o: Gc<T>) -> Value {
        Value(tag::bits(T::TAG) | o.addr())
    }

    /// Light userdata holding 47 payload bits; see `Vm::lightud` for whole 64-bit addresses.
    #[inline(always)]
    pub const fn lightud_raw(bits: u64) -> Value {
        Value(tag::bits(tag::LIGHTUD) | bits & tag::PAYLOAD_MASK)
    }

    /// The tag; for numbers some value at or below [`tag::NUMX`].
    #[inline(always)]
    pub const fn tag(self) -> Tag {
        ((self.0 as i64) >> tag::TAG_SHIFT) as u32
    }

    /// Payload bits.
    #[inline(always)]
    pub const fn payload(self) -> u64 {
        self.0 & tag::PAYLOAD_MASK
    }

    /// Is it `nil`?
    #[inline(always)]
    pub const fn is_nil(self) -> bool {
        self.0 == !0
    }

    /// Is it neither `nil` nor `false`?
    #[inline(always)]
    pub const fn truthy(self) -> bool {
        self.tag() < tag::FALSE
    }

    /// Is it a boolean?
    #[inline(always)]
    pub const fn is_bool(self) -> bool {
        matches!(self.tag(), tag::FALSE | tag::TRUE)
    }

    /// Is it `nil`, `false` or `true`?
    #[inline(always)]
    pub const fn is_pri(self) -> bool {
        self.tag() >= tag::TRUE
    }

    /// Is it a number?
    #[inline(always)]
    pub const fn is_num(self) -> bool {
        self.0 < tag::NUM_LIMIT
    }

    /// The number, if it is one (no coercion of strings).
    #[inline(always)]
    pub fn as_num(self) -> Option<f64> {
        if self.is_num() { Some(f64::from_bits(self.0)) } else { None }
    }

    /// The bits as a number; meaningless unless [`Value::is_num`].
    #[inline(always)]
    pub fn num_unchecked(self) -> f64 {
        f64::from_bits(self.0)
    }

    /// Does it point to an object?
    #[inline(always)]
    pub const fn is_gc(self) -> bool {
        let t = self.tag();
        t <= tag::STR && t >= tag::UDATA && !self.is_num()
    }

    /// Is it an object of kind `T`?
    #[inline(always)]
    pub fn is<T: Object>(self) -> bool {
        self.tag() == T::TAG
    }

    /// The object, if it is of kind `T`.
    #[inline(always)]
    pub fn as_obj<T: Object>(self) -> Option<Gc<T>> {
        if self.tag() == T::TAG { Gc::from_addr(self.payload()) } else { None }
    }

    /// Header of the object pointed to, if any.
    #[inline(always)]
    pub fn as_header(self) -> Option<Gc<Header>> {
        if self.is_gc() { Gc::from_addr(self.payload()) } else { None }
    }

    /// Raw equality of Lua for everything but long strings and cdata: numbers by value, the rest by identity.
    #[inline(always)]
    pub fn raw_identical(self, other: Value) -> bool {
        if self.is_num() && other.is_num() {
            self.num_unchecked() == other.num_unchecked()
        } else {
            self.0 == other.0
        }
    }

    /// `type(v)`: name of the basic type.
    pub const fn type_name(self) -> &'static str {
        match self.tag() {
            tag::NIL => "nil",
            tag::FALSE | tag::TRUE => "boolean",
            tag::LIGHTUD | tag::UDATA => "userdata",
            tag::STR => "string",
            tag::UPVAL => "upval",
            tag::THREAD => "thread",
            tag::PROTO => "proto",
            tag::FUNC => "function",
            tag::TRACE => "trace",
            tag::CDATA => "cdata",
            tag::TAB => "table",
            _ => "number",
        }
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.as_num() {
            Some(n) => write!(f, "{n}"),
            None if self.is_nil() => f.write_str("nil"),
            None if self.is_bool() => write!(f, "{}", self.truthy()),
            None => write!(f, "{}@{:x}", self.type_name(), self.payload()),
        }
    }
}
