//! Loops: where root traces begin and end, and what other traces do when they meet one.

use super::slots::TRef;
use super::{Kind, R, Rec, Step};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::{Ins, IrT, sload};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::opt::forward::key_offset;
use crate::opt::{Passes, abc};
use crate::options::Params;
use crate::trace::Trace;
use crate::trace::link::Link;
use crate::trace::snapshot::SnapEntry;
use crate::view::{self, At};
use moonlit_vm::bytecode::instr::Instr;
use moonlit_vm::bytecode::ops::{Mode, Op};
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

/// The numeric loop that a trace starts in.
#[derive(Clone, Copy, Debug)]
pub struct ForLoop {
    /// The index in the recorded round.
    idx: TRef,
    stop: TRef,
    step: TRef,
    /// The limit that the recorded round has.
    limit: f64,
}

/// Most instructions of a round of a loop that a root trace unrolls.
const ROUND_MAX: usize = 48;

/// Does a back edge go round again?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Round,
    Leave,
}

impl Rec {
    /// A recorder for the loop whose back edge or head at `at` is hot.
    pub fn start_loop(vm: &Vm, at: At, p: Passes, params: Params) -> R<Rec> {
        let ins = at.ins(0);
        let op = ins.op();
        let hot = at.pc as usize;
        let kind = Kind::Loop { pc: hot, op };
        let mut rec;
        match op {
            Op::FORL | Op::ITERL => {
                let body = at.pc.wrapping_offset(1 + ins.j() as isize);
                rec = Rec::new(kind, body as usize, p, params);
                rec.skip = true;
                rec.range = body as usize..hot + 4;
                rec.maxslot = ins.a() as usize + if op == Op::FORL { 4 } else { at.ins(-1).b() as usize - 1 };
            }
            Op::ITERN => {
                let back = at.ins(1);
                let body = at.pc.wrapping_offset(2 + back.j() as isize);
                rec = Rec::new(kind, body as usize, p, params);
                rec.skip = true;
                rec.range = body as usize..hot + 8;
                rec.maxslot = ins.a() as usize + (ins.b() as usize - 1).max(2);
            }
            Op::LOOP => {
                rec = Rec::new(kind, hot + 4, p, params);
                rec.skip = true;
                // The loop ends in a jump back, to its condition; "repeat until true" has none.
                let last = At { pc: at.pc.wrapping_offset(ins.j() as isize), base: at.base };
                let back = last.ins(0);
                if back.op() == Op::JMP && back.j() < 0 {
                    let first = last.pc.wrapping_offset(1 + back.j() as isize);
                    rec.range = first as usize..last.pc as usize + 4;
                }
                rec.maxslot = ins.a() as usize;
            }
            _ => return Err(Abort::NyiOp(op)),
        }
        let start = At { pc: rec.start_pc as *const u32, base: at.base };
        rec.begin(vm, start)?;
        if op == Op::FORL {
            rec.setup_forl(vm, at)?;
        }
        Ok(rec)
    }

    /// A recorder for the function whose header at `at` is hot: from the first instruction on, with its parameters in place.
    pub fn start_function(vm: &Vm, at: At, p: Passes, params: Params) -> R<Rec> {
        let proto = at.proto(&vm.heap).ok_or(Abort::BadCall)?;
        let pt = proto.get(&vm.heap);
        let first = at.pc as usize + 4;
        let mut rec = Rec::new(Kind::Function { pc: at.pc as usize }, first, p, params);
        // The header itself.
        rec.skip = true;
        rec.range = first..first + pt.code().len() * 4;
        rec.maxslot = pt.numparams as usize;
        rec.slots_max = 2 + pt.framesize as usize;
        rec.begin(vm, At { pc: at.pc.wrapping_add(1), base: at.base })?;
        Ok(rec)
    }

    /// Snapshot 0 and the checks at a trace's entry.
    fn begin(&mut self, vm: &Vm, at: At) -> R<()> {
        self.snapshot(vm, at)?;
        self.trace.ir.push(Ins::raw(IrOp::STACK, IrT::guard(Ty::Nil), 0, 0));
        if self.is_root() || self.head.is_some() {
            // Other side traces lead back to a root trace or to the interpreter, and both poll.
            self.trace.ir.push(Ins::raw(IrOp::POLL, IrT::guard(Ty::Nil), 0, 0));
        }
        self.guarded = true;
        Ok(())
    }

    /// A recorder for the side trace at an exit of `parent`. `at` is where the exit went on; `head` is the loop's back edge if
    /// that is the start of a loop of which all is on the stack: the trace may become another loop.
    #[allow(clippy::too_many_arguments)]
    pub fn start_side(
        vm: &Vm,
        at: At,
        parent: &Trace,
        parent_no: u32,
        exit: u32,
        head: Option<(usize, Op)>,
        p: Passes,
        params: Params,
    ) -> R<Rec> {
        let mut rec = Rec::new(Kind::Side { parent: parent_no, exit }, at.pc as usize, p, params);
        rec.head = head.map(|h| h.0);
        let no = crate::ir::refs::SnapNo::new(exit as usize);
        let snap = parent.snaps[exit as usize];
        rec.baseslot = (snap.base + 2) as usize;
        rec.maxslot = snap.nslots as usize - rec.baseslot;
        let live = parent.live_values(no);
        let mut made: Vec<(Ref, Ref)> = Vec::new();
        // Results of a call that nobody has looked at are on the stack alone.
        let in_memory = |e: &SnapEntry| e.value.is_ins() && parent.ir.ins(e.value).op == IrOp::NATIVE;
        for e in parent.entries(no).iter().filter(|e| !in_memory(e)) {
            let ty = parent.ir.ty(e.value);
            let r = if let Some(o) = parent.sunk_at(e.value) {
                match made.iter().find(|m| m.0 == e.value) {
                    Some(m) => m.1,
                    None => {
                        let r = rec.inherit_object(parent, no, o, &live)?;
                        made.push((e.value, r));
                        r
                    }
                }
            } else if e.value.is_const() {
                rec.trace.ir.konst(parent.ir.k(e.value))
            } else if ty.is_pri() {
                TRef::pri(ty as u32).r
            } else {
                let n = live.iter().position(|r| *r == e.value).ok_or(Abort::NoLink)?;
                match rec.find_pval(n as u16) {
                    Some(r) => r,
                    None => rec.trace.ir.push(Ins::raw(IrOp::PVAL, IrT::of(ty), n as u16, 0)),
                }
            };
            rec.slots[e.slot as usize] = TRef::new(r, ty);
        }
        rec.rebuild_frames()?;
        rec.begin(vm, at)?;
        if let Some((pc, Op::FORL)) = head {
            rec.setup_forl(vm, At { pc: pc as *const u32, base: at.base })?;
        }
        // A boolean that the parent had not decided on.
        for s in rec.baseslot..rec.baseslot + rec.maxslot {
            let t = rec.slots[s];
            if t.ty == Ty::I64 {
                let v = at.reg((s - rec.baseslot) as u32);
                let k = rec.trace.ir.kint64(Ty::I64, v.0);
                rec.guard(IrOp::EQ, t.r, k)?;
                rec.slots[s] = TRef::bool(v == Value::TRUE);
            }
        }
        Ok(rec)
    }

    /// An object that the parent has not made: the side trace makes it, or sinks it further.
    fn inherit_object(
        &mut self,
        parent: &Trace,
        no: crate::ir::refs::SnapNo,
        o: &crate::trace::Sunk,
        live: &[Ref],
    ) -> R<Ref> {
        let mut values = Vec::new();
        for (offset, ty, v) in parent.stores_before(o, no) {
            let r = if v.is_const() {
                self.trace.ir.konst(parent.ir.k(v))
            } else {
                let n = live.iter().position(|r| *r == v).ok_or(Abort::NoLink)?;
                let of = parent.ir.ty(v);
                match self.find_pval(n as u16) {
                    Some(r) => r,
                    None => self.trace.ir.push(Ins::raw(IrOp::PVAL, IrT::of(of), n as u16, 0)),
                }
            };
            values.push((offset, ty, r));
        }
        let id = self.kint(o.ctypeid as i32).r;
        if parent.ir.ins(o.at).op == IrOp::CNEWI {
            let word = values.first().ok_or(Abort::NoLink)?.2;
            return Ok(self.trace.ir.push(Ins::new(IrOp::CNEWI, IrT::of(Ty::Cdata), id, word)));
        }
        let size = self.trace.ir.kint64(Ty::I64, u64::from(o.size));
        let object = self.trace.ir.push(Ins::new(IrOp::CNEW, IrT::of(Ty::Cdata), id, size));
        for (offset, ty, v) in values {
            let at = size_of::<moonlit_vm::cdata::Cdata>() as u64 + u64::from(offset);
            let k = self.trace.ir.kint64(Ty::I64, at);
            let p = self.emit(IrOp::ADD, IrT::of(Ty::P64), object, k)?;
            self.trace.ir.push(Ins::new(IrOp::XSTORE, IrT::of(ty), p, v));
        }
        Ok(object)
    }

    fn find_pval(&self, n: u16) -> Option<crate::ir::refs::Ref> {
        self.trace.ir.refs().find(|&r| {
            let i = self.trace.ir.ins(r);
            i.op == IrOp::PVAL && i.a == n
        })
    }

    /// Loads index, limit and step of the hot numeric loop; integers when they all are.
    fn setup_forl(&mut self, vm: &Vm, at: At) -> R<()> {
        let ins = if at.ins(0).op() == Op::JFORL { self.original(vm, at)? } else { at.ins(0) };
        let ra = ins.a();
        let int = |r: u32| {
            let v = at.reg(r);
            v.is_num().then(|| v.num_unchecked()).and_then(eval::num_to_index)
        };
        let kstep = const_step(vm, at, ins);
        let fits = |step: i32| {
            int(ra + 1).is_some_and(|l| if step >= 0 { l <= i32::MAX - step } else { l >= i32::MIN - step })
        };
        let narrow = self.p.narrow
            && int(ra).is_some()
            && kstep.map_or(int(ra + 2), eval::num_to_int_exact).is_some_and(|s| s != 0 && fits(s));
        let ty = if narrow { Ty::Int } else { Ty::Num };
        let mode = sload::TYPECHECK | sload::INHERIT | if narrow { sload::CONVERT } else { 0 };
        let s = self.baseslot + ra as usize;
        let load = |rec: &mut Rec, s: usize, mode: u16| {
            rec.emit_raw(Ins::raw(IrOp::SLOAD, IrT::guard(ty), s as u16, mode)).map(|r| TRef::new(r, ty))
        };
        let stop = load(self, s + 1, mode | sload::READONLY)?;
        let step = match kstep {
            Some(k) if narrow => self.kint(k as i32),
            Some(k) => self.knum(k),
            None => load(self, s + 2, mode | sload::READONLY)?,
        };
        if narrow {
            // While the limit keeps this distance, the index cannot overflow.
            let up = at.reg(ra + 2).num_unchecked() >= 0.0;
            let (op, end) = if up { (IrOp::LE, i32::MAX) } else { (IrOp::GE, i32::MIN) };
            let end = self.kint(end);
            if kstep.is_none() {
                let zero = self.kint(0);
                self.guard(if up { IrOp::GT } else { IrOp::LT }, step.r, zero.r)?;
            }
            let limit = self.emit(IrOp::SUB, IrT::of(Ty::Int), end.r, step.r)?;
            self.guard(op, stop.r, limit)?;
        } else if kstep.is_none() {
            let zero = self.knum(0.0);
            let up = at.reg(ra + 2).num_unchecked() >= 0.0;
            self.guard(if up { IrOp::GE } else { IrOp::LT }, step.r, zero.r)?;
        }
        let idx = load(self, s, mode)?;
        self.slots[s] = idx;
        self.slots[s + 3] = idx;
        self.forl = Some(ForLoop { idx, stop, step, limit: at.reg(ra + 1).num_unchecked() });
        Ok(())
    }

    /// The sum of the loop's index and a constant that brings it nearer to the limit: if there is room for it behind the limit,
    /// which does not change, no round has to ask. Of the same form as the next index, so both are one.
    pub(super) fn index_and_const(&mut self, op: IrOp, x: Ref, y: Ref) -> R<Option<Ref>> {
        let Some(f) = self.forl.filter(|f| f.idx.r == x && self.p.abc && self.p.loop_) else {
            return Ok(None);
        };
        let ir = &self.trace.ir;
        let Some(k) = ir.as_kint(y).and_then(|k| if op == IrOp::SUB { k.checked_neg() } else { Some(k) })
        else {
            return Ok(None);
        };
        let Some(step) = ir.as_kint(f.step.r).filter(|s| s.signum() == k.signum() && k != 0) else {
            return Ok(None);
        };
        if k.unsigned_abs() > step.unsigned_abs() {
            let (cmp, end) = if k > 0 { (IrOp::LE, i32::MAX - k) } else { (IrOp::GE, i32::MIN - k) };
            if (k > 0 && f.limit > f64::from(end)) || (k < 0 && f.limit < f64::from(end)) {
                return Ok(None);
            }
            let end = self.kint(end);
            self.guard(cmp, f.stop.r, end.r)?;
        }
        let k = self.kint(k);
        self.emit(IrOp::ADD, IrT::of(Ty::Int), x, k.r).map(Some)
    }

    /// The bounds check of index `key` in an array of size `asize`. If the index of the trace's loop is within the array up to the
    /// loop's limit, now, then index and limit are checked before the loop and nothing in it (`opt::abc`).
    pub(super) fn bounds_check(&mut self, asize: Ref, now: u32, key: Ref) -> R<()> {
        if self.p.abc && self.p.loop_ {
            if let Some(f) = self.forl.filter(|f| f.idx.ty == Ty::Int) {
                let (base, offset) = key_offset(&self.trace.ir, key);
                let last = f.limit + f64::from(offset);
                let near = offset.unsigned_abs() <= abc::OFFSET_MAX;
                if base == f.idx.r && near && last >= 0.0 && last < f64::from(now) {
                    let last = match offset {
                        0 => f.stop.r,
                        k => {
                            let k = self.kint(k);
                            self.emit(IrOp::ADD, IrT::of(Ty::Int), f.stop.r, k.r)?
                        }
                    };
                    for r in [last, key] {
                        self.emit(IrOp::ABC, IrT::guard(abc::INVARIANT), asize, r)?;
                    }
                    return Ok(());
                }
            }
        }
        self.guard(IrOp::ABC, asize, key)
    }

    pub(super) fn rec_fori(&mut self, vm: &Vm, at: At, op: Op) -> R<Step> {
        let ins = at.ins(0);
        let ra = ins.a();
        let mut t = [TRef::NONE; 3];
        for (i, t) in t.iter_mut().enumerate() {
            *t = self.get(at, ra + i as u32)?;
            if !t.ty.is_number() {
                return Err(Abort::NyiTypes("loop bounds that are no numbers"));
            }
        }
        let v = [at.reg(ra).num_unchecked(), at.reg(ra + 1).num_unchecked(), at.reg(ra + 2).num_unchecked()];
        self.step_sign(t[2], v[2])?;
        let up = v[2] >= 0.0;
        let enters = if up { v[0] <= v[1] } else { v[1] <= v[0] };
        // Integers stay integers as long as the loop cannot overflow.
        let int_of = |rec: &Rec, t: TRef| {
            if t.ty == Ty::Int {
                Some(t.r)
            } else {
                rec.trace.ir.as_knum(t.r).and_then(eval::num_to_index).map(|_| t.r)
            }
        };
        let narrow = self.p.narrow && t.iter().all(|t| int_of(self, *t).is_some());
        for t in &mut t {
            *t = if narrow {
                match self.trace.ir.as_knum(t.r).and_then(eval::num_to_int_exact) {
                    Some(k) => self.kint(k),
                    None => *t,
                }
            } else {
                self.to_num(*t)?
            };
        }
        let after = at.pc.wrapping_add(1);
        let end = after.wrapping_offset(ins.j() as isize);
        let (other, other_max) = if enters { (end, ra) } else { (after, ra + 4) };
        self.slots[self.baseslot + ra as usize] = t[0];
        self.set(ra + 3, t[0]);
        self.maxslot = other_max as usize;
        self.snapshot(vm, At { pc: other, base: at.base })?;
        let cmp = if up { IrOp::LE } else { IrOp::GE };
        self.loop_guard(cmp, enters, t[0], t[1])?;
        self.needsnap = true;
        if !enters {
            self.maxslot = ra as usize;
            return Ok(Step::Next);
        }
        self.maxslot = ra as usize + 4;
        if op == Op::JFORI {
            let no = view::ins_at(end.wrapping_sub(1) as usize).d();
            return self.meet_trace(vm, At { pc: after, base: at.base }, no);
        }
        Ok(Step::Next)
    }

    fn loop_guard(&mut self, cmp: IrOp, holds: bool, idx: TRef, stop: TRef) -> R<()> {
        let op = match (holds, idx.ty) {
            (true, _) => cmp,
            (false, Ty::Int) => cmp.inverted(),
            (false, _) => IrOp::from_index(cmp as usize ^ 5),
        };
        self.guard(op, idx.r, stop.r)
    }

    fn step_sign(&mut self, step: TRef, v: f64) -> R<()> {
        if step.r.is_const() {
            return Ok(());
        }
        let zero = if step.ty == Ty::Int { self.kint(0) } else { self.knum(0.0) };
        self.guard(if v >= 0.0 { IrOp::GE } else { IrOp::LT }, step.r, zero.r)
    }

    pub(super) fn rec_forl(&mut self, vm: &Vm, at: At, op: Op) -> R<Step> {
        let ins = if op == Op::JFORL { self.original(vm, at)? } else { at.ins(0) };
        let ra = ins.a();
        let own = self.own_loop(at);
        let mut idx = self.get(at, ra)?;
        let (mut stop, mut step) = match self.forl {
            Some(f) if own => (f.stop, f.step),
            _ => (self.get(at, ra + 1)?, self.get(at, ra + 2)?),
        };
        let (vi, vl, vs) =
            (at.reg(ra).num_unchecked(), at.reg(ra + 1).num_unchecked(), at.reg(ra + 2).num_unchecked());
        let next = vi + vs;
        let up = vs >= 0.0;
        let round = if up { next <= vl } else { vl <= next };
        if !own {
            self.step_sign(step, vs)?;
        }
        let ints = idx.ty == Ty::Int
            && [stop, step].iter().all(|t| {
                t.ty == Ty::Int || self.trace.ir.as_knum(t.r).and_then(eval::num_to_int_exact).is_some()
            });
        let new = if own && idx.ty == Ty::Int {
            // The limit was checked at the loop's entry: no overflow.
            self.emit_t(IrOp::ADD, Ty::Int, idx.r, step.r)?
        } else if ints && eval::num_to_int_exact(next).is_some() {
            for t in [&mut stop, &mut step] {
                if let Some(k) = self.trace.ir.as_knum(t.r).and_then(eval::num_to_int_exact) {
                    *t = self.kint(k);
                }
            }
            let r = self.emit(IrOp::ADDOV, IrT::guard(Ty::Int), idx.r, step.r)?;
            TRef::new(r, Ty::Int)
        } else {
            idx = self.to_num(idx)?;
            stop = self.to_num(stop)?;
            step = self.to_num(step)?;
            self.emit_t(IrOp::ADD, Ty::Num, idx.r, step.r)?
        };
        let after = at.pc.wrapping_add(1);
        let body = after.wrapping_offset(ins.j() as isize);
        self.set(ra, new);
        self.set(ra + 3, new);
        let (other, other_max) = if round { (after, ra) } else { (body, ra + 4) };
        self.maxslot = other_max as usize;
        self.snapshot(vm, At { pc: other, base: at.base })?;
        self.loop_guard(if up { IrOp::LE } else { IrOp::GE }, round, new, stop)?;
        self.needsnap = true;
        if !round {
            self.maxslot = ra as usize;
        } else {
            self.maxslot = ra as usize + 4;
        }
        let ev = if round { Event::Round } else { Event::Leave };
        self.back_edge(vm, at, At { pc: body, base: at.base }, ev, (op == Op::JFORL).then(|| at.ins(0).d()))
    }

    pub(super) fn rec_iterl(&mut self, vm: &Vm, at: At, op: Op) -> R<Step> {
        let ins = if op == Op::JITERL { self.original(vm, at)? } else { at.ins(0) };
        let ra = ins.a();
        let t = self.get(at, ra)?;
        let body = at.pc.wrapping_offset(1 + ins.j() as isize);
        let ev = if t.ty == Ty::Nil {
            self.maxslot = ra as usize - 3;
            Event::Leave
        } else {
            self.set(ra - 1, t);
            self.maxslot = ra as usize + at.ins(-1).b() as usize - 1;
            Event::Round
        };
        self.needsnap = true;
        self.back_edge(vm, at, At { pc: body, base: at.base }, ev, (op == Op::JITERL).then(|| at.ins(0).d()))
    }

    pub(super) fn rec_loop(&mut self, vm: &Vm, at: At, op: Op) -> R<Step> {
        let own = self.own_loop(at);
        let after = At { pc: at.pc.wrapping_add(1), base: at.base };
        if op != Op::JLOOP || own {
            self.maxslot = self.maxslot.min(at.ins(0).a() as usize);
        }
        self.back_edge(vm, at, after, Event::Round, (op == Op::JLOOP).then(|| at.ins(0).d()))
    }

    /// The end of a recorded `ITERN` at `at`: `round` is the loop's trace if it goes round and has one.
    pub(super) fn over_next(&mut self, vm: &Vm, to: At, at: At, round: Option<Option<u32>>) -> R<Step> {
        let ev = if round.is_some() { Event::Round } else { Event::Leave };
        self.back_edge(vm, at, to, ev, round.flatten())
    }

    /// The instruction that a `J` form replaced.
    fn original(&self, vm: &Vm, at: At) -> R<Instr> {
        let no = moonlit_vm::index::TraceNo::new(at.ins(0).d());
        vm.traces.get(no).map(|e| Instr(e.start_ins)).ok_or(Abort::NoLink)
    }

    /// Is this the loop whose trace is being recorded?
    fn own_loop(&self, at: At) -> bool {
        let pc = match self.kind {
            Kind::Loop { pc, .. } => Some(pc),
            Kind::Side { .. } => self.head,
            Kind::Function { .. } => None,
        };
        pc == Some(at.pc as usize) && self.frames.is_empty() && self.trace.ir.chain(IrOp::RETF).is_none()
    }

    /// A back edge (or loop head) was reached at `at`; the loop's body begins at `body`.
    fn back_edge(&mut self, vm: &Vm, at: At, body: At, ev: Event, trace: Option<u32>) -> R<Step> {
        if self.own_loop(at) {
            return match ev {
                Event::Round => self.stop(vm, body, Link::Loop),
                Event::Leave if self.is_root() => Err(Abort::LeavesLoop),
                Event::Leave => {
                    // If the loop is entered anew its limit may be another one.
                    (self.head, self.forl) = (None, None);
                    Ok(Step::Next)
                }
            };
        }
        if ev == Event::Leave {
            return Ok(Step::Next);
        }
        if let Some(no) = trace {
            return self.meet_trace(vm, body, no);
        }
        if self.is_root() && self.frames.is_empty() {
            // Better let the inner loop become a trace first. Loops of called functions are unrolled instead,
            // as long as they are short: one trace over all of it beats any linking. So are those that have too
            // few rounds to become traces.
            if !self.short_loops.contains(&(at.pc as usize)) {
                return Err(Abort::InnerLoop);
            }
            let (pc, now) = (at.pc as usize, self.trace.ir.len());
            let last = self.round_at.replace((pc, now));
            if last.is_some_and(|l| l.0 == pc && now - l.1 > ROUND_MAX) {
                return Err(Abort::LoopUnrollLimit);
            }
        }
        self.unrolls += 1;
        if self.unrolls > self.params.loopunroll {
            return Err(Abort::LoopUnrollLimit);
        }
        Ok(Step::Next)
    }

    /// A compiled loop was reached.
    fn meet_trace(&mut self, vm: &Vm, body: At, no: u32) -> R<Step> {
        if self.is_root() {
            return Err(Abort::InnerLoop);
        }
        self.stop(vm, body, Link::Root(no))
    }

    pub(super) fn rec_isnext(&mut self, vm: &Vm, at: At) -> R<()> {
        let ins = at.ins(0);
        let a = ins.a();
        let f = self.get(at, a - 3)?;
        let t = self.get(at, a - 2)?;
        let c = self.get(at, a - 1)?;
        if at.reg(a - 3).0 != vm.next_func.0 || t.ty != Ty::Tab || c.ty != Ty::Nil {
            return Err(Abort::NyiOp(Op::ISNEXT));
        }
        let k = self.konst(vm.next_func)?;
        self.guard(IrOp::EQ, f.r, k.r)?;
        // The control slot becomes the position word.
        let r = self.trace.ir.kptr(0xfffe_7fff << 32);
        self.set(a - 1, TRef::new(r, Ty::P64));
        self.maxslot = a as usize;
        Ok(())
    }
}

/// The step of a numeric loop, when the compiler has just loaded it as a constant and nothing jumps in between.
fn const_step(vm: &Vm, at: At, forl: Instr) -> Option<f64> {
    let ra = forl.a();
    let fori = at.pc.wrapping_offset(forl.j() as isize);
    let f = At { pc: fori, base: at.base };
    if !matches!(f.ins(0).op(), Op::FORI | Op::JFORI) {
        return None;
    }
    let proto = at.proto(&vm.heap)?;
    let code = proto.get(&vm.heap).code();
    for (n, w) in code.iter().enumerate() {
        let i = Instr(*w);
        if i.op().info().cd == Mode::Jump {
            let target = n as i64 + 1 + i.j() as i64;
            let target = (code.as_ptr() as usize).wrapping_add((target * 4) as usize);
            if target == fori as usize {
                return None;
            }
        }
    }
    let k = f.ins(-1);
    match k.op() {
        Op::KSHORT if k.a() == ra + 2 => Some(k.d() as u16 as i16 as f64),
        Op::KNUM if k.a() == ra + 2 => Some(at.knum(&vm.heap, k.d()).num_unchecked()),
        _ => None,
    }
}
