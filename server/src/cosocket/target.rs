//! From the host argument of `connect` to an address or a name.
//!
//! The texts are those of nginx's URL parser, which scripts see behind
//! `failed to parse host name`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

/// Longest path of a Unix socket.
const UNIX_PATH_BYTES_MAX: usize = 107;

/// What a host names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address.
    Addr(SocketAddr),
    /// A name to be resolved, and the port.
    Name(String, u16),
    /// `unix:` path.
    Unix(PathBuf),
}

/// Reads a host argument; a port in it counts more than `port`. The error is the parser's text.
pub fn parse(host: &[u8], port: u16) -> Result<Target, &'static str> {
    if host.len() >= 5 && host[..5].eq_ignore_ascii_case(b"unix:") {
        return unix(&host[5..]);
    }
    let text = std::str::from_utf8(host).map_err(|_| "invalid host")?;
    if let Some(rest) = text.strip_prefix('[') {
        return v6(rest, port);
    }
    if text.contains(['/', '?']) {
        return Err("invalid host");
    }
    let (name, port) = match text.split_once(':') {
        Some((name, digits)) => (name, port_of(digits)?),
        None => (text, port),
    };
    if name.is_empty() {
        return Err("no host");
    }
    Ok(match name.parse() {
        Ok(ip) => Target::Addr(SocketAddr::new(IpAddr::V4(ip), port)),
        Err(_) => Target::Name(name.to_owned(), port),
    })
}

fn unix(path: &[u8]) -> Result<Target, &'static str> {
    use std::os::unix::ffi::OsStrExt;
    if path.is_empty() {
        return Err("no path in the unix domain socket");
    }
    if path.len() > UNIX_PATH_BYTES_MAX {
        return Err("too long path in the unix domain socket");
    }
    Ok(Target::Unix(std::ffi::OsStr::from_bytes(path).into()))
}

fn v6(rest: &str, port: u16) -> Result<Target, &'static str> {
    let Some((inner, after)) = rest.split_once(']') else { return Err("invalid host") };
    let port = match after.strip_prefix(':') {
        Some(digits) => port_of(digits)?,
        None if after.is_empty() => port,
        None => return Err("invalid host"),
    };
    match inner.parse::<Ipv6Addr>() {
        Ok(ip) => Ok(Target::Addr(SocketAddr::new(IpAddr::V6(ip), port))),
        Err(_) => Err("invalid IPv6 address"),
    }
}

fn port_of(digits: &str) -> Result<u16, &'static str> {
    match digits.parse::<u16>() {
        Ok(n) if n > 0 && digits.bytes().all(|b| b.is_ascii_digit()) => Ok(n),
        _ => Err("invalid port"),
    }
}

/// An address literal, `[::1]` included.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_by_nginx() {
        let show = |r: Result<Target, &'static str>| match r {
            Ok(Target::Addr(a)) => format!("addr {a}"),
            Ok(Target::Name(n, p)) => format!("name {n} {p}"),
            Ok(Target::Unix(p)) => format!("unix {}", p.display()),
            Err(e) => format!("error {e}"),
        };
        for (host, want) in [
            ("127.0.0.1", "addr 127.0.0.1:80"),
            ("127.0.0.1:81", "addr 127.0.0.1:81"),
            ("[::1]", "addr [::1]:80"),
            ("[::1]:8", "addr [::1]:8"),
            ("[::1", "error invalid host"),
            ("[x]", "error invalid IPv6 address"),
            ("a.b", "name a.b 80"),
            ("a.b:0", "error invalid port"),
            ("a.b:+1", "error invalid port"),
            ("a/b", "error invalid host"),
            ("", "error no host"),
            (":80", "error no host"),
            ("unix:", "error no path in the unix domain socket"),
            ("UNIX:/a", "unix /a"),
        ] {
            assert_eq!(show(parse(host.as_bytes(), 80)), want, "{host:?}");
        }
        assert_eq!(parse(b"a\xff", 1), Err("invalid host"));
    }
}
