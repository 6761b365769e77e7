//! Heap mechanics: cells, headers, handles, accounting. Knows no object kinds beyond their headers.

pub use crate::cell::{gc_ref, header};

/// The heap of one VM.
pub struct Heap {
    _private: (),
}

impl gc_ref::HeapAccess for Heap {}
