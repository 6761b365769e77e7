//! Pools of idle connections, by name, with a limit and a queue of waiting connects.
//!
//! An idle connection is looked at when it is taken and once a second in
//! between: one whose peer closed it, or that received bytes nobody asked for,
//! is dropped. Knows streams only through `Stream`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};

use super::tcp::Stream;

/// How often idle connections are looked at.
const SWEEP_MS: u64 = 1000;

/// One idle connection.
pub struct Idle {
    /// The connection.
    pub io: Box<dyn Stream>,
    /// How often it has been taken from a pool.
    pub reused: u32,
    deadline: Option<Instant>,
}

/// A connect that waits for a free place.
struct Waiter {
    waker: Waker,
    grant: Rc<Cell<Grant>>,
}

/// What a waiting connect was given.
#[derive(Default)]
pub enum Grant {
    /// Nothing yet.
    #[default]
    None,
    /// A place: connect now.
    Place,
    /// A connection that somebody gave back.
    Connection(Idle),
}

/// One pool.
pub struct Pool {
    name: Vec<u8>,
    size: usize,
    /// Longest queue of waiting connects; `None` when the number of connections is not limited.
    backlog: Option<usize>,
    idle: RefCell<VecDeque<Idle>>,
    /// Connections alive under this pool, idle ones included. Counted only with a backlog.
    connections: Cell<usize>,
    waiters: RefCell<VecDeque<Waiter>>,
    owner: Weak<Pools>,
}

/// All pools of a worker.
#[derive(Default)]
pub struct Pools {
    map: RefCell<HashMap<Vec<u8>, Rc<Pool>>>,
    sweeping: Cell<bool>,
}

impl Pools {
    /// No pools yet.
    pub fn new() -> Rc<Pools> {
        Rc::new(Pools::default())
    }

    /// The pool of that name, if there is one.
    pub fn find(&self, name: &[u8]) -> Option<Rc<Pool>> {
        self.map.borrow().get(name).cloned()
    }

    /// The pool of that name, made now if need be; size and backlog count only then.
    pub fn get_or_create(self: &Rc<Self>, name: &[u8], size: usize, backlog: Option<usize>) -> Rc<Pool> {
        let mut map = self.map.borrow_mut();
        if let Some(p) = map.get(name) {
            return p.clone();
        }
        let pool = Rc::new(Pool {
            name: name.to_vec(),
            size,
            backlog,
            idle: RefCell::default(),
            connections: Cell::new(0),
            waiters: RefCell::default(),
            owner: Rc::downgrade(self),
        });
        map.insert(name.to_vec(), pool.clone());
        pool
    }

    /// Drops connections that are overdue, closed or unexpectedly talkative; returns how many stay idle
    /// and when the next look is due.
    pub fn sweep(&self) -> (usize, Duration) {
        let now = Instant::now();
        let mut next = Duration::from_millis(SWEEP_MS);
        let mut left = 0;
        let pools: Vec<Rc<Pool>> = self.map.borrow().values().cloned().collect();
        for pool in pools {
            let mut dropped = Vec::new();
            let mut idle = pool.idle.borrow_mut();
            let mut i = 0;
            while i < idle.len() {
                let due = idle[i].deadline.is_some_and(|d| d <= now);
                if due || !is_quiet(&mut idle[i].io) {
                    dropped.extend(idle.remove(i));
                } else {
                    if let Some(d) = idle[i].deadline {
                        next = next.min(d - now);
                    }
                    i += 1;
                }
            }
            left += idle.len();
            drop(idle);
            for _ in dropped {
                pool.release();
            }
        }
        (left, next.max(Duration::from_millis(1)))
    }

    fn start_sweeping(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let me = Rc::downgrade(self);
        let first = Duration::from_millis(1);
        tokio::task::spawn_local(async move {
            let mut wait = first;
            loop {
                tokio::time::sleep(wait).await;
                let Some(pools) = me.upgrade() else { return };
                let (left, next) = pools.sweep();
                if left == 0 {
                    pools.sweeping.set(false);
                    return;
                }
                wait = next;
            }
        });
    }
}

impl Pool {
    /// The pool's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether connections are counted and connects may have to wait.
    pub fn is_limited(&self) -> bool {
        self.backlog.is_some()
    }

    /// Number of idle connections.
    pub fn idle_len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The most recently used idle connection that is still good.
    pub fn take_idle(&self) -> Option<Idle> {
        loop {
            let mut got = self.idle.borrow_mut().pop_back()?;
            if is_quiet(&mut got.io) {
                got.reused += 1;
                return Some(got);
            }
            drop(got);
            self.release();
        }
    }

    /// Takes a place for a new connection. `Err` when the queue is full; `Ok(None)` when the place is
    /// there; `Ok(Some(wait))` when the caller has to wait for it.
    pub fn take_place(self: &Rc<Self>) -> Result<Option<WaitPlace>, QueueFull> {
        let Some(backlog) = self.backlog else { return Ok(None) };
        if self.connections.get() < self.size {
            self.connections.set(self.connections.get() + 1);
            return Ok(None);
        }
        if self.waiters.borrow().len() >= backlog {
            return Err(QueueFull);
        }
        Ok(Some(WaitPlace { pool: self.clone(), grant: Rc::default(), queued: false }))
    }

    /// A connection under this pool is gone: the next waiting connect gets its place.
    pub fn release(&self) {
        if self.backlog.is_none() {
            return;
        }
        match self.waiters.borrow_mut().pop_front() {
            Some(w) => {
                w.grant.set(Grant::Place);
                w.waker.wake();
            }
            None => self.connections.set(self.connections.get().saturating_sub(1)),
        }
    }

    /// Puts a connection into the pool (or into the hands of who waits). `ttl_ms` 0 means for ever. When
    /// the pool is full, its oldest connection is closed.
    pub fn put(self: &Rc<Self>, io: Box<dyn Stream>, reused: u32, ttl_ms: u64) {
        let deadline = (ttl_ms > 0).then(|| Instant::now() + Duration::from_millis(ttl_ms));
        let mut entry = Idle { io, reused, deadline };
        if let Some(w) = self.waiters.borrow_mut().pop_front() {
            entry.reused += 1;
            w.grant.set(Grant::Connection(entry));
            w.waker.wake();
            return;
        }
        let oldest = {
            let mut idle = self.idle.borrow_mut();
            idle.push_back(entry);
            if idle.len() > self.size.max(1) { idle.pop_front() } else { None }
        };
        if oldest.is_some() {
            drop(oldest);
            self.release();
        }
        if let Some(owner) = self.owner.upgrade() {
            owner.start_sweeping();
        }
    }
}

/// The queue of waiting connects is full.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A queued connect. Dropped, it leaves the queue and passes on what it was given.
pub struct WaitPlace {
    pool: Rc<Pool>,
    grant: Rc<Cell<Grant>>,
    queued: bool,
}

impl WaitPlace {
    /// Ready with a place or a connection.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Grant> {
        match self.grant.take() {
            Grant::None => {}
            granted => {
                self.queued = false;
                return Poll::Ready(granted);
            }
        }
        let mut waiters = self.pool.waiters.borrow_mut();
        match waiters.iter_mut().find(|w| Rc::ptr_eq(&w.grant, &self.grant)) {
            Some(w) => w.waker.clone_from(cx.waker()),
            None => {
                waiters.push_back(Waiter { waker: cx.waker().clone(), grant: self.grant.clone() });
                self.queued = true;
            }
        }
        Poll::Pending
    }
}

impl Drop for WaitPlace {
    fn drop(&mut self) {
        if self.queued {
            self.pool.waiters.borrow_mut().retain(|w| !Rc::ptr_eq(&w.grant, &self.grant));
            match self.grant.take() {
                Grant::None => {}
                Grant::Place => self.pool.release(),
                Grant::Connection(c) => self.pool.put(c.io, c.reused, 0),
            }
        }
    }
}

/// Whether an idle stream has neither ended nor received anything.
pub fn is_quiet(io: &mut Box<dyn Stream>) -> bool {
    let mut byte = [0u8; 1];
    let mut buf = ReadBuf::new(&mut byte);
    let mut cx = Context::from_waker(Waker::noop());
    Pin::new(io).poll_read(&mut cx, &mut buf).is_pending()
}
