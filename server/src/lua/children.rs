//! Subrequests of a run: driven between two visits to the VM, as part of the task that drives the run.

use std::rc::Rc;
use std::task::Context;

use super::thread::Run;
use crate::flow::{Wait, Worker, engine, filters};
use crate::request::Request;

/// A subrequest under way.
pub struct Child {
    req: Rc<Request>,
    /// `None` before the first poll.
    work: Option<Wait<()>>,
}

impl Child {
    /// Not begun.
    pub fn new(req: Rc<Request>) -> Child {
        Child { req, work: None }
    }

    /// Whether this is the way of that request.
    pub fn is_of(&self, req: &Rc<Request>) -> bool {
        Rc::ptr_eq(&self.req, req)
    }

    /// True when it is over.
    fn poll(&mut self, w: &Rc<Worker>, cx: &mut Context<'_>) -> bool {
        let work = self.work.get_or_insert_with(|| {
            let (w, req) = (w.clone(), self.req.clone());
            Box::pin(async move {
                filters::drive(&w, &req).await;
                engine::log(&w, &req).await;
            })
        });
        work.as_mut().poll(cx).is_ready()
    }
}

impl Run {
    /// Drives the subrequests. True when one of them is over: whoever waits for it can go on. To be called outside
    /// of the VM.
    pub(super) fn poll_children(&self, cx: &mut Context<'_>) -> bool {
        if self.children.borrow().is_empty() {
            return false;
        }
        let Some(w) = self.worker.flow.get() else { return false };
        // What runs here may end others, so none is borrowed while it does.
        let mut under_way = std::mem::take(&mut *self.children.borrow_mut());
        let before = under_way.len();
        under_way.retain_mut(|child| !child.poll(w, cx));
        let over = under_way.len() < before;
        let mut children = self.children.borrow_mut();
        under_way.append(&mut children);
        *children = under_way;
        over
    }
}
