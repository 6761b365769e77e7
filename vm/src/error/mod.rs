//! Errors: message texts, variable names for them, the layout of tracebacks. Knows no VM state.

pub mod messages;
pub mod traceback;
pub mod varname;
