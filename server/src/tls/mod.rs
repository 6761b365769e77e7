//! TLS: files of certificates and keys, names of protocols and ciphers, both sides of a connection, sessions. Knows neither
//! configuration nor Lua.

pub mod cache;
pub mod certificate;
pub mod client;
pub mod errors;
pub mod files;
pub mod names;
pub mod server;
pub mod sessions;
pub mod tickets;
pub mod verify;

use rustls::crypto::CryptoProvider;
use std::sync::{Arc, OnceLock};

/// The algorithms that there are.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
}
