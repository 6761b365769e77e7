//! From a host name to addresses: name servers asked over UDP (TCP for long answers), cached, never blocking.
//!
//! A `Resolver` is what a `resolver` line of the configuration stands for, or
//! the system's settings: `hosts`, `resolv.conf` with its search domains.
//! Lookups of one name are made once for all who wait. Knows no sockets of scripts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::sync::Notify;

use super::dns::{Answer, Kind, Name, Question, Service};
use super::target::literal;
use super::trace::Trace;

/// How long one server may take for its answer.
const TRY_MS: u64 = 5_000;
/// How long a lookup goes on at most, whoever still waits for it.
const LOOKUP_MS: u64 = 30_000;
/// Names kept in a cache.
const CACHE_ENTRIES_MAX: usize = 4096;
/// Longest time an answer is kept, whatever it says.
const TTL_S_MAX: u32 = 7 * 24 * 3600;
/// Places of a service that are looked at.
const SERVICES_MAX: usize = 256;
/// How often the system's files are looked at.
const FILES_LOOK: Duration = Duration::from_secs(5);
/// Servers and search domains taken from the system's file.
const SYSTEM_SERVERS_MAX: usize = 3;
const SEARCH_MAX: usize = 6;

/// Who resolves names.
#[derive(Clone)]
pub enum Names {
    /// Nobody: every lookup fails.
    None,
    /// A resolver, and how long its users wait.
    Resolver(Rc<Resolver>, u64),
}

impl Names {
    /// Looks a name up; ready at once when the answer is known.
    pub fn lookup(&self, name: &str, trace: &Trace) -> Lookup {
        if let Some(ip) = literal(name) {
            return Lookup::Ready(Some(Ok(vec![ip])));
        }
        let Names::Resolver(resolver, timeout_ms) = self else {
            return Lookup::Ready(Some(Err(format!("no resolver defined to resolve \"{name}\""))));
        };
        if let Some(found) = resolver.known(name) {
            trace.text("resolve name done: 0");
            return Lookup::Ready(Some(Ok(found)));
        }
        let (resolver, text, trace, limit) =
            (resolver.clone(), name.to_owned(), trace.clone(), Duration::from_millis(*timeout_ms));
        Lookup::Wait(Box::pin(async move {
            let result = match tokio::time::timeout(limit, resolver.resolve(&text)).await {
                Ok(result) => result,
                Err(_) => Err(Failure::TIMED_OUT),
            };
            trace.line(|| {
                let code = result.as_ref().err().map_or(0, |f| f.0);
                format!("resolve name done: {code}")
            });
            result.map_err(|f| {
                trace.line(|| format!("lua tcp socket resolver error: {} (connect waiting: 1)", f.words()));
                format!("{text} could not be resolved ({f})")
            })
        }))
    }
}

/// A lookup under way.
pub enum Lookup {
    /// Known already.
    Ready(Option<Result<Vec<IpAddr>, String>>),
    /// Somebody is asked.
    Wait(Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, String>>>>),
}

impl Future for Lookup {
    /// The addresses, at least one, or the text that scripts get.
    type Output = Result<Vec<IpAddr>, String>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Lookup::Ready(r) => Poll::Ready(r.take().unwrap_or_else(|| Err("resolver not working".into()))),
            Lookup::Wait(f) => f.as_mut().poll(cx),
        }
    }
}

/// Why a name has no address, by nginx's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure(u16);

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.0, self.words())
    }
}

impl Failure {
    /// There is no such name, or it has no address.
    pub const NOT_FOUND: Failure = Failure(3);
    const SERVER: Failure = Failure(2);
    /// Nobody has answered in time.
    pub const TIMED_OUT: Failure = Failure(libc::ETIMEDOUT as u16);

    fn words(self) -> &'static str {
        match self.0 {
            1 => "Format error",
            2 => "Server failure",
            3 => "Host not found",
            4 => "Unimplemented",
            5 => "Operation refused",
            n if n == Failure::TIMED_OUT.0 => "Operation timed out",
            _ => "Unknown error",
        }
    }
}

/// Where a resolver's servers come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Named ones.
    Servers(Vec<SocketAddr>),
    /// The `nameserver` lines of a file, then named ones.
    File(Vec<SocketAddr>, PathBuf),
    /// The system's: `hosts` first, search domains.
    System {
        /// `/etc/hosts`.
        hosts: PathBuf,
        /// `/etc/resolv.conf`.
        conf: PathBuf,
    },
}

impl Source {
    /// The system's settings where they usually are.
    pub fn system() -> Source {
        Source::System { hosts: "/etc/hosts".into(), conf: "/etc/resolv.conf".into() }
    }
}

/// Takes what goes wrong with a server: the call's name, the error, the server.
pub type Complain = Rc<dyn Fn(&'static str, &io::Error, SocketAddr)>;

/// A resolver with its cache.
pub struct Resolver {
    complain: Complain,
    source: Source,
    /// How long answers are kept; `None` leaves it to them.
    valid_ms: Option<u64>,
    ipv4: bool,
    ipv6: bool,
    cache: RefCell<HashMap<String, Cached>>,
    running: RefCell<HashMap<String, Rc<Running>>>,
    next_server: Cell<usize>,
    turn: Cell<usize>,
    files: RefCell<Files>,
}

/// A place of a service, with the addresses of its host.
#[derive(Debug)]
pub struct Place {
    /// What the name server said.
    pub at: Service,
    /// The addresses.
    pub found: Result<Vec<IpAddr>, Failure>,
}

struct Cached {
    found: Vec<IpAddr>,
    until: Instant,
}

/// A lookup that several may wait for.
#[derive(Default)]
struct Running {
    result: RefCell<Option<Result<Vec<IpAddr>, Failure>>>,
    done: Notify,
    waiters: Cell<usize>,
    task: RefCell<Option<tokio::task::JoinHandle<()>>>,
}

/// One who waits for a lookup. The last one to leave ends it: nobody is there to use the answer.
struct Waiting {
    resolver: Rc<Resolver>,
    running: Rc<Running>,
    key: String,
}

impl Waiting {
    fn new(resolver: &Rc<Resolver>, running: Rc<Running>, key: String) -> Waiting {
        running.waiters.set(running.waiters.get() + 1);
        Waiting { resolver: resolver.clone(), running, key }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = self.running.waiters.get() - 1;
        self.running.waiters.set(left);
        if left == 0 && self.running.result.borrow().is_none() {
            if let Some(task) = self.running.task.borrow_mut().take() {
                task.abort();
            }
            self.resolver.running.borrow_mut().remove(&self.key);
        }
    }
}

/// What the system's files said last.
#[derive(Default)]
struct Files {
    looked: Option<Instant>,
    hosts_at: Option<SystemTime>,
    conf_at: Option<SystemTime>,
    hosts: HashMap<String, Vec<IpAddr>>,
    conf: Conf,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Conf {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

impl Resolver {
    /// A resolver with an empty cache. `valid_ms` replaces the times that answers carry.
    pub fn new(
        source: Source,
        valid_ms: Option<u64>,
        ipv4: bool,
        ipv6: bool,
        complain: Complain,
    ) -> Rc<Resolver> {
        Rc::new(Resolver {
            complain,
            source,
            valid_ms,
            ipv4,
            ipv6,
            cache: RefCell::default(),
            running: RefCell::default(),
            next_server: Cell::new(0),
            turn: Cell::new(0),
            files: RefCell::default(),
        })
    }

    /// The addresses of a name that needs no asking. Each call begins with another one of them.
    fn known(&self, name: &str) -> Option<Vec<IpAddr>> {
        let key = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if let Source::System { .. } = self.source {
            self.look_at_files();
            if let Some(found) = self.files.borrow().hosts.get(&key) {
                return Some(found.clone());
            }
        }
        let cache = self.cache.borrow();
        let hit = cache.get(&key).filter(|c| c.until > Instant::now())?;
        Some(self.turned(&hit.found))
    }

    /// The addresses of a name, and how long they hold.
    pub async fn lookup(self: &Rc<Self>, name: &str) -> Result<(Vec<IpAddr>, Duration), Failure> {
        if let Some(ip) = literal(name) {
            return Ok((vec![ip], Duration::from_secs(u64::from(TTL_S_MAX))));
        }
        let found = match self.known(name) {
            Some(found) => found,
            None => self.resolve(name).await?,
        };
        let key = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let until = self.cache.borrow().get(&key).map(|c| c.until);
        Ok((found, until.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()))))
    }

    /// Where a service of a host is, and how long that holds. A service without a dot is one over TCP: `http` is
    /// asked for as `_http._tcp.HOST`. Nothing of it is kept here but the addresses of its hosts.
    pub async fn lookup_service(
        self: &Rc<Self>,
        service: &str,
        host: &str,
    ) -> Result<(Vec<Place>, Duration), Failure> {
        let full = if service.contains('.') {
            format!("{service}.{host}")
        } else {
            format!("_{service}._tcp.{host}")
        };
        let name = Name::new(&full).ok_or(Failure::NOT_FOUND)?;
        let answer = self.ask_kind(&name, Kind::Srv, &self.conf().servers).await?;
        if answer.services.is_empty() {
            return Err(Failure::NOT_FOUND);
        }
        let mut valid = Duration::from_secs(u64::from(answer.ttl_s.min(TTL_S_MAX)));
        let mut places = Vec::new();
        for at in answer.services.into_iter().take(SERVICES_MAX) {
            let found = self.lookup(&at.target).await;
            if let Ok((_, target_valid)) = &found {
                valid = valid.min(*target_valid);
            }
            places.push(Place { at, found: found.map(|(found, _)| found) });
        }
        Ok((places, self.valid_ms.map_or(valid, Duration::from_millis)))
    }

    fn turned(&self, found: &[IpAddr]) -> Vec<IpAddr> {
        let mut list = found.to_vec();
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        list.rotate_left(turn % found.len().max(1));
        list
    }

    /// Asks, or waits for who asks already.
    async fn resolve(self: &Rc<Self>, text: &str) -> Result<Vec<IpAddr>, Failure> {
        let key = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let there = self.running.borrow().get(&key).cloned();
        let running = match there {
            Some(running) => running,
            None => {
                let running = Rc::new(Running::default());
                self.running.borrow_mut().insert(key.clone(), running.clone());
                let (me, to, absolute) = (self.clone(), running.clone(), text.ends_with('.'));
                let name = key.clone();
                let task = tokio::task::spawn_local(async move {
                    let limit = Duration::from_millis(LOOKUP_MS);
                    let work = me.ask_all(&name, absolute);
                    let result = tokio::time::timeout(limit, work).await.unwrap_or(Err(Failure::TIMED_OUT));
                    me.running.borrow_mut().remove(&name);
                    *to.result.borrow_mut() = Some(result);
                    to.done.notify_waiters();
                });
                *running.task.borrow_mut() = Some(task);
                running
            }
        };
        let waiting = Waiting::new(self, running, key);
        loop {
            let done = waiting.running.done.notified();
            let result = waiting.running.result.borrow().clone();
            match result {
                Some(result) => return result.map(|found| self.turned(&found)),
                None => done.await,
            }
        }
    }

    /// Tries the name, with search domains where there are some, and keeps what was found.
    async fn ask_all(&self, key: &str, absolute: bool) -> Result<Vec<IpAddr>, Failure> {
        let conf = self.conf();
        let mut names = Vec::new();
        if absolute || conf.search.is_empty() {
            names.push(key.to_owned());
        } else {
            let dots = key.bytes().filter(|b| *b == b'.').count();
            let searched = conf.search.iter().map(|domain| format!("{key}.{domain}"));
            if dots >= conf.ndots {
                names.push(key.to_owned());
                names.extend(searched);
            } else {
                names.extend(searched);
                names.push(key.to_owned());
            }
        }
        let mut failed = Failure::NOT_FOUND;
        for name in names {
            let Some(name) = Name::new(&name) else { continue };
            match self.ask(&name, &conf.servers).await {
                Ok((found, ttl_s)) => {
                    self.keep(key, &found, ttl_s);
                    return Ok(found);
                }
                Err(f) => failed = f,
            }
        }
        Err(failed)
    }

    fn keep(&self, key: &str, found: &[IpAddr], ttl_s: u32) {
        let ms = self.valid_ms.unwrap_or(u64::from(ttl_s.min(TTL_S_MAX)) * 1000);
        if ms == 0 {
            return;
        }
        let now = Instant::now();
        let mut cache = self.cache.borrow_mut();
        if cache.len() >= CACHE_ENTRIES_MAX {
            cache.retain(|_, c| c.until > now);
        }
        if cache.len() >= CACHE_ENTRIES_MAX
            && let Some(any) = cache.keys().next().cloned()
        {
            cache.remove(&any);
        }
        cache
            .insert(key.to_owned(), Cached { found: found.to_vec(), until: now + Duration::from_millis(ms) });
    }

    /// Both kinds of addresses that are wanted, IPv4 first.
    async fn ask(&self, name: &Name, servers: &[SocketAddr]) -> Result<(Vec<IpAddr>, u32), Failure> {
        let a = async { if self.ipv4 { Some(self.ask_kind(name, Kind::A, servers).await) } else { None } };
        let aaaa =
            async { if self.ipv6 { Some(self.ask_kind(name, Kind::Aaaa, servers).await) } else { None } };
        let (a, aaaa) = tokio::join!(a, aaaa);
        let (mut found, mut ttl_s, mut failed) = (Vec::new(), u32::MAX, None);
        for answer in [a, aaaa].into_iter().flatten() {
            match answer {
                Ok(answer) if !answer.found.is_empty() => {
                    found.extend(answer.found);
                    ttl_s = ttl_s.min(answer.ttl_s);
                }
                Ok(_) => {}
                Err(f) => failed = failed.or(Some(f)),
            }
        }
        if found.is_empty() { Err(failed.unwrap_or(Failure::NOT_FOUND)) } else { Ok((found, ttl_s)) }
    }

    /// One kind, from one server after the other until somebody answers.
    async fn ask_kind(&self, name: &Name, kind: Kind, servers: &[SocketAddr]) -> Result<Answer, Failure> {
        if servers.is_empty() {
            return Err(Failure::SERVER);
        }
        let first = self.next_server.get();
        self.next_server.set(first.wrapping_add(1));
        for attempt in 0.. {
            let server = servers[(first + attempt) % servers.len()];
            let begun = Instant::now();
            let question = Question { id: random_id(), name: name.clone(), kind };
            let limit = Duration::from_millis(TRY_MS);
            match tokio::time::timeout(limit, exchange(&question, server)).await {
                Ok(Ok(answer)) => match answer.code {
                    0 => return Ok(answer),
                    // Another server may know better than one that is broken.
                    2 | 5 if attempt + 1 < servers.len() => continue,
                    code => return Err(Failure(u16::from(code))),
                },
                Ok(Err((call, error))) => (self.complain)(call, &error, server),
                Err(_) => {}
            }
            // Who refuses at once is not asked again at once.
            if (attempt + 1) % servers.len() == 0 {
                tokio::time::sleep(limit.saturating_sub(begun.elapsed())).await;
            }
        }
        Err(Failure::TIMED_OUT)
    }

    fn conf(&self) -> Conf {
        match &self.source {
            Source::Servers(list) => Conf { servers: list.clone(), ..Conf::default() },
            Source::File(list, _) => {
                self.look_at_files();
                let mut servers = self.files.borrow().conf.servers.clone();
                servers.extend(list);
                Conf { servers, ..Conf::default() }
            }
            Source::System { .. } => {
                self.look_at_files();
                self.files.borrow().conf.clone()
            }
        }
    }

    /// Reads the system's files again if they have changed. They are local and small.
    fn look_at_files(&self) {
        let (hosts, conf) = match &self.source {
            Source::Servers(_) => return,
            Source::File(_, conf) => (None, conf),
            Source::System { hosts, conf } => (Some(hosts), conf),
        };
        let mut files = self.files.borrow_mut();
        if files.looked.is_some_and(|t| t.elapsed() < FILES_LOOK) {
            return;
        }
        let first = files.looked.replace(Instant::now()).is_none();
        let changed = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
        if let Some(hosts) = hosts {
            let at = changed(hosts);
            if first || at != files.hosts_at {
                files.hosts_at = at;
                files.hosts = parse_hosts(&std::fs::read_to_string(hosts).unwrap_or_default());
            }
        }
        let at = changed(conf);
        if first || at != files.conf_at {
            files.conf_at = at;
            files.conf = parse_conf(&std::fs::read_to_string(conf).unwrap_or_default());
        }
    }
}

fn random_id() -> u16 {
    // The keys of the standard library's hasher come from the system's random source.
    let mut h = std::hash::RandomState::new().build_hasher();
    h.write_u8(0);
    h.finish() as u16
}

/// One question to one server. The socket is new, so its port is a random one, and connected, so that only
/// the server is heard.
async fn exchange(question: &Question, server: SocketAddr) -> Result<Answer, (&'static str, io::Error)> {
    let during = |call: &'static str| move |error| (call, error);
    let any = if server.is_ipv4() {
        SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
    } else {
        SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
    };
    let socket = tokio::net::UdpSocket::bind(any).await.map_err(during("bind()"))?;
    socket.connect(server).await.map_err(during("connect()"))?;
    socket.send(&question.encode()).await.map_err(during("send()"))?;
    let mut buf = vec![0u8; 4096];
    // A server that is not there is reported as an error, which is no readiness to read.
    let wake = Interest::READABLE.add(Interest::ERROR);
    loop {
        let n = socket
            .async_io(wake, || (&*SockRef::from(&socket)).read(&mut buf))
            .await
            .map_err(during("recv()"))?;
        match question.decode(&buf[..n]) {
            Some(answer) if answer.truncated => {
                return exchange_tcp(question, server).await.map_err(during("asking over TCP"));
            }
            Some(answer) => return Ok(answer),
            // A stray or forged message: go on listening.
            None => {}
        }
    }
}

async fn exchange_tcp(question: &Question, server: SocketAddr) -> io::Result<Answer> {
    let mut stream = tokio::net::TcpStream::connect(server).await?;
    let message = question.encode();
    let mut out = (message.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(&message);
    stream.write_all(&out).await?;
    let len = stream.read_u16().await?;
    let mut buf = vec![0u8; usize::from(len)];
    stream.read_exact(&mut buf).await?;
    question.decode(&buf).filter(|a| !a.truncated).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_hosts(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut map: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|w| w.parse::<IpAddr>().ok()) else { continue };
        for name in words {
            let list = map.entry(name.to_ascii_lowercase()).or_default();
            if !list.contains(&ip) {
                list.push(ip);
            }
        }
    }
    for list in map.values_mut() {
        list.sort_by_key(IpAddr::is_ipv6);
    }
    map
}

fn parse_conf(text: &str) -> Conf {
    let mut conf = Conf { ndots: 1, ..Conf::default() };
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or("");
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("nameserver") => {
                let ip = words.next().and_then(|w| w.parse::<IpAddr>().ok());
                if let Some(ip) = ip
                    && conf.servers.len() < SYSTEM_SERVERS_MAX
                {
                    conf.servers.push(SocketAddr::new(ip, 53));
                }
            }
            Some("search" | "domain") => {
                let domain = |w: &str| w.trim_end_matches('.').to_owned();
                conf.search = words.map(domain).filter(|w| !w.is_empty()).take(SEARCH_MAX).collect();
            }
            Some("options") => {
                for option in words {
                    if let Some(n) = option.strip_prefix("ndots:").and_then(|n| n.parse::<usize>().ok()) {
                        conf.ndots = n.min(15);
                    }
                }
            }
            _ => {}
        }
    }
    conf
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;

    /// A server that answers as `f` says, and counts.
    async fn server(f: impl Fn(&str, &[u8]) -> Vec<u8> + 'static) -> (SocketAddr, Rc<Cell<usize>>) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let addr = socket.local_addr().unwrap();
        let count = Rc::new(Cell::new(0));
        let seen = count.clone();
        tokio::task::spawn_local(async move {
            let mut buf = [0u8; 512];
            loop {
                let (n, from) = socket.recv_from(&mut buf).await.unwrap();
                seen.set(seen.get() + 1);
                let (mut name, mut at) = (String::new(), 12);
                while buf[at] > 0 {
                    let len = usize::from(buf[at]);
                    name.push_str(std::str::from_utf8(&buf[at + 1..at + 1 + len]).unwrap());
                    name.push('.');
                    at += 1 + len;
                }
                socket.send_to(&f(name.trim_end_matches('.'), &buf[..n]), from).await.unwrap();
            }
        });
        (addr, count)
    }

    fn reply(question: &[u8], code: u8, found: Option<[u8; 4]>) -> Vec<u8> {
        let mut m = question.to_vec();
        m[2] = 0x81;
        m[3] = 0x80 | code;
        if let Some(ip) = found {
            m[7] = 1;
            m.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04");
            m.extend_from_slice(&ip);
        }
        m
    }

    fn resolver(source: Source, valid_ms: Option<u64>) -> Rc<Resolver> {
        Resolver::new(source, valid_ms, true, false, Rc::new(|_, _, _| {}))
    }

    async fn look(r: &Rc<Resolver>, name: &str, ms: u64) -> Result<String, String> {
        let found = Names::Resolver(r.clone(), ms).lookup(name, &Trace::default()).await?;
        Ok(found.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn answers_are_cached_and_failures_have_their_texts() {
        run(async {
            let (addr, count) = server(|name, q| match name {
                "good.test" => reply(q, 0, Some([127, 0, 0, 9])),
                "odd.test" => reply(q, 0, None),
                "broken.test" => reply(q, 2, None),
                _ => reply(q, 3, None),
            })
            .await;
            let r = resolver(Source::Servers(vec![addr]), None);
            assert_eq!(look(&r, "Good.test", 1000).await.unwrap(), "127.0.0.9");
            assert_eq!(look(&r, "good.test.", 1000).await.unwrap(), "127.0.0.9");
            assert_eq!(count.get(), 1);
            for (name, text) in [
                ("odd.test", "odd.test could not be resolved (3: Host not found)"),
                ("none.test", "none.test could not be resolved (3: Host not found)"),
                ("broken.test", "broken.test could not be resolved (2: Server failure)"),
                ("a..b", "a..b could not be resolved (3: Host not found)"),
            ] {
                assert_eq!(look(&r, name, 1000).await.unwrap_err(), text);
            }
            let none = Names::None.lookup("x", &Trace::default()).await.unwrap_err();
            assert_eq!(none, "no resolver defined to resolve \"x\"");
            assert_eq!(look(&r, "10.0.0.1", 1).await.unwrap(), "10.0.0.1");
        });
    }

    #[test]
    fn forged_answers_are_not_believed_and_silence_times_out() {
        run(async {
            let (addr, _) = server(|_, q| {
                let mut m = reply(q, 0, Some([6, 6, 6, 6]));
                m[1] ^= 1;
                m
            })
            .await;
            let r = resolver(Source::Servers(vec![addr]), None);
            let e = look(&r, "a.test", 50).await.unwrap_err();
            assert_eq!(e, "a.test could not be resolved (110: Operation timed out)");
            assert!(r.running.borrow().is_empty(), "nobody waits any more, so nobody asks");
        });
    }

    #[test]
    fn a_broken_server_does_not_hide_a_good_one() {
        run(async {
            let (bad, _) = server(|_, q| reply(q, 5, None)).await;
            let (good, _) = server(|_, q| reply(q, 0, Some([1, 2, 3, 4]))).await;
            for list in [vec![bad, good], vec![good, bad]] {
                let r = resolver(Source::Servers(list), Some(0));
                assert_eq!(look(&r, "a.test", 1000).await.unwrap(), "1.2.3.4");
                assert_eq!(look(&r, "a.test", 1000).await.unwrap(), "1.2.3.4");
            }
        });
    }

    #[test]
    fn server_that_is_not_there_is_complained_about_at_once() {
        run(async {
            let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let addr = socket.local_addr().unwrap();
            drop(socket);
            let (good, _) = server(|_, q| reply(q, 0, Some([1, 2, 3, 4]))).await;
            let said = Rc::new(RefCell::new(Vec::new()));
            let to = said.clone();
            let complain: Complain = Rc::new(move |call, e, at| {
                to.borrow_mut().push(format!("{call} {:?} {}", e.kind(), at == addr));
            });
            let r = Resolver::new(Source::Servers(vec![addr, good]), None, true, false, complain);
            assert_eq!(look(&r, "a.test", 1000).await.unwrap(), "1.2.3.4");
            assert_eq!(*said.borrow(), ["recv() ConnectionRefused true"]);
        });
    }

    #[test]
    fn long_answers_are_asked_for_over_tcp() {
        run(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let udp = tokio::net::UdpSocket::bind(addr).await.unwrap();
            tokio::task::spawn_local(async move {
                let mut buf = [0u8; 512];
                let (n, from) = udp.recv_from(&mut buf).await.unwrap();
                let mut m = reply(&buf[..n], 0, None);
                m[2] |= 2;
                udp.send_to(&m, from).await.unwrap();
                let (mut s, _) = listener.accept().await.unwrap();
                let len = s.read_u16().await.unwrap();
                let mut q = vec![0u8; usize::from(len)];
                s.read_exact(&mut q).await.unwrap();
                let m = reply(&q, 0, Some([9, 9, 9, 9]));
                s.write_u16(m.len() as u16).await.unwrap();
                s.write_all(&m).await.unwrap();
            });
            let r = resolver(Source::Servers(vec![addr]), None);
            assert_eq!(look(&r, "long.test", 2000).await.unwrap(), "9.9.9.9");
        });
    }

    #[test]
    fn system_files_are_read_as_the_c_library_does() {
        let hosts = parse_hosts("127.0.0.1 localhost Here # comment\n::1 localhost\nnonsense x\n");
        assert_eq!(hosts["localhost"].len(), 2);
        assert!(hosts["localhost"][0].is_ipv4() && hosts.contains_key("here"));
        let conf =
            parse_conf("; c\nsearch a.b c.d.\nnameserver 1.2.3.4\nnameserver x\noptions ndots:2 rotate\n");
        assert_eq!(conf.servers, ["1.2.3.4:53".parse().unwrap()]);
        assert_eq!((conf.search, conf.ndots), (vec!["a.b".to_owned(), "c.d".to_owned()], 2));
    }

    #[test]
    fn system_names_come_from_hosts_without_any_server() {
        run(async {
            let dir = std::env::temp_dir().join(format!("moonlit-hosts-{}", std::process::id()));
            std::fs::write(&dir, "10.1.2.3 inner\n").unwrap();
            let source = Source::System { hosts: dir.clone(), conf: "/nowhere/resolv.conf".into() };
            let r = resolver(source, None);
            assert_eq!(look(&r, "INNER", 1000).await.unwrap(), "10.1.2.3");
            let e = look(&r, "outer", 1000).await.unwrap_err();
            assert_eq!(e, "outer could not be resolved (2: Server failure)");
            std::fs::remove_file(dir).unwrap();
        });
    }
}
