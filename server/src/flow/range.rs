//! Parts of a response: `Range`, `If-Range`, one part or several.

use std::cell::Cell;
use std::rc::Rc;

use crate::http1::clock;
use crate::request::Request;
use crate::request::response::{BodyFilter, Chunk, Sink};

/// Most bytes gathered for parts that are asked for out of order.
const GATHER_BYTES_MAX: u64 = 64 << 20;

/// A part: from a byte to behind another.
type Part = (u64, u64);

/// What a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// These parts.
    Parts(Vec<Part>),
    /// Nothing that makes sense: the whole is sent.
    Ignored,
    /// Nothing that is there.
    NotSatisfiable,
}

/// The header filter. The error is the status that takes the response's place.
pub fn header_filter(req: &Request) -> Result<(), u16> {
    let max = req.location().max_ranges;
    let (length, ours) = {
        let res = req.response.borrow();
        let eligible = req.version >= 1000
            && res.status == 200
            && req.is_main()
            && res.allow_ranges
            && max > 0
            && matches!(res.sink, Sink::Client);
        match res.content_length {
            Some(length) if eligible => (length, res.last_modified),
            _ => return Ok(()),
        }
    };
    let asked = {
        let headers = req.headers.borrow();
        let res = req.response.borrow();
        let etag = res.headers.get(b"etag");
        let fresh = match headers.get(b"if-range") {
            None => true,
            Some(tag) if tag.ends_with(b"\"") => etag == Some(tag),
            Some(date) => ours.is_some() && clock::parse_http_time(date) == ours,
        };
        match headers.get(b"range") {
            Some(range) if fresh && range.len() >= 7 && range[..6].eq_ignore_ascii_case(b"bytes=") => {
                parse(&range[6..], length, max)
            }
            _ => Asked::Ignored,
        }
    };
    let mut res = req.response.borrow_mut();
    match asked {
        Asked::Ignored => res.headers.set(b"Accept-Ranges", b"bytes"),
        Asked::NotSatisfiable => {
            res.headers.set(b"Content-Range", format!("bytes */{length}").as_bytes());
            res.clear_length();
            return Err(416);
        }
        Asked::Parts(parts) if parts.len() == 1 => {
            let (from, to) = parts[0];
            res.status = 206;
            res.headers.set(b"Content-Range", format!("bytes {from}-{}/{length}", to - 1).as_bytes());
            res.clear_ranges();
            res.clear_length();
            res.content_length = Some(to - from);
            res.part = Some((from, to));
            res.early_filters.push(Box::new(Single { at: 0, from, to }));
        }
        Asked::Parts(parts) => {
            let ascending = parts.windows(2).all(|p| p[0].1 <= p[1].0);
            if !ascending && length > GATHER_BYTES_MAX {
                res.headers.set(b"Accept-Ranges", b"bytes");
                return Ok(());
            }
            let boundary = next_boundary();
            let content_type = res.content_type.clone();
            let mut heads = Vec::new();
            for (from, to) in &parts {
                let mut head = format!("\r\n--{boundary}\r\n").into_bytes();
                if let Some(t) = content_type.as_deref().filter(|t| !t.is_empty()) {
                    head.extend_from_slice(b"Content-Type: ");
                    head.extend_from_slice(t);
                    head.extend_from_slice(b"\r\n");
                }
                let range = format!("Content-Range: bytes {from}-{}/{length}\r\n\r\n", to - 1);
                head.extend_from_slice(range.as_bytes());
                heads.push(head);
            }
            let tail = format!("\r\n--{boundary}--\r\n").into_bytes();
            let sum: u64 = parts.iter().zip(&heads).map(|((from, to), h)| to - from + h.len() as u64).sum();
            res.status = 206;
            res.content_type = Some(format!("multipart/byteranges; boundary={boundary}").into_bytes());
            res.clear_ranges();
            res.clear_length();
            res.content_length = Some(sum + tail.len() as u64);
            let filter = Several { parts, heads, tail, whole: Vec::new(), at: 0, next: 0, ascending };
            res.early_filters.push(Box::new(filter));
        }
    }
    Ok(())
}

/// Twenty digits that no response before has used.
fn next_boundary() -> String {
    thread_local! {
        static NEXT: Cell<u64> = Cell::new(super::set_misc::random_u64() >> 32);
    }
    NEXT.set(NEXT.get().wrapping_add(1));
    format!("{:020}", NEXT.get())
}

fn parse(text: &[u8], length: u64, max: u64) -> Asked {
    let mut parts = Vec::new();
    let mut sum: u64 = 0;
    let mut left = max;
    for item in text.split(|b| *b == b',') {
        let item = trim(item);
        let Some(dash) = memchr::memchr(b'-', item) else { return Asked::NotSatisfiable };
        let (first, last) = (trim(&item[..dash]), trim(&item[dash + 1..]));
        let number = |t: &[u8]| crate::conf::value::number(t);
        let (from, to) = match (first.is_empty(), last.is_empty()) {
            (true, _) => match number(last) {
                Some(n) => (length.saturating_sub(n), length),
                None => return Asked::NotSatisfiable,
            },
            (false, true) => match number(first) {
                Some(from) => (from, length),
                None => return Asked::NotSatisfiable,
            },
            (false, false) => match (number(first), number(last)) {
                (Some(from), Some(to)) => (from, if to >= length { length } else { to + 1 }),
                _ => return Asked::NotSatisfiable,
            },
        };
        if from < to {
            if left == 0 {
                return Asked::Ignored;
            }
            left -= 1;
            sum = sum.saturating_add(to - from);
            parts.push((from, to));
        } else if from == 0 {
            return Asked::Ignored;
        }
    }
    if parts.is_empty() {
        Asked::NotSatisfiable
    } else if sum > length {
        Asked::Ignored
    } else {
        Asked::Parts(parts)
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' '] = text {
        text = rest;
    }
    text
}

/// What of `data`, which begins at byte `at` of the whole, lies in a part.
fn overlap(data: &[u8], at: u64, (from, to): Part) -> &[u8] {
    let len = data.len() as u64;
    let start = from.saturating_sub(at).min(len);
    let end = to.saturating_sub(at).min(len);
    if start < end { &data[start as usize..end as usize] } else { &[] }
}

/// Lets one part through.
struct Single {
    at: u64,
    from: u64,
    to: u64,
}

impl BodyFilter for Single {
    fn run(&mut self, _: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str> {
        let len = chunk.data.len() as u64;
        if self.at < self.from || self.at + len > self.to {
            chunk.data = overlap(&chunk.data, self.at, (self.from, self.to)).to_vec();
        }
        self.at += len;
        Ok(())
    }
}

/// Lets several parts through, each with its head.
struct Several {
    parts: Vec<Part>,
    heads: Vec<Vec<u8>>,
    tail: Vec<u8>,
    /// The whole, where parts are not in order.
    whole: Vec<u8>,
    at: u64,
    next: usize,
    ascending: bool,
}

impl BodyFilter for Several {
    fn run(&mut self, _: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str> {
        let mut out = Vec::new();
        if self.ascending {
            let end = self.at + chunk.data.len() as u64;
            while let Some(part) = self.parts.get(self.next).copied().filter(|p| p.0 < end) {
                out.append(&mut self.heads[self.next]);
                out.extend_from_slice(overlap(&chunk.data, self.at, part));
                if part.1 > end {
                    break;
                }
                self.next += 1;
            }
            self.at = end;
        } else {
            self.whole.append(&mut chunk.data);
            if chunk.last {
                for (part, head) in self.parts.iter().zip(&mut self.heads) {
                    out.append(head);
                    out.extend_from_slice(overlap(&self.whole, 0, *part));
                }
            }
        }
        if chunk.last {
            out.append(&mut self.tail);
        }
        chunk.data = out;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_by_nginx() {
        let ok = |p: &[Part]| Asked::Parts(p.to_vec());
        for (text, want) in [
            ("0-0", ok(&[(0, 1)])),
            ("5-", ok(&[(5, 10)])),
            ("-3", ok(&[(7, 10)])),
            ("-30", ok(&[(0, 10)])),
            ("2-100", ok(&[(2, 10)])),
            (" 1 - 2 , 4-5", ok(&[(1, 3), (4, 6)])),
            ("10-", Asked::NotSatisfiable),
            ("10-,0-1", ok(&[(0, 2)])),
            ("x-1", Asked::NotSatisfiable),
            ("1", Asked::NotSatisfiable),
            ("-", Asked::NotSatisfiable),
            ("5-4", Asked::NotSatisfiable),
            ("0-9,0-1", Asked::Ignored),
        ] {
            assert_eq!(parse(text.as_bytes(), 10, 100), want, "{text}");
        }
        assert_eq!(parse(b"0-0,1-1,2-2", 10, 2), Asked::Ignored);
    }
}
