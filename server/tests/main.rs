//! The package's one integration binary.

mod http;
