//! Calls, returns, varargs, upvalues.

use super::slots::{SLOTS_MAX, TRef, type_of};
use super::{Kind, R, Rec, Step};
use crate::abort::Abort;
use crate::ir::ins::{Field, Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::trace::link::Link;
use crate::view::{self, At};
use moonlit_vm::bytecode::instr::Instr;
use moonlit_vm::bytecode::ops::{Mm, Op};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::{Func, LuaFunc};
use moonlit_vm::function::proto::protoflags;
use moonlit_vm::function::upvalue::Upval;
use moonlit_vm::state::Vm;
use moonlit_vm::thread::frame::{self, Cont, FrameType};
use moonlit_vm::value::{Value, tag};

/// A frame entered on the trace.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// Base slot of the caller.
    caller: usize,
    /// Slots between the call's frame and the vararg frame above it; 0 for a fixed frame.
    vararg: usize,
    /// The function if it is known, else its prototype; 0 if only the interpreter knows.
    func: u64,
    /// Called by an instruction that goes on with the result.
    meta: Option<Meta>,
}

/// The instruction that called a metamethod, and how it goes on.
#[derive(Clone, Copy, Debug)]
struct Meta {
    then: Then,
    /// Registers of the caller in use.
    maxslot: usize,
}

/// What an instruction does with the result of its metamethod.
#[derive(Clone, Copy, Debug)]
enum Then {
    /// Puts it into a register.
    Store(u32),
    /// Nothing.
    Drop,
    /// Decides a jump, which keeps the registers below this one.
    Branch(usize),
}

impl Then {
    /// From the words of a continuation frame: the continuation, and the instruction after the one that called.
    fn new(cont: u64, pc: u64) -> R<Then> {
        let ins = |at: u64| view::ins_at(at as usize);
        match Cont::from_word(cont) {
            Some(Cont::Ra) => Ok(Then::Store(ins(pc - 4).a())),
            Some(Cont::Nop) => Ok(Then::Drop),
            Some(Cont::CondTrue | Cont::CondFalse) => Ok(Then::Branch(ins(pc).a() as usize)),
            _ => Err(Abort::NoLink),
        }
    }
}

/// Closures of a prototype from which on no trace relies on one of them but on the prototype alone: a handler that makes its
/// helpers anew for each request would else leave a chain of side traces, each for a closure that is gone.
pub const CLOSURES_MAX: u32 = 3;

/// Instructions from which on a function that just returns is worth a trace: entering and leaving one costs as much as some
/// of the interpreter's, and its side traces are many.
const FUNCTION_MIN: u32 = 400;

/// Most frames on a trace.
const FRAMES_MAX: usize = 20;

impl Rec {
    /// Clears what is above the current frame's slots.
    pub(super) fn clear_above(&mut self) {
        for s in &mut self.slots[(self.baseslot + self.maxslot).min(SLOTS_MAX)..] {
            *s = TRef::NONE;
        }
    }

    /// The frames of an inherited state, outermost first.
    pub(super) fn rebuild_frames(&mut self) -> R<()> {
        let mut out = Vec::new();
        let mut b = self.baseslot;
        while b > 2 {
            let word = |rec: &Rec, s: usize| -> R<u64> {
                let t = rec.slots[s];
                if t.r.is_const() { Ok(rec.trace.ir.k(t.r).bits) } else { Err(Abort::NoLink) }
            };
            // One of many closures is no constant.
            let func = word(self, b - 2).unwrap_or(0);
            let mut link = word(self, b - 1)?;
            let mut vararg = 0;
            if !frame::is_lua(link) && frame::type_bits(link) == FrameType::Varg as u64 {
                vararg = frame::delta(link);
                b = b.checked_sub(vararg).ok_or(Abort::NoLink)?;
                if b <= 2 {
                    return Err(Abort::NoLink);
                }
                link = word(self, b - 1)?;
            }
            if !frame::is_lua(link) {
                if frame::type_bits(link) != FrameType::Cont as u64 {
                    return Err(Abort::NoLink);
                }
                let delta = frame::delta(link);
                let then = Then::new(word(self, b - 4)?, word(self, b - 3)?)?;
                let caller = b.checked_sub(delta).ok_or(Abort::NoLink)?;
                let meta = Meta { then, maxslot: delta - frame::CONT_SLOTS };
                out.push(Frame { caller, vararg, func, meta: Some(meta) });
                b = caller;
                continue;
            }
            let a = view::ins_at(link as usize - 4).a() as usize;
            let caller = b.checked_sub(2 + a).ok_or(Abort::NoLink)?;
            out.push(Frame { caller, vararg, func, meta: None });
            b = caller;
        }
        out.reverse();
        self.frames = out;
        Ok(())
    }

    /// Makes the trace rely on function `v`, which `t` is: on itself, as a constant, or, of many closures of one prototype, on the
    /// prototype. Answers what the function is on the trace.
    pub(super) fn specialise(&mut self, vm: &Vm, t: TRef, v: Value) -> R<TRef> {
        let func = v.as_obj::<Func>().ok_or(Abort::BadCall)?;
        if let Some(p) = func.as_lua(&vm.heap).map(|f| f.get(&vm.heap).proto).filter(|_| !t.r.is_const()) {
            if p.get(&vm.heap).closures > CLOSURES_MAX {
                self.keep.push(Value::obj(p));
                let pc = self.field(t.r, Field::FuncPc)?;
                let want = self.trace.ir.kptr(func.get(&vm.heap).pc as u64);
                self.guard(IrOp::EQ, pc.r, want)?;
                return Ok(t);
            }
        }
        let k = self.konst(v)?;
        self.guard(IrOp::EQ, t.r, k.r)?;
        Ok(k)
    }

    /// The called function, guarded.
    fn callee(&mut self, vm: &Vm, at: At, a: u32) -> R<Gc<Func>> {
        let f = self.get(at, a)?;
        let Some(func) = at.reg(a).as_obj::<Func>() else { return Err(Abort::BadCall) };
        let t = self.specialise(vm, f, at.reg(a))?;
        self.slots[self.baseslot + a as usize] = t;
        Ok(func)
    }

    /// What tells frames of one function apart from others: see [`Frame::func`].
    fn identity(&self, vm: &Vm, f: Gc<Func>) -> u64 {
        match f.as_lua(&vm.heap).map(|l| l.get(&vm.heap).proto) {
            Some(p) if p.get(&vm.heap).closures > CLOSURES_MAX => p.addr(),
            _ => f.addr(),
        }
    }

    /// The trace that takes over when a function has called itself often enough: its own.
    fn recursion(&self, vm: &Vm, f: Gc<Func>) -> Option<u32> {
        let me = self.identity(vm, f);
        let depth = self.frames.iter().filter(|x| x.func == me).count() as u32;
        let header = f.get(&vm.heap).pc as usize;
        if matches!(self.kind, Kind::Loop { pc, op: Op::FUNCF } if pc == header) {
            return (depth >= self.params.recunroll).then_some(0);
        }
        let i = view::ins_at(header);
        (i.op() == Op::JFUNCF && depth >= self.params.callunroll).then(|| i.d())
    }

    fn may_enter(&self, vm: &Vm, f: Gc<Func>) -> R<()> {
        let Some(l) = f.as_lua(&vm.heap) else { return Err(Abort::BadCall) };
        let p = l.get(&vm.heap).proto.get(&vm.heap);
        if p.flags & protoflags::NOJIT != 0 {
            return Err(Abort::JitOffForProto);
        }
        if self.frames.len() >= FRAMES_MAX {
            return Err(Abort::CallUnrollLimit);
        }
        let me = self.identity(vm, f);
        let same = self.frames.iter().filter(|x| x.func == me).count();
        if same > self.params.callunroll as usize {
            return Err(Abort::Recursion);
        }
        if self.baseslot + self.maxslot + p.framesize as usize + 8 > SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        Ok(())
    }

    pub(super) fn rec_call(&mut self, vm: &Vm, at: At, a: u32, nargs: usize, b: u32) -> R<Step> {
        for i in 0..nargs as u32 {
            self.get(at, a + 2 + i)?;
        }
        if at.reg(a).tag() == tag::CDATA {
            let f = self.get(at, a)?;
            if let Some(h) = self.cdata_call_handler(vm, f, at.reg(a))? {
                self.in_native = true;
                return self.call_handler(vm, at, a, nargs, h);
            }
            let args = self.arguments(at, a, nargs);
            let results = self.rec_call_cdata(vm, (at, a), (f, at.reg(a)), &args)?;
            self.put_results(a, &results, b);
            return Ok(Step::Next);
        }
        if matches!(at.reg(a).tag(), tag::TAB | tag::UDATA) {
            let f = self.get(at, a)?;
            let Some(h) = self.operand_handler(vm, f, at.reg(a), Mm::Call)? else {
                return Err(Abort::BadCall);
            };
            return self.call_handler(vm, at, a, nargs, h);
        }
        let f = self.callee(vm, at, a)?;
        if f.get(&vm.heap).is_native() {
            let args = self.arguments(at, a, nargs);
            match self.rec_native(vm, at, f, &args) {
                Ok(results) => self.put_results(a, &results, b),
                Err(why @ (Abort::NyiNative(_) | Abort::NyiTypes(_))) => {
                    self.call_native(vm, at, f, (a, nargs, b), why)?
                }
                Err(why) => return Err(why),
            }
            self.in_native = true;
            return Ok(Step::Next);
        }
        self.callee_trace = self.recursion(vm, f);
        match self.may_enter(vm, f) {
            Err(Abort::Recursion) if self.callee_trace.is_some() => {}
            other => other?,
        }
        let s = self.baseslot + a as usize;
        let link = self.trace.ir.kptr(at.pc as u64 + 4);
        self.slots[s + 1] = TRef::new(link, Ty::P64);
        self.frames.push(Frame { caller: self.baseslot, vararg: 0, func: self.identity(vm, f), meta: None });
        self.baseslot = s + 2;
        self.maxslot = nargs;
        self.clear_above();
        Ok(Step::Next)
    }

    /// `ITERC` with a function of the language as its iterator: it is called with copies of the loop's state.
    pub(super) fn call_iterator(&mut self, vm: &Vm, at: At, f: TRef, state: [TRef; 2]) -> R<Step> {
        let a = at.ins(0).a();
        let v = at.reg(a - 3);
        let func = v.as_obj::<Func>().ok_or(Abort::BadCall)?;
        let s = self.baseslot + a as usize;
        self.maxslot = a as usize;
        self.may_enter(vm, func)?;
        self.slots[s] = f;
        let link = self.trace.ir.kptr(at.pc as u64 + 4);
        self.slots[s + 1] = TRef::new(link, Ty::P64);
        self.slots[s + 2..s + 4].copy_from_slice(&state);
        self.frames.push(Frame {
            caller: self.baseslot,
            vararg: 0,
            func: self.identity(vm, func),
            meta: None,
        });
        self.baseslot = s + 2;
        self.maxslot = 2;
        self.clear_above();
        Ok(Step::Next)
    }

    /// A call of something that is no function: its handler is called, with it as the first argument.
    fn call_handler(&mut self, vm: &Vm, at: At, a: u32, nargs: usize, (t, h): (TRef, Value)) -> R<Step> {
        let Some(f) = h.as_obj::<Func>().filter(|f| !f.get(&vm.heap).is_native()) else {
            return Err(Abort::NyiMetamethod);
        };
        self.may_enter(vm, f)?;
        let k = self.specialise(vm, t, h)?;
        let s = self.baseslot + a as usize;
        if s + nargs + 3 >= SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        self.slots.copy_within(s + 2..s + 2 + nargs, s + 3);
        self.slots[s + 2] = self.slots[s];
        self.slots[s] = k;
        let link = self.trace.ir.kptr(at.pc as u64 + 4);
        self.slots[s + 1] = TRef::new(link, Ty::P64);
        self.frames.push(Frame { caller: self.baseslot, vararg: 0, func: self.identity(vm, f), meta: None });
        self.baseslot = s + 2;
        self.maxslot = nargs + 1;
        self.clear_above();
        Ok(Step::Next)
    }

    /// The arguments of a call whose function is in register `a`; they were loaded before.
    fn arguments(&self, at: At, a: u32, nargs: usize) -> Vec<(TRef, Value)> {
        (0..nargs as u32)
            .map(|i| (self.slots[self.baseslot + (a + 2 + i) as usize], at.reg(a + 2 + i)))
            .collect()
    }

    /// Stores results from register `a` on, as many as `b` (results wanted plus one, 0 all) says.
    fn put_results(&mut self, a: u32, results: &[TRef], b: u32) {
        let n = if b == 0 { results.len() } else { b as usize - 1 };
        for i in 0..n {
            let t = results.get(i).copied().unwrap_or(TRef::pri(0));
            self.set(a + i as u32, t);
        }
        self.maxslot = a as usize + n;
        self.clear_above();
    }

    /// As [`Rec::call_meta`], where the interpreter calls the function through one of the base metatable.
    pub(super) fn call_meta_of_base(
        &mut self,
        vm: &Vm,
        at: At,
        cont: Cont,
        f: (TRef, Value),
        args: &[TRef],
    ) -> R<()> {
        self.call_meta(vm, at, cont, f, args)?;
        self.in_native = true;
        Ok(())
    }

    /// Begins the call of a metamethod by the instruction at `at`.
    pub(super) fn call_meta(
        &mut self,
        vm: &Vm,
        at: At,
        cont: Cont,
        (t, f): (TRef, Value),
        args: &[TRef],
    ) -> R<()> {
        let Some(func) = f.as_obj::<Func>() else { return Err(Abort::NyiMetamethod) };
        if func.get(&vm.heap).is_native() {
            return Err(Abort::NyiMetamethod);
        }
        self.may_enter(vm, func)?;
        let k = self.specialise(vm, t, f)?;
        let size = at.proto(&vm.heap).ok_or(Abort::BadCall)?.get(&vm.heap).framesize as usize;
        let delta = size + frame::CONT_SLOTS;
        let s = self.baseslot + delta;
        let p = func.as_lua(&vm.heap).ok_or(Abort::BadCall)?.get(&vm.heap).proto;
        if s + args.len() + p.get(&vm.heap).framesize as usize + 8 > SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        self.clear_above();
        let pc = at.pc as u64 + 4;
        let meta = Meta { then: Then::new(cont as u64, pc)?, maxslot: self.maxslot };
        let words = [cont as u64, pc, 0, frame::link(delta, FrameType::Cont)];
        for (i, w) in words.into_iter().enumerate().filter(|(i, _)| *i != 2) {
            let k = self.trace.ir.kptr(w);
            self.slots[s - frame::CONT_SLOTS + i] = TRef::new(k, Ty::P64);
        }
        self.slots[s - 2] = k;
        self.frames.push(Frame {
            caller: self.baseslot,
            vararg: 0,
            func: self.identity(vm, func),
            meta: Some(meta),
        });
        self.baseslot = s;
        self.slots[s..s + args.len()].copy_from_slice(args);
        self.maxslot = args.len();
        self.clear_above();
        Ok(())
    }

    /// The trace of the function in register `a` that a tail call out of the trace's own frame goes to.
    fn tail_trace(&self, vm: &Vm, at: At, a: u32) -> Option<u32> {
        let f = at.reg(a).as_obj::<Func>().filter(|f| !f.get(&vm.heap).is_native())?;
        let header = f.get(&vm.heap).pc as usize;
        if !frame::is_lua(at.slot(-1).0) {
            return None;
        }
        if matches!(self.kind, Kind::Loop { pc, op: Op::FUNCF } if pc == header) {
            // The function of a root trace's frame is not written.
            return (at.func() == Some(f)).then_some(0);
        }
        let i = view::ins_at(header);
        // The frame of a root trace is known to be that of its function.
        (i.op() == Op::JFUNCF && !self.is_root()).then(|| i.d())
    }

    pub(super) fn rec_tailcall(&mut self, vm: &Vm, at: At, a: u32, nargs: usize) -> R<Step> {
        for i in 0..nargs as u32 {
            self.get(at, a + 2 + i)?;
        }
        let Some(top) = self.frames.last().copied() else {
            if self.is_root() && !self.is_function() {
                return Err(Abort::LeavesLoop);
            }
            if let Some(no) = self.tail_trace(vm, at, a) {
                self.callee(vm, at, a)?;
                let s = self.baseslot;
                self.slots[s - 2] = self.slots[s + a as usize];
                self.slots.copy_within(s + a as usize + 2..s + a as usize + 2 + nargs, s);
                self.maxslot = nargs;
                self.clear_above();
                self.callee_trace = Some(no);
                return Ok(Step::Next);
            }
            self.is_worth_it()?;
            return self.stop(vm, at, Link::Interp);
        };
        if top.vararg != 0 {
            return Err(Abort::NyiOp(Op::CALLT));
        }
        if at.reg(a).tag() == tag::CDATA {
            let (f, args) = (self.get(at, a)?, self.arguments(at, a, nargs));
            let results = self.rec_call_cdata(vm, (at, a), (f, at.reg(a)), &args)?;
            return self.return_values(&results);
        }
        let f = self.callee(vm, at, a)?;
        if f.get(&vm.heap).is_native() {
            let args = self.arguments(at, a, nargs);
            let results = self.rec_native(vm, at, f, &args)?;
            self.in_native = true;
            return self.return_values(&results);
        }
        self.may_enter(vm, f)?;
        let s = self.baseslot;
        self.slots[s - 2] = self.slots[s + a as usize];
        for i in 0..nargs {
            self.slots[s + i] = self.slots[s + a as usize + 2 + i];
        }
        let me = self.identity(vm, f);
        if let Some(top) = self.frames.last_mut() {
            top.func = me;
        }
        self.unrolls += 1;
        if self.unrolls > self.params.loopunroll {
            return Err(Abort::LoopUnrollLimit);
        }
        self.maxslot = nargs;
        self.clear_above();
        Ok(Step::Next)
    }

    /// A function header: arguments become parameters.
    pub(super) fn rec_func(&mut self, vm: &Vm, at: At, vararg: bool) -> R<()> {
        let p = at.proto(&vm.heap).ok_or(Abort::BadCall)?;
        let params = p.get(&vm.heap).numparams as usize;
        let nargs = self.maxslot;
        // An exit inside continues in this frame: it needs its whole size.
        self.slots_max = self.slots_max.max(self.baseslot + nargs + 2 + p.get(&vm.heap).framesize as usize);
        if !vararg {
            for i in nargs..params {
                self.set(i as u32, TRef::pri(0));
            }
            self.maxslot = params;
            self.clear_above();
            return Ok(());
        }
        let delta = nargs + 2;
        let s = self.baseslot;
        let nb = s + delta;
        if nb + p.get(&vm.heap).framesize as usize + 8 > SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        self.slots[nb - 2] = self.slots[s - 2];
        let link = self.trace.ir.kptr(frame::link(delta, FrameType::Varg));
        self.slots[nb - 1] = TRef::new(link, Ty::P64);
        for i in 0..params {
            if i < nargs {
                self.slots[nb + i] = self.slots[s + i];
                self.slots[s + i] = TRef::pri(0);
            } else {
                self.slots[nb + i] = TRef::pri(0);
            }
        }
        match self.frames.last_mut() {
            Some(f) => f.vararg = delta,
            None => return Err(Abort::NyiOp(Op::FUNCV)),
        }
        self.baseslot = nb;
        self.maxslot = params;
        self.clear_above();
        Ok(())
    }

    /// Can a function be worth a trace of its own: is it long, or does it call something?
    pub fn may_be_worth_it(vm: &Vm, at: At) -> bool {
        let Some(p) = at.proto(&vm.heap) else { return false };
        let code = p.get(&vm.heap).code();
        let calls = |w: &u32| matches!(Instr(*w).op(), Op::CALL | Op::CALLM | Op::CALLT | Op::CALLMT);
        code.len() > FUNCTION_MIN as usize || code.iter().any(calls)
    }

    fn is_worth_it(&self) -> R<()> {
        if self.is_function() && self.count < FUNCTION_MIN { Err(Abort::TraceTooShort) } else { Ok(()) }
    }

    pub(super) fn rec_ret(&mut self, vm: &Vm, at: At, from: usize, n: usize) -> R<Step> {
        if self.frames.is_empty() {
            if self.is_function() {
                self.is_worth_it()?;
                return self.stop(vm, at, Link::Interp);
            }
            if self.is_root() {
                return Err(Abort::LeavesLoop);
            }
            return self.return_lower(vm, at, from, n);
        }
        let mut results = Vec::with_capacity(n);
        for i in 0..n {
            results.push(self.get(at, (from + i) as u32)?);
        }
        self.return_values(&results)
    }

    /// Returns below the frame the trace started in: the return address is guarded, the base moves down, and
    /// all slots are loaded anew from there.
    fn return_lower(&mut self, vm: &Vm, at: At, from: usize, n: usize) -> R<Step> {
        let link = at.slot(-1).0;
        self.unrolls += 1;
        if !frame::is_lua(link) || self.unrolls > self.params.loopunroll {
            return self.stop(vm, at, Link::Interp);
        }
        let call = view::ins_at(link as usize - 4);
        if !matches!(call.op(), Op::CALL | Op::CALLM | Op::ITERC) {
            return self.stop(vm, at, Link::Interp);
        }
        let mut results = Vec::with_capacity(n);
        for i in 0..n {
            results.push(self.get(at, (from + i) as u32)?);
        }
        let have = self.slots[1];
        let word = if have.is_none() {
            self.emit_raw(Ins::raw(IrOp::SLOAD, IrT::of(Ty::P64), 1, crate::ir::ins::sload::FRAME))?
        } else {
            have.r
        };
        let want = self.trace.ir.kptr(link);
        self.guard(IrOp::EQ, word, want)?;
        let a = call.a();
        // The caller's code must live as long as this trace names its addresses.
        self.keep.push(at.slot(-(a as isize) - 4));
        self.trace.ir.push(Ins::raw(IrOp::RETF, IrT::of(Ty::Nil), a as u16 + 2, 0));
        self.slots.fill(TRef::NONE);
        self.baseslot = 2;
        self.maxslot = 0;
        self.put_results(a, &results, call.b());
        // What lies below the results in the caller's frame is in use.
        self.needsnap = true;
        Ok(Step::Next)
    }

    /// Returns from the innermost frame.
    fn return_values(&mut self, results: &[TRef]) -> R<Step> {
        let f = self.frames.pop().ok_or(Abort::ReturnToLowerFrame)?;
        if let Some(m) = f.meta {
            self.baseslot = f.caller;
            self.maxslot = m.maxslot;
            self.clear_above();
            match m.then {
                Then::Store(r) => self.set(r, results.first().copied().unwrap_or(TRef::pri(0))),
                Then::Drop => {}
                // The value's type was guarded when it was loaded; the interpreter has gone the right way.
                Then::Branch(kept) => {
                    self.maxslot = self.maxslot.min(kept);
                    self.clear_above();
                }
            }
            self.needsnap = true;
            return Ok(Step::Next);
        }
        let b = self.baseslot - f.vararg;
        let link = self.slots[b - 1];
        if !link.r.is_const() {
            return Err(Abort::ReturnToLowerFrame);
        }
        let call = view::ins_at(self.trace.ir.k(link.r).bits as usize - 4);
        let (a, wanted) = (call.a(), call.b());
        self.baseslot = f.caller;
        debug_assert_eq!(b, f.caller + 2 + a as usize);
        if matches!(call.op(), Op::ITERC) {
            // Results of an iterator go to its own register too; the count is in B as well.
            self.put_results(a, results, wanted);
        } else {
            self.put_results(a, results, wanted);
        }
        self.needsnap = true;
        Ok(Step::Next)
    }

    pub(super) fn rec_varg(&mut self, _vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let (a, wanted, fixed) = (i.a(), i.b(), i.c() as usize);
        let Some(f) = self.frames.last().copied().filter(|f| f.vararg != 0) else {
            return Err(Abort::NyiOp(Op::VARG));
        };
        let n = (f.vararg - 2).saturating_sub(fixed);
        let from = self.baseslot - f.vararg + fixed;
        let values: Vec<TRef> = (0..n).map(|i| self.slots[from + i]).collect();
        if values.iter().any(|t| t.is_none()) || self.baseslot + a as usize + n > SLOTS_MAX {
            return Err(Abort::NyiOp(Op::VARG));
        }
        self.put_results(a, &values, wanted);
        Ok(())
    }

    pub(super) fn rec_uclo(&mut self, vm: &Vm, at: At) -> R<Step> {
        // Nothing is open now, and no function is made on a trace: then it is only a jump.
        let a = at.ins(0).a() as usize;
        if !self.is_root() || view::open_slots(vm, at.base).iter().any(|s| *s >= a) {
            return Err(Abort::NyiOp(Op::UCLO));
        }
        Ok(Step::Next)
    }

    /// The current function, guarded once when the trace did not call it itself: a constant, or one of many closures.
    pub(super) fn current_func(&mut self, vm: &Vm, at: At) -> R<Ref> {
        let s = self.baseslot - 2;
        let t = self.slots[s];
        if !t.is_none() && (t.r.is_const() || !self.frames.is_empty()) {
            return Ok(t.r);
        }
        let v = at.slot(-2);
        if type_of(v) != Ty::Func {
            return Err(Abort::BadCall);
        }
        let r = if t.is_none() {
            self.emit_raw(Ins::raw(IrOp::SLOAD, IrT::of(Ty::Func), s as u16, crate::ir::ins::sload::FRAME))?
        } else {
            t.r
        };
        Ok(self.specialise(vm, TRef::new(r, Ty::Func), v)?.r)
    }

    /// Upvalue object `idx` of the current function: a constant if the function is one.
    fn upvalue_object(&mut self, vm: &Vm, at: At, idx: u32, u: Gc<Upval>) -> R<Ref> {
        let f = self.current_func(vm, at)?;
        if f.is_const() {
            self.keep.push(Value::obj(u));
            return Ok(self.trace.ir.kgc(Ty::Upval, u.addr()));
        }
        let off = self.trace.ir.kint64(Ty::I64, (LuaFunc::UPVALS_OFFSET + idx as usize * 8) as u64);
        let p = self.emit(IrOp::ADD, IrT::of(Ty::P64), f, off)?;
        // A closure keeps its upvalues.
        self.emit_raw(Ins::raw(IrOp::XLOAD, IrT::of(Ty::P64), p.bits(), 1))
    }

    /// Reads upvalue `idx`, or writes `set` to it.
    pub(super) fn rec_upvalue(&mut self, vm: &Vm, at: At, idx: u32, set: Option<TRef>) -> R<TRef> {
        let known = self.current_func(vm, at)?.is_const();
        let u = at.upval(&vm.heap, idx).ok_or(Abort::NyiOp(Op::UGET))?;
        let uv = u.get(&vm.heap);
        let v = view::upval_value(&vm.heap, u);
        let ty = type_of(v);
        if known && set.is_none() && uv.hdr.extra == 1 && matches!(ty, Ty::Func | Ty::Num | Ty::Str) {
            return self.konst(v);
        }
        let closed = uv.hdr.flags == 1;
        if !closed {
            // The trace's own slots are in registers: an upvalue among them cannot be read from memory.
            let base = at.base as usize - (self.baseslot - 2) * 8;
            let d = (uv.v as usize).wrapping_sub(base).wrapping_add(16);
            if d < 8 * (SLOTS_MAX + 6) {
                let k = self.upvalue_object(vm, at, idx, u)?;
                return self.own_slot(k, d / 8, ty, set);
            }
        }
        let k = self.upvalue_object(vm, at, idx, u)?;
        let op = if closed { IrOp::UREFC } else { IrOp::UREFO };
        let r = self.emit_raw(Ins::raw(op, IrT::guard(Ty::P64), k.bits(), 0))?;
        if let Some(val) = set {
            let val = if val.ty == Ty::Int { self.to_num(val)? } else { val };
            self.emit(IrOp::USTORE, IrT::of(val.ty), r, val.r)?;
            if closed && val.ty.is_gc() {
                self.emit(IrOp::OBAR, IrT::of(Ty::Nil), k, val.r)?;
            }
            self.needsnap = true;
            return Ok(val);
        }
        let t = self.emit_raw(Ins::raw(IrOp::ULOAD, IrT::guard(ty), r.bits(), 0))?;
        Ok(self.loaded(t, ty))
    }

    /// An open upvalue that is slot `s` of this trace, and guarded to be.
    fn own_slot(&mut self, k: Ref, s: usize, ty: Ty, set: Option<TRef>) -> R<TRef> {
        if s < 2 || s >= self.baseslot + self.maxslot.max(1) || s >= SLOTS_MAX {
            return Err(Abort::NyiTypes("upvalue beyond the trace's frames"));
        }
        let at = self.emit_raw(Ins::raw(IrOp::UREFO, IrT::of(Ty::P64), k.bits(), 1))?;
        let off = self.trace.ir.kint64(Ty::U64, ((s as i64 - 2) * 8) as u64);
        let here = self.emit(IrOp::ADD, IrT::of(Ty::P64), Ref::BASE, off)?;
        self.guard(IrOp::EQ, at, here)?;
        match set {
            Some(v) => {
                self.slots[s] = v;
                Ok(v)
            }
            None if self.slots[s].is_none() => self.load_slot(s, ty, crate::ir::ins::sload::TYPECHECK),
            None => Ok(self.slots[s]),
        }
    }

    /// A loaded value: of a primitive only its type counts.
    pub(super) fn loaded(&self, r: Ref, ty: Ty) -> TRef {
        match ty {
            Ty::Nil => TRef::pri(0),
            Ty::False => TRef::pri(1),
            Ty::True => TRef::pri(2),
            _ => TRef::new(r, ty),
        }
    }
}
