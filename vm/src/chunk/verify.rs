//! What the interpreter trusts, checked on prototypes from outside.
//!
//! - every op is one the compiler emits; no patched form, no function header but the first word
//! - registers lie below the frame size, constants and upvalues exist and have the right kind
//! - jumps stay inside the function, a comparison is followed by its `JMP`, nothing falls off the end
//! - an instruction that takes "all values" directly follows the one that made them
//! - numeric and generic loops have both their ends, which name the same registers
//! - every way round a loop leads over an instruction that looks at the limits
//! - a function leaves no upvalue open on its frame
//! - a loop specialised on `next` keeps its hidden registers to itself; where that cannot be shown
//!   the loop is made a plain one
//! - numbers are numbers: no NaN that would read as another type

use crate::bytecode::instr::Instr;
use crate::bytecode::ops::{Mode, Op};
use crate::bytecode::protodef::{KGc, KVal, ProtoDef, TSETM_BIAS, UV_IMMUTABLE, UV_LOCAL, protoflags};
use crate::limits::{LOCALS_MAX, SLOTS_MAX, TABLE_ARRAY_MAX, UPVALUES_MAX_COMPAT52};

/// The prototype breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// The rule.
    pub rule: &'static str,
    /// The instruction, where it is about one.
    pub pc: u32,
}

type Result<T> = std::result::Result<T, Invalid>;

fn require(holds: bool, rule: &'static str, pc: usize) -> Result<()> {
    if holds { Ok(()) } else { Err(Invalid { rule, pc: pc as u32 }) }
}

/// Checks a function and those inside it.
pub fn verify(def: &mut ProtoDef) -> Result<()> {
    for k in &mut def.kgc {
        if let KGc::Proto(child) = k {
            verify(child)?;
        }
    }
    let plain_loops = Function::new(def)?.check()?;
    for (head, call) in plain_loops {
        def.code[head] = Instr(def.code[head]).with_op(Op::JMP).0;
        def.code[call] = Instr(def.code[call]).with_op(Op::ITERC).0;
    }
    Ok(())
}

/// A set of registers.
type Slots = [u64; 4];

fn slot_range(from: usize, to: usize) -> Slots {
    let mut set = [0; 4];
    for s in from..to.min(256) {
        set[s / 64] |= 1 << (s % 64);
    }
    set
}

fn meet(a: &Slots, b: &Slots) -> bool {
    a.iter().zip(b).any(|(x, y)| x & y != 0)
}

/// One function under examination.
struct Function<'d> {
    def: &'d ProtoDef,
    code: Vec<Instr>,
    ops: Vec<Op>,
    /// Instructions that jump to each instruction.
    sources: Vec<Vec<u32>>,
}

impl<'d> Function<'d> {
    fn new(def: &'d ProtoDef) -> Result<Function<'d>> {
        require(def.code.len() >= 2 && def.code.len() <= 1 << 26, "length of the code", 0)?;
        let code: Vec<Instr> = def.code.iter().map(|&w| Instr(w)).collect();
        let mut ops = Vec::with_capacity(code.len());
        for (pc, ins) in code.iter().enumerate() {
            match Op::from_u8(ins.op_byte()) {
                Some(op) => ops.push(op),
                None => require(false, "known ops", pc)?,
            }
        }
        let mut sources = vec![Vec::new(); code.len()];
        for (pc, ins) in code.iter().enumerate().skip(1) {
            if ops[pc].info().cd == Mode::Jump {
                let target = pc as i64 + 1 + ins.j() as i64;
                require(target >= 1 && target < code.len() as i64, "jumps stay inside", pc)?;
                sources[target as usize].push(pc as u32);
            }
        }
        Ok(Function { def, code, ops, sources })
    }

    /// Checks everything. Returns the loops over `next` that must become plain: the places of
    /// their `ISNEXT` and `ITERN`.
    fn check(&self) -> Result<Vec<(usize, usize)>> {
        self.header()?;
        self.constants()?;
        self.debug_info()?;
        for pc in 1..self.code.len() {
            self.instruction(pc)?;
        }
        let last = self.code.len() - 1;
        require(!self.falls_through(last), "the end is not reached", last)?;
        self.loops_look()?;
        let open = self.open_upvalues()?;
        Ok(self.unproven_next_loops(&open))
    }

    fn header(&self) -> Result<()> {
        let def = self.def;
        let vararg = def.flags & protoflags::VARARG != 0;
        let op = if vararg { Op::FUNCV } else { Op::FUNCF };
        require(self.ops[0] == op && self.code[0].d() == 0, "header", 0)?;
        require(self.code[0].a() == def.framesize as u32, "frame size in the header", 0)?;
        require(def.framesize >= 1 && (def.framesize as usize) < SLOTS_MAX, "frame size", 0)?;
        require(def.numparams <= def.framesize, "parameters lie in the frame", 0)?;
        require((def.numparams as usize) <= LOCALS_MAX, "number of parameters", 0)?;
        let known =
            protoflags::CHILD | protoflags::VARARG | protoflags::FFI | protoflags::NOJIT | protoflags::UCLO;
        require(def.flags & !known == 0, "flags", 0)?;
        require(def.upvals.len() <= UPVALUES_MAX_COMPAT52, "number of upvalues", 0)
    }

    fn constants(&self) -> Result<()> {
        let def = self.def;
        require(def.kgc.len() <= 0x10000 && def.knum.len() <= 0x10000, "number of constants", 0)?;
        require(def.knum.iter().all(|n| is_plain(*n)), "number constants", 0)?;
        for k in &def.kgc {
            match k {
                KGc::Proto(child) => {
                    for &uv in &child.upvals {
                        let index = (uv & !(UV_LOCAL | UV_IMMUTABLE)) as usize;
                        let limit =
                            if uv & UV_LOCAL != 0 { def.framesize as usize } else { def.upvals.len() };
                        require(index < limit, "captured variables exist", 0)?;
                    }
                }
                KGc::TableTemplate { array, hash } => {
                    require(array.len() <= TABLE_ARRAY_MAX, "size of a template", 0)?;
                    let plain = |v: &KVal| !matches!(v, KVal::Num(n) if !is_plain(*n));
                    require(array.iter().all(plain), "template values", 0)?;
                    for (key, value) in hash {
                        let is_key = match key {
                            KVal::Nil => false,
                            KVal::Num(n) => !n.is_nan(),
                            _ => true,
                        };
                        require(is_key && plain(value), "template keys and values", 0)?;
                    }
                }
                KGc::Complex(n) => require(is_plain(*n), "complex constants", 0)?,
                KGc::Str(_) | KGc::Int64(_) | KGc::UInt64(_) => {}
            }
        }
        Ok(())
    }

    fn debug_info(&self) -> Result<()> {
        let def = self.def;
        let optional = |n: usize, want: usize| n == 0 || n == want;
        require(optional(def.lines.len(), def.code.len()), "number of lines", 0)?;
        require(optional(def.upvalue_names.len(), def.upvals.len()), "number of upvalue names", 0)?;
        for local in &def.locals {
            let ordered = local.startpc <= local.endpc && local.endpc as usize <= def.code.len();
            require(ordered && local.slot < def.framesize, "ranges of locals", 0)?;
        }
        Ok(())
    }

    fn target(&self, pc: usize) -> usize {
        (pc as i64 + 1 + self.code[pc].j() as i64) as usize
    }

    /// Whether control may go on to the next instruction.
    fn falls_through(&self, pc: usize) -> bool {
        !matches!(
            self.ops[pc],
            Op::RETM
                | Op::RET
                | Op::RET0
                | Op::RET1
                | Op::CALLT
                | Op::CALLMT
                | Op::JMP
                | Op::UCLO
                | Op::ISNEXT
        )
    }

    fn op_at(&self, pc: usize) -> Option<Op> {
        self.ops.get(pc).copied()
    }

    /// Operands and neighbours of one instruction.
    fn instruction(&self, pc: usize) -> Result<()> {
        let (op, ins) = (self.ops[pc], self.code[pc]);
        let (a, b, c, d) = (ins.a() as usize, ins.b() as usize, ins.c() as usize, ins.d() as usize);
        let size = self.def.framesize as usize;
        let info = op.info();
        self.operand(pc, info.a, a)?;
        match info.b {
            Some(mode) => {
                self.operand(pc, mode, b)?;
                self.operand(pc, info.cd, c)?;
            }
            None => self.operand(pc, info.cd, d)?,
        }
        let fits = |slots: usize| require(slots <= size, "operands lie in the frame", pc);
        match op {
            _ if op.is_cond() && !matches!(op, Op::ISTYPE | Op::ISNUM) => {
                let jump = self.op_at(pc + 1) == Some(Op::JMP) && pc + 2 < self.code.len();
                require(jump, "a test is followed by its jump", pc)
            }
            Op::KNIL => require(a <= d, "range of KNIL", pc),
            Op::CAT => require(b < c, "range of CAT", pc),
            Op::TNEW => {
                // A hash part is made for as many keys as the constructor stores.
                let bits = d >> 11;
                require(bits <= 26 && (bits <= 1 || 1 << (bits - 1) < self.code.len()), "size of TNEW", pc)
            }
            Op::TSETM => {
                let first = self.def.knum[d] - TSETM_BIAS;
                let ok = first >= 1.0 && first < TABLE_ARRAY_MAX as f64 && first.fract() == 0.0;
                require(a >= 1 && ok, "operands of TSETM", pc)?;
                self.takes_all(pc, a)
            }
            Op::CALL => {
                require(c >= 1, "arguments of CALL", pc)?;
                fits(a + 1 + c)?;
                fits(a + b.max(1) - 1)
            }
            Op::CALLM => {
                fits(a + 2 + c)?;
                fits(a + b.max(1) - 1)?;
                self.takes_all(pc, a + 2 + c)
            }
            Op::CALLT => {
                require(d >= 1, "arguments of CALLT", pc)?;
                fits(a + 1 + d)
            }
            Op::CALLMT => {
                fits(a + 2 + d)?;
                self.takes_all(pc, a + 2 + d)
            }
            Op::ITERC | Op::ITERN => {
                require(a >= 3 && c == 3 && b >= 1, "operands of an iterator call", pc)?;
                fits(a + 4)?;
                fits(a + b - 1)?;
                let back = self.op_at(pc + 1) == Some(Op::ITERL) && self.code[pc + 1].a() == ins.a();
                require(back, "an iterator call is followed by ITERL", pc)
            }
            Op::ITERL => {
                let call = matches!(self.ops[pc - 1], Op::ITERC | Op::ITERN);
                let same = self.code[pc - 1].a() == ins.a();
                require(call && same && self.sources[pc].is_empty(), "ITERL follows its call", pc)
            }
            Op::ISNEXT => {
                let call = self.target(pc);
                let same = self.ops[call] == Op::ITERN && self.code[call].a() == ins.a();
                require(a >= 3 && same, "ISNEXT leads to its ITERN", pc)
            }
            Op::VARG => {
                let vararg = self.def.flags & protoflags::VARARG != 0;
                require(vararg && c == self.def.numparams as usize, "VARG in a vararg function", pc)?;
                fits(a + b.max(1) - 1)
            }
            Op::RETM => {
                fits(a + d)?;
                self.takes_all(pc, a + d)
            }
            Op::RET => {
                require(d >= 1, "operands of RET", pc)?;
                fits(a + d - 1)
            }
            Op::RET0 => require(d == 1, "operands of RET0", pc),
            Op::RET1 => require(d == 2 && a < size, "operands of RET1", pc),
            Op::FORI => {
                fits(a + 4)?;
                let back = self.target(pc) - 1;
                let pair = back > pc && self.ops[back] == Op::FORL && self.code[back].a() == ins.a();
                require(pair && self.target(back) == pc + 1, "FORI has its FORL", pc)
            }
            Op::FORL => {
                fits(a + 4)?;
                let head = self.target(pc) - 1;
                let pair = head < pc && self.ops[head] == Op::FORI && self.code[head].a() == ins.a();
                require(pair && self.target(head) == pc + 1, "FORL has its FORI", pc)
            }
            _ => Ok(()),
        }
    }

    /// One operand by its mode, and that the op is one the compiler emits.
    fn operand(&self, pc: usize, mode: Mode, v: usize) -> Result<()> {
        let def = self.def;
        let op = self.ops[pc];
        let emitted = !matches!(op, Op::ISTYPE | Op::ISNUM | Op::TGETR | Op::TSETR | Op::JFORI | Op::IFORL)
            && !matches!(op, Op::IITERL | Op::ILOOP)
            && op < Op::FUNCF;
        require(emitted, "ops of compiled code", pc)?;
        let size = def.framesize as usize;
        match mode {
            Mode::Unused | Mode::Lit | Mode::Lits | Mode::Jump => Ok(()),
            Mode::Dst | Mode::Var => require(v < size, "registers", pc),
            // The base of an empty range may be the end of the frame.
            Mode::Base | Mode::RBase => require(v <= size && (v < size || !needs_slot(op)), "registers", pc),
            Mode::Uv => require(v < def.upvals.len(), "upvalues", pc),
            Mode::Pri => require(v <= 2, "primitives", pc),
            Mode::Num => require(v < def.knum.len(), "number constants", pc),
            Mode::Str => require(matches!(def.kgc.get(v), Some(KGc::Str(_))), "string constants", pc),
            Mode::Tab => {
                require(matches!(def.kgc.get(v), Some(KGc::TableTemplate { .. })), "template constants", pc)
            }
            Mode::Func => require(matches!(def.kgc.get(v), Some(KGc::Proto(_))), "function constants", pc),
            Mode::Cdata => {
                let ok = matches!(def.kgc.get(v), Some(KGc::Int64(_) | KGc::UInt64(_) | KGc::Complex(_)));
                require(ok, "cdata constants", pc)
            }
            Mode::Trace => require(false, "ops of compiled code", pc),
        }
    }

    /// Whether the instruction makes "all values" from register `first` on.
    fn makes_all(&self, pc: usize, first: usize) -> bool {
        let ins = self.code[pc];
        matches!(self.ops[pc], Op::CALL | Op::CALLM | Op::VARG) && ins.b() == 0 && ins.a() as usize == first
    }

    /// "All values" from `first` on are there when control comes to `pc`, on every way.
    fn takes_all(&self, pc: usize, first: usize) -> Result<()> {
        let rule = "all values were just made";
        require(pc < 2 || !self.ops[pc - 2].is_cond(), rule, pc)?;
        let mut reached = false;
        if self.falls_through(pc - 1) {
            require(self.makes_all(pc - 1, first), rule, pc)?;
            reached = true;
        }
        // Only closing upvalues may stand between.
        for &from in &self.sources[pc] {
            let from = from as usize;
            let closes = self.ops[from] == Op::UCLO && self.sources[from].is_empty() && from > 1;
            require(closes && self.makes_all(from - 1, first), rule, pc)?;
            reached = true;
        }
        require(reached, rule, pc)
    }

    /// Registers an instruction may write.
    fn writes(&self, pc: usize) -> Slots {
        let (op, ins) = (self.ops[pc], self.code[pc]);
        let a = ins.a() as usize;
        match op {
            Op::CALL | Op::CALLM | Op::VARG => slot_range(a, 256),
            Op::KNIL => slot_range(a, ins.d() as usize + 1),
            Op::CAT => {
                let mut set = slot_range(ins.b() as usize, 256);
                set[a / 64] |= 1 << (a % 64);
                set
            }
            Op::ITERC | Op::ITERN | Op::ITERL | Op::ISNEXT => slot_range(a.saturating_sub(1), 256),
            Op::FORI | Op::FORL => slot_range(a, a + 4),
            _ if op.info().a == Mode::Dst => slot_range(a, a + 1),
            _ => [0; 4],
        }
    }

    /// Registers of this frame a closure made here captures.
    fn captures(&self, pc: usize) -> Slots {
        let mut set = [0; 4];
        if self.ops[pc] == Op::FNEW
            && let Some(KGc::Proto(child)) = self.def.kgc.get(self.code[pc].d() as usize)
        {
            for uv in child.upvals.iter().filter(|uv| *uv & UV_LOCAL != 0) {
                let slot = (uv & 0xff) as usize;
                set[slot / 64] |= 1 << (slot % 64);
            }
        }
        set
    }

    /// Where control may go from an instruction.
    fn successors(&self, pc: usize) -> impl Iterator<Item = usize> {
        let op = self.ops[pc];
        let next = self.falls_through(pc).then_some(pc + 1);
        let skip = op.is_cond().then_some(pc + 2);
        let jump = (op.info().cd == Mode::Jump && op != Op::LOOP).then(|| self.target(pc));
        next.into_iter().chain(skip).chain(jump)
    }

    /// No cycle without one of the instructions that count rounds: else no limit could end it.
    fn loops_look(&self) -> Result<()> {
        let looks = |pc: usize| matches!(self.ops[pc], Op::FORL | Op::ITERL | Op::LOOP);
        let backwards =
            |pc: usize| self.ops[pc].info().cd == Mode::Jump && !looks(pc) && self.target(pc) <= pc;
        if !(1..self.code.len()).any(backwards) {
            return Ok(());
        }
        const NEW: u8 = 0;
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![NEW; self.code.len()];
        for start in 1..self.code.len() {
            let mut work = vec![start];
            while let Some(&pc) = work.last() {
                if state[pc] != NEW || looks(pc) {
                    state[pc] = DONE;
                    work.pop();
                    continue;
                }
                state[pc] = OPEN;
                for to in self.successors(pc) {
                    require(state[to] != OPEN, "loops look at the limits", pc)?;
                    if state[to] == NEW {
                        work.push(to);
                    }
                }
            }
        }
        Ok(())
    }

    /// The registers with open upvalues before each instruction; none may be left at a return.
    fn open_upvalues(&self) -> Result<Vec<Slots>> {
        let n = self.code.len();
        let mut open = vec![[0u64; 4]; n];
        if !self.ops.contains(&Op::FNEW) {
            return Ok(open);
        }
        let mut seen = vec![false; n];
        let mut work = vec![1usize];
        seen[1] = true;
        while let Some(pc) = work.pop() {
            let mut after = open[pc];
            let op = self.ops[pc];
            for (x, y) in after.iter_mut().zip(self.captures(pc)) {
                *x |= y;
            }
            if op == Op::UCLO {
                let kept = slot_range(0, self.code[pc].a() as usize);
                for (x, y) in after.iter_mut().zip(kept) {
                    *x &= y;
                }
            }
            let leaves = matches!(op, Op::RETM | Op::RET | Op::RET0 | Op::RET1 | Op::CALLT | Op::CALLMT);
            require(!leaves || after == [0; 4], "upvalues are closed on the way out", pc)?;
            for to in self.successors(pc) {
                let mut changed = !seen[to];
                for (x, y) in open[to].iter_mut().zip(after) {
                    changed |= y & !*x != 0;
                    *x |= y;
                }
                if changed {
                    seen[to] = true;
                    work.push(to);
                }
            }
        }
        Ok(open)
    }

    /// Loops over `next` whose hidden registers might change behind their back.
    fn unproven_next_loops(&self, open: &[Slots]) -> Vec<(usize, usize)> {
        let mut heads = vec![0; self.code.len()];
        let mut unproven = Vec::new();
        for pc in 1..self.code.len() {
            if self.ops[pc] != Op::ISNEXT {
                continue;
            }
            let call = self.target(pc);
            heads[call] += 1;
            if !self.is_next_loop(pc, call, open) {
                unproven.push((pc, call));
            }
        }
        // An ITERN that no ISNEXT, or more than one, leads to.
        for pc in 1..self.code.len() {
            if self.ops[pc] == Op::ITERN && heads[pc] != 1 {
                unproven.extend(
                    (1..pc).filter(|&h| self.ops[h] == Op::ISNEXT && self.target(h) == pc).map(|h| (h, pc)),
                );
                if heads[pc] == 0 {
                    unproven.push((pc, pc));
                }
            }
        }
        unproven
    }

    fn is_next_loop(&self, head: usize, call: usize, open: &[Slots]) -> bool {
        if call <= head {
            return false;
        }
        let a = self.code[head].a() as usize;
        let hidden = slot_range(a - 3, a);
        let inside = head + 1..call + 2;
        // The body is entered by the loop only.
        for to in inside.clone() {
            for &from in &self.sources[to] {
                let from = from as usize;
                let is_head = from == head && to == call;
                if !is_head && !inside.contains(&from) {
                    return false;
                }
            }
        }
        if self.target(call + 1) != head + 1 || meet(&open[head], &hidden) {
            return false;
        }
        (head + 1..call).all(|pc| !meet(&self.writes(pc), &hidden) && !meet(&self.captures(pc), &hidden))
    }
}

/// Ops whose base register itself is read or written.
fn needs_slot(op: Op) -> bool {
    !matches!(op, Op::JMP | Op::LOOP | Op::UCLO | Op::RETM | Op::RET | Op::RET0 | Op::TSETM)
}

/// Not a NaN, or the one NaN that arithmetic makes: others could read as tagged values.
fn is_plain(n: f64) -> bool {
    !n.is_nan() || n.to_bits() & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000
}
