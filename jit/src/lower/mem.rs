//! Memory references, loads, stores and barriers.

use super::conv::MinusZero;
use super::helpers::Helper;
use super::{Lower, machine_type};
use crate::abort::Abort;
use crate::ir::ins::{Field, Ins, sload};
use crate::ir::ops::{Class, IrOp};
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::trace::snapshot::box_bits;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::header::{Header, gcbits};
use moonlit_vm::function::closure::{Func, NativeFunc};
use moonlit_vm::function::upvalue::Upval;
use moonlit_vm::string::Str;
use moonlit_vm::table::{Node, Table};
use moonlit_vm::userdata::Userdata;
use std::mem::offset_of;

/// Upper half of the smallest value that is not a number.
const NUM_LIMIT_HI: u32 = (moonlit_vm::value::tag::NUM_LIMIT >> 32) as u32;

/// Where a field lies and how wide it is in memory.
fn field(f: Field) -> (i32, Ty) {
    let (offset, ty) = match f {
        Field::StrLen => (offset_of!(Str, len), Ty::Int),
        Field::FuncEnv => (offset_of!(Func, env), Ty::Tab),
        Field::FuncPc => (offset_of!(Func, pc), Ty::P64),
        Field::FuncFlags => (offset_of!(Header, flags), Ty::U8),
        Field::TabMeta => (offset_of!(Table, meta), Ty::Tab),
        Field::TabArray => (offset_of!(Table, array), Ty::P64),
        Field::TabNode => (offset_of!(Table, node), Ty::P64),
        Field::TabAsize => (offset_of!(Table, asize), Ty::Int),
        Field::TabHmask => (offset_of!(Table, hmask), Ty::Int),
        Field::TabNomm => (offset_of!(Header, flags), Ty::U8),
        Field::UdataMeta => (offset_of!(Userdata, meta), Ty::Tab),
        Field::CdataCtypeid => (offset_of!(Header, aux), Ty::Int),
        Field::CdataPtr => (size_of::<Cdata>(), Ty::P64),
        Field::CdataInt64 => (size_of::<Cdata>(), Ty::I64),
        Field::FuncNativeId => (offset_of!(NativeFunc, id), Ty::Int),
    };
    (offset as i32, ty)
}

impl Lower<'_, '_> {
    fn load_raw(&mut self, ty: Ty, addr: Value, offset: i32) -> Value {
        let f = MemFlagsData::trusted();
        let v = match ty {
            Ty::U8 => self.b.ins().uload8(types::I32, f, addr, offset),
            Ty::I8 => self.b.ins().sload8(types::I32, f, addr, offset),
            Ty::U16 => self.b.ins().uload16(types::I32, f, addr, offset),
            Ty::I16 => self.b.ins().sload16(types::I32, f, addr, offset),
            t => self.b.ins().load(machine_type(t), f, addr, offset),
        };
        self.apart(v)
    }

    /// Loads a boxed value of a known type; with `check`, leaves the trace when it has another type.
    fn load_value(&mut self, ty: Ty, check: bool, addr: Value, offset: i32) -> Option<Value> {
        match ty {
            Ty::Num => {
                if check {
                    let hi = self.load_raw(Ty::Int, addr, offset + 4);
                    let limit = self.k32(NUM_LIMIT_HI);
                    self.guard_icmp(IntCC::UnsignedGreaterThanOrEqual, hi, limit);
                    self.last_high = Some(hi);
                }
                Some(self.load_raw(Ty::Num, addr, offset))
            }
            t if t.is_pri() => {
                if check {
                    let v = self.load_raw(Ty::P64, addr, offset);
                    let k = self.k64(box_bits(t, 0));
                    self.guard_icmp(IntCC::NotEqual, v, k);
                }
                None
            }
            t if t.is_gc() => {
                // Exclusive-or with the tag leaves the address, or high bits when the tag is another one.
                let v = self.load_raw(Ty::P64, addr, offset);
                let tag = self.k64(box_bits(t, 0));
                let p = self.b.ins().bxor(v, tag);
                if check {
                    let last = self.k64((1 << 47) - 1);
                    self.guard_icmp(IntCC::UnsignedGreaterThan, p, last);
                }
                Some(p)
            }
            Ty::LightUd => {
                let v = self.load_raw(Ty::P64, addr, offset);
                if check {
                    let n = self.k64(47);
                    let tag = self.b.ins().sshr(v, n);
                    let want = self.k64(!3);
                    self.guard_icmp(IntCC::NotEqual, tag, want);
                }
                Some(v)
            }
            t => Some(self.load_raw(t, addr, offset)),
        }
    }

    /// Calls the barrier when the object is black.
    fn barrier(&mut self, obj: Value) {
        let bits = self.load_raw(Ty::U8, obj, offset_of!(Header, gc) as i32);
        let black = self.k32(gcbits::BLACK as u32);
        let hit = self.b.ins().band(bits, black);
        let (slow, cont) = (self.b.create_block(), self.b.create_block());
        self.b.set_cold_block(slow);
        self.b.ins().brif(hit, slow, &[], cont, &[]);
        self.b.switch_to_block(slow);
        self.call_helper(Helper::BarrierBack, &[obj]);
        self.b.ins().jump(cont, &[]);
        self.b.switch_to_block(cont);
    }

    /// `base + index * 8` for a 32-bit index that is known not to be negative.
    fn element(&mut self, base: Value, index: Ref) -> Value {
        if let Some(k) = self.t.ir.as_kint(index) {
            let off = self.k64((k as i64 * 8) as u64);
            return self.b.ins().iadd(base, off);
        }
        let i = self.widened(index);
        let three = self.k64(3);
        let off = self.b.ins().ishl(i, three);
        self.b.ins().iadd(base, off)
    }

    /// An index in 64 bits. What 32-bit arithmetic gives is that already; of other values it is made once.
    fn widened(&mut self, index: Ref) -> Value {
        let i = self.t.ir.ins(index);
        let computed = i.op.class() == Class::Pure && i.op != IrOp::CONV && !i.t.is_phi();
        if let Some(v) = self.wide[index.ins_index()].filter(|_| !computed) {
            return v;
        }
        let v = self.get(index);
        let v = self.b.ins().uextend(types::I64, v);
        self.wide[index.ins_index()] = Some(v);
        v
    }

    /// Walks the chain of a constant key from its main node: its node, or the nil node.
    fn walk_chain(&mut self, i: &Ins) -> Value {
        let f = MemFlagsData::trusted();
        let t = self.get(i.ra());
        let k = self.t.ir.k(i.rb());
        let (node_at, _) = field(Field::TabNode);
        let (mask_at, _) = field(Field::TabHmask);
        let node = self.b.ins().load(types::I64, f, t, node_at);
        let mask = self.b.ins().load(types::I32, f, t, mask_at);
        let hash = self.k32(k.slot - 1);
        let index = self.b.ins().band(mask, hash);
        let index = self.b.ins().uextend(types::I64, index);
        let size = self.k64(size_of::<Node>() as u64);
        let off = self.b.ins().imul(index, size);
        let first = self.b.ins().iadd(node, off);
        let (walk, step, done) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        let n = self.b.append_block_param(walk, types::I64);
        let found = self.b.append_block_param(done, types::I64);
        self.b.ins().jump(walk, &[first.into()]);
        self.b.switch_to_block(walk);
        let key = self.b.ins().load(types::I64, f, n, offset_of!(Node, key) as i32);
        let want = self.k64(box_bits(k.ty, k.bits));
        let hit = self.b.ins().icmp(IntCC::Equal, key, want);
        self.b.ins().brif(hit, done, &[n.into()], step, &[]);
        self.b.switch_to_block(step);
        // Chains are relative: bytes from this node to the next, 0 at the end.
        let next = self.b.ins().sload32(f, n, offset_of!(Node, next) as i32);
        let to = self.b.ins().iadd(n, next);
        let nil = self.k64(self.env.nil_node);
        self.b.ins().brif(next, walk, &[to.into()], done, &[nil.into()]);
        self.b.switch_to_block(done);
        found
    }

    pub(super) fn lower_mem(&mut self, r: Ref, i: &Ins) -> Result<(), Abort> {
        let f = MemFlagsData::trusted();
        let v = match i.op {
            IrOp::AREF => {
                let a = self.get(i.ra());
                Some(self.element(a, i.rb()))
            }
            IrOp::HREFK => {
                let node = self.get(i.ra());
                let k = self.t.ir.k(i.rb());
                let at = self.k64((k.slot as u64 - 1) * size_of::<Node>() as u64);
                let addr = self.b.ins().iadd(node, at);
                let key = self.b.ins().load(types::I64, f, addr, offset_of!(Node, key) as i32);
                let want = self.k64(box_bits(k.ty, k.bits));
                self.guard_icmp(IntCC::NotEqual, key, want);
                Some(addr)
            }
            IrOp::HREF if i.rb().is_const() && self.t.ir.k(i.rb()).slot != 0 => Some(self.walk_chain(i)),
            IrOp::HREF | IrOp::NEWREF => return self.lower_find(r, i),
            IrOp::UREFC => {
                let u = self.get(i.ra());
                let closed = self.load_raw(Ty::U8, u, offset_of!(Header, flags) as i32);
                let one = self.k32(1);
                self.guard_icmp(IntCC::NotEqual, closed, one);
                let off = self.k64(offset_of!(Upval, tv) as u64);
                Some(self.b.ins().iadd(u, off))
            }
            IrOp::UREFO => {
                // An open upvalue outside this trace's own slots.
                let u = self.get(i.ra());
                let p = self.load_raw(Ty::P64, u, offset_of!(Upval, v) as i32);
                if i.b != 0 {
                    // One of the trace's own slots: the recorder compares the address.
                    self.set(r, p);
                    return Ok(());
                }
                let d = self.b.ins().isub(p, self.base);
                let two = self.k64(16);
                let d = self.b.ins().iadd(d, two);
                let room = self.k64(8 * 256);
                self.guard_icmp(IntCC::UnsignedLessThan, d, room);
                Some(p)
            }
            IrOp::FREF => {
                let o = self.get(i.ra());
                let off = self.k64(field(Field::from_lit(i.b)).0 as u64);
                Some(self.b.ins().iadd(o, off))
            }
            IrOp::STRREF => {
                let s = self.get(i.ra());
                let n = self.get(i.rb());
                let n = self.b.ins().uextend(types::I64, n);
                let p = self.b.ins().iadd(s, n);
                let off = self.k64(Str::DATA_OFFSET as u64);
                Some(self.b.ins().iadd(p, off))
            }
            IrOp::ALOAD | IrOp::HLOAD | IrOp::ULOAD => {
                let p = self.get(i.ra());
                self.last_high = None;
                let v = self.load_value(i.ty(), i.is_guard(), p, 0);
                self.high[r.ins_index()] = self.last_high.take();
                v
            }
            IrOp::FLOAD => {
                let o = self.get(i.ra());
                let (off, ty) = field(Field::from_lit(i.b));
                Some(self.load_raw(ty, o, off))
            }
            IrOp::XLOAD => {
                let p = self.get(i.ra());
                match i.ty() {
                    // A NaN with other bits than the canonical ones must not get into a slot.
                    Ty::Num if i.is_guard() => self.load_value(Ty::Num, true, p, 0),
                    Ty::Float if i.is_guard() => {
                        let bits = self.load_raw(Ty::Int, p, 0);
                        let limit = self.k32(0xffc0_0000);
                        self.guard_icmp(IntCC::UnsignedGreaterThan, bits, limit);
                        Some(self.load_raw(Ty::Float, p, 0))
                    }
                    t => Some(self.load_raw(t, p, 0)),
                }
            }
            IrOp::SLOAD => {
                let off = (i.a as i32 - 2) * 8;
                let check = i.b & sload::TYPECHECK != 0;
                if i.ty() == Ty::Int {
                    // What has the bits of an integer's number is a number: that needs no check of its own.
                    let n = self.load_raw(Ty::Num, self.base, off);
                    let bits = self.load_raw(Ty::I64, self.base, off);
                    Some(self.num_to_int(n, MinusZero::NoInteger(bits)))
                } else {
                    self.load_value(i.ty(), check, self.base, off)
                }
            }
            IrOp::VLOAD => {
                let at = crate::code::exit::ExitBuffer::SCRATCH as u64 + i.b as u64;
                let p = self.k64(self.env.exit_buffer + at * 8);
                self.load_value(i.ty(), i.is_guard(), p, 0)
            }
            IrOp::NLOAD => self.load_value(i.ty(), i.is_guard(), self.base, (i.b as i32 - 2) * 8),
            IrOp::ALEN => {
                let t = self.get(i.ra());
                if i.rb().is_none() {
                    self.call_helper(Helper::TabLen, &[t])
                } else {
                    let hint = self.get(i.rb());
                    self.call_helper(Helper::TabLenHint, &[t, hint])
                }
            }
            IrOp::ASTORE | IrOp::HSTORE | IrOp::USTORE => {
                let p = self.get(i.ra());
                self.store_boxed(i.rb(), p, 0);
                None
            }
            IrOp::FSTORE => {
                let p = self.get(i.ra());
                let fref = self.t.ir.ins(i.ra());
                let v = self.get(i.rb());
                match field(Field::from_lit(fref.b)).1 {
                    Ty::U8 => self.b.ins().istore8(f, v, p, 0),
                    _ => self.b.ins().store(f, v, p, 0),
                };
                None
            }
            IrOp::XSTORE => {
                let (p, v) = (self.get(i.ra()), self.get(i.rb()));
                match i.ty() {
                    Ty::U8 | Ty::I8 => self.b.ins().istore8(f, v, p, 0),
                    Ty::U16 | Ty::I16 => self.b.ins().istore16(f, v, p, 0),
                    _ => self.b.ins().store(f, v, p, 0),
                };
                None
            }
            IrOp::TBAR | IrOp::OBAR => {
                let o = self.get(i.ra());
                self.barrier(o);
                None
            }
            _ => return Err(Abort::CodeGeneration),
        };
        if let Some(v) = v {
            // Loads are apart already.
            let v = if i.op.class() == Class::RefTo { self.apart(v) } else { v };
            self.set(r, v);
        }
        Ok(())
    }
}
