//! The one integration binary of the ffi crate.

#[path = "suite/by_value.rs"]
mod by_value;
#[path = "suite/cparse.rs"]
mod cparse;
#[path = "suite/fuzz.rs"]
mod fuzz;
#[path = "suite/headers.rs"]
mod headers;
#[path = "suite/layout.rs"]
mod layout;
#[path = "suite/lua.rs"]
mod lua;
#[path = "suite/scarce.rs"]
mod scarce;
