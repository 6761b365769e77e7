//! The module `ngx.semaphore`: counters that light threads of one worker wait for, first come first served.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use moonlit_vm::host::native::{Entry, Gc, NativeResult, Outcome, Raised, Table, Userdata, Value, Vm};

use super::ApiFn;
use crate::lua::args::{fail, set_field, string};
use crate::lua::bridge::wait as wait_for;
use crate::lua::worker::{LuaWorker, Rooted, here};
use crate::phase::{Phase, Phases};

/// The functions; all but `new` are methods too.
pub const FNS: &[ApiFn] = &[
    ApiFn::plain("ngx.semaphore.new", Phases::ANY, new),
    ApiFn::plain("ngx.semaphore.wait", Phases::ANY, wait),
    ApiFn::plain("ngx.semaphore.post", Phases::ANY, post),
    ApiFn::plain("ngx.semaphore.count", Phases::ANY, count),
];

/// A semaphore.
#[derive(Default)]
struct Sema {
    /// Not kept alive: the worker's VM keeps the semaphore.
    worker: Weak<LuaWorker>,
    count: Cell<i64>,
    waiting: RefCell<VecDeque<Rc<Waiter>>>,
}

/// Who waits.
#[derive(Default)]
struct Waiter {
    granted: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Drop for Sema {
    fn drop(&mut self) {
        if let Some(w) = self.worker.upgrade() {
            let address = std::ptr::from_ref(self) as usize;
            w.debug_plain(|| format!("in lua gc, semaphore {address:X}"));
        }
    }
}

impl Sema {
    /// Gives what is there to whoever waits, in order.
    fn grant(&self) {
        while self.count.get() > 0 {
            let Some(w) = self.waiting.borrow_mut().pop_front() else { return };
            self.count.set(self.count.get() - 1);
            w.granted.set(true);
            if let Some(waker) = w.waker.take() {
                waker.wake();
            }
        }
    }
}

/// Waiting for one resource. Dropped before it was taken, what was granted goes to the next.
struct Waiting {
    sema: Rc<Sema>,
    me: Rc<Waiter>,
    timer: Pin<Box<tokio::time::Sleep>>,
    over: bool,
}

impl Future for Waiting {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        if self.me.granted.get() {
            self.over = true;
            return Poll::Ready(true);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            self.over = true;
            let me = self.me.clone();
            self.sema.waiting.borrow_mut().retain(|w| !Rc::ptr_eq(w, &me));
            return Poll::Ready(false);
        }
        *self.me.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if let Some(w) = self.sema.worker.upgrade() {
            w.debug_plain(|| "http lua semaphore cleanup");
        }
        let me = self.me.clone();
        self.sema.waiting.borrow_mut().retain(|w| !Rc::ptr_eq(w, &me));
        if me.granted.get() {
            self.sema.count.set(self.sema.count.get() + 1);
            self.sema.grant();
        }
    }
}

/// The metatable of semaphores: their methods are the module's functions.
struct Meta(Rooted);

/// Remembers the module's table: semaphores find their methods there.
pub fn fill(w: &Rc<LuaWorker>, vm: &mut Vm, module: Gc<Table>) {
    let meta = vm.heap.new_table(0, 1);
    set_field(vm, meta, b"__index", Value::obj(module));
    let kept = Rooted::new(w, vm, Value::obj(meta));
    vm.app.set(Meta(kept));
}

/// `semaphore.new(n?)`: a semaphore with `n` resources, 0 by default.
///
/// Raises `no negative number`.
fn new(vm: &mut Vm, _: Entry) -> NativeResult {
    let n = vm.to_number(vm.arg(0)).unwrap_or(0.0);
    if n < 0.0 {
        return Err(vm.throw_str(b"no negative number"));
    }
    let sema = Rc::new(Sema {
        worker: Rc::downgrade(&here()),
        count: Cell::new(n as i64),
        waiting: RefCell::default(),
    });
    let cell = vm.heap.new_udata(sema, None);
    let t = vm.heap.new_table(0, 1);
    set_field(vm, t, b"sem", cell.value());
    let meta = vm.app.get::<Meta>().and_then(|m| m.0.get(vm).as_obj());
    vm.heap.set_metatable(t, meta);
    Ok(Outcome::one(Value::obj(t)))
}

fn sema(vm: &mut Vm) -> Result<Rc<Sema>, Raised> {
    let cell = vm.arg(0).as_obj::<Table>().map(|t| t.get_bytes(&vm.heap, b"sem"));
    let found =
        cell.and_then(|c| c.as_obj::<Userdata>()).and_then(|u| u.downcast::<Rc<Sema>>(&vm.heap).cloned());
    found.ok_or_else(|| vm.throw_str(b"not a semaphore instance"))
}

/// `sema:wait(seconds)`: takes a resource, waits for one at most that long. True, or nil and `timeout`.
///
/// Where upstream cannot yield and phases are strict: nil and `API disabled in the context of X`.
fn wait(vm: &mut Vm, _: Entry) -> NativeResult {
    let sema = sema(vm)?;
    let w = here();
    let phase = w.phase();
    if phase == Phase::Init {
        return Err(vm.throw_str(b"no request found"));
    }
    let Some(seconds) = vm.to_number(vm.arg(1)) else {
        return Err(vm.throw_str(b"attempt to perform arithmetic on a nil value"));
    };
    if seconds < 0.0 {
        return Err(vm.throw_str(b"no negative number"));
    }
    if !w.may_wait(phase) {
        return fail(vm, &phase.disabled_message());
    }
    if sema.count.get() > 0 && sema.waiting.borrow().is_empty() {
        sema.count.set(sema.count.get() - 1);
        return Ok(Outcome::one(Value::TRUE));
    }
    let ms = (seconds * 1000.0).min(1e15) as u64;
    if ms == 0 {
        return fail(vm, "timeout");
    }
    let me = Rc::new(Waiter::default());
    sema.waiting.borrow_mut().push_back(me.clone());
    let timer = Box::pin(tokio::time::sleep(Duration::from_millis(ms)));
    wait_for(vm, Waiting { sema, me, timer, over: false }, |vm, ok| {
        if ok { vec![Value::TRUE] } else { vec![Value::NIL, string(vm, "timeout")] }
    })
}

/// `sema:post(n?)`: releases `n` resources, 1 by default. Returns true.
///
/// Raises `positive number required`.
fn post(vm: &mut Vm, _: Entry) -> NativeResult {
    let sema = sema(vm)?;
    let n = if vm.arg(1).is_nil() { Some(1.0) } else { vm.to_number(vm.arg(1)) };
    let n = n.unwrap_or(1.0);
    if n < 1.0 {
        return Err(vm.throw_str(b"positive number required"));
    }
    sema.count.set(sema.count.get().saturating_add(n as i64));
    if !sema.waiting.borrow().is_empty() {
        // Who waits gets it in the next turn; until then nobody else does.
        tokio::task::spawn_local(async move { sema.grant() });
    }
    Ok(Outcome::one(Value::TRUE))
}

/// `sema:count()`: the resources there are; negative: how many wait.
fn count(vm: &mut Vm, _: Entry) -> NativeResult {
    let sema = sema(vm)?;
    let waiting = sema.waiting.borrow().len() as i64;
    Ok(Outcome::one(Value::num((sema.count.get() - waiting) as f64)))
}
