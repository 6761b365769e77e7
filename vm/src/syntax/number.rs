//! Number literals: decimal, hexadecimal with optional binary exponent, binary; suffixes `LL`,
//! `ULL` and `i`. Knows nothing of signs and blanks, which belong to string conversion.

/// The value of a literal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Literal {
    /// A plain number.
    Num(f64),
    /// `LL`
    Int64(i64),
    /// `ULL`
    UInt64(u64),
    /// `i`: imaginary part.
    Imag(f64),
}

#[derive(Clone, Copy, PartialEq)]
enum Suffix {
    None,
    Signed,
    Unsigned,
    Imag,
}

/// Reads a whole literal. `None` if `text` is not one.
pub fn literal(text: &[u8]) -> Option<Literal> {
    let (body, suffix) = split_suffix(text);
    let (base, digits) = match body {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        _ => (10, body),
    };
    if suffix == Suffix::Signed || suffix == Suffix::Unsigned {
        let v = integer(digits, base)?;
        return Some(if suffix == Suffix::Signed { Literal::Int64(v as i64) } else { Literal::UInt64(v) });
    }
    let n = match base {
        16 => hex_float(digits)?,
        2 => {
            let significant = digits.iter().position(|&c| c != b'0').unwrap_or(digits.len());
            if digits.len() - significant > 64 {
                return None;
            }
            integer(digits, 2)? as f64
        }
        _ => crate::value::number::parse_decimal(digits)?,
    };
    Some(if suffix == Suffix::Imag { Literal::Imag(n) } else { Literal::Num(n) })
}

fn split_suffix(text: &[u8]) -> (&[u8], Suffix) {
    let n = text.len();
    let tail = |k: usize| -> Option<[u8; 3]> {
        let mut t = [0; 3];
        for (i, c) in text.get(n.checked_sub(k)?..)?.iter().enumerate() {
            t[i] = c | 0x20;
        }
        Some(t)
    };
    if tail(3) == Some(*b"ull") || tail(3) == Some(*b"llu") {
        (&text[..n - 3], Suffix::Unsigned)
    } else if tail(2) == Some(*b"ll\0") {
        (&text[..n - 2], Suffix::Signed)
    } else if tail(1) == Some(*b"i\0\0") {
        (&text[..n - 1], Suffix::Imag)
    } else {
        (text, Suffix::None)
    }
}

/// Digits only, at least one; `None` past 64 bits.
fn integer(digits: &[u8], base: u32) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |acc, &c| {
        let d = (c as char).to_digit(base)?;
        acc.checked_mul(base as u64)?.checked_add(d as u64)
    })
}

/// A whole exponent part: marker, optional sign, at least one digit; `None` if it is absurdly large, too.
fn exponent(text: &[u8], marker: u8) -> Option<i32> {
    let (&m, mut rest) = text.split_first()?;
    if m | 0x20 != marker {
        return None;
    }
    let negative = rest.first() == Some(&b'-');
    if negative || rest.first() == Some(&b'+') {
        rest = &rest[1..];
    }
    if rest.is_empty() || !rest.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let v = rest.iter().fold(0i32, |acc, c| (acc * 10 + (c - b'0') as i32).min(1 << 20));
    if v == 1 << 20 {
        return None;
    }
    Some(if negative { -v } else { v })
}

fn hex_float(text: &[u8]) -> Option<f64> {
    let mut mantissa = 0u64;
    let mut sticky = false;
    let mut exp = 0i64;
    let mut ndigits = 0;
    let mut dot = false;
    let mut i = 0;
    while let Some(&c) = text.get(i) {
        if c == b'.' && !dot {
            dot = true;
        } else if let Some(d) = (c as char).to_digit(16) {
            ndigits += 1;
            if mantissa >> 60 == 0 {
                mantissa = mantissa << 4 | d as u64;
                exp -= if dot { 4 } else { 0 };
            } else {
                sticky |= d != 0;
                exp += if dot { 0 } else { 4 };
            }
        } else {
            break;
        }
        i += 1;
    }
    if ndigits == 0 {
        return None;
    }
    if i < text.len() {
        exp += exponent(&text[i..], b'p')? as i64;
    }
    Some(scale(mantissa, sticky, exp))
}

/// `mantissa * 2^exp`, rounded once to nearest even; `sticky`: more bits below.
fn scale(mantissa: u64, sticky: bool, exp: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let shift = mantissa.leading_zeros();
    let m = mantissa << shift;
    let exp = exp - shift as i64;
    // The value is 1.xxx * 2^top.
    let top = exp + 63;
    if top > 1023 {
        return f64::INFINITY;
    }
    let drop = if top >= -1022 { 11 } else { 11 + (-1022 - top) };
    if drop > 64 {
        return 0.0;
    }
    let (kept, rest, half) = if drop == 64 {
        (0, m, 1u64 << 63)
    } else {
        (m >> drop, m & ((1u64 << drop) - 1), 1u64 << (drop - 1))
    };
    let up = rest > half || rest == half && (sticky || kept & 1 == 1);
    let kept = kept + up as u64;
    let biased = if top >= -1022 { (top + 1022) as u64 } else { 0 };
    // The implicit bit of `kept` (when there is one) adds one to the exponent field.
    f64::from_bits((biased << 52) + kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn num(s: &str) -> Option<f64> {
        match literal(s.as_bytes()) {
            Some(Literal::Num(n)) => Some(n),
            _ => None,
        }
    }

    #[test]
    fn literals_of_all_bases_read_exactly() {
        assert_eq!(num("0"), Some(0.0));
        assert_eq!(num("5."), Some(5.0));
        assert_eq!(num(".5"), Some(0.5));
        assert_eq!(num("1e2"), Some(100.0));
        assert_eq!(num("1e400"), Some(f64::INFINITY));
        assert_eq!(num("0x10"), Some(16.0));
        assert_eq!(num("0x1.8p3"), Some(12.0));
        assert_eq!(num("0x.8"), Some(0.5));
        assert_eq!(num("0xffffffffffffffff"), Some(18446744073709551615.0));
        assert_eq!(num("0x1p-1074"), Some(f64::from_bits(1)));
        assert_eq!(num("0x1p-1075"), Some(0.0));
        assert_eq!(num("0x1.8p-1075"), Some(f64::from_bits(1)));
        assert_eq!(num("0x1p1024"), Some(f64::INFINITY));
        assert_eq!(num("0x1.fffffffffffffp1023"), Some(f64::MAX));
        assert_eq!(num("0x0.0000000000001p-1022"), Some(f64::from_bits(1)));
        assert_eq!(num("0b101"), Some(5.0));
        for bad in ["", ".", "0x", "0b", "0b2", "1e", "1e+", "1..2", "0x1p", "1x", "0x.p1", "e5", "0b1.1"] {
            assert_eq!(literal(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn suffixes_make_64_bit_and_imaginary_literals() {
        assert_eq!(literal(b"1LL"), Some(Literal::Int64(1)));
        assert_eq!(literal(b"0xffffffffffffffffull"), Some(Literal::UInt64(u64::MAX)));
        assert_eq!(literal(b"12i"), Some(Literal::Imag(12.0)));
        assert_eq!(literal(b"1.5LL"), None);
        assert_eq!(literal(b"LL"), None);
        assert_eq!(literal(b"1L"), None);
        assert_eq!(literal(b"1U"), None);
    }
}
