//! Calls of library functions as they are: their frames are written to the stack, and their results are loaded from there.
//! What `builtins` knows better never comes here; which ones may be called their library says (`NativeRow::plain`).

use super::slots::{SLOTS_MAX, TRef, type_of};
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::ins::{Field, Ins, IrT, native};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::view::At;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::state::native::Takes;
use moonlit_vm::value::Value;

/// A call whose results are not known yet.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// Its instruction.
    at: Ref,
    /// Register of the first result.
    a: u32,
    /// How many are wanted; `None` for all.
    wanted: Option<usize>,
}

/// May a function be called with an argument of this type, its `n`th?
fn fits(takes: Takes, n: usize, ty: Ty) -> bool {
    match ty {
        Ty::Nil | Ty::False | Ty::True | Ty::Str | Ty::Num | Ty::Int => true,
        Ty::Udata => n == 0,
        Ty::Tab | Ty::Func => takes == Takes::Tables,
        _ => false,
    }
}

impl Rec {
    /// Calls library function `f` in register `a` with `nargs` arguments for what operand `b` of the instruction wants. `why` is
    /// the error if it cannot be done.
    pub(super) fn call_native(
        &mut self,
        vm: &Vm,
        at: At,
        f: Gc<Func>,
        (a, nargs, b): (u32, usize, u32),
        why: Abort,
    ) -> R<()> {
        let row = vm.natives.get(f.as_native(&vm.heap).ok_or(Abort::BadCall)?.get(&vm.heap).id);
        let s = self.baseslot + a as usize;
        if s + 2 + nargs + 2 > SLOTS_MAX || nargs > usize::from(native::ARGS) {
            return Err(Abort::TooManySlots);
        }
        let Some(takes) = row.plain else { return Err(why) };
        let args = &self.slots[s + 2..s + 2 + nargs];
        if !args.iter().enumerate().all(|(n, t)| fits(takes, n, t.ty)) {
            return Err(why);
        }
        if self.trace.ir.len() < self.params.minstitch as usize {
            return Err(Abort::TraceTooShort);
        }
        self.gc_check();
        self.set_link(at, a);
        self.maxslot = a as usize + 2 + nargs;
        // The call is done again from here, and its frame is written from here.
        self.mergesnap &= self.trace.snaps.len() > 1;
        self.snapshot(vm, at)?;
        let wanted = (b != 0).then(|| b as usize - 1);
        if wanted.is_some_and(|n| n > usize::from(native::RESULTS_MAX)) {
            return Err(Abort::TooManySlots);
        }
        let counts = nargs as u16 | (wanted.unwrap_or(0) as u16) << native::RESULTS_AT;
        let r = self.emit_raw(Ins::raw(IrOp::NATIVE, IrT::guard(Ty::Int), s as u16, counts))?;
        self.called = Some(Called { at: r, a, wanted });
        self.slots[s..].fill(TRef::NONE);
        self.maxslot = a as usize + wanted.unwrap_or(0);
        self.needsnap = true;
        Ok(())
    }

    /// Learns, before the next instruction, how many results there are: if it takes all of them, as many there must be.
    pub(super) fn count_results(&mut self, vm: &Vm) -> R<()> {
        let Some(c) = &mut self.called else { return Ok(()) };
        let mut n = c.wanted.unwrap_or(0);
        if c.wanted.is_none() {
            n = vm.multres as usize - 1;
            if n > usize::from(native::RESULTS_MAX) || self.baseslot + c.a as usize + n > SLOTS_MAX {
                return Err(Abort::TooManySlots);
            }
            c.wanted = Some(n);
            self.trace.ir.ins_mut(c.at).b |= (n as u16) << native::RESULTS_AT | native::EXACT;
            self.maxslot = c.a as usize + n;
        }
        // The next snapshot finds them where the call has left them.
        let s = self.baseslot + c.a as usize;
        self.slots[s..s + n].fill(TRef::new(c.at, Ty::Int));
        Ok(())
    }

    /// Loads the results: the snapshot just taken leaves them where they are.
    pub(super) fn load_results(&mut self, at: At) -> R<()> {
        let Some(c) = self.called.take() else { return Ok(()) };
        for r in c.a..c.a + c.wanted.unwrap_or(0) as u32 {
            let ty = type_of(at.reg(r));
            let s = self.baseslot + r as usize;
            let v = self.emit_raw(Ins::raw(IrOp::NLOAD, IrT::guard(ty), c.at.bits(), s as u16))?;
            self.slots[s] = self.loaded(v, ty);
        }
        Ok(())
    }

    /// A library function as an iterator, guarded: one with state is made for each loop, so any of its kind will do.
    pub(super) fn native_iterator(&mut self, vm: &Vm, t: TRef, v: Value) -> R<TRef> {
        let f = v.as_obj::<Func>().ok_or(Abort::BadCall)?;
        let n = f.as_native(&vm.heap).ok_or(Abort::BadCall)?;
        if n.get(&vm.heap).upvals().is_empty() || t.r.is_const() {
            return self.specialise(vm, t, v);
        }
        let flags = self.field(t.r, Field::FuncFlags)?;
        let want = self.kint(i32::from(f.get(&vm.heap).hdr.flags));
        self.guard(IrOp::EQ, flags.r, want.r)?;
        let id = self.field(t.r, Field::FuncNativeId)?;
        let want = self.kint(n.get(&vm.heap).id.get() as i32);
        self.guard(IrOp::EQ, id.r, want.r)?;
        Ok(t)
    }
}
