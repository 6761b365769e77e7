//! What a sampling profiler and the VM share: a few words that another thread may look at and write.
//!
//! A tick notes what the VM is doing, sets the flag word, and replaces the dispatch table by one whose every entry takes
//! the sample: so it falls on the instruction that follows, wherever the program is, and nothing is asked in between.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::cell::gc_ref::Gc;
use crate::state::Vm;
use crate::thread::Thread;

/// What the VM is doing, in the letters of `jit.profile`.
pub mod vmstate {
    /// Compiled code.
    pub const NATIVE: u8 = b'N';
    /// Interpreted code.
    pub const INTERPRETED: u8 = b'I';
    /// A library function.
    pub const LIBRARY: u8 = b'C';
    /// The collector.
    pub const COLLECTOR: u8 = b'G';
    /// The compiler.
    pub const COMPILER: u8 = b'J';
}

/// Where compiled code lets a sample in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grain {
    /// Where a trace begins and once in each round of its loop.
    Trace,
    /// Also where another function goes on (mode `f`).
    Function,
    /// Also where another line goes on (mode `l`).
    Line,
}

/// Takes a sample: the coroutine that runs, how many ticks it stands for, and what the VM was doing at the first.
pub type OnSample = fn(&mut Vm, Gc<Thread>, u32, u8);

/// The words.
#[derive(Debug)]
pub struct Profile {
    /// One of [`vmstate`].
    pub(crate) state: AtomicU8,
    /// Ticks since the last sample.
    pub(crate) ticks: AtomicU32,
    /// The state at the first of them.
    pub(crate) tick_state: AtomicU8,
    /// How often compiled code lets a sample in: see [`Grain`].
    pub grain: Grain,
    /// Called with each sample; set while a profiler runs.
    pub(crate) on_sample: Option<OnSample>,
    /// A sample is being taken.
    pub(crate) busy: bool,
    /// The coroutine it is taken on; made at the first one.
    pub(crate) thread: Option<Gc<Thread>>,
}

impl Default for Profile {
    fn default() -> Profile {
        Profile {
            state: AtomicU8::new(vmstate::INTERPRETED),
            ticks: AtomicU32::new(0),
            tick_state: AtomicU8::new(vmstate::INTERPRETED),
            grain: Grain::Trace,
            on_sample: None,
            busy: false,
            thread: None,
        }
    }
}

impl Profile {
    /// Enters a state; returns the one to go back to.
    #[inline(always)]
    pub(crate) fn enter(&self, state: u8) -> u8 {
        let old = self.state.load(Relaxed);
        self.state.store(state, Relaxed);
        old
    }

    /// Goes back to a state.
    #[inline(always)]
    pub(crate) fn leave(&self, old: u8) {
        self.state.store(old, Relaxed);
    }
}
