//! `mirror`: copies of a request, whose answers nobody looks at.
//!
//! They run beside the request; the client waits for none of them.

use std::rc::Rc;

use super::filters::drive;
use super::{Run, Verdict, Worker, engine};
use crate::http1::conn::{Conn, Transport};
use crate::request::Request;
use crate::request::body::{BodyError, read_body};
use crate::request::subrequest::create_inner;

/// Sends the copies that the location asks for. With `mirror_request_body` the body is read first, which all
/// of them have then.
pub fn run(w: &Rc<Worker>, req: &Rc<Request>) -> Run {
    if !req.is_main() || req.location().parts.mirrors.is_empty() {
        return Run::Ready(Verdict::Next);
    }
    if !req.location().filters.mirror_request_body {
        send(w, req);
        return Run::Ready(Verdict::Next);
    }
    let (w, req) = (w.clone(), req.clone());
    Run::Wait(Box::pin(async move {
        match read_body(&req).await {
            Ok(()) => {
                send(&w, &req);
                Verdict::Next
            }
            Err(BodyError::Status(status)) => Verdict::Status(status),
            Err(BodyError::Gone) => Verdict::Status(499),
        }
    }))
}

fn send(w: &Rc<Worker>, req: &Rc<Request>) {
    let mirrors = req.location().parts.mirrors.clone();
    for uri in mirrors.into_iter().flatten() {
        let child = create_inner(req, uri.into(), req.args.borrow().clone(), |child| {
            *child.method.get_mut() = req.method.borrow().clone();
            child.response.get_mut().only_head();
            detach(child);
        });
        let w = w.clone();
        tokio::task::spawn_local(async move {
            drive(&w, &child).await;
            engine::log(&w, &child).await;
        });
    }
}

/// Lets go of the client: its connection goes on without the copy, and neither may take the other's wake-ups.
fn detach(child: &mut Request) {
    let (own, other) = tokio::io::duplex(1);
    let client = child.conn.clone();
    let conn = Conn::new(Transport::Other(Box::new(own)), client.peer, client.local, client.serial);
    conn.requests.set(client.requests.get());
    if let Some(secured) = client.secured.get() {
        // The copy came as the request did.
        let _ = conn.secured.set(secured.clone());
    }
    child.conn = Rc::new(conn);
    // While this is there the connection looks open.
    child.at_end.get_mut().push(Box::new(other));
}
