//! Shared-memory zones: one mapping made before the fork, seen by every worker.
//!
//! `shm` owns the mapping and its robust lock and is the only file here with
//! `unsafe`; `slab` and `lru` work on the plain byte slice the lock hands out;
//! `shdict` is the dictionary on top, `sessions` keeps those of TLS in one; `pids` is the list of workers. Nothing here knows Lua, requests or logs:
//! trouble is told through the alert function a zone was made with.

pub mod lru;
pub mod pids;
pub mod sessions;
pub mod shdict;
pub mod shm;
pub mod slab;
