//! Values of directives: sizes, times, numbers, flags.
//!
//! The first half reads bytes and knows no directive; the second half reads the one
//! argument of a directive with nginx's complaint when it is wrong.

use super::directive::Cx;
use super::error::Fail;
use super::tree::Node;

/// A plain decimal number.
pub fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value: u64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (value <= i64::MAX as u64).then_some(value)
}

/// Bytes, with `k` or `m`.
pub fn size(text: &[u8]) -> Option<u64> {
    scaled(text, &[(b'k', 10), (b'm', 20)])
}

/// Bytes, with `k`, `m` or `g`.
pub fn offset(text: &[u8]) -> Option<u64> {
    scaled(text, &[(b'k', 10), (b'm', 20), (b'g', 30)])
}

fn scaled(text: &[u8], units: &[(u8, u32)]) -> Option<u64> {
    let (last, head) = text.split_last()?;
    for (unit, shift) in units {
        if last.eq_ignore_ascii_case(unit) {
            return number(head)?.checked_mul(1 << shift).filter(|value| *value <= i64::MAX as u64);
        }
    }
    number(text)
}

/// A time in milliseconds; a bare number is seconds. Units go from large to small: `1h30m`, `1s500ms`.
pub fn time_ms(text: &[u8]) -> Option<u64> {
    time(text, true)
}

/// A time in seconds; `ms` is not allowed.
pub fn time_s(text: &[u8]) -> Option<u64> {
    time(text, false)
}

fn time(text: &[u8], in_ms: bool) -> Option<u64> {
    const DAY: u64 = 24 * 60 * 60;
    // Rank, seconds per unit.
    let unit_of = |rest: &[u8]| -> Option<(u8, u64, usize)> {
        Some(match rest.first()? {
            b'y' => (0, 365 * DAY, 1),
            b'M' => (1, 30 * DAY, 1),
            b'w' => (2, 7 * DAY, 1),
            b'd' => (3, DAY, 1),
            b'h' => (4, 3600, 1),
            b'm' if rest.get(1) == Some(&b's') => (7, 0, 2),
            b'm' => (5, 60, 1),
            b's' => (6, 1, 1),
            b' ' => (6, 1, 1),
            _ => return None,
        })
    };
    let scale = if in_ms { 1000 } else { 1 };
    let mut total: u64 = 0;
    let mut at = 0;
    let mut rank_before: Option<u8> = None;
    if text.is_empty() {
        return None;
    }
    while at < text.len() {
        let start = at;
        while text.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        let value = number(&text[start..at])?;
        let (rank, seconds) = if at == text.len() {
            (6, 1)
        } else {
            let (rank, seconds, len) = unit_of(&text[at..])?;
            at += len;
            (rank, seconds)
        };
        if rank_before.is_some_and(|before| before >= rank) || (rank == 7 && !in_ms) {
            return None;
        }
        rank_before = Some(rank);
        let part = if rank == 7 { value } else { value.checked_mul(seconds)?.checked_mul(scale)? };
        total = total.checked_add(part)?;
    }
    (total <= i64::MAX as u64).then_some(total)
}

/// `on` or `off`, in any case.
pub fn on_off(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"on") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"off") {
        Some(false)
    } else {
        None
    }
}

/// Setter of a flag.
pub fn flag_arg(_: &mut Cx<'_>, node: &Node) -> Result<bool, Fail> {
    on_off(node.arg(0)).ok_or_else(|| {
        Fail::Message(format!(
            "invalid value \"{}\" in \"{}\" directive, it must be \"on\" or \"off\"",
            node.text(0),
            node.name()
        ))
    })
}

/// Setter of a number.
pub fn number_arg(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    number(node.arg(0)).ok_or_else(|| Fail::Directive("invalid number".to_owned()))
}

/// Setter of a number, for those directives that show what they got.
pub fn shown_number_arg(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    number(node.arg(0)).ok_or_else(|| Fail::Message(format!("invalid number \"{}\"", node.text(0))))
}

/// Setter of a size.
pub fn size_arg(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    size(node.arg(0)).ok_or_else(Fail::invalid_value)
}

/// Setter of an offset.
pub fn offset_arg(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    offset(node.arg(0)).ok_or_else(Fail::invalid_value)
}

/// Setter of a time kept in milliseconds.
pub fn ms_arg(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    time_ms(node.arg(0)).ok_or_else(Fail::invalid_value)
}

/// Setter of a text.
pub fn text_arg(_: &mut Cx<'_>, node: &Node) -> Result<Box<[u8]>, Fail> {
    Ok(node.arg(0).into())
}

/// Setter of `NUMBER SIZE`.
pub fn buffers_arg(_: &mut Cx<'_>, node: &Node) -> Result<(u64, u64), Fail> {
    let count = number(node.arg(0)).filter(|count| *count > 0).ok_or_else(Fail::invalid_value)?;
    let size = size(node.arg(1)).filter(|size| *size > 0).ok_or_else(Fail::invalid_value)?;
    Ok((count, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases: [(&str, Option<u64>); 8] = [
            ("0", Some(0)),
            ("10k", Some(10240)),
            ("2M", Some(2 << 20)),
            ("1g", None),
            ("", None),
            ("k", None),
            ("-1", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in cases {
            assert_eq!(size(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(offset(b"1g"), Some(1 << 30));
        assert_eq!(offset(b"9999999999999999k"), None);
    }

    #[test]
    fn times() {
        let cases: [(&str, Option<u64>); 12] = [
            ("60", Some(60_000)),
            ("60s", Some(60_000)),
            ("1h30m", Some(5_400_000)),
            ("1s500ms", Some(1500)),
            ("1h 30m", None),
            ("30m1h", None),
            ("1m1m", None),
            ("500ms", Some(500)),
            ("1M", Some(2_592_000_000)),
            ("1y", Some(31_536_000_000)),
            ("", None),
            ("5x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time_ms(text.as_bytes()), expected, "{text}");
        }
        assert_eq!((time_s(b"1d"), time_s(b"5ms"), time_s(b"1m30")), (Some(86_400), None, Some(90)));
    }
}
