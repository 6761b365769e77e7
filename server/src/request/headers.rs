//! Headers in and out: lists with raw names in order, with nginx's rules for lookup and replacement.
//!
//! Names and values lie one after the other in one buffer; a change appends to
//! it. Nothing here knows the wire or the request.

use crate::http1::parse::{HeaderSpan, Span};

/// Room for more lines than these is not kept from one request to the next.
const LINES_KEPT_MAX: usize = 64;

/// A list of header lines.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    list: Vec<HeaderSpan>,
    /// A bit for each length that a name has, or has had: most questions are for what is not there.
    lengths: u64,
}

/// The bit of a name's length.
fn length_bit(len: usize) -> u64 {
    1 << len.min(63)
}

impl Headers {
    /// A list over bytes that are there already.
    pub fn over(bytes: Vec<u8>, list: Vec<HeaderSpan>) -> Headers {
        let lengths = lengths_of(&list);
        Headers { bytes, list, lengths }
    }

    /// Makes it a list over bytes such as a request head, which are copied.
    pub fn fill(&mut self, bytes: &[u8], list: &[HeaderSpan]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
        self.list.extend_from_slice(list);
        self.lengths = lengths_of(list);
    }

    /// Makes it the same list as another one.
    pub fn copy(&mut self, other: &Headers) {
        self.fill(&other.bytes, &other.list);
        self.lengths = other.lengths;
    }

    /// An empty list with room for so many bytes and lines.
    pub fn with_capacity(bytes: usize, lines: usize) -> Headers {
        Headers { bytes: Vec::with_capacity(bytes), list: Vec::with_capacity(lines), lengths: 0 }
    }

    /// The bytes a span of this list stands for.
    pub fn bytes(&self, span: Span) -> &[u8] {
        span.of(&self.bytes)
    }

    /// All lines in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|h| (h.name.of(&self.bytes), h.value.of(&self.bytes)))
    }

    /// Number of lines.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The first value of that name, whatever its case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        if self.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// All values of that name.
    pub fn all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v)
    }

    /// How many lines have that name.
    pub fn count(&self, name: &[u8]) -> usize {
        self.all(name).count()
    }

    /// Appends a line.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        self.lengths |= length_bit(name.len());
        let name = self.store(name);
        let value = self.store(value);
        self.list.push(HeaderSpan { name, value });
    }

    /// Removes all lines of that name; tells whether there was one.
    pub fn remove(&mut self, name: &[u8]) -> bool {
        if self.lengths & length_bit(name.len()) == 0 {
            return false;
        }
        let before = self.list.len();
        let bytes = &self.bytes;
        self.list.retain(|h| !h.name.of(bytes).eq_ignore_ascii_case(name));
        self.list.len() != before
    }

    /// Makes `value` the only value of that name, at the place of the first one.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let bytes = &self.bytes;
        let at = self.list.iter().position(|h| h.name.of(bytes).eq_ignore_ascii_case(name));
        match at {
            None => self.push(name, value),
            Some(at) => {
                let mut n = 0;
                self.list.retain(|h| {
                    n += 1;
                    n - 1 <= at || !h.name.of(bytes).eq_ignore_ascii_case(name)
                });
                let name = self.store(name);
                let value = self.store(value);
                self.list[at] = HeaderSpan { name, value };
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.list.clear();
        self.lengths = 0;
    }

    /// Forgets everything, and the memory too where it was much.
    pub fn trim(&mut self) {
        super::trim(&mut self.bytes);
        self.list.clear();
        self.lengths = 0;
        if self.list.capacity() > LINES_KEPT_MAX {
            self.list = Vec::new();
        }
    }

    fn store(&mut self, b: &[u8]) -> Span {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(b);
        Span::new(at, self.bytes.len())
    }
}

fn lengths_of(list: &[HeaderSpan]) -> u64 {
    list.iter().fold(0, |bits, h| bits | length_bit(h.name.len as usize))
}

/// Whether a valid name is this one, which is in lower case and of letters and `-`. Branches are what the usual
/// comparison costs.
pub fn is_name(name: &[u8], lower: &[u8]) -> bool {
    name.len() == lower.len() && name.iter().zip(lower).fold(0, |diff, (a, b)| diff | ((a | 0x20) ^ b)) == 0
}

/// Whether a header's name equals a variable's or table's: `_` stands for `-`.
pub fn matches_underscored(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(&n, &w)| {
            let n = if n == b'-' { b'_' } else { n.to_ascii_lowercase() };
            let w = if w == b'-' { b'_' } else { w.to_ascii_lowercase() };
            n == w
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(h: &Headers) -> String {
        h.iter()
            .map(|(n, v)| format!("{}={};", String::from_utf8_lossy(n), String::from_utf8_lossy(v)))
            .collect()
    }

    #[test]
    fn set_keeps_the_place_and_remove_takes_all() {
        let mut h = Headers::default();
        h.push(b"A", b"1");
        h.push(b"B", b"2");
        h.push(b"a", b"3");
        h.push(b"C", b"4");
        assert_eq!(h.all(b"a").collect::<Vec<_>>(), [b"1", b"3"]);
        h.set(b"a", b"9");
        assert_eq!(text(&h), "a=9;B=2;C=4;");
        assert!(h.remove(b"b") && !h.remove(b"b"));
        h.set(b"D", b"");
        assert_eq!(text(&h), "a=9;C=4;D=;");
        assert!(matches_underscored(b"X-Foo-Bar", b"x_foo_bar"));
    }
}
