//! Variables that guard content: `$invalid_referer`, `$secure_link`, `$secure_link_expires`.

use md5::Digest;

use super::{Request, with_match};
use crate::http1::clock;

/// Whether the page that the request comes from is not among the valid ones.
pub fn invalid_referer(req: &Request) -> bool {
    let level = req.level.borrow().clone();
    let Some(valid) = &level.parts.referers else { return false };
    let headers = req.headers.borrow();
    let Some(referer) = headers.get(b"referer") else { return !valid.none };
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|s| referer.len() >= 11 && referer[..s.len()].eq_ignore_ascii_case(s));
    let Some(scheme) = scheme else { return !valid.blocked };
    let rest = &referer[scheme.len()..];
    let end = rest.iter().position(|b| matches!(b, b'/' | b':')).unwrap_or(rest.len());
    let host = rest[..end].to_ascii_lowercase();
    let path = &rest[memchr::memchr(b'/', rest).unwrap_or(rest.len())..];
    with_match(|data| {
        if valid.server_names {
            let http = req.env.http();
            let mine = http.listens.iter().any(|listen| {
                let found = listen.names.find(&host, data);
                found.is_some_and(|n| std::sync::Arc::ptr_eq(&http.servers[n], &req.server.borrow()))
            });
            if mine {
                return false;
            }
        }
        !valid.has(&host, path, rest, data)
    })
}

/// What `secure_link` says of the request: the value of `$secure_link` and the time it is good for.
pub fn secure_link(req: &Request) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let level = req.level.borrow().clone();
    if let Some(secret) = &level.filters.secure_link_secret {
        return (by_secret(req, &level.name, secret), None);
    }
    let (Some(link), Some(text)) = (&level.filters.secure_link, &level.filters.secure_link_md5) else {
        return (None, None);
    };
    let given = req.eval(link);
    let cut = memchr::memchr(b',', &given);
    let expires = cut.map(|n| given[n + 1..].to_vec());
    let encoded = &given[..cut.unwrap_or(given.len())];
    let mut late = false;
    if let Some(time) = &expires {
        match crate::conf::value::number(time) {
            Some(time) if time > 0 => late = time < clock::now_ms() / 1000,
            _ => return (None, None),
        }
    }
    let trimmed = encoded.strip_suffix(b"==").unwrap_or(encoded);
    let Ok(hash) = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(trimmed) else { return (None, None) };
    if hash[..] != md5::Md5::digest(req.eval(text))[..] {
        return (None, None);
    }
    (Some(if late { b"0".to_vec() } else { b"1".to_vec() }), expires)
}

/// `/PREFIX/HASH/LINK`: LINK where HASH is the digest of it with the secret behind.
fn by_secret(req: &Request, prefix: &[u8], secret: &[u8]) -> Option<Vec<u8>> {
    let uri = req.uri.borrow();
    let rest = uri.strip_prefix(prefix)?;
    let rest = rest.strip_prefix(b"/").unwrap_or(rest);
    let (hash, link) = rest.split_at_checked(32)?;
    let link = link.strip_prefix(b"/").filter(|l| !l.is_empty())?;
    let digest = md5::Md5::digest([link, secret].concat());
    let right: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    right.as_bytes().eq_ignore_ascii_case(hash).then(|| link.to_vec())
}
