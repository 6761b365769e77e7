//! Runs: the host's way into the interpreter, and safepoints.

use super::coroutine::{enter_coroutine, refusal};
use super::dispatch::{Act, EXIT, EXIT_DONE, EXIT_PREEMPTED, EXIT_SUSPEND, EXIT_YIELD, HelperResult, enter};
use super::meta::{begin_call, sync_top};
use super::settle;
use crate::cell::gc_ref::Gc;
use crate::error::messages as msg;
use crate::limits::NATIVE_RUNS_MAX;
use crate::state::Vm;
use crate::state::native::{Entry, Raised};
use crate::state::profile::vmstate;
use crate::thread::frame::{CONT_SLOTS, LINK_CORO, LINK_RUN, raw};
use crate::thread::{Status, Thread};
use crate::value::Value;

/// How a coroutine that the host drives came back.
#[derive(Debug)]
pub enum Resume {
    /// Its body returned.
    Finished(Vec<Value>),
    /// It yielded.
    Yielded(Vec<Value>),
    /// It waits for the host operation with this token; go on with [`Vm::resume_suspended`].
    Suspended(u64),
    /// A spent limit has stopped it, and the host chose to go on (`Verdict::Yield`); it continues with
    /// [`Vm::resume_suspended`] and no values.
    Interrupted,
    /// Its body ended with this error value. The dead coroutine keeps its frames for a traceback.
    Error(Value),
}

/// The interpreter's registers, saved around a nested run.
pub(super) struct Saved {
    cur: Gc<Thread>,
    base: usize,
    top: usize,
    pc: *const u32,
    multres: u32,
    call_nargs: usize,
    native_nargs: usize,
    ret_count: usize,
    entry: Entry,
}

impl Vm {
    pub(super) fn save(&self) -> Saved {
        let t = self.cur.get(&self.heap);
        Saved {
            cur: self.cur,
            base: t.base_index(),
            top: t.top_index(),
            pc: self.pc,
            multres: self.multres,
            call_nargs: self.call_nargs,
            native_nargs: self.native_nargs,
            ret_count: self.ret_count,
            entry: self.entry,
        }
    }

    pub(super) fn restore(&mut self, s: &Saved) {
        self.cur = s.cur;
        let t = s.cur.get_mut(&mut self.heap);
        t.set_status(Status::Running);
        t.base = t.stack.wrapping_add(s.base);
        t.top = t.stack.wrapping_add(s.top);
        self.pc = s.pc;
        self.multres = s.multres;
        self.call_nargs = s.call_nargs;
        self.native_nargs = s.native_nargs;
        self.ret_count = s.ret_count;
        self.entry = s.entry;
        s.cur.relimit_stack(&mut self.heap);
        self.sync_stack_limit();
    }

    fn run(&mut self, r: HelperResult) -> Act {
        let act = settle(self, r);
        if act >= EXIT {
            return act;
        }
        // SAFETY: `settle` leaves the current frame as the act needs it.
        unsafe { enter(self, act) }
    }

    fn results(&self) -> Vec<Value> {
        // SAFETY: an act that leaves a run leaves this many values there.
        (0..self.ret_count).map(|i| unsafe { *self.ret_from.add(i) }).collect()
    }

    /// Calls a function from the host: a nested run. A yield across it is refused.
    pub fn call(&mut self, f: Value, args: &[Value]) -> Result<Vec<Value>, Raised> {
        self.call_handled(f, args, Value::NIL)
    }

    /// As [`Vm::call`]; an error goes through the function `handler` first, called where the error was raised.
    pub fn call_handled(&mut self, f: Value, args: &[Value], handler: Value) -> Result<Vec<Value>, Raised> {
        if self.nruns >= NATIVE_RUNS_MAX {
            return Err(self.throw_str(msg::C_STACK_OVERFLOW.as_bytes()));
        }
        self.ensure_slots(args.len() + CONT_SLOTS + 1)?;
        let saved = self.save();
        let (base, top) = (self.base(), self.top());
        let nb = top.wrapping_add(CONT_SLOTS);
        let delta = (nb as usize - base as usize) / std::mem::size_of::<Value>();
        // SAFETY: there is room for the header and the arguments.
        unsafe {
            *nb.sub(4) = handler;
            *nb.sub(3) = raw(delta as u64);
            *nb.sub(2) = f;
            *nb.sub(1) = raw(LINK_RUN);
            for (i, a) in args.iter().enumerate() {
                *nb.add(i) = *a;
            }
        }
        self.nruns += 1;
        self.cur.get_mut(&mut self.heap).nruns += 1;
        self.set_base(nb);
        self.set_top_ptr(nb.wrapping_add(args.len()));
        let r = begin_call(self, nb, args.len());
        let act = self.run(r);
        let out = if act == EXIT_DONE { Ok(self.results()) } else { Err(Raised(())) };
        self.nruns -= 1;
        saved.cur.get_mut(&mut self.heap).nruns -= 1;
        self.restore(&saved);
        out
    }

    /// Starts or continues a coroutine from the host, outside of any other.
    pub fn resume(&mut self, co: Gc<Thread>, args: &[Value]) -> Resume {
        if let Some(text) = refusal(self, co) {
            let _ = self.throw_plain(text.as_bytes());
            return Resume::Error(self.take_error());
        }
        co.get_mut(&mut self.heap).resumer = None;
        self.drive(co, co, args)
    }

    /// Continues a coroutine that came back as [`Resume::Suspended`], with the values of the host operation, or as
    /// [`Resume::Interrupted`].
    pub fn resume_suspended(&mut self, co: Gc<Thread>, values: &[Value]) -> Resume {
        let inner = co.get_mut(&mut self.heap).inner.take().unwrap_or(co);
        self.drive(co, inner, values)
    }

    fn drive(&mut self, co: Gc<Thread>, inner: Gc<Thread>, args: &[Value]) -> Resume {
        if self.nruns >= NATIVE_RUNS_MAX {
            let _ = self.throw_plain(msg::C_STACK_OVERFLOW.as_bytes());
            return Resume::Error(self.take_error());
        }
        let saved = self.save();
        saved.cur.get_mut(&mut self.heap).set_status(Status::Normal);
        self.nruns += 1;
        let r = enter_coroutine(self, inner, args.as_ptr(), args.len());
        let act = self.run(r);
        self.nruns -= 1;
        let out = match act {
            EXIT_DONE => Resume::Finished(self.results()),
            EXIT_YIELD => Resume::Yielded(self.results()),
            EXIT_SUSPEND => {
                let at = self.cur;
                co.get_mut(&mut self.heap).inner = Some(at);
                Resume::Suspended(self.suspend_token)
            }
            EXIT_PREEMPTED => {
                let at = self.cur;
                co.get_mut(&mut self.heap).inner = Some(at);
                Resume::Interrupted
            }
            _ => Resume::Error(self.take_error()),
        };
        self.restore(&saved);
        out
    }

    /// A safepoint of a native: the collector may run. Handles in Rust locals are stale afterwards unless they are
    /// in the frame, too.
    pub fn safepoint(&mut self) -> Result<(), Raised> {
        if self.heap.gc_due() { self.collect_now() } else { Ok(()) }
    }

    /// A safepoint of an instruction: the registers of the current frame are kept.
    #[inline(always)]
    pub(crate) fn gc_check(&mut self) -> Result<(), Raised> {
        if self.heap.gc_due() {
            sync_top(self);
            return self.collect_now();
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn collect_now(&mut self) -> Result<(), Raised> {
        let before = self.profile.enter(vmstate::COLLECTOR);
        let done = crate::gc::step(self);
        self.profile.leave(before);
        if done.is_err() {
            return Err(self.throw_memory());
        }
        if !self.in_finalizer {
            self.run_finalizers();
        }
        Ok(())
    }

    /// Calls the finalizers that are due, on a coroutine of their own. Nobody could catch their errors: they go to
    /// `on_finalizer_error`, or else are reported to the standard error stream.
    pub fn run_finalizers(&mut self) {
        if self.in_finalizer {
            return;
        }
        while let Some((object, f)) = crate::gc::next_finalizer(self) {
            self.abort_recording();
            self.in_finalizer = true;
            let th = match self.finalizer_thread {
                Some(t) => t,
                None => {
                    let t = self.new_coroutine(Value::NIL);
                    // SAFETY: a fresh stack has its first two slots.
                    unsafe { *t.get_mut(&mut self.heap).stack.add(1) = raw(LINK_CORO) };
                    self.finalizer_thread = Some(t);
                    t
                }
            };
            let saved = self.save();
            self.switch_to(th);
            if self.call(f, &[object]).is_err() {
                let e = self.take_error();
                if let Some(tell) = self.on_finalizer_error {
                    tell(self, e);
                } else {
                    let mut text = b"ERROR in finalizer: ".to_vec();
                    text.extend_from_slice(&self.raw_text(e));
                    text.push(b'\n');
                    let _ = std::io::Write::write_all(&mut std::io::stderr(), &text);
                }
            }
            self.restore(&saved);
            self.in_finalizer = false;
        }
    }

    /// Ends the program: runs every finalizer that is left, newest object first, as closing a state does. The VM
    /// must not run Lua code afterwards.
    pub fn close(&mut self) {
        crate::gc::queue_all_finalizers(self);
        self.run_finalizers();
    }

    /// A full collection, finalizers included (`collectgarbage()`).
    pub fn collect_garbage(&mut self) {
        self.heap.acct.cycles_on_end = 0;
        let before = self.profile.enter(vmstate::COLLECTOR);
        crate::gc::full(self);
        self.profile.leave(before);
        self.run_finalizers();
    }

    /// Asks for room under the memory limit, after a collection if need be. A safepoint: all handles must be in
    /// the frame.
    pub fn make_room(&mut self, bytes: usize) -> Result<(), Raised> {
        if self.heap.may_alloc(bytes).is_ok() {
            return Ok(());
        }
        crate::gc::full(self);
        self.heap.may_alloc(bytes).map_err(|_| self.throw_memory())
    }

    /// `not enough memory`.
    pub fn throw_memory(&mut self) -> Raised {
        self.heap.failure_told();
        self.throw_plain(msg::NO_MEMORY.as_bytes())
    }
}
