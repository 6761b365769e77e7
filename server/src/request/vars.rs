//! What the configuration's variables mean in a request.
//!
//! `Vars` is the source of values for scripts; `get` and `set` serve the API.
//! A variable that this build does not compute has no value.

use super::ssl_vars;
use std::fmt::Write as _;

use super::body::Body;
use super::escape::unescape;
use super::headers::matches_underscored;
use super::response::HeadState;
use super::{Request, Stat, args, guards, with_match};
use crate::conf::model::{Level, MapFound};
use crate::conf::variables::{Builtin, Family, Pattern, VarId, VarKind, Variables};
use crate::http1::proxy_protocol::ProxyProtocol;
use crate::http1::tcp_info::TcpInfo;
use crate::http1::write::write_decimal;
use crate::http1::{clock, strftime};
use crate::regex::MatchData;

/// What the groups of the last expression matched.
#[derive(Clone, Debug, Default)]
pub struct Captures {
    subject: Vec<u8>,
    groups: Vec<Option<(usize, usize)>>,
}

impl Captures {
    /// Copies the groups of a match.
    pub fn set(&mut self, subject: &[u8], data: &MatchData) {
        self.subject.clear();
        self.subject.extend_from_slice(subject);
        self.groups.clear();
        self.groups.extend((0..data.len()).map(|n| data.get(n)));
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        super::trim(&mut self.subject);
        self.groups.clear();
    }

    /// The text of a group.
    pub fn get(&self, n: usize) -> Option<&[u8]> {
        let (from, to) = (*self.groups.get(n)?)?;
        self.subject.get(from..to)
    }
}

/// The variables of a request, as a source for scripts.
pub struct Vars<'a>(pub &'a Request);

impl Variables for Vars<'_> {
    fn variable(&mut self, id: VarId, out: &mut Vec<u8>) -> bool {
        let def = self.0.env.http().vars.def(id);
        match def.kind {
            VarKind::Builtin(b) => builtin(self.0, b, out),
            VarKind::Family(f) => family(self.0, f, &def.name, out),
            VarKind::User => match self.0.slots.borrow().get(id.index()) {
                Some(Some(v)) => {
                    out.extend_from_slice(v);
                    true
                }
                _ if self.0.unset.borrow().contains(&id) => false,
                _ if def.assigned => {
                    if self.0.location().uninitialized_variable_warn {
                        let text = format!("using uninitialized \"{}\" variable", def.name);
                        self.0.log(Level::Warn, text.as_bytes());
                    }
                    true
                }
                _ => false,
            },
            VarKind::Absent => false,
            // A script has taken the value away.
            VarKind::Map(_) | VarKind::Geo(_) | VarKind::Split(_) if self.0.unset.borrow().contains(&id) => {
                false
            }
            VarKind::Map(n) => map(self.0, id, n, out),
            VarKind::Geo(n) => geo(self.0, id, n, out),
            VarKind::Split(n) => split(self.0, id, n, out),
        }
    }

    fn capture(&mut self, n: usize, out: &mut Vec<u8>) -> bool {
        match self.0.captures.borrow().get(n) {
            Some(t) => {
                out.extend_from_slice(t);
                true
            }
            None => false,
        }
    }
}

/// Why a variable could not be assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetError {
    /// The configuration does not name it.
    Unknown,
    /// Only the server computes it.
    ReadOnly,
}

/// The value of a variable by its name, whether or not the configuration names it.
pub fn get(req: &Request, name: &[u8]) -> Option<Vec<u8>> {
    if name.first().is_some_and(u8::is_ascii_digit) {
        let n: usize = std::str::from_utf8(name).ok()?.parse().ok()?;
        return req.captures.borrow().get(n).map(<[u8]>::to_vec);
    }
    let lower = String::from_utf8(name.to_ascii_lowercase()).ok()?;
    let mut out = Vec::new();
    let found = if let Some(id) = req.env.http().vars.find(&lower) {
        Vars(req).variable(id, &mut out)
    } else if let Some(b) = Builtin::of(&lower) {
        builtin(req, b, &mut out)
    } else if let Some((f, _)) = Family::of(&lower) {
        family(req, f, &lower, &mut out)
    } else {
        false
    };
    found.then_some(out)
}

/// Assigns a variable by its name.
pub fn set(req: &Request, name: &[u8], value: Option<&[u8]>) -> Result<(), SetError> {
    let lower = String::from_utf8(name.to_ascii_lowercase()).map_err(|_| SetError::Unknown)?;
    match req.env.http().vars.find(&lower) {
        Some(id) => match req.env.http().vars.def(id).kind {
            VarKind::Builtin(b) => set_builtin(req, b, value),
            VarKind::User | VarKind::Map(_) | VarKind::Geo(_) | VarKind::Split(_) => {
                set_slot(req, id, value.map(<[u8]>::to_vec));
                Ok(())
            }
            VarKind::Absent => Err(SetError::ReadOnly),
            // Nobody has made such a variable with `set`.
            VarKind::Family(_) => Err(SetError::Unknown),
        },
        None => match Builtin::of(&lower) {
            Some(b) => set_builtin(req, b, value),
            None => Err(SetError::Unknown),
        },
    }
}

/// Assigns a variable by its number, as `set` does.
pub fn set_id(req: &Request, id: VarId, value: Vec<u8>) {
    match req.env.http().vars.def(id).kind {
        // The configuration refuses `set` on what cannot be assigned.
        VarKind::Builtin(b) => {
            let _ = set_builtin(req, b, Some(&value));
        }
        _ => set_slot(req, id, Some(value)),
    }
}

/// Gives the named groups of an expression that has just matched to their variables.
pub fn set_named(req: &Request, pattern: &Pattern, subject: &[u8], data: &MatchData) {
    for (id, group) in &pattern.named {
        let value = data.get(*group).and_then(|(a, b)| subject.get(a..b)).map(<[u8]>::to_vec);
        set_slot(req, *id, value);
    }
}

fn set_slot(req: &Request, id: VarId, value: Option<Vec<u8>>) {
    let mut unset = req.unset.borrow_mut();
    unset.retain(|known| *known != id);
    if value.is_none() {
        unset.push(id);
    }
    drop(unset);
    let mut slots = req.slots.borrow_mut();
    if slots.len() <= id.index() {
        slots.resize(req.env.http().vars.len(), None);
    }
    slots[id.index()] = value;
}

fn set_builtin(req: &Request, b: Builtin, value: Option<&[u8]>) -> Result<(), SetError> {
    match b {
        Builtin::Args => {
            *req.args.borrow_mut() = value.unwrap_or_default().to_vec();
            req.args_given.set(value.is_some());
            Ok(())
        }
        Builtin::LimitRate => {
            // nginx keeps the old rate when the new one is no size.
            let text = value.unwrap_or_default();
            let Some(rate) = crate::conf::value::size(text) else {
                req.log(Level::Error, &[b"invalid $limit_rate \"", text, b"\""].concat());
                return Ok(());
            };
            {
                req.limit_rate.set(Some(rate));
                if req.is_main() && req.head_sent() {
                    req.conn.throttle(rate, 0);
                }
            }
            Ok(())
        }
        _ => Err(SetError::ReadOnly),
    }
}

fn map(req: &Request, id: VarId, n: usize, out: &mut Vec<u8>) -> bool {
    let map = &req.env.http().maps[n];
    if let Some(Some(v)) = req.slots.borrow().get(id.index()) {
        out.extend_from_slice(v);
        return true;
    }
    let key = req.eval(&map.source);
    let script = with_match(|data| match map.find(&key, data) {
        MapFound::Value(s) => s,
        MapFound::Pattern(p, s) => {
            req.keep_captures(&key, data);
            set_named(req, p, &key, data);
            s
        }
    });
    let value = req.eval(script);
    out.extend_from_slice(&value);
    if !map.volatile {
        set_slot(req, id, Some(value));
    }
    true
}

fn geo(req: &Request, id: VarId, n: usize, out: &mut Vec<u8>) -> bool {
    if let Some(Some(v)) = req.slots.borrow().get(id.index()) {
        return bytes(v, out);
    }
    let geo = &req.env.http().geos[n];
    let mut addr = match geo.address {
        None => req.peer.get().map(|a| a.ip()),
        Some(var) => {
            let mut text = Vec::new();
            Vars(req).variable(var, &mut text);
            std::str::from_utf8(&text).ok().and_then(|t| t.parse().ok())
        }
    };
    if geo.address.is_none() && geo.proxies.iter().any(|p| p.has(addr)) {
        let headers = req.headers.borrow();
        let lines: Vec<&[u8]> = headers.all(b"x-forwarded-for").collect();
        let mut list: Vec<&[u8]> = lines.iter().flat_map(|l| l.split(|b| *b == b',')).collect();
        while let Some(next) =
            list.pop().and_then(|t| std::str::from_utf8(t.trim_ascii()).ok()).and_then(|t| t.parse().ok())
        {
            addr = Some(next);
            if !geo.recursive || !geo.proxies.iter().any(|p| p.has(addr)) {
                break;
            }
        }
    }
    bytes(geo.find(addr), out)
}

fn split(req: &Request, id: VarId, n: usize, out: &mut Vec<u8>) -> bool {
    if let Some(Some(v)) = req.slots.borrow().get(id.index()) {
        return bytes(v, out);
    }
    let split = &req.env.http().splits[n];
    let key = req.eval(&split.key);
    let value = split.find(&key).map(|s| req.eval(s)).unwrap_or_default();
    out.extend_from_slice(&value);
    set_slot(req, id, Some(value));
    true
}

/// What a proxy in front said, if it did.
fn proxied(req: &Request, out: &mut Vec<u8>, show: impl FnOnce(&ProxyProtocol, &mut Vec<u8>)) -> bool {
    req.conn.proxied.get().map(|p| show(p, out)).is_some()
}

/// A port; 0 is shown as nothing.
fn port(n: u16, out: &mut Vec<u8>) {
    if n > 0 {
        write_decimal(out, u64::from(n));
    }
}

fn family(req: &Request, f: Family, name: &str, out: &mut Vec<u8>) -> bool {
    let Some((_, rest)) = Family::of(name) else { return false };
    let rest = rest.as_bytes();
    match f {
        Family::Http => join(req.headers.borrow().iter(), rest, out),
        Family::SentHttp => sent_http(req, rest, out),
        Family::Cookie => cookie(req, rest, out),
        Family::Arg => match args::find(&req.args.borrow(), rest) {
            Some(v) => {
                out.extend_from_slice(v);
                true
            }
            None => false,
        },
        Family::UpstreamHttp | Family::UpstreamTrailer | Family::UpstreamCookie => {
            let up = req.upstream.borrow();
            let Some(up) = &*up else { return false };
            let headers = if f == Family::UpstreamTrailer { &up.trailers } else { &up.headers };
            let Some(headers) = headers else { return false };
            if f == Family::UpstreamCookie {
                return set_cookie(headers.all(b"set-cookie"), rest, out);
            }
            join(headers.iter(), rest, out)
        }
        Family::SentTrailer => {
            let res = req.response.borrow();
            join(res.trailers.iter().map(|(n, v)| (&n[..], &v[..])), rest, out)
        }
        Family::ProxyProtocolTlv => {
            let Some(proxied) = req.conn.proxied.get() else { return false };
            match proxied.tlv(&String::from_utf8_lossy(rest)) {
                Ok(Some(value)) => {
                    out.extend_from_slice(&value);
                    true
                }
                Ok(None) => false,
                Err(text) => {
                    if !text.is_empty() {
                        req.log(Level::Error, text.as_bytes());
                    }
                    false
                }
            }
        }
    }
}

/// Values of one header, joined by commas (cookies by semicolons), as nginx gives them.
fn join<'a>(lines: impl Iterator<Item = (&'a [u8], &'a [u8])>, wanted: &[u8], out: &mut Vec<u8>) -> bool {
    let separator: &[u8] = if wanted == b"cookie" { b"; " } else { b", " };
    let mut found = false;
    for (name, value) in lines {
        if matches_underscored(name, wanted) {
            if found {
                out.extend_from_slice(separator);
            }
            out.extend_from_slice(value);
            found = true;
        }
    }
    found
}

fn sent_http(req: &Request, wanted: &[u8], out: &mut Vec<u8>) -> bool {
    let res = req.response.borrow();
    let sent = res.head == HeadState::Sent;
    match wanted {
        b"content_type" if res.content_type.is_some() => {
            out.extend_from_slice(res.content_type.as_deref().unwrap_or_default());
            true
        }
        b"content_length" if res.content_length.is_some() => number(res.content_length.unwrap_or(0), out),
        b"last_modified" if res.last_modified.is_some() && res.headers.get(b"last-modified").is_none() => {
            text(&clock::http_time(res.last_modified.unwrap_or(0)), out)
        }
        b"connection" if sent => text(if req.keepalive.get() { "keep-alive" } else { "close" }, out),
        b"transfer_encoding" if res.chunked => text("chunked", out),
        _ => join(res.headers.iter(), wanted, out),
    }
}

fn cookie(req: &Request, wanted: &[u8], out: &mut Vec<u8>) -> bool {
    let headers = req.headers.borrow();
    for line in headers.all(b"cookie") {
        for part in line.split(|&b| b == b';') {
            let part = part.trim_ascii_start();
            if let Some(n) = memchr::memchr(b'=', part)
                && part[..n].eq_ignore_ascii_case(wanted)
            {
                out.extend_from_slice(&part[n + 1..]);
                return true;
            }
        }
    }
    false
}

/// The value of a cookie that a response sets.
fn set_cookie<'a>(lines: impl Iterator<Item = &'a [u8]>, wanted: &[u8], out: &mut Vec<u8>) -> bool {
    for line in lines {
        let part = line.split(|&b| b == b';').next().unwrap_or_default().trim_ascii_start();
        if let Some(n) = memchr::memchr(b'=', part)
            && part[..n].eq_ignore_ascii_case(wanted)
        {
            out.extend_from_slice(&part[n + 1..]);
            return true;
        }
    }
    false
}

fn text(t: &str, out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(t.as_bytes());
    true
}

fn number(n: u64, out: &mut Vec<u8>) -> bool {
    crate::http1::write::write_decimal(out, n);
    true
}

fn seconds(ms: u64, out: &mut Vec<u8>) -> bool {
    text(&format!("{}.{:03}", ms / 1000, ms % 1000), out)
}

fn bytes(b: &[u8], out: &mut Vec<u8>) -> bool {
    out.extend_from_slice(b);
    true
}

fn builtin(req: &Request, b: Builtin, out: &mut Vec<u8>) -> bool {
    let conn = &req.conn;
    match b {
        Builtin::Args | Builtin::QueryString => {
            // No arguments are no value, unless somebody wanted none.
            let args = req.args.borrow();
            (!args.is_empty() || req.args_given.get()) && bytes(&args, out)
        }
        Builtin::IsArgs => text(if req.args.borrow().is_empty() { "" } else { "?" }, out),
        Builtin::Uri | Builtin::DocumentUri => bytes(&req.uri.borrow(), out),
        Builtin::RequestUri => bytes(req.headers.borrow().bytes(req.target), out),
        Builtin::Request => bytes(req.headers.borrow().bytes(req.line), out),
        Builtin::RequestMethod => bytes(&req.main().method.borrow(), out),
        Builtin::Host => {
            let host = req.host.borrow();
            if host.is_empty() { text(&req.server.borrow().name, out) } else { bytes(&host, out) }
        }
        Builtin::Hostname => text(&req.env.hostname, out),
        Builtin::Scheme => text(if conn.secured.get().is_some() { "https" } else { "http" }, out),
        Builtin::Https => text(if conn.secured.get().is_some() { "on" } else { "" }, out),
        Builtin::ServerProtocol => match req.version {
            9 => text("", out),
            1000 => text("HTTP/1.0", out),
            v => {
                let _ = v;
                let line = req.headers.borrow();
                let line = line.bytes(req.line);
                let at = memchr::memrchr(b' ', line.trim_ascii_end()).map_or(0, |n| n + 1);
                bytes(&line[at..], out)
            }
        },
        Builtin::ServerName => text(&req.server.borrow().name, out),
        Builtin::ServerAddr => match conn.local {
            Some(a) => text(&a.ip().to_canonical().to_string(), out),
            None => text("unix:", out),
        },
        Builtin::ServerPort => number(conn.local.map_or(0, |a| u64::from(a.port())), out),
        Builtin::RemoteAddr => {
            req.write_remote_addr(out);
            true
        }
        Builtin::RemotePort => match req.peer.get() {
            Some(a) if a.port() > 0 => number(u64::from(a.port()), out),
            _ => text("", out),
        },
        Builtin::BinaryRemoteAddr => match req.peer.get().map(|a| a.ip().to_canonical()) {
            Some(std::net::IpAddr::V4(a)) => bytes(&a.octets(), out),
            Some(std::net::IpAddr::V6(a)) => bytes(&a.octets(), out),
            None => text("unix:", out),
        },
        Builtin::RemoteUser => remote_user(req, out),
        Builtin::Connection => number(conn.serial, out),
        Builtin::ConnectionRequests => number(conn.requests.get(), out),
        Builtin::ConnectionTime => seconds(clock::monotonic_ms().saturating_sub(conn.accepted_ms), out),
        Builtin::ConnectionsActive => number(req.env.stats.get(Stat::Active), out),
        Builtin::ConnectionsReading => number(req.env.stats.get(Stat::Reading), out),
        Builtin::ConnectionsWriting => number(req.env.stats.get(Stat::Writing), out),
        Builtin::ConnectionsWaiting => {
            let s = &req.env.stats;
            number(s.get(Stat::Active).saturating_sub(s.get(Stat::Reading) + s.get(Stat::Writing)), out)
        }
        Builtin::ContentLength => {
            let read = matches!(&*req.body.borrow(), Body::Memory(_) | Body::File(_));
            let chunked =
                matches!(&req.incoming.borrow().decoder, Some(crate::http1::body::Decoder::Chunked(_)));
            if read && chunked && req.headers.borrow().get(b"content-length").is_none() {
                return number(req.incoming.borrow().received, out);
            }
            header(req, b"content-length", out)
        }
        Builtin::ContentType => header(req, b"content-type", out),
        Builtin::DateGmt => zoned_date(0, out),
        Builtin::DateLocal => zoned_date(clock::zone_offset(), out),
        Builtin::GzipRatio => match req.response.borrow().gzip_ratio {
            Some(hundredths) => text(&format!("{}.{:02}", hundredths / 100, hundredths % 100), out),
            None => false,
        },
        Builtin::Http2 | Builtin::Http3 => text("", out),
        Builtin::IsRequestPort => text(if request_port(req).is_empty() { "" } else { ":" }, out),
        Builtin::RequestPort => bytes(&request_port(req), out),
        Builtin::Msie => {
            let headers = req.headers.borrow();
            let agent = headers.get(b"user-agent").unwrap_or_default();
            let opera = memchr::memmem::find(agent, b"Opera").is_some();
            text(if !opera && memchr::memmem::find(agent, b"MSIE ").is_some() { "1" } else { "" }, out)
        }
        Builtin::Status => {
            let res = req.response.borrow();
            let status = if req.err_status.get() != 0 { req.err_status.get() } else { res.status };
            text(&format!("{status:03}"), out)
        }
        Builtin::BodyBytesSent => number(req.response.borrow().body_bytes_sent, out),
        Builtin::BytesSent => number(req.response.borrow().body_bytes_sent + req.header_bytes.get(), out),
        Builtin::RequestLength => number(req.head_len as u64 + req.incoming.borrow().received, out),
        Builtin::RequestTime => seconds(clock::now_ms().saturating_sub(req.start_ms), out),
        Builtin::Msec => seconds(clock::now_ms(), out),
        Builtin::TimeLocal => text(&clock::log_time((clock::now_ms() / 1000) as i64), out),
        Builtin::TimeIso8601 => text(&clock::iso8601((clock::now_ms() / 1000) as i64), out),
        Builtin::Pid => number(u64::from(std::process::id()), out),
        Builtin::NginxVersion => text("1.31.3", out),
        Builtin::Pipe => text(if conn.pipelined.get() { "p" } else { "." }, out),
        Builtin::RequestCompletion => text(if req.response.borrow().done { "OK" } else { "" }, out),
        Builtin::RequestId => {
            let mut t = String::new();
            let _ = write!(t, "{:032x}", request_id(req));
            text(&t, out)
        }
        Builtin::RequestBody => match &*req.body.borrow() {
            Body::Memory(b) if !b.is_empty() => bytes(b, out),
            _ => false,
        },
        Builtin::RequestBodyFile => match &*req.body.borrow() {
            Body::File(f) => text(&f.path.to_string_lossy(), out),
            _ => false,
        },
        Builtin::DocumentRoot => bytes(&document_root(req), out),
        Builtin::RealpathRoot => {
            let root = super::body::bytes_to_path(&document_root(req));
            match std::fs::canonicalize(root) {
                Ok(p) => text(&p.to_string_lossy(), out),
                Err(_) => false,
            }
        }
        Builtin::RequestFilename => bytes(&filename(req), out),
        Builtin::RealipRemoteAddr => match conn.peer {
            Some(a) => text(&a.ip().to_canonical().to_string(), out),
            None => text("unix:", out),
        },
        Builtin::RealipRemotePort => match conn.peer {
            Some(a) => number(u64::from(a.port()), out),
            None => text("", out),
        },
        Builtin::InvalidReferer => text(if guards::invalid_referer(req) { "1" } else { "" }, out),
        Builtin::SecureLink => match guards::secure_link(req).0 {
            Some(v) => bytes(&v, out),
            None => false,
        },
        Builtin::SecureLinkExpires => match guards::secure_link(req).1 {
            Some(v) => bytes(&v, out),
            None => false,
        },
        Builtin::LimitReqStatus => match req.main().limits.get().req {
            Some(status) => text(status, out),
            None => false,
        },
        Builtin::LimitConnStatus => match req.main().limits.get().conn {
            Some(status) => text(status, out),
            None => false,
        },
        Builtin::EchoRequestMethod => bytes(&req.method.borrow(), out),
        Builtin::EchoClientRequestMethod => bytes(&req.main().method.borrow(), out),
        Builtin::EchoRequestUri | Builtin::EchoCacheableRequestUri => bytes(&req.uri.borrow(), out),
        Builtin::EchoRequestBody => match &*req.body.borrow() {
            Body::Memory(b) if !b.is_empty() => bytes(b, out),
            _ => false,
        },
        Builtin::EchoClientRequestHeaders => {
            let main = req.main();
            let headers = main.headers.borrow();
            let raw = headers.bytes(crate::http1::parse::Span::new(main.line.start as usize, main.head_len));
            bytes(raw, out)
        }
        Builtin::EchoIt => match &req.echo.borrow().item {
            Some(item) => bytes(item, out),
            None => false,
        },
        Builtin::EchoIncr => {
            let mut echo = req.main().echo.borrow_mut();
            echo.counter += 1;
            number(echo.counter, out)
        }
        Builtin::EchoResponseStatus => match req.response.borrow().status {
            0 => false,
            status => number(u64::from(status), out),
        },
        Builtin::EchoTimerElapsed => {
            let since = match req.echo.borrow().timer_ms {
                0 => req.start_ms,
                t => t,
            };
            seconds(clock::update().saturating_sub(since), out)
        }
        Builtin::LimitRate => number(req.limit_rate.get().unwrap_or(0), out),
        Builtin::SslAlpnProtocol
        | Builtin::SslCipher
        | Builtin::SslCiphers
        | Builtin::SslClientCert
        | Builtin::SslClientEscapedCert
        | Builtin::SslClientFingerprint
        | Builtin::SslClientIDn
        | Builtin::SslClientIDnLegacy
        | Builtin::SslClientRawCert
        | Builtin::SslClientSDn
        | Builtin::SslClientSDnLegacy
        | Builtin::SslClientSerial
        | Builtin::SslClientVEnd
        | Builtin::SslClientVRemain
        | Builtin::SslClientVStart
        | Builtin::SslClientVerify
        | Builtin::SslCurve
        | Builtin::SslCurves
        | Builtin::SslProtocol
        | Builtin::SslServerName
        | Builtin::SslSessionReused => {
            conn.secured.get().is_some_and(|s| ssl_vars::write(&s.negotiated, b, out))
        }
        Builtin::TcpinfoRcvSpace => tcp_info(req, |i| i.rcv_space, out),
        Builtin::TcpinfoRtt => tcp_info(req, |i| i.rtt_us, out),
        Builtin::TcpinfoRttvar => tcp_info(req, |i| i.rttvar_us, out),
        Builtin::TcpinfoSndCwnd => tcp_info(req, |i| i.snd_cwnd, out),
        Builtin::ProxyProtocolAddr => proxied(req, out, |p, out| out.extend_from_slice(p.addr.as_bytes())),
        Builtin::ProxyProtocolPort => proxied(req, out, |p, out| port(p.port, out)),
        Builtin::ProxyProtocolServerAddr => {
            proxied(req, out, |p, out| out.extend_from_slice(p.server_addr.as_bytes()))
        }
        Builtin::ProxyProtocolServerPort => proxied(req, out, |p, out| port(p.server_port, out)),
        Builtin::UpstreamCacheStatus => false,
        Builtin::UpstreamAddr
        | Builtin::UpstreamBytesReceived
        | Builtin::UpstreamBytesSent
        | Builtin::UpstreamConnectTime
        | Builtin::UpstreamHeaderTime
        | Builtin::UpstreamResponseLength
        | Builtin::UpstreamResponseTime
        | Builtin::UpstreamStatus
        | Builtin::ProxyHost
        | Builtin::ProxyPort => of_upstream(req, b, out),
        Builtin::ProxyAddXForwardedFor => {
            let headers = req.headers.borrow();
            for value in headers.all(b"x-forwarded-for") {
                out.extend_from_slice(value);
                out.extend_from_slice(b", ");
            }
            req.write_remote_addr(out);
            true
        }
    }
}

/// What is known of the servers that the request was passed on to.
fn of_upstream(req: &Request, b: Builtin, out: &mut Vec<u8>) -> bool {
    let up = req.upstream.borrow();
    let Some(up) = &*up else { return false };
    let time = |ms: u64, out: &mut Vec<u8>| ms != super::upstream::NO_TIME && seconds(ms, out);
    match b {
        Builtin::ProxyHost => bytes(&up.proxy_host, out),
        Builtin::ProxyPort => up.proxy_port == 0 || number(u64::from(up.proxy_port), out),
        Builtin::UpstreamAddr => up.join(out, |t, out| text(t.peer.as_deref().unwrap_or_default(), out)),
        Builtin::UpstreamStatus => up.join(out, |t, out| t.status > 0 && number(u64::from(t.status), out)),
        Builtin::UpstreamConnectTime => up.join(out, |t, out| time(t.connect_ms, out)),
        Builtin::UpstreamHeaderTime => up.join(out, |t, out| time(t.header_ms, out)),
        Builtin::UpstreamResponseTime => up.join(out, |t, out| {
            let running = || clock::monotonic_ms().saturating_sub(t.start_ms);
            seconds(if t.response_ms == super::upstream::NO_TIME { running() } else { t.response_ms }, out)
        }),
        Builtin::UpstreamResponseLength => up.join(out, |t, out| number(t.response_length, out)),
        Builtin::UpstreamBytesReceived => up.join(out, |t, out| number(t.bytes_received, out)),
        Builtin::UpstreamBytesSent => up.join(out, |t, out| number(t.bytes_sent, out)),
        _ => false,
    }
}

fn header(req: &Request, name: &[u8], out: &mut Vec<u8>) -> bool {
    req.headers.borrow().get(name).is_some_and(|v| bytes(v, out))
}

fn tcp_info(req: &Request, field: fn(TcpInfo) -> u32, out: &mut Vec<u8>) -> bool {
    req.conn.tcp_info().is_some_and(|info| number(u64::from(field(info)), out))
}

/// The port that the client's `Host` names, if it names one.
fn request_port(req: &Request) -> Vec<u8> {
    let headers = req.headers.borrow();
    let host = headers.get(b"host").unwrap_or_default();
    let name_end = memchr::memrchr(b']', host).unwrap_or(0);
    memchr::memrchr(b':', &host[name_end..]).map(|at| host[name_end + at + 1..].to_vec()).unwrap_or_default()
}

/// A date as server-side includes show it, that many seconds east of UTC.
fn zoned_date(offset_s: i32, out: &mut Vec<u8>) -> bool {
    let now_s = (clock::now_ms() / 1000) as i64;
    bytes(&strftime::formatted(now_s, offset_s, b"%A, %d-%b-%Y %H:%M:%S %Z"), out)
}

fn remote_user(req: &Request, out: &mut Vec<u8>) -> bool {
    match basic_auth(req) {
        Some((user, _)) => bytes(&user, out),
        None => false,
    }
}

/// User and password of an `Authorization: Basic` header.
pub fn basic_auth(req: &Request) -> Option<(Vec<u8>, Vec<u8>)> {
    let headers = req.headers.borrow();
    let auth = headers.get(b"authorization")?;
    if auth.len() < 6 || !auth[..6].eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let plain = base64_simd::STANDARD.decode_to_vec(auth[6..].trim_ascii()).ok()?;
    let colon = memchr::memchr(b':', &plain)?;
    Some((plain[..colon].to_vec(), plain[colon + 1..].to_vec()))
}

fn request_id(req: &Request) -> u128 {
    if let Some(id) = req.request_id.get() {
        return id;
    }
    use std::hash::{BuildHasher, Hasher, RandomState};
    let half = || u128::from(RandomState::new().build_hasher().finish());
    let mut mix = RandomState::new().build_hasher();
    mix.write_u64(req.conn.serial);
    mix.write_u64(clock::monotonic_ms());
    let id = (half() << 64) ^ half() ^ u128::from(mix.finish());
    req.request_id.set(Some(id));
    id
}

/// The directory that files come from.
pub fn document_root(req: &Request) -> Vec<u8> {
    let level = req.level.borrow().clone();
    req.eval(&level.root.path)
}

/// The file that the URI names.
pub fn filename(req: &Request) -> Vec<u8> {
    let level = req.level.borrow().clone();
    let mut path = req.eval(&level.root.path);
    let uri = req.uri.borrow();
    let cut = match level.kind {
        _ if !level.root.alias => 0,
        // The script of a regex location's alias is the whole path.
        crate::conf::model::LocationKind::Regex(_) => return path,
        _ => level.name.len().min(uri.len()),
    };
    path.extend_from_slice(&uri[cut..]);
    path
}

/// The value of a query argument, decoded; for callers outside scripts.
pub fn decoded_arg(req: &Request, name: &[u8]) -> Option<Vec<u8>> {
    let query = req.args.borrow();
    let raw = args::find(&query, name)?;
    let mut out = Vec::new();
    unescape(raw, true, &mut out);
    Some(out)
}
