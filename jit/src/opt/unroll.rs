//! Loop optimisation by copy-substitution: the recorded round becomes the pre-roll, and is emitted a second
//! time with each value replaced by what it is after the first round. Invariant instructions are found
//! by CSE and stay in the pre-roll; what changes becomes a `PHI`.
//!
//! Precondition: the last snapshot was taken at the loop's end, for the loop's start. Postcondition: on
//! success the trace has a `LOOP` and its phis; on failure it is unchanged.

use super::{Passes, emit};
use crate::abort::Abort;
use crate::ir::buffer::IrBuf;
use crate::ir::ins::{Ins, IrT, conv};
use crate::ir::ops::{Class, IrOp, Opnd};
use crate::ir::refs::{Ref, SnapNo};
use crate::ir::ty::Ty;
use crate::trace::Trace;
use crate::trace::snapshot::{Snap, SnapEntry};

/// Most phis of a loop.
pub const PHIS_MAX: usize = 64;

struct Unroll<'a> {
    t: &'a mut Trace,
    p: Passes,
    /// First instruction of the loop part.
    invar: Ref,
    subst: Vec<Ref>,
    phi: Vec<Ref>,
    guarded: bool,
}

/// Runs the pass. `slot_at_end(slot)` is the value the recorder holds for a slot at the loop's end.
pub fn run(t: &mut Trace, p: Passes, slots: &[Ref]) -> Result<(), Abort> {
    let backup = t.clone();
    let invar = t.ir.next_ref();
    let mut subst = vec![Ref::NONE; t.ir.len()];
    subst[0] = Ref::BASE;
    let mut u = Unroll { t, p, invar, subst, phi: Vec::new(), guarded: true };
    let res = u.copy(slots).and_then(|onsnap| u.emit_phis(slots, onsnap));
    if res.is_err() {
        *t = backup;
    }
    res
}

impl Unroll<'_> {
    fn sub(&self, r: Ref) -> Ref {
        if r.is_ins() { self.subst[r.ins_index()] } else { r }
    }

    fn copy(&mut self, slots: &[Ref]) -> Result<usize, Abort> {
        self.t.ir.push(Ins::raw(IrOp::LOOP, IrT::guard(Ty::Nil), 0, 0));
        let onsnap = self.t.snaps.len();
        let loopmap: Vec<SnapEntry> = self.t.entries(SnapNo::new(onsnap - 1)).to_vec();
        let mut osnap = 1;
        let mut r = Ref::FIRST;
        while r < self.invar {
            while osnap + 1 < onsnap && r >= self.t.snaps[osnap].at {
                self.copy_snap(osnap, &loopmap);
                osnap += 1;
            }
            self.copy_ins(r, slots)?;
            r = r.next();
        }
        // A snapshot no guard refers to is dropped.
        if !self.guarded && self.t.snaps.len() > onsnap {
            let s = self.t.snaps.pop().expect("there is one more than before");
            self.t.map.truncate(s.map as usize);
        }
        Ok(onsnap)
    }

    /// The instruction at `r`, without its overflow check if it is an index that is within its array in all rounds (`opt::abc`).
    fn checked_before(&mut self, r: Ref) -> Ins {
        let i = *self.t.ir.ins(r);
        if !self.p.abc || !matches!(i.op, IrOp::ADDOV | IrOp::SUBOV) {
            return i;
        }
        let k = self.t.ir.as_kint(i.rb());
        let Some(k) = k.and_then(|k| if i.op == IrOp::SUBOV { k.checked_neg() } else { Some(k) }) else {
            return i;
        };
        let mut c = self.t.ir.chain(IrOp::ABC);
        while c > r {
            let check = *self.t.ir.ins(c);
            if c < self.invar && check.ty() == super::abc::INVARIANT && check.rb() == r {
                let k = self.t.ir.kint(k);
                return Ins::new(IrOp::ADD, IrT::of(Ty::Int), i.ra(), k);
            }
            c = Ref::from_bits(check.prev);
        }
        i
    }

    fn copy_ins(&mut self, r: Ref, slots: &[Ref]) -> Result<(), Abort> {
        let i = self.checked_before(r);
        let (ma, mb) = i.op.operands();
        let a = if ma == Opnd::Ref { self.sub(i.ra()).bits() } else { i.a };
        let b = if mb == Opnd::Ref { self.sub(i.rb()).bits() } else { i.b };
        let at = r.ins_index();
        if matches!(i.op, IrOp::NOP | IrOp::STACK) {
            self.subst[at] = Ref::NONE;
            return Ok(());
        }
        if (matches!(i.op.class(), Class::Pure) || i.op == IrOp::CARG) && a == i.a && b == i.b {
            // Invariant.
            self.subst[at] = r;
            return Ok(());
        }
        let next = self.t.ir.next_ref();
        let hint = if i.op == IrOp::ALEN && b == 0 && self.sub(i.ra()) == i.ra() {
            super::forward::length_hint(&self.t.ir, i.ra(), self.invar)
        } else {
            None
        };
        let n = if let Some(h) = hint.filter(|_| self.p.fwd) {
            // Appending in a loop: the length of this round is the key of the last round's store.
            self.add_phi(h)?;
            self.t.ir.push(Ins::new(IrOp::ALEN, IrT::of(i.ty()), i.ra(), h))
        } else if i.op == IrOp::SLOAD {
            slots.get(i.a as usize).copied().filter(|s| !s.is_none()).unwrap_or(r)
        } else {
            let ins = Ins::raw(i.op, IrT::of(i.ty()).with_guard(i.is_guard()), a, b);
            emit(&mut self.t.ir, self.p, ins)?
        };
        self.guarded |= (next.ins_index()..self.t.ir.len()).any(|x| self.t.ir.ins(Ref::ins(x)).is_guard());
        self.subst[at] = n;
        if n == r || n.is_none() {
            return Ok(());
        }
        let have = self.t.ir.ty(n);
        let mut n = n;
        if n < self.invar && n.is_ins() && !have.is_pri() {
            self.add_phi(n)?;
        }
        if have != i.ty() && has_value(&i) {
            n = match (i.ty(), have) {
                (w, h) if w.is_int32() && h.is_int32() => n,
                (Ty::Num, Ty::Int) => self.convert(IrT::of(Ty::Num), n, conv::from(Ty::Int))?,
                (Ty::Int, Ty::Num) => {
                    self.guarded = true;
                    self.convert(IrT::guard(Ty::Int), n, conv::from(Ty::Num) | conv::CHECK)?
                }
                _ => return Err(Abort::TypeInstability),
            };
            self.subst[at] = n;
            if n.is_ins() && n < self.invar {
                self.add_phi(n)?;
            }
        } else if n > self.invar && self.t.ir.ins(n).op == IrOp::CONV {
            // A CONV moved behind the loop may need its operand as a phi.
            let op = self.t.ir.ins(n).ra();
            if op < self.invar && op.is_ins() {
                self.add_phi(op)?;
            }
        }
        Ok(())
    }

    fn convert(&mut self, t: IrT, r: Ref, mode: u16) -> Result<Ref, Abort> {
        emit(&mut self.t.ir, self.p, Ins::raw(IrOp::CONV, t, r.bits(), mode))
    }

    fn add_phi(&mut self, r: Ref) -> Result<(), Abort> {
        if r == Ref::BASE || self.t.ir.ins(r).t.is_phi() {
            return Ok(());
        }
        if self.phi.len() >= PHIS_MAX {
            return Err(Abort::TooManyPhis);
        }
        self.t.ir.ins_mut(r).t.set_phi(true);
        self.phi.push(r);
        Ok(())
    }

    /// Copies snapshot `n`: its own slots substituted, all others as they are at the loop's end.
    fn copy_snap(&mut self, n: usize, loopmap: &[SnapEntry]) {
        let o = self.t.snaps[n];
        if !self.guarded {
            // No guard refers to the previous copy: this one takes its place.
            let last = self.t.snaps.pop().expect("there is a loop snapshot");
            self.t.map.truncate(last.map as usize);
        }
        self.guarded = false;
        let old: Vec<SnapEntry> = self.t.entries(SnapNo::new(n)).to_vec();
        let map = self.t.map.len() as u32;
        let mut l = loopmap.iter().peekable();
        for e in &old {
            while let Some(x) = l.next_if(|x| x.slot < e.slot) {
                self.t.map.push(*x);
            }
            l.next_if(|x| x.slot == e.slot);
            let value = self.sub(e.value);
            // What a call leaves in memory is there after each round's call.
            let there = value == e.value || value.is_ins() && self.t.ir.ins(value).op == IrOp::NATIVE;
            self.t.map.push(SnapEntry { value, norestore: e.norestore && there, ..*e });
        }
        for x in l.filter(|x| x.slot < o.nslots) {
            self.t.map.push(*x);
        }
        let len = self.t.map.len() as u16 - map as u16;
        self.t.snaps.push(Snap { at: self.t.ir.next_ref(), map, len, ..o });
    }

    fn mark(&mut self, r: Ref, on: bool) {
        if r.is_ins() {
            self.t.ir.ins_mut(r).t.set_mark(on);
        }
    }

    fn emit_phis(&mut self, slots: &[Ref], onsnap: usize) -> Result<(), Abort> {
        let invar = self.invar;
        // 1. Drop invariant candidates; mark those that may be redundant.
        let mut again = false;
        let mut kept = Vec::new();
        for l in std::mem::take(&mut self.phi) {
            let r = self.sub(l);
            if l == r || r.is_none() {
                self.t.ir.ins_mut(l).t.set_phi(false);
                continue;
            }
            kept.push(l);
            let simple = r.is_ins() && {
                let i = self.t.ir.ins(r);
                let (ma, mb) = i.op.operands();
                (ma == Opnd::Ref && i.ra() == l) || (mb == Opnd::Ref && i.rb() == l)
            };
            if !simple {
                self.mark(l, true);
                again = true;
            }
        }
        self.phi = kept;
        // 2. What the loop or its snapshots use is not redundant.
        if again {
            for x in (invar.next().ins_index()..self.t.ir.len()).rev() {
                let i = *self.t.ir.ins(Ref::ins(x));
                let (ma, mb) = i.op.operands();
                for (m, mut o) in [(ma, i.ra()), (mb, i.rb())] {
                    if m != Opnd::Ref {
                        continue;
                    }
                    self.mark(o, false);
                    // An argument list of the invariant part uses its members here.
                    while o.is_ins() && o < invar && self.t.ir.ins(o).op == IrOp::CARG {
                        let c = *self.t.ir.ins(o);
                        self.mark(c.rb(), false);
                        o = c.ra();
                        self.mark(o, false);
                    }
                }
            }
            let from = self.t.snaps[onsnap - 1].map as usize;
            for x in from..self.t.map.len() {
                let v = self.t.map[x].value;
                self.mark(v, false);
            }
        }
        // 3. Slots that change without having been loaded.
        for &slot in slots {
            let mut r = slot;
            while r.is_ins() && r < invar && r != self.sub(r) {
                self.mark(r, false);
                let ins = self.t.ir.ins(r);
                if ins.t.is_phi() || ins.ty().is_pri() || self.sub(r).is_none() {
                    break;
                }
                self.add_phi(r)?;
                r = self.sub(r);
                if r > invar {
                    break;
                }
            }
        }
        // 4. The right side of a needed phi is needed.
        while again {
            again = false;
            for x in 0..self.phi.len() {
                let l = self.phi[x];
                let r = self.sub(l);
                if !self.t.ir.ins(l).t.is_marked() && r.is_ins() && self.t.ir.ins(r).t.is_marked() {
                    self.mark(r, false);
                    again = true;
                }
            }
        }
        // 5. Emit.
        for l in std::mem::take(&mut self.phi) {
            if self.t.ir.ins(l).t.is_marked() {
                let i = self.t.ir.ins_mut(l);
                i.t.set_mark(false);
                i.t.set_phi(false);
                continue;
            }
            let r = self.sub(l);
            if r.is_ins() && r > invar {
                self.t.ir.ins_mut(r).t.set_phi(true);
            }
            let ty = self.t.ir.ty(l);
            if self.t.ir.ty(r) != ty {
                return Err(Abort::TypeInstability);
            }
            self.t.ir.push(Ins::new(IrOp::PHI, IrT::of(ty), l, r));
        }
        for r in self.t.ir.refs() {
            self.t.ir.ins_mut(r).t.set_mark(false);
        }
        Ok(())
    }
}

/// Does the instruction produce a value whose type matters?
fn has_value(i: &Ins) -> bool {
    !matches!(i.op.class(), Class::Store | Class::Meta) || i.op == IrOp::NEWREF || i.op == IrOp::CALLS
}

/// Checks that no instruction of the pre-roll is a phi candidate any more (used by tests).
pub fn phi_count(ir: &IrBuf) -> usize {
    ir.refs().filter(|&r| ir.ins(r).op == IrOp::PHI).count()
}
