//! The servers of a group where all workers see them: `zone` of an `upstream {}` block.
//!
//! A worker that looks takes the lock, reads how every server stands into its own list and writes the list
//! back before it lets go. Where names are resolved at run time the list of addresses is in the zone, too;
//! each change gives it a new edition, by which the workers notice. Whoever dies with the lock leaves
//! numbers behind, never a list that cannot be read.
//!
//! ```text
//! +0    edition, used ordinary places, used backup places
//! +32   ordinary places, then backup places, RECORD bytes each:
//!       server's number + 1 (0: empty) | port | family (0: as in the configuration) | address | scope | down
//!       effective weight | current weight | conns | fails | accessed | checked | serial | weight (0: as configured)
//! ```

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use super::peer::{Lists, Peer, listed};
use crate::conf::upstream::{PeerAddr, Upstream, UpstreamServer};
use crate::shared::shm::{Guard, Region};

const HEADER: usize = 32;
const RECORD: usize = 96;

const H_EDITION: usize = 0;
const H_USED: [usize; 2] = [8, 16];

const R_SERVER: usize = 0;
const R_PORT: usize = 4;
const R_FAMILY: usize = 6;
const R_ADDRESS: usize = 8;
const R_SCOPE: usize = 24;
const R_DOWN: usize = 28;
const R_EFFECTIVE: usize = 32;
const R_CURRENT: usize = 40;
const R_CONNS: usize = 48;
const R_FAILS: usize = 56;
const R_ACCESSED: usize = 64;
const R_CHECKED: usize = 72;
const R_SERIAL: usize = 80;
const R_WEIGHT: usize = 88;

const _: () = assert!(R_WEIGHT + 8 == RECORD);

/// An address that a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address.
    pub addr: SocketAddr,
    /// Its weight, where the name server gave one; that of the configuration comes before it.
    pub weight: Option<i64>,
    /// Asked only when the others cannot be.
    pub backup: bool,
}

impl Found {
    /// An address of which nothing else is said.
    pub fn plain(addr: SocketAddr, backup: bool) -> Found {
        Found { addr, weight: None, backup }
    }
}

/// The part of a zone that belongs to one group.
pub struct GroupZone {
    region: Region,
    /// Places of ordinary and of backup servers.
    room: [usize; 2],
}

impl std::fmt::Debug for GroupZone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupZone").field("room", &self.room).finish_non_exhaustive()
    }
}

/// The zone, locked.
pub struct Held<'a> {
    bytes: Guard<'a>,
    room: [usize; 2],
}

impl GroupZone {
    /// A zone of at most `size_bytes` with the servers of a group in it. To be made before the workers are
    /// forked. `old` is the zone that the group had so far: addresses of names are taken over from it.
    pub fn new(
        conf: &Arc<Upstream>,
        size_bytes: usize,
        old: Option<(&GroupZone, &Arc<Upstream>)>,
    ) -> io::Result<GroupZone> {
        let mut lists = Lists::default();
        lists.primary = listed(conf, false);
        lists.backup = listed(conf, true);
        let total = size_bytes.saturating_sub(HEADER) / RECORD;
        let spare = total
            .checked_sub(lists.primary.len() + lists.backup.len())
            .ok_or(io::Error::from(io::ErrorKind::StorageFull))?;
        let grows = |backup: bool| {
            conf.servers.iter().any(|s| s.resolve.is_some() && (s.backup == backup || s.service.is_some()))
        };
        let (first, second) = match (grows(false), grows(true)) {
            (false, false) => (0, 0),
            (true, false) => (spare, 0),
            (false, true) => (0, spare),
            (true, true) => (spare - spare / 2, spare / 2),
        };
        let room = [lists.primary.len() + first, lists.backup.len() + second];
        let zone = GroupZone { region: Region::new(HEADER + (room[0] + room[1]) * RECORD)?, room };
        if let Some((old, old_conf)) = old {
            let mut known = Lists::default();
            old.hold().load(old_conf, &mut known);
            for (at, server) in conf.servers.iter().enumerate().filter(|(_, s)| s.resolve.is_some()) {
                let label = server.label();
                let tiers = [(false, &known.primary), (true, &known.backup)];
                let found: Vec<Found> = tiers
                    .into_iter()
                    .filter(|(backup, _)| *backup == server.backup || server.service.is_some())
                    .flat_map(|(backup, peers)| peers.iter().map(move |peer| (backup, peer)))
                    .filter(|(_, peer)| !peer.gone && *peer.server == *label)
                    .filter_map(|(backup, peer)| match peer.addr {
                        PeerAddr::Inet(addr) => {
                            Some(Found { addr, weight: server.service.as_ref().map(|_| peer.weight), backup })
                        }
                        PeerAddr::Unix(_) => None,
                    })
                    .collect();
                change(&mut lists, room, conf, at, &found);
            }
        }
        lists.edition = 1;
        zone.hold().store_whole(&lists, conf);
        Ok(zone)
    }

    /// Takes the lock.
    pub fn hold(&self) -> Held<'_> {
        let mut bytes = self.region.lock();
        if bytes.was_dirty() {
            bytes.set_clean();
        }
        Held { bytes, room: self.room }
    }

    /// A server's name has these addresses now. Returns how many had no room.
    pub fn resolved(&self, conf: &Arc<Upstream>, server: usize, found: &[Found]) -> usize {
        let mut held = self.hold();
        let mut lists = Lists::default();
        held.load(conf, &mut lists);
        let before = lists.edition;
        let left_out = change(&mut lists, self.room, conf, server, found);
        if lists.edition != before {
            held.store_whole(&lists, conf);
        }
        left_out
    }
}

/// Gives a server these addresses, and the list a new edition where that changes it.
fn change(
    lists: &mut Lists,
    room: [usize; 2],
    conf: &Arc<Upstream>,
    server: usize,
    found: &[Found],
) -> usize {
    let line = &conf.servers[server];
    let label: Arc<str> = line.label().into();
    let mut changed = false;
    let mut left_out = 0;
    for backup in [false, true] {
        if backup != line.backup && line.service.is_none() {
            continue;
        }
        let room = room[usize::from(backup)];
        let list = lists.of(backup);
        let wanted: Vec<Peer> = found
            .iter()
            .filter(|f| f.backup == backup)
            .map(|f| {
                let mut peer = Peer::new(line, label.clone(), &PeerAddr::Inet(f.addr));
                peer.set_weight(f.weight.filter(|_| line.weight == 1));
                peer
            })
            .collect();
        let same =
            |a: &Peer, b: &Peer| !a.gone && a.server == b.server && a.addr == b.addr && a.weight == b.weight;
        for peer in list.iter_mut().filter(|p| !p.gone && p.server == label) {
            if !wanted.iter().any(|w| same(peer, w)) {
                peer.gone = true;
                changed = true;
            }
        }
        for mut peer in wanted {
            if list.iter().any(|p| same(p, &peer)) {
                continue;
            }
            match list.iter().position(|p| p.gone) {
                Some(place) => {
                    peer.serial = list[place].serial + 1;
                    list[place] = peer;
                }
                None if list.len() < room => list.push(peer),
                None => {
                    left_out += 1;
                    continue;
                }
            }
            changed = true;
        }
    }
    if changed {
        lists.edition += 1;
    }
    left_out
}

impl Held<'_> {
    fn word(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }

    fn set_word(&mut self, at: usize, value: u64) {
        self.bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.bytes[at..at + 4].try_into().expect("four bytes"))
    }

    fn record(&self, backup: bool, at: usize) -> usize {
        HEADER + (at + if backup { self.room[0] } else { 0 }) * RECORD
    }

    /// Reads how the servers stand into the worker's list; true when the list itself had changed.
    pub fn load(&self, conf: &Upstream, lists: &mut Lists) -> bool {
        let edition = self.word(H_EDITION);
        let anew = edition != lists.edition;
        for backup in [false, true] {
            let kind = usize::from(backup);
            let used = (self.word(H_USED[kind]) as usize).min(self.room[kind]);
            let list = lists.of(backup);
            if anew {
                list.clear();
            }
            for at in 0..used {
                let r = self.record(backup, at);
                if anew {
                    list.push(self.peer(conf, r));
                }
                let Some(peer) = list.get_mut(at) else { break };
                peer.effective_weight = self.word(r + R_EFFECTIVE) as i64;
                peer.current_weight = self.word(r + R_CURRENT) as i64;
                peer.conns = self.word(r + R_CONNS);
                peer.fails = self.word(r + R_FAILS);
                peer.accessed_s = self.word(r + R_ACCESSED);
                peer.checked_s = self.word(r + R_CHECKED);
                peer.down = self.number(r + R_DOWN) != 0;
            }
        }
        lists.edition = edition;
        anew
    }

    /// The server of a place; an empty one where there is none.
    fn peer(&self, conf: &Upstream, r: usize) -> Peer {
        let number = self.number(r + R_SERVER) as usize;
        let line = number.checked_sub(1).and_then(|at| conf.servers.get(at));
        let addr = line.and_then(|line| self.addr(line, r));
        let mut peer = match (line, addr) {
            (Some(line), Some(addr)) => {
                let mut peer = Peer::new(line, line.label().into(), &addr);
                peer.set_weight(Some(self.word(r + R_WEIGHT) as i64).filter(|weight| *weight > 0));
                peer
            }
            _ => {
                let nowhere = PeerAddr::Inet(SocketAddr::from(([0, 0, 0, 0], 0)));
                let mut peer =
                    Peer::new(&UpstreamServer::plain(String::new(), Vec::new()), "".into(), &nowhere);
                peer.gone = true;
                peer
            }
        };
        peer.serial = self.word(r + R_SERIAL);
        peer
    }

    fn addr(&self, line: &UpstreamServer, r: usize) -> Option<PeerAddr> {
        let two = |at: usize| u16::from_ne_bytes(self.bytes[at..at + 2].try_into().expect("two bytes"));
        let ip = &self.bytes[r + R_ADDRESS..r + R_ADDRESS + 16];
        let port = two(r + R_PORT);
        match two(r + R_FAMILY) {
            0 => line.addrs.get(self.word(r + R_ADDRESS) as usize).cloned(),
            4 => {
                let ip: [u8; 4] = ip[..4].try_into().expect("four bytes");
                Some(PeerAddr::Inet(SocketAddrV4::new(ip.into(), port).into()))
            }
            _ => {
                let ip: [u8; 16] = ip.try_into().expect("sixteen bytes");
                let scope = self.number(r + R_SCOPE);
                Some(PeerAddr::Inet(SocketAddrV6::new(ip.into(), port, 0, scope).into()))
            }
        }
    }

    /// Writes back how the servers stand.
    pub fn store(&mut self, lists: &Lists) {
        for (backup, list) in [(false, &lists.primary), (true, &lists.backup)] {
            for (at, peer) in list.iter().enumerate().take(self.room[usize::from(backup)]) {
                let r = self.record(backup, at);
                for (at, value) in [
                    (R_EFFECTIVE, peer.effective_weight as u64),
                    (R_CURRENT, peer.current_weight as u64),
                    (R_CONNS, peer.conns),
                    (R_FAILS, peer.fails),
                    (R_ACCESSED, peer.accessed_s),
                    (R_CHECKED, peer.checked_s),
                ] {
                    self.set_word(r + at, value);
                }
                self.bytes[r + R_DOWN..r + R_DOWN + 4].copy_from_slice(&u32::from(peer.down).to_ne_bytes());
            }
        }
    }

    /// Writes the list itself, too.
    fn store_whole(&mut self, lists: &Lists, conf: &Upstream) {
        for (backup, list) in [(false, &lists.primary), (true, &lists.backup)] {
            for (at, peer) in list.iter().enumerate().take(self.room[usize::from(backup)]) {
                let r = self.record(backup, at);
                let fits = |s: &UpstreamServer| {
                    (s.backup == backup || s.service.is_some())
                        && *s.label() == *peer.server
                        && is_of(s, peer)
                };
                let number =
                    conf.servers.iter().position(|s| !peer.gone && fits(s)).map_or(0, |n| n as u32 + 1);
                let mut record = [0u8; R_EFFECTIVE];
                record[R_SERVER..R_SERVER + 4].copy_from_slice(&number.to_ne_bytes());
                let line = number.checked_sub(1).map(|n| &conf.servers[n as usize]);
                let written = line.and_then(|l| l.addrs.iter().position(|a| *a == peer.addr));
                match (&peer.addr, written) {
                    (_, Some(n)) => {
                        record[R_ADDRESS..R_ADDRESS + 8].copy_from_slice(&(n as u64).to_ne_bytes())
                    }
                    (PeerAddr::Inet(addr), None) => {
                        record[R_PORT..R_PORT + 2].copy_from_slice(&addr.port().to_ne_bytes());
                        let family: u16 = if addr.is_ipv4() { 4 } else { 6 };
                        record[R_FAMILY..R_FAMILY + 2].copy_from_slice(&family.to_ne_bytes());
                        match addr.ip() {
                            IpAddr::V4(ip) => record[R_ADDRESS..R_ADDRESS + 4].copy_from_slice(&ip.octets()),
                            IpAddr::V6(ip) => record[R_ADDRESS..R_ADDRESS + 16].copy_from_slice(&ip.octets()),
                        }
                        if let SocketAddr::V6(addr) = addr {
                            record[R_SCOPE..R_SCOPE + 4].copy_from_slice(&addr.scope_id().to_ne_bytes());
                        }
                    }
                    (PeerAddr::Unix(_), None) => {}
                }
                self.bytes[r..r + R_EFFECTIVE].copy_from_slice(&record);
                self.set_word(r + R_SERIAL, peer.serial);
                let own = line.is_some_and(|line| line.weight != peer.weight);
                self.set_word(r + R_WEIGHT, if own { peer.weight as u64 } else { 0 });
            }
            self.set_word(H_USED[usize::from(backup)], list.len() as u64);
        }
        self.store(lists);
        self.set_word(H_EDITION, lists.edition);
    }
}

/// Whether the server's line is one that the address can come from.
fn is_of(line: &UpstreamServer, peer: &Peer) -> bool {
    line.resolve.is_some() || line.addrs.contains(&peer.addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::peer::{Ended, Key, Peers, Picker};
    use std::rc::Rc;

    fn server(port: u16) -> UpstreamServer {
        let addr = SocketAddr::from(([127, 0, 0, 1], port));
        UpstreamServer::plain(addr.to_string(), vec![PeerAddr::Inet(addr)])
    }

    fn group(servers: Vec<UpstreamServer>) -> Arc<Upstream> {
        let mut conf = Upstream::implicit("u", 0, server(1));
        conf.servers = servers;
        Arc::new(conf)
    }

    /// Two workers that see the same zone.
    fn workers(conf: &Arc<Upstream>, bytes: usize) -> (Arc<GroupZone>, [Rc<Peers>; 2]) {
        let zone = Arc::new(GroupZone::new(conf, bytes, None).expect("mapped"));
        let one = || Rc::new(Peers::new(conf, Some(zone.clone())));
        (zone.clone(), [one(), one()])
    }

    fn port(peers: &Rc<Peers>, ended: Ended) -> Option<String> {
        let mut picker = Picker::new(peers, Key::default());
        let (_, name) = picker.pick()?;
        picker.release(ended);
        name.rsplit(':').next().map(str::to_owned)
    }

    #[test]
    fn workers_take_turns_over_one_list() {
        let conf = group(vec![server(1), server(2), server(3)]);
        let (_, [a, b]) = workers(&conf, 1 << 15);
        let seen: Vec<String> =
            (0..6).filter_map(|n| port(if n % 2 == 0 { &a } else { &b }, Ended::Well)).collect();
        assert_eq!(seen.join(" "), "1 2 3 1 2 3");
    }

    #[test]
    fn failure_seen_by_one_counts_for_the_other() {
        let mut lame = server(1);
        lame.fail_timeout_s = 1000;
        let (_, [a, b]) = workers(&group(vec![lame, server(2)]), 1 << 15);
        assert_eq!(port(&a, Ended::Failed).as_deref(), Some("1"));
        assert!((0..8).all(|n| port([&a, &b][n % 2], Ended::Well).as_deref() == Some("2")));
        a.view().primary[1].down = true;
        assert_eq!(port(&b, Ended::Well), None);
    }

    #[test]
    fn connections_of_all_workers_are_limited() {
        let mut small = server(1);
        small.max_conns = 2;
        let (_, [a, b]) = workers(&group(vec![small, server(2)]), 1 << 15);
        let mut held: Vec<Picker> = Vec::new();
        let mut ports = Vec::new();
        for n in 0..6 {
            let mut picker = Picker::new([&a, &b][n % 2], Key::default());
            ports.push(picker.pick().expect("one is open").1);
            held.push(picker);
        }
        assert_eq!(ports.iter().filter(|name| name.ends_with(":1")).count(), 2);
        drop(held);
        assert!(a.view().primary.iter().all(|p| p.conns == 0));
    }

    #[test]
    fn addresses_of_a_name_come_and_go_in_every_worker() {
        let mut name = UpstreamServer::plain("svc".to_owned(), Vec::new());
        name.resolve = Some(("svc".to_owned(), 80));
        let conf = group(vec![name]);
        let (zone, [a, b]) = workers(&conf, HEADER + 3 * RECORD);
        assert_eq!(port(&a, Ended::Well), None);
        let addr = |n: u8| Found::plain(SocketAddr::from(([127, 0, 0, n], u16::from(n))), false);
        assert_eq!(zone.resolved(&conf, 0, &[addr(1), addr(2)]), 0);
        assert_eq!(port(&b, Ended::Well).as_deref(), Some("1"));
        assert_eq!(port(&a, Ended::Well).as_deref(), Some("2"));
        let mut held = Picker::new(&a, Key::default());
        held.pick().expect("one is open");
        let v6 = Found::plain("[fe80::1%7]:9".parse().expect("an address"), false);
        assert_eq!(zone.resolved(&conf, 0, &[addr(2), addr(3), v6, addr(4)]), 1, "three have room");
        let names: Vec<String> =
            b.view().primary.iter().filter(|p| !p.gone).map(|p| p.name.to_string()).collect();
        assert_eq!(names, ["127.0.0.3:3", "127.0.0.2:2", "[fe80::1%7]:9"]);
        // The server that the first worker still holds is gone: giving it back changes nobody else's numbers.
        held.release(Ended::Failed);
        assert!(b.view().primary.iter().all(|p| p.conns == 0 && p.fails == 0));
        let next = GroupZone::new(&conf, 1 << 15, Some((&zone, &conf))).expect("mapped");
        let next = Rc::new(Peers::new(&conf, Some(Arc::new(next))));
        assert_eq!(next.view().primary.len(), 3, "a reload keeps what is known");
        zone.resolved(&conf, 0, &[]);
        assert_eq!(port(&b, Ended::Well), None);
    }

    #[test]
    fn places_of_a_service_have_weights_and_tiers() {
        let mut http = UpstreamServer::plain("svc".to_owned(), Vec::new());
        (http.resolve, http.service) = (Some(("svc".to_owned(), 80)), Some("http".to_owned()));
        let mut heavy = http.clone();
        (heavy.service, heavy.weight) = (Some("other".to_owned()), 7);
        let conf = group(vec![http, heavy]);
        let (zone, [a, b]) = workers(&conf, 1 << 15);
        let at = |n: u8, weight, backup| Found {
            addr: SocketAddr::from(([127, 0, 0, n], u16::from(n))),
            weight: Some(weight),
            backup,
        };
        assert_eq!(zone.resolved(&conf, 0, &[at(1, 2, false), at(2, 1, false), at(3, 1, true)]), 0);
        let seen: Vec<String> =
            (0..6).filter_map(|n| port(if n % 2 == 0 { &a } else { &b }, Ended::Well)).collect();
        assert_eq!(seen.join(" "), "1 2 1 1 2 1");
        // The configuration's weight comes first; the other service's places stay.
        zone.resolved(&conf, 1, &[at(4, 3, false)]);
        let shown = |peers: &Rc<Peers>| {
            let view = peers.view();
            let one =
                |p: &Peer| format!("{}*{}", p.addr.to_string().rsplit(':').next().unwrap_or(""), p.weight);
            let list = |l: &[Peer]| l.iter().filter(|p| !p.gone).map(one).collect::<Vec<_>>().join(" ");
            (list(&view.primary), list(&view.backup))
        };
        assert_eq!(shown(&a), ("1*2 2*1 4*7".to_owned(), "3*1".to_owned()));
        // Another weight, another tier: another place.
        zone.resolved(&conf, 0, &[at(1, 5, false), at(2, 1, true)]);
        assert_eq!(shown(&b), ("1*5 4*7".to_owned(), "2*1".to_owned()));
        let next = GroupZone::new(&conf, 1 << 15, Some((&zone, &conf))).expect("mapped");
        let next = Rc::new(Peers::new(&conf, Some(Arc::new(next))));
        assert_eq!(shown(&next), ("1*5 4*7".to_owned(), "2*1".to_owned()), "a reload keeps what is known");
        zone.resolved(&conf, 0, &[]);
        assert_eq!(shown(&a), ("4*7".to_owned(), String::new()));
    }

    #[test]
    fn zone_without_room_is_refused() {
        let conf = group(vec![server(1), server(2)]);
        let e = GroupZone::new(&conf, HEADER + RECORD, None).expect_err("one place for two");
        assert_eq!(e.kind(), io::ErrorKind::StorageFull);
    }
}
