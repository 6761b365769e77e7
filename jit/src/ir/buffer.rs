//! The IR buffer: constants grow down, instructions grow up.
//!
//! ```text
//!   ... k4 k3 | true false nil | BASE 0001 0002 ...
//!   BIAS-5    | BIAS-3 ..  -1  | BIAS ...
//! ```
//! Constants are interned: equal constants have one reference. Appending here does not optimise;
//! `opt::Emit` does.

use super::ins::{Ins, IrT};
use super::ops::IrOp;
use super::refs::Ref;
use super::ty::Ty;
use std::collections::HashMap;

/// A constant: its type and its bits. Objects are opaque addresses, never followed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct Const {
    /// Type.
    pub ty: Ty,
    /// Hash slot of a `KSLOT` plus one (the type is then the key's), else 0.
    pub slot: u32,
    /// Bits: of a double, of an integer (sign-extended), or an address.
    pub bits: u64,
}

/// A trace's instructions and constants.
#[derive(Clone, Debug)]
pub struct IrBuf {
    consts: Vec<Const>,
    ins: Vec<Ins>,
    chain: [u16; IrOp::COUNT],
    interned: HashMap<Const, Ref>,
    /// Numbers that have a 32-bit form as well (`opt::narrow`): it, and the largest magnitude of the number.
    narrowed: HashMap<Ref, (Ref, f64)>,
}

impl Default for IrBuf {
    fn default() -> Self {
        IrBuf::new()
    }
}

impl IrBuf {
    /// Most instructions or constants a buffer holds.
    pub const MAX: usize = 0x7000;

    /// An empty buffer: the three primitives and `BASE`.
    pub fn new() -> IrBuf {
        let mut b = IrBuf {
            consts: Vec::new(),
            ins: Vec::new(),
            chain: [0; IrOp::COUNT],
            interned: HashMap::new(),
            narrowed: HashMap::new(),
        };
        for ty in [Ty::Nil, Ty::False, Ty::True] {
            b.konst(Const { ty, slot: 0, bits: 0 });
        }
        b.push(Ins::raw(IrOp::BASE, IrT::of(Ty::P64), 0, 0));
        b
    }

    /// Interns a constant.
    pub fn konst(&mut self, k: Const) -> Ref {
        if let Some(&r) = self.interned.get(&k) {
            return r;
        }
        assert!(self.consts.len() < IrBuf::MAX, "constant area of the IR is full");
        let r = Ref::konst(self.consts.len());
        self.consts.push(k);
        self.interned.insert(k, r);
        r
    }

    /// Interns an integer.
    pub fn kint(&mut self, n: i32) -> Ref {
        self.konst(Const { ty: Ty::Int, slot: 0, bits: n as i64 as u64 })
    }

    /// Interns a number (by bits: `-0` and `0` differ).
    pub fn knum(&mut self, n: f64) -> Ref {
        self.konst(Const { ty: Ty::Num, slot: 0, bits: n.to_bits() })
    }

    /// Interns a 64-bit integer.
    pub fn kint64(&mut self, ty: Ty, n: u64) -> Ref {
        self.konst(Const { ty, slot: 0, bits: n })
    }

    /// Interns a heap object.
    pub fn kgc(&mut self, ty: Ty, addr: u64) -> Ref {
        debug_assert!(ty.is_gc());
        self.konst(Const { ty, slot: 0, bits: addr })
    }

    /// Interns a raw pointer or frame link.
    pub fn kptr(&mut self, addr: u64) -> Ref {
        self.konst(Const { ty: Ty::P64, slot: 0, bits: addr })
    }

    /// Interns a null reference of an object type (an absent metatable).
    pub fn knull(&mut self, ty: Ty) -> Ref {
        self.konst(Const { ty, slot: 0, bits: 0 })
    }

    /// Interns a key together with its slot in a node array.
    pub fn kslot(&mut self, key: Const, slot: u32) -> Ref {
        self.konst(Const { slot: slot + 1, ..key })
    }

    /// The constant behind a reference.
    pub fn k(&self, r: Ref) -> Const {
        self.consts[r.const_index()]
    }

    /// Number of constants.
    pub fn const_count(&self) -> usize {
        self.consts.len()
    }

    /// Appends an instruction and links its chain.
    pub fn push(&mut self, mut i: Ins) -> Ref {
        assert!(self.ins.len() < IrBuf::MAX, "instruction area of the IR is full");
        let r = Ref::ins(self.ins.len());
        i.prev = self.chain[i.op as usize];
        self.chain[i.op as usize] = r.bits();
        self.ins.push(i);
        r
    }

    /// The reference the next instruction will get.
    pub fn next_ref(&self) -> Ref {
        Ref::ins(self.ins.len())
    }

    /// Last instruction with this operation, [`Ref::NONE`] when there is none.
    pub fn chain(&self, op: IrOp) -> Ref {
        Ref::from_bits(self.chain[op as usize])
    }

    /// The instruction behind a reference.
    pub fn ins(&self, r: Ref) -> &Ins {
        &self.ins[r.ins_index()]
    }

    /// The instruction behind a reference, to change. Chains stay as they are.
    pub fn ins_mut(&mut self, r: Ref) -> &mut Ins {
        &mut self.ins[r.ins_index()]
    }

    /// Turns an instruction into a `NOP` (chains are left alone: `NOP` never equals a searched operation
    /// because searches compare `op`).
    pub fn nop(&mut self, r: Ref) {
        let i = self.ins_mut(r);
        *i = Ins { op: IrOp::NOP, t: IrT::of(Ty::Nil), a: 0, b: 0, prev: i.prev };
    }

    /// Turns an instruction into a `NOP` and takes it out of its chain.
    pub fn unlink(&mut self, r: Ref) {
        let i = *self.ins(r);
        if self.chain[i.op as usize] == r.bits() {
            self.chain[i.op as usize] = i.prev;
        } else if let Some(later) =
            self.ins[r.ins_index()..].iter_mut().find(|l| l.op == i.op && l.prev == r.bits())
        {
            later.prev = i.prev;
        }
        self.nop(r);
    }

    /// The 32-bit form of a number, and the number's largest magnitude.
    pub fn narrowed(&self, r: Ref) -> Option<(Ref, f64)> {
        self.narrowed.get(&r).copied()
    }

    /// Notes the 32-bit form of a number.
    pub fn set_narrowed(&mut self, r: Ref, n: Ref, bound: f64) {
        self.narrowed.insert(r, (n, bound));
    }

    /// Drops all instructions from `r` on and repairs the chains.
    pub fn truncate(&mut self, r: Ref) {
        self.narrowed.retain(|a, n| *a < r && n.0 < r);
        while self.ins.len() > r.ins_index() {
            let i = self.ins.pop().expect("loop condition");
            if i.op != IrOp::NOP && self.chain[i.op as usize] == Ref::ins(self.ins.len()).bits() {
                self.chain[i.op as usize] = i.prev;
            }
        }
    }

    /// Type of a value.
    pub fn ty(&self, r: Ref) -> Ty {
        if r.is_const() { self.k(r).ty } else { self.ins(r).ty() }
    }

    /// All instruction references, in order (`BASE` included).
    pub fn refs(&self) -> impl DoubleEndedIterator<Item = Ref> + use<> {
        (0..self.ins.len()).map(Ref::ins)
    }

    /// Number of instructions (`BASE` included).
    pub fn len(&self) -> usize {
        self.ins.len()
    }

    /// Is there nothing but `BASE`?
    pub fn is_empty(&self) -> bool {
        self.ins.len() <= 1
    }

    /// The number, if `r` is a number constant.
    pub fn as_knum(&self, r: Ref) -> Option<f64> {
        if !r.is_const() {
            return None;
        }
        let k = self.k(r);
        (k.ty == Ty::Num && k.slot == 0).then(|| f64::from_bits(k.bits))
    }

    /// The integer, if `r` is an integer constant.
    pub fn as_kint(&self, r: Ref) -> Option<i32> {
        if !r.is_const() {
            return None;
        }
        let k = self.k(r);
        (k.ty == Ty::Int && k.slot == 0).then_some(k.bits as i32)
    }

    /// The 64-bit integer, if `r` is one.
    pub fn as_kint64(&self, r: Ref) -> Option<u64> {
        if !r.is_const() {
            return None;
        }
        let k = self.k(r);
        (k.ty.is_int64() && k.slot == 0).then_some(k.bits)
    }

    /// Position of the `LOOP` instruction, if there is one.
    pub fn loop_ref(&self) -> Option<Ref> {
        let r = self.chain(IrOp::LOOP);
        (!r.is_none()).then_some(r)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_constants_share_a_reference_and_minus_zero_is_its_own() {
        let mut b = IrBuf::new();
        assert_eq!(b.kint(7), b.kint(7));
        assert_ne!(b.knum(0.0), b.knum(-0.0));
        assert_ne!(b.kint(1), b.knum(1.0));
        assert_eq!(b.ty(Ref::TRUE), Ty::True);
        assert_eq!(b.ty(Ref::NIL), Ty::Nil);
    }

    #[test]
    fn unlinked_instructions_are_in_no_chain() {
        let mut b = IrBuf::new();
        let k = b.knum(1.0);
        let add = |b: &mut IrBuf| b.push(Ins::new(IrOp::ADD, IrT::of(Ty::Num), k, k));
        let (x, y, z) = (add(&mut b), add(&mut b), add(&mut b));
        b.unlink(y);
        assert_eq!((b.chain(IrOp::ADD), b.ins(z).prev, b.ins(y).op), (z, x.bits(), IrOp::NOP));
        b.unlink(z);
        assert_eq!(b.chain(IrOp::ADD), x);
    }

    #[test]
    fn truncate_restores_the_chains() {
        let mut b = IrBuf::new();
        let k = b.knum(1.0);
        let a = b.push(Ins::new(IrOp::ADD, IrT::of(Ty::Num), k, k));
        let mark = b.next_ref();
        b.push(Ins::new(IrOp::ADD, IrT::of(Ty::Num), a, k));
        b.truncate(mark);
        assert_eq!(b.chain(IrOp::ADD), a);
        assert_eq!(b.next_ref(), mark);
    }
}
