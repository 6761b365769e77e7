//! Integers as decimal text.

/// Ten to the eighth: what fits into a word of digits is less.
const WORD: u64 = 100_000_000;

/// The eight decimal digits of a number below [`WORD`], one a byte, the first one lowest. All at once: the halves are
/// split into pairs and the pairs into digits, in the lanes of one word.
#[inline(always)]
fn digits(m: u32) -> u64 {
    let x = (m / 10_000) as u64 | ((m % 10_000) as u64) << 32;
    let hundreds = ((x * 10_486) >> 20) & 0x7f_0000_007f;
    let x = hundreds | (x - hundreds * 100) << 16;
    let tens = ((x * 103) >> 10) & 0x000f_000f_000f_000f;
    tens | (x - tens * 10) << 8
}

/// What makes eight digits eight characters.
const ZEROS: u64 = u64::from_le_bytes(*b"00000000");

/// Appends a number below [`WORD`] without zeros in front.
#[inline(always)]
fn write_first(m: u32, out: &mut Vec<u8>) {
    let d = digits(m);
    let zeros = (d.trailing_zeros() as usize / 8).min(7);
    out.extend_from_slice(&((d | ZEROS) >> (8 * zeros)).to_le_bytes());
    out.truncate(out.len() - zeros);
}

/// Appends eight digits.
fn write_next(m: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(digits((m % WORD) as u32) | ZEROS).to_le_bytes());
}

/// Decimal text of an integer.
#[inline]
pub fn write_int(n: i64, out: &mut Vec<u8>) {
    if n < 0 {
        out.push(b'-');
    }
    let m = n.unsigned_abs();
    if m < WORD {
        write_first(m as u32, out);
    } else {
        write_long(m, out);
    }
}

#[inline(never)]
fn write_long(m: u64, out: &mut Vec<u8>) {
    let high = m / WORD;
    if high < WORD {
        write_first(high as u32, out);
    } else {
        write_first((high / WORD) as u32, out);
        write_next(high, out);
    }
    write_next(m, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_their_digits() {
        let mut numbers = vec![0, i64::MIN, i64::MAX, i64::MIN + 1];
        let mut p = 1i64;
        while p < i64::MAX / 10 {
            numbers.extend([p - 1, p, p + 1, p * 7, p * 9 + 9, -p, 1 - p]);
            p *= 10;
        }
        numbers.extend((0..100_000).step_by(7));
        numbers.extend((0..2000).map(|i| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i) as i64 >> (i % 64)));
        for n in numbers {
            let mut out = b"x".to_vec();
            write_int(n, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), format!("x{n}"));
        }
    }
}
