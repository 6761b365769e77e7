//! `http`, `server`, `listen`, `server_name`; and what becomes of the servers in the end.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use crate::conf::directive::{Arity, Build, Cx, Row, block, simple, walk};
use crate::conf::error::{ConfError, Fail};
use crate::conf::level::{Level, ListenLine};
use crate::conf::model::{
    KeepaliveProbe, Level as LogLevel, Listen, ListenAddr, ListenOptions, LocationKind,
};
use crate::conf::servers::{ServerName, ServerNames};
use crate::conf::tree::Node;
use crate::conf::value;
use crate::phase::Contexts;

/// The rows.
pub const ROWS: &[Row] = &[
    block("http", Contexts::MAIN, Arity::Exactly(0), http),
    block("server", Contexts::HTTP, Arity::Exactly(0), server),
    simple("listen", Contexts::SERVER, Arity::AtLeast(1), listen),
    simple("server_name", Contexts::SERVER, Arity::AtLeast(1), server_name),
];

fn http(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.all.http.is_some() {
        return Err(Fail::duplicate());
    }
    cx.all.modules_closed = true;
    let mut level = Level::new(Contexts::HTTP, LocationKind::Http);
    walk(cx.all, &mut level, node.items())?;
    for server in &level.inner {
        check_locations(server)?;
    }
    if let Some(name) = cx.all.vars.undeclared() {
        return Err(ConfError::whole(format!("unknown \"{name}\" variable")).into());
    }
    cx.all.http = Some(level);
    Ok(())
}

/// No two locations of one level are the same.
fn check_locations(level: &Level) -> Result<(), ConfError> {
    let mut seen: HashMap<(u8, &[u8]), ()> = HashMap::new();
    for inner in &level.inner {
        let kind = match inner.kind {
            LocationKind::Exact => 0,
            LocationKind::Prefix | LocationKind::PrefixNoRegex => 1,
            LocationKind::Named => 2,
            _ => continue,
        };
        if seen.insert((kind, &inner.name), ()).is_some() {
            let what = if kind == 2 { "duplicate named location" } else { "duplicate location" };
            let message = format!("{what} \"{}\"", String::from_utf8_lossy(&inner.name));
            return Err(match &inner.place {
                Some(place) => ConfError::at(place, message),
                None => ConfError::whole(message),
            });
        }
        check_locations(inner)?;
    }
    Ok(())
}

fn server(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut level = Level::new(Contexts::SERVER, LocationKind::Server);
    level.place = Some(node.place.clone());
    walk(cx.all, &mut level, node.items())?;
    if level.server_part.listens.is_empty() {
        // Only the superuser may bind port 80.
        use std::os::unix::fs::MetadataExt;
        let root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
        let addr = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), if root { 80 } else { 8000 });
        level.server_part.listens.push(ListenLine {
            addr: ListenAddr::Inet(addr),
            options: ListenOptions::default(),
            bind: false,
            set: false,
            default_server: false,
            place: node.place.clone(),
        });
    }
    if level.server_part.names.is_empty() {
        level.server_part.names.push(ServerName::Exact(Box::default()));
    }
    cx.scope.inner.push(level);
    Ok(())
}

fn listen(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let text = node.text(0);
    let addrs = addresses(&text)
        .map_err(|why| Fail::Message(format!("{why} in \"{text}\" of the \"listen\" directive")))?;
    let mut options = ListenOptions::default();
    let (mut bind, mut set, mut default_server) = (false, false, false);
    for arg in &node.args[1..] {
        let known = listen_option(arg, &mut options, &mut bind, &mut set, &mut default_server)?;
        if !known {
            return Err(Fail::parameter(arg));
        }
    }
    for addr in addrs {
        if cx.scope.server_part.listens.iter().any(|line| line.addr == addr) {
            return Err(Fail::Message(format!("a duplicate listen {addr}")));
        }
        let line = ListenLine {
            addr,
            options: options.clone(),
            bind: bind || set,
            set,
            default_server,
            place: node.place.clone(),
        };
        cx.scope.server_part.listens.push(line);
    }
    Ok(())
}

fn listen_option(
    arg: &[u8],
    options: &mut ListenOptions,
    bind: &mut bool,
    set: &mut bool,
    default_server: &mut bool,
) -> Result<bool, Fail> {
    let text = String::from_utf8_lossy(arg);
    let refuse = |what: &str| Err(Fail::Message(format!("the \"{what}\" parameter is not supported yet")));
    let (name, val) = text.split_once('=').map_or((&*text, None), |(name, val)| (name, Some(val)));
    match (name, val) {
        ("default_server" | "default", None) => *default_server = true,
        ("bind", None) => *bind = true,
        ("reuseport", None) => {
            options.reuseport = true;
            *set = true;
        }
        ("deferred", None) => {
            options.deferred = true;
            *set = true;
        }
        ("backlog", Some(val)) => {
            let backlog = val.parse().ok().filter(|n| *n > 0);
            options.backlog = backlog.ok_or_else(|| Fail::Message(format!("invalid backlog \"{text}\"")))?;
            *set = true;
        }
        ("fastopen", Some(val)) => {
            let queue = val.parse().ok().filter(|n| *n >= 0);
            options.fastopen =
                Some(queue.ok_or_else(|| Fail::Message(format!("invalid fastopen \"{text}\"")))?);
            *set = true;
        }
        ("rcvbuf" | "sndbuf", Some(val)) => {
            let bytes = value::size(val.as_bytes())
                .and_then(|bytes| usize::try_from(bytes).ok())
                .ok_or_else(|| Fail::Message(format!("invalid {name} \"{text}\"")))?;
            if name == "rcvbuf" {
                options.rcvbuf_bytes = Some(bytes);
            } else {
                options.sndbuf_bytes = Some(bytes);
            }
            *set = true;
        }
        ("ipv6only", Some(val)) => {
            options.ipv6only = match val {
                "on" => true,
                "off" => false,
                _ => return Err(Fail::parameter(arg)),
            };
            *set = true;
        }
        ("so_keepalive", Some(val)) => {
            options.so_keepalive = Some(
                probe(val).ok_or_else(|| Fail::Message(format!("invalid so_keepalive value: \"{val}\"")))?,
            );
            *set = true;
        }
        ("proxy_protocol", None) => options.proxy_protocol = true,
        ("ssl", None) => options.ssl = true,
        ("http2" | "quic" | "spdy", None) => return refuse(name),
        ("setfib" | "accept_filter", Some(_)) => {
            return Err(Fail::Message(format!("{name} is not supported on this platform")));
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn probe(text: &str) -> Option<KeepaliveProbe> {
    let mut probe = KeepaliveProbe { on: true, idle_s: None, interval_s: None, count: None };
    match text {
        "on" => return Some(probe),
        "off" => {
            probe.on = false;
            return Some(probe);
        }
        _ => {}
    }
    let mut parts = text.splitn(3, ':');
    let seconds = |part: Option<&str>| -> Option<Option<u32>> {
        match part {
            None | Some("") => Some(None),
            Some(part) => Some(Some(u32::try_from(value::time_s(part.as_bytes())?).ok()?)),
        }
    };
    probe.idle_s = seconds(parts.next())?;
    probe.interval_s = seconds(parts.next())?;
    probe.count = match parts.next() {
        None | Some("") => None,
        Some(part) => Some(part.parse().ok()?),
    };
    Some(probe)
}

/// The addresses of a `listen` argument. The error is nginx's words.
fn addresses(text: &str) -> Result<Vec<ListenAddr>, &'static str> {
    const DEFAULT_PORT: u16 = 80;
    if let Some(path) = text.strip_prefix("unix:") {
        return match path {
            "" => Err("no path in the unix domain socket"),
            _ if path.len() > 107 => Err("too long path in the unix domain socket"),
            _ => Ok(vec![ListenAddr::Unix(PathBuf::from(path))]),
        };
    }
    let port_of = |port: &str| -> Result<u16, &'static str> {
        let number = port.parse::<u32>().ok().filter(|_| port.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port > 0).ok_or("invalid port")
    };
    let inet = |ip: IpAddr, port: u16| Ok(vec![ListenAddr::Inet(SocketAddr::new(ip, port))]);
    if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or("invalid host")?;
        let port = match after {
            "" => DEFAULT_PORT,
            _ => port_of(after.strip_prefix(':').ok_or("invalid host")?)?,
        };
        return inet(host.parse::<Ipv6Addr>().map_err(|_| "invalid IPv6 address")?.into(), port);
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port_of(port)?),
        None if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) => ("*", port_of(text)?),
        None => (text, DEFAULT_PORT),
    };
    match host {
        "" => Err("no host"),
        "*" => inet(Ipv4Addr::UNSPECIFIED.into(), port),
        _ => match host.parse::<Ipv4Addr>() {
            Ok(ip) => inet(ip.into(), port),
            Err(_) => {
                let found = (host, port).to_socket_addrs().map_err(|_| "host not found")?;
                let mut addrs = Vec::new();
                for addr in found.map(ListenAddr::Inet) {
                    if !addrs.contains(&addr) {
                        addrs.push(addr);
                    }
                }
                Ok(addrs)
            }
        },
    }
}

fn server_name(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    for arg in &node.args {
        let text = String::from_utf8_lossy(arg).into_owned();
        if text.contains('/') {
            cx.warn(LogLevel::Warn, node, &format!("server name \"{text}\" has suspicious symbols"));
        }
        let first = text.strip_prefix('.').unwrap_or(&text).to_owned();
        let (name, shown) = if text == "$hostname" {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let host = host.trim().to_ascii_lowercase();
            (ServerName::Exact(host.as_bytes().into()), host)
        } else if let Some(regex) = text.strip_prefix('~') {
            if regex.is_empty() {
                return Err(Fail::Message("empty regex in server name \"~\"".to_owned()));
            }
            let caseless = regex.bytes().any(|byte| byte.is_ascii_uppercase());
            (ServerName::Pattern(cx.pattern(&arg[1..], caseless)?), text.clone())
        } else {
            let lower = text.to_ascii_lowercase();
            let invalid = ServerName::Invalid(text.as_bytes().into());
            (plain_name(&lower).unwrap_or(invalid), first)
        };
        let part = &mut cx.scope.server_part;
        part.first_name.get_or_insert(shown);
        part.names.push(name);
    }
    Ok(())
}

/// A name or mask; `None` for a `*` in the wrong place.
fn plain_name(name: &str) -> Option<ServerName> {
    let boxed = |text: &str| -> Box<[u8]> { text.as_bytes().into() };
    if let Some(rest) = name.strip_prefix("*.") {
        return (!rest.contains('*') && !rest.is_empty()).then(|| ServerName::Suffix(boxed(&name[1..])));
    }
    if let Some(rest) = name.strip_prefix('.') {
        return (!rest.contains('*') && !rest.is_empty()).then(|| ServerName::Domain(boxed(name)));
    }
    if let Some(rest) = name.strip_suffix(".*") {
        return (!rest.contains('*')).then(|| ServerName::Prefix(boxed(&name[..name.len() - 1])));
    }
    (!name.contains('*')).then(|| ServerName::Exact(boxed(name)))
}

/// What the lines of one address said of its protocols.
#[derive(Default)]
struct Protocols {
    /// What the last line named that counts; a bit for each protocol.
    named: Option<u8>,
    /// Lines differed.
    changed: bool,
}

/// The protocols that are set, a bit for each.
fn protocols_of(options: &ListenOptions) -> u8 {
    u8::from(options.proxy_protocol) | u8::from(options.ssl) << 1
}

impl Protocols {
    /// Whether a further line contradicts what is known: nginx lets one line name the protocols for all, if it is the
    /// only one that differs or the one with the address's options.
    fn redefines(&mut self, line: &ListenLine, before: u8, has_options: bool) -> bool {
        let now = protocols_of(&line.options);
        let differs = self.named.is_some_and(|named| named != now);
        if now | before != before {
            let contradicts = has_options && !line.set || self.changed || now | before != now;
            (self.named, self.changed) = (Some(before), true);
            return contradicts;
        }
        let contradicts = if now != before { line.set } else { line.set && self.changed } || differs;
        self.changed |= now != before;
        self.named = Some(now);
        contradicts
    }
}

/// The listen addresses of all servers, with their names and default servers.
pub fn listens(all: &mut Build, servers: &[Level]) -> Result<Vec<Listen>, ConfError> {
    let mut listens: Vec<Listen> = Vec::new();
    let mut has_default: Vec<bool> = Vec::new();
    let mut has_options: Vec<bool> = Vec::new();
    let mut protocols: Vec<Protocols> = Vec::new();
    for (index, server) in servers.iter().enumerate() {
        for line in &server.server_part.listens {
            let at = listens.iter().position(|listen| listen.addr == line.addr).unwrap_or_else(|| {
                listens.push(Listen {
                    addr: line.addr.clone(),
                    options: line.options.clone(),
                    default_server: index,
                    servers: Vec::new(),
                    names: ServerNames::default(),
                    bind: false,
                });
                has_default.push(false);
                has_options.push(false);
                protocols.push(Protocols::default());
                listens.len() - 1
            });
            let listen = &mut listens[at];
            // The protocol holds for the address, whichever of its lines names it.
            let fresh = listen.servers.is_empty();
            let proxied = line.options.proxy_protocol || listen.options.proxy_protocol;
            let ssl = line.options.ssl || listen.options.ssl;
            if !fresh && protocols[at].redefines(line, protocols_of(&listen.options), has_options[at]) {
                let message = format!("protocol options redefined for {}", line.addr);
                all.warnings.push((
                    LogLevel::Warn,
                    format!("{message} in {}:{}", line.place.file.display(), line.place.line),
                ));
            }
            if line.default_server {
                if has_default[at] {
                    let message = format!("a duplicate default server for {}", line.addr);
                    return Err(ConfError::at(&line.place, message));
                }
                has_default[at] = true;
                listen.default_server = index;
            }
            if line.set {
                if has_options[at] {
                    let message = format!("duplicate listen options for {}", line.addr);
                    return Err(ConfError::at(&line.place, message));
                }
                has_options[at] = true;
                listen.options = line.options.clone();
            }
            listen.options.proxy_protocol = proxied;
            listen.options.ssl = ssl;
            listen.bind |= line.bind;
            listen.servers.push(index);
            for name in &server.server_part.names {
                if let ServerName::Invalid(name) = name {
                    let name = String::from_utf8_lossy(name);
                    let message = format!("invalid server name or wildcard \"{name}\" on {}", line.addr);
                    return Err(ConfError::whole(message));
                }
                if !listen.names.add(name, index) {
                    let shown = match name {
                        ServerName::Exact(name) | ServerName::Domain(name) => {
                            String::from_utf8_lossy(name).into_owned()
                        }
                        ServerName::Suffix(name) => format!("*{}", String::from_utf8_lossy(name)),
                        ServerName::Prefix(name) => format!("{}*", String::from_utf8_lossy(name)),
                        ServerName::Pattern(_) | ServerName::Invalid(_) => continue,
                    };
                    let message = format!("conflicting server name \"{shown}\" on {}, ignored", line.addr);
                    all.warnings.push((LogLevel::Warn, message));
                }
            }
        }
    }
    // A wildcard address of the same port and family receives for the others, unless they ask for sockets.
    let wildcards: Vec<(bool, u16)> = listens
        .iter()
        .filter_map(|listen| match &listen.addr {
            ListenAddr::Inet(addr) if addr.ip().is_unspecified() => Some((addr.is_ipv4(), addr.port())),
            _ => None,
        })
        .collect();
    for listen in &mut listens {
        let covered = match &listen.addr {
            ListenAddr::Inet(addr) => {
                !addr.ip().is_unspecified() && wildcards.contains(&(addr.is_ipv4(), addr.port()))
            }
            ListenAddr::Unix(_) => false,
        };
        listen.bind |= !covered;
    }
    Ok(listens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        let shown = |text: &str| match addresses(text) {
            Ok(addrs) => addrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            Err(why) => why.to_owned(),
        };
        assert_eq!(shown("80"), "0.0.0.0:80");
        assert_eq!(shown("*:8080"), "0.0.0.0:8080");
        assert_eq!(shown("127.0.0.1"), "127.0.0.1:80");
        assert_eq!(shown("[::1]:81"), "[::1]:81");
        assert_eq!(shown("unix:/a/b"), "unix:/a/b");
        assert_eq!(shown("99999"), "invalid port");
        assert_eq!(shown("127.0.0.1:0"), "invalid port");
        assert_eq!(shown(":80"), "no host");
    }

    #[test]
    fn server_name_masks() {
        assert!(matches!(plain_name("*.a.b"), Some(ServerName::Suffix(s)) if *s == *b".a.b"));
        assert!(matches!(plain_name(".a.b"), Some(ServerName::Domain(s)) if *s == *b".a.b"));
        assert!(matches!(plain_name("a.*"), Some(ServerName::Prefix(s)) if *s == *b"a."));
        assert!(plain_name("a.*.b").is_none());
    }
}
