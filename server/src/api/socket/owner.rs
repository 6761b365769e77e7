//! To whom a socket belongs, and that it is closed with its owner.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use crate::cosocket::tcp::{Socket, WeakSocket};
use crate::cosocket::udp::{Datagrams, WeakDatagrams};
use crate::lua::thread::Run;
use crate::lua::worker::here;
use crate::request::Request;

/// The request or, outside of one, the run that a socket belongs to.
#[derive(Clone)]
pub(super) enum Owner {
    /// A request, by its number.
    Request(u64),
    /// A timer, or the start or end of the worker.
    Run(Weak<Run>),
}

impl Owner {
    /// That of the running code.
    pub(super) fn current() -> Option<Owner> {
        let w = here();
        match (w.request(), w.run()) {
            (Some(req), _) => Some(Owner::Request(req.id)),
            (None, Some(run)) => Some(Owner::Run(Rc::downgrade(&run))),
            (None, None) => None,
        }
    }

    /// Whether it is that of the running code.
    pub(super) fn is_current(&self) -> bool {
        match (self, Owner::current()) {
            (Owner::Request(a), Some(Owner::Request(b))) => *a == b,
            (Owner::Run(a), Some(Owner::Run(b))) => Weak::ptr_eq(a, &b),
            _ => false,
        }
    }
}

enum Open {
    Tcp(WeakSocket),
    Udp(WeakDatagrams),
}

/// The open sockets of an owner, in slots that are used again.
#[derive(Default)]
struct OpenSockets {
    slots: RefCell<Vec<Option<Open>>>,
    free: RefCell<Vec<usize>>,
}

/// What lies with the owner: dropped with it, it closes what is still open.
struct Closer(Rc<OpenSockets>);

impl Drop for Closer {
    fn drop(&mut self) {
        let all = std::mem::take(&mut *self.0.slots.borrow_mut());
        for open in all.into_iter().flatten() {
            match open {
                Open::Tcp(s) => s.abandon(),
                Open::Udp(s) => s.abandon(),
            }
        }
    }
}

/// What lies with an open socket: dropped with its connection, it gives the slot back.
struct Tie {
    set: Rc<OpenSockets>,
    slot: usize,
}

impl Drop for Tie {
    fn drop(&mut self) {
        let mut slots = self.set.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(self.slot) {
            *slot = None;
            self.set.free.borrow_mut().push(self.slot);
        }
    }
}

fn open_sockets() -> Option<Rc<OpenSockets>> {
    let w = here();
    // Sockets of a subrequest live as long as the request of the client.
    let main = |mut req: Rc<Request>| {
        while let Some(parent) = req.parent.clone() {
            req = parent;
        }
        req
    };
    let (req, run) = (w.request().map(main), w.run());
    let list = match (&req, &run) {
        (Some(req), _) => &req.at_end,
        (None, Some(run)) => &run.at_end,
        (None, None) => return None,
    };
    let mut list = list.borrow_mut();
    if let Some(closer) = list.iter().find_map(|x| x.downcast_ref::<Closer>()) {
        return Some(closer.0.clone());
    }
    let set = Rc::<OpenSockets>::default();
    list.push(Box::new(Closer(set.clone())));
    Some(set)
}

fn tie(open: Open) -> Option<Tie> {
    let set = open_sockets()?;
    let reused = set.free.borrow_mut().pop();
    let slot = match reused {
        Some(slot) => {
            here().debug(|| format!("lua http cleanup reuse: {slot}"));
            set.slots.borrow_mut()[slot] = Some(open);
            slot
        }
        None => {
            let mut slots = set.slots.borrow_mut();
            slots.push(Some(open));
            slots.len() - 1
        }
    };
    Some(Tie { set, slot })
}

/// Has a stream socket closed with the running code's request or run.
pub(super) fn tie_stream(socket: &Socket) {
    if let Some(tie) = tie(Open::Tcp(socket.downgrade())) {
        socket.set_tie(Box::new(tie));
    }
}

/// The same for a datagram socket.
pub(super) fn tie_datagrams(socket: &Datagrams) {
    if let Some(tie) = tie(Open::Udp(socket.downgrade())) {
        socket.set_tie(Box::new(tie));
    }
}
