//! The machine's state.

pub mod hooks;
pub mod native;

use crate::heap::Heap;

/// One virtual machine.
pub struct Vm {
    /// The heap.
    pub heap: Heap,
}
