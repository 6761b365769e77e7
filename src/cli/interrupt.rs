//! Ctrl-C: the first one asks the running VM to stop with `interrupted!`, the second one ends the process. Between the
//! chunks of an edited session it ends nothing.

use std::sync::atomic::{AtomicPtr, Ordering};

use crate::native::{Interrupt, Vm};

/// What the signal handler stops; null while nothing runs. What it points to is never freed: there is one for
/// each VM that a command line runs, which is one.
static TARGET: AtomicPtr<Interrupt> = AtomicPtr::new(std::ptr::null_mut());

extern "C" fn on_signal(signal: libc::c_int) {
    // SAFETY: `signal` may be called in a handler. The next Ctrl-C acts as the system does by itself.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    let target = TARGET.load(Ordering::Acquire);
    if !target.is_null() {
        // SAFETY: a pointer stored in `TARGET` comes from a leaked box. `stop` neither locks nor allocates.
        unsafe { (*target).stop() };
    }
}

/// As long as it lives, a Ctrl-C that comes while no chunk runs does nothing. The line editor reads Ctrl-C as a key; this
/// is about the moments between a chunk's end and the next prompt, when the terminal still makes a signal of it.
pub struct Ignored {
    before: libc::sighandler_t,
}

/// Ctrl-C is ignored outside of [`during_call`] until the result is dropped.
pub fn ignore_between_calls() -> Ignored {
    // SAFETY: ignoring a signal runs no code of ours.
    Ignored { before: unsafe { libc::signal(libc::SIGINT, libc::SIG_IGN) } }
}

impl Drop for Ignored {
    fn drop(&mut self) {
        // SAFETY: what was there before is put back.
        unsafe { libc::signal(libc::SIGINT, self.before) };
    }
}

/// As long as it lives, Ctrl-C interrupts the VM's code.
pub struct During {
    before: libc::sighandler_t,
}

/// Ctrl-C interrupts this VM until the result is dropped. A second VM at the same time is not interrupted.
pub fn during_call(vm: &mut Vm) -> During {
    if TARGET.load(Ordering::Acquire).is_null() {
        let own = Box::into_raw(Box::new(vm.interrupt_handle()));
        TARGET.store(own, Ordering::Release);
    }
    // SAFETY: the handler does only what a signal handler may do.
    let before = unsafe { libc::signal(libc::SIGINT, on_signal as extern "C" fn(libc::c_int) as usize) };
    During { before }
}

impl Drop for During {
    fn drop(&mut self) {
        // SAFETY: what was there before is put back.
        unsafe { libc::signal(libc::SIGINT, self.before) };
    }
}
