//! The verifier of IR. Invariants:
//!
//! 1. Reference operands are constants or smaller than the instruction; literal operands are in range.
//! 2. No operand is a `NOP`, a `PHI`, or an instruction without a value.
//! 3. At most one `LOOP`; `PHI`s only at the end, after it; each joins a left value from before `LOOP` with
//!    a right one of the same type, and no value is the left side of two.
//! 4. Both operands of arithmetic and comparisons have one type, which (arithmetic) is the result's.
//! 5. Memory operations take the right kind of reference.

use super::buffer::IrBuf;
use super::ins::{Field, conv, fpm};
use super::ops::{Class, IrOp, Opnd};
use super::refs::Ref;
use super::ty::Ty;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The instruction.
    pub at: Ref,
    /// What is wrong with it.
    pub what: &'static str,
}

fn same_family(a: Ty, b: Ty) -> bool {
    let word = |t: Ty| t.is_int64() || t == Ty::P64;
    a == b || (a.is_int32() && b.is_int32()) || (word(a) && word(b))
}

fn check_one(ir: &IrBuf, r: Ref, lp: Option<Ref>) -> Result<(), &'static str> {
    let i = ir.ins(r);
    let (ma, mb) = i.op.operands();
    for (m, v) in [(ma, i.a), (mb, i.b)] {
        if m != Opnd::Ref || v == 0 {
            continue;
        }
        let o = Ref::from_bits(v);
        if o.is_const() {
            if o.const_index() >= ir.const_count() {
                return Err("operand is a constant that does not exist");
            }
            continue;
        }
        if o >= r {
            return Err("operand is not defined before its use");
        }
        if matches!(ir.ins(o).op, IrOp::NOP | IrOp::PHI | IrOp::LOOP) {
            return Err("operand has no value");
        }
    }
    if ma == Opnd::Ref
        && i.a == 0
        && !matches!(i.op.class(), Class::Load | Class::Store | Class::Alloc | Class::Pure)
    {
        return Err("missing operand");
    }
    let ty = |r: Ref| ir.ty(r);
    match i.op {
        IrOp::PHI => {
            let Some(lp) = lp else { return Err("PHI without a LOOP") };
            if r < lp {
                return Err("PHI before the LOOP");
            }
            if i.ra() > lp || i.ra().is_const() {
                return Err("left side of a PHI must come from before the LOOP");
            }
            if ty(i.ra()) != ty(i.rb()) {
                return Err("sides of a PHI differ in type");
            }
        }
        IrOp::LT | IrOp::GE | IrOp::LE | IrOp::GT | IrOp::ULT | IrOp::UGE | IrOp::ULE | IrOp::UGT => {
            if !same_family(ty(i.ra()), ty(i.rb())) {
                return Err("operands of a comparison differ in type");
            }
            if !i.is_guard() {
                return Err("comparison without a guard");
            }
        }
        IrOp::EQ | IrOp::NE => {
            if !same_family(ty(i.ra()), ty(i.rb())) && ty(i.ra()).is_fp() != ty(i.rb()).is_fp() {
                return Err("operands of a comparison differ in type");
            }
            if !i.is_guard() {
                return Err("comparison without a guard");
            }
        }
        IrOp::ADD | IrOp::SUB
            // Address arithmetic adds an integer to a pointer.
            if i.ty() == Ty::P64 => {}
        IrOp::ADD | IrOp::SUB | IrOp::MUL | IrOp::DIV | IrOp::MOD | IrOp::POW | IrOp::MIN | IrOp::MAX
        | IrOp::BAND | IrOp::BOR | IrOp::BXOR | IrOp::ADDOV | IrOp::SUBOV | IrOp::MULOV => {
            if !same_family(ty(i.ra()), i.ty()) || !same_family(ty(i.rb()), i.ty()) {
                return Err("operands of arithmetic differ from the result in type");
            }
        }
        IrOp::NEG | IrOp::ABS | IrOp::BNOT | IrOp::BSWAP | IrOp::BSHL | IrOp::BSHR | IrOp::BSAR | IrOp::BROL
        | IrOp::BROR => {
            if !same_family(ty(i.ra()), i.ty()) {
                return Err("operand of arithmetic differs from the result in type");
            }
        }
        IrOp::CONV => {
            if i.b & conv::SRC > Ty::U64 as u16 || !same_family(ty(i.ra()), conv::src(i.b)) {
                return Err("CONV names another source type than its operand has");
            }
        }
        IrOp::FPMATH => {
            if i.b as usize >= fpm::NAMES.len() {
                return Err("unknown function of FPMATH");
            }
        }
        IrOp::FLOAD | IrOp::FREF => {
            if i.b as usize >= Field::ALL.len() {
                return Err("unknown field");
            }
        }
        IrOp::ALOAD | IrOp::ASTORE => {
            if ir.ins(i.ra()).op != IrOp::AREF {
                return Err("array access needs an AREF");
            }
        }
        IrOp::HLOAD | IrOp::HSTORE => {
            if !i.ra().is_const() && !matches!(ir.ins(i.ra()).op, IrOp::HREF | IrOp::HREFK | IrOp::NEWREF) {
                return Err("hash access needs an HREF, HREFK or NEWREF");
            }
        }
        IrOp::ULOAD | IrOp::USTORE => {
            if !matches!(ir.ins(i.ra()).op, IrOp::UREFO | IrOp::UREFC) {
                return Err("upvalue access needs an UREFO or UREFC");
            }
        }
        IrOp::FSTORE => {
            if ir.ins(i.ra()).op != IrOp::FREF {
                return Err("field store needs an FREF");
            }
        }
        IrOp::HREFK => {
            if !i.rb().is_const() || ir.k(i.rb()).slot == 0 {
                return Err("HREFK needs a key with a node number");
            }
        }
        IrOp::ABC | IrOp::RETF | IrOp::NOP | IrOp::BASE | IrOp::PVAL | IrOp::GCSTEP | IrOp::POLL | IrOp::STACK | IrOp::LOOP
        | IrOp::USE | IrOp::LDEXP | IrOp::AREF | IrOp::HREF | IrOp::NEWREF | IrOp::UREFO | IrOp::UREFC
        | IrOp::STRREF | IrOp::XLOAD | IrOp::SLOAD | IrOp::VLOAD | IrOp::NATIVE | IrOp::NLOAD | IrOp::ALEN | IrOp::XSTORE | IrOp::SNEW | IrOp::TNEW
        | IrOp::TDUP | IrOp::CNEW | IrOp::CNEWI | IrOp::TBAR | IrOp::OBAR | IrOp::TOBIT | IrOp::TOSTR
        | IrOp::STRTO | IrOp::CALLN | IrOp::CALLA | IrOp::CALLL | IrOp::CALLS | IrOp::CALLXS | IrOp::CARG => {}
    }
    Ok(())
}

/// Checks a buffer. The first broken invariant is returned.
pub fn verify(ir: &IrBuf) -> Result<(), Broken> {
    let mut lp = None;
    let mut phis = false;
    let mut lefts = std::collections::HashSet::new();
    for r in ir.refs().skip(1) {
        let i = ir.ins(r);
        let fail = |what| Err(Broken { at: r, what });
        match i.op {
            IrOp::LOOP if lp.is_some() => return fail("second LOOP"),
            IrOp::LOOP => lp = Some(r),
            IrOp::PHI => {
                phis = true;
                if !lefts.insert(i.ra()) {
                    return fail("value is the left side of two PHIs");
                }
            }
            IrOp::NOP => {}
            _ if phis => return fail("instruction after the PHIs"),
            _ => {}
        }
        if let Err(what) = check_one(ir, r, lp) {
            return fail(what);
        }
    }
    Ok(())
}
