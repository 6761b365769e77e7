//! From the head of a request on the wire to a `Request`: what its lines mean, which server is asked.

use std::rc::Rc;
use std::sync::Arc;

use super::Worker;
use crate::conf::model::{Level, Listen, Server};
use crate::http1::body::Decoder;
use crate::http1::clock;
use crate::http1::conn::Conn;
use crate::http1::parse::{Head, HeadError, Limits, NOT_GET_09, Span};
use crate::request::body::Incoming;
use crate::request::headers::{Headers, is_name};
use crate::request::vars::set_named;
use crate::request::{Request, uri, with_match};
use crate::tls::server::{Ask, Refusal};

/// The end of nginx's lines about headers.
const READING_HEADERS: &[u8] = b" while reading client request headers";

/// What the head says beyond its syntax.
struct Meaning {
    decoder: Option<Decoder>,
    keepalive: bool,
    expects_continue: bool,
}

/// Takes the head off the connection's input. With a status the response is its page.
pub fn make_request(
    w: &Rc<Worker>,
    conn: &Rc<Conn>,
    listen: &Listen,
    head: &mut Head,
    parsed: Result<(), HeadError>,
) -> (Rc<Request>, Option<u16>) {
    let http = w.env.http();
    conn.requests.set(conn.requests.get() + 1);
    let mut parsed = parsed;
    match parsed {
        Ok(()) => parsed = by_rules_of_server(w, conn, listen, head),
        Err(_) => conn.with_input(|b| (head.give_up(b), 0)),
    }
    let default = &http.servers[default_of(conn, listen)];
    let mut shared = w.spare.take(&w.env, default);
    // What is spare has one owner, and so has what was made just now.
    let req = Rc::get_mut(&mut shared).expect("nobody else knows the request yet");
    let headers = req.headers.get_mut();
    conn.with_input(|b| (headers.fill(&b[..head.len], &head.headers), head.len));
    let (mut in_line, mut refused_by_tls) = (false, false);
    let mut fault: Option<Fault> = parsed.err().map(|e| {
        in_line = !head.line_done;
        if e == NOT_GET_09 {
            head.version = 9;
        }
        (e.status, e.describe(headers.bytes(Span::new(0, head.len))))
    });
    let mut meaning = Meaning { decoder: None, keepalive: head.version >= 1001, expects_continue: false };
    let host = req.host.get_mut();
    if fault.is_none() {
        fault = understand(head, headers, host, &mut meaning).err();
    } else if head.line_done {
        // The server may be known although the head is bad.
        let named = head.host.map(|s| headers.bytes(s)).or_else(|| headers.get(b"host"));
        named.and_then(|named| valid_host(named, host));
    }
    with_match(|data| {
        let found = http.server_of(listen, default_of(conn, listen), host, data);
        let server = req.server.get_mut();
        if !Arc::ptr_eq(server, found) {
            server.clone_from(found);
        }
    });
    let (path, args) = (req.uri.get_mut(), req.args.get_mut());
    if fault.is_none() {
        // Slashes are merged before the server of the name is known.
        if uri::normalise_into(headers.bytes(head.path), default.merge_slashes, path, args).is_err() {
            // The line is judged before its headers are read.
            fault = Some((400, b"client sent invalid request".to_vec()));
            in_line = true;
            headers.remove(b"host");
            host.clear();
        }
    }
    if fault.is_none() {
        fault = of_tls(conn, listen, req.server.get_mut(), req.host.get_mut());
        refused_by_tls = fault.is_some();
        if fault.as_ref().is_some_and(|(status, _)| *status == 421) {
            // The request stays with the server that the handshake was for.
            req.server.get_mut().clone_from(default);
        }
    }
    if fault.is_some() && !refused_by_tls {
        path.clear();
        path.push(b'/');
        args.clear();
    }
    let level = req.server.get_mut().level.clone();
    let keepalive = meaning.keepalive
        && fault.is_none()
        && !w.env.exiting.get()
        && level.keepalive_timeout.timeout_ms > 0
        && conn.requests.get() < level.keepalive_requests
        && clock::monotonic_ms() - conn.accepted_ms < level.keepalive_time;
    *req.level.get_mut() = level;
    req.method.get_mut().extend_from_slice(headers.bytes(head.method));
    req.conn = conn.clone();
    req.peer.set(conn.peer);
    req.start_ms = clock::now_ms();
    req.version = head.version;
    req.line = head.line;
    req.target = head.path;
    req.head_len = head.len;
    req.keepalive.set(keepalive);
    *req.incoming.get_mut() =
        Incoming { decoder: meaning.decoder, expects_continue: meaning.expects_continue, received: 0 };
    let req = shared;
    if listen.names.has_patterns() {
        let host = req.host.borrow().clone();
        with_match(|data| {
            if let Some(pattern) = listen.names.pattern_of(&host, data) {
                req.keep_captures(&host, data);
                set_named(&req, pattern, &host, data);
            }
        });
    }
    for line in &head.passed_over {
        let shown = req.headers.borrow().bytes(*line).to_vec();
        let line = [b"client sent invalid header line: \"", &shown[..], b"\"", READING_HEADERS].concat();
        req.log(Level::Info, &line);
    }
    if let Some((_, text)) = &fault {
        let reading: &[u8] = match (in_line, conn.pipelined.get()) {
            (true, true) => b" while reading client pipelined request line",
            (true, false) => b" while reading client request line",
            (false, _) => READING_HEADERS,
        };
        req.log(Level::Info, &[&text[..], reading].concat());
    }
    let status = fault.map(|(status, _)| status);
    if status == Some(408) {
        req.timed_out();
    }
    (req, status)
}

/// Where the server of the head's name has other rules for header lines than the default one, they are
/// read again by its rules.
fn by_rules_of_server(
    w: &Rc<Worker>,
    conn: &Rc<Conn>,
    listen: &Listen,
    head: &mut Head,
) -> Result<(), HeadError> {
    let http = w.env.http();
    if http.servers.len() == 1 {
        return Ok(());
    }
    let default = &http.servers[default_of(conn, listen)];
    conn.with_input(|raw| {
        let named = head.host.map(|s| s.of(raw)).or_else(|| {
            let host = head.headers.iter().find(|h| h.name.of(raw).eq_ignore_ascii_case(b"host"));
            host.map(|h| h.value.of(raw))
        });
        let mut host = Vec::new();
        named.and_then(|named| valid_host(named, &mut host));
        let server = with_match(|data| http.server_of(listen, default_of(conn, listen), &host, data).clone());
        let same = server.ignore_invalid_headers == default.ignore_invalid_headers
            && server.underscores_in_headers == default.underscores_in_headers;
        let result = if same { Ok(()) } else { head.read_again(&raw[..head.len], &limits_of(&server)) };
        (result, 0)
    })
}

/// Index of the server for requests that name none: the one whose name the handshake was for, else the address's default.
pub(super) fn default_of(conn: &Conn, listen: &Listen) -> usize {
    let named = conn.secured.get().and_then(|s| s.server.as_ref());
    named.map_or(listen.default_server, |(_, at)| *at)
}

/// What a request is refused for that should have come over TLS, or with a good certificate; judged when its server is
/// known.
fn of_tls(conn: &Conn, listen: &Listen, server: &Server, host: &[u8]) -> Option<Fault> {
    if !listen.options.ssl {
        return None;
    }
    let refuse = |status: u16, text: &str| Some((status, text.as_bytes().to_vec()));
    let Some(secured) = conn.secured.get() else {
        return refuse(497, "client sent plain HTTP request to HTTPS port");
    };
    let ask = server.ssl.as_ref().map_or(Ask::Off, |side| side.ask);
    if ask != Ask::Off && secured.server.as_ref().is_some_and(|(name, _)| !host.is_empty() && name != host) {
        let text = "client attempted to request the server name different from the one that was negotiated";
        return refuse(421, text);
    }
    match secured.negotiated.refused(ask)? {
        Refusal::Wrong((number, text)) => {
            refuse(495, &format!("client SSL certificate verify error: ({number}:{text})"))
        }
        Refusal::Missing => refuse(496, "client sent no required SSL certificate"),
    }
}

/// What limits the head of a request for this server.
pub(super) fn limits_of(server: &Server) -> Limits {
    let (count, size) = server.large_client_header_buffers;
    Limits {
        line_bytes_max: size.max(server.client_header_buffer_size) as usize,
        head_bytes_max: (count * size).max(server.client_header_buffer_size) as usize,
        headers_max: usize::try_from(server.max_headers).unwrap_or(usize::MAX),
        ignore_invalid: server.ignore_invalid_headers,
        underscores: server.underscores_in_headers,
    }
}

/// A status, and the line for the log.
type Fault = (u16, Vec<u8>);

/// A header that must not come twice has.
fn twice(what: &str, name: &[u8], value: &[u8], first: &[u8]) -> Fault {
    let line = [name, b": ", value, b"\", previous value: \"", name, b": ", first, b"\""].concat();
    (400, [b"client sent duplicate ", what.as_bytes(), b": \"", &line].concat())
}

fn understand(head: &Head, headers: &Headers, name: &mut Vec<u8>, m: &mut Meaning) -> Result<(), Fault> {
    let mut hosts = 0;
    let mut length: Option<u64> = None;
    let mut encoding = false;
    let mut host: &[u8] = b"";
    let refuse = |status: u16, text: &str| (status, text.as_bytes().to_vec());
    let first = |name: &[u8]| headers.get(name).unwrap_or_default();
    for (name, value) in headers.iter() {
        match name.len() {
            4 if is_name(name, b"host") => {
                hosts += 1;
                if hosts > 1 {
                    return Err(twice("host header", name, value, host));
                }
                host = value;
            }
            6 if is_name(name, b"expect") => {
                m.expects_continue = head.version >= 1001 && value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if is_name(name, b"connection") => {
                let has =
                    |t: &[u8]| value.split(|&b| b == b',').any(|v| v.trim_ascii().eq_ignore_ascii_case(t));
                if has(b"close") {
                    m.keepalive = false;
                } else if has(b"keep-alive") {
                    m.keepalive = head.version >= 1000;
                }
            }
            14 if is_name(name, b"content-length") => {
                if length.is_some() {
                    return Err(twice("header line", name, value, first(b"content-length")));
                }
                let number = decimal(value);
                length = Some(number.ok_or(refuse(400, "client sent invalid \"Content-Length\" header"))?);
            }
            17 if is_name(name, b"transfer-encoding") => {
                if encoding {
                    return Err(twice("header line", name, value, first(b"transfer-encoding")));
                }
                if head.version < 1001 {
                    return Err(refuse(
                        400,
                        "client sent HTTP/1.0 request with \"Transfer-Encoding\" header",
                    ));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    let text = [b"client sent unknown \"Transfer-Encoding\": \"", value, b"\""].concat();
                    return Err((501, text));
                }
                encoding = true;
            }
            _ => {}
        }
    }
    if hosts == 0 && head.version >= 1001 {
        return Err(refuse(400, "client sent HTTP/1.1 request without \"Host\" header"));
    }
    if encoding && length.is_some() {
        let text = "client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time";
        return Err(refuse(400, text));
    }
    let named = head.host.map(|s| headers.bytes(s)).unwrap_or(host);
    if head.host.is_some() && hosts == 1 {
        valid_host(host, name).ok_or_else(|| refuse(400, BAD_HOST))?;
    }
    if head.host.is_some() || hosts == 1 {
        valid_host(named, name).ok_or_else(|| refuse(400, BAD_HOST))?;
    }
    m.decoder =
        if encoding { Some(Decoder::chunked()) } else { length.filter(|n| *n > 0).map(Decoder::Length) };
    if headers.bytes(head.method) == b"TRACE" {
        return Err(refuse(405, "client sent TRACE method"));
    }
    if headers.bytes(head.method) == b"CONNECT" {
        return Err(refuse(405, "client sent CONNECT method"));
    }
    Ok(())
}

const BAD_HOST: &str = "client sent invalid host header";

fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(value.iter().fold(0, |n, d| n * 10 + u64::from(d - b'0')))
}

/// What stands for a byte of a name: itself, in lower case; 0 for what may not be in one.
const FOLDED: [u8; 256] = {
    let mut table = [0; 256];
    let mut b = 0;
    while b < 256 {
        let byte = b as u8;
        if byte.is_ascii_alphanumeric() {
            table[b] = byte.to_ascii_lowercase();
        }
        b += 1;
    }
    let others = b"-._~!$&'()*+,;=%";
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = others[at];
        at += 1;
    }
    table
};

/// Puts a host into `out`, in lower case without its port and trailing dot. `None`, and nothing in `out`, when it
/// cannot be one.
pub(super) fn valid_host(host: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let literal = host.first() == Some(&b'[');
    let end = match literal {
        true => memchr::memchr(b']', host)? + 1,
        false => memchr::memchr(b':', host).unwrap_or(host.len()),
    };
    let port = match &host[end..] {
        [] => &[][..],
        [b':', port @ ..] => port,
        _ => return None,
    };
    let mut number = 0u32;
    for b in port {
        let digit = b.wrapping_sub(b'0');
        number = number * 10 + u32::from(digit);
        if digit > 9 || number > 65_535 {
            return None;
        }
    }
    out.extend_from_slice(&host[..end]);
    let inner = if literal { &mut out[1..end - 1] } else { &mut out[..] };
    let (mut good, mut before) = (true, 0);
    for b in inner {
        let folded = FOLDED[usize::from(*b)];
        let known = folded != 0 && (!literal || *b != b'%') || literal && *b == b':';
        good &= known && !(*b == b'.' && before == b'.');
        before = *b;
        if folded != 0 {
            *b = folded;
        }
    }
    if out.last() == Some(&b'.') {
        out.pop();
    }
    if !good || out.is_empty() {
        out.clear();
        return None;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_judged_as_by_nginx() {
        for (from, to) in [
            (&b"Example.COM:80"[..], Some("example.com")),
            (b"a.", Some("a")),
            (b"[::1]:8080", Some("[::1]")),
            (b"", None),
            (b"a/b", None),
            (b"a b", None),
            (b"a..b", None),
            (b":80", None),
            (b"a:8x", None),
            (b"a:99999", None),
            (b"a:", Some("a")),
            (b"a:b:c", None),
            (b"\x80", None),
            (b"u@h", None),
            (b"a%20b", Some("a%20b")),
            (b"a:8/", None),
            (b"[::1", None),
            (b"[FE80::1]", Some("[fe80::1]")),
            (b"[::1%251]", None),
            (b"[a..b]", None),
            (b"[::1].", None),
            (b"[::1]x:80", None),
            (b"A.b.", Some("a.b")),
        ] {
            let mut out = b"old".to_vec();
            let found = valid_host(from, &mut out).map(|()| String::from_utf8(out).unwrap());
            assert_eq!(found.as_deref(), to);
        }
    }
}
