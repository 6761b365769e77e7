//! The FOLD engine. A rule looks at one instruction about to be emitted and may replace it.
//!
//! Contract of a rule: the replacement has the same value for all inputs, and the same type; it is smaller
//! or closer to a normal form (constants to the right), so that rewriting ends; and it does not reach
//! through an operand that is a loop phi (`is_phi`): the result would refer to the round before.

mod cdata;
mod cmp;
mod conv;
mod int;
mod num;

use crate::ir::buffer::IrBuf;
use crate::ir::ins::Ins;
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use std::sync::OnceLock;

/// What a rule answers.
pub enum Fold {
    /// No rule applies: emit the instruction.
    Next,
    /// The value exists already.
    Keep(Ref),
    /// A guard that always holds.
    Drop,
    /// A guard that never holds.
    Fail,
    /// Try again with this instruction.
    Retry(Ins),
    /// Emit the first instruction, then try again with what the second makes of its reference.
    Nested(Ins, fn(Ref) -> Ins),
}

/// One rule.
pub struct Rule {
    /// Name, for `--dump=fold`.
    pub name: &'static str,
    /// Operations it looks at.
    pub ops: &'static [IrOp],
    /// The rule itself; `None` when it does not apply.
    pub f: fn(&mut IrBuf, &Ins) -> Option<Fold>,
}

/// Declares a table of rules: `name: OP | OP => |ir, i| body;` where `body` is an `Option<Fold>`.
macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident: $($op:ident)|+ => |$ir:ident, $i:ident| $body:expr;)*) => {
        /// The rules of this topic.
        pub const RULES: &[$crate::opt::fold::Rule] = &[$($crate::opt::fold::Rule {
            name: stringify!($name),
            ops: &[$($crate::ir::ops::IrOp::$op),+],
            f: |$ir, $i| $body,
        }),*];
    };
}
use rules;

/// All rules, topic by topic; earlier ones win.
pub fn all_rules() -> impl Iterator<Item = &'static Rule> {
    num::RULES.iter().chain(int::RULES).chain(conv::RULES).chain(cmp::RULES).chain(cdata::RULES)
}

fn table() -> &'static [Vec<&'static Rule>] {
    static TABLE: OnceLock<Vec<Vec<&'static Rule>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut t = vec![Vec::new(); IrOp::COUNT];
        for r in all_rules() {
            for op in r.ops {
                t[*op as usize].push(r);
            }
        }
        t
    })
}

/// Applies the first rule that fits.
pub fn apply(ir: &mut IrBuf, i: &Ins) -> Fold {
    for r in &table()[i.op as usize] {
        if let Some(f) = (r.f)(ir, i) {
            return f;
        }
    }
    Fold::Next
}

/// The instruction behind an operand, if a rule may look through it.
pub(crate) fn inner(ir: &IrBuf, r: Ref) -> Option<Ins> {
    (r >= Ref::FIRST).then(|| *ir.ins(r)).filter(|i| !i.t.is_phi())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::eval;
    use crate::ir::ins::IrT;
    use crate::ir::ops::Opnd;
    use crate::ir::ty::Ty;
    use crate::opt::{Passes, emit};

    const NUMS: &[f64] = &[
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0,
        0.5,
        3.25,
        -7.0,
        1e15,
        2147483647.0,
        -2147483648.0,
        4294967296.0,
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::NAN,
        1e-300,
    ];
    const INTS: &[i32] = &[0, 1, -1, 2, 5, 31, 32, 33, -7, i32::MAX, i32::MIN, 0x55aa55aa];

    /// Builds `op(x, k)` and `op(op2(x, k2), k)` with and without the optimiser, and compares their values
    /// for edge inputs of `x`.
    fn check(ty: Ty, op: IrOp, inner: Option<(IrOp, usize)>, k: usize, swap: bool) {
        let build = |p: Passes| -> Result<(IrBuf, Ref), crate::abort::Abort> {
            let mut ir = IrBuf::new();
            let x = ir.push(Ins::raw(IrOp::SLOAD, IrT::guard(ty), 0, 4));
            let konst = |ir: &mut IrBuf, n: usize| {
                if ty == Ty::Num { ir.knum(NUMS[n % NUMS.len()]) } else { ir.kint(INTS[n % INTS.len()]) }
            };
            let mut v = x;
            if let Some((op2, k2)) = inner {
                let k2 = konst(&mut ir, k2);
                v = emit(&mut ir, p, Ins::new(op2, IrT::of(ty), v, k2))?;
            }
            let kr = konst(&mut ir, k);
            let (a, b) = if swap { (kr, v) } else { (v, kr) };
            let t = if op.is_comparison() { IrT::guard(ty) } else { IrT::of(ty) };
            let unary = op.operands().1 == Opnd::None;
            let r = emit(&mut ir, p, Ins::new(op, t, a, if unary { Ref::NONE } else { b }))?;
            Ok((ir, r))
        };
        let none = Passes::level(0);
        let (plain, pr) = build(none).expect("no rule ran");
        let folded = build(Passes::ALL);
        for x in 0..NUMS.len().max(INTS.len()) {
            let bits =
                if ty == Ty::Num { NUMS[x % NUMS.len()] } else { INTS[x % INTS.len()] as f64 }.to_bits();
            let (stop, vals) = eval::run(&plain, &[bits], 0);
            if let eval::Stop::Unknown(_) = stop {
                continue;
            }
            let failed = matches!(stop, eval::Stop::Exit(_));
            match &folded {
                Err(_) => assert!(failed, "{op:?} {inner:?} {k} folded to a failing guard for {x}"),
                Ok((ir, r)) => {
                    let (fstop, fvals) = eval::run(ir, &[bits], 0);
                    assert_eq!(
                        matches!(fstop, eval::Stop::Exit(_)),
                        failed,
                        "{op:?} {inner:?} k{k} x{x} {swap}"
                    );
                    if !failed && !op.is_comparison() {
                        let (a, b) = (eval::get(&plain, &vals, pr), eval::get(ir, &fvals, *r));
                        let nan = ty == Ty::Num && f64::from_bits(a).is_nan() && f64::from_bits(b).is_nan();
                        assert!(a == b || nan, "{op:?} {inner:?} k{k} x{x} {swap}: {a:x} is not {b:x}");
                    }
                }
            }
        }
    }

    #[test]
    fn rules_agree_with_the_evaluator_on_edge_values() {
        use IrOp::*;
        let num = [ADD, SUB, MUL, DIV, MOD, MIN, MAX, NEG, ABS, LT, GE, LE, GT, ULT, UGE, ULE, UGT, EQ, NE];
        let int = [
            ADD, SUB, MUL, BAND, BOR, BXOR, BSHL, BSHR, BSAR, BROL, BROR, BNOT, BSWAP, NEG, MIN, MAX, LT, GE,
            LE, GT, ULT, UGE, ULE, UGT, EQ, NE, ADDOV, SUBOV, MULOV,
        ];
        for (ty, ops, n) in [(Ty::Num, &num[..], NUMS.len()), (Ty::Int, &int[..], INTS.len())] {
            for &op in ops {
                for k in 0..n {
                    for swap in [false, true] {
                        check(ty, op, None, k, swap);
                        for &op2 in ops.iter().filter(|o| !o.is_comparison()) {
                            for k2 in [0, 1, 3, 5, 8] {
                                check(ty, op, Some((op2, k2)), k, swap);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn rule_names_are_unique() {
        let mut names: Vec<_> = all_rules().map(|r| r.name).collect();
        names.sort_unstable();
        let n = names.len();
        names.dedup();
        assert_eq!(names.len(), n);
    }
}
