//! The address part of URLs in upstream directives: `host[:port][/uri]` and `unix:path[:uri]`.
//!
//! Used for the configuration and, where a directive has variables, for requests. Resolves no names.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use super::upstream::PeerAddr;

/// A parsed URL, without its scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The host as written; the path of a Unix socket.
    pub host: String,
    /// The port, or the default one.
    pub port: u16,
    /// The port as written.
    pub port_text: Option<String>,
    /// The address, when the host is one.
    pub addr: Option<PeerAddr>,
    /// The rest: empty, or from `/` or `?` on.
    pub uri: Vec<u8>,
}

impl Url {
    /// Whether it names a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.addr, Some(PeerAddr::Unix(_)))
    }

    /// What `Host` says by default, `$proxy_host`.
    pub fn host_header(&self, default_port: u16) -> String {
        if self.is_unix() {
            return "localhost".to_owned();
        }
        match &self.port_text {
            Some(text) if self.port != default_port => format!("{}:{text}", self.host),
            _ => self.host.clone(),
        }
    }
}

/// Parses what stands behind the scheme. The error is nginx's words for it.
pub fn parse(text: &[u8], default_port: u16) -> Result<Url, &'static str> {
    if let Some(rest) = strip_unix(text) {
        let end = memchr::memchr(b':', rest).unwrap_or(rest.len());
        let uri = rest.get(end + 1..).unwrap_or_default();
        let path = std::str::from_utf8(&rest[..end]).map_err(|_| "invalid host")?;
        return match path.len() {
            0 => Err("no path in the unix domain socket"),
            1..=107 => Ok(Url {
                host: path.to_owned(),
                port: 0,
                port_text: None,
                addr: Some(PeerAddr::Unix(PathBuf::from(path))),
                uri: uri.to_vec(),
            }),
            _ => Err("too long path in the unix domain socket"),
        };
    }
    let bracket = if text.first() == Some(&b'[') { memchr::memchr(b']', text).unwrap_or(0) } else { 0 };
    let end =
        text[bracket..].iter().position(|b| matches!(b, b'/' | b'?')).map_or(text.len(), |n| n + bracket);
    let uri = text[end..].to_vec();
    let authority = std::str::from_utf8(&text[..end]).map_err(|_| "invalid host")?;
    let (host, port_text) = if authority.starts_with('[') {
        let (inner, after) = authority[1..].split_once(']').ok_or("invalid host")?;
        let ip: Ipv6Addr = inner.parse().map_err(|_| "invalid IPv6 address")?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or("invalid host")?),
        };
        let port_number = port.map_or(Ok(default_port), port_of)?;
        return Ok(Url {
            host: format!("[{inner}]"),
            port: port_number,
            port_text: port.map(str::to_owned),
            addr: Some(PeerAddr::Inet(SocketAddr::new(IpAddr::V6(ip), port_number))),
            uri,
        });
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    let port = port_text.map_or(Ok(default_port), port_of)?;
    if host.is_empty() {
        return Err("no host");
    }
    let addr = host.parse::<std::net::Ipv4Addr>().ok();
    Ok(Url {
        host: host.to_owned(),
        port,
        port_text: port_text.map(str::to_owned),
        addr: addr.map(|ip| PeerAddr::Inet(SocketAddr::new(IpAddr::V4(ip), port))),
        uri,
    })
}

fn strip_unix(text: &[u8]) -> Option<&[u8]> {
    let head = text.get(..5)?;
    head.eq_ignore_ascii_case(b"unix:").then(|| &text[5..])
}

fn port_of(text: &str) -> Result<u16, &'static str> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number: Option<u32> = if digits { text.parse().ok() } else { None };
    number.and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0).ok_or("invalid port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_uris_are_told_apart() {
        for (text, host, port, uri, header) in [
            ("127.0.0.1:8080/a/b", "127.0.0.1", 8080, "/a/b", "127.0.0.1:8080"),
            ("backend", "backend", 80, "", "backend"),
            ("backend:80", "backend", 80, "", "backend"),
            ("h?x=1", "h", 80, "?x=1", "h"),
            ("[::1]:81/", "[::1]", 81, "/", "[::1]:81"),
            ("unix:/tmp/s.sock:/x", "/tmp/s.sock", 0, "/x", "localhost"),
            ("unix:/tmp/s.sock", "/tmp/s.sock", 0, "", "localhost"),
        ] {
            let url = parse(text.as_bytes(), 80).unwrap();
            assert_eq!((&*url.host, url.port, &url.uri[..]), (host, port, uri.as_bytes()), "{text}");
            assert_eq!(url.host_header(80), header, "{text}");
        }
    }

    #[test]
    fn malformed_ones_have_nginx_words() {
        for (text, why) in [
            ("", "no host"),
            (":80", "no host"),
            ("a:0", "invalid port"),
            ("a:99999", "invalid port"),
            ("a:x/", "invalid port"),
            ("[::1", "invalid host"),
            ("[zz]", "invalid IPv6 address"),
            ("unix:", "no path in the unix domain socket"),
        ] {
            assert_eq!(parse(text.as_bytes(), 80), Err(why), "{text}");
        }
    }
}
