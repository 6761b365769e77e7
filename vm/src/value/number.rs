//! Conversions between doubles, integers and text. Knows no heap.

pub use super::text::write_int;

/// The integer with the same value, if there is one in 32 bits. `-0.0` gives 0.
#[inline(always)]
pub fn to_i32_exact(n: f64) -> Option<i32> {
    let i = n as i32;
    if i as f64 == n { Some(i) } else { None }
}

/// LuaJIT's conversion for bit operations: the low 32 bits of the number rounded to nearest even.
/// Defined for magnitudes below 2^51; larger ones give unspecified bits, as there.
#[inline(always)]
pub fn to_bit(n: f64) -> i32 {
    (n + 6755399441055744.0).to_bits() as i32
}

/// The text Lua gives a number: `%.14g` rounded as C does, `inf`, `-inf`, `nan`.
pub fn write_number(n: f64, out: &mut Vec<u8>) {
    if let Some(i) = to_i32_exact(n)
        && (i != 0 || n.is_sign_positive())
    {
        write_int(i as i64, out);
        return;
    }
    if n.abs() < 1e14 && n == n.trunc() && n != 0.0 {
        write_int(n as i64, out);
        return;
    }
    write_float(n, FloatStyle::General, FloatSpec { precision: Some(14), ..FloatSpec::default() }, out);
}

/// [`write_number`] into a fresh vector.
pub fn to_text(n: f64) -> Vec<u8> {
    let mut out = Vec::with_capacity(20);
    write_number(n, &mut out);
    out
}

/// How a float is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FloatStyle {
    /// `%f`.
    Fixed,
    /// `%e`.
    Exponent,
    /// `%g`.
    General,
    /// `%a`.
    Hex,
}

/// What of a format specification concerns the digits (not width and sign).
#[derive(Clone, Copy, Default, Debug)]
pub struct FloatSpec {
    /// Digits after the point; significant digits for `%g`. `None` is 6, or as many as needed for `%a`.
    pub precision: Option<usize>,
    /// Flag `#`: keep the point and the trailing zeros.
    pub alternate: bool,
    /// Upper-case letters.
    pub upper: bool,
}

/// Writes `n` with a leading `-` if it is negative; rounds ties to even as C does.
pub fn write_float(n: f64, style: FloatStyle, spec: FloatSpec, out: &mut Vec<u8>) {
    if n.is_sign_negative() && !n.is_nan() {
        out.push(b'-');
    }
    let start = out.len();
    if !n.is_finite() {
        out.extend_from_slice(if n.is_nan() { b"nan" } else { b"inf" });
    } else {
        let x = n.abs();
        match style {
            FloatStyle::Fixed => write_fixed(x, spec.precision.unwrap_or(6), spec.alternate, out),
            FloatStyle::Exponent => {
                let d = Digits::of(x, spec.precision.unwrap_or(6) + 1);
                write_exponent(&d, spec.precision.unwrap_or(6) + 1, spec.alternate, out);
            }
            FloatStyle::General => write_general(x, spec.precision.unwrap_or(6), spec.alternate, out),
            FloatStyle::Hex => write_hex(x, spec.precision, spec.alternate, out),
        }
    }
    if spec.upper {
        out[start..].make_ascii_uppercase();
    }
}

/// Powers of ten that fit.
const POW10: [u64; 20] = {
    let mut p = [1; 20];
    let mut i = 1;
    while i < 20 {
        p[i] = p[i - 1] * 10;
        i += 1;
    }
    p
};

/// `x * 10^k` rounded to the nearest integer, ties to even; exact. `None` if it has more than 18 digits or the
/// arithmetic would not fit.
fn scaled(x: f64, k: i32) -> Option<u64> {
    if !(0..=22).contains(&k) {
        return None;
    }
    let bits = x.to_bits();
    let biased = (bits >> 52) as i32;
    if biased == 0 {
        return None;
    }
    let mantissa = bits & ((1 << 52) - 1) | 1 << 52;
    let power = POW10[(k as usize).min(19)] as u128 * POW10[(k as usize).saturating_sub(19)] as u128;
    // Below 2^53 * 10^22 < 2^127.
    let product = mantissa as u128 * power;
    let exp = biased - 1075;
    let n = if exp >= 0 {
        if product.leading_zeros() <= exp as u32 {
            return None;
        }
        product << exp
    } else if exp > -127 {
        let cut = (-exp) as u32;
        let (n, rest, half) = (product >> cut, product & ((1 << cut) - 1), 1 << (cut - 1));
        n + (rest > half || rest == half && n & 1 == 1) as u128
    } else {
        return None;
    };
    if n < POW10[18] as u128 { Some(n as u64) } else { None }
}

/// Decimal digits `d[0].d[1]d[2]...` times ten to `exp`.
struct Digits {
    digits: Vec<u8>,
    exp: i32,
}

impl Digits {
    /// The digits by integer arithmetic, for up to 17 of them and numbers of ordinary size.
    fn quick(x: f64, count: usize) -> Option<Digits> {
        if count > 17 {
            return None;
        }
        let exp2 = (x.to_bits() >> 52) as i32 - 1023;
        // The power of two below `x` tells its power of ten, or the one below that.
        let mut exp = (exp2 as f64 * std::f64::consts::LOG10_2).floor() as i32;
        let mut n = scaled(x, count as i32 - 1 - exp)?;
        if n >= POW10[count] {
            exp += 1;
            n = scaled(x, count as i32 - 1 - exp)?;
        }
        if n < POW10[count - 1] || n >= POW10[count] {
            return None;
        }
        let mut digits = vec![b'0'; count];
        for d in digits.iter_mut().rev() {
            *d += (n % 10) as u8;
            n /= 10;
        }
        Some(Digits { digits, exp })
    }

    /// The first `count` (at least one) significant digits of `x >= 0`, correctly rounded, ties to even.
    fn of(x: f64, count: usize) -> Digits {
        if x == 0.0 {
            return Digits { digits: vec![b'0'; count], exp: 0 };
        }
        Digits::quick(x, count).unwrap_or_else(|| Digits::exact_even(x, count))
    }

    fn exact_even(x: f64, count: usize) -> Digits {
        let text = format!("{:.*e}", count - 1, x);
        let (mantissa, exp) = text.split_once('e').expect("an exponent was asked for");
        Digits {
            digits: mantissa.bytes().filter(|&c| c != b'.').collect(),
            exp: exp.parse().expect("an exponent is an integer"),
        }
    }
}

fn write_fixed(x: f64, precision: usize, alternate: bool, out: &mut Vec<u8>) {
    if precision <= 18
        && let Some(n) = scaled(x, precision as i32)
    {
        let unit = POW10[precision];
        write_int((n / unit) as i64, out);
        if precision > 0 || alternate {
            out.push(b'.');
        }
        let at = out.len();
        out.resize(at + precision, b'0');
        let mut rest = n % unit;
        for d in out[at..].iter_mut().rev() {
            *d += (rest % 10) as u8;
            rest /= 10;
        }
        return;
    }
    // The library rounds ties to even.
    out.extend_from_slice(format!("{x:.precision$}").as_bytes());
    if alternate && precision == 0 {
        out.push(b'.');
    }
}

fn write_exponent(d: &Digits, count: usize, alternate: bool, out: &mut Vec<u8>) {
    out.push(d.digits[0]);
    if count > 1 || alternate {
        out.push(b'.');
    }
    out.extend_from_slice(&d.digits[1..count]);
    out.push(b'e');
    out.push(if d.exp < 0 { b'-' } else { b'+' });
    let e = d.exp.unsigned_abs();
    if e < 10 {
        out.push(b'0');
    }
    write_int(e as i64, out);
}

fn write_general(x: f64, precision: usize, alternate: bool, out: &mut Vec<u8>) {
    let p = precision.max(1);
    let d = Digits::of(x, p);
    let kept = if alternate { p } else { d.digits.iter().rposition(|&c| c != b'0').map_or(1, |i| i + 1) };
    if d.exp < -4 || d.exp >= p as i32 {
        write_exponent(&d, kept, alternate, out);
        return;
    }
    if d.exp < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + (-d.exp - 1) as usize, b'0');
        out.extend_from_slice(&d.digits[..kept]);
    } else {
        let whole = d.exp as usize + 1;
        out.extend_from_slice(&d.digits[..whole]);
        if kept > whole || alternate {
            out.push(b'.');
            out.extend_from_slice(&d.digits[whole..kept.max(whole)]);
        }
    }
}

fn write_hex(x: f64, precision: Option<usize>, alternate: bool, out: &mut Vec<u8>) {
    let bits = x.to_bits();
    let mut exp = (bits >> 52) as i32 - 1023;
    let mut mantissa = bits & ((1 << 52) - 1);
    if x == 0.0 {
        exp = 0;
    } else if exp == -1023 {
        let up = mantissa.leading_zeros() - 11;
        mantissa <<= up;
        exp = -1022 - up as i32;
    } else {
        mantissa |= 1 << 52;
    }
    // `mantissa` has its leading bit at 52 now: one digit, then 13.
    let mut digits = 13;
    match precision {
        Some(p) if p < 13 => {
            let drop = 52 - 4 * p as u32;
            mantissa += 1 << (drop - 1);
            mantissa = mantissa >> drop << drop;
            digits = p;
        }
        Some(_) => {}
        None => {
            while digits > 0 && mantissa >> (52 - 4 * digits) & 15 == 0 {
                digits -= 1;
            }
        }
    }
    out.extend_from_slice(b"0x");
    out.push(b'0' + (mantissa >> 52) as u8);
    if digits > 0 || alternate || precision.is_some_and(|p| p > 0) {
        out.push(b'.');
    }
    for i in 1..=digits {
        out.push(b"0123456789abcdef"[(mantissa >> (52 - 4 * i) & 15) as usize]);
    }
    if let Some(p) = precision {
        out.resize(out.len() + p.saturating_sub(13), b'0');
    }
    out.push(b'p');
    out.push(if exp < 0 { b'-' } else { b'+' });
    write_int(exp.unsigned_abs() as i64, out);
}

/// Is this a space for the number scanner (and for `%s` patterns)?
pub fn is_space(c: u8) -> bool {
    matches!(c, b' ' | b'\t'..=b'\r')
}

/// The number a string stands for, by the rules of `tonumber(s)` and of arithmetic on strings: surrounding
/// spaces, sign, decimal, `0x` (with point and binary exponent), `0b`, `inf`, `infinity` and `nan` in any case.
pub fn parse(text: &[u8]) -> Option<f64> {
    let mut s = text;
    while let [c, rest @ ..] = s
        && is_space(*c)
    {
        s = rest;
    }
    while let [rest @ .., c] = s
        && is_space(*c)
    {
        s = rest;
    }
    let mut negative = false;
    if let [sign @ (b'+' | b'-'), rest @ ..] = s {
        negative = *sign == b'-';
        s = rest;
    }
    let n = parse_unsigned(s)?;
    Some(if negative { -n } else { n })
}

fn parse_unsigned(s: &[u8]) -> Option<f64> {
    // Short runs of digits are most of what programs convert.
    if s.len() <= 15 && !s.is_empty() && s.iter().all(u8::is_ascii_digit) {
        return Some(s.iter().fold(0u64, |n, &c| n * 10 + (c - b'0') as u64) as f64);
    }
    match s {
        [b'0', b'x' | b'X', rest @ ..] => parse_hex(rest),
        [b'0', b'b' | b'B', rest @ ..] => parse_binary(rest),
        [c, ..] if c.is_ascii_digit() || *c == b'.' => parse_decimal(s),
        _ if s.eq_ignore_ascii_case(b"inf") || s.eq_ignore_ascii_case(b"infinity") => Some(f64::INFINITY),
        _ if s.eq_ignore_ascii_case(b"nan") => Some(f64::NAN),
        _ => None,
    }
}

/// Splits `digits[.digits]` off; answers both runs and the rest, or `None` without any digit.
fn mantissa_of(s: &[u8], is_digit: impl Fn(&u8) -> bool) -> Option<(&[u8], &[u8], &[u8])> {
    let whole = s.iter().position(|c| !is_digit(c)).unwrap_or(s.len());
    let (int, rest) = s.split_at(whole);
    let (frac, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(rest.iter().position(|c| !is_digit(c)).unwrap_or(rest.len())),
        _ => (&rest[..0], rest),
    };
    if int.is_empty() && frac.is_empty() { None } else { Some((int, frac, rest)) }
}

/// No exponent reaches this.
const EXPONENT_MAX: i32 = 1 << 20;

/// Value of an exponent's digits with optional sign; `None` if malformed or too large.
fn exponent_of(s: &[u8]) -> Option<i32> {
    let (negative, digits) = match s {
        [b'-', d @ ..] => (true, d),
        [b'+', d @ ..] => (false, d),
        d => (false, d),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let e = digits.iter().fold(0i32, |e, &c| (e * 10 + (c - b'0') as i32).min(EXPONENT_MAX));
    if e == EXPONENT_MAX {
        return None;
    }
    Some(if negative { -e } else { e })
}

/// Value of a whole decimal number without a sign: digits, a point among them, an exponent.
pub fn parse_decimal(s: &[u8]) -> Option<f64> {
    let (int, frac, rest) = mantissa_of(s, u8::is_ascii_digit)?;
    let exp = match rest {
        [] => 0,
        [b'e' | b'E', e @ ..] => exponent_of(e)?,
        _ => return None,
    };
    if s.len() < 1000 && exp.abs() < 5000 {
        // This is in the grammar of the standard library's parser, which rounds correctly.
        return std::str::from_utf8(s).ok()?.parse().ok();
    }
    // A long one: its first digits count, and whether anything follows them.
    const DIGITS: usize = 800;
    let zeros = int.iter().chain(frac).take_while(|&&c| c == b'0').count();
    let mut digits = int.iter().chain(frac).skip(zeros);
    let mut text: Vec<u8> = b"0.".iter().chain(digits.by_ref().take(DIGITS)).copied().collect();
    if digits.any(|&c| c != b'0') {
        text.push(b'1');
    }
    let exp = exp as i64 + int.len() as i64 - zeros as i64;
    if text.len() == 2 || exp < -400 {
        return Some(0.0);
    }
    if exp > 400 {
        return Some(f64::INFINITY);
    }
    text.extend_from_slice(format!("e{exp}").as_bytes());
    std::str::from_utf8(&text).ok()?.parse().ok()
}

fn parse_hex(s: &[u8]) -> Option<f64> {
    let (int, frac, rest) = mantissa_of(s, u8::is_ascii_hexdigit)?;
    let mut exp = match rest {
        [] => 0,
        [b'p' | b'P', e @ ..] => exponent_of(e)?,
        _ => return None,
    };
    let mut mantissa = 0u64;
    let mut sticky = false;
    for &c in int.iter().chain(frac) {
        let d = (c as char).to_digit(16).expect("a hex digit") as u64;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | d;
        } else {
            sticky |= d != 0;
            exp = exp.saturating_add(4);
        }
    }
    exp = exp.saturating_sub(4 * frac.len().min(1 << 28) as i32);
    Some(scale(mantissa | sticky as u64, exp))
}

fn parse_binary(s: &[u8]) -> Option<f64> {
    if s.is_empty() || !s.iter().all(|c| matches!(c, b'0' | b'1')) {
        return None;
    }
    let digits = &s[s.iter().position(|&c| c == b'1').unwrap_or(s.len())..];
    if digits.len() > 64 {
        return None;
    }
    Some(digits.iter().fold(0u64, |n, &c| n << 1 | (c - b'0') as u64) as f64)
}

/// `m * 2^exp`, rounded once.
fn scale(m: u64, exp: i32) -> f64 {
    if m == 0 {
        return 0.0;
    }
    let top = 63 - m.leading_zeros() as i32 + exp;
    if top > 1023 {
        return f64::INFINITY;
    }
    if top >= -1022 {
        // The conversion rounds; the product is exact.
        let half = exp / 2;
        return m as f64 * pow2(half) * pow2(exp - half);
    }
    // Subnormal: cut to the bits that remain, rounding to nearest even.
    let drop = -1074 - exp;
    if drop <= 0 {
        return f64::from_bits(m << -drop);
    }
    if drop > 64 {
        return 0.0;
    }
    let wide = m as u128;
    let kept = (wide >> drop) as u64;
    let rest = wide & ((1 << drop) - 1);
    let half = 1u128 << (drop - 1);
    let up = rest > half || rest == half && kept & 1 == 1;
    f64::from_bits(kept + up as u64)
}

fn pow2(e: i32) -> f64 {
    f64::from_bits(((e.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// `ldexp`: `x * 2^exp` without intermediate overflow.
pub fn ldexp(x: f64, exp: i32) -> f64 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    let mut x = x;
    let mut e = exp;
    while e > 1000 && x.is_finite() && x != 0.0 {
        x *= pow2(1000);
        e -= 1000;
    }
    if e < -900 && x != 0.0 {
        if e < -2200 {
            return x * 0.0;
        }
        // Keep the last step the only one that can round.
        let (m, k) = frexp(x);
        if k + e < -1080 {
            return m * 0.0;
        }
        return if k + e > -1000 { m * pow2(k + e) } else { m * pow2(-1000) * pow2(k + e + 1000) };
    }
    x * pow2(e.clamp(-1022, 1023))
}

/// `frexp`: mantissa in `[0.5, 1)` and exponent.
pub fn frexp(x: f64) -> (f64, i32) {
    if x == 0.0 || !x.is_finite() {
        return (x, 0);
    }
    let (x, bias) = if x.abs() < f64::MIN_POSITIVE { (x * pow2(54), -54) } else { (x, 0) };
    let bits = x.to_bits();
    let e = (bits >> 52 & 0x7ff) as i32 - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), e + bias)
}

/// `tonumber(text, base)`: spaces, sign, digits of the base (2 to 36), spaces.
pub fn parse_radix(text: &[u8], base: u32) -> Option<f64> {
    let mut s = text;
    while let [c, rest @ ..] = s
        && is_space(*c)
    {
        s = rest;
    }
    let mut negative = false;
    if let [sign @ (b'+' | b'-'), rest @ ..] = s {
        negative = *sign == b'-';
        s = rest;
    }
    if base == 16
        && let [b'0', b'x' | b'X', rest @ ..] = s
    {
        s = rest;
    }
    let len = s.iter().position(|c| !(*c as char).is_digit(base)).unwrap_or(s.len());
    // A zero byte ends the text, as it ends a C string.
    let rest = s[len..].split(|&c| c == 0).next().unwrap_or_default();
    if len == 0 || !rest.iter().all(|&c| is_space(c)) {
        return None;
    }
    let n = s[..len].iter().fold(Some(0u64), |n, &c| {
        n?.checked_mul(base as u64)?.checked_add((c as char).to_digit(base)? as u64)
    });
    let n = n.unwrap_or(u64::MAX) as f64;
    Some(if negative { -n } else { n })
}

/// Conversion of a number for `%x`, `%o`, `%u` and 64-bit cdata: values from 2^63 up wrap as unsigned.
pub fn to_u64(n: f64) -> u64 {
    if n >= 9223372036854775808.0 { to_i64(n - 18446744073709551616.0) as u64 } else { to_i64(n) as u64 }
}

/// The processor's truncating conversion: what is out of range gives the lowest integer.
pub fn to_i64(n: f64) -> i64 {
    if (-9223372036854775808.0..9223372036854775808.0).contains(&n) { n as i64 } else { i64::MIN }
}

/// The processor's truncating 32-bit conversion.
pub fn to_i32_trunc(n: f64) -> i32 {
    if n > -2147483649.0 && n < 2147483648.0 { n as i32 } else { i32::MIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(n: f64) -> String {
        String::from_utf8(to_text(n)).unwrap()
    }

    fn float(n: f64, style: FloatStyle, precision: Option<usize>) -> String {
        let mut out = Vec::new();
        write_float(n, style, FloatSpec { precision, ..FloatSpec::default() }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_with_fourteen_digits() {
        for (n, want) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1e14, "1e+14"),
            (1e15, "1e+15"),
            (99999999999999.0, "99999999999999"),
            (9007199254740992.0, "9.007199254741e+15"),
            (123456789012345.0, "1.2345678901234e+14"),
            (0.1, "0.1"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (5e-324, "4.9406564584125e-324"),
            (f64::MAX, "1.7976931348623e+308"),
            (f64::INFINITY, "inf"),
            (-f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
            (-123.456, "-123.456"),
            (3.0, "3"),
            (-2147483648.0, "-2147483648"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(text(n), want);
        }
    }

    #[test]
    fn ties_round_to_even() {
        use FloatStyle::*;
        assert_eq!(float(0.5, Fixed, Some(0)), "0");
        assert_eq!(float(-0.5, Fixed, Some(0)), "-0");
        assert_eq!(float(2.5, Fixed, Some(0)), "2");
        assert_eq!(float(9.5, Fixed, Some(0)), "10");
        assert_eq!(float(0.25, Fixed, Some(1)), "0.2");
        assert_eq!(float(0.75, Fixed, Some(1)), "0.8");
        assert_eq!(float(0.35, Fixed, Some(1)), "0.3");
        assert_eq!(float(0.125, Fixed, Some(2)), "0.12");
        assert_eq!(float(2.125, General, Some(3)), "2.12");
        assert_eq!(float(2.5, Exponent, Some(0)), "2e+00");
        assert_eq!(float(9.5, Exponent, Some(0)), "1e+01");
        assert_eq!(float(25.0, General, Some(1)), "2e+01");
        assert_eq!(float(1.5, Hex, Some(0)), "0x2p+0");
        assert_eq!(float(f64::MAX, Hex, Some(3)), "0x2.000p+1023");
        assert_eq!(float(6.98566436767578125e-05, General, Some(17)), "6.9856643676757812e-05");
    }

    #[test]
    fn quick_digits_agree_with_exact_ones() {
        let mut seed = 12345u64;
        for _ in 0..20000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let x = f64::from_bits(seed >> 12 | (1023 - 30 + (seed >> 3) % 80) << 52);
            for count in [1, 6, 14, 17] {
                let Some(d) = Digits::quick(x, count) else { continue };
                let exact = Digits::exact_even(x, count);
                assert_eq!((d.digits, d.exp), (exact.digits, exact.exp), "{x:e} {count}");
            }
        }
    }

    #[test]
    fn hex_floats_are_normalised() {
        assert_eq!(float(5e-324, FloatStyle::Hex, None), "0x1p-1074");
        assert_eq!(float(0.0, FloatStyle::Hex, Some(3)), "0x0.000p+0");
        assert_eq!(float(0.1, FloatStyle::Hex, None), "0x1.999999999999ap-4");
    }

    #[test]
    fn strings_are_numbers_by_the_scanner_rules() {
        for (s, want) in [
            ("  12  ", Some(12.0)),
            ("0x10", Some(16.0)),
            ("0x.8", Some(0.5)),
            ("0x1p4", Some(16.0)),
            ("0x1p-1074", Some(5e-324)),
            ("0b101", Some(5.0)),
            ("0b1.1", None),
            ("0b2", None),
            ("0x", None),
            ("", None),
            (" ", None),
            (".", None),
            ("5.", Some(5.0)),
            (".5", Some(0.5)),
            ("1e", None),
            ("1e+5", Some(1e5)),
            ("1e400", Some(f64::INFINITY)),
            ("1 2", None),
            ("1LL", None),
            ("inf", Some(f64::INFINITY)),
            ("-INFINITY", Some(f64::NEG_INFINITY)),
            ("0xffffffffffffffff", Some(1.8446744073709552e19)),
            ("- 1", None),
            ("1_000", None),
        ] {
            assert_eq!(parse(s.as_bytes()), want, "{s}");
        }
        assert!(parse(b"nan").unwrap().is_nan());
        assert_eq!(parse(b"1\0"), None);
    }

    #[test]
    fn radix_digits_follow_the_base() {
        assert_eq!(parse_radix(b"zz", 36), Some(1295.0));
        assert_eq!(parse_radix(b"8", 8), None);
        assert_eq!(parse_radix(b"0xff", 16), Some(255.0));
        assert_eq!(parse_radix(b"-ff ", 16), Some(-255.0));
        assert_eq!(parse_radix(b"10 \0x", 16), Some(16.0));
        assert_eq!(parse_radix(b"\x0010", 16), None);
        assert_eq!(parse_radix(b"ffffffffffffffffff", 16), Some(u64::MAX as f64));
    }

    #[test]
    fn frexp_and_ldexp_are_inverse() {
        for x in [1.0, -3.75, 5e-324, 1e300, 0.1, f64::MIN_POSITIVE / 8.0] {
            let (m, e) = frexp(x);
            assert!((0.5..1.0).contains(&m.abs()));
            assert_eq!(ldexp(m, e), x);
        }
        assert_eq!(ldexp(1.0, 2000), f64::INFINITY);
        assert_eq!(ldexp(1.0, -1074), 5e-324);
        assert_eq!(ldexp(1.0, -5000), 0.0);
    }

    #[test]
    fn out_of_range_conversions_are_the_processors() {
        assert_eq!(to_i64(9.3e18), i64::MIN);
        assert_eq!(to_u64(18446744073709549568.0), 18446744073709549568);
        assert_eq!(to_u64(-1.0), u64::MAX);
        assert_eq!(to_i32_trunc(f64::NAN), i32::MIN);
    }
}
