//! A signature whose arguments all travel in registers, with what each parameter takes without a general conversion.

use std::cell::Cell;
use std::rc::Rc;

use super::classify::{FLOAT_REGS, INT_REGS, Prepared};

/// What becomes of a Lua number, or whether it cannot be one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepts {
    /// An integer of this many bytes.
    Int {
        /// Size in bytes.
        bytes: u8,
        /// Whether it has a sign.
        signed: bool,
    },
    /// A `float`.
    F32,
    /// A `double`.
    F64,
    /// A pointer: no number, but `nil`.
    Pointer,
    /// Only the general conversion knows.
    Other,
}

/// How an object that is known to be accepted becomes a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectWord {
    /// The address of its payload.
    Address,
    /// The eight bytes of its payload.
    Payload,
}

/// One parameter.
#[derive(Debug)]
pub struct Param {
    /// Numbers.
    pub accepts: Accepts,
    /// Travels in a floating point register.
    pub float: bool,
    /// Takes a string's bytes.
    pub strings: bool,
    /// The last type of C data that was accepted (0: none yet), and how.
    pub object: Cell<(u32, ObjectWord)>,
}

/// What the result becomes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Returns {
    /// No result.
    Nothing,
    /// A number: the word is a signed integer.
    Int,
    /// A number: the word is an unsigned integer.
    Uint,
    /// A number: the word is a `float`.
    F32,
    /// A number: the word is a `double`.
    F64,
    /// A boolean.
    Bool,
    /// An object of this type with the word as its payload.
    Object(u32),
    /// Only the general conversion knows.
    Other,
}

/// A signature ready for calls with words.
pub struct Direct {
    /// The signature.
    pub prepared: Rc<Prepared>,
    /// Its parameters.
    pub params: Box<[Param]>,
    /// Its result.
    pub returns: Returns,
}

/// The registers of one call.
pub struct Registers {
    pub(super) g: [u64; INT_REGS],
    pub(super) x: [f64; FLOAT_REGS],
    ints: usize,
    floats: usize,
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

impl Registers {
    /// No arguments yet.
    #[inline]
    pub fn new() -> Registers {
        Registers { g: [0; INT_REGS], x: [0.0; FLOAT_REGS], ints: 0, floats: 0 }
    }

    /// The next argument, as a word: an integer extended to eight bytes, or a float's bits. More than fit are dropped: a
    /// signature that is called in this way has no more.
    #[inline]
    pub fn push(&mut self, float: bool, word: u64) {
        if float {
            if let Some(x) = self.x.get_mut(self.floats) {
                *x = f64::from_bits(word);
            }
            self.floats += 1;
        } else {
            if let Some(g) = self.g.get_mut(self.ints) {
                *g = word;
            }
            self.ints += 1;
        }
    }
}
