//! `string.format`, the part without arguments: parsing specifications and writing one value by one of them.

use crate::value::number::{FloatSpec, FloatStyle, write_float};

/// One conversion specification.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Flag `-`.
    pub left: bool,
    /// Flag `+`.
    pub plus: bool,
    /// Flag space.
    pub space: bool,
    /// Flag `#`.
    pub alternate: bool,
    /// Flag `0`.
    pub zero: bool,
    /// Minimal width, 0 to 99.
    pub width: usize,
    /// Precision, 0 to 99.
    pub precision: Option<usize>,
    /// Conversion letter.
    pub letter: u8,
}

impl Spec {
    /// Is it nothing but its letter?
    #[inline]
    pub fn is_plain(&self) -> bool {
        *self == Spec { letter: self.letter, ..Spec::default() }
    }
}

/// A piece of a format string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text to copy.
    Literal(&'a [u8]),
    /// A conversion.
    Spec(Spec),
    /// Text of a specification that is none.
    Fault(&'a [u8]),
}

/// Iterator over the pieces of a format string.
pub struct Pieces<'a> {
    format: &'a [u8],
    at: usize,
}

impl<'a> Pieces<'a> {
    /// The pieces of `format`.
    pub fn new(format: &'a [u8]) -> Pieces<'a> {
        Pieces::behind(format, 0)
    }

    /// The pieces of `format` from the one at `at` on.
    pub fn behind(format: &'a [u8], at: usize) -> Pieces<'a> {
        Pieces { format, at }
    }

    /// Where the next piece begins.
    pub fn position(&self) -> usize {
        self.at
    }

    fn digits(&mut self) -> usize {
        let mut n = 0;
        for _ in 0..2 {
            match self.format.get(self.at) {
                Some(c) if c.is_ascii_digit() => n = n * 10 + (c - b'0') as usize,
                _ => break,
            }
            self.at += 1;
        }
        n
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let start = self.at;
        let rest = &self.format[start..];
        let percent = match rest.len() {
            0..=32 => rest.iter().position(|&c| c == b'%'),
            _ => memchr::memchr(b'%', rest),
        };
        match percent {
            _ if rest.is_empty() => return None,
            None => {
                self.at = self.format.len();
                return Some(Piece::Literal(rest));
            }
            Some(0) => {}
            Some(n) => {
                self.at += n;
                return Some(Piece::Literal(&rest[..n]));
            }
        }
        self.at += 1;
        if self.format.get(self.at) == Some(&b'%') {
            self.at += 1;
            return Some(Piece::Literal(b"%"));
        }
        let mut spec = Spec::default();
        while let Some(c) = self.format.get(self.at) {
            match c {
                b'-' => spec.left = true,
                b'+' => spec.plus = true,
                b' ' => spec.space = true,
                b'#' => spec.alternate = true,
                b'0' => spec.zero = true,
                _ => break,
            }
            self.at += 1;
        }
        spec.width = self.digits();
        if self.format.get(self.at) == Some(&b'.') {
            self.at += 1;
            spec.precision = Some(self.digits());
        }
        match self.format.get(self.at) {
            Some(&c) if b"AEFGXacdefgiopqsux".contains(&c) => {
                self.at += 1;
                spec.letter = c;
                Some(Piece::Spec(spec))
            }
            c => {
                let end = self.at + c.is_some_and(|&c| c >= 32) as usize;
                self.at = self.format.len();
                Some(Piece::Fault(&self.format[start..end]))
            }
        }
    }
}

fn pad(out: &mut Vec<u8>, n: usize, c: u8) {
    out.resize(out.len() + n, c);
}

/// Writes sign, prefix and digits into the width; `zeros` may fill between prefix and digits.
fn write_padded(prefix: &[u8], digits: &[u8], zeros: bool, spec: &Spec, out: &mut Vec<u8>) {
    let fill = spec.width.saturating_sub(prefix.len() + digits.len());
    if !spec.left && !zeros {
        pad(out, fill, b' ');
    }
    out.extend_from_slice(prefix);
    if !spec.left && zeros {
        pad(out, fill, b'0');
    }
    out.extend_from_slice(digits);
    if spec.left {
        pad(out, fill, b' ');
    }
}

fn sign_of(negative: bool, spec: &Spec) -> &'static [u8] {
    match negative {
        true => b"-",
        false if spec.plus => b"+",
        false if spec.space => b" ",
        false => b"",
    }
}

/// `%d`, `%i`.
pub fn write_signed(n: i64, spec: &Spec, out: &mut Vec<u8>) {
    write_integer(n.unsigned_abs(), sign_of(n < 0, spec), spec, out);
}

/// `%u`, `%x`, `%X`, `%o`.
pub fn write_unsigned(n: u64, spec: &Spec, out: &mut Vec<u8>) {
    write_integer(n, b"", spec, out);
}

fn write_integer(n: u64, sign: &[u8], spec: &Spec, out: &mut Vec<u8>) {
    let mut buf = [b'0'; 24];
    let mut at = buf.len();
    let (base, letters) = match spec.letter {
        b'x' => (16, b"0123456789abcdef"),
        b'X' => (16, b"0123456789ABCDEF"),
        b'o' => (8, b"0123456789abcdef"),
        _ => (10, b"0123456789abcdef"),
    };
    let mut m = n;
    while m != 0 {
        at -= 1;
        buf[at] = letters[(m % base) as usize];
        m /= base;
    }
    let mut prefix = sign.to_vec();
    if spec.alternate && (n != 0 || spec.letter == b'o' && spec.precision == Some(0)) {
        match spec.letter {
            b'x' => prefix.extend_from_slice(b"0x"),
            b'X' => prefix.extend_from_slice(b"0X"),
            b'o' => {
                at -= 1;
                buf[at] = b'0';
            }
            _ => {}
        }
    }
    let digits = &buf[at..];
    let least = spec.precision.unwrap_or(1);
    if digits.len() < least {
        let mut all = vec![b'0'; least - digits.len()];
        all.extend_from_slice(digits);
        write_padded(&prefix, &all, spec.zero && spec.precision.is_none(), spec, out);
    } else {
        write_padded(&prefix, digits, spec.zero && spec.precision.is_none(), spec, out);
    }
}

/// `%e`, `%f`, `%g`, `%a` and their upper-case forms.
pub fn write_double(n: f64, spec: &Spec, out: &mut Vec<u8>) {
    let style = match spec.letter.to_ascii_lowercase() {
        b'f' => FloatStyle::Fixed,
        b'e' => FloatStyle::Exponent,
        b'a' => FloatStyle::Hex,
        _ => FloatStyle::General,
    };
    let what = FloatSpec {
        precision: spec.precision,
        alternate: spec.alternate,
        upper: spec.letter.is_ascii_uppercase(),
    };
    if spec.width == 0 && !spec.plus && !spec.space {
        write_float(n, style, what, out);
        return;
    }
    let mut digits = Vec::with_capacity(32);
    write_float(n.abs(), style, what, &mut digits);
    let mut prefix = match n.is_nan() {
        // A NaN has no sign, but may ask for its place.
        true if spec.space => b" ".to_vec(),
        true => Vec::new(),
        false => sign_of(n.is_sign_negative(), spec).to_vec(),
    };
    if style == FloatStyle::Hex && n.is_finite() {
        prefix.extend_from_slice(&digits[..2]);
        digits.drain(..2);
    }
    write_padded(&prefix, &digits, spec.zero && n.is_finite(), spec, out);
}

/// `%s`.
pub fn write_str(s: &[u8], spec: &Spec, out: &mut Vec<u8>) {
    let s = match spec.precision {
        Some(p) if p < s.len() => &s[..p],
        _ => s,
    };
    write_padded(b"", s, false, spec, out);
}

/// `%c`.
pub fn write_char(c: u8, spec: &Spec, out: &mut Vec<u8>) {
    write_padded(b"", &[c], false, spec, out);
}

/// `%q`: a literal that reads back as the same string.
pub fn write_quoted(s: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for (i, &c) in s.iter().enumerate() {
        match c {
            b'"' | b'\\' | b'\n' => {
                out.push(b'\\');
                out.push(c);
            }
            _ if c.is_ascii_control() => {
                out.push(b'\\');
                if c >= 100 || s.get(i + 1).is_some_and(u8::is_ascii_digit) {
                    out.push(b'0' + c / 100);
                }
                if c >= 10 || s.get(i + 1).is_some_and(u8::is_ascii_digit) {
                    out.push(b'0' + c / 10 % 10);
                }
                out.push(b'0' + c % 10);
            }
            _ => out.push(c),
        }
    }
    out.push(b'"');
}

/// An address as `tostring` shows it; `NULL` for 0.
pub fn write_address(addr: u64, out: &mut Vec<u8>) {
    if addr == 0 {
        out.extend_from_slice(b"NULL");
        return;
    }
    let bytes = (8 - addr.leading_zeros() as usize / 8).max(4);
    out.extend_from_slice(b"0x");
    for i in (0..bytes * 2).rev() {
        out.push(b"0123456789abcdef"[(addr >> (4 * i) & 15) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(s: &str) -> Spec {
        match Pieces::new(s.as_bytes()).next() {
            Some(Piece::Spec(spec)) => spec,
            other => panic!("{s}: {other:?}"),
        }
    }

    fn text(f: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        f(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_take_flags_width_and_precision() {
        for (f, n, want) in [
            ("%d", 42, "42"),
            ("%05d", 42, "00042"),
            ("%+d", 42, "+42"),
            ("% d", 42, " 42"),
            ("%.3d", 5, "005"),
            ("%10.4d", 7, "      0007"),
            ("%-10d|", 3, "3         "),
            ("%+08d", 5, "+0000005"),
            ("%d", i64::MIN, "-9223372036854775808"),
            ("%08.3d", -5, "    -005"),
        ] {
            assert_eq!(text(|o| write_signed(n, &spec(f), o)), want, "{f}");
        }
        assert_eq!(text(|o| write_unsigned(255, &spec("%#x"), o)), "0xff");
        assert_eq!(text(|o| write_unsigned(8, &spec("%#o"), o)), "010");
        assert_eq!(text(|o| write_unsigned(u64::MAX, &spec("%X"), o)), "FFFFFFFFFFFFFFFF");
    }

    #[test]
    fn floats_take_flags_and_width() {
        for (f, n, want) in [
            ("%08.3f", 2.71851, "0002.719"),
            ("%010g", f64::INFINITY, "       inf"),
            ("%+g", f64::INFINITY, "+inf"),
            ("% g", f64::NAN, " nan"),
            ("%020a", 1.5, "0x0000000000001.8p+0"),
            ("%+.3a", 1.0, "+0x1.000p+0"),
            ("%#.3g", 1.0, "1.00"),
            ("%#.0f", 1.0, "1."),
            ("%5.2f", -1.0, "-1.00"),
            ("%G", 1e-10, "1E-10"),
        ] {
            assert_eq!(text(|o| write_double(n, &spec(f), o)), want, "{f}");
        }
    }

    #[test]
    fn faulty_specifications_name_their_text() {
        for (f, want) in [("%y", "%y"), ("%123d", "%123"), ("%", "%"), ("%5.123d", "%5.123"), ("%ld", "%l")] {
            assert_eq!(Pieces::new(f.as_bytes()).next(), Some(Piece::Fault(want.as_bytes())));
        }
    }

    #[test]
    fn quoted_strings_read_back() {
        assert_eq!(text(|o| write_quoted(b"a\n\0\r\"\\1", o)), "\"a\\\n\\0\\13\\\"\\\\1\"");
        assert_eq!(text(|o| write_quoted(b"\x001\x7f", o)), "\"\\0001\\127\"");
    }

    #[test]
    fn addresses_have_whole_bytes_and_at_least_eight_digits() {
        assert_eq!(text(|o| write_address(0x7fd6425758c8, o)), "0x7fd6425758c8");
        assert_eq!(text(|o| write_address(0x1234, o)), "0x00001234");
        assert_eq!(text(|o| write_address(0, o)), "NULL");
    }
}
