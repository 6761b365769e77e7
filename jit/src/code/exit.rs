//! Exit cells and the exit buffer.
//!
//! Each snapshot of a trace has a cell that holds where its exit jumps: the shared return stub, or the side
//! trace compiled for it. One more cell at the end holds the link target. The exit block stores the live
//! values raw into the exit buffer, then jumps through the cell.

/// The cells of one trace; their addresses are part of its code.
#[derive(Debug)]
pub struct ExitCells {
    cells: Box<[std::cell::Cell<usize>]>,
}

impl ExitCells {
    /// Cells for `snapshots` exits and the link, all set to `stub`.
    pub fn new(snapshots: usize, stub: usize) -> ExitCells {
        ExitCells { cells: (0..=snapshots).map(|_| std::cell::Cell::new(stub)).collect() }
    }

    /// Address of the first cell, for the code generator.
    pub fn address(&self) -> u64 {
        self.cells.as_ptr() as u64
    }

    /// Sets where an exit goes.
    pub fn set(&self, exit: usize, target: usize) {
        self.cells[exit].set(target);
    }

    /// Where an exit goes.
    pub fn get(&self, exit: usize) -> usize {
        self.cells[exit].get()
    }

    /// Index of the link cell.
    pub fn link(&self) -> usize {
        self.cells.len() - 1
    }
}

/// Where machine code leaves its live values: one buffer per VM, written by exits, read by `restore`.
#[derive(Debug)]
pub struct ExitBuffer {
    words: Box<[std::cell::Cell<u64>]>,
}

impl ExitBuffer {
    /// Most live values of one exit.
    pub const WORDS: usize = 508;
    /// First of the words behind them that helpers leave results in.
    pub const SCRATCH: usize = ExitBuffer::WORDS;

    /// An empty buffer.
    pub fn new() -> ExitBuffer {
        ExitBuffer { words: vec![std::cell::Cell::new(0); ExitBuffer::WORDS + 4].into_boxed_slice() }
    }

    /// Its address, for the code generator.
    pub fn address(&self) -> u64 {
        self.words.as_ptr() as u64
    }

    /// Reads a value.
    pub fn get(&self, i: usize) -> u64 {
        self.words[i].get()
    }

    /// Writes a value (tests).
    pub fn set(&self, i: usize, v: u64) {
        self.words[i].set(v);
    }
}

impl Default for ExitBuffer {
    fn default() -> Self {
        ExitBuffer::new()
    }
}
