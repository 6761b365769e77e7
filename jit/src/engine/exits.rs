//! Exits: back from machine code to the interpreter's frames, and the side traces that hot exits get.

use super::traces::Compiled;
use super::{Engine, budget};
use crate::abort::Abort;
use crate::ir::ops::IrOp;
use crate::ir::refs::{Ref, SnapNo};
use crate::ir::ty::Ty;
use crate::record::call::CLOSURES_MAX;
use crate::record::{Kind, Rec};
use crate::restore;
use crate::trace::Trace;
use crate::view::{self, At};
use crate::worker::Worker;
use moonlit_vm::bytecode::ops::Op;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::function::closure::Func;
use moonlit_vm::index::TraceNo;
use moonlit_vm::state::Vm;
use moonlit_vm::state::hooks::{EXIT_CALLED_BACK, ExitState, TraceEvent, eventmask};
use std::time::Duration;

/// The exit number that says: the stack is written, the link target is gone.
pub const EXIT_LINK: u32 = u32::MAX;

/// An exit that never gets a side trace.
pub(super) const NEVER: u16 = u16::MAX;
/// Exits of a function's trees are many, most of them seldom taken: so many times more often until they count as hot.
const FUNCTION_EXITS: u16 = 6;
/// Traces of a function's tree from which on its ways are too many: it is left to the interpreter.
const FUNCTION_SIDES_MAX: u32 = 64;
/// Attempts to compile what follows on a function's trace that may fail.
const DEAD_ENDS_MAX: u8 = 3;

impl Engine {
    /// Leaves the code of trace `no` through `exit`: the frames are as the interpreter has them, and it goes on.
    pub(super) fn leave(&mut self, vm: &mut Vm, no: TraceNo, exit: u32) -> ExitState {
        let n = no.index();
        let base = vm.base();
        if exit == EXIT_CALLED_BACK {
            if self.rec.is_some() {
                self.abort(vm, Abort::ErrorThrown);
            }
            return ExitState { pc: vm.pc.wrapping_sub(1), base };
        }
        let t = self.traces[n].as_ref().expect("code that runs belongs to a live trace");
        if exit == EXIT_LINK {
            let last = SnapNo::new(t.trace.snaps.len() - 1);
            // SAFETY: the code wrote all slots before it jumped, and published its base in the thread.
            let at = unsafe {
                restore::resume_at(vm, &t.trace, last, base.wrapping_offset(-(t.trace.link_base as isize)))
            };
            return ExitState { pc: at.pc, base: at.base };
        }
        let plan = t.plans[exit as usize].get_or_init(|| restore::plan(&t.trace, SnapNo::new(exit as usize)));
        // SAFETY: `base` is the base the trace was entered with (a trace that moves it stores it in the
        // thread), the STACK guard has checked the room, and this exit has just filled the buffer.
        let at = unsafe { restore::restore(vm, &t.trace, plan, &self.buf, base) };
        let mut state = ExitState { pc: at.pc, base: at.base };
        // A trace that needs more stack than there is leaves at once, and so would each side trace of that exit.
        let lacking = exit == 0 && vm.lacks_stack_room(base, t.room);
        if lacking {
            let above = (at.base as usize).wrapping_sub(base as usize);
            state.base = vm.make_stack_room(base, t.room).wrapping_byte_add(above);
        }
        if vm.events.listening & eventmask::EXIT != 0 {
            let (general, floats) = restore::saved(&t.trace, SnapNo::new(exit as usize), &self.buf);
            vm.tell(TraceEvent::Exit { no: n as u32, exit, general, floats });
        }
        if self.rec.is_some() {
            // A listener's own code may be compiled; the recording waits for it.
            if !vm.is_telling() {
                self.abort(vm, Abort::ErrorThrown);
            }
        } else if !lacking {
            let attention = vm.flags.load(std::sync::atomic::Ordering::Relaxed) != 0;
            if !vm.heap.gc_due() && !attention && self.opts.on {
                self.check_fork(vm);
                self.poll(vm);
                if !self.is_worth_it(n) {
                    return state;
                }
                if self.is_hot_exit(n, exit as usize) {
                    self.begin_side(vm, at, n, exit);
                }
            }
        }
        state
    }

    /// Counts an exit; is it time for a side trace?
    fn is_hot_exit(&mut self, no: usize, exit: usize) -> bool {
        let mut limit = self.opts.params.hotexit as u16;
        let Some(Some(t)) = self.traces.get_mut(no) else { return false };
        if t.of_function {
            limit = limit.saturating_mul(FUNCTION_EXITS);
        }
        let count = &mut t.counts[exit];
        if *count == NEVER {
            return false;
        }
        *count += 1;
        if *count < limit {
            return false;
        }
        *count = 0;
        let root = Engine::root_of(&self.traces, no as u32).0;
        let sides = self.traces[root as usize].as_ref().map_or(0, |r| r.sides);
        let never = sides >= self.opts.params.maxside || self.full;
        if let Some(Some(t)) = self.traces.get_mut(no).filter(|_| never) {
            t.counts[exit] = NEVER;
        }
        !never && self.can_afford()
    }

    /// Notes that trace `no` was left. A function whose trees are left all the time is given up.
    fn is_worth_it(&mut self, no: usize) -> bool {
        let Some(Some(t)) = self.traces.get(no) else { return false };
        if !t.of_function || self.opts.jitsync {
            return true;
        }
        let (root, waits) = (t.root, self.worker.as_ref().is_some_and(|w| w.open() > 0));
        let Some(Some(r)) = self.traces.get_mut(root as usize) else { return true };
        let pays = r.leaves.count(waits);
        if !pays {
            self.give_up(root);
        }
        pays
    }

    /// May a side trace be compiled now? If not, its exit asks again. One that is compiled in place does not depend on time.
    fn can_afford(&self) -> bool {
        let (spent, open) =
            (Duration::from_micros(self.costs.us), self.worker.as_ref().map_or(0, Worker::open));
        self.opts.jitsync || budget::allows(spent, self.costs.traces, open, self.started.elapsed())
    }

    /// Begins to record what follows on a hot exit of trace `no`.
    fn begin_side(&mut self, vm: &mut Vm, at: At, no: usize, exit: u32) {
        let (root, head) = Engine::root_of(&self.traces, no as u32);
        let Some(Some(t)) = self.traces.get_mut(no) else { return };
        if t.of_function {
            let all = self.traces[root as usize].as_ref().map_or(0, |r| r.sides);
            if all >= FUNCTION_SIDES_MAX {
                return self.give_up(root);
            }
        }
        let Some(Some(t)) = self.traces.get_mut(no) else { return };
        if Engine::is_outlived(vm, &t.trace, exit as usize) {
            t.counts[exit as usize] = NEVER;
            return self.retire(root);
        }
        let head = head.filter(|_| exit == 0);
        let (passes, params) = (self.opts.passes, self.opts.params.clone());
        match Rec::start_side(vm, at, &t.trace, no as u32, exit, head, passes, params) {
            Ok(rec) => self.begin(vm, rec, at),
            Err(e) => {
                self.note(vm, e);
                self.punish(vm, Kind::Side { parent: no as u32, exit });
            }
        }
    }

    /// Does an exit of a trace, perhaps, tell one closure from the many that were made of its prototype since?
    fn is_outlived(vm: &Vm, t: &Trace, exit: usize) -> bool {
        let end = t.snaps.get(exit + 1).map_or(t.ir.next_ref(), |s| s.at);
        (t.snaps[exit].at.ins_index()..end.ins_index()).map(|n| *t.ir.ins(Ref::ins(n))).any(|i| {
            i.op == IrOp::EQ && i.rb().is_const() && t.ir.ty(i.rb()) == Ty::Func && {
                let func = Gc::<Func>::from_addr(t.ir.k(i.rb()).bits);
                let lua = func.and_then(|f| f.as_lua(&vm.heap));
                lua.is_some_and(|f| f.get(&vm.heap).proto.get(&vm.heap).closures > CLOSURES_MAX)
            }
        })
    }

    /// The root of trace `no`, and that one's back edge if what leads to `no` are exits at the loop's start only.
    pub(super) fn root_of(traces: &[Option<Box<Compiled>>], mut no: u32) -> (u32, Option<(usize, Op)>) {
        let mut at_start = true;
        while let Some(Some(t)) = traces.get(no as usize) {
            match t.kind {
                Kind::Side { parent, exit } => {
                    at_start &= exit == 0;
                    no = parent;
                }
                // A function's start is no loop's.
                Kind::Function { .. } => return (no, None),
                Kind::Loop { pc, op } => return (no, at_start.then_some((pc, op))),
            }
        }
        (no, None)
    }

    /// Root trace `root` is entered no more: it relies on a closure whose place others have taken. Its loop becomes hot
    /// again, and the next trace relies on the prototype.
    fn retire(&self, root: u32) {
        if let Some(Some(t)) = self.traces.get(root as usize) {
            Engine::unpatch(t, root);
        }
    }

    /// Would a trace that ends in the interpreter make a function slower that calls itself? Each level would be entered and left.
    /// After some of them its root is given up.
    pub(super) fn is_dead_end(&mut self, kind: Kind) -> bool {
        let Kind::Side { parent, .. } = kind else { return false };
        let root = Engine::root_of(&self.traces, parent).0;
        let Some(Some(t)) = self.traces.get_mut(root as usize) else { return false };
        if !t.of_function {
            return false;
        }
        t.dead_ends = t.dead_ends.saturating_add(1);
        if t.dead_ends == DEAD_ENDS_MAX {
            self.give_up(root);
        }
        true
    }

    /// The function of root trace `root` is left to the interpreter from now on.
    fn give_up(&mut self, root: u32) {
        let Some(Some(t)) = self.traces.get(root as usize) else { return };
        let Kind::Function { pc } = t.kind else { return };
        Engine::unpatch(t, root);
        let ins = view::ins_at(pc);
        if ins.op() == Op::FUNCF {
            view::patch(pc, ins.with_op(Op::IFUNCF));
        }
        if let Some(rt) = &self.runtime {
            self.redirect(t, rt.leave_stub());
        }
    }
}
