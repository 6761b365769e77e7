//! The header that a proxy in front sends ahead of the client's bytes: PROXY protocol, versions 1 and 2.
//!
//! Pure functions over bytes. Unlike nginx a header may arrive in several pieces: what can still become one is
//! waited for. The rules of validity and the texts for the log are nginx's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What begins a header of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Length of the fixed part of version 2.
const V2_FIXED: usize = 16;
/// Longest header of version 1, line end included.
const V1_MAX: usize = 107;
/// Length of what precedes the parts of the TLS entry: a byte of flags, four of the check's result.
const TLS_FIXED: usize = 5;

/// What a proxy said of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// Text of the client's address.
    pub addr: Box<str>,
    /// The client's port.
    pub port: u16,
    /// Text of the address that the client came to.
    pub server_addr: Box<str>,
    /// Its port.
    pub server_port: u16,
    /// Entries of version 2: type, length in two bytes, value.
    tlvs: Box<[u8]>,
}

/// What the first bytes of a connection are.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// More is needed.
    Part,
    /// A header of so many bytes. Without contents when the proxy speaks for itself, or of something that is no TCP.
    Header(Option<ProxyProtocol>, usize),
    /// None, or a wrong one: a text for the log.
    Broken(Vec<u8>),
}

/// Looks at the first bytes of a connection.
pub fn read(buf: &[u8]) -> Seen {
    let known = buf.len().min(SIGNATURE.len());
    if buf[..known] == SIGNATURE[..known] {
        return if buf.len() < V2_FIXED { Seen::Part } else { version_2(buf) };
    }
    version_1(buf)
}

fn version_1(buf: &[u8]) -> Seen {
    const BEGIN: &[u8] = b"PROXY ";
    let known = buf.len().min(BEGIN.len());
    if buf[..known] == BEGIN[..known] {
        let line = &buf[..buf.len().min(V1_MAX)];
        match memchr::memmem::find(line, b"\r\n") {
            Some(end) => {
                if let Some(found) = line_1(&line[BEGIN.len()..end]) {
                    return Seen::Header(found, end + 2);
                }
            }
            None if buf.len() < V1_MAX => return Seen::Part,
            None => {}
        }
    }
    let shown = buf.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(buf.len()).min(V1_MAX);
    Seen::Broken([b"broken header: \"", &buf[..shown], b"\""].concat())
}

/// What stands between `PROXY` and the line end.
fn line_1(line: &[u8]) -> Option<Option<ProxyProtocol>> {
    if line.starts_with(b"UNKNOWN") {
        return Some(None);
    }
    let rest = line.strip_prefix(b"TCP4 ").or_else(|| line.strip_prefix(b"TCP6 "))?;
    let mut parts = rest.splitn(4, |b| *b == b' ');
    let mut addr = || {
        let text = parts.next()?;
        let good = text.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'));
        good.then(|| Box::from(std::str::from_utf8(text).unwrap_or_default()))
    };
    let (addr, server_addr) = (addr()?, addr()?);
    let mut port = || {
        let text = parts.next()?;
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        digits.then(|| std::str::from_utf8(text).ok()?.parse::<u16>().ok())?
    };
    let (port, server_port) = (port()?, port()?);
    Some(Some(ProxyProtocol { addr, port, server_addr, server_port, tlvs: Box::default() }))
}

fn version_2(buf: &[u8]) -> Seen {
    let version = buf[12] >> 4;
    if version != 2 {
        return Seen::Broken(format!("unknown PROXY protocol version: {version}").into_bytes());
    }
    let end = V2_FIXED + usize::from(u16::from_be_bytes([buf[14], buf[15]]));
    let Some(body) = buf.get(V2_FIXED..end) else { return Seen::Part };
    let (command, family, transport) = (buf[12] & 15, buf[13] >> 4, buf[13] & 15);
    // Only PROXY of streams over the internet says something.
    if command != 1 || transport != 1 {
        return Seen::Header(None, end);
    }
    let addr_bytes = match family {
        1 => 4,
        2 => 16,
        _ => return Seen::Header(None, end),
    };
    let Some((addrs, tlvs)) = body.split_at_checked(2 * addr_bytes + 4) else {
        return Seen::Broken(b"broken header: too short for its addresses".to_vec());
    };
    let text = |bytes: &[u8]| -> Box<str> {
        let ip = match *bytes {
            [a, b, c, d] => IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            _ => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap_or_default())),
        };
        ip.to_string().into()
    };
    let port = |at: usize| u16::from_be_bytes([addrs[at], addrs[at + 1]]);
    let found = ProxyProtocol {
        addr: text(&addrs[..addr_bytes]),
        port: port(2 * addr_bytes),
        server_addr: text(&addrs[addr_bytes..2 * addr_bytes]),
        server_port: port(2 * addr_bytes + 2),
        tlvs: tlvs.into(),
    };
    Seen::Header(Some(found), end)
}

impl ProxyProtocol {
    /// The entry that `$proxy_protocol_tlv_NAME` stands for: a name, or `0x` and the type in hexadecimal digits, with
    /// `ssl_` in front for parts of the TLS entry. `Ok(None)` when there is none.
    ///
    /// The error is a text for the log: `broken PROXY protocol TLV`, `unknown PROXY protocol TLV "NAME"`, `invalid
    /// PROXY protocol TLV "NAME"`; empty for a TLS entry that is too short.
    pub fn tlv(&self, name: &str) -> Result<Option<Vec<u8>>, String> {
        let (part, tlvs) = match name.strip_prefix("ssl_") {
            None => (name, &*self.tlvs),
            Some(part) => {
                let Some(tls) = entry(&self.tlvs, 0x20)? else { return Ok(None) };
                let (fixed, parts) = tls.split_at_checked(TLS_FIXED).ok_or_else(String::new)?;
                if part == "verify" {
                    let result = u32::from_be_bytes([fixed[1], fixed[2], fixed[3], fixed[4]]);
                    return Ok(Some(result.to_string().into_bytes()));
                }
                (part, parts)
            }
        };
        let kind = if let Some(digits) = part.strip_prefix("0x") {
            match u64::from_str_radix(digits, 16) {
                Ok(n) if !digits.starts_with('+') => n,
                _ => return Err(format!("invalid PROXY protocol TLV \"{name}\"")),
            }
        } else {
            match (part.len() == name.len(), part) {
                (true, "alpn") => 0x01,
                (true, "authority") => 0x02,
                (true, "unique_id") => 0x05,
                (true, "ssl") => 0x20,
                (true, "netns") => 0x30,
                (false, "version") => 0x21,
                (false, "cn") => 0x22,
                (false, "cipher") => 0x23,
                (false, "sig_alg") => 0x24,
                (false, "key_alg") => 0x25,
                _ => return Err(format!("unknown PROXY protocol TLV \"{name}\"")),
            }
        };
        Ok(entry(tlvs, kind)?.map(<[u8]>::to_vec))
    }
}

/// The value of the first entry of a type.
fn entry(mut tlvs: &[u8], kind: u64) -> Result<Option<&[u8]>, String> {
    while !tlvs.is_empty() {
        let broken = || "broken PROXY protocol TLV".to_owned();
        let (head, rest) = tlvs.split_at_checked(3).ok_or_else(broken)?;
        let len = usize::from(u16::from_be_bytes([head[1], head[2]]));
        let (value, rest) = rest.split_at_checked(len).ok_or_else(broken)?;
        if u64::from(head[0]) == kind {
            return Ok(Some(value));
        }
        tlvs = rest;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &len, body].concat()
    }

    #[test]
    fn version_1_in_one_piece_and_byte_by_byte() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 35646 80\r\nGET";
        let Seen::Header(Some(p), 44) = read(line) else { panic!("{:?}", read(line)) };
        assert_eq!(
            (&*p.addr, p.port, &*p.server_addr, p.server_port),
            ("192.0.2.7", 35646, "198.51.100.1", 80)
        );
        for n in 0..44 {
            assert_eq!(read(&line[..n]), Seen::Part, "{n}");
        }
        assert_eq!(read(b"PROXY UNKNOWN whatever\r\n"), Seen::Header(None, 24));
        let v6 = b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n";
        assert!(
            matches!(read(v6), Seen::Header(Some(p), 36) if &*p.addr == "2001:db8::1" && p.server_port == 65535)
        );
    }

    #[test]
    fn what_is_no_header_is_shown() {
        let broken = |b: &[u8]| match read(b) {
            Seen::Broken(text) => String::from_utf8(text).unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(broken(b"GET / HTTP/1.1\r\n"), "broken header: \"GET / HTTP/1.1\"");
        assert_eq!(broken(b"PROXY TCP5 1 2 3 4\r\n"), "broken header: \"PROXY TCP5 1 2 3 4\"");
        assert_eq!(
            broken(b"PROXY TCP4 1.2.3.4 2.3.4.5 65536 80\r\n"),
            "broken header: \"PROXY TCP4 1.2.3.4 2.3.4.5 65536 80\""
        );
        assert_eq!(
            broken(b"PROXY TCP4 1.2.3.4 2.3.4.5 1\r\n"),
            "broken header: \"PROXY TCP4 1.2.3.4 2.3.4.5 1\""
        );
        assert_eq!(
            broken(b"PROXY TCP4 1.2.3.x 2.3.4.5 1 2\r\n"),
            "broken header: \"PROXY TCP4 1.2.3.x 2.3.4.5 1 2\""
        );
        assert!(broken(&[b"PROXY ".as_slice(), &[b'a'; 200]].concat()).len() < 130);
        assert_eq!(
            broken(&[&SIGNATURE[..], &[0x11, 0x11, 0, 0]].concat()),
            "unknown PROXY protocol version: 1"
        );
        assert_eq!(broken(&v2(1, 0x11, &[0; 11])), "broken header: too short for its addresses");
    }

    #[test]
    fn version_2_with_entries() {
        let mut body = vec![192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0, 80];
        body.extend_from_slice(b"\x01\x00\x02h2\x02\x00\x03a.b\xe0\x00\x01x");
        body.extend_from_slice(&[0x20, 0, 5 + 3 + 4, 1, 0, 0, 0, 7, 0x22, 0, 4, b'n', b'a', b'm', b'e']);
        let bytes = v2(1, 0x11, &body);
        for n in 0..bytes.len() {
            assert_eq!(read(&bytes[..n]), Seen::Part, "{n}");
        }
        let Seen::Header(Some(p), len) = read(&bytes) else { panic!() };
        assert_eq!(len, bytes.len());
        assert_eq!(
            (&*p.addr, p.port, &*p.server_addr, p.server_port),
            ("192.0.2.7", 0x1234, "198.51.100.1", 80)
        );
        assert_eq!(p.tlv("alpn"), Ok(Some(b"h2".to_vec())));
        assert_eq!(p.tlv("authority"), Ok(Some(b"a.b".to_vec())));
        assert_eq!(p.tlv("0xe0"), Ok(Some(b"x".to_vec())));
        assert_eq!(p.tlv("unique_id"), Ok(None));
        assert_eq!(p.tlv("ssl_verify"), Ok(Some(b"7".to_vec())));
        assert_eq!(p.tlv("ssl_cn"), Ok(Some(b"name".to_vec())));
        assert_eq!(p.tlv("ssl_0x22"), Ok(Some(b"name".to_vec())));
        assert_eq!(p.tlv("ssl_cipher"), Ok(None));
        assert_eq!(p.tlv("0xzz"), Err("invalid PROXY protocol TLV \"0xzz\"".to_owned()));
        assert_eq!(p.tlv("cn"), Err("unknown PROXY protocol TLV \"cn\"".to_owned()));
        let cut = ProxyProtocol { tlvs: Box::from(&b"\x01\x00\x09h2"[..]), ..ProxyProtocol::default() };
        assert_eq!(cut.tlv("alpn"), Err("broken PROXY protocol TLV".to_owned()));
    }

    #[test]
    fn version_2_that_says_nothing() {
        for (command, family) in [(0, 0x11), (1, 0x12), (1, 0x31), (1, 0x00)] {
            assert_eq!(read(&v2(command, family, &[9; 40])), Seen::Header(None, 56), "{command} {family}");
        }
        let body = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1], &[0, 5, 0, 6]].concat();
        assert!(
            matches!(read(&v2(1, 0x21, &body)), Seen::Header(Some(p), 52) if &*p.addr == "2001:db8::1" && p.port == 5)
        );
    }
}
