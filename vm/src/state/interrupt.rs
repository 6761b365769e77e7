//! Stopping a VM from another thread or from a signal handler. Knows two words of the VM and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use crate::state::{BackEdge, DISPATCH_SIZE, Handler, Vm, vmflags};
use crate::value::Value;

/// Where the words are, and whether they still are.
struct Shared {
    state: AtomicUsize,
    flags: *const AtomicU32,
    limit: *const AtomicPtr<Value>,
    /// The words of [`super::profile::Profile`] that a tick uses.
    ticks: *const AtomicU32,
    doing: *const AtomicU8,
    tick_state: *const AtomicU8,
    /// The dispatch table.
    dispatch: *const AtomicUsize,
    back_edges: &'static [BackEdge],
}

const FREE: usize = 0;
const BUSY: usize = 1;
const GONE: usize = 2;

// SAFETY: the pointers are followed only while `state` is BUSY, which the owner waits for before the words go; the
// words are atomics.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// The VM's end: takes the words away when the VM goes.
pub(crate) struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        while self.0.state.compare_exchange(FREE, GONE, Ordering::Acquire, Ordering::Relaxed).is_err() {
            std::hint::spin_loop();
        }
    }
}

/// Asks a VM to stop what it runs. Can be sent to other threads and outlive the VM.
#[derive(Clone)]
pub struct Interrupt(Arc<Shared>);

impl Interrupt {
    /// The next back edge or function header raises `interrupted!`. Allocates nothing and takes no lock: a signal
    /// handler may call it. Does nothing when the VM is gone.
    pub fn stop(&self) {
        self.set(vmflags::INTERRUPT);
    }

    /// The next back edge or function header calls `Vm::on_poke`.
    pub fn poke(&self) {
        self.set(vmflags::POKE);
    }

    /// The profiler's clock has gone on: notes what the VM is doing, and makes its next instruction `sampler`, which
    /// puts the table right again.
    pub(crate) fn tick(&self, ticks: u32, sampler: Handler) {
        self.with_words(|s| {
            // SAFETY: `with_words` keeps the VM's words where they are. The table is read by its thread as plain words of
            // this size, and each entry is a handler before and after.
            unsafe {
                if (*s.ticks).fetch_add(ticks, Ordering::Relaxed) == 0 {
                    (*s.tick_state).store((*s.doing).load(Ordering::Relaxed), Ordering::Relaxed);
                }
                for i in 0..DISPATCH_SIZE {
                    (*s.dispatch.add(i)).store(sampler as usize, Ordering::Relaxed);
                }
            }
        });
        self.set(vmflags::PROFILE);
    }

    /// Every back edge and function header raises `CPU time limit exceeded`, until [`Vm::end_overrun`]: no handler
    /// can swallow it for good. May be called in a signal handler, like `stop`.
    pub fn overrun(&self) {
        self.set(vmflags::OVERRUN);
    }

    fn set(&self, flag: u32) {
        self.with_words(|s| {
            // SAFETY: `with_words` keeps the VM's words where they are; for the table see `tick`.
            unsafe {
                // The flag comes first: who changes the table looks at it afterwards.
                (*s.flags).fetch_or(flag, Ordering::SeqCst);
                (*s.limit).store(std::ptr::null_mut(), Ordering::Relaxed);
                for i in 0..DISPATCH_SIZE {
                    let entry = &*s.dispatch.add(i);
                    let now = entry.load(Ordering::Relaxed);
                    if let Some(e) = s.back_edges.iter().find(|e| e.0 as usize == now) {
                        let _ =
                            entry.compare_exchange(now, e.1 as usize, Ordering::SeqCst, Ordering::Relaxed);
                    }
                }
            }
        });
    }

    fn with_words(&self, f: impl FnOnce(&Shared)) {
        let s = &*self.0;
        // When another thread is at it, this one does not wait: a signal handler may have interrupted that thread.
        if s.state.compare_exchange(FREE, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return;
        }
        // BUSY keeps the VM's words where they are.
        f(s);
        s.state.store(FREE, Ordering::Release);
    }
}

impl Vm {
    /// Takes [`Interrupt::overrun`] back; whether it was in force.
    pub fn end_overrun(&mut self) -> bool {
        let was = self.flags.load(Ordering::Relaxed) & vmflags::OVERRUN != 0;
        if was {
            self.set_flag(vmflags::OVERRUN, false);
        }
        was
    }

    /// A handle that stops this VM.
    pub fn interrupt_handle(&mut self) -> Interrupt {
        if self.interrupt.is_none() {
            let shared = Shared {
                state: AtomicUsize::new(FREE),
                flags: &raw const self.flags,
                limit: &raw const self.stack_limit,
                ticks: &raw const self.profile.ticks,
                doing: &raw const self.profile.state,
                tick_state: &raw const self.profile.tick_state,
                dispatch: (&raw const self.dispatch).cast(),
                back_edges: self.back_edges,
            };
            self.interrupt = Some(Owner(Arc::new(shared)));
        }
        match &self.interrupt {
            Some(o) => Interrupt(o.0.clone()),
            None => unreachable!("it was just made"),
        }
    }
}
