//! Load forwarding and alias analysis, by Lua's rules: arrays, hash parts, upvalues and object fields are
//! disjoint kinds of memory; within a kind, references differ when tables or keys are known to differ.

use crate::ir::buffer::IrBuf;
use crate::ir::ins::{Field, Ins};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;

/// Answer of the alias analysis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Alias {
    /// Never the same memory.
    No,
    /// Perhaps.
    May,
    /// Always.
    Must,
}

fn is_alloc(ir: &IrBuf, r: Ref) -> bool {
    r.is_ins() && matches!(ir.ins(r).op, IrOp::TNEW | IrOp::TDUP)
}

/// Do two table references denote one table?
pub fn tables(ir: &IrBuf, a: Ref, b: Ref) -> Alias {
    if a == b {
        return Alias::Must;
    }
    if a.is_const() && b.is_const() {
        return Alias::No;
    }
    let (fa, fb) = (is_alloc(ir, a), is_alloc(ir, b));
    // A fresh table differs from another fresh one, from constants, and from whatever existed before it.
    if (fa && fb) || (fa && b < a) || (fb && a < b) {
        return Alias::No;
    }
    Alias::May
}

/// Table and key of a reference into a table.
fn split(ir: &IrBuf, r: Ref) -> (Ref, Ref) {
    let i = ir.ins(r);
    match i.op {
        IrOp::AREF | IrOp::HREFK => {
            let base = i.ra();
            let t = if base.is_ins() && ir.ins(base).op == IrOp::FLOAD { ir.ins(base).ra() } else { base };
            (t, i.rb())
        }
        _ => (i.ra(), i.rb()),
    }
}

/// Base and offset of an integer key. This looks through what a loop carries on, too: in the second copy of a round,
/// references into the first stand for the round before, and what holds between two rounds does so each time.
pub fn key_offset(ir: &IrBuf, mut k: Ref) -> (Ref, i32) {
    let mut offset = 0i32;
    loop {
        if let Some(n) = ir.as_kint(k) {
            return (Ref::NONE, offset.wrapping_add(n));
        }
        let i = match k.is_ins() {
            true => *ir.ins(k),
            false => return (k, offset),
        };
        let n = match i.op {
            IrOp::ADD | IrOp::ADDOV if i.ty() == Ty::Int => ir.as_kint(i.rb()),
            IrOp::SUBOV if i.ty() == Ty::Int => ir.as_kint(i.rb()).map(i32::wrapping_neg),
            _ => None,
        };
        let Some(n) = n else { return (k, offset) };
        (k, offset) = (i.ra(), offset.wrapping_add(n));
    }
}

/// Do two keys denote one slot (of one table)?
fn keys(ir: &IrBuf, a: Ref, b: Ref) -> Alias {
    if a == b {
        return Alias::Must;
    }
    if a.is_const() && b.is_const() {
        let (ka, kb) = (ir.k(a), ir.k(b));
        // The node number of a KSLOT does not distinguish keys.
        return if ka.ty == kb.ty && ka.bits == kb.bits { Alias::Must } else { Alias::No };
    }
    let (ta, tb) = (ir.ty(a), ir.ty(b));
    if ta != tb && !(ta.is_number() && tb.is_number()) {
        return Alias::No;
    }
    if ta == Ty::Int && tb == Ty::Int {
        let ((ba, oa), (bb, ob)) = (key_offset(ir, a), key_offset(ir, b));
        if ba == bb {
            return if oa == ob { Alias::Must } else { Alias::No };
        }
    }
    Alias::May
}

/// Alias of two references into tables.
pub fn slots(ir: &IrBuf, a: Ref, b: Ref) -> Alias {
    if a == b {
        return Alias::Must;
    }
    let ((ta, ka), (tb, kb)) = (split(ir, a), split(ir, b));
    match (tables(ir, ta, tb), keys(ir, ka, kb)) {
        (Alias::No, _) | (_, Alias::No) => Alias::No,
        (Alias::Must, Alias::Must) => Alias::Must,
        _ => Alias::May,
    }
}

/// Alias of two references to upvalues.
pub(super) fn upvalues(ir: &IrBuf, a: Ref, b: Ref) -> Alias {
    let (ia, ib) = (ir.ins(a), ir.ins(b));
    if ia.ra() == ib.ra() {
        return Alias::Must;
    }
    // The recorder names upvalue objects, so different constants are different variables.
    if ia.ra().is_const() && ib.ra().is_const() { Alias::No } else { Alias::May }
}

/// Last effect that may change any memory: a call with effects, or one of the library.
pub(super) fn calls(ir: &IrBuf) -> Ref {
    ir.chain(IrOp::CALLS).max(ir.chain(IrOp::NATIVE))
}

/// Walks a chain of stores above `limit`. `Ok(value)` is a forwarded value, `Err(limit)` the last conflict.
fn through_stores(
    ir: &IrBuf,
    op: IrOp,
    target: Ref,
    limit: Ref,
    alias: fn(&IrBuf, Ref, Ref) -> Alias,
) -> Result<Ref, Ref> {
    let mut s = ir.chain(op);
    while s.is_ins() && s > limit {
        let i = ir.ins(s);
        match alias(ir, target, i.ra()) {
            Alias::No => {}
            Alias::May => return Err(s),
            Alias::Must => return Ok(i.rb()),
        }
        s = Ref::from_bits(i.prev);
    }
    Err(limit)
}

/// Last `NEWREF` that may have changed the shape of table `t`.
fn new_keys(ir: &IrBuf, t: Ref, limit: Ref) -> Ref {
    let mut s = ir.chain(IrOp::NEWREF);
    while s.is_ins() && s > limit {
        if tables(ir, t, ir.ins(s).ra()) != Alias::No {
            return s;
        }
        s = Ref::from_bits(ir.ins(s).prev);
    }
    limit
}

/// Forwards a load: a stored value, or an earlier equal load. `None`: emit it.
pub fn load(ir: &IrBuf, i: &Ins) -> Option<Ref> {
    let limit = match i.op {
        IrOp::ALOAD | IrOp::HLOAD if i.ra().is_ins() => {
            let store = if i.op == IrOp::ALOAD { IrOp::ASTORE } else { IrOp::HSTORE };
            match through_stores(ir, store, i.ra(), calls(ir), slots) {
                Ok(v) => return forwarded(ir, i, v),
                Err(limit) => limit,
            }
        }
        IrOp::ULOAD => match through_stores(ir, IrOp::USTORE, i.ra(), calls(ir), upvalues) {
            Ok(v) => return forwarded(ir, i, v),
            Err(limit) => limit,
        },
        IrOp::FLOAD => match Field::from_lit(i.b) {
            Field::StrLen
            | Field::FuncEnv
            | Field::FuncPc
            | Field::FuncFlags
            | Field::FuncNativeId
            | Field::CdataCtypeid
            | Field::CdataPtr
            | Field::CdataInt64 => Ref::NONE,
            Field::TabArray | Field::TabNode | Field::TabAsize | Field::TabHmask => {
                new_keys(ir, i.ra(), calls(ir))
            }
            f @ (Field::TabMeta | Field::TabNomm | Field::UdataMeta) => {
                let mut limit = calls(ir);
                let mut s = ir.chain(IrOp::FSTORE);
                while s.is_ins() && s > limit {
                    let st = *ir.ins(s);
                    let fref = *ir.ins(st.ra());
                    if fref.b == f as u16 {
                        match tables(ir, i.ra(), fref.ra()) {
                            Alias::Must => return Some(st.rb()),
                            Alias::May => limit = s,
                            Alias::No => {}
                        }
                    }
                    s = Ref::from_bits(st.prev);
                }
                // Adding a key clears the negative metamethod cache.
                if f == Field::TabNomm { new_keys(ir, i.ra(), limit) } else { limit }
            }
        },
        // Slots are numbered from the base, which a return to a lower frame moves.
        IrOp::SLOAD => ir.chain(IrOp::RETF),
        IrOp::XLOAD if i.b & 1 != 0 => Ref::NONE,
        IrOp::XLOAD => match super::memory::load(ir, i, calls(ir).max(ir.chain(IrOp::CALLXS))) {
            Ok(v) => return Some(v),
            Err(limit) => limit,
        },
        IrOp::ALEN | IrOp::CALLL => ir
            .chain(IrOp::ASTORE)
            .max(ir.chain(IrOp::HSTORE))
            .max(ir.chain(IrOp::NEWREF))
            .max(ir.chain(IrOp::FSTORE))
            .max(ir.chain(IrOp::USTORE))
            .max(calls(ir)),
        _ => return None,
    };
    super::cse::find(ir, i, limit)
}

/// A stored value replaces a load only when it has the type the load would have been guarded for.
fn forwarded(ir: &IrBuf, i: &Ins, v: Ref) -> Option<Ref> {
    let (want, have) = (i.ty(), ir.ty(v));
    (want == have || (want.is_number() && have.is_number())).then_some(v)
}

/// The integer key of the last array store to a table: where its length probably is.
pub fn length_hint(ir: &IrBuf, t: Ref, below: Ref) -> Option<Ref> {
    let mut s = ir.chain(IrOp::ASTORE);
    while s.is_ins() {
        let i = ir.ins(s);
        if s < below {
            let (tab, key) = split(ir, i.ra());
            if tab == t && key.is_ins() && ir.ty(key) == Ty::Int {
                return Some(key);
            }
        }
        s = Ref::from_bits(i.prev);
    }
    None
}

/// Nothing older than this may be reused for a reference into memory.
pub fn ref_limit(ir: &IrBuf, i: &Ins) -> Ref {
    match i.op {
        IrOp::HREF => new_keys(ir, i.ra(), calls(ir)),
        IrOp::UREFO | IrOp::UREFC => calls(ir).max(ir.chain(IrOp::RETF)),
        _ => Ref::NONE,
    }
}
