//! `expires`, `add_header`, `add_trailer`: what the configuration adds to responses.

use crate::conf::directives::filters::Expiry;
use crate::conf::model::{Level, Location};
use crate::http1::clock;
use crate::request::Request;

/// Whether lines without `always` apply.
fn is_good_status(status: u16) -> bool {
    matches!(status, 0 | 200 | 201 | 204 | 206 | 301 | 302 | 303 | 304 | 307 | 308)
}

/// Whether the header filter has anything to do.
pub fn has_lines(level: &Location) -> bool {
    level.parts.expires.is_some() || !level.add_headers.is_empty() || !level.parts.add_trailers.is_empty()
}

/// The header filter.
pub fn header_filter(req: &Request) {
    if !req.is_main() {
        return;
    }
    let level = req.level.borrow().clone();
    let good = is_good_status(req.response.borrow().status);
    if let (true, Some(rule)) = (good, &level.parts.expires) {
        let text = req.eval(&rule.value);
        match Expiry::of(&text, rule.modified) {
            Some(expiry) => set_expires(req, expiry, rule.modified),
            None => {
                let shown = String::from_utf8_lossy(&text);
                req.log(Level::Error, format!("invalid \"expires\" value \"{shown}\"").as_bytes());
            }
        }
    }
    for add in level.add_headers.iter().filter(|add| good || add.always) {
        let value = req.eval(&add.value);
        let mut res = req.response.borrow_mut();
        let is = |name: &[u8]| add.name.eq_ignore_ascii_case(name);
        if is(b"last-modified") {
            res.headers.remove(b"last-modified");
            res.last_modified = clock::parse_http_time(&value);
            if !value.is_empty() {
                res.headers.push(&add.name, &value);
            }
        } else if is(b"etag") {
            res.headers.remove(b"etag");
            if !value.is_empty() {
                res.headers.push(&add.name, &value);
            }
        } else if !value.is_empty() {
            res.add_header(&add.name, &value);
        }
    }
    if level.parts.add_trailers.iter().any(|t| good || t.always) && req.version >= 1001 {
        req.response.borrow_mut().expects_trailers = true;
    }
}

/// Trailers in force, as they stand at the end of the body.
pub fn trailers(req: &Request) -> Vec<(Vec<u8>, Vec<u8>)> {
    let level = req.level.borrow().clone();
    let good = is_good_status(req.response.borrow().status);
    let lines = level.parts.add_trailers.iter().filter(|t| good || t.always);
    lines.map(|t| (t.name.to_vec(), req.eval(&t.value))).filter(|(_, v)| !v.is_empty()).collect()
}

fn set_expires(req: &Request, expiry: Expiry, modified: bool) {
    const FAR: &[u8] = b"Thu, 31 Dec 2037 23:55:55 GMT";
    const PAST: &[u8] = b"Thu, 01 Jan 1970 00:00:01 GMT";
    let now = (clock::now_ms() / 1000) as i64;
    let mut res = req.response.borrow_mut();
    let (expires, control) = match expiry {
        Expiry::Off => return,
        Expiry::Max => (FAR.to_vec(), "max-age=315360000".to_owned()),
        Expiry::Epoch => (PAST.to_vec(), "no-cache".to_owned()),
        Expiry::After(0) if !modified => (clock::http_time(now).into_bytes(), "max-age=0".to_owned()),
        Expiry::After(_) | Expiry::Daily(_) => {
            let (at, age) = match expiry {
                Expiry::After(seconds) => match res.last_modified {
                    Some(changed) if modified => (changed + seconds, changed + seconds - now),
                    _ => (now + seconds, seconds),
                },
                Expiry::Daily(second) => {
                    let today = now - (now + i64::from(clock::zone_offset())).rem_euclid(86_400) + second;
                    let at = if today < now { today + 86_400 } else { today };
                    (at, at - now)
                }
                _ => return,
            };
            let control = if age < 0 { "no-cache".to_owned() } else { format!("max-age={age}") };
            (clock::http_time(at).into_bytes(), control)
        }
    };
    res.headers.set(b"Expires", &expires);
    res.headers.set(b"Cache-Control", control.as_bytes());
}
