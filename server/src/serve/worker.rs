//! A worker: one thread, one runtime, one application. Accepts, serves, drains, exits.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::LocalOptions;
use tokio::sync::Notify;

use super::listener::{Bound, ListenSocket};
use super::os::{Caught, Signals};
use super::signal;
use crate::app::{Accepted, App, Socket, WorkerInfo};
use crate::conf::error::os_text;
use crate::conf::model::{Config, Level};
use crate::log::Logs;

/// How long accepting rests when the system has no descriptor left.
const ACCEPT_REST: Duration = Duration::from_millis(500);
/// Tasks that run between two looks for new events: what one look finds is done before the next one.
const TASKS_PER_LOOK: u32 = 256;
/// How often log buffers are looked at.
const FLUSH_PERIOD: Duration = Duration::from_millis(100);
/// After how many looks at the buffers the local time's offset is asked for again.
const ZONE_TICKS: u32 = 600;
/// How often a draining worker asks whether anything is left besides connections.
const DRAIN_PERIOD: Duration = Duration::from_millis(20);

/// A configuration that a worker runs, with its application.
pub struct Generation<A: App> {
    /// The configuration.
    pub config: Arc<Config>,
    /// Its log files.
    pub logs: Arc<Logs>,
    /// Its application.
    pub app: Rc<A>,
    /// The sockets it accepts from.
    pub sockets: Vec<(usize, ListenSocket)>,
}

impl<A: App> Generation<A> {
    /// The part of a worker in what the master made.
    pub fn new(
        config: Arc<Config>,
        logs: Arc<Logs>,
        app: Rc<A>,
        bound: &[Bound],
        worker: u32,
    ) -> io::Result<Generation<A>> {
        let sockets = bound
            .iter()
            .map(|bound| Ok((bound.listen, bound.of_worker(worker)?)))
            .collect::<io::Result<_>>()?;
        Ok(Generation { config, logs, app, sockets })
    }

    fn log(&self, level: Level, message: &str) {
        self.logs.error(&self.config.error_logs, level, None, message.as_bytes());
    }
}

/// What ends the life of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// At once.
    Now,
    /// When the requests are done.
    Gracefully,
}

/// What the loop of a worker asks its owner to do: nothing with a master, all without one.
pub trait Owner<A: App> {
    /// HUP without a master: the next generation, `None` when it cannot be.
    fn reload(&mut self, current: &Generation<A>) -> Option<Generation<A>>;
}

/// With a master, HUP is not for workers.
pub struct NoOwner;

impl<A: App> Owner<A> for NoOwner {
    fn reload(&mut self, _: &Generation<A>) -> Option<Generation<A>> {
        None
    }
}

/// Connections of a worker, over all its generations.
#[derive(Default)]
struct Counters {
    active: Cell<usize>,
    next_id: Cell<u64>,
}

/// Accepting tasks of one generation.
struct Acceptors {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    /// Connections of this generation.
    own: Rc<Cell<usize>>,
    idle: Rc<Notify>,
}

/// Runs a worker to its end. Returns the exit code.
pub fn run<A: App>(
    generation: Generation<A>,
    info: WorkerInfo,
    signals: Signals,
    owner: &mut dyn Owner<A>,
    on_ready: impl FnOnce(),
) -> i32 {
    let made = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(TASKS_PER_LOOK)
        .build_local(LocalOptions::default());
    let runtime = match made {
        Ok(runtime) => runtime,
        Err(error) => {
            generation.log(Level::Alert, &format!("cannot start the event loop {}", os_text(&error)));
            return super::FATAL_EXIT;
        }
    };
    // Tasks that still run end with the runtime.
    runtime.block_on(live(generation, info, signals, owner, on_ready))
}

async fn live<A: App>(
    mut generation: Generation<A>,
    info: WorkerInfo,
    signals: Signals,
    owner: &mut dyn Owner<A>,
    on_ready: impl FnOnce(),
) -> i32 {
    let mut signals = match signals.into_async() {
        Ok(signals) => signals,
        Err(error) => {
            generation.log(Level::Alert, &format!("cannot wait for signals {}", os_text(&error)));
            return super::FATAL_EXIT;
        }
    };
    let counters = Rc::new(Counters::default());
    tokio::select! {
        () = generation.app.clone().start(info) => {}
        () = told_to_stop(&mut signals, true) => return 0,
    }
    let Some(mut acceptors) = accept_all(&mut generation, info, &counters) else { return super::FATAL_EXIT };
    on_ready();
    let current_logs = Rc::new(RefCell::new(generation.logs.clone()));
    tokio::task::spawn_local(flush_logs(current_logs.clone()));
    loop {
        let Some(caught) = signals.wait().await else { return super::FATAL_EXIT };
        let stop = match caught.signal {
            libc::SIGTERM | libc::SIGINT => Stop::Now,
            libc::SIGQUIT => Stop::Gracefully,
            libc::SIGWINCH if !info.has_master => continue,
            libc::SIGWINCH => Stop::Gracefully,
            libc::SIGUSR1 => {
                generation.log(Level::Notice, &signal::received(caught, "reopening logs"));
                for error in generation.logs.reopen() {
                    generation.log(Level::Emerg, &error);
                }
                continue;
            }
            libc::SIGHUP if !info.has_master => {
                generation.log(Level::Notice, &signal::received(caught, "reconfiguring"));
                if let Some(mut next) = owner.reload(&generation) {
                    next.app.clone().start(info).await;
                    let Some(next_acceptors) = accept_all(&mut next, info, &counters) else { continue };
                    let old = std::mem::replace(&mut generation, next);
                    let old_acceptors = std::mem::replace(&mut acceptors, next_acceptors);
                    *current_logs.borrow_mut() = generation.logs.clone();
                    old_acceptors.stop();
                    tokio::task::spawn_local(async move { drain(old, &old_acceptors).await });
                }
                continue;
            }
            _ => {
                generation.log(Level::Info, &signal::received(caught, "ignored"));
                continue;
            }
        };
        announce(&generation, caught, stop);
        acceptors.stop();
        if stop == Stop::Gracefully {
            tokio::select! {
                () = drain_only(&generation, &acceptors) => {}
                () = told_to_stop(&mut signals, false) => {}
            }
        }
        generation.app.clone().finish().await;
        generation.log(Level::Notice, "exit");
        generation.logs.flush();
        return 0;
    }
}

/// Waits for a signal that ends the worker at once; QUIT does so only before it serves anybody.
async fn told_to_stop(signals: &mut super::os::AsyncSignals, quit_counts: bool) {
    while let Some(caught) = signals.wait().await {
        match caught.signal {
            libc::SIGTERM | libc::SIGINT => return,
            libc::SIGQUIT if quit_counts => return,
            _ => {}
        }
    }
}

fn announce<A: App>(generation: &Generation<A>, caught: Caught, stop: Stop) {
    let what = match stop {
        Stop::Now => "exiting",
        Stop::Gracefully => "shutting down",
    };
    generation.log(Level::Notice, &signal::received(caught, what));
    if stop == Stop::Gracefully {
        generation.log(Level::Notice, "gracefully shutting down");
    } else {
        generation.log(Level::Notice, "exiting");
    }
}

async fn drain<A: App>(generation: Generation<A>, acceptors: &Acceptors) {
    drain_only(&generation, acceptors).await;
    generation.app.clone().finish().await;
    generation.logs.flush();
}

/// Waits until the connections and timers of a generation are done, or the time for it is over.
async fn drain_only<A: App>(generation: &Generation<A>, acceptors: &Acceptors) {
    generation.app.drain();
    let limit_ms = generation.config.main.worker_shutdown_timeout;
    let done = async {
        while acceptors.own.get() > 0 || generation.app.pending() > 0 {
            let _ = tokio::time::timeout(DRAIN_PERIOD, acceptors.idle.notified()).await;
        }
    };
    if limit_ms == 0 {
        done.await;
    } else {
        let _ = tokio::time::timeout(Duration::from_millis(limit_ms), done).await;
    }
}

async fn flush_logs(logs: Rc<RefCell<Arc<Logs>>>) {
    loop {
        for _ in 0..ZONE_TICKS {
            tokio::time::sleep(FLUSH_PERIOD).await;
            logs.borrow().flush_due();
        }
        // Summer time may have begun.
        super::start::note_process();
    }
}

/// An asynchronous listener of either kind.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn new(socket: ListenSocket) -> io::Result<Listener> {
        Ok(match socket {
            ListenSocket::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
            ListenSocket::Unix(socket) => Listener::Unix(UnixListener::from_std(socket)?),
        })
    }

    /// A connection; its number is not known yet.
    async fn accept(&self, listen: usize) -> io::Result<Accepted> {
        Ok(match self {
            Listener::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                let local = socket.local_addr().ok();
                Accepted { socket: Socket::Tcp(socket), peer: Some(peer), local, listen, id: 0 }
            }
            Listener::Unix(listener) => {
                let (socket, _) = listener.accept().await?;
                Accepted { socket: Socket::Unix(socket), peer: None, local: None, listen, id: 0 }
            }
        })
    }
}

fn accept_all<A: App>(
    generation: &mut Generation<A>,
    info: WorkerInfo,
    counters: &Rc<Counters>,
) -> Option<Acceptors> {
    let own = Rc::new(Cell::new(0));
    let idle = Rc::new(Notify::new());
    let mut tasks = Vec::new();
    for (listen, socket) in std::mem::take(&mut generation.sockets) {
        let listener = match Listener::new(socket) {
            Ok(listener) => listener,
            Err(error) => {
                generation.log(Level::Alert, &format!("cannot listen {}", os_text(&error)));
                return None;
            }
        };
        tasks.push(tokio::task::spawn_local(accept_loop(AcceptLoop {
            listener,
            listen,
            config: generation.config.clone(),
            logs: generation.logs.clone(),
            app: generation.app.clone(),
            info,
            counters: counters.clone(),
            own: own.clone(),
            idle: idle.clone(),
        })));
    }
    Some(Acceptors { tasks, own, idle })
}

impl Acceptors {
    /// Accepts nothing any more and closes the listeners.
    fn stop(&self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Connections that `multi_accept` takes at once.
const MULTI_ACCEPT: u32 = 64;

struct AcceptLoop<A: App> {
    listener: Listener,
    listen: usize,
    config: Arc<Config>,
    logs: Arc<Logs>,
    app: Rc<A>,
    info: WorkerInfo,
    counters: Rc<Counters>,
    own: Rc<Cell<usize>>,
    idle: Rc<Notify>,
}

/// Counts a connection as long as it lives.
struct Active {
    counters: Rc<Counters>,
    own: Rc<Cell<usize>>,
    idle: Rc<Notify>,
}

impl Active {
    fn new(counters: &Rc<Counters>, own: &Rc<Cell<usize>>, idle: &Rc<Notify>) -> Active {
        counters.active.set(counters.active.get() + 1);
        own.set(own.get() + 1);
        Active { counters: counters.clone(), own: own.clone(), idle: idle.clone() }
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.counters.active.set(self.counters.active.get() - 1);
        self.own.set(self.own.get() - 1);
        if self.own.get() == 0 {
            self.idle.notify_one();
        }
    }
}

async fn accept_loop<A: App>(state: AcceptLoop<A>) {
    let log = |level, message: &str| {
        state.logs.error(&state.config.error_logs, level, None, message.as_bytes());
    };
    let limit = usize::try_from(state.config.main.worker_connections).unwrap_or(usize::MAX);
    let mut turn = 0;
    loop {
        let mut accepted = match state.listener.accept(state.listen).await {
            Ok(accepted) => accepted,
            Err(error) => {
                accept_failed(&error, &log).await;
                continue;
            }
        };
        // Numbers of different workers never meet.
        let number = state.counters.next_id.replace(state.counters.next_id.get() + 1);
        accepted.id = number * u64::from(state.info.count.max(1)) + u64::from(state.info.id) + 1;
        if state.counters.active.get() >= limit {
            log(Level::Alert, &format!("{limit} worker_connections are not enough"));
            drop(accepted);
            tokio::task::yield_now().await;
            continue;
        }
        let active = Active::new(&state.counters, &state.own, &state.idle);
        // Made out here, so that the task holds the connection's future and nothing beside it.
        let served = state.app.clone().serve(accepted);
        tokio::task::spawn_local(async move {
            served.await;
            drop(active);
        });
        // Others get their turn, other workers among them; with `multi_accept` after a good many.
        turn = (turn + 1) % MULTI_ACCEPT;
        if !state.config.main.multi_accept || turn == 0 {
            tokio::task::yield_now().await;
        }
    }
}

async fn accept_failed(error: &io::Error, log: &impl Fn(Level, &str)) {
    let message = format!("accept4() failed {}", os_text(error));
    match error.raw_os_error() {
        Some(libc::EMFILE | libc::ENFILE) => {
            log(Level::Crit, &message);
            tokio::time::sleep(ACCEPT_REST).await;
        }
        Some(libc::ECONNABORTED) => log(Level::Error, &message),
        _ => {
            log(Level::Alert, &message);
            tokio::task::yield_now().await;
        }
    }
}
