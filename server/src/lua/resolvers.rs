//! The resolvers of a worker, one for each `resolver` line of the configuration.
//!
//! Without such a line names go to the system's settings (`hosts`,
//! `resolv.conf`); upstream has no names then, and so do strict phases.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::conf::model;
use crate::cosocket::resolver::{Resolver, Source};

/// All resolvers, made when first needed.
#[derive(Default)]
pub struct Resolvers {
    by_line: RefCell<Vec<(Arc<model::Resolver>, Rc<Resolver>)>>,
    system: OnceCell<Rc<Resolver>>,
}

impl Resolvers {
    /// The resolver of a line; without one the system's, unless `strict`.
    pub fn of(&self, line: Option<&Arc<model::Resolver>>, strict: bool) -> Option<Rc<Resolver>> {
        let Some(line) = line else {
            let system = || Resolver::new(Source::system(), None, true, true);
            return (!strict).then(|| self.system.get_or_init(system).clone());
        };
        let mut list = self.by_line.borrow_mut();
        if let Some((_, found)) = list.iter().find(|(known, _)| Arc::ptr_eq(known, line)) {
            return Some(found.clone());
        }
        let source = match &line.local {
            Some(file) => Source::File(line.servers.clone(), file.clone()),
            None => Source::Servers(line.servers.clone()),
        };
        let made = Resolver::new(source, line.valid_ms, line.ipv4, line.ipv6);
        list.push((line.clone(), made.clone()));
        Some(made)
    }
}
