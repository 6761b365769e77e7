//! The read buffer of a cosocket and the search of `receiveuntil`.
//!
//! Pure bytes: no sockets, no timers.

use bytes::BufMut;
use bytes::buf::Limit;
use memchr::memmem;

use crate::http1::conn::{give_buffer, take_buffer};

/// Reads up to this size go into buffers of the worker's stock.
const STOCK_BYTES: usize = 4096;

/// Bytes received and not yet taken.
#[derive(Default)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// What is there.
    pub fn filled(&self) -> &[u8] {
        &self.data[self.start..]
    }

    /// Number of bytes there.
    pub fn len(&self) -> usize {
        self.data.len() - self.start
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first `n` bytes out.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        let out = if self.start == 0 && n == self.data.len() && n > STOCK_BYTES {
            std::mem::take(&mut self.data)
        } else {
            let out = self.data[self.start..self.start + n].to_vec();
            self.start += n;
            out
        };
        self.tidy();
        out
    }

    /// Drops the first `n` bytes.
    pub fn skip(&mut self, n: usize) {
        self.start += n;
        self.tidy();
    }

    fn tidy(&mut self) {
        if self.start >= self.data.len() {
            self.data.clear();
            self.start = 0;
        }
    }

    /// Room for `n` bytes behind what is there. Memory that nothing was read into yet is not cleared first.
    pub fn room(&mut self, n: usize) -> Limit<&mut Vec<u8>> {
        if self.data.capacity() == 0 && n <= STOCK_BYTES {
            self.data = take_buffer();
        }
        if self.start > 0 && self.data.capacity() - self.data.len() < n {
            self.data.drain(..self.start);
            self.start = 0;
        }
        self.data.reserve(n);
        (&mut self.data).limit(n)
    }

    /// Puts bytes behind what is there.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.data.extend_from_slice(bytes);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give_buffer(std::mem::take(&mut self.data));
    }
}

/// The state of one `receiveuntil` iterator.
pub struct Until {
    finder: memmem::Finder<'static>,
    /// Length of the longest prefix that ends each prefix of the pattern, itself excepted.
    borders: Vec<u32>,
    inclusive: bool,
    /// A sized read has met the pattern: the next call reports the end once.
    ended: bool,
}

/// How a walk through the bytes ended.
enum Walk {
    /// That many bytes are in front of the pattern, and they are enough.
    Full(usize),
    /// The pattern begins there.
    Met(usize),
    /// So many bytes are surely in front of it.
    More(usize),
}

fn borders(pattern: &[u8]) -> Vec<u32> {
    let mut table = vec![0u32; pattern.len()];
    let mut kept = 0usize;
    for at in 1..pattern.len() {
        while kept > 0 && pattern[kept] != pattern[at] {
            kept = table[kept - 1] as usize;
        }
        if pattern[kept] == pattern[at] {
            kept += 1;
        }
        table[at] = kept as u32;
    }
    table
}

/// What a look at the buffer found for `receiveuntil`.
#[derive(PartialEq, Eq, Debug)]
pub enum UntilStep {
    /// Take `data` bytes as the result and drop `drop` bytes behind them; `end` when the pattern was met.
    Found {
        /// Length of the result.
        data: usize,
        /// Bytes of the pattern to be dropped behind it.
        drop: usize,
        /// Whether the pattern was met.
        end: bool,
    },
    /// More bytes are needed; the first `clean` bytes need not be searched again.
    More {
        /// Where the next search may start.
        clean: usize,
    },
}

impl Until {
    /// An iterator for a non-empty pattern.
    pub fn new(pattern: &[u8], inclusive: bool) -> Until {
        let finder = memmem::Finder::new(pattern).into_owned();
        Until { finder, borders: borders(pattern), inclusive, ended: false }
    }

    /// How many of these bytes are surely in front of the pattern; those behind may be its beginning.
    pub fn settled(&self, data: &[u8]) -> usize {
        data.len() - self.held_back(data)
    }

    /// Whether the end has to be reported now; asking clears it.
    pub fn take_ended(&mut self) -> bool {
        std::mem::take(&mut self.ended)
    }

    /// Looks for the pattern in `data`, whose first `clean` bytes are known to start no match.
    pub fn step(&mut self, data: &[u8], clean: usize, size: Option<usize>) -> UntilStep {
        let found = match size {
            Some(size) => match self.walk(data, clean, size) {
                Walk::Full(n) => return UntilStep::Found { data: n, drop: 0, end: false },
                Walk::Met(p) => Ok(p),
                Walk::More(n) => Err(n),
            },
            // Bytes at the tail that may be the beginning of the pattern are held back.
            None => match self.finder.find(&data[clean..]) {
                Some(p) => Ok(p + clean),
                None => Err(data.len() - self.held_back(data)),
            },
        };
        match found {
            Ok(p) => {
                self.ended = size.is_some();
                let len = self.finder.needle().len();
                let (data, drop) = if self.inclusive { (p + len, 0) } else { (p, len) };
                UntilStep::Found { data, drop, end: true }
            }
            Err(clean) => UntilStep::More { clean },
        }
    }

    /// Goes through the bytes one by one. Bytes that looked like the pattern and are not count all at
    /// once, as upstream counts them: a piece may become longer than `size` by them.
    fn walk(&self, data: &[u8], clean: usize, size: usize) -> Walk {
        let pattern = self.finder.needle();
        let (mut done, mut matched, mut at) = (clean, 0, clean);
        while at < data.len() {
            let b = data[at];
            if b == pattern[matched] {
                (matched, at) = (matched + 1, at + 1);
                if matched == pattern.len() {
                    return Walk::Met(at - matched);
                }
                continue;
            }
            let mut kept = matched;
            while kept > 0 && pattern[kept] != b {
                kept = self.borders[kept - 1] as usize;
            }
            if matched == 0 {
                (done, at) = (done + 1, at + 1);
            } else if kept > 0 {
                done += matched - kept;
                (matched, at) = (kept + 1, at + 1);
            } else {
                // The byte is looked at once more, now as a beginning.
                done += matched;
                matched = 0;
            }
            if done >= size {
                return Walk::Full(done);
            }
        }
        Walk::More(done)
    }

    fn held_back(&self, data: &[u8]) -> usize {
        let needle = self.finder.needle();
        let longest = (needle.len() - 1).min(data.len());
        (1..=longest).rev().find(|&n| data[data.len() - n..] == needle[..n]).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(input: &[u8], pattern: &[u8], size: Option<usize>, inclusive: bool) -> Vec<String> {
        let mut u = Until::new(pattern, inclusive);
        let mut b = Buffer::default();
        let (mut out, mut clean, mut fed) = (Vec::new(), 0, 0);
        loop {
            if u.take_ended() {
                out.push("END".into());
                return out;
            }
            match u.step(b.filled(), clean, size) {
                UntilStep::Found { data, drop, end } => {
                    out.push(String::from_utf8(b.take(data)).unwrap());
                    b.skip(drop);
                    clean = 0;
                    if end && size.is_none() {
                        return out;
                    }
                }
                UntilStep::More { clean: c } => {
                    clean = c;
                    b.extend(&input[fed..fed + 1]);
                    fed += 1;
                }
            }
        }
    }

    #[test]
    fn pattern_split_over_reads_is_found() {
        assert_eq!(run(b"aabaabaaabcd", b"aabaaab", None, false), ["aab"]);
        assert_eq!(run(b"one--two--", b"--", None, true), ["one--"]);
    }

    #[test]
    fn sized_reads_end_with_a_short_piece_and_the_end_mark() {
        let got = run(b"hello, world! -agentzh\r\n--abcedhb", b"\r\n--abcedhb", Some(4), false);
        assert_eq!(got, ["hell", "o, w", "orld", "! -a", "gent", "zh", "END"]);
        assert_eq!(run(b"abcd--", b"--", Some(4), false), ["abcd", "", "END"]);
    }

    #[test]
    fn what_only_looked_like_the_pattern_counts_at_once() {
        assert_eq!(run(b"ab1ab1ab2", b"ab1ab2", Some(2), false), ["ab1", "", "END"]);
        assert_eq!(run(b"xaabaaby", b"aaby", Some(2), false), ["xaab", "", "END"]);
    }

    #[test]
    fn take_and_fill_keep_the_order_of_bytes() {
        let mut b = Buffer::default();
        b.extend(b"hello world");
        assert_eq!(b.take(6), b"hello ");
        b.room(100).put_slice(b"!!!");
        assert_eq!(b.filled(), b"world!!!");
        assert_eq!(b.take(8), b"world!!!");
        assert!(b.is_empty());
    }
}
