//! How a request moves: phases, filters, redirects, built-in content.
//!
//! `connection` takes requests off the wire, `handshake` begins TLS, `begin` understands heads, `engine` leads one through the
//! phases, `rewrite` runs rewrite scripts, `filters` pass output on, `special`
//! makes error pages, `files` serves files. Scripts are reached through the
//! trait `Scripts` only; nothing here knows Lua.

pub mod access;
pub mod autoindex;
pub mod begin;
pub mod compress;
pub mod connection;
pub mod echo;
pub mod engine;
pub mod file_cache;
pub mod files;
pub mod filters;
pub mod freshness;
pub mod handshake;
pub mod limits;
pub mod mirror;
pub mod more_headers;
pub mod password;
pub mod pooled;
pub mod range;
pub mod realip;
pub mod rewrite;
pub mod set_misc;
pub mod special;
pub mod substitute;

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Context;

use crate::conf::model::LuaCode;
use crate::phase::Phase;
use crate::request::response::Chunk;
use crate::request::spare::Spare;
use crate::request::{Env, Request};

/// A boxed future of the worker's thread.
pub type Wait<T> = Pin<Box<dyn Future<Output = T>>>;

/// What a handler decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: the next handler is asked.
    Next,
    /// The response is under way or complete.
    Done,
    /// The request ends with this status, by an error page if there is one.
    Status(u16),
    /// The request starts anew with this path and query.
    Internal {
        /// The new path.
        uri: Vec<u8>,
        /// The new query; `None` leaves it empty.
        args: Option<Vec<u8>>,
    },
    /// The request goes on in a named location (name with `@`).
    Named(Vec<u8>),
    /// The path was changed by a script that wants a location to be looked up again.
    UriChanged,
    /// The connection is closed without a response.
    Close,
}

/// A handler's answer, now or later.
pub enum Run {
    /// Decided already.
    Ready(Verdict),
    /// Decided when the future is ready.
    Wait(Wait<Verdict>),
}

/// Whatever handles a phase.
pub trait Handler {
    /// Handles a request.
    fn run(&self, worker: &Rc<Worker>, req: &Rc<Request>) -> Run;
}

/// The script layer, as the phases see it.
pub trait Scripts {
    /// Runs a phase's code: at once as far as it goes.
    fn run(&self, req: &Rc<Request>, phase: Phase, code: &Arc<LuaCode>, cx: &mut Context<'_>) -> Run;

    /// Runs a step of a rewrite script; the result is the variable's value. An error ends the request.
    fn set(&self, req: &Rc<Request>, code: &Arc<LuaCode>, args: Vec<Vec<u8>>) -> Wait<Result<Vec<u8>, ()>>;

    /// Runs a header filter. An error is the status of the page that takes the response's place, or 0
    /// where the connection ends without a response.
    fn header_filter(&self, req: &Rc<Request>, code: &Arc<LuaCode>) -> Wait<Result<(), u16>>;

    /// Runs a body filter on a chunk. An error ends the output.
    fn body_filter(&self, req: &Rc<Request>, code: &Arc<LuaCode>, chunk: Chunk) -> Wait<Result<Chunk, ()>>;

    /// Runs a balancer's code, which chooses a server in `Request::upstream`. An error is the status that
    /// the request ends with.
    fn balancer(&self, req: &Rc<Request>, code: &Arc<LuaCode>) -> Wait<Result<(), u16>>;

    /// Runs the code of the log phase.
    fn log(&self, req: &Rc<Request>, code: &Arc<LuaCode>) -> Wait<()>;

    /// The request is over: whatever still runs for it is stopped.
    fn end(&self, req: &Rc<Request>);
}

/// Zones of memory that all workers share, by their index in `HttpConf::limit_zones`.
pub trait Zones {
    /// Lets `change` look at what is stored under a key and say what is to be stored instead: `None` leaves
    /// it, nothing removes it. Nobody else sees the key meanwhile. `ttl_ms` (0: for ever) is for a new
    /// entry. False when there is no room.
    fn update(
        &self,
        zone: usize,
        key: &[u8],
        ttl_ms: u64,
        change: &mut dyn FnMut(Option<&[u8]>) -> Option<Vec<u8>>,
    ) -> bool;
}

/// A worker, as the phases see it.
pub struct Worker {
    /// What requests share.
    pub env: Rc<Env>,
    /// Requests whose memory is used again.
    pub spare: Spare,
    /// The script layer, if there is one.
    pub scripts: Option<Rc<dyn Scripts>>,
    /// Zones that limits count in, if there are any.
    pub zones: Option<Rc<dyn Zones>>,
    /// Whatever passes requests on to other servers.
    pub proxy: Option<Rc<dyn Handler>>,
}
