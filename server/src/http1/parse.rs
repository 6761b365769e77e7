//! Request heads: from bytes to a reused table of offsets.
//!
//! The request line follows nginx's state machine. Header lines go through
//! `httparse`; what it refuses, or what nginx treats in its own way, is judged
//! again by the slow reader below, which is nginx's rules literally. Raw bytes,
//! case and order are kept because the table only points into them.

/// A stretch of the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Number of bytes.
    pub len: u32,
}

impl Span {
    /// From offsets.
    pub fn new(start: usize, end: usize) -> Span {
        Span { start: start as u32, len: (end - start) as u32 }
    }

    /// The bytes it stands for.
    pub fn of(self, raw: &[u8]) -> &[u8] {
        &raw[self.start as usize..(self.start + self.len) as usize]
    }
}

/// One header line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSpan {
    /// The name as sent.
    pub name: Span,
    /// The value without surrounding blanks.
    pub value: Span,
}

/// A parsed head. Kept and reused from request to request.
#[derive(Debug, Default)]
pub struct Head {
    /// The request line without its end.
    pub line: Span,
    /// The method.
    pub method: Span,
    /// The target as sent.
    pub target: Span,
    /// Path and query inside the target (differs for `http://host/path`).
    pub path: Span,
    /// The host of an absolute target.
    pub host: Option<Span>,
    /// Major version * 1000 + minor: 9 for a request without version.
    pub version: u32,
    /// The header lines.
    pub headers: Vec<HeaderSpan>,
    /// Bytes of the whole head.
    pub len: usize,
    /// The request line has been understood.
    pub line_done: bool,
    /// Lines with odd names, which are passed over.
    pub passed_over: Vec<Span>,
    /// Where the next look for the end may start.
    scanned: usize,
}

/// What limits a head.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest request line and longest header line.
    pub line_bytes_max: usize,
    /// Longest head.
    pub head_bytes_max: usize,
    /// Most header lines.
    pub headers_max: usize,
    /// Drop lines with odd names instead of refusing the request.
    pub ignore_invalid: bool,
    /// Names may have underscores.
    pub underscores: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            line_bytes_max: 8192,
            head_bytes_max: 4 * 8192,
            headers_max: 1000,
            ignore_invalid: true,
            underscores: false,
        }
    }
}

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// nginx's status; 494 is a header too large.
    pub status: u16,
    /// The line for the log.
    pub text: &'static str,
    /// What of the input it is about, and the byte behind that which was one too many.
    pub about: Option<(Span, Option<u8>)>,
}

impl HeadError {
    /// An error about nothing in particular.
    pub const fn new(status: u16, text: &'static str) -> HeadError {
        HeadError { status, text, about: None }
    }

    /// The line for the log, with what of `buf` it is about.
    pub fn describe(&self, buf: &[u8]) -> Vec<u8> {
        let mut line = self.text.as_bytes().to_vec();
        if let Some((span, byte)) = self.about {
            let shown = span.of(buf);
            line.extend_from_slice(b": \"");
            line.extend_from_slice(&shown[..shown.len().min(SHOWN_BYTES_MAX)]);
            if let Some(byte) = byte {
                line.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
            }
            line.extend_from_slice(b"...\"");
        }
        line
    }
}

/// Most bytes of a header that are shown.
const SHOWN_BYTES_MAX: usize = 3796;

const fn bad(text: &'static str) -> HeadError {
    HeadError::new(400, text)
}

/// A header line is no good from this byte on.
fn bad_header(buf: &[u8], line: usize, at: usize) -> HeadError {
    HeadError { about: Some((Span::new(line, at), buf.get(at).copied())), ..INVALID_HEADER }
}

const INVALID_METHOD: HeadError = bad("client sent invalid method");
const INVALID_REQUEST: HeadError = bad("client sent invalid request");
const INVALID_HEADER: HeadError = bad("client sent invalid header line");
const URI_TOO_LONG: HeadError = HeadError::new(414, "client sent too long URI");
const HEADER_TOO_LARGE: HeadError = HeadError::new(494, "client sent too long header line");
const TOO_MANY_HEADERS: HeadError = HeadError::new(494, "client sent too many header lines");
const BAD_VERSION: HeadError = HeadError::new(505, "client sent invalid version");

/// An HTTP/0.9 request with a method that version does not have.
pub const NOT_GET_09: HeadError = bad("client sent invalid method in HTTP/0.9 request");

impl Head {
    /// Forgets the last head.
    pub fn reset(&mut self) {
        let mut headers = std::mem::take(&mut self.headers);
        headers.clear();
        *self = Head { headers, ..Head::default() };
    }

    /// Makes the best of bytes that are no head: the request line is kept if it was one, with the header
    /// lines before the bad one; else the first line, for the log.
    pub fn give_up(&mut self, buf: &[u8]) {
        if self.line_done {
            self.len = buf.len();
            return;
        }
        self.reset();
        let start = buf.iter().position(|&b| b != b'\r' && b != b'\n').unwrap_or(buf.len());
        let end = memchr::memchr(b'\n', &buf[start..]).map_or(buf.len(), |n| start + n);
        self.line = Span::new(start, if buf[start..end].ends_with(b"\r") { end - 1 } else { end });
        self.version = 1000;
        self.len = buf.len();
    }

    /// Parses `buf` from its first byte. `Ok(false)` when more is needed; call again with the same
    /// bytes and more behind them.
    pub fn parse(&mut self, buf: &[u8], limits: &Limits) -> Result<bool, HeadError> {
        let start = buf.iter().position(|&b| b != b'\r' && b != b'\n').unwrap_or(buf.len());
        let Some(line_end) = memchr::memchr(b'\n', &buf[start..]).map(|n| n + start) else {
            if buf.len() - start > limits.line_bytes_max {
                return Err(URI_TOO_LONG);
            }
            early_method_check(&buf[start..])?;
            // Nothing but a line feed may follow a carriage return.
            let line = &buf[start..];
            return match memchr::memchr(b'\r', line) {
                Some(at) if at + 1 < line.len() => Err(INVALID_REQUEST),
                _ => Ok(false),
            };
        };
        if line_end - start > limits.line_bytes_max {
            return Err(URI_TOO_LONG);
        }
        if !self.line_done {
            self.request_line(buf, start, line_end)?;
            self.line_done = true;
        }
        if self.version == 9 {
            self.len = line_end + 1;
            return Ok(true);
        }
        let head = line_end + 1;
        // A head mostly comes whole; one that does not is not read again and again.
        if self.scanned == 0
            && let Some(end) = self.fast_headers(buf, head, limits)
        {
            return self.ended_at(end, limits);
        }
        let from = self.scanned.max(head).saturating_sub(3).max(line_end);
        if !has_blank_line(&buf[from..]) {
            self.scanned = buf.len();
            return if buf.len() > limits.head_bytes_max || longest_open_line(buf) > limits.line_bytes_max {
                // What came before the line that is too long is known.
                let _ = self.slow_headers(buf, head, limits);
                let open = Span::new(buf.len() - longest_open_line(buf), buf.len());
                Err(HeadError { about: Some((open, None)), ..HEADER_TOO_LARGE })
            } else {
                Ok(false)
            };
        }
        // The end has just come, or the slow reader has to judge.
        let fast = if self.scanned > 0 { self.fast_headers(buf, head, limits) } else { None };
        let end = match fast {
            Some(end) => end,
            None => match self.slow_headers(buf, head, limits)? {
                Some(end) => end,
                None => return Ok(false),
            },
        };
        self.ended_at(end, limits)
    }

    fn ended_at(&mut self, end: usize, limits: &Limits) -> Result<bool, HeadError> {
        if end > limits.head_bytes_max {
            return Err(HEADER_TOO_LARGE);
        }
        self.len = end;
        Ok(true)
    }

    fn request_line(&mut self, buf: &[u8], start: usize, line_end: usize) -> Result<(), HeadError> {
        let end = if buf[line_end - 1] == b'\r' && line_end > start { line_end - 1 } else { line_end };
        let line = &buf[start..end];
        self.line = Span::new(start, end);
        let method_len = line.iter().position(|&b| !is_method(b)).unwrap_or(line.len());
        if method_len == 0 || line.get(method_len) != Some(&b' ') {
            return Err(INVALID_METHOD);
        }
        self.method = Span::new(start, start + method_len);
        let target_at = method_len + line[method_len..].iter().take_while(|&&b| b == b' ').count();
        let rest = &line[target_at..];
        let target_len = rest.iter().position(|&b| b <= b' ' || b == 0x7f).unwrap_or(rest.len());
        let target = &rest[..target_len];
        if target.is_empty() || rest.get(target_len).is_some_and(|&b| b != b' ') {
            return Err(INVALID_REQUEST);
        }
        self.target = Span::new(start + target_at, start + target_at + target_len);
        let connect = &line[..method_len] == b"CONNECT";
        self.split_target(start + target_at, target, connect)?;
        if &rest[target_len..] == b" HTTP/1.1" {
            self.version = 1001;
            return Ok(());
        }
        let tail = trim_spaces(&rest[target_len..]);
        if tail.is_empty() {
            if &line[..method_len] != b"GET" {
                return Err(NOT_GET_09);
            }
            self.version = 9;
            return Ok(());
        }
        let number = tail.strip_prefix(b"HTTP/").ok_or(INVALID_REQUEST)?;
        let dot = number.iter().position(|&b| b == b'.').ok_or(INVALID_REQUEST)?;
        let (major, minor) = (digits(&number[..dot], 1)?, digits(&number[dot + 1..], 99)?);
        match major {
            0 => return Err(INVALID_REQUEST),
            1 => self.version = 1000 + minor,
            _ => return Err(BAD_VERSION),
        }
        Ok(())
    }

    /// Splits `http://host/path` from the plain path form.
    fn split_target(&mut self, at: usize, target: &[u8], connect: bool) -> Result<(), HeadError> {
        if connect {
            // A host and port: whoever answers refuses the method, not the form.
            let authority = target[0] != b'/'
                && target.iter().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(b));
            self.path = Span::new(at, at);
            return if authority { Ok(()) } else { Err(INVALID_REQUEST) };
        }
        if target[0] == b'/' {
            self.path = Span::new(at, at + target.len());
            return Ok(());
        }
        let scheme = target.iter().take_while(|b| b.is_ascii_alphabetic()).count();
        if scheme == 0 || !target[scheme..].starts_with(b"://") {
            return Err(INVALID_REQUEST);
        }
        let host_at = scheme + 3;
        let host_len =
            target[host_at..].iter().position(|&b| b == b'/' || b == b'?').unwrap_or(target.len() - host_at);
        if !is_authority(&target[host_at..host_at + host_len]) {
            return Err(INVALID_REQUEST);
        }
        self.host = Some(Span::new(at + host_at, at + host_at + host_len));
        self.path = Span::new(at + host_at + host_len, at + target.len());
        if self.path.len == 0 {
            // The root: one of the slashes in front of the host stands for it.
            self.path = Span::new(at + scheme + 1, at + scheme + 2);
        }
        Ok(())
    }

    /// The common case. `None` when the slow reader has to judge, or the end is not there yet.
    fn fast_headers(&mut self, buf: &[u8], head: usize, limits: &Limits) -> Option<usize> {
        self.headers.clear();
        // Tabs belong to values here, and not there.
        if memchr::memchr(b'\t', &buf[head..]).is_some() {
            return None;
        }
        let mut lines = [httparse::EMPTY_HEADER; 48];
        let Ok(httparse::Status::Complete((len, lines))) = httparse::parse_headers(&buf[head..], &mut lines)
        else {
            return None;
        };
        for h in lines {
            let (name, value) = (h.name.as_bytes(), h.value);
            if !name.iter().all(|&b| is_plain_name(b)) || name.len() + value.len() + 2 > limits.line_bytes_max
            {
                return None;
            }
            let name_at = name.as_ptr() as usize - buf.as_ptr() as usize;
            let value_at = if value.is_empty() {
                name_at + name.len()
            } else {
                value.as_ptr() as usize - buf.as_ptr() as usize
            };
            self.headers.push(HeaderSpan {
                name: Span::new(name_at, name_at + name.len()),
                value: Span::new(value_at, value_at + value.len()),
            });
        }
        Some(head + len)
    }

    /// Reads the header lines of a complete head again, by the rules of another server.
    pub fn read_again(&mut self, buf: &[u8], limits: &Limits) -> Result<(), HeadError> {
        let head = (self.line.start + self.line.len) as usize;
        let head = memchr::memchr(b'\n', &buf[head..]).map_or(buf.len(), |n| head + n + 1);
        self.slow_headers(buf, head, limits).map(|_| ())
    }

    /// Takes the header lines of a head that will not come to its end.
    pub fn read_so_far(&mut self, buf: &[u8], limits: &Limits) {
        let head = (self.line.start + self.line.len) as usize;
        if let (true, Some(n)) = (self.line_done, memchr::memchr(b'\n', &buf[head.min(buf.len())..])) {
            let _ = self.slow_headers(buf, head + n + 1, limits);
        }
    }

    /// nginx's rules, line by line. `None` when the end is not there yet.
    fn slow_headers(&mut self, buf: &[u8], head: usize, limits: &Limits) -> Result<Option<usize>, HeadError> {
        self.headers.clear();
        self.passed_over.clear();
        let mut at = head;
        loop {
            let Some(n) = memchr::memchr(b'\n', &buf[at..]) else { return Ok(None) };
            let end = if n > 0 && buf[at + n - 1] == b'\r' { at + n - 1 } else { at + n };
            let line = &buf[at..end];
            let next = at + n + 1;
            if line.is_empty() {
                return Ok(Some(next));
            }
            if line.len() > limits.line_bytes_max {
                return Err(HeadError { about: Some((Span::new(at, end), None)), ..HEADER_TOO_LARGE });
            }
            let colon = line.iter().position(|&b| b == b':').unwrap_or(line.len());
            let name = &line[..colon];
            if name.is_empty() {
                return Err(bad_header(buf, at, at));
            }
            if let Some(n) = name.iter().position(|&b| b <= 0x20 || b == 0x7f) {
                return Err(bad_header(buf, at, at + n));
            }
            if let Some(n) = line.iter().position(|&b| b == b'\r' || b == 0) {
                return Err(bad_header(buf, at, at + n));
            }
            let odd = name.iter().any(|&b| !(is_plain_name(b) || (b == b'_' && limits.underscores)));
            if !odd || !limits.ignore_invalid {
                if self.headers.len() == limits.headers_max {
                    return Err(TOO_MANY_HEADERS);
                }
                let value_at = (colon + 1).min(line.len());
                let value = &line[value_at..];
                let lead = value.iter().take_while(|&&b| b == b' ').count();
                let trail = value[lead..].iter().rev().take_while(|&&b| b == b' ').count();
                self.headers.push(HeaderSpan {
                    name: Span::new(at, at + colon),
                    value: Span::new(at + value_at + lead, end - trail),
                });
            }
            if odd && limits.ignore_invalid && self.passed_over.len() < limits.headers_max {
                self.passed_over.push(Span::new(at, end));
            }
            at = next;
        }
    }
}

/// Whether a request line may name this as its host, with or without a port.
fn is_authority(text: &[u8]) -> bool {
    let (host, rest) = match text {
        [b'[', inner @ ..] => {
            let Some(end) = memchr::memchr(b']', inner) else { return false };
            let host = &inner[..end];
            if !host.iter().all(|b| b.is_ascii_alphanumeric() || b":-._~!$&'()*+,;=".contains(b)) {
                return false;
            }
            (host, &inner[end + 1..])
        }
        _ => {
            let end = text.iter().position(|b| !(b.is_ascii_alphanumeric() || b".-".contains(b)));
            text.split_at(end.unwrap_or(text.len()))
        }
    };
    let port = match rest {
        [] => return !host.is_empty(),
        [b':', port @ ..] => port,
        _ => return false,
    };
    !host.is_empty() && port.iter().all(u8::is_ascii_digit)
}

fn early_method_check(buf: &[u8]) -> Result<(), HeadError> {
    let method_len = buf.iter().position(|&b| b == b' ').unwrap_or(buf.len());
    if buf[..method_len].iter().all(|&b| is_method(b) || b == b'\r') { Ok(()) } else { Err(INVALID_METHOD) }
}

fn is_method(b: u8) -> bool {
    b.is_ascii_uppercase() || b == b'_' || b == b'-'
}

fn is_plain_name(b: u8) -> bool {
    PLAIN_NAME[usize::from(b)]
}

const PLAIN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = (b as u8).is_ascii_alphanumeric() || b as u8 == b'-';
        b += 1;
    }
    table
};

fn trim_spaces(mut s: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = s {
        s = rest;
    }
    while let [rest @ .., b' '] = s {
        s = rest;
    }
    s
}

/// A number of the version; one that is above `max` must not go on.
fn digits(s: &[u8], max: u32) -> Result<u32, HeadError> {
    if s.is_empty() {
        return Err(INVALID_REQUEST);
    }
    let mut n = 0;
    for d in s {
        if !d.is_ascii_digit() {
            return Err(INVALID_REQUEST);
        }
        if n > max {
            return Err(if max == 1 { BAD_VERSION } else { INVALID_REQUEST });
        }
        n = n * 10 + u32::from(d - b'0');
    }
    Ok(n)
}

/// Whether two line feeds stand together, perhaps with a carriage return between them.
fn has_blank_line(buf: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', buf).any(|n| match &buf[n + 1..] {
        [b'\n', ..] => true,
        [b'\r', b'\n', ..] => true,
        _ => false,
    })
}

fn longest_open_line(buf: &[u8]) -> usize {
    buf.len() - memchr::memrchr(b'\n', buf).map_or(0, |n| n + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &[u8]) -> Result<Option<(Head, Vec<String>)>, u16> {
        let mut h = Head::default();
        let limits = Limits { line_bytes_max: 200, head_bytes_max: 600, ..Limits::default() };
        match h.parse(s, &limits) {
            Err(e) => Err(e.status),
            Ok(false) => Ok(None),
            Ok(true) => {
                let list = h
                    .headers
                    .iter()
                    .map(|x| {
                        let (n, v) = (x.name.of(s), x.value.of(s));
                        format!("{}={}", String::from_utf8_lossy(n), String::from_utf8_lossy(v))
                    })
                    .collect();
                Ok(Some((h, list)))
            }
        }
    }

    fn headers(s: &str) -> Result<Vec<String>, u16> {
        parse(format!("GET / HTTP/1.1\r\n{s}\r\n").as_bytes()).map(|r| r.expect("complete").1)
    }

    #[test]
    fn ordinary_head_is_parsed_with_case_and_order_kept() {
        let s = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\nX-Foo:  bar \r\nx-foo:\r\n\r\nBODY";
        let (h, list) = parse(s).unwrap().unwrap();
        assert_eq!(list, ["Host=x", "X-Foo=bar", "x-foo="]);
        assert_eq!((h.method.of(s), h.target.of(s), h.version), (&b"GET"[..], &b"/a?b=1"[..], 1001));
        assert_eq!(&s[h.len..], b"BODY");
        assert_eq!(h.line.of(s), b"GET /a?b=1 HTTP/1.1");
    }

    #[test]
    fn every_prefix_of_a_head_is_partial_and_then_it_completes() {
        let s = b"\r\nPOST http://h:80/p?q HTTP/1.0\r\nA: 1\r\nB: 2\r\n\r\n";
        let mut h = Head::default();
        for n in 0..s.len() {
            assert_eq!(h.parse(&s[..n], &Limits::default()), Ok(false), "after {n} bytes");
        }
        assert_eq!(h.parse(s, &Limits::default()), Ok(true));
        assert_eq!((h.host.unwrap().of(s), h.path.of(s), h.version), (&b"h:80"[..], &b"/p?q"[..], 1000));
        assert_eq!(h.headers.len(), 2);
    }

    #[test]
    fn bare_line_feeds_end_lines_as_in_nginx() {
        let s = b"GET / HTTP/1.1\nHost: a\n\n";
        assert_eq!(parse(s).unwrap().unwrap().1, ["Host=a"]);
        assert_eq!(parse(b"GET /x\r\n").unwrap().unwrap().0.version, 9);
    }

    #[test]
    fn malformed_request_lines_have_nginx_statuses() {
        for (s, status) in [
            (&b"get / HTTP/1.1\r\n\r\n"[..], 400),
            (b"GET  HTTP/1.1\r\n\r\n", 400),
            (b"GET * HTTP/1.1\r\n\r\n", 400),
            (b"GET /a b HTTP/1.1\r\n\r\n", 400),
            (b"GET /\x01 HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTX/1.1\r\n\r\n", 400),
            (b"GET / HTTP/0.9\r\n\r\n", 400),
            (b"GET / HTTP/2.0\r\n\r\n", 505),
            (b"POST /\r\n", 400),
            (b"\x16\x03\x01", 400),
            (b"GET / HTTP/1.\r\n\r\n", 400),
            (b"GET / HTTP/1.1000\r\n\r\n", 400),
            (b"GET / HTTP/22.0\r\n\r\n", 505),
        ] {
            assert_eq!(parse(s).map(|r| r.is_some()).unwrap_err(), status, "{}", String::from_utf8_lossy(s));
        }
        assert_eq!(parse(b"GET /  \r\n").unwrap().unwrap().0.version, 9);
        assert_eq!(parse(b"GET / HTTP/1.7\r\n\r\n").unwrap().unwrap().0.version, 1007);
    }

    #[test]
    fn odd_header_names_are_dropped_and_broken_lines_refused() {
        assert_eq!(headers("a_b: 1\r\nc: 2\r\n").unwrap(), ["c=2"]);
        assert_eq!(headers("a@b: 1\r\nc: 2\r\n").unwrap(), ["c=2"]);
        assert_eq!(headers("novalue\r\n").unwrap(), ["novalue="]);
        for s in ["a b: 1\r\n", " folded: 1\r\n", ": 1\r\n", "a: 1\0\r\n", "a : 1\r\n", "a: 1\rb\r\n"] {
            assert_eq!(headers(s), Err(400), "{s:?}");
        }
        assert_eq!(headers("a: \x01\r\n").unwrap(), ["a=\u{1}"]);
        assert_eq!(headers("a:\tb\t\r\n").unwrap(), ["a=\tb\t"]);
    }

    #[test]
    fn sizes_are_limited() {
        let uri = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(300));
        assert_eq!(parse(uri.as_bytes()).unwrap_err(), 414);
        assert_eq!(parse(&uri.as_bytes()[..250]).unwrap_err(), 414);
        assert_eq!(headers(&format!("a: {}\r\n", "b".repeat(300))), Err(494));
        let open = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(300));
        assert_eq!(parse(open.as_bytes()).unwrap_err(), 494);
        assert_eq!(headers(&"a: bbbbbbbbbbbbbb\r\n".repeat(50)), Err(494));
        let many: String = (0..60).map(|n| format!("h{n}: v\r\n")).collect();
        assert_eq!(headers(&many).unwrap().len(), 60);
    }
}
