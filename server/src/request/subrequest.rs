//! Requests that a request makes inside the server; their response goes to memory, or in its order into
//! the response of the request that made them.

use std::cell::RefCell;
use std::rc::Rc;

use super::Request;
use super::body::{Body, BodyFile};
use super::response::{Response, Sink};
use super::spare::Spare;
use crate::http1::clock;

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
    /// There was a question mark: an empty query is a value.
    pub args_given: bool,
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
pub fn create(spare: &Spare, parent: &Rc<Request>, spec: Spec) -> Rc<Request> {
    let mut shared = spare.take(&parent.env, &parent.server.borrow());
    let req = Rc::get_mut(&mut shared).expect("nobody else knows the request yet");
    begin(req, parent, spec.uri, spec.args);
    req.args_given.set(spec.args_given);
    let headers = req.headers.get_mut();
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
    if spec.share_vars {
        req.slots = parent.slots.clone();
    } else if spec.copy_vars {
        req.slots = Rc::new(RefCell::new(parent.slots.borrow().clone()));
    }
    req.method.get_mut().extend_from_slice(&spec.method);
    req.body = RefCell::new(Body::Memory(spec.body.unwrap_or_default()));
    shared
}

/// A subrequest of `parent` whose output goes into the parent's response: a GET with the parent's
/// headers, body and variables. `spec` may change it before anybody sees it.
pub fn create_inner(
    parent: &Rc<Request>,
    uri: Vec<u8>,
    args: Vec<u8>,
    spec: impl FnOnce(&mut Request),
) -> Rc<Request> {
    let mut req = Request::empty(parent.env.clone(), parent.conn.clone(), parent.server.borrow().clone());
    begin(&mut req, parent, uri, args);
    req.method = RefCell::new(b"GET".to_vec());
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
fn begin(req: &mut Request, parent: &Rc<Request>, uri: Vec<u8>, args: Vec<u8>) {
    let server = parent.server.borrow();
    req.conn = parent.conn.clone();
    req.parent = Some(parent.clone());
    *req.level.get_mut() = server.level.clone();
    *req.server.get_mut() = server.clone();
    req.start_ms = clock::now_ms();
    req.version = parent.version;
    (req.line, req.target, req.head_len) = (parent.line, parent.target, parent.head_len);
    req.headers.get_mut().copy(&parent.headers.borrow());
    req.host.get_mut().extend_from_slice(&parent.host.borrow());
    *req.uri.get_mut() = uri;
    *req.args.get_mut() = args;
    req.internal.set(true);
    req.keepalive.set(true);
    req.body = RefCell::new(Body::Discarded);
    req.response.get_mut().sink = Sink::Memory(Vec::new());
    req.peer.set(parent.peer.get());
}
