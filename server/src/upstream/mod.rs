//! Passing requests on to other servers: groups of servers, connections, `proxy_pass`.
//!
//! `peer` chooses, `zone` shows all workers how the servers stand, `resolvers` and `watch` find the
//! addresses of names, `link` connects and keeps idle connections, `create` and `send` make the request,
//! `head`, `headers` and `pipe` take the response, `proxy` leads one request through all of it. Scripts
//! that choose servers are reached through `flow::Scripts`; nothing here knows Lua.

pub mod create;
mod destination;
pub mod head;
pub mod headers;
pub mod link;
pub mod peer;
pub mod pipe;
pub mod proxy;
pub mod resolvers;
mod respond;
mod secure;
pub mod send;
mod talk;
pub mod tunnel;
pub mod watch;
pub mod zone;

use std::rc::Rc;
use std::sync::Arc;

use crate::conf::model::HttpConf;
use crate::conf::upstream::{PeerAddr, Upstream, UpstreamId, UpstreamServer};

use link::Pool;
use peer::Peers;
use zone::GroupZone;

/// A group in a worker.
pub struct Group {
    /// What the configuration says.
    pub conf: Arc<Upstream>,
    /// Its servers.
    pub peers: Rc<Peers>,
    /// Idle connections, if any are kept.
    pub pool: Option<Rc<Pool>>,
    /// Idle connections to servers that a balancer script has chosen.
    pub script_pool: Rc<Pool>,
}

/// All groups of a worker.
pub struct Upstreams {
    groups: Vec<Rc<Group>>,
}

impl Upstreams {
    /// The groups of a configuration, with the zones of those that have one.
    pub fn new(http: &HttpConf, zones: &[Option<Arc<GroupZone>>]) -> Rc<Upstreams> {
        let zones = zones.iter().cloned().chain(std::iter::repeat(None));
        let groups = http
            .upstreams
            .iter()
            .zip(zones)
            .map(|(conf, zone)| {
                Rc::new(Group {
                    conf: conf.clone(),
                    peers: Rc::new(Peers::new(conf, zone)),
                    pool: conf.keepalive.map(|k| Pool::new(k.max)),
                    script_pool: Pool::new(conf.balancer_keepalive),
                })
            })
            .collect();
        Rc::new(Upstreams { groups })
    }

    /// A group by its number.
    pub fn get(&self, id: UpstreamId) -> &Rc<Group> {
        &self.groups[id.0]
    }

    /// All groups.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Group>> {
        self.groups.iter()
    }

    /// The group of a host, with the port if one was written.
    pub fn find(&self, host: &str, port: Option<u16>) -> Option<&Rc<Group>> {
        self.groups.iter().find(|group| {
            group.conf.name.eq_ignore_ascii_case(host)
                && match port {
                    None => group.conf.explicit || group.conf.port == 80,
                    Some(port) => group.conf.port == port,
                }
        })
    }

    /// The worker stops: idle connections are closed.
    pub fn drain(&self) {
        for group in &self.groups {
            if let Some(pool) = &group.pool {
                pool.clear();
            }
            group.script_pool.clear();
        }
    }
}

impl Upstreams {
    /// A group that lives as long as one request: addresses that a name had just now.
    pub fn passing(&self, host: &str, addrs: Vec<PeerAddr>) -> Rc<Group> {
        let server = UpstreamServer::plain(host.to_owned(), addrs);
        let conf = Arc::new(Upstream::implicit(host, 0, server));
        Rc::new(Group {
            peers: Rc::new(Peers::new(&conf, None)),
            conf,
            pool: None,
            script_pool: Pool::new(0),
        })
    }
}
