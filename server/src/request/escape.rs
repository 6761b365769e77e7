//! Percent-encoding as nginx does it: what is kept and what is escaped in which place.

/// The places that escape differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path: blanks, controls, `#`, `%`, `?` and everything above ASCII.
    Uri,
    /// A query: the same, and `&` and `+`.
    Args,
    /// One component: everything but letters, digits and `-._~!'()*`.
    Component,
    /// A query as scripts ask for it: as a path, and `+`.
    ScriptArgs,
    /// HTML: blanks, controls, quotes, `#`, `%` and everything above ASCII.
    Html,
    /// A `Refresh` header: the same without `#`.
    Refresh,
    /// A memcached key: blanks, controls, `%`.
    Memcached,
    /// The name of a header: everything that is no token character.
    HeaderName,
    /// The value of a header: controls but the tabulator.
    HeaderValue,
    /// The target of a redirect: only blanks, controls, quotes and what is above ASCII.
    Redirect,
}

impl Place {
    const ALL: [Place; 10] = [
        Place::Uri,
        Place::Args,
        Place::Component,
        Place::ScriptArgs,
        Place::Html,
        Place::Refresh,
        Place::Memcached,
        Place::HeaderName,
        Place::HeaderValue,
        Place::Redirect,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }

    const fn keeps(self, b: u8) -> bool {
        let plain = 0x21 <= b && b < 0x7f;
        match self {
            Place::Uri => plain && !matches!(b, b'#' | b'%' | b'?'),
            Place::Args => plain && !matches!(b, b'#' | b'%' | b'&' | b'+' | b'?'),
            Place::Component => {
                b.is_ascii_alphanumeric()
                    || matches!(b, b'-' | b'.' | b'_' | b'~' | b'!' | b'\'' | b'(' | b')' | b'*')
            }
            Place::ScriptArgs => plain && !matches!(b, b'#' | b'%' | b'+' | b'?'),
            Place::Html => plain && !matches!(b, b'#' | b'%' | b'"' | b'\''),
            Place::Refresh => plain && !matches!(b, b'%' | b'"' | b'\''),
            Place::Memcached => b > 0x20 && b != b'%',
            Place::HeaderName => {
                plain
                    && !matches!(b, b'"' | b'(' | b')' | b',' | b'/' | b':'..=b'@' | b'['..=b']' | b'{' | b'}')
            }
            Place::HeaderValue => b >= 0x20 && b != 0x7f || b == b'\t',
            Place::Redirect => plain && b != b'"',
        }
    }
}

/// The places that keep a byte, a bit each.
const KEPT: [u16; 256] = {
    let mut kept = [0; 256];
    let mut b = 0;
    while b < 256 {
        let mut place = 0;
        while place < Place::ALL.len() {
            if Place::ALL[place].keeps(b as u8) {
                kept[b] |= Place::ALL[place].bit();
            }
            place += 1;
        }
        b += 1;
    }
    kept
};

/// Whether `text` stays as it is in its place.
pub fn is_plain(text: &[u8], place: Place) -> bool {
    text.iter().all(|b| KEPT[usize::from(*b)] & place.bit() != 0)
}

/// Appends `text`, escaped for its place.
pub fn escape(text: &[u8], place: Place, out: &mut Vec<u8>) {
    out.reserve(text.len());
    for &b in text {
        if KEPT[usize::from(b)] & place.bit() != 0 {
            out.push(b);
        } else {
            out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
        }
    }
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Appends `text` with `%XX` decoded; a `%` without two digits stays. `plus` turns `+` into a blank.
pub fn unescape(text: &[u8], plus: bool, out: &mut Vec<u8>) {
    out.reserve(text.len());
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'%' => match hex_pair(text, at + 1) {
                Some(b) => {
                    out.push(b);
                    at += 2;
                }
                None => out.push(b'%'),
            },
            b'+' if plus => out.push(b' '),
            b => out.push(b),
        }
        at += 1;
    }
}

/// The byte that two hexadecimal digits at `at` stand for.
pub fn hex_pair(text: &[u8], at: usize) -> Option<u8> {
    let digit = |n: usize| (*text.get(n)? as char).to_digit(16);
    Some((digit(at)? * 16 + digit(at + 1)?) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_keeps_its_own_bytes() {
        let esc = |t: &[u8], p| {
            let mut o = Vec::new();
            escape(t, p, &mut o);
            String::from_utf8(o).unwrap()
        };
        assert_eq!(esc(b"a b&c/d?e\xff'", Place::Component), "a%20b%26c%2Fd%3Fe%FF'");
        assert_eq!(esc(b"a b&c/d?e#+", Place::Uri), "a%20b&c/d%3Fe%23+");
        assert_eq!(esc(b"&+=", Place::Args), "%26%2B=");
        assert!(is_plain(b"a b", Place::HeaderValue) && !is_plain(b"a b", Place::HeaderName));
        assert_eq!(
            esc(b"X-Lua_1!#$%&'*+^`|~ (:@[]{}\x7f", Place::HeaderName),
            "X-Lua_1!#$%&'*+^`|~%20%28%3A%40%5B%5D%7B%7D%7F"
        );
        assert_eq!(esc(b"a\tb\r\n\x7f%", Place::HeaderValue), "a\tb%0D%0A%7F%");
        let mut o = Vec::new();
        unescape(b"a%20b+c%zz%4", true, &mut o);
        assert_eq!(o, b"a b c%zz%4");
    }
}
