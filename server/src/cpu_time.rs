//! Limits of time on CPU: a timer that ticks only while this thread runs, and code that stops when its share is
//! used up.
//!
//! The time is counted in ticks, each charged to whatever is limited at that moment: a call costs no system
//! call, an idle thread gets no ticks at all. What is stopped is a VM; what it runs is not known here.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicI64, AtomicPtr, compiler_fence};

use moonlit_vm::host::native::Interrupt;

/// Ticks are at most so far apart.
const TICK_US_MAX: i64 = 10_000;
/// And at least so far.
const TICK_US_MIN: i64 = 1_000;
/// A limit has at least so many ticks.
const TICKS: i64 = 8;
/// The signal of the timer. Nothing else uses it.
const SIGNAL: libc::c_int = libc::SIGVTALRM;

/// What the signal handler sees. Words that it may read and write at any moment.
struct State {
    target: AtomicPtr<Interrupt>,
    left_us: AtomicI64,
    tick_us: AtomicI64,
    timer: AtomicPtr<libc::c_void>,
    /// The process that made the timer.
    process: Cell<u32>,
}

thread_local! {
    // Made without any code and dropped without any: the handler may reach it whenever it comes.
    static STATE: State = const {
        State {
            target: AtomicPtr::new(std::ptr::null_mut()),
            left_us: AtomicI64::new(0),
            tick_us: AtomicI64::new(0),
            timer: AtomicPtr::new(std::ptr::null_mut()),
            process: Cell::new(0),
        }
    };
}

extern "C" fn on_tick(_: libc::c_int) {
    STATE.with(|s| {
        let target = s.target.load(Relaxed);
        if target.is_null() {
            return;
        }
        // SAFETY: the timer was made by `start` on this thread and is never deleted; the call is allowed in a
        // signal handler.
        let missed = unsafe { libc::timer_getoverrun(s.timer.load(Relaxed)) }.max(0);
        let left = s.left_us.load(Relaxed) - (1 + i64::from(missed)) * s.tick_us.load(Relaxed);
        s.left_us.store(left, Relaxed);
        if left <= 0 {
            // SAFETY: a pointer in `target` comes from a reference that `limited` holds until it has taken it out
            // again, and this handler runs on the thread that is inside `limited`. `overrun` neither locks nor
            // allocates.
            unsafe { (*target).overrun() };
        }
    });
}

/// Whose timers there are is found out anew: to be called where a process may have come out of a fork, which takes
/// no timers along.
pub fn adopt() {
    STATE.with(|s| {
        if s.process.replace(std::process::id()) != std::process::id() {
            s.tick_us.store(0, Relaxed);
        }
    });
}

/// Starts this thread's ticks, or makes them come closer together.
fn start(tick_us: i64) -> io::Result<()> {
    let check = |rc: libc::c_int| if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    STATE.with(|s| {
        let known = s.tick_us.load(Relaxed);
        if known != 0 && known <= tick_us {
            return Ok(());
        }
        if known == 0 {
            // SAFETY: zeroed structures of numbers; the handler is a function that lives for ever and does only
            // what a handler may. Calls that it interrupts go on by themselves.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_tick as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                check(libc::sigaction(SIGNAL, &action, std::ptr::null_mut()))?;
                let mut event: libc::sigevent = std::mem::zeroed();
                event.sigev_notify = libc::SIGEV_THREAD_ID;
                event.sigev_signo = SIGNAL;
                event.sigev_notify_thread_id = libc::gettid();
                let mut timer: libc::timer_t = std::ptr::null_mut();
                check(libc::timer_create(libc::CLOCK_THREAD_CPUTIME_ID, &mut event, &mut timer))?;
                s.timer.store(timer, Relaxed);
            }
        }
        let every = libc::timespec { tv_sec: 0, tv_nsec: tick_us * 1000 };
        let times = libc::itimerspec { it_interval: every, it_value: every };
        // SAFETY: the timer was made above or by an earlier call on this thread.
        check(unsafe { libc::timer_settime(s.timer.load(Relaxed), 0, &times, std::ptr::null_mut()) })?;
        s.tick_us.store(tick_us, Relaxed);
        Ok(())
    })
}

/// Puts back what was limited around this.
struct Before {
    target: *mut Interrupt,
    left_us: i64,
}

impl Drop for Before {
    fn drop(&mut self) {
        STATE.with(|s| {
            s.target.store(std::ptr::null_mut(), Relaxed);
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
            s.left_us.store(self.left_us, Relaxed);
            compiler_fence(std::sync::atomic::Ordering::SeqCst);
            s.target.store(self.target, Relaxed);
        });
    }
}

/// Runs `f`; the VM is told when it has run for `left_us` microseconds on the CPU. `limit_us` is the whole limit
/// that they are left of: it says how finely time is counted. Returns the time used, too. The error is the
/// system's, which gives no timer.
pub fn limited<R>(
    target: &Interrupt,
    limit_us: u64,
    left_us: i64,
    f: impl FnOnce() -> R,
) -> io::Result<(R, i64)> {
    let limit_us = i64::try_from(limit_us).unwrap_or(i64::MAX);
    start((limit_us / TICKS).clamp(TICK_US_MIN, TICK_US_MAX))?;
    if left_us <= 0 {
        target.overrun();
    }
    let before = STATE.with(|s| {
        let before = Before { target: s.target.load(Relaxed), left_us: s.left_us.load(Relaxed) };
        s.target.store(std::ptr::null_mut(), Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        s.left_us.store(left_us, Relaxed);
        compiler_fence(std::sync::atomic::Ordering::SeqCst);
        s.target.store(std::ptr::from_ref(target).cast_mut(), Relaxed);
        before
    });
    let result = f();
    let used = left_us - STATE.with(|s| s.left_us.load(Relaxed));
    drop(before);
    Ok((result, used))
}

#[cfg(test)]
mod tests {
    use super::*;
    use moonlit_vm::host::Lua;

    #[test]
    fn endless_loops_end_and_the_next_code_runs() {
        let lua = Lua::new();
        let handle = lua.with(|vm| vm.interrupt_handle());
        for code in ["while true do end", "while true do pcall(function() while true do end end) end"] {
            let (result, used) = limited(&handle, 20_000, 20_000, || lua.load(code).exec()).expect("a timer");
            let text = result.expect_err("it is stopped").to_string();
            assert!(text.contains("CPU time limit exceeded"), "{text}");
            assert!((20_000..2_000_000).contains(&used), "{used}");
            assert!(lua.with(|vm| vm.end_overrun()));
        }
        let (result, _) =
            limited(&handle, 1_000_000, 1_000_000, || lua.load("return 1").exec()).expect("a timer");
        result.expect("there is time");
        lua.load("for i = 1, 1e6 do end").exec().expect("nothing is limited outside");
    }
}
