//! The recorder's view of the stack: what each slot holds, loading slots, snapshots and dead slots. The mirror
//! image is `restore`.

use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::ins::{Ins, IrT, sload};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::trace::snapshot::{Snap, SnapEntry};
use crate::view::{self, At};
use moonlit_vm::bytecode::ops::{Mode, Op};
use moonlit_vm::state::Vm;
use moonlit_vm::value::{Value, tag};

/// Slots a trace can hold, over all its frames.
pub const SLOTS_MAX: usize = 250;

/// A value on the trace: reference and type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TRef {
    /// The reference; [`Ref::NONE`] when the slot was not touched.
    pub r: Ref,
    /// Its type.
    pub ty: Ty,
}

impl TRef {
    /// Untouched.
    pub const NONE: TRef = TRef { r: Ref::NONE, ty: Ty::Nil };

    /// A value.
    pub const fn new(r: Ref, ty: Ty) -> TRef {
        TRef { r, ty }
    }

    /// A boolean constant.
    pub const fn bool(b: bool) -> TRef {
        if b { TRef::new(Ref::TRUE, Ty::True) } else { TRef::new(Ref::FALSE, Ty::False) }
    }

    /// Primitive 0 nil, 1 false, 2 true.
    pub const fn pri(n: u32) -> TRef {
        match n {
            0 => TRef::new(Ref::NIL, Ty::Nil),
            1 => TRef::new(Ref::FALSE, Ty::False),
            _ => TRef::new(Ref::TRUE, Ty::True),
        }
    }

    /// Is the slot untouched?
    pub const fn is_none(self) -> bool {
        self.r.is_none()
    }
}

/// Type of a Lua value.
pub fn type_of(v: Value) -> Ty {
    match v.tag() {
        tag::NIL => Ty::Nil,
        tag::FALSE => Ty::False,
        tag::TRUE => Ty::True,
        tag::LIGHTUD => Ty::LightUd,
        tag::STR => Ty::Str,
        tag::UPVAL => Ty::Upval,
        tag::THREAD => Ty::Thread,
        tag::PROTO => Ty::Proto,
        tag::FUNC => Ty::Func,
        tag::CDATA => Ty::Cdata,
        tag::TAB => Ty::Tab,
        tag::UDATA => Ty::Udata,
        _ => Ty::Num,
    }
}

impl Rec {
    /// Register `r` of the current frame; loaded (with a type check) when it was not touched yet.
    pub(crate) fn get(&mut self, at: At, r: u32) -> R<TRef> {
        let s = self.baseslot + r as usize;
        if s >= SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        let t = self.slots[s];
        if !t.is_none() {
            return Ok(t);
        }
        self.load_slot(s, type_of(at.reg(r)), sload::TYPECHECK)
    }

    /// Loads slot `s` of the trace as `ty`.
    pub(crate) fn load_slot(&mut self, s: usize, ty: Ty, mode: u16) -> R<TRef> {
        let t = if mode & (sload::TYPECHECK | sload::CONVERT) != 0 { IrT::guard(ty) } else { IrT::of(ty) };
        let r = self.emit_raw(Ins::raw(IrOp::SLOAD, t, s as u16, mode))?;
        let mut v = TRef::new(r, ty);
        if ty.is_pri() {
            // The type is the value.
            v.r = match ty {
                Ty::Nil => Ref::NIL,
                Ty::False => Ref::FALSE,
                _ => Ref::TRUE,
            };
        }
        self.slots[s] = v;
        self.maxslot = self.maxslot.max((s + 1).saturating_sub(self.baseslot));
        Ok(v)
    }

    /// Sets register `r`.
    pub(crate) fn set(&mut self, r: u32, t: TRef) {
        let s = self.baseslot + r as usize;
        if s < SLOTS_MAX {
            self.slots[s] = t;
            self.maxslot = self.maxslot.max(r as usize + 1);
        }
    }

    /// Final slot values, for loop optimisation.
    pub fn slot_refs(&self) -> Vec<Ref> {
        self.slots[..self.baseslot + self.maxslot].iter().map(|t| t.r).collect()
    }

    /// Adds a snapshot for the instruction at `at`, or moves the last one here when no guard uses it.
    pub(crate) fn snapshot(&mut self, _vm: &Vm, at: At) -> R<()> {
        let next = self.trace.ir.next_ref();
        let n = self.trace.snaps.len();
        if n > 0 && (self.trace.snaps[n - 1].at == next || (self.mergesnap && !self.guarded)) {
            if n == 1 {
                // Snapshot 0 stays: it is where the trace starts.
                self.trace.ir.push(Ins::raw(IrOp::NOP, IrT::of(Ty::Nil), 0, 0));
            } else {
                let s = self.trace.snaps.pop().expect("there are two or more");
                self.trace.map.truncate(s.map as usize);
            }
        }
        self.guarded = false;
        self.mergesnap = false;
        let nslots = self.baseslot + self.maxslot;
        if nslots > SLOTS_MAX {
            return Err(Abort::TooManySlots);
        }
        self.slots_max = self.slots_max.max(nslots);
        let map = self.trace.map.len() as u32;
        for s in 0..nslots {
            let t = self.slots[s];
            if t.is_none() {
                continue;
            }
            let mut norestore = false;
            if t.r.is_ins() {
                let i = self.trace.ir.ins(t.r);
                let ir = &self.trace.ir;
                // Frames that were written to the stack for a call may have put something else there.
                let since = ir.chain(IrOp::RETF).max(ir.chain(IrOp::NATIVE)).max(self.written_back);
                if i.op == IrOp::SLOAD && i.a as usize == s && t.r > since {
                    // Memory already holds it. Only what side traces inherit is listed.
                    if i.b & sload::INHERIT == 0 {
                        continue;
                    }
                    norestore = true;
                }
                // The call has left its results there.
                norestore |= i.op == IrOp::NATIVE;
            }
            if s < 2 && t.r.is_const() && self.is_root() {
                // The trace's own frame is on the stack already.
                continue;
            }
            self.trace.map.push(SnapEntry { slot: s as u16, value: t.r, raw: t.ty == Ty::P64, norestore });
        }
        let len = self.trace.map.len() as u16 - map as u16;
        self.trace.snaps.push(Snap {
            at: self.trace.ir.next_ref(),
            map,
            len,
            nslots: nslots as u16,
            base: self.baseslot as i16 - 2,
            multres: 0,
            pc: at.pc as u64,
        });
        Ok(())
    }

    /// Changes the address of the last snapshot: the other way of a branch.
    pub(crate) fn retarget(&mut self, vm: &Vm, pc: *const u32, at: At) {
        if let Some(s) = self.trace.snaps.last_mut() {
            s.pc = pc as u64;
        }
        self.shrink(vm, At { pc, base: at.base });
    }

    /// Drops slots from the last snapshot that are dead at `at`.
    fn shrink(&mut self, vm: &Vm, at: At) {
        let dead = self.dead_slots(vm, at);
        let Some(s) = self.trace.snaps.last().copied() else { return };
        let base = self.baseslot;
        let from = s.map as usize;
        let mut kept = Vec::new();
        for e in &self.trace.map[from..] {
            let slot = e.slot as usize;
            if slot < base || !dead.get(slot - base).copied().unwrap_or(false) {
                kept.push(*e);
            }
        }
        self.trace.map.truncate(from);
        self.trace.map.extend(&kept);
        if let Some(s) = self.trace.snaps.last_mut() {
            s.len = kept.len() as u16;
        }
    }

    /// Forgets the values of slots that are dead at `at`.
    pub(crate) fn purge(&mut self, vm: &Vm, at: At) {
        let dead = self.dead_slots(vm, at);
        for (r, d) in dead.iter().enumerate() {
            if *d {
                self.slots[self.baseslot + r] = TRef::NONE;
            }
        }
    }

    /// Which registers of the current frame are certainly overwritten before they are read, going on from
    /// `at`. Follows straight code only; at a jump all registers from its A on are dead, because the compiler
    /// keeps no temporaries across jumps.
    fn dead_slots(&self, vm: &Vm, at: At) -> Vec<bool> {
        let max = self.maxslot;
        // 0 unknown, 1 used, 2 dead
        let mut state = vec![0u8; max];
        for s in view::open_slots(vm, at.base) {
            if s < max {
                state[s] = 1;
            }
        }
        // The first thing that happens to a register decides.
        let note = |state: &mut [u8], s: usize, what: u8| {
            if let Some(x) = state.get_mut(s).filter(|x| **x == 0) {
                *x = what;
            }
        };
        let mut pc = At { pc: at.pc, base: at.base };
        let mut tail_dead = max;
        for _ in 0..100 {
            let i = pc.ins(0);
            let op = i.op();
            let info = op.info();
            let (a, b, c, d) = (i.a() as usize, i.b() as usize, i.c() as usize, i.d() as usize);
            match info.b {
                Some(Mode::Var) => note(&mut state, b, 1),
                Some(Mode::RBase) if op == Op::CAT => (b..=c).for_each(|s| note(&mut state, s, 1)),
                _ => {}
            }
            let field = if info.b.is_some() { c } else { d };
            if info.cd == Mode::Var {
                note(&mut state, field, 1);
            }
            if info.a == Mode::Var {
                note(&mut state, a, 1);
            }
            let mut end = None;
            match op {
                Op::UCLO => pc.pc = pc.pc.wrapping_offset(i.j() as isize),
                Op::JMP | Op::LOOP | Op::ILOOP | Op::JLOOP | Op::ISNEXT => end = Some(a),
                Op::FORI | Op::JFORI | Op::FORL | Op::IFORL | Op::JFORL => {
                    end = Some(a + 3);
                }
                // The iterator's results are live: their number is in the ITERC or ITERN before.
                Op::ITERL | Op::IITERL | Op::JITERL => end = Some(a + pc.ins(-1).b() as usize - 1),
                Op::CALL => {
                    (a..=a + c).for_each(|s| note(&mut state, s, 1));
                    // Arguments and everything above are gone afterwards.
                    (a..max).for_each(|s| note(&mut state, s, 2));
                }
                // A new function may capture any local.
                Op::FNEW
                | Op::CALLM
                | Op::CALLMT
                | Op::RETM
                | Op::TSETM
                | Op::VARG
                | Op::ITERC
                | Op::ITERN => {
                    for s in state.iter_mut().filter(|s| **s == 0) {
                        *s = 1;
                    }
                    break;
                }
                Op::CALLT => {
                    (a..=a + d).for_each(|s| note(&mut state, s, 1));
                    end = Some(0);
                }
                Op::RET | Op::RET1 => {
                    (a..a + d - 1).for_each(|s| note(&mut state, s, 1));
                    end = Some(0);
                }
                Op::RET0 => end = Some(0),
                Op::KNIL => (a..=d).for_each(|s| note(&mut state, s, 2)),
                Op::FUNCF | Op::IFUNCF | Op::JFUNCF | Op::FUNCV | Op::IFUNCV | Op::JFUNCV => {
                    for s in state.iter_mut().filter(|s| **s == 0) {
                        *s = 1;
                    }
                    break;
                }
                _ if info.a == Mode::Dst && !matches!(op, Op::ISTC | Op::ISFC) => note(&mut state, a, 2),
                _ => {}
            }
            if let Some(min) = end {
                tail_dead = min;
                break;
            }
            // The jump behind a comparison: slots from its A on are dead on both ways only when it is taken;
            // straight on, they may still be used. Leave them unknown.
            pc.pc = pc.pc.wrapping_add(1);
        }
        state.iter().enumerate().map(|(s, st)| *st == 2 || (*st == 0 && s >= tail_dead)).collect()
    }
}
