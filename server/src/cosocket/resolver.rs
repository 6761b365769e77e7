//! From a host name to addresses: literals at once, names through the system's resolver.
//!
//! The system is asked on the runtime's blocking threads, so a slow name server
//! holds up only who asked. Knows nothing of sockets or pools.

use std::net::{IpAddr, SocketAddr};

/// The address that a literal names, `[::1]` included.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

/// All addresses of a name. The error is the text that `connect` returns.
pub async fn lookup(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let found: Vec<SocketAddr> = match tokio::net::lookup_host((host, port)).await {
        Ok(addrs) => addrs.collect(),
        Err(_) => Vec::new(),
    };
    if found.is_empty() {
        return Err(format!("{host} could not be resolved (3: Host not found)"));
    }
    Ok(found)
}
