//! THE op table. One row per bytecode instruction; everything else (enum, names, operand modes,
//! metamethods, verifier, disassembler, dispatch tables, recorder match) derives from it.
//!
//! Names and semantics are LuaJIT 2.1's. Frames are two-slot frames: `base[-2]` holds the function,
//! `base[-1]` the frame link, so the arguments of a call at register `A` start at `A + 2`.
//!
//! A row reads `NAME a:MODE b:MODE c:MODE mm:METAMETHOD` for the `A B C` format and
//! `NAME a:MODE d:MODE mm:METAMETHOD` for the `A D` format. Rows are ordered: several relations
//! between neighbours (`FORL`, `IFORL`, `JFORL`; `ISLT`/`ISGE` inversions) are asserted below.

/// Expands the table: calls `$m!` once with all rows.
#[macro_export]
macro_rules! for_each_op {
    ($m:ident) => {
        $m! {
            // -- Comparisons: followed by a JMP, which is taken when the comparison holds.
            /// `if R[a] < R[d] then JMP`
            ISLT { a: Var, d: Var } mm: Lt;
            /// `if not (R[a] < R[d]) then JMP`
            ISGE { a: Var, d: Var } mm: Lt;
            /// `if R[a] <= R[d] then JMP`
            ISLE { a: Var, d: Var } mm: Le;
            /// `if not (R[a] <= R[d]) then JMP`
            ISGT { a: Var, d: Var } mm: Le;
            /// `if R[a] == R[d] then JMP`
            ISEQV { a: Var, d: Var } mm: Eq;
            /// `if R[a] ~= R[d] then JMP`
            ISNEV { a: Var, d: Var } mm: Eq;
            /// `if R[a] == K.gc[d] (a string) then JMP`
            ISEQS { a: Var, d: Str } mm: Eq;
            /// `if R[a] ~= K.gc[d] (a string) then JMP`
            ISNES { a: Var, d: Str } mm: Eq;
            /// `if R[a] == K.num[d] then JMP`
            ISEQN { a: Var, d: Num } mm: Eq;
            /// `if R[a] ~= K.num[d] then JMP`
            ISNEN { a: Var, d: Num } mm: Eq;
            /// `if R[a] == primitive d then JMP`
            ISEQP { a: Var, d: Pri } mm: Eq;
            /// `if R[a] ~= primitive d then JMP`
            ISNEP { a: Var, d: Pri } mm: Eq;
            // -- Unary tests.
            /// `if R[d] then R[a] = R[d]; JMP`
            ISTC { a: Dst, d: Var } mm: None;
            /// `if not R[d] then R[a] = R[d]; JMP`
            ISFC { a: Dst, d: Var } mm: None;
            /// `if R[d] then JMP`
            IST { a: Unused, d: Var } mm: None;
            /// `if not R[d] then JMP`
            ISF { a: Unused, d: Var } mm: None;
            /// Guards that `R[a]` has type `d`; emitted by builtins only, never by the compiler.
            ISTYPE { a: Var, d: Lit } mm: None;
            /// Guards that `R[a]` is a number; emitted by builtins only, never by the compiler.
            ISNUM { a: Var, d: Lit } mm: None;
            // -- Unary operations.
            /// `R[a] = R[d]`
            MOV { a: Dst, d: Var } mm: None;
            /// `R[a] = not R[d]`
            NOT { a: Dst, d: Var } mm: None;
            /// `R[a] = -R[d]`
            UNM { a: Dst, d: Var } mm: Unm;
            /// `R[a] = #R[d]`
            LEN { a: Dst, d: Var } mm: Len;
            /// `R[a] = ~R[d]` (32-bit, or 64-bit on int64 cdata)
            BNOT { a: Dst, d: Var } mm: None;
            // -- Binary operations, register and number constant.
            /// `R[a] = R[b] + K.num[c]`
            ADDVN { a: Dst, b: Var, c: Num } mm: Add;
            /// `R[a] = R[b] - K.num[c]`
            SUBVN { a: Dst, b: Var, c: Num } mm: Sub;
            /// `R[a] = R[b] * K.num[c]`
            MULVN { a: Dst, b: Var, c: Num } mm: Mul;
            /// `R[a] = R[b] / K.num[c]`
            DIVVN { a: Dst, b: Var, c: Num } mm: Div;
            /// `R[a] = R[b] % K.num[c]`
            MODVN { a: Dst, b: Var, c: Num } mm: Mod;
            /// `R[a] = K.num[c] + R[b]`
            ADDNV { a: Dst, b: Var, c: Num } mm: Add;
            /// `R[a] = K.num[c] - R[b]`
            SUBNV { a: Dst, b: Var, c: Num } mm: Sub;
            /// `R[a] = K.num[c] * R[b]`
            MULNV { a: Dst, b: Var, c: Num } mm: Mul;
            /// `R[a] = K.num[c] / R[b]`
            DIVNV { a: Dst, b: Var, c: Num } mm: Div;
            /// `R[a] = K.num[c] % R[b]`
            MODNV { a: Dst, b: Var, c: Num } mm: Mod;
            /// `R[a] = R[b] + R[c]`
            ADDVV { a: Dst, b: Var, c: Var } mm: Add;
            /// `R[a] = R[b] - R[c]`
            SUBVV { a: Dst, b: Var, c: Var } mm: Sub;
            /// `R[a] = R[b] * R[c]`
            MULVV { a: Dst, b: Var, c: Var } mm: Mul;
            /// `R[a] = R[b] / R[c]`
            DIVVV { a: Dst, b: Var, c: Var } mm: Div;
            /// `R[a] = R[b] % R[c]`
            MODVV { a: Dst, b: Var, c: Var } mm: Mod;
            /// `R[a] = R[b] ^ R[c]`
            POW { a: Dst, b: Var, c: Var } mm: Pow;
            /// `R[a] = R[b] .. ... .. R[c]`
            CAT { a: Dst, b: RBase, c: RBase } mm: Concat;
            /// `R[a] = R[b] & R[c]`
            BAND { a: Dst, b: Var, c: Var } mm: None;
            /// `R[a] = R[b] | R[c]`
            BOR { a: Dst, b: Var, c: Var } mm: None;
            /// `R[a] = R[b] ~ R[c]`
            BXOR { a: Dst, b: Var, c: Var } mm: None;
            /// `R[a] = R[b] << R[c]`
            BSHL { a: Dst, b: Var, c: Var } mm: None;
            /// `R[a] = R[b] >> R[c]` (logical)
            BSHR { a: Dst, b: Var, c: Var } mm: None;
            /// `R[a] = R[b] ~>> R[c]` (arithmetic)
            BSAR { a: Dst, b: Var, c: Var } mm: None;
            // -- Constants.
            /// `R[a] = K.gc[d]` (a string)
            KSTR { a: Dst, d: Str } mm: None;
            /// `R[a] = K.gc[d]` (a 64-bit or complex literal; a fresh cdata is not needed, they are immutable)
            KCDATA { a: Dst, d: Cdata } mm: None;
            /// `R[a] = signed 16-bit d`
            KSHORT { a: Dst, d: Lits } mm: None;
            /// `R[a] = K.num[d]`
            KNUM { a: Dst, d: Num } mm: None;
            /// `R[a] = primitive d` (0 nil, 1 false, 2 true)
            KPRI { a: Dst, d: Pri } mm: None;
            /// `R[a..=d] = nil`
            KNIL { a: Base, d: Base } mm: None;
            // -- Upvalues and closures.
            /// `R[a] = U[d]`
            UGET { a: Dst, d: Uv } mm: None;
            /// `U[a] = R[d]`
            USETV { a: Uv, d: Var } mm: None;
            /// `U[a] = K.gc[d]` (a string)
            USETS { a: Uv, d: Str } mm: None;
            /// `U[a] = K.num[d]`
            USETN { a: Uv, d: Num } mm: None;
            /// `U[a] = primitive d`
            USETP { a: Uv, d: Pri } mm: None;
            /// Closes upvalues at or above `R[a]`, then jumps.
            UCLO { a: RBase, d: Jump } mm: None;
            /// `R[a] = closure of prototype K.gc[d]`
            FNEW { a: Dst, d: Func } mm: None;
            // -- Tables.
            /// `R[a] = {}`; `d`: low 11 bits array size (0x7ff: 0x801), high 5 bits log2 of the hash size (0: no hash part).
            TNEW { a: Dst, d: Lit } mm: None;
            /// `R[a] = copy of template table K.gc[d]`
            TDUP { a: Dst, d: Tab } mm: None;
            /// `R[a] = _G[K.gc[d]]`
            GGET { a: Dst, d: Str } mm: Index;
            /// `_G[K.gc[d]] = R[a]`
            GSET { a: Var, d: Str } mm: Newindex;
            /// `R[a] = R[b][R[c]]`
            TGETV { a: Dst, b: Var, c: Var } mm: Index;
            /// `R[a] = R[b][K.gc[c]]` (a string)
            TGETS { a: Dst, b: Var, c: Str } mm: Index;
            /// `R[a] = R[b][c]`, `c` an integer 0..255
            TGETB { a: Dst, b: Var, c: Lit } mm: Index;
            /// `R[a] = rawget(R[b], R[c])`, integer key; emitted by builtins only.
            TGETR { a: Dst, b: Var, c: Var } mm: Index;
            /// `R[b][R[c]] = R[a]`
            TSETV { a: Var, b: Var, c: Var } mm: Newindex;
            /// `R[b][K.gc[c]] = R[a]`
            TSETS { a: Var, b: Var, c: Str } mm: Newindex;
            /// `R[b][c] = R[a]`, `c` an integer 0..255
            TSETB { a: Var, b: Var, c: Lit } mm: Newindex;
            /// `(R[a-1])[K.num[d].low32 ...] = R[a], R[a+1], ... (MULTRES)`
            TSETM { a: Base, d: Num } mm: Newindex;
            /// `rawset(R[b], R[c], R[a])`, integer key; emitted by builtins only.
            TSETR { a: Var, b: Var, c: Var } mm: Newindex;
            // -- Calls. `b` is results wanted + 1 (0: all, into MULTRES), `c` arguments + 1.
            /// `R[a], ... = R[a](R[a+2], ..., R[a+1+c], MULTRES values)`
            CALLM { a: Base, b: Lit, c: Lit } mm: Call;
            /// `R[a], ..., R[a+b-2] = R[a](R[a+2], ..., R[a+c])`
            CALL { a: Base, b: Lit, c: Lit } mm: Call;
            /// `return R[a](R[a+2], ..., MULTRES values)`; `d` fixed arguments.
            CALLMT { a: Base, d: Lit } mm: Call;
            /// `return R[a](R[a+2], ..., R[a+d])`
            CALLT { a: Base, d: Lit } mm: Call;
            /// `R[a], R[a+1], R[a+2] = R[a-3], R[a-2], R[a-1]; R[a], ... = R[a](R[a+2], R[a+3])`
            ITERC { a: Base, b: Lit, c: Lit } mm: Call;
            /// As ITERC, specialised for `next`: `R[a], R[a+1] = next(R[a-2], control R[a-1])`.
            ITERN { a: Base, b: Lit, c: Lit } mm: Call;
            /// `R[a], ..., R[a+b-2] = ...`; `c` is the number of fixed parameters.
            VARG { a: Base, b: Lit, c: Lit } mm: None;
            /// Checks that `R[a-3]` is `next` on a table and jumps to ITERN; else despecialises it to ITERC.
            ISNEXT { a: Base, d: Jump } mm: None;
            // -- Returns.
            /// `return R[a], ..., R[a+d-1], MULTRES values`
            RETM { a: Base, d: Lit } mm: None;
            /// `return R[a], ..., R[a+d-2]`
            RET { a: RBase, d: Lit } mm: None;
            /// `return`
            RET0 { a: RBase, d: Lit } mm: None;
            /// `return R[a]`
            RET1 { a: RBase, d: Lit } mm: None;
            // -- Loops and jumps.
            /// Numeric for: start `R[a]`, limit `R[a+1]`, step `R[a+2]`, visible copy `R[a+3]`; jumps past the loop when it is empty.
            FORI { a: Base, d: Jump } mm: None;
            /// FORI whose loop has a compiled trace.
            JFORI { a: Base, d: Jump } mm: None;
            /// Numeric for, back edge, counts hotness.
            FORL { a: Base, d: Jump } mm: None;
            /// FORL that no longer counts (blacklisted).
            IFORL { a: Base, d: Jump } mm: None;
            /// FORL that enters trace `d`.
            JFORL { a: Base, d: Trace } mm: None;
            /// Iterator loop back edge: `if R[a] ~= nil then R[a-1] = R[a]; JMP`
            ITERL { a: Base, d: Jump } mm: None;
            /// ITERL that no longer counts.
            IITERL { a: Base, d: Jump } mm: None;
            /// ITERL that enters trace `d`.
            JITERL { a: Base, d: Trace } mm: None;
            /// Marks a `while`/`repeat`/`goto` loop head, counts hotness; `d` is the jump past the loop.
            LOOP { a: RBase, d: Jump } mm: None;
            /// LOOP that no longer counts.
            ILOOP { a: RBase, d: Jump } mm: None;
            /// LOOP that enters trace `d`.
            JLOOP { a: RBase, d: Trace } mm: None;
            /// `pc += d - 0x8000`
            JMP { a: RBase, d: Jump } mm: None;
            // -- Function headers: first instruction of every function. `a` is the frame size.
            /// Fixed-argument Lua function, counts hotness.
            FUNCF { a: RBase, d: Unused } mm: None;
            /// FUNCF that no longer counts.
            IFUNCF { a: RBase, d: Unused } mm: None;
            /// FUNCF that enters trace `d`.
            JFUNCF { a: RBase, d: Trace } mm: None;
            /// Vararg Lua function.
            FUNCV { a: RBase, d: Unused } mm: None;
            /// FUNCV that no longer counts.
            IFUNCV { a: RBase, d: Unused } mm: None;
            /// FUNCV that enters trace `d`.
            JFUNCV { a: RBase, d: Trace } mm: None;
            /// Native function.
            FUNCC { a: RBase, d: Unused } mm: None;
            /// Native `pcall`, entered without a native call.
            FUNCPCALL { a: RBase, d: Unused } mm: None;
            /// Native `xpcall`, entered without a native call.
            FUNCXPCALL { a: RBase, d: Unused } mm: None;
            /// Native `coroutine.resume`, entered without a native call.
            FUNCRESUME { a: RBase, d: Unused } mm: None;
            /// Native function made by `coroutine.wrap`, entered without a native call.
            FUNCWRAP { a: RBase, d: Unused } mm: None;
            /// Native `coroutine.yield`, entered without a native call.
            FUNCYIELD { a: RBase, d: Unused } mm: None;
        }
    };
}

/// What an operand field holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Not used; zero.
    Unused,
    /// Destination register.
    Dst,
    /// Base register of a range that is read and written.
    Base,
    /// Base register of a range that is only read.
    RBase,
    /// Source register.
    Var,
    /// Upvalue index.
    Uv,
    /// Unsigned literal.
    Lit,
    /// Signed literal.
    Lits,
    /// Primitive: 0 nil, 1 false, 2 true.
    Pri,
    /// Number constant, index upward.
    Num,
    /// String constant, index downward.
    Str,
    /// Template table constant.
    Tab,
    /// Prototype constant.
    Func,
    /// 64-bit or complex constant.
    Cdata,
    /// Jump, biased by [`super::instr::BCBIAS_J`], relative to the next instruction.
    Jump,
    /// Trace number (patched forms only).
    Trace,
}

/// The metamethod an instruction falls back to. The order is the order of the metamethod name
/// table of the VM state, and the first [`Mm::FAST_COUNT`] are cached as absent in a table's flag byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Mm {
    Index,
    Newindex,
    Gc,
    Mode,
    Eq,
    Len,
    Lt,
    Le,
    Concat,
    Call,
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Unm,
    Metatable,
    Tostring,
    New,
    Pairs,
    Ipairs,
    /// No metamethod.
    None,
}

impl Mm {
    /// How many metamethods the negative cache of a table covers (`Index` to `Len`).
    pub const FAST_COUNT: u8 = 6;
    /// How many metamethods have a name.
    pub const COUNT: usize = Mm::None as usize;
    /// Names, in order, with their leading underscores.
    pub const NAMES: [&'static str; Mm::COUNT] = [
        "__index",
        "__newindex",
        "__gc",
        "__mode",
        "__eq",
        "__len",
        "__lt",
        "__le",
        "__concat",
        "__call",
        "__add",
        "__sub",
        "__mul",
        "__div",
        "__mod",
        "__pow",
        "__unm",
        "__metatable",
        "__tostring",
        "__new",
        "__pairs",
        "__ipairs",
    ];
}

/// Operand modes and metamethod of one op.
#[derive(Clone, Copy, Debug)]
pub struct OpInfo {
    /// Name in dumps.
    pub name: &'static str,
    /// Mode of `A`.
    pub a: Mode,
    /// Mode of `B`; `None` for the `A D` format.
    pub b: Option<Mode>,
    /// Mode of `C`, or of `D` in the `A D` format.
    pub cd: Mode,
    /// Metamethod.
    pub mm: Mm,
}

macro_rules! op_bmode {
    ($m:ident $n:ident) => {
        (Some(Mode::$m), Mode::$n)
    };
    ($m:ident) => {
        (None, Mode::$m)
    };
}

macro_rules! define_ops {
    ($( $(#[$doc:meta])* $name:ident { a: $a:ident, $($f:ident: $m:ident),+ } mm: $mm:ident; )*) => {
        /// One bytecode instruction.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Op { $( $(#[$doc])* $name, )* }

        impl Op {
            /// All ops, in order.
            pub const ALL: &'static [Op] = &[ $(Op::$name,)* ];
        }

        /// One entry per op, indexed by the op's number.
        pub const OP_INFO: [OpInfo; Op::COUNT] = [ $({
            let (b, cd) = op_bmode!($($m)+);
            OpInfo { name: stringify!($name), a: Mode::$a, b, cd, mm: Mm::$mm }
        },)* ];
    };
}
for_each_op!(define_ops);

impl Op {
    /// Number of ops.
    pub const COUNT: usize = Op::FUNCYIELD as usize + 1;

    /// The op with number `n`, if there is one.
    pub const fn from_u8(n: u8) -> Option<Op> {
        if (n as usize) < Op::COUNT { Some(Op::ALL[n as usize]) } else { None }
    }

    /// Operand modes, name and metamethod.
    pub const fn info(self) -> &'static OpInfo {
        &OP_INFO[self as usize]
    }

    /// Name as in dumps.
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// Whether the op is one of the comparisons or tests that are followed by a `JMP`.
    pub const fn is_cond(self) -> bool {
        (self as u8) <= Op::ISF as u8
    }

    /// Whether the op ends a basic block without falling through.
    pub const fn is_ret_or_jump(self) -> bool {
        matches!(
            self,
            Op::RETM
                | Op::RET
                | Op::RET0
                | Op::RET1
                | Op::JMP
                | Op::CALLT
                | Op::CALLMT
                | Op::UCLO
                | Op::ISNEXT
        )
    }
}

const _: () = {
    assert!(Op::ISLT as u8 ^ 1 == Op::ISGE as u8 && Op::ISLE as u8 ^ 1 == Op::ISGT as u8);
    assert!(Op::ISEQV as u8 ^ 1 == Op::ISNEV as u8 && Op::ISEQP as u8 ^ 1 == Op::ISNEP as u8);
    assert!(Op::FORL as u8 + 1 == Op::IFORL as u8 && Op::FORL as u8 + 2 == Op::JFORL as u8);
    assert!(Op::ITERL as u8 + 1 == Op::IITERL as u8 && Op::ITERL as u8 + 2 == Op::JITERL as u8);
    assert!(Op::LOOP as u8 + 1 == Op::ILOOP as u8 && Op::LOOP as u8 + 2 == Op::JLOOP as u8);
    assert!(Op::FUNCF as u8 + 1 == Op::IFUNCF as u8 && Op::FUNCF as u8 + 2 == Op::JFUNCF as u8);
    assert!(Op::COUNT == Op::ALL.len() && Op::COUNT <= 128);
};
