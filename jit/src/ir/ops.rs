//! THE table of IR operations, with LuaJIT's names. Enum, names, operand kinds and effect classes derive
//! from it. Knows no encoding.

/// Kind of an operand field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opnd {
    /// Not used.
    None,
    /// A reference.
    Ref,
    /// A 16-bit literal.
    Lit,
}

/// What an instruction does to the world; decides CSE, forwarding and removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Pure: equal operands give equal results.
    Pure,
    /// A reference into memory: pure, but its meaning may be changed by stores (`NEWREF`).
    RefTo,
    /// Load: forwarded by the alias rules of `opt::forward`.
    Load,
    /// Store or another effect: never removed by DCE.
    Store,
    /// Allocation: never CSEd, removable when unused.
    Alloc,
    /// Bookkeeping of the trace: neither CSEd nor removed.
    Meta,
}

/// Expands the table: calls `$m!` once with all rows.
#[macro_export]
macro_rules! for_each_ir {
    ($m:ident) => {
        $m! {
            // Guarded comparisons; order and pairing matter (xor 1 inverts, xor 3 swaps, xor 4 unsigned/unordered).
            /// Guard `a < b` (false for NaN).
            LT (Ref, Ref) Pure;
            /// Guard `a >= b` (false for NaN).
            GE (Ref, Ref) Pure;
            /// Guard `a <= b` (false for NaN).
            LE (Ref, Ref) Pure;
            /// Guard `a > b` (false for NaN).
            GT (Ref, Ref) Pure;
            /// Guard `a < b`, unsigned; for numbers `not (a >= b)`.
            ULT (Ref, Ref) Pure;
            /// Guard `a >= b`, unsigned; for numbers `not (a < b)`.
            UGE (Ref, Ref) Pure;
            /// Guard `a <= b`, unsigned; for numbers `not (a > b)`.
            ULE (Ref, Ref) Pure;
            /// Guard `a > b`, unsigned; for numbers `not (a <= b)`.
            UGT (Ref, Ref) Pure;
            /// Guard `a == b`.
            EQ (Ref, Ref) Pure;
            /// Guard `a ~= b` (true for NaN).
            NE (Ref, Ref) Pure;
            /// Guard `b < a` unsigned: array bound `a`, index `b`.
            ABC (Ref, Ref) Pure;
            /// The base moves down by `a` slots: return to a frame below the one the trace started in.
            RETF (Lit, None) Store;
            // Bookkeeping.
            /// Nothing.
            NOP (None, None) Meta;
            /// The base of the trace's first frame.
            BASE (None, None) Meta;
            /// Parent value number `a` (a side trace's input).
            PVAL (Lit, None) Meta;
            /// Collector check.
            GCSTEP (None, None) Store;
            /// Poll of the VM's interrupt word.
            POLL (None, None) Store;
            /// Guard that `a` slots above the base fit on the stack.
            STACK (Lit, None) Store;
            /// Between the peeled first round and the loop body.
            LOOP (None, None) Store;
            /// Keeps `a` alive.
            USE (Ref, None) Store;
            /// `a` on entry of the loop, `b` after each round.
            PHI (Ref, Ref) Meta;
            // Bit operations.
            /// `~a`
            BNOT (Ref, None) Pure;
            /// Byte swap.
            BSWAP (Ref, None) Pure;
            /// `a & b`
            BAND (Ref, Ref) Pure;
            /// `a | b`
            BOR (Ref, Ref) Pure;
            /// `a ^ b`
            BXOR (Ref, Ref) Pure;
            /// `a << (b mod width)`
            BSHL (Ref, Ref) Pure;
            /// `a >> (b mod width)`, logical.
            BSHR (Ref, Ref) Pure;
            /// `a >> (b mod width)`, arithmetic.
            BSAR (Ref, Ref) Pure;
            /// Rotate left.
            BROL (Ref, Ref) Pure;
            /// Rotate right.
            BROR (Ref, Ref) Pure;
            // Arithmetic.
            /// `a + b`
            ADD (Ref, Ref) Pure;
            /// `a - b`
            SUB (Ref, Ref) Pure;
            /// `a * b`
            MUL (Ref, Ref) Pure;
            /// `a / b`
            DIV (Ref, Ref) Pure;
            /// Lua's modulo: sign of the divisor.
            MOD (Ref, Ref) Pure;
            /// `a ^ b`
            POW (Ref, Ref) Pure;
            /// `-a`
            NEG (Ref, None) Pure;
            /// Magnitude.
            ABS (Ref, None) Pure;
            /// `a * 2^b`
            LDEXP (Ref, Ref) Pure;
            /// `math.min`
            MIN (Ref, Ref) Pure;
            /// `math.max`
            MAX (Ref, Ref) Pure;
            /// Unary function number `b` ([`super::ins::fpm`]) of `a`.
            FPMATH (Ref, Lit) Pure;
            /// `a + b` with a guard against overflow.
            ADDOV (Ref, Ref) Pure;
            /// `a - b` with a guard against overflow.
            SUBOV (Ref, Ref) Pure;
            /// `a * b` with a guard against overflow.
            MULOV (Ref, Ref) Pure;
            // References.
            /// Address of slot `b` of the array `a`.
            AREF (Ref, Ref) RefTo;
            /// Guarded address of the node that holds key `b` of table `a`'s node array; slot number in the key's `KSLOT`.
            HREFK (Ref, Ref) RefTo;
            /// Address of the value at key `b` in the hash part of table `a`, or of the nil node.
            HREF (Ref, Ref) RefTo;
            /// Address of a new key `b` in table `a`.
            NEWREF (Ref, Ref) Store;
            /// Address of upvalue `b` of function `a`, guarded to be open and on this stack; kept as a pointer.
            UREFO (Ref, Lit) RefTo;
            /// Address of upvalue `b` of function `a`, guarded to be closed.
            UREFC (Ref, Lit) RefTo;
            /// Address of field `b` of object `a`.
            FREF (Ref, Lit) RefTo;
            /// Address of byte `b` of string `a`.
            STRREF (Ref, Ref) RefTo;
            // Loads and stores.
            /// Value at an array reference.
            ALOAD (Ref, None) Load;
            /// Value at a hash reference.
            HLOAD (Ref, None) Load;
            /// Value of an upvalue reference.
            ULOAD (Ref, None) Load;
            /// Field `b` ([`super::ins::Field`]) of object `a`.
            FLOAD (Ref, Lit) Load;
            /// Raw memory at `a`; `b` is 1 for memory that never changes.
            XLOAD (Ref, Lit) Load;
            /// Stack slot `a` relative to the trace's base minus 2; `b` is [`super::ins::sload`] bits.
            SLOAD (Lit, Lit) Load;
            /// Word `b` of what the call `a` left in the scratch words, as a boxed value.
            VLOAD (Ref, Lit) Load;
            /// Length of table `a`; `b` is a hint or nothing.
            ALEN (Ref, Ref) Load;
            /// `*a = b` in an array.
            ASTORE (Ref, Ref) Store;
            /// `*a = b` in a hash part.
            HSTORE (Ref, Ref) Store;
            /// `*a = b` in an upvalue.
            USTORE (Ref, Ref) Store;
            /// Field store; `a` is an `FREF`.
            FSTORE (Ref, Ref) Store;
            /// Raw store.
            XSTORE (Ref, Ref) Store;
            // Allocation.
            /// String from pointer `a` and length `b`.
            SNEW (Ref, Ref) Alloc;
            /// New table; `a` array size, `b` log2 of the hash size plus one.
            TNEW (Lit, Lit) Alloc;
            /// Copy of the template table `a`.
            TDUP (Ref, None) Alloc;
            /// New zero-filled cdata of ctype `a`; `b` is the size in bytes, a 64-bit integer. The alignment is at most 16.
            CNEW (Ref, Ref) Alloc;
            /// New immutable cdata of ctype `a` with the eight bytes `b`.
            CNEWI (Ref, Ref) Alloc;
            // Barriers.
            /// Write barrier of table `a`.
            TBAR (Ref, None) Store;
            /// Write barrier of upvalue object `a` for value `b`.
            OBAR (Ref, Ref) Store;
            // Conversions.
            /// Conversion of `a`; `b` is source type and mode ([`super::ins::conv`]).
            CONV (Ref, Lit) Pure;
            /// Number to 32 bits, modulo 2^32, by adding a magic number (`a` + 2^52 + 2^51).
            TOBIT (Ref, Ref) Pure;
            /// String of number `a`.
            TOSTR (Ref, None) Alloc;
            /// Number of string `a`, guarded.
            STRTO (Ref, None) Pure;
            /// Call of a function of the library, whose frame is among what the snapshot writes: the function in slot `a`, `b` says
            /// how many arguments and results ([`super::ins::native`]). The number of results; leaves the trace if the
            /// interpreter has to do the call.
            NATIVE (Lit, Lit) Store;
            /// What `NATIVE` `a` has left in slot `b`.
            NLOAD (Ref, Lit) Load;
            // Calls; `a` is the last of a chain of CARG or a single argument, `b` a helper number.
            /// Pure call.
            CALLN (Ref, Lit) Pure;
            /// Allocating call.
            CALLA (Ref, Lit) Alloc;
            /// Loading call: CSEd unless there is a store in between.
            CALLL (Ref, Lit) Load;
            /// Call with effects.
            CALLS (Ref, Lit) Store;
            /// Call of C function number `b` of the trace ([`crate::trace::CCall`]) with the arguments `a`.
            CALLXS (Ref, Lit) Store;
            /// Argument list: `a` is the list so far or the first argument, `b` the next one.
            CARG (Ref, Ref) Meta;
        }
    };
}

macro_rules! define_ir {
    ($($(#[$doc:meta])* $name:ident ($a:ident, $b:ident) $class:ident;)*) => {
        /// An IR operation.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum IrOp { $($(#[$doc])* $name,)* }

        impl IrOp {
            /// All operations, in order.
            pub const ALL: &'static [IrOp] = &[$(IrOp::$name,)*];

            /// Name.
            pub const fn name(self) -> &'static str {
                match self { $(IrOp::$name => stringify!($name),)* }
            }

            /// Kinds of both operands.
            pub const fn operands(self) -> (Opnd, Opnd) {
                match self { $(IrOp::$name => (Opnd::$a, Opnd::$b),)* }
            }

            /// Effect class.
            pub const fn class(self) -> Class {
                match self { $(IrOp::$name => Class::$class,)* }
            }
        }
    };
}
for_each_ir!(define_ir);

impl IrOp {
    /// Number of operations.
    pub const COUNT: usize = IrOp::CARG as usize + 1;

    /// The operation with number `n`.
    pub const fn from_index(n: usize) -> IrOp {
        IrOp::ALL[n]
    }

    /// By name.
    pub fn from_name(s: &str) -> Option<IrOp> {
        IrOp::ALL.iter().copied().find(|o| o.name() == s)
    }

    /// Do the operands commute?
    pub const fn is_commutative(self) -> bool {
        matches!(
            self,
            IrOp::EQ
                | IrOp::NE
                | IrOp::BAND
                | IrOp::BOR
                | IrOp::BXOR
                | IrOp::ADD
                | IrOp::MUL
                | IrOp::ADDOV
                | IrOp::MULOV
        )
    }

    /// One of the ten comparisons.
    pub const fn is_comparison(self) -> bool {
        (self as u8) <= IrOp::NE as u8
    }

    /// The comparison that holds when this one does not.
    pub const fn inverted(self) -> IrOp {
        IrOp::from_index(self as usize ^ 1)
    }

    /// For the eight orderings: the same comparison with exchanged operands.
    pub const fn swapped(self) -> IrOp {
        if (self as u8) < IrOp::EQ as u8 { IrOp::from_index(self as usize ^ 3) } else { self }
    }
}

const _: () = {
    assert!(IrOp::LT.inverted() as u8 == IrOp::GE as u8 && IrOp::LT.swapped() as u8 == IrOp::GT as u8);
    assert!(IrOp::GE.swapped() as u8 == IrOp::LE as u8 && IrOp::LE.inverted() as u8 == IrOp::GT as u8);
    assert!(IrOp::ULT as u8 == IrOp::LT as u8 ^ 4 && IrOp::UGT.swapped() as u8 == IrOp::ULT as u8);
    assert!(IrOp::EQ.inverted() as u8 == IrOp::NE as u8);
};
