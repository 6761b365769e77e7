//! Pools of idle connections, by name, with a limit and a queue of waiting connects.
//!
//! A pool lives as long as a connection is counted in it. One task per worker
//! watches the idle connections: one whose peer closed it, that received bytes
//! nobody asked for, or whose time is over, is dropped. Knows streams only
//! through `Stream`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Sleep;

use super::stream::{Stream, descriptor};
use super::trace::Trace;

/// How long a connection given back may lie before the watcher looks at it first: under load most are
/// taken again sooner.
const SETTLE: Duration = Duration::from_millis(2);
/// How far the watcher's timer is set when no connection has a time limit.
const FAR: Duration = Duration::from_secs(3600);

/// One idle connection.
pub struct Idle {
    /// The connection.
    pub io: Box<dyn Stream>,
    /// How often it has been taken from a pool.
    pub reused: u32,
    /// Whom it leads to, for log lines: host and address.
    pub peer: PeerName,
    deadline: Option<Instant>,
}

/// Whom a connection leads to, as log lines show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerName {
    /// The host that was asked for, or `unix:PATH`.
    pub host: String,
    /// Its port; 0 where there is none.
    pub port: u16,
    /// The address, without port.
    pub addr: String,
}

impl PeerName {
    /// `, upstream: HOST:PORT(ADDRESS)`.
    pub fn suffix(&self) -> String {
        let mut text = format!(", upstream: {}", self.host);
        if self.port > 0 {
            text.push_str(&format!(":{}", self.port));
        }
        if !self.addr.is_empty() {
            text.push_str(&format!("({})", self.addr));
        }
        text
    }
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
    Place(Place),
    /// A connection that somebody gave back.
    Connection(Idle, Place),
}

/// One pool.
pub struct Pool {
    name: Vec<u8>,
    size: usize,
    /// Longest queue of waiting connects; `None` when the number of connections is not limited.
    backlog: Option<usize>,
    idle: RefCell<VecDeque<Idle>>,
    /// Connections counted in this pool, idle ones included.
    connections: Cell<usize>,
    waiters: RefCell<VecDeque<Waiter>>,
    owner: Weak<Pools>,
}

/// A connection's place in a pool's count; given back when dropped.
pub struct Place(Option<Rc<Pool>>);

impl Place {
    /// Leaves the place taken: an idle connection keeps it.
    fn leave(mut self) -> Option<Rc<Pool>> {
        self.0.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.0.take() {
            pool.release();
        }
    }
}

/// All pools of a worker.
#[derive(Default)]
pub struct Pools {
    map: RefCell<HashMap<Vec<u8>, Rc<Pool>>>,
    /// Where lines about idle connections go.
    pub trace: RefCell<Trace>,
    watcher: RefCell<Option<Waker>>,
    /// Connections were given back that the watcher has not seen.
    fresh: Cell<bool>,
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

    /// Number of pools.
    pub fn len(&self) -> usize {
        self.map.borrow().len()
    }

    /// Whether there is no pool.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pool of that name, made now if need be; size and backlog count only then.
    pub fn get_or_create(
        self: &Rc<Self>,
        name: &[u8],
        size: usize,
        backlog: Option<usize>,
        trace: &Trace,
    ) -> Rc<Pool> {
        if let Some(p) = self.find(name) {
            return p;
        }
        trace.line(|| {
            let backlog = backlog.map_or(-1, |n| n as i64);
            format!("lua tcp socket connection pool size: {size}, backlog: {backlog}")
        });
        trace.line(|| {
            let name = String::from_utf8_lossy(name);
            format!("lua tcp socket keepalive create connection pool for key \"{name}\"")
        });
        let pool = Rc::new(Pool {
            name: name.to_vec(),
            size: size.max(1),
            backlog,
            idle: RefCell::default(),
            connections: Cell::new(0),
            waiters: RefCell::default(),
            owner: Rc::downgrade(self),
        });
        self.map.borrow_mut().insert(name.to_vec(), pool.clone());
        pool
    }

    /// Drops idle connections that are overdue, closed or unexpectedly talkative, and has the watcher
    /// woken by the others. Returns how many are left and when the next one is due.
    fn look(&self, cx: &mut Context<'_>) -> (usize, Option<Instant>) {
        let trace = self.trace.borrow().clone();
        let now = Instant::now();
        let (mut left, mut next) = (0, None::<Instant>);
        let pools: Vec<Rc<Pool>> = self.map.borrow().values().cloned().collect();
        for pool in pools {
            let mut dropped = Vec::new();
            let mut idle = pool.idle.borrow_mut();
            let mut i = 0;
            while i < idle.len() {
                let due = idle[i].deadline.is_some_and(|d| d <= now);
                if due {
                    trace.text("lua tcp socket keepalive max idle timeout");
                }
                if due || !is_silent(&mut idle[i].io, cx, &trace) {
                    dropped.extend(idle.remove(i));
                } else {
                    next = match (next, idle[i].deadline) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                    i += 1;
                }
            }
            left += idle.len();
            drop(idle);
            for gone in dropped {
                trace
                    .line(|| format!("lua tcp socket keepalive close handler: fd:{}", descriptor(&*gone.io)));
                drop(gone);
                pool.release();
            }
        }
        (left, next)
    }

    /// Somebody gave a connection back: the watcher is to look at it before long.
    fn note_fresh(self: &Rc<Self>) {
        if self.fresh.replace(true) {
            return;
        }
        match &*self.watcher.borrow() {
            Some(w) => w.wake_by_ref(),
            None => {
                let sleep = Box::pin(tokio::time::sleep(SETTLE));
                tokio::task::spawn_local(Watcher {
                    pools: Rc::downgrade(self),
                    sleep,
                    looked: Instant::now(),
                });
            }
        }
    }

    /// Closes every idle connection, as when the worker goes.
    pub fn close_idle(&self) {
        let pools: Vec<Rc<Pool>> = self.map.borrow().values().cloned().collect();
        for pool in pools {
            let idle = std::mem::take(&mut *pool.idle.borrow_mut());
            for gone in idle {
                drop(gone);
                pool.release();
            }
        }
    }
}

/// The task that watches idle connections. It ends when there are none.
struct Watcher {
    pools: Weak<Pools>,
    sleep: Pin<Box<Sleep>>,
    looked: Instant,
}

impl Future for Watcher {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        let Some(pools) = me.pools.upgrade() else { return Poll::Ready(()) };
        *pools.watcher.borrow_mut() = Some(cx.waker().clone());
        if pools.fresh.get() && me.looked.elapsed() < SETTLE {
            me.sleep.as_mut().reset(tokio::time::Instant::now() + SETTLE);
            if me.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        loop {
            pools.fresh.set(false);
            me.looked = Instant::now();
            let (left, next) = pools.look(cx);
            if left == 0 {
                *pools.watcher.borrow_mut() = None;
                return Poll::Ready(());
            }
            let at = next.unwrap_or_else(|| Instant::now() + FAR);
            me.sleep.as_mut().reset(at.into());
            if me.sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Pool {
    /// The pool's name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// Number of idle connections.
    pub fn idle_len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// The most recently used idle connection that is still good, and its place.
    pub fn take_idle(self: &Rc<Self>, trace: &Trace) -> Option<(Idle, Place)> {
        trace.text("lua tcp socket pool get keepalive peer");
        loop {
            let Some(mut got) = self.idle.borrow_mut().pop_back() else {
                trace.text("lua tcp socket keepalive: connection pool empty");
                return None;
            };
            // The place it had in the count goes along.
            let place = Place(Some(self.clone()));
            if is_quiet(&mut got.io) {
                got.reused += 1;
                trace_taken(&got, trace);
                return Some((got, place));
            }
            trace.line(|| format!("lua tcp socket keepalive close handler: fd:{}", descriptor(&*got.io)));
        }
    }

    /// A place in the count, whatever its limit: for a connection that was made before there was a pool.
    pub fn count_one(self: &Rc<Self>) -> Place {
        self.connections.set(self.connections.get() + 1);
        Place(Some(self.clone()))
    }

    /// Takes a place for a new connection, or a place in the queue. `Err` when that is full.
    pub fn take_place(self: &Rc<Self>, trace: &Trace) -> Result<Waiting, QueueFull> {
        let Some(backlog) = self.backlog else { return Ok(Waiting::Not(self.count_one())) };
        if self.connections.get() < self.size {
            return Ok(Waiting::Not(self.count_one()));
        }
        let waiting = self.waiters.borrow().len();
        if waiting >= backlog {
            return Err(QueueFull);
        }
        trace.line(|| {
            let name = String::from_utf8_lossy(&self.name);
            let n = self.connections.get() + waiting + 1;
            format!("lua tcp socket queue connect operation for connection pool \"{name}\", connections: {n}")
        });
        let grant = Rc::<Cell<Grant>>::default();
        // In line at once: who comes later must not pass.
        self.waiters.borrow_mut().push_back(Waiter { waker: Waker::noop().clone(), grant: grant.clone() });
        Ok(Waiting::Queued(WaitPlace { pool: self.clone(), grant }))
    }

    /// A connection of this pool is gone: the next waiting connect gets its place. Without any the pool goes.
    fn release(self: &Rc<Self>) {
        let left = self.connections.get().saturating_sub(1);
        self.connections.set(left);
        let owner = self.owner.upgrade();
        let waiter = self.waiters.borrow_mut().pop_front();
        if let Some(w) = waiter {
            if let Some(owner) = &owner {
                owner.trace.borrow().line(|| {
                    let name = String::from_utf8_lossy(&self.name);
                    format!(
                        "lua tcp socket post connect operation resumption for connection pool \"{name}\", \
                         connections: {left}"
                    )
                });
            }
            w.grant.set(Grant::Place(self.count_one()));
            w.waker.wake();
            return;
        }
        if left > 0 {
            return;
        }
        let Some(owner) = owner else { return };
        let mut map = owner.map.borrow_mut();
        if map.get(&self.name).is_some_and(|p| Rc::ptr_eq(p, self)) {
            map.remove(&self.name);
            drop(map);
            owner.trace.borrow().line(|| {
                let name = String::from_utf8_lossy(&self.name);
                format!("lua tcp socket keepalive: free connection pool for \"{name}\"")
            });
        }
    }

    /// Puts a connection into the pool (or into the hands of who waits). `ttl_ms` 0 means for ever. When
    /// the pool is full, its oldest connection is closed.
    pub fn put(place: Place, io: Box<dyn Stream>, reused: u32, peer: PeerName, ttl_ms: u64) {
        let Some(pool) = place.0.clone() else { return };
        let deadline = (ttl_ms > 0).then(|| Instant::now() + Duration::from_millis(ttl_ms));
        let mut entry = Idle { io, reused, peer, deadline };
        let waiter = pool.waiters.borrow_mut().pop_front();
        if let Some(w) = waiter {
            entry.reused += 1;
            w.grant.set(Grant::Connection(entry, place));
            w.waker.wake();
            return;
        }
        place.leave();
        let oldest = {
            let mut idle = pool.idle.borrow_mut();
            idle.push_back(entry);
            if idle.len() > pool.size { idle.pop_front() } else { None }
        };
        if oldest.is_some() {
            drop(oldest);
            pool.release();
        }
        if let Some(owner) = pool.owner.upgrade() {
            owner.note_fresh();
        }
    }
}

fn trace_taken(got: &Idle, trace: &Trace) {
    trace.line(|| {
        format!(
            "lua tcp socket get keepalive peer: using connection {:p}, fd:{}",
            &raw const *got.io,
            descriptor(&*got.io)
        )
    });
}

/// The queue of waiting connects is full.
#[derive(Debug, PartialEq, Eq)]
pub struct QueueFull;

/// Whether a connect has to wait for its place.
pub enum Waiting {
    /// No.
    Not(Place),
    /// Yes.
    Queued(WaitPlace),
}

/// A queued connect. Dropped, it leaves the queue and passes on what it was given.
pub struct WaitPlace {
    pool: Rc<Pool>,
    grant: Rc<Cell<Grant>>,
}

impl WaitPlace {
    /// Ready with a place or a connection.
    pub fn poll(&mut self, cx: &mut Context<'_>, trace: &Trace) -> Poll<Grant> {
        match self.grant.take() {
            Grant::None => {}
            granted => {
                if let Grant::Connection(idle, _) = &granted {
                    trace_taken(idle, trace);
                }
                return Poll::Ready(granted);
            }
        }
        let mut waiters = self.pool.waiters.borrow_mut();
        if let Some(w) = waiters.iter_mut().find(|w| Rc::ptr_eq(&w.grant, &self.grant)) {
            w.waker.clone_from(cx.waker());
        }
        Poll::Pending
    }
}

impl Drop for WaitPlace {
    fn drop(&mut self) {
        let before = self.pool.waiters.borrow().len();
        self.pool.waiters.borrow_mut().retain(|w| !Rc::ptr_eq(&w.grant, &self.grant));
        if self.pool.waiters.borrow().len() < before
            && let Some(owner) = self.pool.owner.upgrade()
        {
            owner.trace.borrow().text("lua tcp socket abort queueing");
        }
        match self.grant.take() {
            Grant::None => {}
            Grant::Place(place) => drop(place),
            Grant::Connection(c, place) => Pool::put(place, c.io, c.reused - 1, c.peer, 0),
        }
    }
}

fn is_silent(io: &mut Box<dyn Stream>, cx: &mut Context<'_>, trace: &Trace) -> bool {
    let mut byte = [0u8; 1];
    let mut buf = ReadBuf::new(&mut byte);
    let silent = Pin::new(io).poll_read(cx, &mut buf).is_pending();
    if !silent {
        trace.text("lua tcp socket keepalive close handler check stale events");
    }
    silent
}

/// Whether an idle stream has neither ended nor received anything.
pub fn is_quiet(io: &mut Box<dyn Stream>) -> bool {
    matches!(peek(io), Peek::Silent)
}

/// What lies in an idle stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing.
    Silent,
    /// The end.
    Ended,
    /// Bytes nobody asked for. One of them is gone now.
    Bytes,
}

/// Looks into an idle stream.
pub fn peek(io: &mut Box<dyn Stream>) -> Peek {
    let mut byte = [0u8; 1];
    let mut buf = ReadBuf::new(&mut byte);
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(io).poll_read(&mut cx, &mut buf) {
        Poll::Pending => Peek::Silent,
        Poll::Ready(Ok(())) if !buf.filled().is_empty() => Peek::Bytes,
        Poll::Ready(_) => Peek::Ended,
    }
}
