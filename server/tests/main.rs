//! The package's one integration binary.

mod conf;
mod http;
mod process;
