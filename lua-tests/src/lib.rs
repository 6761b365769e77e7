//! Runner of the Lua cases: every `*.lua` under a folder is run by the `moonlit` binary in every mode in which
//! it makes sense, and all modes must print what the `.out` file beside it says.
//!
//! A case may begin with a header line `--- +name -name ...`:
//! `-jit` leaves out the compiled modes, `-zeal` the collector's stress mode, `-loop` the plain-loop
//! dispatch, `+compat52` switches the 5.2 extensions on, `+error` expects exit code 1 and compares
//! stderr too. `BLESS=1` writes the `.out` files from the interpreted run.

pub mod header;
pub mod modes;
pub mod runner;
