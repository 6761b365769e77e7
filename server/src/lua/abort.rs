//! Clients that go away while a handler runs: noticed where `lua_check_client_abort` is on.
//!
//! The handler ends with status 499, unless it asked to be told by `ngx.on_abort`.

use std::rc::Rc;
use std::task::Context;

use moonlit_vm::host::native::Vm;

use super::thread::{Light, Run};
use super::worker::Rooted;
use crate::conf::model::Level;
use crate::flow::Verdict;
use crate::phase::Phase;
use crate::request::body::Body;

/// What is to happen when the client goes away.
#[derive(Default)]
pub enum OnAbort {
    /// The handler ends.
    #[default]
    End,
    /// A function is called in a light thread.
    Call {
        /// The function.
        f: Rooted,
        /// Who asked for it.
        parent: Rc<Light>,
    },
    /// It has been called.
    Called,
}

impl OnAbort {
    /// Drops the function: the run is over.
    pub(super) fn forget(&mut self) {
        *self = OnAbort::End;
    }
}

impl Run {
    /// Whether somebody asked to be told.
    pub fn has_on_abort(&self) -> bool {
        !matches!(*self.on_abort.borrow(), OnAbort::End)
    }

    /// Has `f` called when the client goes away.
    pub fn set_on_abort(&self, f: Rooted, parent: Rc<Light>) {
        *self.on_abort.borrow_mut() = OnAbort::Call { f, parent };
    }

    /// Looks whether the client is gone before the run goes on, so that what it waits for does not notice
    /// first. Who reads from the client is left to notice by itself.
    pub(super) fn watch_client_early(self: &Rc<Self>, vm: &mut Vm, cx: &mut Context<'_>) {
        let Some(req) = &self.req else { return };
        let reads = matches!(*req.body.borrow(), Body::Reading | Body::Taken) || req.response.borrow().taken;
        if !reads {
            self.watch_client(vm, cx);
        }
    }

    /// Looks whether the client is still there; the task is woken when it goes. To be called whenever the
    /// run waits.
    pub(super) fn watch_client(self: &Rc<Self>, vm: &mut Vm, cx: &mut Context<'_>) {
        let watched = matches!(
            self.phase,
            Phase::ServerRewrite | Phase::Rewrite | Phase::Access | Phase::Precontent | Phase::Content
        );
        let Some(req) = self.req.as_ref().filter(|req| watched && req.is_main()) else { return };
        if self.client_gone.get() || !req.location().lua_check_client_abort {
            return;
        }
        if req.conn.poll_gone(cx).is_pending() {
            return;
        }
        self.client_gone.set(true);
        req.log(Level::Info, b"client prematurely closed connection");
        let asked = std::mem::replace(&mut *self.on_abort.borrow_mut(), OnAbort::Called);
        match asked {
            OnAbort::Call { f, parent } => {
                let f = f.get(vm);
                self.spawn(vm, f, parent);
                self.advance(vm, cx);
            }
            OnAbort::End | OnAbort::Called => *self.outcome.borrow_mut() = Some(Verdict::Status(499)),
        }
    }
}
