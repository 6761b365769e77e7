//! The servers of a group and the choice among them: round robin, least connections, hashes, chance.
//!
//! The algorithms are nginx's, so that the same requests meet the same servers. Nothing here opens a
//! connection; `Picker` is told how a try went.

use std::cell::{RefCell, RefMut};
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::Arc;

use super::zone::{GroupZone, Held};
use crate::conf::upstream::{Balance, PeerAddr, Upstream, UpstreamServer};
use crate::http1::clock;

/// Choices by hash or chance before the servers are asked in turn.
const TRIES_MAX: u32 = 20;
/// Points on the ring per weight of a server.
const POINTS: usize = 160;

/// A server address.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address as shown in logs.
    pub name: Arc<str>,
    /// Where it is.
    pub addr: PeerAddr,
    /// The `server` line it comes from, as written.
    pub server: Arc<str>,
    /// Its share.
    pub weight: i64,
    /// Its share while it recovers.
    pub effective_weight: i64,
    /// Round robin's counter.
    pub current_weight: i64,
    /// Connections to it, at most `max_conns` if that is not 0.
    pub conns: u64,
    /// See `UpstreamServer`.
    pub max_conns: u64,
    /// Failures since the last success.
    pub fails: u64,
    /// See `UpstreamServer`.
    pub max_fails: u64,
    /// See `UpstreamServer`.
    pub fail_timeout_s: u64,
    /// When it failed last, seconds since 1970.
    pub accessed_s: u64,
    /// When its state was looked at last.
    pub checked_s: u64,
    /// Never asked.
    pub down: bool,
    /// The place is empty: its name has this address no more.
    pub gone: bool,
    /// Which one of those that had this place it is.
    pub(super) serial: u64,
}

impl Peer {
    /// One that was not asked yet.
    pub(super) fn new(conf: &UpstreamServer, server: Arc<str>, addr: &PeerAddr) -> Peer {
        Peer {
            name: addr.to_string().into(),
            addr: addr.clone(),
            server,
            weight: conf.weight,
            effective_weight: conf.weight,
            current_weight: 0,
            conns: 0,
            max_conns: conf.max_conns,
            fails: 0,
            max_fails: conf.max_fails,
            fail_timeout_s: conf.fail_timeout_s,
            accessed_s: 0,
            checked_s: 0,
            down: conf.down,
            gone: false,
            serial: 0,
        }
    }

    /// Another weight than that of the configuration.
    pub(super) fn set_weight(&mut self, weight: Option<i64>) {
        if let Some(weight) = weight {
            (self.weight, self.effective_weight) = (weight, weight);
        }
    }

    fn rests(&self, now_s: u64) -> bool {
        self.max_fails > 0
            && self.fails >= self.max_fails
            && now_s.saturating_sub(self.checked_s) <= self.fail_timeout_s
    }

    fn is_full(&self) -> bool {
        self.max_conns > 0 && self.conns >= self.max_conns
    }

    fn is_open(&self, now_s: u64) -> bool {
        !self.gone && !self.down && !self.rests(now_s) && !self.is_full()
    }
}

/// The servers of a group, by kind. A server keeps its place as long as it is there.
#[derive(Debug, Default)]
pub struct Lists {
    /// The ordinary ones.
    pub primary: Vec<Peer>,
    /// Those asked when no other can be.
    pub backup: Vec<Peer>,
    /// Points of a consistent hash with the name of their server, sorted.
    ring: Vec<(u32, Arc<str>)>,
    /// Which edition of the shared list this is.
    pub(super) edition: u64,
}

impl Lists {
    /// The ordinary ones or the others.
    pub fn of(&mut self, backup: bool) -> &mut Vec<Peer> {
        if backup { &mut self.backup } else { &mut self.primary }
    }

    fn is_single(&self) -> bool {
        live(&self.primary).count() == 1 && live(&self.backup).next().is_none()
    }
}

fn live(list: &[Peer]) -> impl Iterator<Item = &Peer> {
    list.iter().filter(|p| !p.gone)
}

/// The servers of a group in a worker; with a `zone` they stand for all workers.
#[derive(Debug)]
pub struct Peers {
    lists: RefCell<Lists>,
    zone: Option<Arc<GroupZone>>,
    conf: Arc<Upstream>,
    random: RefCell<u64>,
}

/// The servers as they stand now. With a zone nobody else sees or changes them until it is dropped.
pub struct View<'a> {
    lists: RefMut<'a, Lists>,
    zone: Option<Held<'a>>,
}

impl Deref for View<'_> {
    type Target = Lists;
    fn deref(&self) -> &Lists {
        &self.lists
    }
}

impl DerefMut for View<'_> {
    fn deref_mut(&mut self) -> &mut Lists {
        &mut self.lists
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        if let Some(held) = &mut self.zone {
            held.store(&self.lists);
        }
    }
}

impl Peers {
    /// The servers of a group, none of them asked yet.
    pub fn new(conf: &Arc<Upstream>, zone: Option<Arc<GroupZone>>) -> Peers {
        let mut lists = Lists::default();
        if zone.is_none() {
            lists.primary = listed(conf, false);
            lists.backup = listed(conf, true);
        }
        lists.ring = ring_of(conf, &lists.primary);
        let seed = clock::now_ms() ^ (u64::from(std::process::id()) << 32) | 1;
        Peers { lists: RefCell::new(lists), zone, conf: conf.clone(), random: RefCell::new(seed) }
    }

    /// The servers as they stand now.
    pub fn view(&self) -> View<'_> {
        let mut lists = self.lists.borrow_mut();
        let zone = self.zone.as_ref().map(|zone| {
            let held = zone.hold();
            if held.load(&self.conf, &mut lists) {
                lists.ring = ring_of(&self.conf, &lists.primary);
            }
            held
        });
        View { lists, zone }
    }

    /// Their zone, if they have one.
    pub fn zone(&self) -> Option<&Arc<GroupZone>> {
        self.zone.as_ref()
    }

    fn next_random(&self) -> u64 {
        let mut x = self.random.borrow_mut();
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        *x
    }
}

/// The servers that the configuration gives addresses for.
pub(super) fn listed(conf: &Upstream, backup: bool) -> Vec<Peer> {
    let servers = conf.servers.iter().filter(|s| s.backup == backup);
    servers
        .flat_map(|s| {
            let name: Arc<str> = s.label().into();
            s.addrs.iter().map(move |addr| Peer::new(s, name.clone(), addr))
        })
        .collect()
}

fn ring_of(conf: &Upstream, primary: &[Peer]) -> Vec<(u32, Arc<str>)> {
    match &conf.balance {
        Balance::Hash { consistent: true, .. } => ring(primary),
        _ => Vec::new(),
    }
}

/// Points of the servers on a ring, as Cache::Memcached::Fast places them.
fn ring(peers: &[Peer]) -> Vec<(u32, Arc<str>)> {
    let mut points = Vec::new();
    for peer in live(peers) {
        let name = peer.server.as_bytes();
        let (host, port): (&[u8], &[u8]) = if name.len() >= 5 && name[..5].eq_ignore_ascii_case(b"unix:") {
            (&name[5..], b"")
        } else {
            match memchr::memrchr(b':', name) {
                Some(at) if name[at + 1..].iter().all(u8::is_ascii_digit) => (&name[..at], &name[at + 1..]),
                _ => (name, b""),
            }
        };
        let mut base = crc32fast::Hasher::new();
        base.update(host);
        base.update(b"\0");
        base.update(port);
        let mut previous = 0u32;
        for _ in 0..usize::try_from(peer.weight).unwrap_or(1) * POINTS {
            let mut hasher = base.clone();
            hasher.update(&previous.to_le_bytes());
            previous = hasher.finalize();
            points.push((previous, peer.server.clone()));
        }
    }
    points.sort_by_key(|(hash, _)| *hash);
    points.dedup_by_key(|(hash, _)| *hash);
    points
}

/// What the choice of a request depends on.
#[derive(Clone, Debug, Default)]
pub struct Key {
    /// The value of `hash`'s key.
    pub hash: Vec<u8>,
    /// The client's address: three bytes of IPv4, sixteen of IPv6.
    pub ip: Vec<u8>,
}

/// How a try ended, for the server's standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Well.
    Well,
    /// With a status that asks for another server, but is no fault of this one.
    Next,
    /// In failure.
    Failed,
}

/// The choices of one request. Dropped, it gives the server chosen last back.
pub struct Picker {
    peers: Rc<Peers>,
    key: Key,
    in_backup: bool,
    tried: Vec<bool>,
    /// The server chosen last, not given back yet.
    current: Option<Chosen>,
    /// Tries that are left, the running one included.
    pub tries: u64,
    hash: u32,
    rehash: u32,
    skips: u32,
}

/// Where a server stands in its list, and which one it was.
struct Chosen {
    backup: bool,
    at: usize,
    serial: u64,
}

impl Picker {
    /// Begins the choices of a request.
    pub fn new(peers: &Rc<Peers>, key: Key) -> Picker {
        let mut view = peers.view();
        let lists = &mut *view;
        let hash = match &peers.conf.balance {
            Balance::Hash { consistent: true, .. } => {
                let hash = crc32fast::hash(&key.hash);
                let at = lists.ring.partition_point(|(point, _)| *point < hash);
                u32::try_from(at).unwrap_or(0)
            }
            Balance::IpHash => 89,
            _ => 0,
        };
        // Servers that the request may be passed on to, one after the other.
        let open = |list: &[Peer]| live(list).filter(|p| !p.down).count() as u64;
        let tries = open(&lists.primary) + open(&lists.backup);
        drop(view);
        Picker {
            peers: peers.clone(),
            key,
            in_backup: false,
            tried: Vec::new(),
            current: None,
            tries,
            hash,
            rehash: 0,
            skips: 0,
        }
    }

    /// The next server: its address and name. `None` when none is left.
    pub fn pick(&mut self) -> Option<(PeerAddr, Arc<str>)> {
        let peers = self.peers.clone();
        let mut view = peers.view();
        let at = self.choose(&mut view)?;
        let peer = &mut view.of(self.in_backup)[at];
        peer.conns += 1;
        let found = (peer.addr.clone(), peer.name.clone());
        self.current = Some(Chosen { backup: self.in_backup, at, serial: peer.serial });
        Some(found)
    }

    /// The list may have grown since the last choice.
    fn make_room(&mut self, len: usize) {
        if self.tried.len() < len {
            self.tried.resize(len, false);
        }
    }

    fn choose(&mut self, lists: &mut Lists) -> Option<usize> {
        self.make_room(lists.primary.len().max(lists.backup.len()));
        if !self.in_backup && !lists.is_single() && self.skips <= TRIES_MAX {
            let peers = self.peers.clone();
            let chosen = match &peers.conf.balance {
                Balance::RoundRobin => None,
                Balance::LeastConn => self.least_conn(&mut lists.primary),
                Balance::IpHash => self.by_hash(&mut lists.primary, |me| {
                    for b in &me.key.ip {
                        me.hash = (me.hash * 113 + u32::from(*b)) % 6271;
                    }
                    u64::from(me.hash)
                }),
                Balance::Hash { .. } if self.key.hash.is_empty() => None,
                Balance::Hash { consistent: false, .. } => self.by_hash(&mut lists.primary, |me| {
                    let mut hasher = crc32fast::Hasher::new();
                    if me.rehash > 0 {
                        hasher.update(me.rehash.to_string().as_bytes());
                    }
                    hasher.update(&me.key.hash);
                    me.hash = me.hash.wrapping_add((hasher.finalize() >> 16) & 0x7fff);
                    me.rehash += 1;
                    u64::from(me.hash)
                }),
                Balance::Hash { consistent: true, .. } => self.on_ring(lists),
                Balance::Random { two } => self.by_chance(&mut lists.primary, *two),
            };
            if chosen.is_some() {
                return chosen;
            }
        }
        self.in_turn(lists)
    }

    /// Marks a server as this request's.
    fn take(&mut self, list: &mut [Peer], at: usize, now_s: u64) -> Option<usize> {
        self.tried[at] = true;
        settle(&mut list[at], now_s);
        Some(at)
    }

    /// Weighted round robin over the ordinary servers, then over the others.
    fn in_turn(&mut self, lists: &mut Lists) -> Option<usize> {
        let now_s = clock::now_ms() / 1000;
        if lists.is_single() {
            // A lone server is asked whatever it did before.
            let at = lists.primary.iter().position(|p| !p.gone)?;
            let peer = &lists.primary[at];
            return (!peer.down && !peer.is_full()).then_some(at);
        }
        loop {
            let list = lists.of(self.in_backup);
            let tried = &self.tried;
            if let Some(at) = smooth(list, |at, p| !tried[at] && p.is_open(now_s)) {
                return self.take(list, at, now_s);
            }
            if self.in_backup || live(&lists.backup).next().is_none() {
                return None;
            }
            self.in_backup = true;
            self.tried.fill(false);
        }
    }

    fn least_conn(&mut self, list: &mut [Peer]) -> Option<usize> {
        let now_s = clock::now_ms() / 1000;
        let open: Vec<bool> =
            list.iter().enumerate().map(|(at, p)| !self.tried[at] && p.is_open(now_s)).collect();
        let mut best: Option<(u64, i64)> = None;
        for (at, p) in list.iter().enumerate() {
            // Fewer connections per weight is better: c1/w1 < c2/w2.
            let better = |(conns, weight): (u64, i64)| {
                i128::from(p.conns) * i128::from(weight) < i128::from(conns) * i128::from(p.weight)
            };
            if open[at] && best.is_none_or(better) {
                best = Some((p.conns, p.weight));
            }
        }
        let (conns, weight) = best?;
        let at = smooth(list, |at, p| {
            open[at] && i128::from(p.conns) * i128::from(weight) == i128::from(conns) * i128::from(p.weight)
        })?;
        self.take(list, at, now_s)
    }

    /// Hashes again and again until an open server is met, or too often.
    fn by_hash(&mut self, list: &mut [Peer], mut step: impl FnMut(&mut Self) -> u64) -> Option<usize> {
        let now_s = clock::now_ms() / 1000;
        loop {
            let n = step(self);
            let at = weighted(list, n)?;
            if !self.tried[at] && list[at].is_open(now_s) {
                return self.take(list, at, now_s);
            }
            self.skips += 1;
            if self.skips > TRIES_MAX {
                return None;
            }
        }
    }

    fn on_ring(&mut self, lists: &mut Lists) -> Option<usize> {
        let now_s = clock::now_ms() / 1000;
        loop {
            let (ring, list) = (&lists.ring, &mut lists.primary);
            let server = &ring.get(self.hash as usize % ring.len().max(1))?.1;
            let tried = &self.tried;
            let best = smooth(list, |at, p| !tried[at] && p.server == *server && p.is_open(now_s));
            if let Some(at) = best {
                return self.take(list, at, now_s);
            }
            self.hash += 1;
            self.skips += 1;
            if self.skips > TRIES_MAX {
                return None;
            }
        }
    }

    fn by_chance(&mut self, list: &mut [Peer], two: bool) -> Option<usize> {
        let now_s = clock::now_ms() / 1000;
        let mut first: Option<usize> = None;
        loop {
            let at = weighted(list, self.peers.next_random())?;
            if first != Some(at) && !self.tried[at] && list[at].is_open(now_s) {
                match (two, first) {
                    (true, None) => first = Some(at),
                    (true, Some(other)) => {
                        let (a, b) = (&list[other], &list[at]);
                        let fewer = i128::from(a.conns) * i128::from(b.weight)
                            > i128::from(b.conns) * i128::from(a.weight);
                        return self.take(list, if fewer { at } else { other }, now_s);
                    }
                    (false, _) => return self.take(list, at, now_s),
                }
            }
            self.skips += 1;
            if self.skips > TRIES_MAX {
                return None;
            }
        }
    }

    /// Gives the server chosen last back; returns true when it has just failed too often.
    pub fn release(&mut self, ended: Ended) -> bool {
        let Some(Chosen { backup, at, serial }) = self.current.take() else {
            self.tries = self.tries.saturating_sub(1);
            return false;
        };
        let mut view = self.peers.view();
        let single = view.is_single();
        self.tries = if single { 0 } else { self.tries.saturating_sub(1) };
        // Its place may have gone to another one in the meantime.
        let Some(peer) = view.of(backup).get_mut(at).filter(|p| p.serial == serial) else { return false };
        peer.conns = peer.conns.saturating_sub(1);
        if single {
            peer.fails = 0;
            return false;
        }
        if ended == Ended::Failed {
            let now_s = clock::now_ms() / 1000;
            peer.fails += 1;
            peer.accessed_s = now_s;
            peer.checked_s = now_s;
            if peer.max_fails > 0 {
                let step = peer.weight / i64::try_from(peer.max_fails).unwrap_or(i64::MAX);
                peer.effective_weight = (peer.effective_weight - step).max(0);
                return peer.fails >= peer.max_fails;
            }
        } else if peer.accessed_s < peer.checked_s {
            peer.fails = 0;
        }
        false
    }
}

impl Drop for Picker {
    fn drop(&mut self) {
        if self.current.is_some() {
            self.release(Ended::Well);
        }
    }
}

/// The server that a number falls on when each has as many of them as its weight.
fn weighted(list: &[Peer], n: u64) -> Option<usize> {
    let total: i64 = live(list).map(|p| p.weight).sum();
    let mut left = (n % total.max(1).unsigned_abs()) as i64;
    list.iter().position(|p| {
        if p.gone {
            return false;
        }
        left -= p.weight;
        left < 0
    })
}

fn settle(peer: &mut Peer, now_s: u64) {
    if now_s.saturating_sub(peer.checked_s) > peer.fail_timeout_s {
        peer.checked_s = now_s;
    }
}

/// Smooth weighted round robin among those that `open` admits.
fn smooth(list: &mut [Peer], open: impl Fn(usize, &Peer) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<usize> = None;
    for at in 0..list.len() {
        if !open(at, &list[at]) {
            continue;
        }
        let p = &mut list[at];
        p.current_weight += p.effective_weight;
        total += p.effective_weight;
        if p.effective_weight < p.weight {
            p.effective_weight += 1;
        }
        let weight = p.current_weight;
        if best.is_none_or(|b| weight > list[b].current_weight) {
            best = Some(at);
        }
    }
    list[best?].current_weight -= total;
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::upstream::UpstreamServer;
    use crate::conf::variables::Script;

    fn peers(balance: Balance, servers: &[(&str, i64, bool)]) -> Rc<Peers> {
        group(balance, servers, false)
    }

    fn group(balance: Balance, servers: &[(&str, i64, bool)], zoned: bool) -> Rc<Peers> {
        let servers = servers
            .iter()
            .map(|(name, weight, backup)| {
                let addr = PeerAddr::Inet(format!("127.0.0.1:{}", &name[1..]).parse().unwrap());
                let mut server = UpstreamServer::plain((*name).to_owned(), vec![addr]);
                server.weight = *weight;
                server.backup = *backup;
                server
            })
            .collect();
        let mut conf = Upstream::implicit("u", 0, UpstreamServer::plain(String::new(), Vec::new()));
        conf.servers = servers;
        conf.balance = balance;
        let conf = Arc::new(conf);
        let zone = if zoned { Some(Arc::new(GroupZone::new(&conf, 1 << 16, None).unwrap())) } else { None };
        Rc::new(Peers::new(&conf, zone))
    }

    fn ports(peers: &Rc<Peers>, n: usize, key: Key) -> String {
        let one = |_| {
            let mut p = Picker::new(peers, key.clone());
            let (_, name) = p.pick().expect("one is open");
            p.release(Ended::Well);
            name.rsplit(':').next().unwrap().to_owned()
        };
        (0..n).map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn round_robin_is_smooth() {
        let p = peers(Balance::RoundRobin, &[("a1", 5, false), ("b2", 1, false), ("c3", 1, false)]);
        assert_eq!(ports(&p, 7, Key::default()), "1 1 2 1 3 1 1");
    }

    #[test]
    fn failed_ones_rest_and_backups_step_in() {
        let p = peers(Balance::RoundRobin, &[("a1", 1, false), ("b2", 1, false), ("c3", 1, true)]);
        let mut one = Picker::new(&p, Key::default());
        assert_eq!(one.tries, 3);
        for port in ["1", "2", "3"] {
            assert!(one.pick().unwrap().1.ends_with(port));
            assert!(one.release(Ended::Failed), "one failure is enough");
        }
        assert!(one.pick().is_none() && one.tries == 0);
        assert!(Picker::new(&p, Key::default()).pick().is_none());
    }

    #[test]
    fn lone_server_never_rests() {
        let p = peers(Balance::RoundRobin, &[("a1", 1, false)]);
        let mut one = Picker::new(&p, Key::default());
        one.pick().unwrap();
        assert!(!one.release(Ended::Failed) && one.tries == 0);
        assert!(Picker::new(&p, Key::default()).pick().is_some());
    }

    #[test]
    fn hashes_keep_their_server_and_least_conn_evens_out() {
        let key = |t: &str| Key { hash: t.as_bytes().to_vec(), ip: vec![127, 0, 0] };
        for consistent in [false, true] {
            let p = peers(
                Balance::Hash { key: Script::literal(b"x"), consistent },
                &[("a1", 1, false), ("b2", 1, false), ("c3", 1, false)],
            );
            let of = |t: &str| ports(&p, 1, key(t));
            let all: Vec<String> = (0..50).map(|n| of(&format!("k{n}"))).collect();
            assert!((0..50).all(|n| of(&format!("k{n}")) == all[n]));
            assert!(["1", "2", "3"].iter().all(|port| all.iter().any(|p| p == port)));
        }
        let p = peers(Balance::LeastConn, &[("a1", 1, false), ("b2", 2, false)]);
        let mut held: Vec<Picker> = Vec::new();
        let mut count = [0, 0];
        for _ in 0..6 {
            let mut one = Picker::new(&p, Key::default());
            let name = one.pick().unwrap().1;
            count[usize::from(name.ends_with('2'))] += 1;
            held.push(one);
        }
        assert_eq!(count, [2, 4]);
        drop(held);
        assert!(p.view().primary.iter().all(|p| p.conns == 0));
    }
}
