//! Calls: of functions, of what a `__call` handler stands for, of metamethods.

use super::frames::{Frame, Meta, Then};
use super::slots::{SLOTS_MAX, TRef};
use super::{R, Rec, Step};
use crate::abort::Abort;
use crate::ir::ins::Field;
use crate::ir::ops::IrOp;
use crate::ir::ty::Ty;
use crate::trace::link::Link;
use crate::view::At;
use moonlit_vm::bytecode::ops::{Mm, Op};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::thread::frame::{self, Cont, FrameType};
use moonlit_vm::value::{Value, tag};

/// Closures of a prototype from which on no trace relies on one of them but on the prototype alone: a handler that makes its
/// helpers anew for each request would else leave a chain of side traces, each for a closure that is gone.
pub const CLOSURES_MAX: u32 = 3;

impl Rec {
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

    /// The arguments of a call whose function is in register `a`; they were loaded before.
    fn arguments(&self, at: At, a: u32, nargs: usize) -> Vec<(TRef, Value)> {
        (0..nargs as u32)
            .map(|i| (self.slots[self.baseslot + (a + 2 + i) as usize], at.reg(a + 2 + i)))
            .collect()
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
        Ok(self.enter_frame(vm, at, a, f, nargs))
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
        self.slots[s + 2..s + 4].copy_from_slice(&state);
        Ok(self.enter_frame(vm, at, a, func, 2))
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
        Ok(self.enter_frame(vm, at, a, f, nargs + 1))
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
}
