//! Requests that a request makes inside the server; their response goes to memory, or in its order into
//! the response of the request that made them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::Request;
use super::body::{Body, BodyFile, Incoming};
use super::response::Response;
use super::vars::Captures;
use crate::http1::clock;
use crate::phase::Phase;

/// Deepest nesting of subrequests.
pub const DEPTH_MAX: usize = 50;

/// What a subrequest is made of.
#[derive(Debug)]
pub struct Spec {
    /// The method.
    pub method: Vec<u8>,
    /// The decoded path.
    pub uri: Vec<u8>,
    /// The query.
    pub args: Vec<u8>,
    /// The body; `None` for none.
    pub body: Option<Vec<u8>>,
    /// Headers to be set.
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether it works on its parent's variables.
    pub share_vars: bool,
    /// Whether it begins with a copy of them.
    pub copy_vars: bool,
}

/// How many requests lie above this one.
pub fn depth(req: &Request) -> usize {
    let mut n = 0;
    let mut at = req.parent.as_ref();
    while let Some(p) = at {
        n += 1;
        at = p.parent.as_ref();
    }
    n
}

/// A subrequest of `parent`, ready for its phases; its response is kept in memory.
pub fn create(parent: &Rc<Request>, spec: Spec) -> Rc<Request> {
    let mut req = blank(parent, spec.uri, spec.args);
    {
        let mut headers = req.headers.borrow_mut();
        match &spec.body {
            Some(b) => headers.set(b"Content-Length", b.len().to_string().as_bytes()),
            None => {
                headers.remove(b"content-length");
            }
        }
        headers.remove(b"transfer-encoding");
        for (name, value) in &spec.headers {
            headers.set(name, value);
        }
    }
    req.slots = if spec.share_vars {
        parent.slots.clone()
    } else if spec.copy_vars {
        Rc::new(RefCell::new(parent.slots.borrow().clone()))
    } else {
        Rc::default()
    };
    req.method = RefCell::new(spec.method);
    req.body = RefCell::new(Body::Memory(spec.body.unwrap_or_default()));
    Rc::new(req)
}

/// A subrequest of `parent` whose output goes into the parent's response: a GET with the parent's
/// headers, body and variables. `spec` may change it before anybody sees it.
pub fn create_inner(
    parent: &Rc<Request>,
    uri: Vec<u8>,
    args: Vec<u8>,
    spec: impl FnOnce(&mut Request),
) -> Rc<Request> {
    let mut req = blank(parent, uri, args);
    req.slots = parent.slots.clone();
    req.response = RefCell::new(Response::into_parent());
    let body = match &*parent.body.borrow() {
        Body::Memory(bytes) => Body::Memory(bytes.clone()),
        Body::File(file) => Body::File(BodyFile { path: file.path.clone(), len: file.len, delete: false }),
        _ => Body::Discarded,
    };
    req.body = RefCell::new(body);
    spec(&mut req);
    Rc::new(req)
}

/// What all subrequests have in common.
fn blank(parent: &Rc<Request>, uri: Vec<u8>, args: Vec<u8>) -> Request {
    Request {
        env: parent.env.clone(),
        conn: parent.conn.clone(),
        parent: Some(parent.clone()),
        server: RefCell::new(parent.server.borrow().clone()),
        level: RefCell::new(parent.server.borrow().level.clone()),
        start_ms: clock::now_ms(),
        method: RefCell::new(b"GET".to_vec()),
        version: parent.version,
        line: parent.line,
        target: parent.target,
        head_len: parent.head_len,
        headers: RefCell::new(parent.headers.borrow().clone()),
        host: RefCell::new(parent.host.borrow().clone()),
        uri: RefCell::new(uri),
        args: RefCell::new(args),
        uri_changed: Cell::new(false),
        redirects_left: Cell::new(10),
        cycled: Cell::new(false),
        internal: Cell::new(true),
        error_page: Cell::new(false),
        err_status: Cell::new(0),
        keepalive: Cell::new(true),
        flushing: Cell::new(false),
        gone: Cell::new(false),
        incoming: RefCell::new(Incoming { decoder: None, expects_continue: false, received: 0 }),
        body: RefCell::new(Body::Discarded),
        response: RefCell::new(Response::into_memory()),
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
        peer: Cell::new(parent.peer.get()),
        limits: Cell::default(),
        limit_rate: Cell::new(None),
        echo: RefCell::default(),
        cpu_used_us: Cell::new(0),
    }
}
