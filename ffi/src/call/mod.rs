//! Calls of C functions, below all conversion: a prepared signature, a buffer with the arguments as C objects, a place for the
//! result.
//!
//! ```text
//! signature --classify--> Prepared (once per type)   buffer: | arg 0 | arg 1 | ... |   each at its own offset, 8 bytes or more
//!                              \--invoke--> registers directly where the platform allows, else libffi
//! ```
//! Knows types, no values.

mod classify;
mod direct;
mod invoke;
mod vararg;

pub use classify::{ArgSlot, NotCallable, PassBy, Prepared};
pub use direct::{Accepts, Direct, ObjectWord, Param, Registers, Returns};
pub use invoke::{CallBuffer, errno_address};
pub use vararg::{VarargCache, promote};
