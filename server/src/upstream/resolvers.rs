//! The resolvers of a worker, one for each `resolver` line of the configuration.
//!
//! Without such a line names go to the system's settings (`hosts`,
//! `resolv.conf`); upstream has no names then, and so do strict phases.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::worker::LuaWorker;
use crate::conf::model::{self, Level};
use crate::cosocket::error::io_detail;
use crate::cosocket::resolver::{Complain, Resolver, Source};

/// All resolvers, made when first needed.
#[derive(Default)]
pub struct Resolvers {
    by_line: RefCell<Vec<(Arc<model::Resolver>, Rc<Resolver>)>>,
    system: OnceCell<Rc<Resolver>>,
}

impl Resolvers {
    /// The resolver of a line; without one the system's, unless phases are strict.
    pub fn of(&self, w: &Rc<LuaWorker>, line: Option<&Arc<model::Resolver>>) -> Option<Rc<Resolver>> {
        let Some(line) = line else {
            let system = || Resolver::new(Source::system(), None, true, true, complaints(w));
            return (!w.strict()).then(|| self.system.get_or_init(system).clone());
        };
        let mut list = self.by_line.borrow_mut();
        if let Some((_, found)) = list.iter().find(|(known, _)| Arc::ptr_eq(known, line)) {
            return Some(found.clone());
        }
        let source = match &line.local {
            Some(file) => Source::File(line.servers.clone(), file.clone()),
            None => Source::Servers(line.servers.clone()),
        };
        let made = Resolver::new(source, line.valid_ms, line.ipv4, line.ipv6, complaints(w));
        list.push((line.clone(), made.clone()));
        Some(made)
    }
}

/// nginx's line about a name server that cannot be talked to.
fn complaints(w: &Rc<LuaWorker>) -> Complain {
    let w = Rc::downgrade(w);
    Rc::new(move |call, error, server| {
        let Some(w) = w.upgrade() else { return };
        let usual = matches!(
            error.raw_os_error(),
            Some(
                libc::ECONNREFUSED
                    | libc::ECONNRESET
                    | libc::ETIMEDOUT
                    | libc::ENETUNREACH
                    | libc::EHOSTUNREACH
            )
        );
        let level = if usual { Level::Error } else { Level::Alert };
        let line = format!("{call} failed ({}) while resolving, resolver: {server}", io_detail(error));
        w.log_plain(level, line.as_bytes());
    })
}
