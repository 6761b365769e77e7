//! Requests that are used again: the memory of one that is over serves the next one.
//!
//! A request has many parts, and most of them have buffers; to make and to free
//! them all for each request costs as much as handling a small one. What comes
//! back here is emptied at once, so that whatever ends with a request ends in time.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::body::{Body, Incoming};
use super::response::Response;
use super::vars::Captures;
use super::{Env, Request, trim};
use crate::conf::model::Server;
use crate::http1::conn::{Conn, Transport};
use crate::http1::parse::Span;
use crate::phase::Phase;

/// Requests that a worker keeps.
const KEPT_MAX: usize = 64;
/// Internal redirects a request may make.
const REDIRECTS_MAX: u8 = 10;

/// The requests kept by a worker. They belong to its configuration.
#[derive(Default)]
pub struct Spare {
    list: RefCell<Vec<Rc<Request>>>,
    /// The connection of those that have none.
    nobody: OnceCell<Rc<Conn>>,
}

impl Spare {
    /// An empty request that nobody else knows.
    pub fn take(&self, env: &Rc<Env>, server: &Arc<Server>) -> Rc<Request> {
        let kept = self.list.borrow_mut().pop();
        kept.unwrap_or_else(|| Rc::new(Request::empty(env.clone(), self.nobody(), server.clone())))
    }

    /// Takes a request back when nobody else has it.
    pub fn give(&self, mut req: Rc<Request>) {
        let Some(alone) = Rc::get_mut(&mut req) else { return };
        alone.clear(self.nobody());
        let mut list = self.list.borrow_mut();
        if list.len() < KEPT_MAX {
            list.push(req);
        }
    }

    fn nobody(&self) -> Rc<Conn> {
        let make = || Rc::new(Conn::new(Transport::Other(Box::new(tokio::io::empty())), None, None, 0));
        self.nobody.get_or_init(make).clone()
    }
}

thread_local! {
    static NEXT: Cell<u64> = const { Cell::new(1) };
}

fn next_id() -> u64 {
    NEXT.replace(NEXT.get() + 1)
}

impl Request {
    /// A request about which nothing is known.
    pub(super) fn empty(env: Rc<Env>, conn: Rc<Conn>, server: Arc<Server>) -> Request {
        Request {
            id: next_id(),
            env,
            conn,
            parent: None,
            level: RefCell::new(server.level.clone()),
            server: RefCell::new(server),
            start_ms: 0,
            method: RefCell::default(),
            version: 0,
            line: Span::default(),
            target: Span::default(),
            head_len: 0,
            headers: RefCell::default(),
            host: RefCell::default(),
            uri: RefCell::default(),
            args: RefCell::default(),
            args_given: Cell::new(false),
            uri_changed: Cell::new(false),
            redirects_left: Cell::new(REDIRECTS_MAX),
            cycled: Cell::new(false),
            internal: Cell::new(false),
            error_page: Cell::new(false),
            err_status: Cell::new(0),
            keepalive: Cell::new(false),
            flushing: Cell::new(false),
            gone: Cell::new(false),
            incoming: RefCell::new(Incoming { decoder: None, expects_continue: false, received: 0 }),
            body: RefCell::new(Body::default()),
            response: RefCell::new(Response::default()),
            header_bytes: Cell::new(0),
            slots: Rc::default(),
            unset: RefCell::default(),
            captures: RefCell::new(Captures::default()),
            phase: Cell::new(Phase::ServerRewrite),
            upstream: RefCell::default(),
            location_valid: Cell::new(true),
            action: Cell::new(""),
            script_ctx: RefCell::new(None),
            at_end: RefCell::default(),
            request_id: Cell::new(None),
            queue: RefCell::default(),
            over: Cell::new(false),
            peer: Cell::new(None),
            limits: Cell::default(),
            limit_rate: Cell::new(None),
            echo: RefCell::default(),
            cpu_used_us: Cell::new(0),
        }
    }

    /// Makes it what `empty` makes; the memory of small buffers stays. Every part is named here, so that none
    /// is forgotten: nothing of a request may be seen by another.
    fn clear(&mut self, nobody: Rc<Conn>) {
        let Request {
            id,
            env: _,
            conn,
            parent,
            server: _,
            level: _,
            start_ms,
            method,
            version,
            line,
            target,
            head_len,
            headers,
            host,
            uri,
            args,
            args_given,
            uri_changed,
            redirects_left,
            cycled,
            internal,
            error_page,
            err_status,
            keepalive,
            flushing,
            gone,
            incoming,
            body,
            response,
            header_bytes,
            slots,
            unset,
            captures,
            phase,
            upstream,
            location_valid,
            action,
            script_ctx,
            at_end,
            request_id,
            queue,
            over,
            peer,
            limits,
            limit_rate,
            echo,
            cpu_used_us,
        } = self;
        *id = next_id();
        at_end.get_mut().clear();
        *script_ctx.get_mut() = None;
        queue.get_mut().clear();
        *upstream.get_mut() = None;
        *conn = nobody;
        *parent = None;
        *start_ms = 0;
        *version = 0;
        (*line, *target, *head_len) = (Span::default(), Span::default(), 0);
        for buffer in [method, host, uri, args] {
            trim(buffer.get_mut());
        }
        headers.get_mut().trim();
        args_given.set(false);
        uri_changed.set(false);
        redirects_left.set(REDIRECTS_MAX);
        cycled.set(false);
        internal.set(false);
        error_page.set(false);
        err_status.set(0);
        keepalive.set(false);
        flushing.set(false);
        gone.set(false);
        *incoming.get_mut() = Incoming { decoder: None, expects_continue: false, received: 0 };
        *body.get_mut() = Body::default();
        response.get_mut().clear();
        header_bytes.set(0);
        match Rc::get_mut(slots) {
            Some(own) => own.get_mut().clear(),
            None => *slots = Rc::default(),
        }
        unset.get_mut().clear();
        captures.get_mut().clear();
        phase.set(Phase::ServerRewrite);
        location_valid.set(true);
        action.set("");
        request_id.set(None);
        over.set(false);
        peer.set(None);
        limits.set(Default::default());
        limit_rate.set(None);
        *echo.get_mut() = Default::default();
        cpu_used_us.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf;
    use crate::log::Logs;

    fn env() -> Rc<Env> {
        let prefix = std::env::temp_dir().join(format!("moonlit-spare-{}", std::process::id()));
        std::fs::create_dir_all(&prefix).expect("a folder");
        let file = prefix.join("nginx.conf");
        std::fs::write(&file, "events {} http { server { listen 127.0.0.1:1; } }").expect("a file");
        let options = conf::Options {
            prefix: prefix.clone(),
            file,
            error_log: "stderr".into(),
            globals: String::new(),
        };
        let loaded = conf::load(&options).unwrap_or_else(|failed| panic!("{}", failed.error));
        std::fs::remove_dir_all(&prefix).expect("it was made above");
        let counters = crate::counters::Counters::new(1).expect("mapped");
        let stats = crate::request::Stats::new(Arc::new(counters), 0);
        Rc::new(Env::new(Arc::new(loaded.config), Arc::new(Logs::stderr()), stats))
    }

    #[test]
    fn request_comes_back_empty_and_only_when_nobody_has_it() {
        let env = env();
        let server = env.http().servers[0].clone();
        let spare = Spare::default();
        let mut first = spare.take(&env, &server);
        let id = first.id;
        let alone = Rc::get_mut(&mut first).expect("nobody else has it");
        alone.uri.get_mut().extend_from_slice(b"/x");
        alone.response.get_mut().status = 404;
        alone.slots.borrow_mut().push(Some(b"v".to_vec()));
        let dropped = Rc::new(());
        alone.at_end.get_mut().push(Box::new(dropped.clone()));
        let other = first.clone();
        spare.give(first);
        assert_eq!((spare.list.borrow().len(), Rc::strong_count(&dropped)), (0, 2));
        spare.give(other);
        assert_eq!((spare.list.borrow().len(), Rc::strong_count(&dropped)), (1, 1));
        let again = spare.take(&env, &server);
        assert_ne!(again.id, id);
        assert!(again.uri.borrow().is_empty() && again.slots.borrow().is_empty());
        assert_eq!(again.response.borrow().status, 0);
        assert!(spare.list.borrow().is_empty());
    }
}
