//! The native ABI: how Rust functions are called from Lua and what they answer.
//!
//! A native function runs in a frame of its own on the Lua stack (`base[0..]` are its arguments) and
//! never calls Lua itself: it returns an [`Outcome`], an intention that the interpreter carries out.
//! That keeps the native stack flat, so a coroutine can yield from anywhere.
//!
//! ```text
//!   Ok(Outcome::none())            return nothing
//!   Ok(Outcome::one(v))            return v
//!   Ok(Outcome::top(n))            return the n topmost values of the frame
//!   Ok(Outcome::call(n, label))    call what `prepare_call` set up with n arguments, all results,
//!                                  then enter this function again with `label`
//!   Ok(Outcome::pcall(n, label))   the same, protected: an error re-enters with `Entry::is_error`
//!   Ok(Outcome::tail_call(n))      become that call
//!   Ok(Outcome::yield_(n, label))  yield the n topmost values; re-entered with what resume gives
//!                                  (label 0: those become this function's results)
//!   Ok(Outcome::suspend(token, label))  suspend the whole coroutine chain on a host operation
//!   Err(Raised)                    raise the error value that `Vm::throw*` stored
//! ```

use std::num::NonZeroU64;

use crate::index::NativeId;
use crate::state::Vm;
use crate::value::Value;

/// A native function. Entered first with label 0 and the number of arguments, later with the label it
/// asked for and the number of results. Values it needs across a call live in its frame's slots.
pub type NativeFn = fn(&mut Vm, Entry) -> NativeResult;

/// What a native answers.
pub type NativeResult = Result<Outcome, Raised>;

/// An error value is pending in the VM. Made only by `Vm::throw` and its relatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raised(pub(crate) ());

/// Why and with how many values a native is entered.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub struct Entry(u64);

impl Entry {
    const ERROR: u64 = 1 << 63;

    /// First entry with `nargs` arguments.
    #[inline(always)]
    pub const fn first(nargs: usize) -> Entry {
        Entry(nargs as u64)
    }

    /// Re-entry at `label` with `n` values on top of the frame.
    #[inline(always)]
    pub const fn again(label: u32, n: usize) -> Entry {
        Entry((label as u64 & 0x7fff_ffff) << 32 | n as u64 & 0xffff_ffff)
    }

    /// Re-entry at `label` after an error in a protected call; the error value is the one value on top.
    #[inline(always)]
    pub const fn failed(label: u32) -> Entry {
        Entry(Entry::again(label, 1).0 | Entry::ERROR)
    }

    /// 0 on the first entry.
    #[inline(always)]
    pub const fn label(self) -> u32 {
        (self.0 >> 32 & 0x7fff_ffff) as u32
    }

    /// Arguments on the first entry, results afterwards.
    #[inline(always)]
    pub const fn count(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }

    /// Did the protected call end with an error?
    #[inline(always)]
    pub const fn is_error(self) -> bool {
        self.0 & Entry::ERROR != 0
    }
}

/// Kind of an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum OutcomeKind {
    /// No results.
    None = 1,
    /// One result, in the payload.
    One,
    /// `payload` results on top of the frame.
    Top,
    /// Call with `payload` arguments.
    Call,
    /// Protected call with `payload` arguments.
    Pcall,
    /// Tail call with `payload` arguments.
    TailCall,
    /// Yield `payload` values.
    Yield,
    /// Suspend on host token `payload`.
    Suspend,
}

/// A native's answer; 16 bytes, returned in two registers (which is why kind and label share a word that is never
/// zero).
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Kind in the low half, label of the re-entry in the high half.
    word: NonZeroU64,
    /// Value bits, a count, or a token.
    payload: u64,
}

impl Outcome {
    #[inline(always)]
    const fn new(kind: OutcomeKind, label: u32, payload: u64) -> Outcome {
        match NonZeroU64::new(kind as u64 | (label as u64) << 32) {
            Some(word) => Outcome { word, payload },
            None => unreachable!(),
        }
    }

    /// The kind as a number (see [`OutcomeKind`]).
    #[inline(always)]
    pub const fn kind_number(self) -> u32 {
        self.word.get() as u32
    }

    /// Is it of this kind?
    #[inline(always)]
    pub const fn is(self, kind: OutcomeKind) -> bool {
        self.kind_number() == kind as u32
    }

    /// Label of the re-entry.
    #[inline(always)]
    pub const fn label(self) -> u32 {
        (self.word.get() >> 32) as u32
    }

    /// Value bits, a count, or a token.
    #[inline(always)]
    pub const fn payload(self) -> u64 {
        self.payload
    }

    /// Returns nothing.
    #[inline(always)]
    pub const fn none() -> Outcome {
        Outcome::new(OutcomeKind::None, 0, 0)
    }

    /// Returns one value.
    #[inline(always)]
    pub const fn one(v: Value) -> Outcome {
        Outcome::new(OutcomeKind::One, 0, v.0)
    }

    /// Returns the `n` topmost values of the frame.
    #[inline(always)]
    pub const fn top(n: usize) -> Outcome {
        Outcome::new(OutcomeKind::Top, 0, n as u64)
    }

    /// Calls what [`Vm::prepare_call`] began, with the `n` values pushed since as arguments. On re-entry
    /// the results lie where `prepare_call` began, and are the topmost [`Entry::count`] values.
    #[inline(always)]
    pub const fn call(n: usize, label: u32) -> Outcome {
        Outcome::new(OutcomeKind::Call, label, n as u64)
    }

    /// As [`Outcome::call`], but an error re-enters this function too, with [`Entry::is_error`]. The label is not 0.
    #[inline(always)]
    pub const fn pcall(n: usize, label: u32) -> Outcome {
        Outcome::new(OutcomeKind::Pcall, label, n as u64)
    }

    /// Replaces this function by the prepared call.
    #[inline(always)]
    pub const fn tail_call(n: usize) -> Outcome {
        Outcome::new(OutcomeKind::TailCall, 0, n as u64)
    }

    /// Yields the `n` topmost values. Label 0: what `resume` passes becomes this function's results.
    #[inline(always)]
    pub const fn yield_(n: usize, label: u32) -> Outcome {
        Outcome::new(OutcomeKind::Yield, label, n as u64)
    }

    /// Suspends the whole chain of coroutines until the host resumes `token`. The host's values become
    /// the results (label 0) or the re-entry's values.
    #[inline(always)]
    pub const fn suspend(token: u64, label: u32) -> Outcome {
        Outcome::new(OutcomeKind::Suspend, label, token)
    }
}

/// What a call may touch, for the recorder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Result depends on the arguments alone.
    Pure,
    /// Reads memory the program can change.
    Load,
    /// Writes such memory.
    Store,
}

/// Types of a typed signature.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigType {
    /// `f64`.
    Num,
    /// `i32` (a bit operation's view of a number).
    Int,
    /// `bool`.
    Bool,
    /// A string object.
    Str,
}

/// A function that compiled code may call directly: it cannot yield, raise or collect.
#[derive(Clone, Copy, Debug)]
pub struct TypedSig {
    /// Arguments.
    pub args: &'static [SigType],
    /// Result.
    pub ret: SigType,
    /// Effect class.
    pub effect: Effect,
    /// Address of the `extern "C"` function. Takes the arguments only.
    pub addr: *const (),
}

/// One row of a library: the registration lies beside the code it registers.
#[derive(Clone, Copy)]
pub struct NativeRow {
    /// Full name, `string.rep`; the part after the last dot is the field. Error messages and dumps use it.
    pub name: &'static str,
    /// The function.
    pub f: NativeFn,
    /// Direct form for compiled code, if there is one.
    pub sig: Option<TypedSig>,
    /// Entry op: `FUNCC` for all but the few that the interpreter enters itself.
    pub op: crate::bytecode::ops::Op,
    /// The interpreter's own handler for the usual arguments, which `FUNCC` jumps to. It is entered as the header is
    /// and leaves everything it is not made for to `f`, before it has changed anything.
    pub fast: Option<crate::state::Handler>,
    /// Compiled code may call it with these arguments, if with any. It runs no collector step; when it raises, or wants to
    /// call something, the interpreter does the call again from the start, so that nothing may have happened by then.
    pub plain: Option<Takes>,
}

/// With which arguments a function does all by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    /// Values without metamethods of the program's: strings, numbers, booleans, nil; the first one may be an object of the
    /// library.
    Values,
    /// Tables and functions as well.
    Tables,
}

impl NativeRow {
    /// An ordinary row.
    pub const fn new(name: &'static str, f: NativeFn) -> NativeRow {
        NativeRow { name, f, sig: None, op: crate::bytecode::ops::Op::FUNCC, fast: None, plain: None }
    }

    /// The row with a handler of its own.
    pub const fn with_fast(self, h: crate::state::Handler) -> NativeRow {
        NativeRow { fast: Some(h), ..self }
    }

    /// The row of a function that compiled code may call.
    pub const fn plain(self, takes: Takes) -> NativeRow {
        NativeRow { plain: Some(takes), ..self }
    }

    /// The row with a typed form.
    pub const fn with_sig(self, sig: TypedSig) -> NativeRow {
        NativeRow { sig: Some(sig), ..self }
    }

    /// Is it the host's own, and not of a library? It has no name then.
    fn is_host(&self) -> bool {
        self.name.starts_with('=')
    }

    /// Is it of a library that LuaJIT numbers (`function: builtin#29`)? Others look like any C function to scripts.
    pub fn is_builtin(&self) -> bool {
        const LIBRARIES: [&str; 13] = [
            "string",
            "table",
            "math",
            "bit",
            "io",
            "file",
            "os",
            "debug",
            "jit",
            "coroutine",
            "ffi",
            "buffer",
            "thread",
        ];
        match self.name.split_once(['.', ':']) {
            Some((library, _)) => LIBRARIES.contains(&library) && self.name != "io.lines_aux",
            None => !self.is_host() && self.name != "require" && self.name != "module",
        }
    }

    /// How many parameters it has, if LuaJIT has it as a Lua function: scripts see that in `debug.getinfo`, tracebacks
    /// and positions.
    pub fn lua_params(&self) -> Option<u32> {
        match self.name {
            "string.len" | "table.getn" | "math.deg" | "math.rad" => Some(1),
            "table.foreach" | "table.foreachi" | "table.remove" => Some(2),
            "table.move" => Some(5),
            _ => None,
        }
    }

    /// Is it one of the operators of C data? Their errors belong to the instruction that led to them.
    pub fn is_operator(&self) -> bool {
        self.name.starts_with("ffi.__")
    }

    /// The field name: what follows the last dot.
    pub fn field(&self) -> &'static str {
        self.name.rsplit(['.', ':']).next().unwrap_or(self.name)
    }
}

/// The VM's table of natives, indexed by [`NativeId`].
#[derive(Default)]
pub struct NativeTable {
    rows: Vec<NativeRow>,
}

impl NativeTable {
    /// Adds a row.
    pub fn add(&mut self, row: NativeRow) -> NativeId {
        self.rows.push(row);
        NativeId::new(self.rows.len() as u32 - 1)
    }

    /// The row of a native.
    #[inline(always)]
    pub fn get(&self, id: NativeId) -> &NativeRow {
        &self.rows[id.index()]
    }

    /// Number of natives.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

const _: () = {
    assert!(std::mem::size_of::<Outcome>() == 16);
    assert!(std::mem::size_of::<NativeResult>() == 16);
};
