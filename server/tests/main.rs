//! The package's one integration binary.

mod conf;
mod process;
