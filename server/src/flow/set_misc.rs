//! What the `set_*` family makes: escapes, quotes, encodings, digests, random numbers, dates.

use std::sync::atomic::Ordering;

use md5::Digest;

use crate::conf::directives::set_misc::{SetFn, SetStep};
use crate::conf::model::Level;
use crate::http1::clock;
use crate::http1::strftime::formatted;
use crate::request::Request;
use crate::request::escape::{Place, escape, unescape};

/// Longest text of `set_secure_random_*`.
const RANDOM_BYTES_MAX: usize = 64;

/// The value of a step. `Err` ends the request with status 500; the log says why.
pub fn value(req: &Request, step: &SetStep) -> Result<Vec<u8>, ()> {
    let args: Vec<Vec<u8>> = step.args.iter().map(|a| req.eval(a)).collect();
    let first = args.first().map_or(&b""[..], |a| a);
    let mut out = Vec::new();
    match step.function {
        SetFn::IfEmpty => return Ok(if first.is_empty() { args[1].clone() } else { args[0].clone() }),
        SetFn::EscapeUri => escape(first, Place::Component, &mut out),
        SetFn::UnescapeUri => unescape(first, true, &mut out),
        SetFn::QuoteSql => quote_sql(first, &mut out),
        SetFn::QuotePgsql => quote_pgsql(first, &mut out),
        SetFn::QuoteJson => quote_json(first, &mut out),
        SetFn::EncodeBase64 => out = base64_simd::STANDARD.encode_to_string(first).into_bytes(),
        SetFn::DecodeBase64 => out = decode_base64(first, false),
        SetFn::EncodeBase64Url => out = base64_simd::URL_SAFE_NO_PAD.encode_to_string(first).into_bytes(),
        SetFn::DecodeBase64Url => out = decode_base64(first, true),
        SetFn::EncodeBase32 => encode_base32(req, first, &mut out),
        SetFn::DecodeBase32 => out = decode_base32(&req.location().filters.set_base32_alphabet, first),
        SetFn::EncodeHex => out = hex(first),
        SetFn::DecodeHex => out = decode_hex(first).unwrap_or_default(),
        SetFn::Md5 => out = hex(&md5::Md5::digest(first)),
        SetFn::Sha1 => out = hex(&sha1::Sha1::digest(first)),
        SetFn::HmacSha1 => out = hmac::<sha1::Sha1>(first, &args[1]),
        SetFn::HmacSha256 => out = hmac::<sha2::Sha256>(first, &args[1]),
        SetFn::Random => return random(req, first, &args[1]),
        SetFn::RandomAlphanum | SetFn::RandomLcalpha => return random_text(req, step.function, first),
        SetFn::Rotate => return rotate(req, step, &args),
        SetFn::LocalToday => {
            out = clock::plain_time((clock::now_ms() / 1000) as i64, clock::zone_offset()).into_bytes();
            out.truncate(10);
        }
        SetFn::GmtTime => out = formatted((clock::now_ms() / 1000) as i64, 0, first),
        SetFn::LocalTime => {
            out = formatted((clock::now_ms() / 1000) as i64, clock::zone_offset(), first);
        }
    }
    Ok(out)
}

fn quote_sql(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'\'');
    for &b in text {
        let escaped = match b {
            0 => b'0',
            8 => b'b',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            b'\\' | b'\'' | b'"' | b'$' => b,
            26 => b'Z',
            _ => {
                out.push(b);
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', escaped]);
    }
    out.push(b'\'');
}

/// As for SQL with an `E` in front; what is no UTF-8 is written as `\ooo`.
fn quote_pgsql(text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() {
        out.extend_from_slice(b"''");
        return;
    }
    let mut quoted = vec![b'E'];
    quote_sql(text, &mut quoted);
    let legal = std::str::from_utf8(&quoted).is_ok();
    for b in quoted {
        if legal || b.is_ascii() {
            out.push(b);
        } else {
            out.extend_from_slice(format!("\\\\{b:03o}").as_bytes());
        }
    }
}

fn quote_json(text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() {
        out.extend_from_slice(b"null");
        return;
    }
    out.push(b'"');
    for &b in text {
        match b {
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            12 => out.extend_from_slice(b"\\f"),
            8 => out.extend_from_slice(b"\\b"),
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', b]),
            0..=31 => out.extend_from_slice(format!("\\u{b:04x}").as_bytes()),
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

/// The decoded bytes; nothing when the text is malformed.
fn decode_base64(text: &[u8], url: bool) -> Vec<u8> {
    let end = memchr::memchr(b'=', text).unwrap_or(text.len());
    let codec = if url { base64_simd::URL_SAFE_NO_PAD } else { base64_simd::STANDARD_NO_PAD };
    // Letters behind the last whole byte are dropped, whatever bits are left over in them.
    let mut plain = text[..end].to_vec();
    match plain.len() % 4 {
        1 => return Vec::new(),
        2 | 3 => {
            let zero = b'A';
            plain.resize(plain.len().next_multiple_of(4), zero);
        }
        _ => {}
    }
    let missing = plain.len() - end;
    let Ok(mut out) = codec.decode_to_vec(&plain) else { return Vec::new() };
    out.truncate(out.len() - missing);
    out
}

fn encode_base32(req: &Request, text: &[u8], out: &mut Vec<u8>) {
    let location = req.location();
    let alphabet = &location.filters.set_base32_alphabet;
    let (mut bits, mut count) = (0u32, 0);
    for &b in text {
        bits = bits << 8 | u32::from(b);
        count += 8;
        while count >= 5 {
            count -= 5;
            out.push(alphabet[(bits >> count & 31) as usize]);
        }
    }
    if count > 0 {
        out.push(alphabet[(bits << (5 - count) & 31) as usize]);
    }
    if location.filters.set_base32_padding {
        out.resize(out.len().next_multiple_of(8), b'=');
    }
}

fn decode_base32(alphabet: &[u8], text: &[u8]) -> Vec<u8> {
    let text = &text[..memchr::memchr(b'=', text).unwrap_or(text.len())];
    if matches!(text.len() % 8, 1 | 3 | 6) {
        return Vec::new();
    }
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut count) = (0u32, 0);
    for b in text {
        let Some(digit) = alphabet.iter().position(|a| a.eq_ignore_ascii_case(b)) else {
            return Vec::new();
        };
        bits = bits << 5 | digit as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

/// Two lower-case digits per byte.
pub fn hex(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]).collect()
}

fn decode_hex(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2).map(|n| crate::request::escape::hex_pair(text, n * 2)).collect()
}

/// HMAC over a digest with blocks of 64 bytes.
fn hmac<D: Digest>(secret: &[u8], text: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES: usize = 64;
    let mut key = if secret.len() > BLOCK_BYTES { D::digest(secret).to_vec() } else { secret.to_vec() };
    key.resize(BLOCK_BYTES, 0);
    let pad = |x: u8| key.iter().map(|b| b ^ x).collect::<Vec<u8>>();
    let inner = D::new().chain_update(pad(0x36)).chain_update(text).finalize();
    D::new().chain_update(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

fn number(text: &[u8]) -> Option<i64> {
    crate::conf::value::number(text).and_then(|n| i64::try_from(n).ok())
}

fn bad(req: &Request, directive: &str, what: &str, arg: &[u8]) {
    let text = format!("{directive}: bad \"{what}\" argument: {}", String::from_utf8_lossy(arg));
    req.log(Level::Error, text.as_bytes());
}

fn random(req: &Request, from: &[u8], to: &[u8]) -> Result<Vec<u8>, ()> {
    let low = number(from).ok_or_else(|| bad(req, "set_random", "from", from))?;
    let high = number(to).ok_or_else(|| bad(req, "set_random", "to", to))?;
    let (low, high) = (low.min(high), low.max(high));
    let span = (high - low) as u64;
    let draw = random_u64();
    let n = if span == u64::MAX { draw } else { draw % (span + 1) };
    Ok((low + n as i64).to_string().into_bytes())
}

/// A number that nobody can foresee cheaply; not for secrets.
pub fn random_u64() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

fn random_text(req: &Request, function: SetFn, length: &[u8]) -> Result<Vec<u8>, ()> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let wanted = number(length).and_then(|n| usize::try_from(n).ok());
    let Some(n) = wanted.filter(|n| (1..=RANDOM_BYTES_MAX).contains(n)) else {
        bad(req, "set_random", "length", length);
        return Err(());
    };
    let mut entropy = vec![0; n];
    let read =
        std::fs::File::open("/dev/urandom").and_then(|mut f| std::io::Read::read_exact(&mut f, &mut entropy));
    if read.is_err() {
        req.log(Level::Error, b"set_secure_random: could not open /dev/urandom");
        return Err(());
    }
    let alphabet = if function == SetFn::RandomLcalpha { &LETTERS[..26] } else { LETTERS };
    Ok(entropy.iter().map(|b| alphabet[usize::from(*b) % alphabet.len()]).collect())
}

fn rotate(req: &Request, step: &SetStep, args: &[Vec<u8>]) -> Result<Vec<u8>, ()> {
    let bound = |what: &str, arg: &[u8]| {
        number(arg).ok_or_else(|| {
            let shown = String::from_utf8_lossy(arg);
            let text = format!("set_rotate: bad \"{what}\" argument value: \"{shown}\"");
            req.log(Level::Error, text.as_bytes());
        })
    };
    let (from, to) = (bound("from", &args[1])?, bound("to", &args[2])?);
    let (from, to) = (from.min(to), from.max(to));
    let kept = match step.current.load(Ordering::Relaxed) {
        i64::MIN => from - 1,
        n => n,
    };
    let now = if args[0].is_empty() {
        kept
    } else {
        number(&args[0]).unwrap_or_else(|| {
            let shown = String::from_utf8_lossy(&args[0]);
            req.log(Level::Error, format!("set_rotate: bad current value: \"{shown}\"").as_bytes());
            kept
        })
    };
    let next = now.saturating_add(1);
    let next = if (from..=to).contains(&next) { next } else { from };
    step.current.store(next, Ordering::Relaxed);
    Ok(next.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_and_encodings() {
        let run = |f: fn(&[u8], &mut Vec<u8>), t: &[u8]| {
            let mut out = Vec::new();
            f(t, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(run(quote_sql, b"a'b\\\n$"), r"'a\'b\\\n\$'");
        assert_eq!(run(quote_json, b"a\"\x01"), r#""a\"\u0001""#);
        assert_eq!(run(quote_json, b""), "null");
        assert_eq!(run(quote_pgsql, b"x"), "E'x'");
        assert_eq!(decode_base64(b"YWJj", false), b"abc");
        assert_eq!(decode_base64(b"YWI=", false), b"ab");
        assert_eq!(decode_base64(b"YQ", true), b"a");
        assert_eq!(decode_base64(b"Y", false), b"");
        assert_eq!(decode_base64(b"Y*Jj", false), b"");
        assert_eq!(decode_base32(crate::conf::directives::set_misc::BASE32, b"c5h66==="), b"abc");
        assert_eq!(decode_hex(b"616G"), None);
        let want = b"b617318655057264e28bc0b6fb378c8ef146be00".to_vec();
        assert_eq!(hex(&hmac::<sha1::Sha1>(&[0x0b; 20], b"Hi There")), want);
    }
}
