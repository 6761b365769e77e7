//! Passwords against the hashes of an `htpasswd` file.
//!
//! Known: `{PLAIN}`, `{SHA}`, `{SSHA}`, `$apr1$` and `$1$` (MD5), `$5$` and `$6$` (SHA-2).

use md5::Digest;
use sha2::{Sha256, Sha512};

/// The hash is of a kind that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownHash;

/// Whether the password is the one that was hashed.
pub fn verify(password: &[u8], hash: &[u8]) -> Result<bool, UnknownHash> {
    if let Some(plain) = hash.strip_prefix(b"{PLAIN}") {
        return Ok(equal(plain, password));
    }
    if let Some(encoded) = hash.strip_prefix(b"{SHA}") {
        let made = base64_simd::STANDARD.encode_to_string(&sha1::Sha1::digest(password)[..]);
        return Ok(equal(made.as_bytes(), encoded));
    }
    if let Some(encoded) = hash.strip_prefix(b"{SSHA}") {
        let Ok(bytes) = base64_simd::STANDARD.decode_to_vec(encoded) else { return Ok(false) };
        let Some((digest, salt)) = bytes.split_at_checked(20) else { return Ok(false) };
        let made = sha1::Sha1::new().chain_update(password).chain_update(salt).finalize();
        return Ok(equal(&made, digest));
    }
    for magic in [&b"$apr1$"[..], b"$1$"] {
        if let Some(rest) = hash.strip_prefix(magic) {
            let salt = rest.split(|b| *b == b'$').next().unwrap_or_default();
            return Ok(equal(&md5_crypt(password, &salt[..salt.len().min(8)], magic), hash));
        }
    }
    if hash.starts_with(b"$5$") {
        return Ok(
            sha_crypt::<Sha256>(password, hash, b"$5$", &SHA256_ORDER).is_some_and(|m| equal(&m, hash))
        );
    }
    if hash.starts_with(b"$6$") {
        return Ok(
            sha_crypt::<Sha512>(password, hash, b"$6$", &SHA512_ORDER).is_some_and(|m| equal(&m, hash))
        );
    }
    Err(UnknownHash)
}

/// Compares without telling by its time where the texts differ.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Three bytes (the first is the highest) as `n` letters, lowest bits first.
fn letters(out: &mut Vec<u8>, high: u8, middle: u8, low: u8, n: usize) {
    let mut bits = u32::from(high) << 16 | u32::from(middle) << 8 | u32::from(low);
    for _ in 0..n {
        out.push(ALPHABET[(bits & 63) as usize]);
        bits >>= 6;
    }
}

fn md5_crypt(password: &[u8], salt: &[u8], magic: &[u8]) -> Vec<u8> {
    let alternate =
        md5::Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut h = md5::Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let n = left.min(16);
        h.update(&alternate[..n]);
        left -= n;
    }
    let mut n = password.len();
    while n > 0 {
        if n & 1 == 1 {
            h.update([0u8]);
        } else {
            h.update(&password[..1]);
        }
        n >>= 1;
    }
    let mut d = h.finalize();
    for round in 0..1000 {
        let mut h = md5::Md5::new();
        if round & 1 == 1 {
            h.update(password)
        } else {
            h.update(d)
        }
        if round % 3 != 0 {
            h.update(salt);
        }
        if round % 7 != 0 {
            h.update(password);
        }
        if round & 1 == 1 {
            h.update(d)
        } else {
            h.update(password)
        }
        d = h.finalize();
    }
    let mut out = [magic, salt, b"$"].concat();
    for (a, b, c) in [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)] {
        letters(&mut out, d[a], d[b], d[c], 4);
    }
    letters(&mut out, 0, 0, d[11], 2);
    out
}

/// In which order the bytes of the digest are written; 255 stands for a zero that is not there.
const SHA256_ORDER: [(u8, u8, u8, usize); 11] = [
    (0, 10, 20, 4),
    (21, 1, 11, 4),
    (12, 22, 2, 4),
    (3, 13, 23, 4),
    (24, 4, 14, 4),
    (15, 25, 5, 4),
    (6, 16, 26, 4),
    (27, 7, 17, 4),
    (18, 28, 8, 4),
    (9, 19, 29, 4),
    (255, 31, 30, 3),
];
const SHA512_ORDER: [(u8, u8, u8, usize); 22] = [
    (0, 21, 42, 4),
    (22, 43, 1, 4),
    (44, 2, 23, 4),
    (3, 24, 45, 4),
    (25, 46, 4, 4),
    (47, 5, 26, 4),
    (6, 27, 48, 4),
    (28, 49, 7, 4),
    (50, 8, 29, 4),
    (9, 30, 51, 4),
    (31, 52, 10, 4),
    (53, 11, 32, 4),
    (12, 33, 54, 4),
    (34, 55, 13, 4),
    (56, 14, 35, 4),
    (15, 36, 57, 4),
    (37, 58, 16, 4),
    (59, 17, 38, 4),
    (18, 39, 60, 4),
    (40, 61, 19, 4),
    (62, 20, 41, 4),
    (255, 255, 63, 2),
];

/// Most rounds that a hash may ask for: more would hold up everybody else.
const ROUNDS_MAX: u32 = 1_000_000;

fn sha_crypt<D: Digest>(
    password: &[u8],
    setting: &[u8],
    magic: &[u8],
    order: &[(u8, u8, u8, usize)],
) -> Option<Vec<u8>> {
    let mut rest = setting.strip_prefix(magic)?;
    let mut rounds = 5000;
    let mut shown = Vec::new();
    if let Some(text) = rest.strip_prefix(b"rounds=") {
        let end = memchr::memchr(b'$', text)?;
        let asked: u32 = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
        rounds = asked.clamp(1000, ROUNDS_MAX);
        shown = format!("rounds={rounds}$").into_bytes();
        rest = &text[end + 1..];
    }
    let salt = rest.split(|b| *b == b'$').next().unwrap_or_default();
    let salt = &salt[..salt.len().min(16)];
    // A digest repeated over so many bytes.
    let fill = |digest: &[u8], len: usize| digest.iter().copied().cycle().take(len).collect::<Vec<u8>>();
    let b = D::new().chain_update(password).chain_update(salt).chain_update(password).finalize();
    let mut a = D::new().chain_update(password).chain_update(salt);
    a.update(fill(&b, password.len()));
    let mut n = password.len();
    while n > 0 {
        if n & 1 == 1 {
            a.update(&b)
        } else {
            a.update(password)
        }
        n >>= 1;
    }
    let mut digest = a.finalize();
    let mut h = D::new();
    for _ in 0..password.len() {
        h.update(password);
    }
    let p = fill(&h.finalize(), password.len());
    let mut h = D::new();
    for _ in 0..16 + usize::from(digest[0]) {
        h.update(salt);
    }
    let s = fill(&h.finalize(), salt.len());
    for round in 0..rounds {
        let mut h = D::new();
        if round & 1 == 1 {
            h.update(&p)
        } else {
            h.update(&digest)
        }
        if round % 3 != 0 {
            h.update(&s);
        }
        if round % 7 != 0 {
            h.update(&p);
        }
        if round & 1 == 1 {
            h.update(&digest)
        } else {
            h.update(&p)
        }
        digest = h.finalize();
    }
    let mut out = [magic, &shown, salt, b"$"].concat();
    let byte = |n: u8| if n == 255 { 0 } else { digest[usize::from(n)] };
    for (x, y, z, n) in order {
        letters(&mut out, byte(*x), byte(*y), byte(*z), *n);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes_verify() {
        for (password, hash) in [
            ("secret", "{PLAIN}secret"),
            ("password", "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g="),
            ("Hello world!", "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"),
            (
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
        ] {
            assert_eq!(verify(password.as_bytes(), hash.as_bytes()), Ok(true), "{hash}");
            assert_eq!(verify(b"other", hash.as_bytes()), Ok(false), "{hash}");
        }
        for hash in [
            "$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/",
            "$1$abcdefgh$cHJi5PXp/ki/ktXzqlk6I1",
            "$5$abcdefgh$gruCpC7VkOTspMQTTSAR8mtlO9Upms.fwqE5y16JVM.",
            "$6$abcdefgh$ltjgWl6579NluT/Vi1nwEvcil.G5Nbc4NiXZaNGStk8PSwGfQv72N2CKPPrVACtLtip/cZ/1GM/O6IND4WQhG.",
        ] {
            assert_eq!(verify(b"secret", hash.as_bytes()), Ok(true), "{hash}");
            assert_eq!(verify(b"secreT", hash.as_bytes()), Ok(false), "{hash}");
        }
        assert_eq!(verify(b"x", b"$2y$05$abc"), Err(UnknownHash));
        assert_eq!(verify(b"x", b"{SSHA}!!"), Ok(false));
    }
}
