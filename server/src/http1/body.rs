//! Message bodies: how long they are and how chunks are framed, in and out.
//!
//! The decoder is a byte-driven state machine that never waits; smuggling-shaped
//! framing (signs, blanks, bare line feeds, sizes that overflow) is refused.

/// How a body's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// That many bytes are left.
    Length(u64),
    /// Chunks.
    Chunked(Chunked),
}

/// Where the decoder stands between two chunk framings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    left: u64,
    digits: u8,
    /// Bytes of framing since the last data, so that extensions and trailers cannot go on for ever.
    overhead: u32,
    /// Bytes of the chunks that have begun, and how many there may be.
    total: u64,
    max: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    EndLf,
    Done,
}

/// Most bytes of chunk extension or trailer in one go.
const OVERHEAD_BYTES_MAX: u32 = 16 * 1024;

/// Why a chunked body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadChunk {
    /// The framing is broken.
    Framing,
    /// With a chunk of `size` behind `received` bytes it is longer than it may be.
    TooLarge {
        /// Bytes before the chunk.
        received: u64,
        /// Bytes of the chunk.
        size: u64,
    },
}

impl Decoder {
    /// A decoder of chunks.
    pub fn chunked() -> Decoder {
        Decoder::Chunked(Chunked {
            state: State::Size,
            left: 0,
            digits: 0,
            overhead: 0,
            total: 0,
            max: u64::MAX,
        })
    }

    /// Chunks beyond so many bytes are refused; a length is known beforehand.
    pub fn limit(&mut self, max: u64) {
        if let Decoder::Chunked(c) = self {
            c.max = max;
        }
    }

    /// Whether the body is complete.
    pub fn is_done(&self) -> bool {
        match self {
            Decoder::Length(n) => *n == 0,
            Decoder::Chunked(c) => c.state == State::Done,
        }
    }

    /// Takes bytes of the body from `input`, appends its data to `out`; returns how many bytes it took.
    /// Stops when the body is complete or `input` is used up.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        match self {
            Decoder::Length(left) => {
                let n = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                out.extend_from_slice(&input[..n]);
                *left -= n as u64;
                Ok(n)
            }
            Decoder::Chunked(c) => c.decode(input, out),
        }
    }
}

impl Chunked {
    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BadChunk> {
        let mut at = 0;
        while at < input.len() && self.state != State::Done {
            if self.state == State::Data {
                let n = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                out.extend_from_slice(&input[at..at + n]);
                at += n;
                self.left -= n as u64;
                self.overhead = 0;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.overhead += 1;
            if self.overhead > OVERHEAD_BYTES_MAX {
                return Err(BadChunk::Framing);
            }
            self.state = self.step(input[at])?;
            at += 1;
        }
        Ok(at)
    }

    fn step(&mut self, b: u8) -> Result<State, BadChunk> {
        Ok(match (self.state, b) {
            (State::Size, b) if b.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > 16 || self.left >> 59 != 0 {
                    return Err(BadChunk::Framing);
                }
                self.left = self.left * 16 + u64::from((b as char).to_digit(16).expect("tested above"));
                State::Size
            }
            (State::Size, b';' | b' ' | b'\t') if self.digits > 0 => State::Extension,
            (State::Size | State::Extension, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Extension, b'\n' | 0) => return Err(BadChunk::Framing),
            (State::Extension, _) => State::Extension,
            (State::SizeLf, b'\n') => {
                self.digits = 0;
                if self.left > self.max.saturating_sub(self.total) {
                    return Err(BadChunk::TooLarge { received: self.total, size: self.left });
                }
                self.total += self.left;
                if self.left == 0 { State::TrailerStart } else { State::Data }
            }
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::TrailerStart, b'\r') => State::EndLf,
            (State::TrailerStart | State::Trailer, b'\n' | 0) => return Err(BadChunk::Framing),
            (State::Trailer, b'\r') => State::TrailerLf,
            (State::TrailerStart | State::Trailer, _) => State::Trailer,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::EndLf, b'\n') => State::Done,
            _ => return Err(BadChunk::Framing),
        })
    }
}

/// Appends one chunk. Nothing for no data: that would be the end.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_head(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the size line of a chunk.
pub fn write_chunk_head(out: &mut Vec<u8>, len: usize) {
    let mut digits = [0u8; 16];
    let (mut n, mut at) = (len, 16);
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[n & 15];
        n >>= 4;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

/// Appends the end of a chunked body, with header lines behind it.
pub fn write_last_chunk(out: &mut Vec<u8>, trailers: &[(Vec<u8>, Vec<u8>)]) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        super::write::line(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(input: &[u8]) -> Result<(Vec<u8>, usize, bool), BadChunk> {
        let mut d = Decoder::chunked();
        let mut out = Vec::new();
        let n = d.decode(input, &mut out)?;
        Ok((out, n, d.is_done()))
    }

    #[test]
    fn chunks_are_decoded_whole_and_byte_by_byte() {
        let input = b"5\r\nhello\r\n6;x=\"y\"\r\n world\r\n0\r\nT: v\r\n\r\nNEXT";
        assert_eq!(decode(input), Ok((b"hello world".to_vec(), input.len() - 4, true)));
        let mut d = Decoder::chunked();
        let mut out = Vec::new();
        for b in &input[..input.len() - 4] {
            assert_eq!(d.decode(&[*b], &mut out), Ok(1));
        }
        assert!(d.is_done() && out == b"hello world");
    }

    #[test]
    fn smuggling_shaped_framing_is_refused() {
        for s in [
            &b"\r\n"[..],
            b"+5\r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5\r\nhello\n",
            b"5\r\nhelloX",
            b"0x5\r\n",
            b"fffffffffffffffff\r\n",
            b"8000000000000000\r\n",
            b"5;a\nb\r\n",
            b"0\r\n\n",
            b"0\r\nT: v\n\r\n",
        ] {
            assert_eq!(decode(s), Err(BadChunk::Framing), "{:?}", String::from_utf8_lossy(s));
        }
        assert_eq!(decode(&[b"1;".as_slice(), &[b'a'; 20_000]].concat()), Err(BadChunk::Framing));
        let mut limited = Decoder::chunked();
        limited.limit(5);
        let too_large = BadChunk::TooLarge { received: 3, size: 3 };
        assert_eq!(limited.decode(b"3\r\nabc\r\n3\r\n", &mut Vec::new()), Err(too_large));
    }

    #[test]
    fn length_stops_at_the_body() {
        let mut d = Decoder::Length(3);
        let mut out = Vec::new();
        assert_eq!(d.decode(b"abcdef", &mut out), Ok(3));
        assert!(d.is_done() && out == b"abc");
    }

    #[test]
    fn written_chunks_decode_to_themselves() {
        let mut wire = Vec::new();
        write_chunk(&mut wire, b"");
        write_chunk(&mut wire, &[b'x'; 300]);
        write_last_chunk(&mut wire, &[]);
        assert!(wire.starts_with(b"12c\r\nxxx"));
        assert_eq!(decode(&wire), Ok((vec![b'x'; 300], wire.len(), true)));
    }
}
