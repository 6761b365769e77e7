//! Bytecode as plain data: the op table, the instruction word, prototypes before they meet the heap.
//! Knows no heap and no interpreter.

pub mod build;
pub mod chunkname;
pub mod disasm;
pub mod instr;
pub mod names;
pub mod ops;
pub mod protodef;
