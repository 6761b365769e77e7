//! Output of subrequests in its place: what comes before a subrequest goes out before it, what comes
//! behind it waits.
//!
//! Every request has a queue of pieces that may not go out yet: bytes of its own, and children whose
//! output goes into its response. A request's bytes go straight out when its queue is empty and
//! everything in front of it in its ancestors' queues is out.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Request;
use super::response::{Chunk, Sink, commit_body};

/// A piece that waits.
pub enum Piece {
    /// Bytes of the request's own.
    Data(Chunk),
    /// A child, until it is over.
    Child(Rc<Request>),
}

/// The pieces of one request, in order.
pub type Queue = VecDeque<Piece>;

/// Puts a child behind everything that `parent` has produced so far.
pub fn attach(parent: &Request, child: &Rc<Request>) {
    parent.queue.borrow_mut().push_back(Piece::Child(child.clone()));
}

/// Whether the request's bytes go to another request's response.
pub fn is_inner(req: &Request) -> bool {
    matches!(req.response.borrow().sink, Sink::Parent)
}

/// The request whose response the bytes end up in.
fn outlet(req: &Rc<Request>) -> Rc<Request> {
    let mut at = req.clone();
    while is_inner(&at) {
        match at.parent.clone() {
            Some(parent) => at = parent,
            None => break,
        }
    }
    at
}

/// Whether everything in front of the request is out.
fn is_next(req: &Rc<Request>) -> bool {
    let mut at = req.clone();
    while is_inner(&at) {
        let Some(parent) = at.parent.clone() else { return true };
        match parent.queue.borrow().front() {
            Some(Piece::Child(child)) if Rc::ptr_eq(child, &at) => {}
            _ => return false,
        }
        at = parent;
    }
    true
}

/// Takes a chunk that has gone through the request's filters.
pub fn emit(req: &Rc<Request>, chunk: Chunk) {
    if is_inner(req) {
        req.response.borrow_mut().done |= chunk.last;
        if (chunk.data.is_empty() || req.response.borrow().header_only) && !chunk.flush {
            return;
        }
    }
    if req.queue.borrow().is_empty() && is_next(req) {
        write(req, chunk);
    } else {
        req.queue.borrow_mut().push_back(Piece::Data(chunk));
    }
}

/// Puts bytes into the response they belong to.
fn write(req: &Rc<Request>, mut chunk: Chunk) {
    let to = outlet(req);
    if !Rc::ptr_eq(&to, req) {
        chunk.last = false;
    }
    if chunk.flush {
        to.flushing.set(true);
    }
    let mut filters = std::mem::take(&mut to.response.borrow_mut().outer_filters);
    let result = filters.iter_mut().try_for_each(|f| f.run(&to, &mut chunk));
    to.response.borrow_mut().outer_filters = filters;
    match result {
        Ok(()) => commit_body(&to, &chunk),
        Err(text) => {
            to.log(crate::conf::model::Level::Alert, text.as_bytes());
            to.keepalive.set(false);
            to.response.borrow_mut().fail();
        }
    }
}

/// Sends what may go out now, from this request downwards.
fn flush(req: &Rc<Request>) {
    loop {
        let front = req.queue.borrow_mut().pop_front();
        match front {
            None => return,
            Some(Piece::Data(chunk)) => write(req, chunk),
            Some(Piece::Child(child)) => {
                // It has to be in its place while its own pieces are looked at.
                req.queue.borrow_mut().push_front(Piece::Child(child.clone()));
                flush(&child);
                if !child.over.get() || !child.queue.borrow().is_empty() {
                    return;
                }
                req.queue.borrow_mut().pop_front();
            }
        }
    }
}

/// The request is over; what waited for it goes on.
pub fn finished(req: &Rc<Request>) {
    req.over.set(true);
    if !is_inner(req) {
        return;
    }
    let to = outlet(req);
    flush(&to);
    to.response.borrow_mut().wake();
    req.response.borrow_mut().wake();
}

/// Forgets everything that waits: the request ends early.
pub fn clear(req: &Request) {
    let pieces = std::mem::take(&mut *req.queue.borrow_mut());
    for piece in pieces {
        if let Piece::Child(child) = piece {
            clear(&child);
        }
    }
}
