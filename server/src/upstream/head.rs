//! The head of a server's response: status line and headers, by nginx's rules for what is tolerated.

use crate::http1::parse::{HeaderSpan, Span};
use crate::request::headers::{Headers, is_name};

/// A parsed head.
#[derive(Debug, Default)]
pub struct ResponseHead {
    /// The status.
    pub status: u16,
    /// What stands behind it, when that is not the usual phrase.
    pub reason: Option<Vec<u8>>,
    /// The headers.
    pub headers: Headers,
    /// Length of the body, when given.
    pub content_length: Option<u64>,
    /// The body comes in chunks.
    pub chunked: bool,
    /// The connection ends with the response.
    pub close: bool,
    /// What was there is no head: everything is the body.
    pub bare: bool,
}

/// Why a head makes no sense.
#[derive(Debug, PartialEq, Eq)]
pub enum HeadFault {
    /// A line for the log.
    Invalid(Vec<u8>),
}

/// Parses a head from the first byte of `buf`. `None` when more is needed, else its length with it.
pub fn parse(buf: &[u8]) -> Result<Option<(ResponseHead, usize)>, HeadFault> {
    let mut head = ResponseHead::default();
    let Some(line_end) = memchr::memchr(b'\n', buf) else {
        // What cannot become a status line is not waited for.
        let known = &b"HTTP/"[..buf.len().min(5)];
        if !buf.starts_with(known) {
            return Ok(Some((bare(), 0)));
        }
        return Ok(None);
    };
    let line = buf[..line_end].strip_suffix(b"\r").unwrap_or(&buf[..line_end]);
    let Some((version, status, reason)) = status_line(line) else {
        return Ok(Some((bare(), 0)));
    };
    head.status = status;
    head.close = version < 1001;
    if reason.is_empty() || reason != crate::http1::write::reason_of(status).as_bytes() {
        head.reason = Some(reason.to_vec());
    }
    let mut spans = Vec::with_capacity(12);
    let end = match common_lines(buf, line_end + 1, &mut spans) {
        Some(end) => end,
        None => match odd_lines(buf, line_end + 1, &mut spans)? {
            Some(end) => end,
            None => return Ok(None),
        },
    };
    head.headers = Headers::over(buf[..end].to_vec(), spans);
    understand(&mut head)?;
    Ok(Some((head, end)))
}

/// Complete heads without oddities. `None` leaves it to `odd_lines`.
fn common_lines(buf: &[u8], from: usize, spans: &mut Vec<HeaderSpan>) -> Option<usize> {
    let mut lines = [httparse::EMPTY_HEADER; 32];
    let Ok(httparse::Status::Complete((len, lines))) = httparse::parse_headers(&buf[from..], &mut lines)
    else {
        return None;
    };
    let base = buf.as_ptr() as usize;
    for line in lines {
        let name = line.name.as_ptr() as usize - base;
        let end = name + line.name.len();
        let value = if line.value.is_empty() { end } else { line.value.as_ptr() as usize - base };
        spans.push(HeaderSpan {
            name: Span::new(name, end),
            value: Span::new(value, value + line.value.len()),
        });
    }
    Some(from + len)
}

/// nginx's rules, line by line. `None` when the end is not there yet.
fn odd_lines(buf: &[u8], from: usize, spans: &mut Vec<HeaderSpan>) -> Result<Option<usize>, HeadFault> {
    spans.clear();
    let mut at = from;
    loop {
        let Some(n) = memchr::memchr(b'\n', &buf[at..]) else { return Ok(None) };
        let line = &buf[at..at + n];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Ok(Some(at + n + 1));
        }
        spans.push(header_line(line, at).ok_or_else(|| invalid_line(line))?);
        at += n + 1;
    }
}

fn bare() -> ResponseHead {
    ResponseHead { status: 200, close: true, bare: true, ..ResponseHead::default() }
}

fn status_line(line: &[u8]) -> Option<(u32, u16, &[u8])> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let dot = memchr::memchr(b'.', rest)?;
    let digits = |s: &[u8]| -> Option<u32> {
        (!s.is_empty() && s.len() <= 3 && s.iter().all(u8::is_ascii_digit))
            .then(|| s.iter().fold(0, |n, d| n * 10 + u32::from(d - b'0')))
    };
    let major = digits(&rest[..dot])?;
    let blank = dot + 1 + memchr::memchr(b' ', &rest[dot + 1..])?;
    let minor = digits(&rest[dot + 1..blank])?;
    let rest = &rest[blank..];
    let start = rest.iter().position(|b| *b != b' ')?;
    let code = rest.get(start..start + 3)?;
    let status = digits(code)?;
    let after = &rest[start + 3..];
    let reason = match after {
        [] => after,
        [b' ', reason @ ..] => reason,
        // nginx lets a status like "200.1" pass.
        [b'.', ..] => after,
        _ => return None,
    };
    Some((major * 1000 + minor, u16::try_from(status).ok()?, reason))
}

fn header_line(line: &[u8], at: usize) -> Option<HeaderSpan> {
    let colon = memchr::memchr(b':', line)?;
    let name = &line[..colon];
    if name.is_empty() || name.iter().any(|b| *b <= 0x20 || *b == 0x7f) {
        return None;
    }
    let value = &line[colon + 1..];
    if value.contains(&0) || value.contains(&b'\r') {
        return None;
    }
    let lead = value.iter().take_while(|b| **b == b' ').count();
    let trail = value[lead..].iter().rev().take_while(|b| **b == b' ').count();
    Some(HeaderSpan {
        name: Span::new(at, at + colon),
        value: Span::new(at + colon + 1 + lead, at + line.len() - trail),
    })
}

/// nginx's words for a header line: what is fine of it, and the byte that is not.
fn invalid_line(line: &[u8]) -> HeadFault {
    let colon = memchr::memchr(b':', line).unwrap_or(line.len());
    let bad = line[..colon].iter().position(|b| *b <= 0x20 || *b == 0x7f).unwrap_or(if colon == 0 {
        0
    } else {
        line.iter().position(|b| *b == 0 || *b == b'\r').unwrap_or(line.len())
    });
    let byte = line.get(bad).copied().unwrap_or(b'\r');
    let mut text = b"upstream sent invalid header: \"".to_vec();
    text.extend_from_slice(&line[..bad]);
    text.extend_from_slice(format!("\\x{byte:02x}...\"").as_bytes());
    HeadFault::Invalid(text)
}

fn understand(head: &mut ResponseHead) -> Result<(), HeadFault> {
    let invalid = |parts: &[&[u8]]| HeadFault::Invalid(parts.concat());
    let mut length: Option<(&[u8], &[u8])> = None;
    let mut encoding: Option<(&[u8], &[u8])> = None;
    let (mut content_length, mut chunked, mut close) = (None, false, head.close);
    let both: &[u8] = b"upstream sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time";
    for (name, value) in head.headers.iter() {
        match name.len() {
            10 if is_name(name, b"connection") => {
                close |= value.windows(5).any(|w| w.eq_ignore_ascii_case(b"close"));
            }
            14 if is_name(name, b"content-length") => {
                if let Some((n, v)) = length {
                    return Err(duplicate(name, value, n, v));
                }
                if encoding.is_some() {
                    return Err(invalid(&[both]));
                }
                length = Some((name, value));
                let number = crate::conf::value::number(value).ok_or_else(|| {
                    invalid(&[
                        b"upstream sent invalid \"Content-Length\" header: \"",
                        name,
                        b": ",
                        value,
                        b"\"",
                    ])
                })?;
                content_length = Some(number);
            }
            17 if is_name(name, b"transfer-encoding") => {
                if let Some((n, v)) = encoding {
                    return Err(duplicate(name, value, n, v));
                }
                if length.is_some() {
                    return Err(invalid(&[both]));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(invalid(&[b"upstream sent unknown \"Transfer-Encoding\": \"", value, b"\""]));
                }
                encoding = Some((name, value));
                chunked = true;
            }
            _ => {}
        }
    }
    head.content_length = content_length;
    head.chunked = chunked;
    head.close = close;
    Ok(())
}

fn duplicate(name: &[u8], value: &[u8], before: &[u8], before_value: &[u8]) -> HeadFault {
    HeadFault::Invalid(
        [
            b"upstream sent duplicate header line: \"",
            name,
            b": ",
            value,
            b"\", previous value: \"",
            before,
            b": ",
            before_value,
            b"\"",
        ]
        .concat(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prefix_needs_more_and_then_it_is_whole() {
        let text = b"HTTP/1.1 404 Nope\r\nA: 1\r\nContent-Length:  3 \r\nConnection: Close\r\n\r\nabc";
        for n in 0..text.len() - 3 {
            assert!(parse(&text[..n]).unwrap().is_none(), "{n}");
        }
        let (head, len) = parse(text).unwrap().unwrap();
        assert_eq!((head.status, head.content_length, head.close, len), (404, Some(3), true, text.len() - 3));
        assert_eq!(head.reason.as_deref(), Some(&b"Nope"[..]));
        assert_eq!(head.headers.get(b"a"), Some(&b"1"[..]));
        let (head, _) = parse(b"HTTP/1.0 200\n\n").unwrap().unwrap();
        assert!(head.close && head.status == 200);
    }

    #[test]
    fn what_is_no_head_is_a_body() {
        for text in [&b"hello"[..], b"HTTX", b"HTTP/1.1 2x0 OK\r\n\r\n", b"HTTP/1.1 200x\r\n\r\n"] {
            let (head, len) = parse(text).unwrap().unwrap();
            assert!(head.bare && len == 0, "{}", String::from_utf8_lossy(text));
        }
        assert!(parse(b"HT").unwrap().is_none());
    }

    #[test]
    fn framing_that_smuggles_is_refused() {
        let fault = |headers: &str| {
            let text = format!("HTTP/1.1 200 OK\r\n{headers}\r\n\r\n");
            match parse(text.as_bytes()) {
                Err(HeadFault::Invalid(t)) => String::from_utf8(t).unwrap(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            fault("Content-Length: 1\r\nContent-Length: 2"),
            "upstream sent duplicate header line: \"Content-Length: 2\", previous value: \"Content-Length: 1\""
        );
        assert!(fault("Content-Length: 1\r\nTransfer-Encoding: chunked").ends_with("at the same time"));
        assert!(fault("Content-Length: -1").contains("invalid \"Content-Length\" header"));
        assert_eq!(fault("Transfer-Encoding: gzip"), "upstream sent unknown \"Transfer-Encoding\": \"gzip\"");
        assert_eq!(fault("a b: 1"), "upstream sent invalid header: \"a\\x20...\"");
    }
}
