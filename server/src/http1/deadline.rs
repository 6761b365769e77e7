//! Coarse deadlines: one table per worker, looked through by one task.
//!
//! Arming again costs a store, not a timer operation; an idle connection costs
//! one slot. A deadline may strike late by up to the sweep's pause. For limits
//! that scripts set in milliseconds real timers are used instead.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Notify;

use super::clock::monotonic_ms;

/// Shortest pause between two sweeps.
const PAUSE_MS_MIN: u64 = 10;
/// Slots per millisecond of additional pause, so that a large table is not looked through all the time.
const SLOTS_PER_MS: usize = 100;
const NEVER: u64 = u64::MAX;

#[derive(Default)]
struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// When the sweeper will look next; `NEVER` while it sleeps without limit.
    next_ms: u64,
    sweeper: Option<Rc<Notify>>,
}

struct Slot {
    due_ms: u64,
    waker: Option<Waker>,
}

thread_local! {
    static TABLE: RefCell<Table> = RefCell::default();
}

/// One deadline. Takes a slot when first armed and gives it back when dropped.
#[derive(Default)]
pub struct Deadline {
    slot: Option<u32>,
    due_ms: u64,
}

impl Deadline {
    /// Not armed.
    pub fn new() -> Deadline {
        Deadline { slot: None, due_ms: NEVER }
    }

    /// Sets the deadline `ms` from now. 0 means at once.
    pub fn arm(&mut self, ms: u64) {
        self.due_ms = monotonic_ms().saturating_add(ms);
        if let Some(slot) = self.slot {
            TABLE.with_borrow_mut(|t| t.set(slot, self.due_ms));
        }
    }

    /// No deadline until it is armed again.
    pub fn disarm(&mut self) {
        self.due_ms = NEVER;
        if let Some(slot) = self.slot {
            TABLE.with_borrow_mut(|t| t.slots[slot as usize].due_ms = NEVER);
        }
    }

    /// Whether the deadline has passed; if not, the task is woken when it does.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        if self.due_ms == NEVER {
            return false;
        }
        if monotonic_ms() >= self.due_ms {
            return true;
        }
        TABLE.with_borrow_mut(|t| {
            let slot = *self.slot.get_or_insert_with(|| t.take_slot());
            let s = &mut t.slots[slot as usize];
            match &mut s.waker {
                Some(w) => w.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            t.set(slot, self.due_ms);
        });
        false
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            // The table may be gone already when the thread ends.
            let _ = TABLE.try_with(|t| {
                let mut t = t.borrow_mut();
                t.slots[slot as usize] = Slot { due_ms: NEVER, waker: None };
                t.free.push(slot);
            });
        }
    }
}

/// Wakes every task that has waited with a deadline, whether it is due or not.
pub fn wake_all() {
    let wakers: Vec<Waker> = TABLE.with_borrow(|t| t.slots.iter().filter_map(|s| s.waker.clone()).collect());
    wakers.into_iter().for_each(Waker::wake);
}

impl Table {
    fn take_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { due_ms: NEVER, waker: None });
            (self.slots.len() - 1) as u32
        })
    }

    fn set(&mut self, slot: u32, due_ms: u64) {
        self.slots[slot as usize].due_ms = due_ms;
        match &self.sweeper {
            None => {
                let notify = Rc::new(Notify::new());
                self.sweeper = Some(notify.clone());
                self.next_ms = due_ms;
                tokio::task::spawn_local(sweep(notify));
            }
            Some(n) if due_ms < self.next_ms => {
                self.next_ms = due_ms;
                n.notify_one();
            }
            Some(_) => {}
        }
    }

    /// Wakes what is due; returns when to look again.
    fn strike(&mut self, woken: &mut Vec<Waker>) -> u64 {
        super::clock::update();
        let now = monotonic_ms();
        let mut next = NEVER;
        for s in &mut self.slots {
            if s.due_ms <= now {
                s.due_ms = NEVER;
                woken.extend(s.waker.take());
            } else {
                next = next.min(s.due_ms);
            }
        }
        let pause = PAUSE_MS_MIN + (self.slots.len() / SLOTS_PER_MS) as u64;
        self.next_ms = if next == NEVER { NEVER } else { next.max(now + pause) };
        self.next_ms
    }
}

/// Runs as long as its runtime; a new runtime on the same thread starts another.
async fn sweep(notify: Rc<Notify>) {
    struct Gone;
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = TABLE.try_with(|t| t.borrow_mut().sweeper = None);
        }
    }
    let _gone = Gone;
    loop {
        let mut woken = Vec::new();
        let next = TABLE.with_borrow_mut(|t| t.strike(&mut woken));
        woken.into_iter().for_each(Waker::wake);
        if next == NEVER {
            notify.notified().await;
        } else {
            let wait = Duration::from_millis(next.saturating_sub(monotonic_ms()));
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = notify.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    fn wait(d: &mut Deadline) -> impl Future<Output = ()> + '_ {
        poll_fn(move |cx| if d.poll(cx) { Poll::Ready(()) } else { Poll::Pending })
    }

    #[test]
    fn shorter_deadline_strikes_first_and_a_disarmed_one_never() {
        crate::testing::run(async {
            let (mut a, mut b, mut c) = (Deadline::new(), Deadline::new(), Deadline::new());
            a.arm(400);
            b.arm(20);
            c.arm(10);
            let first = tokio::select! {
                () = wait(&mut a) => 'a',
                () = wait(&mut b) => 'b',
            };
            assert_eq!(first, 'b');
            c.disarm();
            b.arm(15);
            let first = tokio::select! {
                () = wait(&mut c) => 'c',
                () = wait(&mut b) => 'b',
            };
            assert_eq!(first, 'b');
        });
    }
}
