//! What every object is, seen from below the heap: a header and a handle. Knows no heap and no object kind.

pub mod gc_ref;
pub mod header;
