//! Requests that a request makes inside the server; their response goes to memory, or in its order into
//! the response of the request that made them.

use std::cell::RefCell;
use std::rc::Rc;

use super::Request;
use super::body::{Body, BodyFile};
use super::response::Response;
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
    let mut req = Request::empty(parent.env.clone(), parent.conn.clone(), parent.server.borrow().clone());
    req.parent = Some(parent.clone());
    req.start_ms = clock::now_ms();
    req.method = RefCell::new(b"GET".to_vec());
    req.version = parent.version;
    (req.line, req.target, req.head_len) = (parent.line, parent.target, parent.head_len);
    req.headers = RefCell::new(parent.headers.borrow().clone());
    req.host = RefCell::new(parent.host.borrow().clone());
    req.uri = RefCell::new(uri);
    req.args = RefCell::new(args);
    req.internal.set(true);
    req.keepalive.set(true);
    req.body = RefCell::new(Body::Discarded);
    req.response = RefCell::new(Response::into_memory());
    req.peer.set(parent.peer.get());
    req
}
