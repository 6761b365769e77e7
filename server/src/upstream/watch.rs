//! `server NAME resolve`, `server NAME service=SERVICE resolve`: names of a group are looked up again whenever their
//! answers grow old.
//!
//! One worker asks; what it finds is in the group's zone for all of them.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::Upstreams;
use super::resolvers::Resolvers;
use super::zone::{Found, GroupZone};
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
                service: server.service.clone(),
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
    service: Option<String>,
    log: Log,
}

impl Watched {
    async fn watch(self) {
        loop {
            let wait = match tokio::time::timeout(self.timeout, self.look()).await {
                Ok(Ok((found, valid))) => {
                    self.set(&found);
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

    async fn look(&self) -> Result<(Vec<Found>, Duration), Failure> {
        let backup = self.conf.servers[self.at].backup;
        let Some(service) = &self.service else {
            let (found, valid) = self.resolver.lookup(&self.host).await?;
            let found = found.into_iter().map(|ip| Found::plain(SocketAddr::new(ip, self.port), backup));
            return Ok((found.collect(), valid));
        };
        let (places, valid) = self.resolver.lookup_service(service, &self.host).await?;
        let mut failed = None;
        let first = places.iter().filter(|p| p.found.is_ok()).map(|p| p.at.priority).min();
        let mut found = Vec::new();
        for place in places {
            match place.found {
                Ok(ips) => found.extend(ips.into_iter().map(|ip| Found {
                    addr: SocketAddr::new(ip, place.at.port),
                    weight: Some(i64::from(place.at.weight.max(1))),
                    backup: backup || Some(place.at.priority) != first,
                })),
                Err(failure) => {
                    let line = format!(
                        "{} could not be resolved ({failure}) while resolving service {service} of {}",
                        place.at.target, self.host
                    );
                    self.log.logs.error(&self.log.to, Level::Error, None, line.as_bytes());
                    failed = Some(failure);
                }
            }
        }
        match failed {
            Some(failure) if found.is_empty() => Err(failure),
            _ => Ok((found, valid)),
        }
    }

    fn set(&self, found: &[Found]) {
        let left_out = self.zone.resolved(&self.conf, self.at, found);
        if left_out > 0 {
            let line = format!(
                "no room for {left_out} addresses of \"{}\" in the zone of upstream \"{}\"",
                self.host, self.conf.name
            );
            self.log.logs.error(&self.log.to, Level::Error, None, line.as_bytes());
        }
    }

    fn failed(&self, failure: Failure) {
        let line = match &self.service {
            None => format!("{} could not be resolved ({failure})", self.host),
            Some(service) => format!("service {service} of {} could not be resolved ({failure})", self.host),
        };
        self.log.logs.error(&self.log.to, Level::Error, None, line.as_bytes());
    }
}
