//! Files as content: `index`, `try_files`, static files with their validators.
//!
//! Files are opened and read in place: for what a page cache holds, a thread
//! hand-over costs more than the reading. `large` sends what does not fit in one piece.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use super::file_cache::{self, Opened};
use super::filters::submit;
use super::special::send_response;
use super::{Run, Verdict, Worker};
use crate::conf::filter_settings::GzipStatic;
use crate::conf::model::{Level, TryLast};
use crate::request::escape::{Place, escape};
use crate::request::response::Chunk;
use crate::request::{Request, Stat, vars};

mod large;

/// Bytes read and sent at a time.
const PIECE_BYTES: usize = 128 * 1024;

/// Extensions up to this length are looked up without memory of their own.
const EXTENSION_BYTES: usize = 32;

/// Serves the file that the URI names.
pub fn serve(w: &Rc<Worker>, req: &Rc<Request>) -> Run {
    let (path, file, len) = match begin(w, req) {
        Ok(begun) => begun,
        Err(verdict) => return Run::Ready(verdict),
    };
    if len > PIECE_BYTES as u64 {
        let (w, req) = (w.clone(), req.clone());
        return Run::Wait(Box::pin(async move { large::send(&w, &req, &path, &file, len).await }));
    }
    let Some(data) = read(&file, 0, len as usize) else { return Run::Ready(cut_short(req)) };
    submit(w, req, Chunk { data, last: true, ..Chunk::default() });
    Run::Ready(Verdict::Done)
}

/// Finds the file and fills in what the response says of it: its path, the file, its length. The error is what
/// happens instead.
fn begin(w: &Rc<Worker>, req: &Rc<Request>) -> Result<(Vec<u8>, Rc<File>, u64), Verdict> {
    let post = *req.method.borrow() == b"POST";
    if !matches!(&req.method.borrow()[..], b"GET" | b"HEAD") {
        let directory = req.uri.borrow().ends_with(b"/");
        if directory == post {
            return Err(Verdict::Status(405));
        }
    }
    if req.uri.borrow().ends_with(b"/") {
        match index(req) {
            Verdict::Next => {}
            other => return Err(other),
        }
        match super::autoindex::serve(w, req) {
            Verdict::Next => return Err(forbidden(req)),
            other => return Err(other),
        }
    }
    let path = vars::filename(req);
    let compressed = open_compressed(req, &path);
    let zipped = compressed.is_some();
    let Opened { file, facts } = match compressed.map_or_else(|| file_cache::open(req, &path), Ok) {
        Ok(f) => f,
        Err(e) => return Err(failed(req, &path, &e)),
    };
    if facts.is_dir {
        let mut to = Vec::new();
        escape(&req.uri.borrow(), Place::Uri, &mut to);
        to.push(b'/');
        let args = req.args.borrow();
        if !args.is_empty() {
            to.push(b'?');
            to.extend_from_slice(&args);
        }
        req.response.borrow_mut().set_own_location(&to);
        return Err(Verdict::Status(301));
    }
    if !facts.is_file {
        return Err(Verdict::Status(404));
    }
    if post {
        return Err(Verdict::Status(405));
    }
    {
        let loc = req.level.borrow().clone();
        let mut res = req.response.borrow_mut();
        res.status = 200;
        res.content_length = Some(facts.len);
        res.last_modified = Some(facts.modified_s);
        res.content_type = Some(content_type(&loc, &req.uri.borrow()));
        if loc.etag {
            let mut tag = [0; 2 * 16 + 3];
            let tag = entity_tag(facts.modified_s as u64, facts.len, &mut tag);
            res.headers.push(b"ETag", tag);
        }
        res.allow_ranges = true;
        if zipped {
            res.headers.push(b"Content-Encoding", b"gzip");
        }
    }
    Ok((path, file, facts.len))
}

/// So many bytes of a file; `None` when it has less.
fn read(file: &File, at: u64, len: usize) -> Option<Vec<u8>> {
    let mut data = vec![0; len];
    file.read_exact_at(&mut data, at).ok()?;
    Some(data)
}

/// The file became shorter while it was sent: the length already promised cannot be kept.
fn cut_short(req: &Rc<Request>) -> Verdict {
    req.log(Level::Alert, b"file was truncated while it was read");
    req.keepalive.set(false);
    if req.is_main() {
        req.conn.break_off();
    }
    Verdict::Done
}

/// The compressed form of a file, where `gzip_static` sends it and it is there.
fn open_compressed(req: &Rc<Request>, path: &[u8]) -> Option<Opened> {
    let rule = req.location().filters.gzip_static;
    if rule == GzipStatic::Off {
        return None;
    }
    let accepted = super::compress::accepts_gzip(req);
    let found = file_cache::open(req, &[path, b".gz"].concat()).ok().filter(|found| found.facts.is_file)?;
    if rule == GzipStatic::On {
        req.response.borrow_mut().vary_gzip = true;
        if !accepted {
            return None;
        }
    }
    Some(found)
}

/// `"modified-length"` in hexadecimal, written from behind; returns where it stands.
fn entity_tag(modified: u64, len: u64, out: &mut [u8; 35]) -> &[u8] {
    let mut at = out.len();
    let mut put = |b: u8| {
        at -= 1;
        out[at] = b;
    };
    put(b'"');
    for (mut n, mark) in [(len, b'-'), (modified, b'"')] {
        loop {
            put(b"0123456789abcdef"[(n & 15) as usize]);
            n >>= 4;
            if n == 0 {
                break;
            }
        }
        put(mark);
    }
    &out[at..]
}

fn failed(req: &Rc<Request>, path: &[u8], e: &std::io::Error) -> Verdict {
    let (status, level) = match e.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::InvalidFilename => (404, Level::Error),
        ErrorKind::PermissionDenied => (403, Level::Error),
        _ => (500, Level::Crit),
    };
    if status != 404 || req.location().log_not_found {
        let mut text = b"open() \"".to_vec();
        text.extend_from_slice(path);
        text.extend_from_slice(format!("\" failed {}", crate::conf::error::os_text(e)).as_bytes());
        req.log(level, &text);
    }
    Verdict::Status(status)
}

/// The MIME type for a path by its extension.
pub fn content_type(loc: &crate::conf::model::Location, uri: &[u8]) -> Vec<u8> {
    let last = uri.iter().enumerate().rev().find(|(_, b)| matches!(b, b'.' | b'/'));
    if let Some((dot, b'.')) = last {
        let ext = &uri[dot + 1..];
        let mut lower = [0; EXTENSION_BYTES];
        let found = match lower.get_mut(..ext.len()) {
            Some(lower) => {
                lower.copy_from_slice(ext);
                lower.make_ascii_lowercase();
                loc.types.get(&*lower)
            }
            None => loc.types.get(ext.to_ascii_lowercase().as_slice()),
        };
        if let Some(t) = found {
            return t.to_vec();
        }
    }
    loc.default_type.to_vec()
}

/// The first index file that is there, by an internal redirect. `Verdict::Next` when there is none.
fn index(req: &Rc<Request>) -> Verdict {
    let level = req.level.borrow().clone();
    let root = vars::filename(req);
    let mut first_missing = None;
    for name in level.index.iter() {
        let name = req.eval(name);
        if name.starts_with(b"/") {
            return Verdict::Internal { uri: name, args: Some(req.args.borrow().clone()) };
        }
        let mut path = root.clone();
        path.extend_from_slice(&name);
        match file_cache::look(req, &path) {
            Ok(facts) if facts.is_file => {
                let mut uri = req.uri.borrow().clone();
                uri.extend_from_slice(&name);
                return Verdict::Internal { uri, args: Some(req.args.borrow().clone()) };
            }
            Ok(_) => {}
            Err(e) => {
                first_missing.get_or_insert((path, e));
            }
        }
    }
    if !file_cache::look(req, &root).is_ok_and(|facts| facts.is_dir) {
        if req.location().log_not_found {
            let (path, why) = match &first_missing {
                Some((path, e)) => (path, crate::conf::error::os_text(e)),
                None => (&root, "(2: No such file or directory)".to_owned()),
            };
            let mut text = b"\"".to_vec();
            text.extend_from_slice(path);
            text.extend_from_slice(format!("\" is not found {why}").as_bytes());
            req.log(Level::Error, &text);
        }
        return Verdict::Status(404);
    }
    Verdict::Next
}

/// There is a directory, and nothing that may be shown of it.
fn forbidden(req: &Rc<Request>) -> Verdict {
    let root = vars::filename(req);
    let mut text = b"directory index of \"".to_vec();
    text.extend_from_slice(&root);
    text.extend_from_slice(b"\" is forbidden");
    req.log(Level::Error, &text);
    Verdict::Status(403)
}

/// `try_files`: the path that is there becomes the URI, else the last argument decides.
pub fn try_files(req: &Rc<Request>) -> Verdict {
    let level = req.level.borrow().clone();
    let Some(rule) = &level.try_files else { return Verdict::Next };
    let root = req.eval(&level.root.path);
    for f in &rule.files {
        let name = req.eval(&f.name);
        let mut path = root.clone();
        let cut = if level.root.alias && name.starts_with(&level.name) { level.name.len() } else { 0 };
        path.extend_from_slice(&name[cut..]);
        let facts = file_cache::look(req, &path);
        if facts.is_ok_and(|facts| if f.directory { facts.is_dir } else { facts.is_file }) {
            // With `alias` the URI keeps the location in front of what was found.
            let prefix: &[u8] = if level.root.alias && cut == 0 { &level.name } else { b"" };
            *req.uri.borrow_mut() = [prefix, &name].concat();
            return Verdict::Next;
        }
    }
    match &rule.last {
        TryLast::Code(status) => Verdict::Status(*status),
        TryLast::Named(name) => Verdict::Named(name.to_vec()),
        TryLast::Uri(script) => {
            let target = req.eval(script);
            let cut = memchr::memchr(b'?', &target);
            let args = cut.map_or_else(|| req.args.borrow().clone(), |n| target[n + 1..].to_vec());
            Verdict::Internal { uri: target[..cut.unwrap_or(target.len())].to_vec(), args: Some(args) }
        }
    }
}

/// `empty_gif`: one transparent pixel.
pub fn empty_gif(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    const GIF: &[u8] =
        b"GIF89a\x01\x00\x01\x00\x80\x01\x00\x00\x00\x00\xff\xff\xff\x21\xf9\x04\x01\x00\x00\x01\x00\x2c\
                         \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x4c\x01\x00\x3b";
    if !matches!(&req.method.borrow()[..], b"GET" | b"HEAD") {
        return Verdict::Status(405);
    }
    // The moment that all servers give for it.
    req.response.borrow_mut().last_modified = Some(23_349_600);
    send_response(w, req, 200, Some(b"image/gif"), GIF.to_vec());
    Verdict::Done
}

/// `stub_status`.
pub fn stub_status(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    if !matches!(&req.method.borrow()[..], b"GET" | b"HEAD") {
        return Verdict::Status(405);
    }
    let s = &req.env.stats;
    let (active, reading, writing) = (s.get(Stat::Active), s.get(Stat::Reading), s.get(Stat::Writing));
    let text = format!(
        "Active connections: {active} \nserver accepts handled requests\n {0} {0} {1} \nReading: {reading} Writing: {writing} Waiting: {2} \n",
        s.get(Stat::Accepted),
        s.get(Stat::Requests),
        active.saturating_sub(reading + writing),
    );
    send_response(w, req, 200, Some(b"text/plain"), text.into_bytes());
    Verdict::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_hexadecimal() {
        for (modified, len) in [(0, 0), (0x4ce5_7d67, 1024), (u64::MAX, u64::MAX)] {
            let mut space = [0; 35];
            let want = format!("\"{modified:x}-{len:x}\"");
            assert_eq!(entity_tag(modified, len, &mut space), want.as_bytes());
        }
    }
}
