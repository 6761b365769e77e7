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

/// Where an exit finds a value.
#[derive(Clone, Copy, Debug)]
struct Source {
    /// Its type in the exit buffer.
    ty: Ty,
    /// Its place there, or [`Source::CONSTANT`], or [`Source::OBJECT`].
    place: u16,
    /// The constant, or the number of the object.
    bits: u64,
}

impl Source {
    /// The value is `bits`.
    const CONSTANT: u16 = u16::MAX;
    /// The value is a sunk object, made before.
    const OBJECT: u16 = u16::MAX - 1;

    fn constant(bits: u64) -> Source {
        Source { ty: Ty::Nil, place: Source::CONSTANT, bits }
    }
}

/// An object that an exit makes.
#[derive(Debug)]
struct Object {
    ctypeid: u32,
    size: u32,
    /// Offset and type in the object, and the raw value.
    stores: Box<[(u32, Ty, Source)]>,
}

/// What the exit through a snapshot does: worked out when it is first taken.
#[derive(Debug)]
pub struct Plan {
    no: SnapNo,
    /// Objects that were not made on the trace.
    objects: Box<[Object]>,
    /// Slots relative to the trace's base minus 2, and what is written there.
    writes: Box<[(u16, Source)]>,
}

/// The plan of the exit through snapshot `no`.
pub fn plan(t: &Trace, no: SnapNo) -> Plan {
    let live = t.live_values(no);
    let place = |r: Ref| live.iter().position(|l| *l == r);
    let object = |o: &Sunk| {
        let raw = |r: Ref| match place(r) {
            Some(i) => Source { ty: t.ir.ty(r), place: i as u16, bits: 0 },
            None => Source::constant(if r.is_const() { t.ir.k(r).bits } else { 0 }),
        };
        let stores = t.stores_before(o, no).map(|(offset, ty, r)| (offset, ty, raw(r))).collect();
        Object { ctypeid: o.ctypeid, size: o.size, stores }
    };
    let (mut objects, mut made) = (Vec::new(), Vec::new());
    let entries = t.entries(no).iter().filter(|e| !e.norestore);
    let writes = entries.map(|e| {
        let source = if let Some(o) = t.sunk_at(e.value) {
            let n = made.iter().position(|m| *m == e.value).unwrap_or_else(|| {
                made.push(e.value);
                objects.push(object(o));
                made.len() - 1
            });
            Source { ty: Ty::Cdata, place: Source::OBJECT, bits: n as u64 }
        } else if e.value.is_const() {
            Source::constant(box_const(t.ir.k(e.value)))
        } else {
            let ty = t.ir.ty(e.value);
            match place(e.value) {
                Some(i) => Source { ty, place: i as u16, bits: 0 },
                None => Source::constant(box_bits(ty, 0)),
            }
        };
        (e.slot, source)
    });
    let writes = writes.collect();
    Plan { no, objects: objects.into(), writes }
}

/// What the exit through snapshot `no` has saved: integers and addresses, and floating point numbers.
pub fn saved(t: &Trace, no: SnapNo, buf: &ExitBuffer) -> (Vec<u64>, Vec<f64>) {
    let (mut general, mut floats) = (Vec::new(), Vec::new());
    for (i, r) in t.live_values(no).into_iter().enumerate() {
        let bits = buf.get(i);
        match t.ir.ty(r) {
            Ty::Num => floats.push(f64::from_bits(bits)),
            Ty::Float => floats.push(f64::from(f32::from_bits(bits as u32))),
            ty if ty.is_int32() => general.push(u64::from(bits as u32)),
            _ => general.push(bits),
        }
    }
    (general, floats)
}

/// Does what a plan of trace `t` says: writes the slots of its snapshot to the stack; answers where to go on.
///
/// # Safety
/// `base` is the base the trace was entered with, its stack has room for the snapshot's slots (the trace's
/// STACK guard has checked), and the exit buffer was filled by that exit.
pub unsafe fn restore(vm: &mut Vm, t: &Trace, plan: &Plan, buf: &ExitBuffer, base: *mut Value) -> At {
    let made: Vec<Value> = plan.objects.iter().map(|o| make(vm, o, buf)).collect();
    for (slot, s) in &plan.writes {
        let bits = match s.place {
            Source::CONSTANT => s.bits,
            Source::OBJECT => made[s.bits as usize].0,
            place => box_bits(s.ty, buf.get(place as usize)),
        };
        // SAFETY: the slot lies within the room that the caller promises.
        unsafe { *base.offset(*slot as isize - 2) = Value(bits) };
    }
    // SAFETY: as above; the frame's base lies within the same slots.
    unsafe { resume_at(vm, t, plan.no, base) }
}

/// Makes a sunk object.
fn make(vm: &mut Vm, o: &Object, buf: &ExitBuffer) -> Value {
    let cd = vm.heap.new_cdata(o.ctypeid, o.size as usize, 16);
    let data = cd.get(&vm.heap).data_ptr();
    for (offset, ty, s) in &o.stores {
        // A double becomes a float where it is stored, so the bits are those of the stored type.
        let bytes =
            if s.place == Source::CONSTANT { s.bits } else { buf.get(s.place as usize) }.to_ne_bytes();
        // SAFETY: the sink pass admits only stores inside the object.
        unsafe {
            let to = data.add(*offset as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, memory::width(*ty) as usize);
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
