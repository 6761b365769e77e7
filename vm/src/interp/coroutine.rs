//! Coroutines: a switch changes the current stack, base and pc; nothing recurses.

use super::dispatch::{
    Act, CALL, EXIT_PREEMPTED, EXIT_SUSPEND, EXIT_YIELD, HelperResult, NATIVE, NEXT, enter_func, helper,
    next, resume, tail,
};
use super::ret::do_return;
use crate::bytecode::ops::Op;
use crate::cell::gc_ref::Gc;
use crate::error::messages as msg;
use crate::limits::{COROUTINE_DEPTH_MAX, STACK_START};
use crate::state::Vm;
use crate::state::native::{Entry, Raised};
use crate::string::Str;
use crate::thread::frame::{self, FIRST_BASE, LINK_CORO, raw};
use crate::thread::{Status, Thread};
use crate::value::Value;

helper!(resume_op = op_resume);
helper!(wrap_op = op_wrap);
helper!(yield_op = op_yield);

impl Vm {
    /// A coroutine with `f` as its body, not started.
    pub fn new_coroutine(&mut self, f: Value) -> Gc<Thread> {
        let env = self.cur.get(&self.heap).env;
        let (x, x2) = {
            let t = self.cur.get(&self.heap);
            (t.exdata, t.exdata2)
        };
        let co = self.heap.new_thread(env, STACK_START - crate::limits::STACK_EXTRA);
        let t = co.get_mut(&mut self.heap);
        t.exdata = x;
        t.exdata2 = x2;
        t.set_status(Status::Suspended);
        t.base = t.stack.wrapping_add(FIRST_BASE);
        t.top = t.base;
        // SAFETY: a fresh stack has these slots.
        unsafe {
            *t.stack = f;
            *t.stack.add(1) = raw(0);
        }
        co
    }

    /// State of a coroutine as `coroutine.status` names it.
    pub fn coroutine_status(&self, co: Gc<Thread>) -> &'static str {
        match co.get(&self.heap).status() {
            Status::Suspended => "suspended",
            Status::Running => "running",
            Status::Normal => "normal",
            Status::Dead => "dead",
        }
    }

    /// Has the host interrupted this coroutine, or one that was resumed inside it?
    pub fn is_preempted(&self, co: Gc<Thread>) -> bool {
        co.get(&self.heap).inner.is_some_and(|t| t.get(&self.heap).hdr.aux & PREEMPTED != 0)
    }

    /// May the running coroutine yield?
    pub fn is_yieldable(&self) -> bool {
        let t = self.cur.get(&self.heap);
        self.cur != self.main && t.nruns == 0 && !self.in_hook(self.cur)
    }

    /// May the whole chain of running coroutines be left and continued by the host? Not with a nested run, a hook or
    /// the main coroutine among them.
    pub fn can_preempt(&self) -> bool {
        let mut at = Some(self.cur);
        while let Some(co) = at {
            let t = co.get(&self.heap);
            if co == self.main || t.nruns != 0 || self.in_hook(co) {
                return false;
            }
            at = t.resumer;
        }
        true
    }

    /// Stops a running recording: something happens that it cannot follow.
    #[inline]
    pub fn abort_recording(&mut self) {
        if self.recording {
            self.abort_recording_now();
        }
    }

    /// A C function calls back: compiled code may be under way and must stay where it is, and what the callback does is not
    /// recorded. The answer is for [`Vm::leave_callback`].
    pub fn enter_callback(&mut self) -> bool {
        self.callbacks += 1;
        let paused = self.recording;
        if paused && let Some(mut jit) = self.jit.take() {
            jit.pause_recording(self);
            self.jit = Some(jit);
        }
        paused
    }

    /// The callback is over.
    pub fn leave_callback(&mut self, paused: bool) {
        self.callbacks -= 1;
        if paused && let Some(mut jit) = self.jit.take() {
            jit.resume_recording(self);
            self.jit = Some(jit);
        }
    }

    #[cold]
    fn abort_recording_now(&mut self) {
        if let Some(mut jit) = self.jit.take() {
            jit.abort_recording(self);
            self.jit = Some(jit);
        }
    }

    /// Makes a coroutine the running one.
    #[inline(always)]
    pub(crate) fn switch_to(&mut self, co: Gc<Thread>) {
        self.cur = co;
        co.get_mut(&mut self.heap).set_status(Status::Running);
        self.sync_stack_limit();
    }
}

/// Why a coroutine cannot be resumed.
pub(crate) fn refusal(vm: &Vm, co: Gc<Thread>) -> Option<&'static str> {
    match co.get(&vm.heap).status() {
        Status::Suspended => {
            if co == vm.main {
                Some(msg::CO_RUNNING)
            } else {
                None
            }
        }
        Status::Running | Status::Normal => Some(msg::CO_RUNNING),
        Status::Dead => Some(msg::CO_DEAD),
    }
}

/// Starts or continues `co`, which is suspended, with `n` values at `from`. The caller has stored its own frame and
/// set `resumer`.
pub(crate) fn enter_coroutine(vm: &mut Vm, co: Gc<Thread>, from: *const Value, n: usize) -> HelperResult {
    vm.abort_recording();
    // Room for the values, whatever happens to them.
    let t = co.get(&vm.heap);
    if t.top.wrapping_add(n) > t.maxstack {
        let at = t.top_index();
        if co.grow_stack(&mut vm.heap, at, n).is_err() {
            return Err(vm.throw_str(msg::STACK_OVERFLOW.as_bytes()));
        }
    }
    vm.switch_to(co);
    let t = co.get_mut(&mut vm.heap);
    t.go_on = std::ptr::null();
    let label = std::mem::take(&mut t.hdr.aux);
    let (base, top) = (t.base, t.top);
    // SAFETY: the stack has room for `n` values above `top`.
    unsafe {
        if (*base.sub(1)).0 == 0 {
            *base.sub(1) = raw(LINK_CORO);
            std::ptr::copy_nonoverlapping(from, base, n);
            t.top = base.add(n);
            return super::meta::begin_call(vm, base, n);
        }
        if label & PREEMPTED != 0 {
            return Ok(go_on_preempted(vm, label));
        }
        if label == 0 {
            // What was passed are the results of the function that yielded.
            std::ptr::copy_nonoverlapping(from, top, n);
            return do_return(vm, base, top, n);
        }
        std::ptr::copy_nonoverlapping(from, top, n);
        t.top = top.add(n);
        vm.native_nargs = (top as usize - base as usize) / std::mem::size_of::<Value>();
        vm.entry = Entry::again(label, n);
        Ok(NATIVE)
    }
}

/// Checks and books a resume out of the running coroutine.
fn link_resumer(vm: &mut Vm, co: Gc<Thread>, wrapped: bool) -> Result<(), &'static str> {
    if let Some(text) = refusal(vm, co) {
        return Err(text);
    }
    let cur = vm.cur;
    let depth = cur.get(&vm.heap).depth + 1;
    if depth > COROUTINE_DEPTH_MAX {
        return Err(msg::C_STACK_OVERFLOW);
    }
    vm.resumed_at = vm.base();
    cur.get_mut(&mut vm.heap).set_status(Status::Normal);
    let t = co.get_mut(&mut vm.heap);
    t.resumer = Some(cur);
    t.wrapped = wrapped as u32;
    t.depth = depth;
    Ok(())
}

/// `coroutine.resume`: `base[0]` is the coroutine.
fn op_resume(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let n = d - 1;
    let base = vm.base();
    vm.set_top_ptr(base.wrapping_add(n));
    // SAFETY: `n` arguments lie above base.
    let co = if n > 0 { unsafe { *base }.as_obj::<Thread>() } else { None };
    let Some(co) = co else {
        vm.native_nargs = n;
        return Err(vm.arg_error(0, msg::CO_EXPECTED.as_bytes()));
    };
    if let Err(text) = link_resumer(vm, co, false) {
        let s = vm.heap.str(text.as_bytes());
        // SAFETY: the frame is this native's.
        return unsafe { return_pair(vm, base, Value::obj(s)) };
    }
    enter_coroutine(vm, co, base.wrapping_add(1), n - 1)
}

/// Returns `false, v` from the native frame at `base`.
///
/// # Safety
/// `base` is the base of the current, native frame.
unsafe fn return_pair(vm: &mut Vm, base: *mut Value, v: Value) -> HelperResult {
    // SAFETY: natives have spare slots above their base.
    unsafe {
        *base = Value::FALSE;
        *base.add(1) = v;
    }
    do_return(vm, base, base, 2)
}

/// A function made by `coroutine.wrap`; the coroutine is its first upvalue.
fn op_wrap(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let n = d - 1;
    let base = vm.base();
    vm.set_top_ptr(base.wrapping_add(n));
    let Some(co) = vm.upvalue(0).as_obj::<Thread>() else {
        return Err(vm.throw_str(msg::CO_EXPECTED.as_bytes()));
    };
    if let Err(text) = link_resumer(vm, co, true) {
        return Err(vm.throw_str(text.as_bytes()));
    }
    enter_coroutine(vm, co, base, n)
}

/// `coroutine.yield`.
fn op_yield(vm: &mut Vm, _a: usize, d: usize) -> HelperResult {
    let base = vm.base();
    vm.set_top_ptr(base.wrapping_add(d - 1));
    yield_values(vm, base, d - 1, 0)
}

/// Is the function at the frame's base made by `coroutine.wrap`?
///
/// # Safety
/// `base` is the base of a frame.
unsafe fn is_wrap(base: *const Value) -> bool {
    // SAFETY: every frame has its function two slots below its base, and every function a header word.
    unsafe {
        let f = super::dispatch::func_ptr(*base.sub(2));
        *(*f).pc as u8 == Op::FUNCWRAP as u8
    }
}

/// Copies `n` values to the frame of `r` that waits in a resume, with `true` in front unless it is a wrapped one.
/// Returns the frame's base and the values, ready to be returned from it.
///
/// # Safety
/// `from` points to `n` values on another stack; `r` waits in `coroutine.resume` or a wrapped function.
unsafe fn deliver(
    vm: &mut Vm,
    r: Gc<Thread>,
    from: *const Value,
    n: usize,
) -> Result<(*mut Value, *const Value, usize), Raised> {
    let t = r.get(&vm.heap);
    if t.base.wrapping_add(n + 1) > t.maxstack {
        let at = t.base_index();
        if r.grow_stack(&mut vm.heap, at, n + 1).is_err() {
            vm.switch_to(r);
            return Err(vm.throw_str(msg::STACK_OVERFLOW.as_bytes()));
        }
    }
    vm.switch_to(r);
    let base = r.get(&vm.heap).base;
    // SAFETY: the frame has room for the values.
    unsafe {
        if is_wrap(base) {
            std::ptr::copy_nonoverlapping(from, base, n);
            Ok((base, base, n))
        } else {
            std::ptr::copy_nonoverlapping(from, base.add(1), n);
            *base = Value::TRUE;
            Ok((base, base, n + 1))
        }
    }
}

/// Yields `n` values at `from` out of the running coroutine, whose current frame is a native's.
pub(crate) fn yield_values(vm: &mut Vm, from: *mut Value, n: usize, label: u32) -> HelperResult {
    let co = vm.cur;
    let t = co.get_mut(&mut vm.heap);
    if co == vm.main || t.nruns != 0 || vm.in_hook(co) {
        return Err(vm.throw_str(msg::YIELD_BOUNDARY.as_bytes()));
    }
    vm.abort_recording();
    let t = co.get_mut(&mut vm.heap);
    t.top = from;
    t.hdr.aux = label;
    // SAFETY: the frame's link lies below its base.
    let link = unsafe { (*t.base.sub(1)).0 };
    if label == 0 && frame::is_lua(link) {
        t.go_on = link as *const u32;
    }
    t.set_status(Status::Suspended);
    match t.resumer.take() {
        Some(r) => {
            // SAFETY: the values lie on the stack of the coroutine that yields.
            let (base, from, n) = unsafe { deliver(vm, r, from, n) }?;
            do_return(vm, base, from, n)
        }
        None => {
            vm.ret_from = from;
            vm.ret_count = n;
            Ok(EXIT_YIELD)
        }
    }
}

/// Leaves the run until the host continues the innermost coroutine.
pub(crate) fn suspend(vm: &mut Vm, token: u64, label: u32) -> HelperResult {
    if !vm.can_preempt() {
        return Err(vm.throw_str(msg::YIELD_BOUNDARY.as_bytes()));
    }
    vm.abort_recording();
    let co = vm.cur;
    co.get_mut(&mut vm.heap).hdr.aux = label;
    vm.suspend_token = token;
    Ok(EXIT_SUSPEND)
}

/// In place of a label: the coroutine was stopped between two instructions.
const PREEMPTED: u32 = 1 << 31;

/// Where a coroutine is when it is stopped without having asked for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preempted {
    /// `vm.pc` is the next instruction.
    Next = 0,
    /// The same, and its hooks have run.
    SeenByHooks = 1,
    /// The function whose frame was just made is entered next; its arguments end at the top.
    AtHeader = 2,
}

/// Leaves the run; the host decides when the chain goes on. [`Vm::can_preempt`] holds.
pub(crate) fn preempt(vm: &mut Vm, at: Preempted) -> Act {
    vm.abort_recording();
    if at != Preempted::AtHeader {
        super::meta::sync_top(vm);
    }
    let pc = vm.pc;
    let t = vm.cur.get_mut(&mut vm.heap);
    t.hdr.aux = PREEMPTED | at as u32;
    t.saved_pc = pc;
    EXIT_PREEMPTED
}

/// The running coroutine, which [`preempt`] stopped, goes on where it was.
fn go_on_preempted(vm: &mut Vm, label: u32) -> Act {
    let t = vm.cur.get(&vm.heap);
    vm.pc = t.saved_pc;
    if label == PREEMPTED | Preempted::AtHeader as u32 {
        vm.call_nargs = t.top_index() - t.base_index();
        // The call was told to a hook before the header looked at the limits.
        vm.hooks_have_seen(1);
        return CALL;
    }
    vm.hooks_have_seen(if label & Preempted::SeenByHooks as u32 != 0 { 3 } else { 0 });
    NEXT
}

/// The running coroutine's body returned: where its values go, or `None` when the host resumed it.
pub(crate) fn finish(
    vm: &mut Vm,
    from: *const Value,
    n: usize,
) -> Result<Option<(*mut Value, *const Value, usize)>, Raised> {
    let co = vm.cur;
    let t = co.get_mut(&mut vm.heap);
    t.set_status(Status::Dead);
    t.base = t.stack.wrapping_add(FIRST_BASE);
    t.top = t.base;
    // A finished coroutine has no frame left to show. (The one result of a native body may lie in the first slot.)
    // SAFETY: every stack has its first two slots.
    unsafe {
        *t.stack.add(1) = raw(0);
    }
    match t.resumer.take() {
        // SAFETY: the values lie on the finished coroutine's stack.
        Some(r) => unsafe { deliver(vm, r, from, n) }.map(Some),
        None => {
            vm.ret_from = from as *mut Value;
            vm.ret_count = n;
            Ok(None)
        }
    }
}

/// The pending error leaves the running coroutine. Returns what its `resume` returns; `None` when the error goes on:
/// in the resumer (a wrapped coroutine), or to the host (`vm.exit_now`).
pub(crate) fn fail(vm: &mut Vm) -> Result<Option<(*mut Value, *const Value, usize)>, Raised> {
    let co = vm.cur;
    let first = co.get(&vm.heap).stack;
    co.close_upvals(&mut vm.heap, first);
    let pc = vm.pc;
    let t = co.get_mut(&mut vm.heap);
    t.set_status(Status::Dead);
    t.saved_pc = pc;
    let Some(r) = t.resumer.take() else {
        vm.exit_now = true;
        return Ok(None);
    };
    vm.exit_now = false;
    vm.switch_to(r);
    let base = r.get(&vm.heap).base;
    // SAFETY: `r` waits in a native frame with spare slots.
    unsafe {
        if !is_wrap(base) {
            *base = Value::FALSE;
            *base.add(1) = vm.take_error();
            return Ok(Some((base, base, 2)));
        }
    }
    // A message gets the position of the call in front.
    if let Some(s) = vm.err.as_obj::<Str>() {
        let mut text = vm.position(1);
        text.extend_from_slice(s.bytes(&vm.heap));
        vm.throw_plain(&text);
    }
    Ok(None)
}

const _: () = assert!(STACK_START > crate::limits::STACK_EXTRA);
