//! From a trace exit back to interpreter frames: the mirror of `record::slots`. Values lie raw in the exit
//! buffer, in the order of [`Trace::live_values`].

use crate::code::exit::ExitBuffer;
use crate::ir::refs::{Ref, SnapNo};
use crate::ir::ty::Ty;
use crate::opt::memory;
use crate::trace::snapshot::{box_bits, box_const};
use crate::trace::{Sunk, Trace};
use crate::view::At;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

/// One slot that an exit writes.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// Slot relative to the trace's base minus 2.
    slot: u16,
    /// Type of the value in the exit buffer.
    ty: Ty,
    /// Its place there; [`Write::CONSTANT`] when it is `bits`.
    place: u16,
    /// A boxed constant.
    bits: u64,
}

impl Write {
    const CONSTANT: u16 = u16::MAX;
}

/// What the exit of snapshot `no` writes; `None` when it makes objects as well, which [`restore`] does.
pub fn plan(t: &Trace, no: SnapNo) -> Option<Box<[Write]>> {
    let live = t.live_values(no);
    let entries = t.entries(no).iter().filter(|e| !e.norestore);
    entries
        .map(|e| {
            if t.sunk_at(e.value).is_some() {
                return None;
            }
            let constant = |bits| Write { slot: e.slot, ty: Ty::Nil, place: Write::CONSTANT, bits };
            if e.value.is_const() {
                return Some(constant(box_const(t.ir.k(e.value))));
            }
            let ty = t.ir.ty(e.value);
            Some(match live.iter().position(|r| *r == e.value) {
                Some(i) => Write { slot: e.slot, ty, place: i as u16, bits: 0 },
                None => constant(box_bits(ty, 0)),
            })
        })
        .collect()
}

/// Does what [`restore`] does, as [`plan`] has it.
///
/// # Safety
/// As for [`restore`].
pub unsafe fn restore_as_planned(
    vm: &mut Vm,
    (t, no): (&Trace, SnapNo),
    plan: &[Write],
    buf: &ExitBuffer,
    base: *mut Value,
) -> At {
    for w in plan {
        let bits =
            if w.place == Write::CONSTANT { w.bits } else { box_bits(w.ty, buf.get(w.place as usize)) };
        // SAFETY: the slot lies within the room that the caller promises.
        unsafe { *base.offset(w.slot as isize - 2) = Value(bits) };
    }
    // SAFETY: as above; the frame's base lies within the same slots.
    unsafe { resume_at(vm, t, no, base) }
}

/// Writes the slots of snapshot `no` to the stack whose trace base is `base`; answers where to go on.
///
/// # Safety
/// `base` is the base the trace was entered with, its stack has room for the snapshot's slots (the trace's
/// STACK guard has checked), and the exit buffer was filled by that exit.
pub unsafe fn restore(vm: &mut Vm, t: &Trace, no: SnapNo, buf: &ExitBuffer, base: *mut Value) -> At {
    let live = t.live_values(no);
    let mut made: Vec<(Ref, Value)> = Vec::new();
    for e in t.entries(no) {
        if e.norestore {
            continue;
        }
        let bits = if let Some(o) = t.sunk_at(e.value) {
            match made.iter().find(|m| m.0 == e.value) {
                Some(m) => m.1.0,
                None => {
                    let v = make(vm, t, no, o, |r| live.iter().position(|l| *l == r).map(|i| buf.get(i)));
                    made.push((e.value, v));
                    v.0
                }
            }
        } else if e.value.is_const() {
            box_const(t.ir.k(e.value))
        } else {
            let ty = t.ir.ty(e.value);
            match live.iter().position(|r| *r == e.value) {
                Some(i) => box_bits(ty, buf.get(i)),
                None => box_bits(ty, 0),
            }
        };
        // SAFETY: the slot lies within the room that the caller promises.
        unsafe { *base.offset(e.slot as isize - 2) = Value(bits) };
    }
    // SAFETY: as above; the frame's base lies within the same slots.
    unsafe { resume_at(vm, t, no, base) }
}

/// Makes a sunk object. `value` finds the value of an instruction in the exit buffer.
fn make(vm: &mut Vm, t: &Trace, no: SnapNo, o: &Sunk, value: impl Fn(Ref) -> Option<u64>) -> Value {
    let cd = vm.heap.new_cdata(o.ctypeid, o.size as usize, 16);
    let data = cd.get(&vm.heap).data_ptr();
    for (offset, ty, r) in t.stores_before(o, no) {
        let bits = if r.is_const() { t.ir.k(r).bits } else { value(r).unwrap_or(0) };
        // A double becomes a float where it is stored, so the bits are those of the stored type.
        let bytes = bits.to_ne_bytes();
        // SAFETY: the sink pass admits only stores inside the object.
        unsafe {
            let to = data.add(offset as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, memory::width(ty) as usize);
        }
    }
    Value::obj(cd)
}

/// Where snapshot `no` goes on, with the slots written already.
///
/// # Safety
/// `base` is the base of the trace.
pub unsafe fn resume_at(vm: &mut Vm, t: &Trace, no: SnapNo, base: *mut Value) -> At {
    let s = &t.snaps[no.index()];
    // SAFETY: the snapshot's frame lies above the trace's base, on the same stack.
    let at = At { pc: s.pc as *const u32, base: unsafe { base.offset(s.base as isize) } };
    // Instructions that take all values of the one before count them from the top of the snapshot.
    let i = at.ins(0);
    let top = s.nslots as i64 - (s.base as i64 + 2);
    let fixed = match i.op() {
        Op::CALLM => i.a() as i64 + 2 + i.c() as i64 - 1,
        Op::CALLMT => i.a() as i64 + 2 + i.d() as i64 - 1,
        Op::RETM => i.a() as i64 + i.d() as i64 - 1,
        Op::TSETM => i.a() as i64 - 1,
        _ => return at,
    };
    vm.multres = (top - fixed).max(1) as u32;
    at
}
