//! The head of the request that is sent to a server, byte for byte as nginx writes it.

use std::rc::Rc;
use std::sync::Arc;

use crate::conf::proxy::{HeaderValue, ProxyConf, ProxyPass, ProxyTarget, ProxyVersion};
use crate::http1::write::{line, write_decimal};
use crate::request::Request;
use crate::request::escape::{Place, escape};

/// Where a request goes, once variables have their values.
#[derive(Clone, Debug)]
pub struct Destination {
    /// `$proxy_host`.
    pub host: Arc<[u8]>,
    /// Whether TLS is spoken.
    pub ssl: bool,
    /// The path that `proxy_pass` gives; empty when the request's own is sent.
    pub uri: Arc<[u8]>,
}

/// How the body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFraming {
    /// There is none.
    None,
    /// That many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// Whether path and query are still what the request line says.
fn is_untouched(req: &Request) -> bool {
    if !req.is_main() {
        return false;
    }
    let headers = req.headers.borrow();
    let target = headers.bytes(req.target);
    let (uri, args) = (req.uri.borrow(), req.args.borrow());
    let same = match memchr::memchr(b'?', target) {
        Some(at) => target[..at] == **uri && target[at + 1..] == **args,
        None => *target == **uri && args.is_empty(),
    };
    same || crate::request::uri::normalise(target, req.server.borrow().merge_slashes)
        .is_ok_and(|t| t.uri == **uri && t.args == **args)
}

/// Appends the path and query that the server is asked for.
pub fn write_uri(req: &Request, pass: &ProxyPass, to: &Destination, out: &mut Vec<u8>) {
    let scripted = matches!(pass.target, ProxyTarget::Script(_));
    if scripted && !to.uri.is_empty() {
        out.extend_from_slice(&to.uri);
        return;
    }
    if to.uri.is_empty() && is_untouched(req) {
        out.extend_from_slice(req.headers.borrow().bytes(req.target));
        return;
    }
    let uri = req.uri.borrow();
    let valid = req.location_valid.get();
    let skip = if valid && !to.uri.is_empty() { pass.location.len().min(uri.len()) } else { 0 };
    if valid {
        out.extend_from_slice(&to.uri);
    }
    let quoted = req.internal.get() || req.headers.borrow().bytes(req.target).contains(&b'%');
    if quoted {
        escape(&uri[skip..], Place::Uri, out);
    } else {
        out.extend_from_slice(&uri[skip..]);
    }
    let args = req.args.borrow();
    if !args.is_empty() {
        out.push(b'?');
        out.extend_from_slice(&args);
    }
}

/// The head of the request: line, headers, empty line. `uri` is what `write_uri` gave.
pub fn head(req: &Rc<Request>, conf: &ProxyConf, to: &Destination, uri: &[u8], body: BodyFraming) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    match &conf.proxy_method {
        Some(method) => out.extend_from_slice(&req.eval(method)),
        None => out.extend_from_slice(&req.method.borrow()),
    }
    out.push(b' ');
    out.extend_from_slice(uri);
    let v11 = conf.proxy_http_version == ProxyVersion::V11;
    out.extend_from_slice(if v11 { b" HTTP/1.1\r\n" } else { b" HTTP/1.0\r\n" });
    for header in &conf.set_headers {
        match &header.value {
            HeaderValue::Nothing => {}
            HeaderValue::Host => line(&mut out, &header.name, &to.host),
            HeaderValue::BodyLength => {
                if let BodyFraming::Length(n) = body {
                    out.extend_from_slice(b"Content-Length: ");
                    write_decimal(&mut out, n);
                    out.extend_from_slice(b"\r\n");
                }
            }
            HeaderValue::Chunked => {
                if body == BodyFraming::Chunked {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                }
            }
            HeaderValue::Script(script) => {
                let value = req.eval(script);
                if !value.is_empty() {
                    line(&mut out, &header.name, &value);
                }
            }
        }
    }
    if conf.proxy_pass_request_headers {
        for (name, value) in req.headers.borrow().iter() {
            if !conf.is_set(name) {
                line(&mut out, name, value);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
    out
}
