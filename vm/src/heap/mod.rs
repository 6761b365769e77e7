//! Heap mechanics: cells, headers, handles, accounting. Knows no object kinds beyond their headers.

pub mod gc_ref;
pub mod header;

/// The heap of one VM.
pub struct Heap {
    _private: (),
}
