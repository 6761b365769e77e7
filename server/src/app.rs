//! What the processes run: the seam between `serve`, which owns processes and sockets, and the
//! layers that own requests and Lua.
//!
//! The master asks an `AppFactory` for an `App` per configuration (shared zones are made, the VM is
//! created, `init_by_lua` runs), then forks; each worker starts its copy inside its runtime.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::{TcpStream, UnixStream};

use crate::conf::ChunkCheck;
use crate::conf::model::Config;
use crate::log::Logs;

/// An accepted socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// Unix.
    Unix(UnixStream),
}

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The socket, non-blocking, registered with the worker's runtime.
    pub socket: Socket,
    /// The client's address; `None` for Unix sockets.
    pub peer: Option<SocketAddr>,
    /// The server's address; `None` for Unix sockets.
    pub local: Option<SocketAddr>,
    /// Index into `HttpConf::listens` of the bound address. `Config::listen_of` refines it.
    pub listen: usize,
    /// The connection's number, `$connection` and `*N` in the log.
    pub id: u64,
}

/// Which worker this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerInfo {
    /// 0 to `count - 1`.
    pub id: u32,
    /// How many workers the configuration asks for.
    pub count: u32,
    /// Accepts nothing and keeps the master's account: the privileged agent that a script asked for.
    pub privileged: bool,
    /// False when `master_process` is off.
    pub has_master: bool,
    /// The master's process id (this one's without a master).
    pub master_pid: u32,
}

/// Makes the application of a configuration.
pub trait AppFactory {
    /// What it makes.
    type App: App;

    /// Makes the application in the master, before the fork: no thread, no runtime, no socket.
    /// Runs `init_by_lua`. On reload `old` is the one before, for shared zones that live on. The
    /// error is a message for `[emerg]`.
    fn prepare(
        &self,
        config: &Arc<Config>,
        logs: &Arc<Logs>,
        old: Option<&Self::App>,
    ) -> Result<Self::App, String>;

    /// A compiler for the Lua blocks, for `-t`.
    fn chunk_check(&self) -> Box<dyn ChunkCheck>;
}

/// An application: one per configuration and process.
pub trait App: 'static {
    /// Whether the master is to start a privileged agent beside the workers.
    fn wants_privileged_agent(&self) -> bool {
        false
    }

    /// Starts in a worker, inside its runtime: `init_worker_by_lua`.
    fn start(self: Rc<Self>, worker: WorkerInfo) -> impl Future<Output = ()>;

    /// Serves a connection to its end.
    fn serve(self: Rc<Self>, accepted: Accepted) -> impl Future<Output = ()>;

    /// A graceful stop has begun: nothing new is accepted, idle keepalive connections are to be
    /// closed, waiting timers to run prematurely. `serve` futures end by themselves.
    fn drain(&self);

    /// How much still runs that a graceful stop waits for besides connections (timers).
    fn pending(&self) -> usize;

    /// The worker is about to exit: `exit_worker_by_lua`.
    fn finish(self: Rc<Self>) -> impl Future<Output = ()>;
}
