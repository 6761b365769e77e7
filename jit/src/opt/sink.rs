//! Allocation sinking: an object of C data that only snapshots see is not made on the trace. Exits make it from the values
//! that were stored in it.
//!
//! Precondition: dead code is gone. Postcondition: `Trace::sunk` names the sunk allocations, which the code generator skips;
//! their stores are `NOP`s.
//!
//! An object may be carried around the loop (`PHI` of two allocations of one type): what is in the left one must then be
//! carried around as well, each value by a `PHI` of its own.

use crate::ir::ins::{Ins, IrT};
use crate::ir::ops::{Class, IrOp, Opnd};
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::opt::memory;
use crate::trace::link::Link;
use crate::trace::{Sunk, Trace};

/// Largest object that is sunk, bytes.
const SIZE_MAX: u64 = 128;
/// Most objects sunk on one trace.
const OBJECTS_MAX: usize = 64;

/// The allocation at `r`, if its kind can be sunk, without its stores.
fn candidate(t: &Trace, r: Ref) -> Option<Sunk> {
    let i = t.ir.ins(r);
    let ctypeid = match i.op {
        IrOp::CNEW | IrOp::CNEWI => t.ir.as_kint(i.ra())? as u32,
        _ => return None,
    };
    if i.op == IrOp::CNEWI {
        return Some(Sunk { at: r, ctypeid, size: 8, stores: vec![(r, 0, t.ir.ty(i.rb()), i.rb())] });
    }
    let size = t.ir.as_kint64(i.rb()).filter(|&n| n <= SIZE_MAX)?;
    Some(Sunk { at: r, ctypeid, size: size as u32, stores: Vec::new() })
}

struct Sink<'a> {
    t: &'a mut Trace,
    objects: Vec<Sunk>,
    /// Loop phis: instruction, left, right.
    phis: Vec<(Ref, Ref, Ref)>,
}

/// Runs the pass.
pub fn run(t: &mut Trace) {
    let objects: Vec<Sunk> = t.ir.refs().skip(1).filter_map(|r| candidate(t, r)).take(OBJECTS_MAX).collect();
    if objects.is_empty() {
        return;
    }
    let phis = t.ir.refs().filter(|&r| t.ir.ins(r).op == IrOp::PHI);
    let phis = phis.map(|r| (r, t.ir.ins(r).ra(), t.ir.ins(r).rb())).collect();
    let mut s = Sink { t, objects, phis };
    s.drop_used();
    s.drop_written_back();
    loop {
        let before = s.objects.len();
        s.drop_unmatched();
        if s.objects.len() == before {
            break;
        }
    }
    s.commit();
}

impl Sink<'_> {
    fn position(&self, r: Ref) -> Option<usize> {
        self.objects.iter().position(|o| o.at == r)
    }

    fn remove(&mut self, r: Ref) {
        self.objects.retain(|o| o.at != r);
    }

    /// Drops objects with a use that needs them in memory; collects the stores of the others.
    fn drop_used(&mut self) {
        // Addresses inside an object: constant offsets only.
        for r in self.t.ir.refs().skip(1) {
            let i = *self.t.ir.ins(r);
            if i.op == IrOp::PHI || i.op == IrOp::NOP {
                continue;
            }
            if i.op == IrOp::XSTORE {
                let (base, offset) = memory::split(&self.t.ir, i.ra());
                // The payload follows the header.
                let at = offset - size_of::<moonlit_vm::cdata::Cdata>() as i64;
                if let Some(n) = self.position(base) {
                    let o = &mut self.objects[n];
                    let inside = at >= 0 && at + memory::width(i.ty()) <= i64::from(o.size);
                    if inside && self.t.ir.ins(base).op == IrOp::CNEW {
                        o.stores.push((r, at as u32, i.ty(), i.rb()));
                    } else {
                        self.remove(base);
                    }
                }
                // A stored address escapes.
                let (value, _) = memory::split(&self.t.ir, i.rb());
                self.remove(value);
                continue;
            }
            if i.op == IrOp::ADD && i.ty() == Ty::P64 && self.is_offset(&i) {
                // Judged where the address is used.
                continue;
            }
            let (ma, mb) = i.op.operands();
            for (m, v) in [(ma, i.ra()), (mb, i.rb())] {
                if m == Opnd::Ref {
                    let (base, _) = memory::split(&self.t.ir, v);
                    self.remove(base);
                }
            }
        }
        // An address kept by a snapshot or carried around the loop is a use too, the object itself is none.
        for x in 0..self.t.map.len() {
            let v = self.t.map[x].value;
            let (base, _) = memory::split(&self.t.ir, v);
            if base != v {
                self.remove(base);
            }
        }
        for &(_, l, r) in &self.phis.clone() {
            for v in [l, r] {
                let (base, _) = memory::split(&self.t.ir, v);
                if base != v {
                    self.remove(base);
                }
            }
        }
        // What the trace hands over to another one must be there.
        if matches!(self.t.link, Link::Root(_)) && !self.t.snaps.is_empty() {
            let last = crate::ir::refs::SnapNo::new(self.t.snaps.len() - 1);
            for e in self.t.entries(last).to_vec() {
                self.remove(e.value);
            }
        }
    }

    /// A call that writes the frames back needs all objects in them.
    fn drop_written_back(&mut self) {
        for r in self.t.ir.refs().skip(1) {
            let i = self.t.ir.ins(r);
            if matches!(i.op, IrOp::CALLXS | IrOp::NATIVE) && i.is_guard() {
                for e in self.t.entries(self.t.snap_at(r)).to_vec() {
                    self.remove(e.value);
                }
            }
        }
    }

    fn is_offset(&self, i: &Ins) -> bool {
        self.t.ir.as_kint64(i.rb()).is_some() || self.t.ir.as_kint64(i.ra()).is_some()
    }

    /// The value at each place of an object at the end of the trace: the last store wins. `None` if stores overlap partly.
    fn contents(&self, o: &Sunk) -> Option<Vec<(u32, Ty, Ref)>> {
        let mut out: Vec<(u32, Ty, Ref)> = Vec::new();
        for &(_, offset, ty, v) in &o.stores {
            let end = i64::from(offset) + memory::width(ty);
            let mut same = false;
            for c in &mut out {
                let cend = i64::from(c.0) + memory::width(c.1);
                if c.0 == offset && c.1 == ty {
                    c.2 = v;
                    same = true;
                } else if i64::from(offset) < cend && i64::from(c.0) < end {
                    return None;
                }
            }
            if !same {
                out.push((offset, ty, v));
            }
        }
        out.sort_by_key(|c| c.0);
        Some(out)
    }

    /// The phi whose left side is `r`.
    fn phi_of(&self, r: Ref) -> Option<(Ref, Ref, Ref)> {
        self.phis.iter().copied().find(|p| p.1 == r)
    }

    /// Values that must be carried around the loop for object phi `(l, r)`; `None` if that cannot be.
    fn carried(&self, l: Ref, r: Ref) -> Option<Vec<(Ref, Ref)>> {
        let (a, b) = (&self.objects[self.position(l)?], &self.objects[self.position(r)?]);
        if a.ctypeid != b.ctypeid || a.size != b.size {
            return None;
        }
        let lp = self.t.ir.loop_ref()?;
        // Stores to the object of the round before would have to be told from those of its own making.
        if a.stores.iter().any(|s| s.0 > lp) {
            return None;
        }
        let (ca, cb) = (self.contents(a)?, self.contents(b)?);
        if ca.len() != cb.len() {
            return None;
        }
        let mut out = Vec::new();
        for (x, y) in ca.iter().zip(&cb) {
            if (x.0, x.1) != (y.0, y.1) || self.t.ir.ty(x.2) != self.t.ir.ty(y.2) {
                return None;
            }
            let (v, w) = (x.2, y.2);
            match self.phi_of(v).filter(|_| v.is_ins()) {
                Some(p) if p.2 == w => {}
                Some(_) => return None,
                None if v == w => {}
                // The left side has its value from before the loop.
                None if v.is_const() || v > lp => return None,
                None => out.push((v, w)),
            }
        }
        Some(out)
    }

    /// Drops objects that meet others in a phi that cannot be split.
    fn drop_unmatched(&mut self) {
        for (_, l, r) in self.phis.clone() {
            let (hl, hr) = (self.position(l).is_some(), self.position(r).is_some());
            if !hl && !hr {
                continue;
            }
            if !(hl && hr) || self.carried(l, r).is_none() {
                self.remove(l);
                self.remove(r);
            }
        }
    }

    fn commit(mut self) {
        let mut wanted: Vec<(Ref, Ref)> = Vec::new();
        for (_, l, r) in self.phis.clone() {
            if self.position(l).is_none() {
                continue;
            }
            for (v, w) in self.carried(l, r).unwrap_or_default() {
                match wanted.iter().find(|x| x.0 == v) {
                    Some(x) if x.1 == w => {}
                    Some(_) => {
                        // One value cannot become two: leave everything as it is.
                        return;
                    }
                    None => wanted.push((v, w)),
                }
            }
        }
        let ir = &mut self.t.ir;
        for &(p, l, _) in &self.phis {
            if self.objects.iter().any(|o| o.at == l) {
                ir.nop(p);
            }
        }
        for &(v, w) in &wanted {
            ir.ins_mut(v).t.set_phi(true);
            let ty = ir.ty(v);
            ir.push(Ins::new(IrOp::PHI, IrT::of(ty), v, w));
        }
        for o in &self.objects {
            for s in o.stores.iter().filter(|s| s.0 != o.at) {
                ir.nop(s.0);
            }
        }
        // Addresses inside the objects have no use left.
        for r in ir.refs().skip(1) {
            let i = *ir.ins(r);
            if i.op == IrOp::ADD && i.ty() == Ty::P64 {
                let (base, _) = memory::split(ir, r);
                if self.objects.iter().any(|o| o.at == base) {
                    ir.nop(r);
                }
            }
        }
        self.t.sunk = std::mem::take(&mut self.objects);
        drop_collector_checks(self.t);
    }
}

/// A trace that makes nothing any more gives the collector nothing to do.
fn drop_collector_checks(t: &mut Trace) {
    let makes = |r: Ref, i: &Ins| {
        i.op.class() == Class::Alloc && t.sunk_at(r).is_none()
            || matches!(i.op, IrOp::NEWREF | IrOp::CALLS | IrOp::CALLXS | IrOp::NATIVE)
    };
    if t.ir.refs().any(|r| makes(r, t.ir.ins(r))) {
        return;
    }
    for r in t.ir.refs() {
        if t.ir.ins(r).op == IrOp::GCSTEP {
            t.ir.nop(r);
        }
    }
}
