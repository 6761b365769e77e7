//! From a trace exit back to interpreter frames: the mirror of `record::slots`. Values lie raw in the exit
//! buffer, in the order of [`Trace::live_values`].

use crate::code::exit::ExitBuffer;
use crate::ir::refs::SnapNo;
use crate::trace::Trace;
use crate::trace::snapshot::{box_bits, box_const};
use crate::view::At;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::state::Vm;
use moonlit_vm::value::Value;

/// Writes the slots of snapshot `no` to the stack whose trace base is `base`; answers where to go on.
///
/// # Safety
/// `base` is the base the trace was entered with, its stack has room for the snapshot's slots (the trace's
/// STACK guard has checked), and the exit buffer was filled by that exit.
pub unsafe fn restore(vm: &mut Vm, t: &Trace, no: SnapNo, buf: &ExitBuffer, base: *mut Value) -> At {
    let live = t.live_values(no);
    for e in t.entries(no) {
        if e.norestore {
            continue;
        }
        let bits = if e.value.is_const() {
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
