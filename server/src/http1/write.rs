//! Response heads: status line and headers in nginx's order.
//!
//! Knows how lines look on the wire, not where their values come from.

use std::cell::RefCell;

use super::clock;

/// What `Connection` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// `keep-alive`, with a `Keep-Alive: timeout=` line when there are seconds.
    KeepAlive(u64),
    /// `close`.
    Close,
    /// `upgrade`.
    Upgrade,
}

/// The fixed part of a response head. Everything else is appended behind it by the caller, then `finish`.
#[derive(Debug)]
pub struct ResponseHead<'a> {
    /// Status code.
    pub status: u16,
    /// Reason phrase instead of the usual one.
    pub reason: Option<&'a [u8]>,
    /// `Server`; `None` when the caller appends its own.
    pub server: Option<&'a [u8]>,
    /// Whether `Date` is written; not when the caller appends its own.
    pub date: bool,
    /// `Content-Type`.
    pub content_type: Option<&'a [u8]>,
    /// `Content-Length`.
    pub content_length: Option<u64>,
    /// `Last-Modified`.
    pub last_modified: Option<&'a [u8]>,
    /// `Location`.
    pub location: Option<&'a [u8]>,
    /// `Transfer-Encoding: chunked`.
    pub chunked: bool,
    /// `Connection`.
    pub connection: Connection,
    /// `Vary: Accept-Encoding`.
    pub vary: bool,
}

impl ResponseHead<'_> {
    /// Appends the lines to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        // One growth instead of several.
        out.reserve(512);
        self.write_beginning(out);
        if let Some(t) = self.content_type {
            line(out, b"Content-Type", t);
        }
        if let Some(n) = self.content_length {
            out.extend_from_slice(b"Content-Length: ");
            write_decimal(out, n);
            out.extend_from_slice(b"\r\n");
        }
        if let Some(t) = self.last_modified {
            line(out, b"Last-Modified", t);
        }
        if let Some(l) = self.location {
            line(out, b"Location", l);
        }
        if self.chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        match self.connection {
            Connection::Upgrade => out.extend_from_slice(b"Connection: upgrade\r\n"),
            Connection::Close => out.extend_from_slice(b"Connection: close\r\n"),
            Connection::KeepAlive(seconds) => {
                out.extend_from_slice(b"Connection: keep-alive\r\n");
                if seconds > 0 {
                    out.extend_from_slice(b"Keep-Alive: timeout=");
                    write_decimal(out, seconds);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        if self.vary {
            line(out, b"Vary", b"Accept-Encoding");
        }
    }
}

impl ResponseHead<'_> {
    /// Appends the lines up to `Date`. For the same status they are the same for a second.
    fn write_beginning(&self, out: &mut Vec<u8>) {
        let (None, Some(server), true) = (self.reason, self.server, self.date) else {
            out.extend_from_slice(b"HTTP/1.1 ");
            write_status(out, self.status, self.reason);
            out.extend_from_slice(b"\r\n");
            if let Some(server) = self.server {
                line(out, b"Server", server);
            }
            if self.date {
                out.extend_from_slice(b"Date: ");
                clock::write_http_date(out);
                out.extend_from_slice(b"\r\n");
            }
            return;
        };
        let second = clock::now_ms() / 1000;
        BEGINNING.with_borrow_mut(|known| {
            if known.second != second || known.status != self.status || *known.server != *server {
                known.second = second;
                known.status = self.status;
                known.server.clear();
                known.server.extend_from_slice(server);
                known.text.clear();
                known.text.extend_from_slice(b"HTTP/1.1 ");
                write_status(&mut known.text, self.status, None);
                known.text.extend_from_slice(b"\r\n");
                line(&mut known.text, b"Server", server);
                known.text.extend_from_slice(b"Date: ");
                clock::write_http_date(&mut known.text);
                known.text.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(&known.text);
        });
    }
}

/// The first lines of the last head, and what they are made of.
struct Beginning {
    second: u64,
    status: u16,
    server: Vec<u8>,
    text: Vec<u8>,
}

thread_local! {
    static BEGINNING: RefCell<Beginning> =
        const { RefCell::new(Beginning { second: 0, status: 0, server: Vec::new(), text: Vec::new() }) };
}

/// Appends `Name: value` and its end.
pub fn line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the empty line.
pub fn finish(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, status: u16, reason: Option<&[u8]>) {
    write_decimal_padded(out, status);
    if reason.is_some_and(<[u8]>::is_empty) {
        return;
    }
    out.push(b' ');
    out.extend_from_slice(reason.unwrap_or_else(|| reason_of(status).as_bytes()));
}

fn write_decimal_padded(out: &mut Vec<u8>, n: u16) {
    if n < 100 {
        out.extend_from_slice(if n < 10 { b"00" } else { b"0" });
    }
    write_decimal(out, u64::from(n));
}

/// Appends a number in decimal.
pub fn write_decimal(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = 20;
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// The usual reason phrase; empty for a status that has none.
pub fn reason_of(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Time-out",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Large",
        415 => "Unsupported Media Type",
        416 => "Requested Range Not Satisfiable",
        421 => "Misdirected Request",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Temporarily Unavailable",
        504 => "Gateway Time-out",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_has_nginx_order() {
        let mut out = Vec::new();
        ResponseHead {
            status: 302,
            reason: None,
            server: Some(b"s"),
            date: false,
            content_type: Some(b"text/html"),
            content_length: Some(0),
            last_modified: Some(b"lm"),
            location: Some(b"/x"),
            chunked: false,
            connection: Connection::KeepAlive(5),
            vary: false,
        }
        .write(&mut out);
        line(&mut out, b"X", b"y");
        finish(&mut out);
        let want = "HTTP/1.1 302 Moved Temporarily\r\nServer: s\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\
                    Last-Modified: lm\r\nLocation: /x\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nX: y\r\n\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), want);
        let mut out = Vec::new();
        write_status(&mut out, 299, None);
        assert_eq!(out, b"299 ");
    }
}
