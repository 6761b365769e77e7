//! What a request remembers of the servers it was passed on to: for variables, the log and balancers.
//!
//! Knows no connection; whoever passes the request on fills this in.

use std::sync::Arc;

use super::headers::Headers;
use crate::conf::upstream::{PeerAddr, Upstream};

/// A time that is not known.
pub const NO_TIME: u64 = u64::MAX;

/// One try, or the border between two groups of tries.
#[derive(Clone, Debug)]
pub struct UpstreamTry {
    /// The server asked; `None` is a border: an internal redirect lies between.
    pub peer: Option<Arc<str>>,
    /// The status of the response; 0 when there is none.
    pub status: u16,
    /// When the try began, by the monotonic clock.
    pub start_ms: u64,
    /// How long the connect took.
    pub connect_ms: u64,
    /// How long until the head of the response was there.
    pub header_ms: u64,
    /// How long until its end.
    pub response_ms: u64,
    /// Bytes of the body of the response.
    pub response_length: u64,
    /// Bytes read from the server.
    pub bytes_received: u64,
    /// Bytes sent to it.
    pub bytes_sent: u64,
}

impl UpstreamTry {
    /// A try that begins now.
    pub fn begin(peer: Arc<str>, now_ms: u64) -> UpstreamTry {
        UpstreamTry {
            peer: Some(peer),
            status: 0,
            start_ms: now_ms,
            connect_ms: NO_TIME,
            header_ms: NO_TIME,
            response_ms: NO_TIME,
            response_length: 0,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    fn border() -> UpstreamTry {
        UpstreamTry { peer: None, ..UpstreamTry::begin(Arc::from(""), 0) }
    }
}

/// How the last try of a balancer's choice failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastFailure {
    /// There was none.
    #[default]
    None,
    /// The server answered with a status that asks for another one (403 and 404).
    Next,
    /// Everything else.
    Failed,
}

/// What a balancer script has chosen, and what it may ask about the tries before.
#[derive(Clone, Debug, Default)]
pub struct BalancerState {
    /// The script runs now.
    pub running: bool,
    /// The server chosen.
    pub peer: Option<PeerAddr>,
    /// A name for the server's host, to tell pools apart.
    pub host: Option<Vec<u8>>,
    /// Where the connection is to come from.
    pub local: Option<std::net::SocketAddr>,
    /// Time limits instead of the configured ones, in milliseconds.
    pub connect_timeout_ms: Option<u64>,
    /// As above, for sending.
    pub send_timeout_ms: Option<u64>,
    /// As above, for reading.
    pub read_timeout_ms: Option<u64>,
    /// Tries that the script adds.
    pub more_tries: u64,
    /// Tries that are left, the running one included.
    pub tries_left: u64,
    /// Tries so far, the running one included.
    pub total_tries: u64,
    /// How the last one failed.
    pub last_failure: LastFailure,
    /// The status of the last one.
    pub last_status: u16,
    /// The request is to be made anew before it is sent.
    pub recreate_request: bool,
    /// The connection may be kept after the request.
    pub keepalive: Option<BalancerKeepalive>,
}

/// What `enable_keepalive` asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalancerKeepalive {
    /// How long the connection may idle; 0 is for ever.
    pub idle_timeout_ms: u64,
    /// Requests on one connection; 0 is no limit.
    pub max_requests: u64,
}

/// Everything about upstream servers that a request remembers.
#[derive(Debug)]
pub struct UpstreamInfo {
    /// The tries.
    pub tries: Vec<UpstreamTry>,
    /// The head of the last response.
    pub headers: Option<Headers>,
    /// Its trailers.
    pub trailers: Option<Headers>,
    /// The server asked last, for the log.
    pub peer: Option<Arc<str>>,
    /// The path it was asked for.
    pub uri: Vec<u8>,
    /// The group.
    pub group: Option<Arc<Upstream>>,
    /// Whether TLS is spoken.
    pub ssl: bool,
    /// `$proxy_host`.
    pub proxy_host: Arc<[u8]>,
    /// `$proxy_port`; 0 for Unix sockets.
    pub proxy_port: u16,
    /// What a balancer script says and is told.
    pub balancer: BalancerState,
}

impl Default for UpstreamInfo {
    fn default() -> UpstreamInfo {
        UpstreamInfo {
            tries: Vec::new(),
            headers: None,
            trailers: None,
            peer: None,
            uri: Vec::new(),
            group: None,
            ssl: false,
            proxy_host: Arc::from([]),
            proxy_port: 0,
            balancer: BalancerState::default(),
        }
    }
}

impl UpstreamInfo {
    /// A group of tries begins: after an earlier one, behind a border.
    pub fn begin_group(&mut self) {
        if !self.tries.is_empty() {
            self.tries.push(UpstreamTry::border());
        }
        self.headers = None;
        self.trailers = None;
        self.balancer = BalancerState::default();
    }

    /// The running try.
    pub fn current(&mut self) -> Option<&mut UpstreamTry> {
        self.tries.last_mut().filter(|t| t.peer.is_some())
    }

    /// Appends one value per try, `, ` between them and ` : ` at borders. `write` returns false to show `-`.
    pub fn join(&self, out: &mut Vec<u8>, mut write: impl FnMut(&UpstreamTry, &mut Vec<u8>) -> bool) -> bool {
        if self.tries.is_empty() {
            return false;
        }
        let mut first = true;
        for t in &self.tries {
            if t.peer.is_none() {
                out.extend_from_slice(b" : ");
                first = true;
                continue;
            }
            if !std::mem::take(&mut first) {
                out.extend_from_slice(b", ");
            }
            if !write(t, out) {
                out.push(b'-');
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_joined_with_borders() {
        let mut info = UpstreamInfo::default();
        info.begin_group();
        info.tries.push(UpstreamTry { status: 502, ..UpstreamTry::begin("a".into(), 0) });
        info.tries.push(UpstreamTry { status: 200, ..UpstreamTry::begin("b".into(), 0) });
        info.begin_group();
        assert!(info.current().is_none());
        info.tries.push(UpstreamTry::begin("c".into(), 0));
        let mut out = Vec::new();
        assert!(info.join(&mut out, |t, out| {
            out.extend_from_slice(t.status.to_string().as_bytes());
            t.status > 0
        }));
        assert_eq!(String::from_utf8(out).unwrap(), "502, 200 : 0-");
    }
}
