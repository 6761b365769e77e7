//! What the compiler hands over, function by function. Whoever takes it decides what a function becomes: plain data, or
//! an object on a heap the compiler knows nothing of.

use super::instr::Instr;
use super::protodef::KGc;

/// A string or name that was handed over. The number is the taker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Text(pub u64);

/// A function that was handed over. The number is the taker's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made(pub u64);

/// One function; see [`super::protodef::ProtoDef`] for the fields of the same name.
pub struct Parts<'a> {
    /// Instructions.
    pub code: &'a [Instr],
    /// Line of each; empty when stripped.
    pub lines: &'a [u32],
    /// Number constants.
    pub knum: &'a [f64],
    /// Other constants.
    pub kgc: &'a [KGc<Text, Made>],
    /// How many upvalues it has; their descriptions follow, see [`Build::describe_upvalues`].
    pub nupvals: u8,
    /// Fixed parameters.
    pub numparams: u8,
    /// Registers a frame needs.
    pub framesize: u8,
    /// `protoflags`.
    pub flags: u8,
    /// Line of the definition.
    pub firstline: u32,
    /// Line of the final `end`.
    pub lastline: u32,
    /// Names of upvalues and locals, see [`super::names`]; empty when stripped.
    pub names: &'a [u8],
}

/// Takes the functions of one chunk, inner ones first.
pub trait Build {
    /// Takes a string or name. The compiler does so once for each of a chunk.
    fn text(&mut self, bytes: &[u8]) -> Text;
    /// Takes a function. Its constants were handed over before.
    fn function(&mut self, parts: Parts) -> Made;
    /// Takes the descriptions of a function's upvalues, once the one around it is known to its end.
    fn describe_upvalues(&mut self, function: Made, descriptions: &[u16]);
}
