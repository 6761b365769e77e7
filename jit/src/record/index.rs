//! Table access, globals, metatables.

use super::slots::{TRef, type_of};
use super::{R, Rec};
use crate::abort::Abort;
use crate::ir::eval;
use crate::ir::ins::{Field, Ins, IrT};
use crate::ir::ops::IrOp;
use crate::ir::refs::Ref;
use crate::ir::ty::Ty;
use crate::lower::helpers::Helper;
use crate::view::{self, At, Place};
use moonlit_vm::bytecode::ops::{Mm, Op};
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::thread::frame::Cont;
use moonlit_vm::userdata::Userdata;
use moonlit_vm::value::Value;

/// Bits of a string's hash that choose its node in the largest table.
const HASH_BITS: u32 = (1 << moonlit_vm::limits::TABLE_HASH_BITS_MAX) - 1;

/// What `t[k]` comes to.
pub(super) enum Indexed {
    /// A value.
    Value(TRef),
    /// The call of a handler, for this object.
    Call((TRef, Value), TRef),
}

/// What a key lookup found: the reference and the value there now.
struct Found {
    /// Where the value lies; none when the key is absent and known to stay so by a guard.
    at: Ref,
    /// Array or hash part.
    array: bool,
    /// The value.
    val: Value,
    /// The key is not in the table.
    absent: bool,
}

impl Rec {
    /// Loads a field.
    pub(super) fn field(&mut self, obj: Ref, f: Field) -> R<TRef> {
        let ty = if f.ty().is_int32() { Ty::Int } else { f.ty() };
        let r = self.emit_raw(Ins::raw(IrOp::FLOAD, IrT::of(ty), obj.bits(), f as u16))?;
        Ok(TRef::new(r, ty))
    }

    fn meta_of(vm: &Vm, v: Value) -> Option<Gc<Table>> {
        v.as_obj::<Table>().and_then(|t| t.get(&vm.heap).meta)
    }

    /// Guards that a table has the metatable it has now. Answers it.
    pub(super) fn metatable(&mut self, vm: &Vm, v: Value, t: TRef) -> R<Option<Gc<Table>>> {
        let meta = Self::meta_of(vm, v);
        let m = self.field(t.r, Field::TabMeta)?;
        let k = match meta {
            None => self.trace.ir.knull(Ty::Tab),
            Some(mt) => self.konst(Value::obj(mt))?.r,
        };
        self.guard(IrOp::EQ, m.r, k)?;
        Ok(meta)
    }

    /// Guards that a table has no metatable.
    pub(super) fn no_metatable(&mut self, vm: &Vm, v: Value, t: TRef) -> R<()> {
        match self.metatable(vm, v, t)? {
            None => Ok(()),
            Some(_) => Err(Abort::NyiMetamethod),
        }
    }

    /// A metamethod of a constant metatable: its value, guarded.
    pub(super) fn metamethod(&mut self, vm: &Vm, mt: Gc<Table>, mm: Mm) -> R<(TRef, Value)> {
        let name = Value::obj(vm.mm_names[mm as usize]);
        let t = self.konst(Value::obj(mt))?;
        let k = self.konst(name)?;
        let f = self.find(vm, t, mt, k, name, false)?;
        if f.absent {
            return Ok((TRef::pri(0), Value::NIL));
        }
        let v = self.load_found(&f)?;
        Ok((v, f.val))
    }

    fn load_found(&mut self, f: &Found) -> R<TRef> {
        let ty = type_of(f.val);
        if f.at.is_none() {
            return Ok(TRef::pri(0));
        }
        let op = if f.array { IrOp::ALOAD } else { IrOp::HLOAD };
        let r = self.emit_raw(Ins::raw(op, IrT::guard(ty), f.at.bits(), 0))?;
        let have = self.trace.ir.ty(r);
        if ty == Ty::Num && have == Ty::Int {
            return Ok(TRef::new(r, Ty::Int));
        }
        Ok(self.loaded(r, ty))
    }

    /// Looks up a key. `for_store`: an absent key is made (only when no metatable is in the way).
    fn find(&mut self, vm: &Vm, t: TRef, tab: Gc<Table>, key: TRef, vk: Value, for_store: bool) -> R<Found> {
        let table = tab.get(&vm.heap);
        if key.ty.is_number() {
            let n = vk.num_unchecked();
            let Some(k) = eval::num_to_int_exact(n) else { return Err(Abort::NyiTableAccess) };
            let key = match self.trace.ir.as_knum(key.r).and_then(eval::num_to_int_exact) {
                Some(k) => self.kint(k),
                None => self.to_index(key)?,
            };
            let asize = self.field(t.r, Field::TabAsize)?;
            if (k as u32) < table.asize {
                self.bounds_check(asize.r, table.asize, key.r)?;
                let arr = self.field(t.r, Field::TabArray)?;
                let at = self.emit(IrOp::AREF, IrT::of(Ty::P64), arr.r, key.r)?;
                return Ok(Found { at, array: true, val: table.array()[k as usize], absent: false });
            }
            // Not in the array part.
            self.guard(IrOp::ULE, asize.r, key.r)?;
            let (place, val) = view::lookup(&vm.heap, tab, Value::int(k));
            return self.find_hash(vm, t, tab, key, place, val, for_store);
        }
        let mut vk = vk;
        if let Some(s) = vk.as_obj::<Str>() {
            match vm.heap.str_key_find(s) {
                Some(s) => vk = Value::obj(s),
                None => return Err(Abort::NyiTableAccess),
            }
        }
        if key.ty == Ty::Nil || key.ty == Ty::LightUd {
            return Err(Abort::NyiTableAccess);
        }
        let (place, val) = view::lookup(&vm.heap, tab, vk);
        if key.r.is_const() {
            let key = self.konst(vk)?;
            if let Place::Node(n) = place {
                if n < 0xffff {
                    let hmask = self.field(t.r, Field::TabHmask)?;
                    let k = self.kint(table.hmask as i32);
                    self.guard(IrOp::EQ, hmask.r, k.r)?;
                    let node = self.field(t.r, Field::TabNode)?;
                    let kc = self.trace.ir.k(key.r);
                    let ks = self.trace.ir.kslot(kc, n);
                    let at = self.emit(IrOp::HREFK, IrT::guard(Ty::P64), node.r, ks)?;
                    return Ok(Found { at, array: false, val, absent: false });
                }
            }
            return self.find_hash(vm, t, tab, key, place, val, for_store);
        }
        self.find_hash(vm, t, tab, key, place, val, for_store)
    }

    #[allow(clippy::too_many_arguments)]
    fn find_hash(
        &mut self,
        vm: &Vm,
        t: TRef,
        tab: Gc<Table>,
        key: TRef,
        place: Place,
        val: Value,
        for_store: bool,
    ) -> R<Found> {
        if place == Place::Absent && for_store {
            let at = self.emit(IrOp::NEWREF, IrT::guard(Ty::P64), t.r, key.r)?;
            return Ok(Found { at, array: false, val: Value::NIL, absent: true });
        }
        if place == Place::Absent && tab.get(&vm.heap).hmask == 0 {
            // There is no hash part to look into.
            let hmask = self.field(t.r, Field::TabHmask)?;
            let zero = self.kint(0);
            self.guard(IrOp::EQ, hmask.r, zero.r)?;
            return Ok(Found { at: Ref::NONE, array: false, val: Value::NIL, absent: true });
        }
        let mut k = key.r;
        if k.is_const() && key.ty == Ty::Str {
            // The code walks the chain itself: it needs the hash, of which a table uses the low bits.
            let kc = self.trace.ir.k(k);
            let hash = Gc::<Str>::from_addr(kc.bits).map_or(0, |s| s.get(&vm.heap).hdr.aux);
            k = self.trace.ir.kslot(kc, hash & HASH_BITS);
        }
        let at = self.emit(IrOp::HREF, IrT::of(Ty::P64), t.r, k)?;
        let nil = self.trace.ir.kptr(vm.heap.nil_node_ptr() as u64);
        let absent = place == Place::Absent;
        self.guard(if absent { IrOp::EQ } else { IrOp::NE }, at, nil)?;
        Ok(Found { at: if absent { Ref::NONE } else { at }, array: false, val, absent })
    }

    /// `t[k]` where no function may have to be called for it.
    pub(super) fn index(&mut self, vm: &Vm, t: TRef, vt: Value, key: TRef, vk: Value) -> R<TRef> {
        match self.index_or_call(vm, t, vt, key, vk)? {
            Indexed::Value(v) => Ok(v),
            Indexed::Call(..) => Err(Abort::NyiMetamethod),
        }
    }

    /// The handler of an operand for an operation; `None` if there is none, which is guarded.
    pub(super) fn operand_handler(&mut self, vm: &Vm, t: TRef, v: Value, mm: Mm) -> R<Option<(TRef, Value)>> {
        let mt = match t.ty {
            Ty::Tab => self.metatable(vm, v, t)?,
            Ty::Udata => {
                let meta = v.as_obj::<Userdata>().and_then(|u| u.get(&vm.heap).meta);
                let have = self.field(t.r, Field::UdataMeta)?;
                let k = match meta {
                    None => self.trace.ir.knull(Ty::Tab),
                    Some(mt) => self.konst(Value::obj(mt))?.r,
                };
                self.guard(IrOp::EQ, have.r, k)?;
                meta
            }
            _ => vm.base_meta[moonlit_vm::state::metatable::type_index(v)],
        };
        let Some(mt) = mt else { return Ok(None) };
        let (f, vf) = self.metamethod(vm, mt, mm)?;
        Ok((f.ty != Ty::Nil).then_some((f, vf)))
    }

    /// `t[k]`, with `__index` chains.
    pub(super) fn index_or_call(
        &mut self,
        vm: &Vm,
        mut t: TRef,
        mut vt: Value,
        key: TRef,
        vk: Value,
    ) -> R<Indexed> {
        for _ in 0..8 {
            let mt;
            if let Some(tab) = vt.as_obj::<Table>() {
                let f = self.find(vm, t, tab, key, vk, false)?;
                let v = self.load_found(&f)?;
                if v.ty != Ty::Nil {
                    return Ok(Indexed::Value(v));
                }
                match self.metatable(vm, vt, t)? {
                    None => return Ok(Indexed::Value(v)),
                    Some(m) => mt = m,
                }
            } else if let Some(u) = vt.as_obj::<Userdata>() {
                let Some(m) = u.get(&vm.heap).meta else { return Err(Abort::NyiMetamethod) };
                let have = self.field(t.r, Field::UdataMeta)?;
                let k = self.konst(Value::obj(m))?;
                self.guard(IrOp::EQ, have.r, k.r)?;
                mt = m;
            } else if vt.is::<Str>() {
                let i = moonlit_vm::state::metatable::type_index(vt);
                mt = vm.base_meta[i].ok_or(Abort::NyiMetamethod)?;
            } else {
                return Err(Abort::NyiMetamethod);
            }
            let (m, vm_) = self.metamethod(vm, mt, Mm::Index)?;
            match m.ty {
                Ty::Nil if vt.is::<Table>() => return Ok(Indexed::Value(TRef::pri(0))),
                Ty::Func => return Ok(Indexed::Call((m, vm_), t)),
                Ty::Tab => (t, vt) = (m, vm_),
                _ => return Err(Abort::NyiMetamethod),
            }
        }
        Err(Abort::NyiMetamethod)
    }

    /// `t[k] = v` without metamethods in the way.
    pub(super) fn store(&mut self, vm: &Vm, t: TRef, vt: Value, key: TRef, vk: Value, val: TRef) -> R<()> {
        let Some(tab) = vt.as_obj::<Table>() else { return Err(Abort::NyiMetamethod) };
        if let Some(s) = vk.as_obj::<Str>() {
            if s.bytes(&vm.heap).starts_with(b"__") {
                return Err(Abort::NyiMetamethod);
            }
        }
        let canonical = match vk.as_obj::<Str>() {
            Some(s) => vm.heap.str_key_find(s).map_or(vk, Value::obj),
            None => vk,
        };
        let (_, old) = view::lookup(&vm.heap, tab, canonical);
        if old.is_nil() {
            if let Some(mt) = self.metatable(vm, vt, t)? {
                let (m, _) = self.metamethod(vm, mt, Mm::Newindex)?;
                if m.ty != Ty::Nil {
                    return Err(Abort::NyiMetamethod);
                }
            }
        }
        let f = self.find(vm, t, tab, key, vk, true)?;
        if !old.is_nil() {
            // With a value there `__newindex` is not asked; without a metatable it does not matter.
            if Self::meta_of(vm, vt).is_none() {
                self.metatable(vm, vt, t)?;
            } else {
                self.load_found(&f)?;
            }
        }
        let val = if val.ty == Ty::Int { self.to_num(val)? } else { val };
        if key.ty == Ty::Str && !key.r.is_const() {
            let fref =
                self.emit_raw(Ins::raw(IrOp::FREF, IrT::of(Ty::P64), t.r.bits(), Field::TabNomm as u16))?;
            let zero = self.kint(0);
            self.emit(IrOp::FSTORE, IrT::of(Ty::U8), fref, zero.r)?;
        }
        let op = if f.array { IrOp::ASTORE } else { IrOp::HSTORE };
        self.emit(op, IrT::of(val.ty), f.at, val.r)?;
        if val.ty.is_gc() {
            self.emit(IrOp::TBAR, IrT::of(Ty::Nil), t.r, Ref::NONE)?;
        }
        self.needsnap = true;
        Ok(())
    }

    /// `TSETM`: all values from register A on go into the array of the table that is being made.
    pub(super) fn rec_tsetm(&mut self, vm: &Vm, at: At) -> R<()> {
        let i = at.ins(0);
        let (a, first) = (i.a(), at.knum(&vm.heap, i.d()).0 as u32 as i32);
        let n = self.maxslot as i32 - a as i32;
        let t = self.get(at, a - 1)?;
        if n > 0 {
            let end = self.kint(first.checked_add(n).ok_or(Abort::NyiTableAccess)?);
            let room = self.call(IrOp::CALLS, IrT::of(Ty::Int), Helper::TabReserve, &[t.r, end.r])?;
            let zero = self.kint(0);
            self.guard(IrOp::NE, room, zero.r)?;
            let arr = self.field(t.r, Field::TabArray)?;
            for k in 0..n {
                let v = self.get(at, a + k as u32)?;
                let v = if v.ty == Ty::Int { self.to_num(v)? } else { v };
                let key = self.kint(first + k);
                let to = self.emit(IrOp::AREF, IrT::of(Ty::P64), arr.r, key.r)?;
                self.emit(IrOp::ASTORE, IrT::of(v.ty), to, v.r)?;
            }
            self.emit(IrOp::TBAR, IrT::of(Ty::Nil), t.r, Ref::NONE)?;
        }
        self.maxslot = a as usize;
        self.clear_above();
        self.needsnap = true;
        Ok(())
    }

    /// The function that a store of a new key is left to, if there is one.
    fn newindex_handler(
        &mut self,
        vm: &Vm,
        t: TRef,
        vt: Value,
        key: TRef,
        vk: Value,
    ) -> R<Option<(TRef, Value)>> {
        let (Some(tab), Some(mt)) = (vt.as_obj::<Table>(), Self::meta_of(vm, vt)) else { return Ok(None) };
        let name = Value::obj(vm.mm_names[Mm::Newindex as usize]);
        if !mt.getv(&vm.heap, name).is::<Func>() || !tab.getv(&vm.heap, vk).is_nil() {
            return Ok(None);
        }
        // That the key is absent is guarded by looking for it.
        let f = self.find(vm, t, tab, key, vk, false)?;
        if !f.absent {
            self.load_found(&f)?;
        }
        self.operand_handler(vm, t, vt, Mm::Newindex)
    }

    fn key(&mut self, vm: &Vm, at: At, op: Op) -> R<(TRef, Value)> {
        let c = at.ins(0).c();
        Ok(match op {
            Op::TGETV | Op::TSETV | Op::TGETR | Op::TSETR => (self.get(at, c)?, at.reg(c)),
            Op::TGETS | Op::TSETS => {
                let v = at.kgc(&vm.heap, c);
                (self.konst(v)?, v)
            }
            _ => (self.kint(c as i32), Value::int(c as i32)),
        })
    }

    pub(super) fn rec_get(&mut self, vm: &Vm, at: At, op: Op) -> R<()> {
        let i = at.ins(0);
        let t = self.get(at, i.b())?;
        let (k, vk) = self.key(vm, at, op)?;
        if t.ty == Ty::Cdata {
            return self.rec_get_cdata(vm, at, (t, at.reg(i.b())), (k, vk));
        }
        self.get_into(vm, at, (t, at.reg(i.b())), (k, vk))
    }

    /// `R[a] = t[k]`, or the call of the handler that has to say.
    fn get_into(&mut self, vm: &Vm, at: At, (t, vt): (TRef, Value), (k, vk): (TRef, Value)) -> R<()> {
        match self.index_or_call(vm, t, vt, k, vk)? {
            Indexed::Value(v) => {
                self.set(at.ins(0).a(), v);
                Ok(())
            }
            Indexed::Call(f, object) => {
                // The handler is handed the key as a value of Lua.
                let k = if k.ty == Ty::Int && k.r.is_const() { self.konst(vk)? } else { k };
                self.call_meta(vm, at, Cont::Ra, f, &[object, k])
            }
        }
    }

    /// `cd[key]`: a function that the metatype has for it is called.
    fn rec_get_cdata(&mut self, vm: &Vm, at: At, (t, v): (TRef, Value), (k, vk): (TRef, Value)) -> R<()> {
        let ty = match self.cdata_get(vm, t, v, k, vk)? {
            Ok(v) => {
                self.set(at.ins(0).a(), v);
                return Ok(());
            }
            Err(ty) => ty,
        };
        let Some((mt, _)) = self.metatype_field(vm, ty, Mm::Index)? else { return Err(Abort::NyiMetamethod) };
        let (m, vm_) = self.metamethod(vm, mt, Mm::Index)?;
        if m.ty == Ty::Func {
            return self.call_meta(vm, at, Cont::Ra, (m, vm_), &[t, k]);
        }
        let v = self.index(vm, m, vm_, k, vk)?;
        if v.ty == Ty::Nil {
            // Not a field: an error, where a table would give nil.
            return Err(Abort::NyiMetamethod);
        }
        self.set(at.ins(0).a(), v);
        Ok(())
    }

    pub(super) fn rec_set(&mut self, vm: &Vm, at: At, op: Op) -> R<()> {
        let i = at.ins(0);
        let t = self.get(at, i.b())?;
        let (k, vk) = self.key(vm, at, op)?;
        let v = self.get(at, i.a())?;
        if t.ty == Ty::Cdata {
            return self.cdata_set(vm, (t, at.reg(i.b())), (k, vk), (v, at.reg(i.a())));
        }
        if t.ty == Ty::Udata {
            let Some(h) = self.operand_handler(vm, t, at.reg(i.b()), Mm::Newindex)? else {
                return Err(Abort::NyiMetamethod);
            };
            return self.call_meta(vm, at, Cont::Nop, h, &[t, k, v]);
        }
        if let Some(h) = self.newindex_handler(vm, t, at.reg(i.b()), k, vk)? {
            let k = if k.ty == Ty::Int && k.r.is_const() { self.konst(vk)? } else { k };
            return self.call_meta(vm, at, Cont::Nop, h, &[t, k, v]);
        }
        self.store(vm, t, at.reg(i.b()), k, vk, v)
    }

    pub(super) fn rec_global(&mut self, vm: &Vm, at: At, op: Op) -> R<()> {
        let i = at.ins(0);
        let f = self.current_func(vm, at)?;
        let env = at.func().ok_or(Abort::BadCall)?.get(&vm.heap).env;
        let t = self.field(f, Field::FuncEnv)?;
        let vk = at.kgc(&vm.heap, i.d());
        let k = self.konst(vk)?;
        if op == Op::GGET {
            return self.get_into(vm, at, (t, Value::obj(env)), (k, vk));
        }
        let v = self.get(at, i.a())?;
        self.store(vm, t, Value::obj(env), k, vk, v)
    }
}
