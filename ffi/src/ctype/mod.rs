//! C types: what they are, how large they are, what they are called.
//!
//! Knows neither the VM nor C's grammar. A type is a small number (`CTypeId`) into one table; equal types have equal
//! numbers, so comparing types is comparing numbers. Records (structs and unions) and enums are identified by where they
//! were declared, not by their shape, as in C.

pub mod builtin;
pub mod id;
pub mod info;
pub mod layout;
pub mod name;
pub mod table;

pub use id::CTypeId;
pub use info::{
    ArrayLen, BitRange, CType, CallConv, Constant, EnumType, Field, FuncType, Kind, Member, Name, Quals,
    Record, Symbol,
};
pub use table::{CTypeTable, Layout, SizeError};
