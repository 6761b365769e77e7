//! `server NAME resolve`: names of a group are looked up again whenever their answers grow old.
//!
//! One worker asks; what it finds is in the group's zone for all of them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Upstreams;
use super::resolvers::Resolvers;
use super::zone::GroupZone;
use crate::conf::model::{ErrorLogs, Level};
use crate::conf::upstream::Upstream;
use crate::cosocket::resolver::{Failure, Resolver};
use crate::log::Logs;

/// Least time between two lookups of a name.
const LEAST: Duration = Duration::from_secs(1);

/// Where lines about names go.
#[derive(Clone)]
pub struct Log {
    /// The worker's logs.
    pub logs: Arc<Logs>,
    /// Those of `http {}`.
    pub to: ErrorLogs,
}

/// Begins to watch the names of all groups. The tasks end with the worker's runtime, or when `draining` says
/// that the worker leaves.
pub fn begin(ups: &Upstreams, resolvers: &Resolvers, log: &Log, draining: &Rc<tokio::sync::Notify>) {
    for group in ups.iter() {
        let (Some(zone), Some((line, timeout_ms))) = (group.peers.zone(), &group.conf.resolver) else {
            continue;
        };
        for (at, server) in group.conf.servers.iter().enumerate() {
            let Some((host, port)) = server.resolve.clone() else { continue };
            let name = Watched {
                zone: zone.clone(),
                conf: group.conf.clone(),
                resolver: resolvers.of(line),
                timeout: Duration::from_millis(*timeout_ms),
                at,
                host,
                port,
                log: log.clone(),
            };
            let draining = draining.clone();
            tokio::task::spawn_local(async move {
                tokio::select! {
                    () = name.watch() => {}
                    () = draining.notified() => {}
                }
            });
        }
    }
}

/// One name.
struct Watched {
    zone: Arc<GroupZone>,
    conf: Arc<Upstream>,
    resolver: Rc<Resolver>,
    timeout: Duration,
    at: usize,
    host: String,
    port: u16,
    log: Log,
}

impl Watched {
    async fn watch(self) {
        loop {
            let wait = match tokio::time::timeout(self.timeout, self.resolver.lookup(&self.host)).await {
                Ok(Ok((found, valid))) => {
                    let addrs: Vec<SocketAddr> =
                        found.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect();
                    self.set(&addrs);
                    valid
                }
                Ok(Err(failure)) => {
                    self.failed(failure);
                    if failure == Failure::NOT_FOUND {
                        self.set(&[]);
                    }
                    self.timeout
                }
                Err(_) => {
                    self.failed(Failure::TIMED_OUT);
                    self.timeout
                }
            };
            tokio::time::sleep(wait.max(LEAST)).await;
        }
    }

    fn set(&self, addrs: &[SocketAddr]) {
        let left_out = self.zone.resolved(&self.conf, self.at, addrs);
        if left_out > 0 {
            let line = format!(
                "no room for {left_out} addresses of \"{}\" in the zone of upstream \"{}\"",
                self.host, self.conf.name
            );
            self.log.logs.error(&self.log.to, Level::Error, None, line.as_bytes());
        }
    }

    fn failed(&self, failure: Failure) {
        let line = format!("{} could not be resolved ({failure})", self.host);
        self.log.logs.error(&self.log.to, Level::Error, None, line.as_bytes());
    }
}
