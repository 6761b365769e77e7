//! Calls of values that are not functions, vararg frames, natives: entering them and carrying out what they answer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::coroutine::{suspend, yield_values};
use super::dispatch::{Act, HelperResult, NEXT, constants, enter_func, helper, next, put, resume, tail};
use super::meta::{begin_call, current_ins, need, reg, set_reg};
use super::ret::do_return;
use crate::bytecode::instr::Instr;
use crate::bytecode::ops::{Mm, Op};
use crate::cell::gc_ref::Gc;
use crate::error::messages as msg;
use crate::function::closure::{Func, NativeFunc};
use crate::state::Vm;
use crate::state::hooks::FastCall;
use crate::state::native::{Entry, NativeResult, Outcome, OutcomeKind, Raised};
use crate::state::profile::vmstate;
use crate::thread::frame::{self, CONT_SLOTS, FrameType};
use crate::value::{Value, tag};

helper!(
    #[cold]
    call_slow = call_any
);
helper!(
    #[cold]
    call_multi_slow = call_any_multi
);
helper!(callt_slow = tail_call_any);
helper!(
    #[cold]
    iter_slow = iterate_any
);
helper!(
    #[cold]
    vararg_slow = vararg
);
helper!(
    #[cold]
    despecialise = generic_loop
);

/// Answer of [`native_entry`]: the native returned to its caller; results in `vm.ret_from`, `vm.ret_count`.
pub(crate) const NATIVE_DONE: Act = 4;
/// The same with exactly one result, which is where the native's function was.
pub(crate) const NATIVE_ONE: Act = 5;

fn call_any(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    call_value(vm, a, (d & 0xff) - 1)
}

fn call_any_multi(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let n = (d & 0xff) + vm.multres as usize - 1;
    call_value(vm, a, n)
}

/// Calls register `a`, which is not a function, with `n` arguments.
fn call_value(vm: &mut Vm, a: usize, n: usize) -> HelperResult {
    let f = reg(vm, a);
    if f.tag() == tag::CDATA
        && n <= CDATA_ARGS
        && let Some(act) = call_cdata(vm, f, a, n)?
    {
        return Ok(act);
    }
    let nb = vm.base().wrapping_add(a + 2);
    resolve_call(vm, f, a as u32)?;
    // SAFETY: the call header lies in the frame.
    unsafe { *nb.sub(1) = frame::raw(vm.pc as u64) };
    begin_call(vm, nb, n)
}

/// Arguments of a direct call of cdata.
const CDATA_ARGS: usize = 8;

/// C data called without a frame of its own: the result, and how many there are. `None` if it takes the ordinary way.
fn call_directly(vm: &mut Vm, f: Value, a: usize, n: usize) -> Result<Option<(Value, u32)>, Raised> {
    // A call hook must see the call.
    let Some(call) = vm.cdata_call.filter(|_| vm.hook.mask == 0) else { return Ok(None) };
    let mut args = [Value::NIL; CDATA_ARGS];
    for (i, arg) in args[..n].iter_mut().enumerate() {
        *arg = reg(vm, a + 2 + i);
    }
    // What a callback runs goes above the arguments.
    let top = vm.base().wrapping_add(a + 2 + n);
    vm.set_top_ptr(top);
    match call(vm, f, &args[..n]) {
        FastCall::No => Ok(None),
        FastCall::Nothing => Ok(Some((Value::NIL, 0))),
        FastCall::One(v) => Ok(Some((v, 1))),
        FastCall::Raised(e) => Err(e),
    }
}

/// A call of C data without a frame of its own; `None` if it takes the ordinary way.
fn call_cdata(vm: &mut Vm, f: Value, a: usize, n: usize) -> Result<Option<Act>, Raised> {
    let Some((first, count)) = call_directly(vm, f, a, n)? else { return Ok(None) };
    set_reg(vm, a, first);
    match current_ins(vm).b() {
        0 => vm.multres = count + 1,
        wanted => {
            for i in 1..(wanted as usize).saturating_sub(1) {
                set_reg(vm, a + i, Value::NIL);
            }
        }
    }
    vm.gc_check()?;
    Ok(Some(NEXT))
}

/// Raises the error of a value that cannot be called.
fn resolve_call(vm: &mut Vm, f: Value, slot: u32) -> Result<(), Raised> {
    let cdata = f.tag() == tag::CDATA && vm.cdata_call.is_some();
    if cdata || f.is::<Func>() || vm.metamethod(f, Mm::Call).is::<Func>() {
        return Ok(());
    }
    Err(vm.operand_error(msg::OP_CALL, f, Some(slot)))
}

fn iterate_any(vm: &mut Vm, a: usize, _d: usize) -> HelperResult {
    let f = reg(vm, a);
    // The register of the copy: an error does not name the iterator.
    resolve_call(vm, f, a as u32)?;
    let nb = vm.base().wrapping_add(a + 2);
    // SAFETY: the call header lies in the frame.
    unsafe { *nb.sub(1) = frame::raw(vm.pc as u64) };
    begin_call(vm, nb, 2)
}

/// Tail call of anything from any kind of frame; `n` is the number of arguments plus one.
fn tail_call_any(vm: &mut Vm, a: usize, n: usize) -> HelperResult {
    let f = reg(vm, a);
    if f.tag() == tag::CDATA
        && n <= CDATA_ARGS
        && let Some((v, count)) = call_directly(vm, f, a, n - 1)?
    {
        set_reg(vm, a, v);
        vm.gc_check()?;
        let base = vm.base();
        return do_return(vm, base, base.wrapping_add(a), count as usize);
    }
    resolve_call(vm, f, a as u32)?;
    let from = vm.base().wrapping_add(a + 2);
    let mut base = vm.base();
    // SAFETY: a vararg frame lies above its function's own frame; the arguments move down.
    unsafe {
        let link = (*base.sub(1)).0;
        if !frame::is_lua(link) && frame::type_bits(link) == FrameType::Varg as u64 {
            base = base.sub(frame::delta(link));
        }
        *base.sub(2) = f;
        std::ptr::copy(from, base, n - 1);
    }
    begin_call(vm, base, n - 1)
}

/// `VARG` of all arguments when the stack may have to grow.
fn vararg(vm: &mut Vm, a: usize, d: usize) -> HelperResult {
    let n = vm.multres as usize - 1;
    let top = vm.base().wrapping_add(a);
    vm.set_top_ptr(top);
    need(vm, n)?;
    let base = vm.base();
    // SAFETY: the stack has room for `n` slots above register `a`; the arguments lie below the frame.
    unsafe {
        let delta = frame::delta((*base.sub(1)).0);
        let from = base.sub(delta).add(d & 0xff);
        std::ptr::copy(from, base.add(a), n);
    }
    Ok(NEXT)
}

/// `ISNEXT` met something else than `next` over a table: the loop becomes a generic one.
fn generic_loop(vm: &mut Vm, _a: usize, _d: usize) -> HelperResult {
    let ins = current_ins(vm);
    let target = vm.pc.wrapping_offset(ins.j() as isize);
    // SAFETY: the prototype's code is writable, and the jump leads to the loop's ITERN or ITERC.
    unsafe {
        let here = vm.pc.sub(1) as *mut u32;
        *here = ins.with_op(Op::JMP).0;
        let iter = target as *mut u32;
        let old = Instr(*iter);
        if old.op_byte() == Op::ITERN as u8 {
            *iter = old.with_op(Op::ITERC).0;
        }
    }
    vm.pc = target;
    Ok(NEXT)
}

/// First entry of the native whose frame is the current one, from its header.
///
/// # Safety
/// The current frame is a native's, with base and top set.
#[inline(never)]
pub(crate) unsafe extern "C" fn native_entry(vm: *mut Vm, nargs: usize) -> Act {
    // SAFETY: the handler holds no reference to the VM.
    let vm = unsafe { &mut *vm };
    vm.native_nargs = nargs;
    // SAFETY: the frame's function is a native, or this op would not be its header.
    let row_fn = unsafe {
        let f = super::dispatch::func_ptr(*vm.base().sub(2)) as *const NativeFunc;
        vm.natives.get((*f).id).f
    };
    let r = catch_unwind(AssertUnwindSafe(|| row_fn(vm, Entry::first(nargs))));
    if let Ok(Ok(o)) = r
        && !vm.heap.gc_due()
    {
        if o.is(OutcomeKind::One) {
            let to = vm.base().wrapping_sub(2);
            // SAFETY: the slot of the function is free once it returns.
            unsafe { *to = Value(o.payload()) };
            return NATIVE_ONE;
        }
        if o.is(OutcomeKind::None) {
            vm.ret_count = 0;
            return NATIVE_DONE;
        }
        if o.is(OutcomeKind::Top) {
            let n = o.payload() as usize;
            if n <= vm.top_count() {
                vm.ret_from = vm.top().wrapping_sub(n);
                vm.ret_count = n;
                return NATIVE_DONE;
            }
        }
    }
    native_slow(vm, r)
}

/// Calls a native from machine code. Its frame lies at `base` with `args` arguments, and all frames below it are on the stack.
/// `results` values are left from the function's slot on, cut or filled up with nil; if `exact`, there must be as many. Answers
/// how many there were; `None` if the interpreter has to do the call again: it was not plain (an error, a call of something
/// else), or the stack has moved, so that machine code cannot go on. Neither collects nor keeps an error.
///
/// # Safety
/// `base` is the base of a native's frame on the current stack, above which machine code has nothing.
pub unsafe fn call_from_trace(
    vm: &mut Vm,
    base: *mut Value,
    args: usize,
    results: usize,
    exact: bool,
) -> Option<usize> {
    let th = vm.cur.as_ptr();
    // SAFETY: the current thread is alive; nothing else refers to it while the native's frame is set up and left.
    unsafe {
        let (old_base, old_top, stack) = ((*th).base, (*th).top, (*th).stack);
        let top = base.add(args);
        // The results need room as well.
        if top.max(base.add(results)) > (*th).maxstack {
            return None;
        }
        (*th).base = base;
        (*th).top = top;
        vm.native_nargs = args;
        let f = super::dispatch::func_ptr(*base.sub(2)) as *const NativeFunc;
        let row_fn = vm.natives.get((*f).id).f;
        let r = catch_unwind(AssertUnwindSafe(|| row_fn(vm, Entry::first(args))));
        let to = (*th).base.sub(2);
        let n = match r {
            Ok(Ok(o)) if o.is(OutcomeKind::One) => {
                *to = Value(o.payload());
                Some(1)
            }
            Ok(Ok(o)) if o.is(OutcomeKind::None) => Some(0),
            Ok(Ok(o)) if o.is(OutcomeKind::Top) && o.payload() as usize <= vm.top_count() => {
                let n = o.payload() as usize;
                std::ptr::copy((*th).top.sub(n), to, n.min(results));
                Some(n)
            }
            Ok(Err(_)) => {
                vm.take_error();
                None
            }
            _ => None,
        };
        let now = (*th).stack;
        let at = |p: *mut Value| now.byte_offset(p.byte_offset_from(stack));
        (*th).base = at(old_base);
        (*th).top = at(old_top);
        let n = n.filter(|n| now == stack && (!exact || *n == results))?;
        for i in n..results {
            *to.add(i) = Value::NIL;
        }
        Some(n)
    }
}

/// Everything but plain results.
#[cold]
#[inline(never)]
fn native_slow(vm: &mut Vm, r: std::thread::Result<NativeResult>) -> Act {
    let r = finish_native(vm, r);
    super::settle(vm, r)
}

/// Goes on after a native that did not return exactly one value to a Lua caller that wants one; `a` is the act.
#[inline(never)]
pub(crate) unsafe extern "C" fn after_native(
    pc: *const u32,
    base: *mut Value,
    k: *const Value,
    vm: *mut Vm,
    a: usize,
    _d: usize,
) -> usize {
    // SAFETY: the native's frame is still the current one when it is done; see `FUNCC`.
    unsafe {
        if a > NATIVE_ONE || a < NATIVE_DONE {
            resume!(vm, a)
        }
        if a == NATIVE_ONE {
            (*vm).ret_from = base.sub(2);
            (*vm).ret_count = 1;
        }
        let link = (*base.sub(1)).0;
        if !frame::is_lua(link) {
            tail!(super::ret::return_native, pc, base, k, vm, 0, 0)
        }
        let from = (*vm).ret_from;
        let n = (*vm).ret_count;
        let to = base.sub(2);
        let at = (link as *const u8).sub(4);
        let wanted = *at.add(3) as usize;
        let mut i = 0;
        while i < n {
            put(to.add(i), *from.add(i));
            i += 1;
        }
        if wanted == 0 {
            (*vm).multres = n as u32 + 1;
        } else {
            while i + 1 < wanted {
                put(to.add(i), Value::NIL);
                i += 1;
            }
        }
        let base = to.sub(*at.add(1) as usize);
        let k = constants(base);
        next!(link as *const u32, base, k, vm)
    }
}

/// Enters the current frame's native again with `vm.entry`.
pub(crate) fn native_again(vm: &mut Vm) -> HelperResult {
    let entry = vm.entry;
    let f: Option<Gc<NativeFunc>> = vm.running_func().and_then(|f| f.as_native(&vm.heap));
    let Some(f) = f else {
        return Err(vm.throw_plain(b"re-entry of a frame that is no native's"));
    };
    let row_fn = vm.natives.get(f.get(&vm.heap).id).f;
    let before = vm.profile.enter(vmstate::LIBRARY);
    let r = catch_unwind(AssertUnwindSafe(|| row_fn(vm, entry)));
    vm.profile.leave(before);
    finish_native(vm, r)
}

/// Carries out a native's answer.
fn finish_native(vm: &mut Vm, r: std::thread::Result<NativeResult>) -> HelperResult {
    let o = match r {
        Ok(Ok(o)) => o,
        Ok(Err(e)) => {
            hide_operator_frame(vm);
            return Err(e);
        }
        Err(panic) => return Err(raise_panic(vm, &*panic)),
    };
    if vm.heap.gc_due() {
        if o.is(OutcomeKind::One) {
            // In the frame, where the collector sees it.
            vm.push(Value(o.payload()));
        }
        vm.safepoint()?;
    }
    carry_out(vm, o)
}

/// An error of C data's own operators is one of the instruction: their frame goes before anybody looks.
fn hide_operator_frame(vm: &mut Vm) {
    let base = vm.base();
    // SAFETY: every frame has a link below its base; a frame of type CONT has the pc and lies above its caller's.
    unsafe {
        let link = (*base.sub(1)).0;
        let cont = !frame::is_lua(link) && frame::type_bits(link) == FrameType::Cont as u64;
        if cont && vm.running_row().is_operator() {
            vm.pc = (*base.sub(3)).0 as *const u32;
            vm.set_base(base.sub(frame::delta(link)));
        }
    }
}

fn raise_panic(vm: &mut Vm, panic: &(dyn std::any::Any + Send)) -> Raised {
    let text = match panic.downcast_ref::<&str>() {
        Some(s) => s.to_string(),
        None => panic.downcast_ref::<String>().cloned().unwrap_or_default(),
    };
    let name = vm.running_row().name;
    let text = msg::fill(msg::NATIVE_PANIC, &[name.as_bytes(), text.as_bytes()]);
    vm.throw_plain(&text)
}

fn bad_outcome(vm: &mut Vm) -> Raised {
    let name = vm.running_row().name;
    let text = msg::fill(msg::NATIVE_BAD_OUTCOME, &[name.as_bytes()]);
    vm.throw_plain(&text)
}

fn carry_out(vm: &mut Vm, o: Outcome) -> HelperResult {
    let base = vm.base();
    let n = o.payload() as usize;
    let kind = |k: OutcomeKind| o.is(k);
    match () {
        () if kind(OutcomeKind::None) => do_return(vm, base, base, 0),
        () if kind(OutcomeKind::One) => {
            let to = base.wrapping_sub(2);
            // SAFETY: the slot of the function is free once it returns.
            unsafe { *to = Value(o.payload()) };
            do_return(vm, base, to, 1)
        }
        () if kind(OutcomeKind::Top) => {
            if n > vm.top_count() {
                return Err(bad_outcome(vm));
            }
            let from = vm.top().wrapping_sub(n);
            do_return(vm, base, from, n)
        }
        () if kind(OutcomeKind::Call) || kind(OutcomeKind::Pcall) => {
            if n + CONT_SLOTS > vm.top_count() || (o.is(OutcomeKind::Pcall) && o.label() == 0) {
                return Err(bad_outcome(vm));
            }
            let nb = vm.top().wrapping_sub(n);
            let delta = (nb as usize - base as usize) / std::mem::size_of::<Value>();
            let ty = if o.is(OutcomeKind::Call) { FrameType::Native } else { FrameType::Pcall };
            // SAFETY: `prepare_call` made the header below the arguments.
            unsafe {
                *nb.sub(4) = frame::raw(0);
                *nb.sub(3) = frame::raw(o.label() as u64);
                *nb.sub(1) = frame::raw(frame::link(delta, ty));
            }
            // The frame must lie below the limit that function headers check.
            need(vm, 0)?;
            let nb = vm.top().wrapping_sub(n);
            if o.is(OutcomeKind::Pcall) {
                // An error of the call itself (not a function) is caught as well.
                vm.set_base(nb);
            }
            begin_call(vm, nb, n)
        }
        () if kind(OutcomeKind::TailCall) => {
            if n + CONT_SLOTS > vm.top_count() {
                return Err(bad_outcome(vm));
            }
            let from = vm.top().wrapping_sub(n);
            // SAFETY: the arguments move down inside the frame.
            unsafe {
                *base.sub(2) = *from.sub(2);
                std::ptr::copy(from, base, n);
            }
            vm.set_top_ptr(base.wrapping_add(n));
            begin_call(vm, base, n)
        }
        () if kind(OutcomeKind::Yield) => {
            if n > vm.top_count() {
                return Err(bad_outcome(vm));
            }
            let from = vm.top().wrapping_sub(n);
            yield_values(vm, from, n, o.label())
        }
        _ => suspend(vm, o.payload(), o.label()),
    }
}
