//! The handlers: the fast path of every instruction, a few lines each. What does not fit there is a helper in
//! the parent module.

pub(crate) mod arith;
pub(crate) mod builtin;
pub(crate) mod call;
pub(crate) mod compare;
pub(crate) mod constant;
pub(crate) mod create;
pub(crate) mod forloop;
pub(crate) mod func;
pub(crate) mod index;
pub(crate) mod native;
pub(crate) mod ret;
pub(crate) mod upvalue;
