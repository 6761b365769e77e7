//! `real_ip_header`: the client's address out of a header, or the PROXY protocol, of a trusted proxy.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use crate::conf::filter_settings::RealIpHeader;
use crate::request::Request;

/// Replaces the client's address if the configuration in force trusts who sent the request. Once per request.
pub fn apply(req: &Rc<Request>) {
    if !req.is_main() || req.location().parts.real_ip_from.is_empty() || req.peer.get() != req.conn.peer {
        return;
    }
    let level = req.level.borrow().clone();
    let trusted = &level.parts.real_ip_from;
    if trusted.is_empty() || !trusted.iter().any(|n| n.has(req.conn.peer.map(|a| a.ip()))) {
        return;
    }
    let headers = req.headers.borrow();
    let found = match &level.filters.real_ip_header {
        RealIpHeader::XRealIp => single(headers.get(b"x-real-ip")),
        RealIpHeader::ProxyProtocol => req.conn.proxied.get().and_then(|p| {
            let ip = p.addr.parse::<IpAddr>().ok()?;
            Some(SocketAddr::new(ip, p.port))
        }),
        RealIpHeader::Other(name) => single(headers.get(name)),
        RealIpHeader::XForwardedFor => {
            let lines: Vec<&[u8]> = headers.all(b"x-forwarded-for").collect();
            let mut addrs: Vec<&[u8]> = lines.iter().flat_map(|l| l.split(|b| *b == b',')).collect();
            let mut found = None;
            while let Some(addr) = addrs.pop().and_then(|text| address(text.trim_ascii())) {
                found = Some(addr);
                if !level.filters.real_ip_recursive || !trusted.iter().any(|n| n.has(Some(addr.ip()))) {
                    break;
                }
            }
            found
        }
    };
    drop(headers);
    if let Some(addr) = found {
        req.peer.set(Some(addr));
    }
}

fn single(value: Option<&[u8]>) -> Option<SocketAddr> {
    address(value?.trim_ascii())
}

/// An address with or without port.
fn address(text: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Some(addr);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    Some(SocketAddr::new(bare.parse::<IpAddr>().ok()?, 0))
}
