//! Compressed responses: `gzip`, `gunzip`, and whether a client takes them at all.

use std::io::Write;
use std::rc::Rc;

use flate2::Compression;
use flate2::write::{GzEncoder, MultiGzDecoder};

use super::more_headers::media_type;
use crate::http1::clock;
use crate::request::Request;
use crate::request::response::{BodyFilter, Chunk, Response};

/// Most bytes that one chunk of compressed input may become.
const INFLATED_BYTES_MAX: usize = 256 << 20;

/// Whether the client takes gzip and the configuration sends it to such clients.
pub fn accepts_gzip(req: &Request) -> bool {
    if !req.is_main() {
        return false;
    }
    let level = req.level.borrow().clone();
    let headers = req.headers.borrow();
    let accepted = headers.get(b"accept-encoding").is_some_and(names_gzip);
    if !accepted || req.version < level.filters.gzip_http_version {
        return false;
    }
    if let (Some(list), Some(agent)) = (&level.parts.gzip_disable, headers.get(b"user-agent")) {
        let hit =
            crate::request::with_match(|data| list.iter().any(|r| r.find_at(agent, 0, data) == Ok(true)));
        if hit {
            return false;
        }
    }
    headers.get(b"via").is_none() || for_proxies(req, &req.response.borrow())
}

/// Whether `gzip` stands in the list with a weight above zero.
fn names_gzip(list: &[u8]) -> bool {
    list.split(|b| *b == b',').any(|item| {
        let mut parts = item.split(|b| *b == b';');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let weight = parts.next().map(<[u8]>::trim_ascii);
        name.eq_ignore_ascii_case(b"gzip")
            && weight.is_none_or(|w| match w {
                [b'q' | b'Q', b'=', number @ ..] => number.iter().any(|b| (b'1'..=b'9').contains(b)),
                _ => false,
            })
    })
}

/// `gzip_proxied`: which responses a proxy gets compressed.
fn for_proxies(req: &Request, res: &Response) -> bool {
    let level = req.level.borrow().clone();
    let rule = level.parts.gzip_proxied.unwrap_or_default();
    if rule.0 == 0 {
        return false;
    }
    if rule.has("any") || (rule.has("auth") && req.headers.borrow().get(b"authorization").is_some()) {
        return true;
    }
    if let Some(expires) = res.headers.get(b"expires") {
        let date = res.headers.get(b"date").and_then(clock::parse_http_time);
        let date = date.unwrap_or((clock::now_ms() / 1000) as i64);
        return rule.has("expired") && clock::parse_http_time(expires).is_some_and(|e| e < date);
    }
    let says = |word: &str| {
        res.headers
            .all(b"cache-control")
            .any(|v| v.split(|b| *b == b',').any(|w| w.trim_ascii().eq_ignore_ascii_case(word.as_bytes())))
    };
    if res.headers.get(b"cache-control").is_some() {
        return ["no-cache", "no-store", "private"].iter().any(|w| rule.has(w) && says(w));
    }
    !(rule.has("no_last_modified") && res.last_modified.is_some())
        && !(rule.has("no_etag") && res.headers.get(b"etag").is_some())
}

/// An `ETag` says no more than that the content means the same.
pub fn weaken_etag(res: &mut Response) {
    let Some(tag) = res.headers.get(b"etag").map(<[u8]>::to_vec) else { return };
    if tag.starts_with(b"W/") {
        return;
    }
    if tag.starts_with(b"\"") {
        res.headers.set(b"ETag", &[&b"W/"[..], &tag].concat());
    } else {
        res.headers.remove(b"etag");
    }
}

/// The header filter of `gunzip`.
pub fn gunzip_header_filter(req: &Request) {
    let level = req.level.borrow().clone();
    if !level.filters.gunzip {
        return;
    }
    let zipped = req
        .response
        .borrow()
        .headers
        .get(b"content-encoding")
        .is_some_and(|e| e.eq_ignore_ascii_case(b"gzip"));
    if !zipped {
        return;
    }
    req.response.borrow_mut().vary_gzip = true;
    if accepts_gzip(req) {
        return;
    }
    let mut res = req.response.borrow_mut();
    res.headers.remove(b"content-encoding");
    res.clear_length();
    res.clear_ranges();
    weaken_etag(&mut res);
    res.filters.push(Box::new(Gunzip { decoder: Some(MultiGzDecoder::new(Vec::new())) }));
}

struct Gunzip {
    decoder: Option<MultiGzDecoder<Vec<u8>>>,
}

impl BodyFilter for Gunzip {
    fn run(&mut self, _: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str> {
        let Some(decoder) = &mut self.decoder else { return Ok(()) };
        let failed = "inflate() failed";
        // Small pieces, so that what comes out can be counted while it grows.
        for piece in chunk.data.chunks(4096) {
            decoder.write_all(piece).map_err(|_| failed)?;
            if decoder.get_ref().len() > INFLATED_BYTES_MAX {
                return Err("too much data came out of inflate()");
            }
        }
        if chunk.last {
            decoder.try_finish().map_err(|_| failed)?;
        } else if chunk.flush {
            decoder.flush().map_err(|_| failed)?;
        }
        chunk.data = std::mem::take(decoder.get_mut());
        if chunk.last {
            self.decoder = None;
        }
        Ok(())
    }
}

/// The header filter of `gzip`.
pub fn gzip_header_filter(req: &Request) {
    let level = req.level.borrow().clone();
    if !level.filters.gzip {
        return;
    }
    {
        let res = req.response.borrow();
        let long = res.content_length.is_none_or(|n| n >= level.filters.gzip_min_length);
        let right_type = match &level.parts.gzip_types {
            Some(types) => types.has(media_type(res.content_type.as_deref().unwrap_or_default())),
            None => media_type(res.content_type.as_deref().unwrap_or_default()) == b"text/html",
        };
        if !matches!(res.status, 200 | 403 | 404)
            || res.headers.get(b"content-encoding").is_some_and(|e| !e.is_empty())
            || !long
            || !right_type
            || res.header_only
            || req.is_head()
            || !req.is_main()
        {
            return;
        }
    }
    req.response.borrow_mut().vary_gzip = true;
    if !accepts_gzip(req) {
        return;
    }
    let mut res = req.response.borrow_mut();
    res.headers.set(b"Content-Encoding", b"gzip");
    res.clear_length();
    res.clear_ranges();
    weaken_etag(&mut res);
    let level = Compression::new(u32::from(level.filters.gzip_comp_level));
    res.outer_filters.push(Box::new(Gzip {
        encoder: Some(GzEncoder::new(Vec::new(), level)),
        taken: 0,
        given: 0,
    }));
}

struct Gzip {
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// Bytes before and after.
    taken: u64,
    given: u64,
}

impl BodyFilter for Gzip {
    fn run(&mut self, req: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str> {
        let failed = "deflate() failed";
        let Some(encoder) = &mut self.encoder else { return Ok(()) };
        encoder.write_all(&chunk.data).map_err(|_| failed)?;
        self.taken += chunk.data.len() as u64;
        if chunk.last {
            let encoder = self.encoder.take().expect("taken only here, at the end");
            chunk.data = encoder.finish().map_err(|_| failed)?;
            self.given += chunk.data.len() as u64;
            req.response.borrow_mut().gzip_ratio = Some(self.taken * 100 / self.given.max(1));
            return Ok(());
        }
        if chunk.flush {
            encoder.flush().map_err(|_| failed)?;
        }
        chunk.data = std::mem::take(encoder.get_mut());
        self.given += chunk.data.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_name_gzip() {
        for (list, want) in [
            ("gzip", true),
            ("deflate, gzip", true),
            ("gzip;q=0", false),
            ("gzip; q=0.5", true),
            ("gzip;q=0.000", false),
            ("gzipped", false),
            ("br", false),
            ("GZIP", true),
        ] {
            assert_eq!(names_gzip(list.as_bytes()), want, "{list}");
        }
    }
}
