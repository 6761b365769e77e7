//! The recorder: follows the interpreter instruction by instruction and emits IR for what it does. One
//! exhaustive match over the bytecode; families live in files that mirror the interpreter's. Knows no machine.

mod arith;
mod builtins;
pub(crate) mod call;
#[cfg(feature = "ffi")]
mod carith;
#[cfg(feature = "ffi")]
mod ccall;
#[cfg(feature = "ffi")]
mod cconv;
#[cfg(feature = "ffi")]
mod cdata;
#[cfg(feature = "ffi")]
mod clib;
#[cfg(feature = "ffi")]
mod cnew;
mod compare;
mod frames;
mod index;
mod loops;
mod natives;
mod recursion;
mod returns;
pub mod slots;
mod upvalues;
#[cfg(not(feature = "ffi"))]
mod without_ffi;

use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::opt::{self, Passes};
use crate::options::Params;
use crate::trace::Trace;
use crate::trace::link::Link;
use crate::view::At;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::state::Vm;
use moonlit_vm::state::profile::Grain;
use moonlit_vm::value::Value;
use slots::TRef;

/// What an instruction's recording leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Go on with the next instruction.
    Next,
    /// The trace is complete.
    Done,
}

/// What kind of trace is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A loop: address of its back edge or head.
    Loop {
        /// The hot instruction.
        pc: usize,
        /// Its op.
        op: Op,
    },
    /// A function that is entered often.
    Function {
        /// Its header.
        pc: usize,
    },
    /// A side trace.
    Side {
        /// Parent trace.
        parent: u32,
        /// Its exit.
        exit: u32,
    },
}

impl Kind {
    /// The instruction that was hot, of a root trace.
    pub const fn hot(self) -> Option<usize> {
        match self {
            Kind::Loop { pc, .. } | Kind::Function { pc } => Some(pc),
            Kind::Side { .. } => None,
        }
    }
}

/// A trace being recorded.
#[derive(Debug)]
pub struct Rec {
    /// The trace so far.
    pub trace: Trace,
    /// What is recorded.
    pub kind: Kind,
    /// First instruction of the trace.
    pub start_pc: usize,
    /// Objects the trace refers to.
    pub keep: Vec<Value>,
    /// Most slots above the trace's base that any snapshot writes.
    pub slots_max: usize,
    /// Bytecodes recorded.
    pub count: u32,
    pub(crate) p: Passes,
    pub(crate) params: Params,
    pub(crate) slots: Vec<TRef>,
    pub(crate) baseslot: usize,
    pub(crate) maxslot: usize,
    /// A guard was emitted since the last snapshot.
    pub(crate) guarded: bool,
    pub(crate) needsnap: bool,
    pub(crate) mergesnap: bool,
    /// Range of the loop's bytecode (root traces).
    pub(crate) range: std::ops::Range<usize>,
    /// Skip the first step: the back edge that made the loop hot.
    pub(crate) skip: bool,
    /// Back edge of the loop at whose start a side trace begins, if the trace may become that loop for other types.
    pub(crate) head: Option<usize>,
    /// Frames entered on the trace, outermost first.
    pub(crate) frames: Vec<frames::Frame>,
    /// The hot numeric loop's invariants.
    pub(crate) forl: Option<loops::ForLoop>,
    /// The next step is the header of a native that was recorded already.
    pub(crate) in_native: bool,
    pub(crate) unrolls: u32,
    /// Loops of so few rounds that a root trace unrolls them: their hot instructions.
    pub short_loops: Vec<usize>,
    /// Where the last round of one began: which one, and how many instructions there were.
    pub(crate) round_at: Option<(usize, usize)>,
    /// Function and line of the last instruction, for a profiler that wants to look at each change.
    pub(crate) place: (usize, u32),
    /// A boolean that a C function has just given: its boxed form, and what it was made of.
    pub(crate) undecided: Option<(Ref, Ref)>,
    /// A library function was just called whose results only the next instruction knows.
    pub(crate) called: Option<natives::Called>,
    /// The last C call before which the frames were written to the stack.
    pub(crate) written_back: Ref,
    /// The function that is being called is entered by its own trace, of this number (0: the one being recorded).
    pub(crate) callee_trace: Option<u32>,
}

/// Results of recording functions.
pub type R<T> = Result<T, Abort>;

impl Rec {
    fn new(kind: Kind, start_pc: usize, p: Passes, params: Params) -> Rec {
        Rec {
            trace: Trace::default(),
            kind,
            start_pc,
            keep: Vec::new(),
            slots_max: 0,
            count: 0,
            p,
            params,
            slots: vec![TRef::NONE; slots::SLOTS_MAX],
            baseslot: 2,
            maxslot: 0,
            guarded: false,
            needsnap: false,
            mergesnap: false,
            range: 0..usize::MAX,
            skip: false,
            head: None,
            frames: Vec::new(),
            forl: None,
            in_native: false,
            unrolls: 0,
            short_loops: Vec::new(),
            round_at: None,
            place: (0, 0),
            undecided: None,
            called: None,
            written_back: Ref::NONE,
            callee_trace: None,
        }
    }

    /// Calls above the frame it began in.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Is it a root trace?
    pub fn is_root(&self) -> bool {
        self.kind.hot().is_some()
    }

    /// Is it a root trace that starts at a function's header?
    pub fn is_function(&self) -> bool {
        matches!(self.kind, Kind::Function { .. })
    }

    pub(crate) fn emit(&mut self, op: IrOp, t: IrT, a: Ref, b: Ref) -> R<Ref> {
        self.emit_raw(Ins::new(op, t, a, b))
    }

    pub(crate) fn emit_raw(&mut self, i: Ins) -> R<Ref> {
        let before = self.trace.ir.next_ref();
        let r = opt::emit(&mut self.trace.ir, self.p, i)?;
        if self.trace.ir.next_ref() != before {
            self.guarded |=
                (before.ins_index()..self.trace.ir.len()).any(|x| self.trace.ir.ins(Ref::ins(x)).is_guard());
        }
        Ok(r)
    }

    /// Emits a guard.
    pub(crate) fn guard(&mut self, op: IrOp, a: Ref, b: Ref) -> R<()> {
        let ty = self.trace.ir.ty(a);
        self.emit(op, IrT::guard(ty), a, b).map(|_| ())
    }

    pub(crate) fn emit_t(&mut self, op: IrOp, ty: Ty, a: Ref, b: Ref) -> R<TRef> {
        Ok(TRef::new(self.emit(op, IrT::of(ty), a, b)?, ty))
    }

    /// As a number: integers are converted.
    pub(crate) fn to_num(&mut self, t: TRef) -> R<TRef> {
        match t.ty {
            Ty::Num => Ok(t),
            Ty::Int => {
                let i = Ins::raw(IrOp::CONV, IrT::of(Ty::Num), t.r.bits(), conv::from(Ty::Int));
                Ok(TRef::new(self.emit_raw(i)?, Ty::Num))
            }
            _ => Err(Abort::NyiTypes("arithmetic on a value that is no number")),
        }
    }

    /// As an integer index; guarded.
    pub(crate) fn to_index(&mut self, t: TRef) -> R<TRef> {
        match t.ty {
            Ty::Int => Ok(t),
            Ty::Num => {
                let i =
                    Ins::raw(IrOp::CONV, IrT::guard(Ty::Int), t.r.bits(), conv::from(Ty::Num) | conv::INDEX);
                Ok(TRef::new(self.emit_raw(i)?, Ty::Int))
            }
            _ => Err(Abort::NyiTypes("index that is no number")),
        }
    }

    /// As 32 bits of a bit operation.
    pub(crate) fn to_bit(&mut self, t: TRef) -> R<TRef> {
        match t.ty {
            Ty::Int => Ok(TRef::new(opt::narrow::wrapped(&mut self.trace.ir, self.p, t.r)?, Ty::Int)),
            Ty::Num => {
                let i = Ins::raw(IrOp::TOBIT, IrT::of(Ty::Int), t.r.bits(), 0);
                Ok(TRef::new(self.emit_raw(i)?, Ty::Int))
            }
            _ => Err(Abort::NyiTypes("bit operation on a value that is no number")),
        }
    }

    /// A constant for a Lua value; the object is kept alive.
    pub(crate) fn konst(&mut self, v: Value) -> R<TRef> {
        let ty = slots::type_of(v);
        let ir = &mut self.trace.ir;
        let r = match ty {
            Ty::Nil => Ref::NIL,
            Ty::False => Ref::FALSE,
            Ty::True => Ref::TRUE,
            Ty::Num => ir.knum(v.num_unchecked()),
            Ty::LightUd => return Err(Abort::NyiTypes("light userdata constant")),
            t => {
                self.keep.push(v);
                ir.kgc(t, v.payload())
            }
        };
        Ok(TRef::new(r, ty))
    }

    pub(crate) fn knum(&mut self, n: f64) -> TRef {
        TRef::new(self.trace.ir.knum(n), Ty::Num)
    }

    pub(crate) fn kint(&mut self, n: i32) -> TRef {
        TRef::new(self.trace.ir.kint(n), Ty::Int)
    }

    /// The trace ends here and leads on as `link` says.
    pub(crate) fn stop(&mut self, vm: &Vm, at: At, link: Link) -> R<Step> {
        self.needsnap = false;
        self.purge(vm, at);
        self.snapshot(vm, at)?;
        self.trace.link = link;
        self.trace.link_base = (self.baseslot - 2) as i32;
        Ok(Step::Done)
    }

    /// Ends a side trace in front of an instruction that cannot be recorded.
    pub fn end_here(&mut self, vm: &Vm, at: At) -> R<Step> {
        if at.ins(0).op() >= Op::FUNCF {
            return Err(Abort::NyiOp(at.ins(0).op()));
        }
        self.stop(vm, at, Link::Interp)
    }

    /// Does a profiler look before this instruction, because another function or line goes on here?
    fn is_sampled(&mut self, vm: &Vm, at: At) -> bool {
        if vm.profile.grain == Grain::Trace {
            return false;
        }
        let Some(p) = at.proto(&vm.heap) else { return false };
        let code = p.get(&vm.heap).code().as_ptr() as usize;
        let line = match vm.profile.grain {
            Grain::Line => {
                p.get(&vm.heap).line_at(((at.pc as usize).wrapping_sub(code) / 4) as u32).unwrap_or(0)
            }
            _ => 0,
        };
        let last = std::mem::replace(&mut self.place, (code, line));
        last.0 != 0 && last != self.place
    }

    /// Records the instruction at `at`.
    pub fn step(&mut self, vm: &Vm, at: At) -> R<Step> {
        if std::mem::take(&mut self.skip) {
            return Ok(Step::Next);
        }
        self.count += 1;
        if self.trace.ir.len() > self.params.maxrecord as usize
            || self.trace.ir.const_count() > self.params.maxirconst as usize
        {
            return Err(Abort::TraceTooLong);
        }
        // A function header is no place to go on at: its arguments would be counted anew.
        let header = at.ins(0).op() >= Op::FUNCF;
        self.in_native &= header;
        if !header {
            self.count_results(vm)?;
        }
        let sampled = !header && self.is_sampled(vm, at);
        if !header && std::mem::take(&mut self.needsnap) || sampled {
            self.purge(vm, at);
            self.snapshot(vm, at)?;
            self.mergesnap = true;
        }
        if sampled {
            self.trace.ir.push(Ins::raw(IrOp::POLL, IrT::guard(Ty::Nil), 0, 0));
            self.guarded = true;
        }
        if !header {
            self.load_results(at)?;
        }
        if let Some((word, r)) = self.undecided.take() {
            self.decide(at, word, r)?;
        }
        if self.is_root() && self.frames.is_empty() && !header && !self.range.contains(&(at.pc as usize)) {
            return Err(Abort::LeavesLoop);
        }
        let ins = at.ins(0);
        let (a, b, c, d) = (ins.a(), ins.b(), ins.c(), ins.d());
        let op = ins.op();
        match op {
            Op::ISLT | Op::ISGE | Op::ISLE | Op::ISGT => self.rec_order(vm, at)?,
            Op::ISEQV | Op::ISNEV | Op::ISEQS | Op::ISNES | Op::ISEQN | Op::ISNEN | Op::ISEQP | Op::ISNEP => {
                self.rec_equal(vm, at)?
            }
            Op::ISTC | Op::ISFC | Op::IST | Op::ISF => self.rec_test(vm, at)?,
            Op::ISTYPE | Op::ISNUM => return Err(Abort::NyiOp(op)),
            Op::MOV => {
                let t = self.get(at, d)?;
                self.set(a, t);
            }
            Op::NOT => {
                let t = self.get(at, d)?;
                let truthy = !matches!(t.ty, Ty::Nil | Ty::False);
                self.set(a, TRef::bool(!truthy));
            }
            Op::UNM => self.rec_unm(vm, at)?,
            Op::LEN => self.rec_len(vm, at)?,
            Op::BNOT | Op::BAND | Op::BOR | Op::BXOR | Op::BSHL | Op::BSHR | Op::BSAR => {
                self.rec_bitop(vm, at, op)?
            }
            Op::ADDVN
            | Op::SUBVN
            | Op::MULVN
            | Op::DIVVN
            | Op::MODVN
            | Op::ADDNV
            | Op::SUBNV
            | Op::MULNV
            | Op::DIVNV
            | Op::MODNV
            | Op::ADDVV
            | Op::SUBVV
            | Op::MULVV
            | Op::DIVVV
            | Op::MODVV
            | Op::POW => self.rec_arith(vm, at, op)?,
            Op::CAT => self.rec_cat(vm, at)?,
            Op::KSTR => {
                let t = self.konst(at.kgc(&vm.heap, d))?;
                self.set(a, t);
            }
            Op::KSHORT => {
                let t = self.knum(d as u16 as i16 as f64);
                self.set(a, t);
            }
            Op::KCDATA => {
                let t = self.konst(at.kgc(&vm.heap, d))?;
                self.set(a, t);
            }
            Op::KNUM => {
                let t = self.konst(at.knum(&vm.heap, d))?;
                self.set(a, t);
            }
            Op::KPRI => self.set(a, TRef::pri(d)),
            Op::KNIL => {
                for r in a..=d {
                    self.set(r, TRef::pri(0));
                }
            }
            Op::UGET => {
                let t = self.rec_upvalue(vm, at, d, None)?;
                self.set(a, t);
            }
            Op::USETV | Op::USETS | Op::USETN | Op::USETP => {
                let v = match op {
                    Op::USETV => self.get(at, d)?,
                    Op::USETS => self.konst(at.kgc(&vm.heap, d))?,
                    Op::USETN => self.konst(at.knum(&vm.heap, d))?,
                    _ => TRef::pri(d),
                };
                self.rec_upvalue(vm, at, a, Some(v))?;
            }
            Op::TNEW => {
                self.gc_check();
                let asize = if d & 0x7ff == 0x7ff { 0x801 } else { d & 0x7ff };
                let i = Ins::raw(IrOp::TNEW, IrT::of(Ty::Tab), asize as u16, (d >> 11) as u16);
                let r = self.emit_raw(i)?;
                self.set(a, TRef::new(r, Ty::Tab));
            }
            Op::TDUP => {
                self.gc_check();
                let k = self.konst(at.kgc(&vm.heap, d))?;
                let t = self.emit_t(IrOp::TDUP, Ty::Tab, k.r, Ref::NONE)?;
                self.set(a, t);
            }
            Op::GGET | Op::GSET => self.rec_global(vm, at, op)?,
            Op::TGETV | Op::TGETS | Op::TGETB | Op::TGETR => self.rec_get(vm, at, op)?,
            Op::TSETV | Op::TSETS | Op::TSETB | Op::TSETR => self.rec_set(vm, at, op)?,
            Op::CALL => return self.rec_call(vm, at, a, c as usize - 1, b),
            Op::CALLM => {
                let n = self.maxslot - (a as usize + 2);
                return self.rec_call(vm, at, a, n, b);
            }
            Op::CALLT => return self.rec_tailcall(vm, at, a, d as usize - 1),
            Op::CALLMT => {
                let n = self.maxslot - (a as usize + 2);
                return self.rec_tailcall(vm, at, a, n);
            }
            Op::ITERC => return self.rec_iterc(vm, at),
            Op::ITERN => return self.rec_itern(vm, at),
            Op::VARG => self.rec_varg(vm, at)?,
            Op::RET | Op::RET0 | Op::RET1 => return self.rec_ret(vm, at, a as usize, d as usize - 1),
            Op::RETM => {
                let n = self.maxslot - a as usize;
                return self.rec_ret(vm, at, a as usize, n);
            }
            Op::FORI | Op::JFORI => return self.rec_fori(vm, at, op),
            Op::FORL | Op::IFORL | Op::JFORL => return self.rec_forl(vm, at, op),
            Op::ITERL | Op::IITERL | Op::JITERL => return self.rec_iterl(vm, at, op),
            Op::LOOP | Op::ILOOP | Op::JLOOP => return self.rec_loop(vm, at, op),
            Op::JMP => self.maxslot = self.maxslot.min(a as usize),
            Op::ISNEXT => self.rec_isnext(vm, at)?,
            Op::FUNCF | Op::IFUNCF | Op::JFUNCF => {
                self.rec_func(vm, at, false)?;
                if let Some(no) = self.callee_trace.take() {
                    return self.stop(vm, At { pc: at.pc.wrapping_add(1), base: at.base }, Link::Root(no));
                }
            }
            Op::FUNCV | Op::IFUNCV | Op::JFUNCV => self.rec_func(vm, at, true)?,
            Op::UCLO => return self.rec_uclo(vm, at),
            Op::FUNCC if std::mem::take(&mut self.in_native) => {}
            Op::FUNCC
            | Op::FUNCPCALL
            | Op::FUNCXPCALL
            | Op::FUNCRESUME
            | Op::FUNCWRAP
            | Op::FUNCYIELD
            | Op::FNEW => return Err(Abort::NyiOp(op)),
            Op::TSETM => self.rec_tsetm(vm, at)?,
        }
        if self.trace.snaps.len() > self.params.maxsnap as usize {
            return Err(Abort::TooManySnapshots);
        }
        Ok(Step::Next)
    }

    /// The boolean that the instruction before has put into registers is known now: the trace is for that one.
    fn decide(&mut self, at: At, word: Ref, r: Ref) -> R<()> {
        let end = (self.baseslot + self.maxslot).min(slots::SLOTS_MAX);
        let Some(s) = (self.baseslot..end).find(|&s| self.slots[s].r == word) else { return Ok(()) };
        let yes = at.reg((s - self.baseslot) as u32) == Value::TRUE;
        let zero = self.kint(0);
        self.guard(if yes { IrOp::NE } else { IrOp::EQ }, r, zero.r)?;
        for t in self.slots[self.baseslot..end].iter_mut().filter(|t| t.r == word) {
            *t = TRef::bool(yes);
        }
        Ok(())
    }

    /// A collector check, at most one per bytecode boundary.
    pub(crate) fn gc_check(&mut self) {
        let last = self.trace.ir.next_ref();
        let at = self.trace.snaps.last().map_or(Ref::FIRST, |s| s.at);
        // One check per snapshot is enough: the next one comes with the next snapshot.
        let have = self.trace.ir.chain(IrOp::GCSTEP);
        if have.is_ins() && have >= at && have < last {
            return;
        }
        self.trace.ir.push(Ins::raw(IrOp::GCSTEP, IrT::guard(Ty::Nil), 0, 0));
        self.guarded = true;
    }
}
