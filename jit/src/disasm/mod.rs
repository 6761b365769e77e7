//! Machine code as text, by crates that know the machines: x86 and x64 by one, machines whose instructions are all four bytes
//! long by another (feature `disassemblers`).

#[cfg(feature = "disassemblers")]
pub mod fixed;
pub mod x86;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its bytes.
    pub len: usize,
    /// Its text; `None` if the bytes are no whole instruction.
    pub text: Option<String>,
    /// The address it jumps to.
    pub branch: Option<u64>,
    /// The address of the memory it reads or writes, relative to itself.
    pub data: Option<u64>,
    /// Is what follows not reached from here?
    pub last: bool,
}
