//! The package's one integration binary.

mod conf;
mod fuzz;
mod http;
mod process;
