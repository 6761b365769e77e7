//! The resolvers of a worker, one for each `resolver` line of the configuration, shared by everything in it.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::conf::model::{self, Config, Level};
use crate::cosocket::error::io_detail;
use crate::cosocket::resolver::{Complain, Resolver, Source};
use crate::log::Logs;

/// All resolvers, made when first needed.
pub struct Resolvers {
    complain: Complain,
    by_line: RefCell<Vec<(Arc<model::Resolver>, Rc<Resolver>)>>,
    system: OnceCell<Rc<Resolver>>,
}

impl Resolvers {
    /// None of them yet. What goes wrong with name servers is told to the log.
    pub fn new(config: &Arc<Config>, logs: &Arc<Logs>) -> Rc<Resolvers> {
        let complain = complaints(config.clone(), logs.clone());
        Rc::new(Resolvers { complain, by_line: RefCell::default(), system: OnceCell::new() })
    }

    /// The resolver of a line.
    pub fn of(&self, line: &Arc<model::Resolver>) -> Rc<Resolver> {
        let mut list = self.by_line.borrow_mut();
        if let Some((_, found)) = list.iter().find(|(known, _)| Arc::ptr_eq(known, line)) {
            return found.clone();
        }
        let source = match &line.local {
            Some(file) => Source::File(line.servers.clone(), file.clone()),
            None => Source::Servers(line.servers.clone()),
        };
        let made = Resolver::new(source, line.valid_ms, line.ipv4, line.ipv6, self.complain.clone());
        list.push((line.clone(), made.clone()));
        made
    }

    /// The one that follows the system's settings.
    pub fn system(&self) -> Rc<Resolver> {
        let system = || Resolver::new(Source::system(), None, true, true, self.complain.clone());
        self.system.get_or_init(system).clone()
    }
}

/// nginx's line about a name server that cannot be talked to.
fn complaints(config: Arc<Config>, logs: Arc<Logs>) -> Complain {
    Rc::new(move |call, error, server| {
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
        let to = config.http.as_ref().map_or(&config.error_logs, |http| &http.level.error_logs);
        logs.error(to, level, None, line.as_bytes());
    })
}
