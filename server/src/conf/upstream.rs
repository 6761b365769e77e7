//! Groups of upstream servers as the configuration gives them: addresses, weights, methods.
//!
//! `upstream {}` blocks are explicit groups; a `proxy_pass` to a host makes an implicit one. Names are
//! resolved when everything was read. Must not know: connections, requests.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;

use super::error::{ConfError, Place};
use super::model::{LuaCode, Resolver};
use super::variables::Script;

/// Index into `HttpConf::upstreams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamId(pub usize);

/// An address that can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerAddr {
    /// TCP.
    Inet(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for PeerAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PeerAddr::Inet(addr) => write!(f, "{addr}"),
            PeerAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A `server` line of a group.
#[derive(Clone, Debug)]
pub struct UpstreamServer {
    /// As written.
    pub name: String,
    /// What it stands for; a name may have several addresses.
    pub addrs: Vec<PeerAddr>,
    /// Its share of the requests.
    pub weight: i64,
    /// Connections at a time; 0 is no limit.
    pub max_conns: u64,
    /// Failures within `fail_timeout_s` after which it rests; 0 never rests.
    pub max_fails: u64,
    /// How long, in seconds, failures count and a failed server rests.
    pub fail_timeout_s: u64,
    /// Asked only when the others cannot be.
    pub backup: bool,
    /// Never asked.
    pub down: bool,
    /// `resolve`: host and port whose addresses are looked up again and again.
    pub resolve: Option<(String, u16)>,
    /// `service=`: what is looked up is where this service of the host is.
    pub service: Option<String>,
}

impl UpstreamServer {
    /// A server of which nothing but its addresses is said.
    pub fn plain(name: String, addrs: Vec<PeerAddr>) -> UpstreamServer {
        UpstreamServer {
            name,
            addrs,
            weight: 1,
            max_conns: 0,
            max_fails: 1,
            fail_timeout_s: 10,
            backup: false,
            down: false,
            resolve: None,
            service: None,
        }
    }

    /// What its addresses are known by: the name as written, with the service in front where there is one.
    pub fn label(&self) -> String {
        self.service.as_ref().map_or_else(|| self.name.clone(), |service| format!("{service}.{}", self.name))
    }
}

/// How a group chooses.
#[derive(Clone, Debug, Default)]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// The one with the fewest connections for its weight.
    LeastConn,
    /// By the client's address.
    IpHash,
    /// By a key.
    Hash {
        /// The key.
        key: Script,
        /// Ketama: most keys keep their server when servers come and go.
        consistent: bool,
    },
    /// By chance, by weight.
    Random {
        /// The better one, by connections, of two.
        two: bool,
    },
}

/// `keepalive` and its kin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamKeepalive {
    /// Idle connections kept per worker; 0 keeps none.
    pub max: usize,
    /// A connection serves only the location whose request made it.
    pub local: bool,
    /// Requests on one connection.
    pub requests: u64,
    /// How old a connection may grow.
    pub time_ms: u64,
    /// How long it may idle.
    pub timeout_ms: u64,
}

/// A group.
#[derive(Debug)]
pub struct Upstream {
    /// Its name, or the host of an implicit one.
    pub name: String,
    /// The port of an implicit one; 0 for blocks.
    pub port: u16,
    /// Whether an `upstream {}` block describes it.
    pub explicit: bool,
    /// Its servers, in order; never empty.
    pub servers: Vec<UpstreamServer>,
    /// How one is chosen.
    pub balance: Balance,
    /// Idle connections; implicit groups keep none.
    pub keepalive: Option<UpstreamKeepalive>,
    /// `zone`: the counters are shared by all workers.
    pub zone: Option<Zone>,
    /// `balancer_by_lua*`.
    pub balancer: Option<Arc<LuaCode>>,
    /// No server is given: one stands in, and only the script can choose.
    pub placeholder: bool,
    /// `balancer_keepalive`: idle connections to servers that the script has chosen.
    pub balancer_keepalive: usize,
    /// Who looks names up at run time, and how long that may take.
    pub resolver: Option<(Arc<Resolver>, u64)>,
}

/// Idle connections kept for a balancer script when no directive says how many.
const BALANCER_KEEPALIVE: usize = 30;

/// `zone NAME [SIZE]` of a group.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its size in bytes; 0 when another group gives it.
    pub size_bytes: usize,
    /// Where it was written.
    pub place: Place,
}

/// A group while the configuration is read.
#[derive(Debug)]
pub struct UpstreamDraft {
    /// Name or host.
    pub name: String,
    /// Port of an implicit group; 0 when none was given.
    pub port: u16,
    /// Whether the implicit group was named without a port.
    pub no_port: bool,
    /// The address, when the host is one.
    pub literal: Option<PeerAddr>,
    /// Where it was named first.
    pub place: Place,
    /// The block, if one was seen.
    pub block: Option<UpstreamBlock>,
}

/// What an `upstream {}` block says.
#[derive(Debug, Default)]
pub struct UpstreamBlock {
    /// `server` lines.
    pub servers: Vec<UpstreamServer>,
    /// The method, when one is given.
    pub balance: Option<Balance>,
    /// `keepalive`: number and `local`.
    pub keepalive: Option<(usize, bool)>,
    /// `keepalive_requests`.
    pub keepalive_requests: Option<u64>,
    /// `keepalive_time`.
    pub keepalive_time_ms: Option<u64>,
    /// `keepalive_timeout`.
    pub keepalive_timeout_ms: Option<u64>,
    /// `zone`.
    pub zone: Option<Zone>,
    /// `balancer_by_lua*`.
    pub balancer: Option<Arc<LuaCode>>,
    /// `balancer_keepalive`.
    pub balancer_keepalive: Option<usize>,
    /// `resolver`, where the block has one of its own.
    pub resolver: Option<Arc<Resolver>>,
    /// `resolver_timeout`, likewise.
    pub resolver_timeout_ms: Option<u64>,
}

impl Upstream {
    /// The group of one server that no block describes.
    pub fn implicit(name: &str, port: u16, server: UpstreamServer) -> Upstream {
        Upstream {
            name: name.to_owned(),
            port,
            explicit: false,
            servers: vec![server],
            balance: Balance::RoundRobin,
            keepalive: None,
            zone: None,
            balancer: None,
            placeholder: false,
            balancer_keepalive: BALANCER_KEEPALIVE,
            resolver: None,
        }
    }

    /// Whether addresses of its servers are looked up at run time.
    pub fn resolves(&self) -> bool {
        self.servers.iter().any(|server| server.resolve.is_some())
    }
}

impl UpstreamDraft {
    /// The finished group. Names of implicit groups are resolved here; the error is nginx's. `outer` is the
    /// resolver of `http {}`.
    pub fn finish(self, outer: (Option<&Arc<Resolver>>, u64)) -> Result<Upstream, ConfError> {
        let Some(mut block) = self.block else {
            let addrs = match self.literal {
                Some(addr) => vec![addr],
                None if self.port == 0 => {
                    return Err(ConfError::at(&self.place, format!("no port in upstream \"{}\"", self.name)));
                }
                None => resolve(&self.name, self.port).ok_or_else(|| {
                    ConfError::at(&self.place, format!("host not found in upstream \"{}\"", self.name))
                })?,
            };
            let server = UpstreamServer::plain(self.name.clone(), addrs);
            return Ok(Upstream::implicit(&self.name, self.port, server));
        };
        let placeholder = block.servers.is_empty() && block.balancer.is_some();
        if placeholder {
            let nobody = PeerAddr::Inet(SocketAddr::from(([0, 0, 0, 1], 80)));
            block.servers.push(UpstreamServer::plain("0.0.0.1".to_owned(), vec![nobody]));
        }
        if block.servers.iter().all(|server| server.backup) {
            return Err(ConfError::at(&self.place, format!("no servers in upstream \"{}\"", self.name)));
        }
        let resolver = block.resolver.or_else(|| outer.0.cloned());
        let resolver = resolver.map(|r| (r, block.resolver_timeout_ms.unwrap_or(outer.1)));
        if block.servers.iter().any(|server| server.resolve.is_some()) {
            let fail = |why: &str, end: &str| {
                let place = format!("\"{}\" in {}:{}", self.name, self.place.file.display(), self.place.line);
                Err(ConfError::whole(format!("{why} upstream {place}{end}")))
            };
            if block.zone.is_none() {
                return fail("resolving names at run time requires", " to be in shared memory");
            }
            if resolver.is_none() {
                return fail("no resolver defined to resolve names at run time in", "");
            }
        }
        let (max, local) = block.keepalive.unwrap_or((32, true));
        let keepalive = UpstreamKeepalive {
            max,
            local,
            requests: block.keepalive_requests.unwrap_or(1000),
            time_ms: block.keepalive_time_ms.unwrap_or(3_600_000),
            timeout_ms: block.keepalive_timeout_ms.unwrap_or(60_000),
        };
        Ok(Upstream {
            name: self.name,
            port: 0,
            explicit: true,
            servers: block.servers,
            balance: block.balance.unwrap_or_default(),
            keepalive: (max > 0).then_some(keepalive),
            zone: block.zone,
            balancer: block.balancer,
            placeholder,
            balancer_keepalive: block.balancer_keepalive.unwrap_or(BALANCER_KEEPALIVE),
            resolver,
        })
    }
}

/// All addresses of a host, IPv4 ones first as nginx has them.
pub fn resolve(host: &str, port: u16) -> Option<Vec<PeerAddr>> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let mut addrs: Vec<SocketAddr> = (bare, port).to_socket_addrs().ok()?.collect();
    addrs.sort_by_key(SocketAddr::is_ipv6);
    addrs.dedup();
    (!addrs.is_empty()).then(|| addrs.into_iter().map(PeerAddr::Inet).collect())
}
