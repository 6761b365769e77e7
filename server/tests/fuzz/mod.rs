//! Generated input against the parsers: configuration, request heads, chunked bodies, URIs.
//!
//! The generators are seeded: a failure shows its seed, and `MOONLIT_FUZZ_SEED` repeats it.
//! `MOONLIT_FUZZ_SECONDS` lets each target run that long instead of its usual number of rounds.

use std::time::{Duration, Instant};

use moonlit_server::conf::{Options, load};
use moonlit_server::http1::body::Decoder;
use moonlit_server::http1::parse::{Head, HeadError, Limits};
use moonlit_server::http1::proxy_protocol::{self, Seen};
use moonlit_server::request::escape::{Place, escape};
use moonlit_server::request::uri::normalise;

/// A source of choices.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn of<'a, T: ?Sized>(&mut self, list: &[&'a T]) -> &'a T {
        list[self.below(list.len())]
    }
}

/// Runs a target over many seeds.
fn rounds(usual: u64, mut target: impl FnMut(&mut Chance)) {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    if let Some(seed) = number("MOONLIT_FUZZ_SEED") {
        target(&mut Chance(seed.max(1)));
        return;
    }
    let end = number("MOONLIT_FUZZ_SECONDS").map(|s| Instant::now() + Duration::from_secs(s));
    let mut n = 0;
    while end.map_or(n < usual, |end| Instant::now() < end) {
        n += 1;
        let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&mut Chance(seed))));
        if caught.is_err() {
            panic!("failed with MOONLIT_FUZZ_SEED={seed}");
        }
    }
}

/// Damages bytes a little: replaces, inserts, removes, repeats.
fn damage(bytes: &mut Vec<u8>, c: &mut Chance) {
    const ODD: &[u8] = b"\0\t\n\r \"#$%&'()*+,-./:;<=>?@[\\]^`{|}~\x7f\x80\xff";
    for _ in 0..c.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = c.below(bytes.len());
        match c.below(5) {
            0 => bytes[at] = ODD[c.below(ODD.len())],
            1 => bytes.insert(at, ODD[c.below(ODD.len())]),
            2 => {
                bytes.remove(at);
            }
            3 => bytes.truncate(at),
            _ => {
                let piece = bytes[at..(at + 1 + c.below(20)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}

fn head(c: &mut Chance) -> Vec<u8> {
    let mut out = String::new();
    out.push_str(c.of(&["GET", "POST", "HEAD", "FOO_BAR", "get", "CONNECT", ""]));
    out.push_str(c.of(&[" ", "  ", ""]));
    out.push_str(c.of(&["/", "/a?b=%20#c", "*", "http://h:80/p", "http://h?q", "a:80", "/%zz", ""]));
    out.push_str(c.of(&[" ", "   ", ""]));
    out.push_str(c.of(&["HTTP/1.1", "HTTP/1.0", "HTTP/1.999", "HTTP/2.0", "HTTP/", ""]));
    out.push_str(c.of(&["\r\n", "\n", "\r"]));
    for _ in 0..c.below(6) {
        out.push_str(c.of(&["Host", "X-Y", "x_y", "Content-Length", "A@", "", " folded"]));
        out.push_str(c.of(&[":", ": ", " : ", ""]));
        out.push_str(c.of(&["a", "", "  b  ", "\tc\t", "5", "é", &"v".repeat(90)]));
        out.push_str(c.of(&["\r\n", "\r\n", "\r\n", "\n", "\r"]));
    }
    out.push_str(c.of(&["\r\n", "\n", ""]));
    let mut bytes = out.into_bytes();
    damage(&mut bytes, c);
    bytes
}

type Parsed = Result<Option<(usize, Vec<(Vec<u8>, Vec<u8>)>)>, u16>;

fn result(h: &Head, bytes: &[u8], r: Result<bool, HeadError>) -> Parsed {
    match r {
        Err(e) => Err(e.status),
        Ok(false) => Ok(None),
        Ok(true) => {
            let list = h.headers.iter().map(|x| (x.name.of(bytes).to_vec(), x.value.of(bytes).to_vec()));
            Ok(Some((h.len, list.collect())))
        }
    }
}

#[test]
fn heads_parse_the_same_in_pieces_and_whole() {
    let limits = Limits { line_bytes_max: 64, head_bytes_max: 200, headers_max: 4, ..Limits::default() };
    rounds(30_000, |c| {
        let bytes = head(c);
        let limits = if c.below(2) == 0 { limits } else { Limits::default() };
        let mut whole = Head::default();
        let at_once = whole.parse(&bytes, &limits);
        let at_once = result(&whole, &bytes, at_once);
        let mut pieces = Head::default();
        let mut in_pieces = Ok(None);
        let mut n = 0;
        while n < bytes.len() && matches!(in_pieces, Ok(None)) {
            n = (n + 1 + c.below(9)).min(bytes.len());
            let r = pieces.parse(&bytes[..n], &limits);
            in_pieces = result(&pieces, &bytes[..n], r);
        }
        let shown = String::from_utf8_lossy(&bytes).escape_debug().to_string();
        // Pieces may be refused earlier (and by the line that is still open); what is taken is the same.
        match (&at_once, &in_pieces) {
            (Ok(Some(a)), Ok(Some(b))) => assert_eq!(a, b, "{shown}"),
            (Ok(None), _) | (Err(_), Err(_)) => {}
            (a, b) => panic!("{shown}: whole {a:?}, in pieces {b:?}"),
        }
        if let Ok(Some((len, _))) = at_once {
            assert!(len <= bytes.len());
        }
        // Whatever it was, the log line can be made of it.
        whole.give_up(&bytes);
        let _ = whole.line.of(&bytes);
    });
}

#[test]
fn headers_of_proxies_read_the_same_in_pieces_and_whole() {
    rounds(50_000, |c| {
        let mut bytes = Vec::new();
        if c.below(2) == 0 {
            for _ in 0..c.below(9) {
                let parts = [
                    "PROXY ", "TCP4 ", "TCP6 ", "UNKNOWN", "1.2.3.4 ", "::1 ", "80 ", "65536 ", "443", "\r\n",
                ];
                bytes.extend_from_slice(c.of(&parts).as_bytes());
            }
        } else {
            bytes.extend_from_slice(b"\r\n\r\n\0\r\nQUIT\n");
            let (kind, family) = (c.below(4), c.below(5));
            bytes.extend_from_slice(&[
                [0x21, 0x20, 0x31, 0x2f][kind],
                [0x11, 0x21, 0x12, 0x00, 0xff][family],
                0,
            ]);
            let len = c.below(80);
            bytes.push(len as u8);
            (0..len).for_each(|_| bytes.push(c.of(&["\x20", "\x01", "\0", "\x05", "a"]).as_bytes()[0]));
        }
        bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
        damage(&mut bytes, c);
        let whole = proxy_protocol::read(&bytes);
        let shown = String::from_utf8_lossy(&bytes).escape_debug().to_string();
        for n in 0..bytes.len() {
            match (proxy_protocol::read(&bytes[..n]), &whole) {
                (Seen::Part, _) | (Seen::Broken(_), Seen::Broken(_)) => {}
                (part, whole) => assert_eq!(part, *whole, "{shown} {n}"),
            }
        }
        if let Seen::Header(said, len) = whole {
            assert!(len <= bytes.len());
            let names = ["alpn", "ssl", "ssl_verify", "ssl_cn", "0x61", "ssl_0x1", "unique_id", "0x", "é"];
            let _ = said.map(|said| said.tlv(c.of(&names)));
        }
    });
}

#[test]
fn chunks_decode_the_same_in_pieces_and_whole() {
    rounds(30_000, |c| {
        let mut bytes = Vec::new();
        for _ in 0..c.below(5) {
            let size = c.below(40);
            bytes.extend_from_slice(format!("{size:x}").as_bytes());
            bytes.extend_from_slice(c.of(&["", ";ext=1", " ", "\t"]).as_bytes());
            bytes.extend_from_slice(c.of(&["\r\n", "\r\n", "\r\n", "\n"]).as_bytes());
            bytes.resize(bytes.len() + size, b'd');
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(
            c.of(&["0\r\n\r\n", "0\r\nT: v\r\n\r\n", "0\r\n", "ffffffffffffffff\r\n"]).as_bytes(),
        );
        bytes.extend_from_slice(b"NEXT");
        damage(&mut bytes, c);
        let (mut whole, mut data) = (Decoder::chunked(), Vec::new());
        let at_once = whole.decode(&bytes, &mut data);
        let (mut pieces, mut got, mut at) = (Decoder::chunked(), Vec::new(), 0);
        let mut in_pieces = Ok(0);
        while at < bytes.len() && !pieces.is_done() {
            let end = (at + 1 + c.below(7)).min(bytes.len());
            match pieces.decode(&bytes[at..end], &mut got) {
                Ok(n) => at += n,
                Err(e) => {
                    in_pieces = Err(e);
                    break;
                }
            }
        }
        let shown = String::from_utf8_lossy(&bytes).escape_debug().to_string();
        assert_eq!(at_once.is_ok(), in_pieces.is_ok(), "{shown}");
        if let Ok(n) = at_once {
            assert_eq!((n, &data, whole.is_done()), (at, &got, pieces.is_done()), "{shown}");
        }
        assert!(data.len() <= bytes.len());
    });
}

#[test]
fn normalised_paths_stay_inside_and_stay_what_they_are() {
    rounds(50_000, |c| {
        let mut bytes = b"/".to_vec();
        for _ in 0..c.below(8) {
            bytes.extend_from_slice(
                c.of(&[
                    "a", "..", ".", "/", "//", "%2e", "%2f", "%25", "%zz", "%0", "?q=/..", "#f", "é", "...",
                ])
                .as_bytes(),
            );
        }
        damage(&mut bytes, c);
        let merge = c.below(2) == 0;
        let Ok(target) = normalise(&bytes, merge) else { return };
        let shown = String::from_utf8_lossy(&bytes).escape_debug().to_string();
        assert!(target.uri.starts_with(b"/") && !target.uri.contains(&0), "{shown}");
        let climbs = target.uri.split(|b| *b == b'/').any(|part| part == b"..");
        assert!(!climbs, "{shown} -> {}", String::from_utf8_lossy(&target.uri));
        if merge {
            assert!(!target.uri.windows(2).any(|w| w == b"//"), "{shown}");
        }
        let mut escaped = Vec::new();
        escape(&target.uri, Place::Uri, &mut escaped);
        assert_eq!(normalise(&escaped, merge).map(|t| t.uri), Ok(target.uri), "{shown}");
    });
}

#[test]
fn configurations_load_or_say_why_not() {
    let folder = std::env::temp_dir().join(format!("moonlit-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("logs")).expect("the temporary folder can be written");
    std::fs::write(folder.join("empty.conf"), "").expect("as above");
    const LINES: &[&str] = &[
        "listen 8080;",
        "server_name a *.b ~^c;",
        "location / {",
        "location ~ ^/(x) {",
        "if ($arg_x = 1) {",
        "return 200 \"$uri\";",
        "rewrite ^/(.*)$ /$1 last;",
        "set $v \"a${v}b\";",
        "echo \"x $v\" 'y';",
        "proxy_pass http://127.0.0.1:1/;",
        "add_header X-A $v always;",
        "more_set_headers -s 404 'A: $v';",
        "allow 10.0.0.0/8;",
        "limit_rate 1k;",
        "error_page 404 =200 /x;",
        "try_files $uri =404;",
        "content_by_lua_block { ngx.say('}') --[[ } ]] }",
        "gzip on;",
        "expires 1h;",
        "map $uri $m { default a; ~^/(?<n>x) $n; }",
        "geo $g { default a; 1.0.0.0/8 b; }",
        "split_clients $uri $s { 50% a; * b; }",
        "log_format f '$m $g';",
        "access_log logs/a f buffer=1k;",
        "types { text/html html; }",
        "# comment { }",
        "include nothing*.conf;",
        "}",
        "server {",
        "upstream u { server 127.0.0.1:1; }",
    ];
    rounds(2_000, |c| {
        let mut text = String::from("events {} http { server {");
        for _ in 0..c.below(14) {
            text.push_str(c.of(LINES));
            text.push_str(c.of(&["\n", " ", "\r\n"]));
        }
        let open = text.matches('{').count().saturating_sub(text.matches('}').count());
        text.push_str(&"}".repeat(open));
        let mut bytes = text.into_bytes();
        damage(&mut bytes, c);
        let options = Options {
            prefix: folder.clone(),
            file: folder.join("empty.conf"),
            error_log: folder.join("logs/error.log"),
            globals: String::from_utf8_lossy(&bytes).into_owned(),
        };
        if let Err(failed) = load(&options) {
            assert!(!failed.error.to_string().is_empty());
        }
    });
    let _ = std::fs::remove_dir_all(&folder);
}
