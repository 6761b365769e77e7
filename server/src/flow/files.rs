//! Files as content: `index`, `try_files`, static files with their validators.
//!
//! Files are opened and read in place: for what a page cache holds, a thread
//! hand-over costs more than the reading. Large files are read piece by piece
//! as the client takes them.

use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::rc::Rc;
use std::time::UNIX_EPOCH;

use super::filters::{passed, submit};
use super::special::send_response;
use super::{Run, Verdict, Worker};
use crate::conf::filter_settings::GzipStatic;
use crate::conf::model::{Level, TryLast};
use crate::request::body::bytes_to_path;
use crate::request::response::Chunk;
use crate::request::{Request, vars};

/// Bytes read and sent at a time.
const PIECE_BYTES: usize = 128 * 1024;

/// Extensions up to this length are looked up without memory of their own.
const EXTENSION_BYTES: usize = 32;

/// Serves the file that the URI names.
pub fn serve(w: &Rc<Worker>, req: &Rc<Request>) -> Run {
    let (file, len) = match begin(w, req) {
        Ok(begun) => begun,
        Err(verdict) => return Run::Ready(verdict),
    };
    let mut sending = Sending { file, left: len };
    let ticket = match sending.piece(w, req) {
        Ok(ticket) => ticket,
        Err(verdict) => return Run::Ready(verdict),
    };
    let (w, req) = (w.clone(), req.clone());
    Run::Wait(Box::pin(async move {
        match sending.rest(&w, &req, ticket).await {
            Ok(never) => match never {},
            Err(verdict) => verdict,
        }
    }))
}

/// Finds the file and fills in what the response says of it. The error is what happens instead.
fn begin(w: &Rc<Worker>, req: &Rc<Request>) -> Result<(File, u64), Verdict> {
    {
        let method = req.method.borrow();
        if !matches!(&method[..], b"GET" | b"HEAD") {
            let known = *method == b"POST";
            let directory = req.uri.borrow().ends_with(b"/");
            if !directory || known {
                return Err(Verdict::Status(405));
            }
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
    let os_path = bytes_to_path(&path);
    let compressed = open_compressed(req, &path);
    let zipped = compressed.is_some();
    let (file, meta) = match compressed.map_or_else(|| open(&os_path), Ok) {
        Ok(f) => f,
        Err(e) => return Err(failed(req, &path, &e)),
    };
    if meta.is_dir() {
        let mut to = req.uri.borrow().clone();
        to.push(b'/');
        let args = req.args.borrow();
        if !args.is_empty() {
            to.push(b'?');
            to.extend_from_slice(&args);
        }
        req.response.borrow_mut().set_own_location(&to);
        return Err(Verdict::Status(301));
    }
    if !meta.is_file() {
        return Err(Verdict::Status(404));
    }
    let modified = modified_s(&meta);
    {
        let loc = req.level.borrow().clone();
        let mut res = req.response.borrow_mut();
        res.status = 200;
        res.content_length = Some(meta.len());
        res.last_modified = Some(modified);
        res.content_type = Some(content_type(&loc, &req.uri.borrow()));
        if loc.etag {
            let mut tag = [0; 2 * 16 + 3];
            let tag = entity_tag(modified as u64, meta.len(), &mut tag);
            res.headers.push(b"ETag", tag);
        }
        res.allow_ranges = true;
        if zipped {
            res.headers.push(b"Content-Encoding", b"gzip");
        }
    }
    Ok((file, meta.len()))
}

/// A file on its way to the client.
struct Sending {
    file: File,
    left: u64,
}

impl Sending {
    /// Reads and submits a piece; returns its ticket. The error ends the handler: all is sent, or nothing
    /// more can be.
    fn piece(&mut self, w: &Rc<Worker>, req: &Rc<Request>) -> Result<u64, Verdict> {
        let want = self.left.min(PIECE_BYTES as u64) as usize;
        let mut data = vec![0; want];
        let mut got = 0;
        while got < want {
            match self.file.read(&mut data[got..]) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        if got < want {
            // The file became shorter while it was sent: the length already promised cannot be kept.
            req.log(Level::Alert, b"file was truncated while it was read");
            req.keepalive.set(false);
            if req.is_main() {
                req.conn.break_off();
            }
            return Err(Verdict::Done);
        }
        self.left -= got as u64;
        let ticket = submit(w, req, Chunk { data, last: self.left == 0, ..Chunk::default() });
        let header_only = req.response.borrow().header_only;
        if self.left == 0 || header_only {
            if header_only && self.left > 0 {
                submit(w, req, Chunk { last: true, ..Chunk::default() });
            }
            return Err(Verdict::Done);
        }
        Ok(ticket)
    }

    /// Sends what is behind the first piece as the client takes it.
    async fn rest(
        &mut self,
        w: &Rc<Worker>,
        req: &Rc<Request>,
        mut ticket: u64,
    ) -> Result<std::convert::Infallible, Verdict> {
        loop {
            if !passed(req, ticket).await {
                return Err(Verdict::Done);
            }
            if req.is_main() {
                req.flushing.set(true);
                if std::future::poll_fn(|cx| req.conn.poll_drained(cx)).await.is_err() {
                    return Err(Verdict::Done);
                }
            }
            ticket = self.piece(w, req)?;
        }
    }
}

/// The compressed form of a file, where `gzip_static` sends it and it is there.
fn open_compressed(req: &Rc<Request>, path: &[u8]) -> Option<(File, Metadata)> {
    let rule = req.location().filters.gzip_static;
    if rule == GzipStatic::Off {
        return None;
    }
    let accepted = super::compress::accepts_gzip(req);
    let found = open(&bytes_to_path(&[path, b".gz"].concat())).ok().filter(|(_, meta)| meta.is_file())?;
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

fn open(path: &Path) -> std::io::Result<(File, Metadata)> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    Ok((file, meta))
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

fn modified_s(meta: &Metadata) -> i64 {
    match meta.modified() {
        Ok(t) => t.duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64),
        Err(_) => 0,
    }
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
        if let Err(e) = std::fs::metadata(bytes_to_path(&path)) {
            first_missing.get_or_insert((path.clone(), e));
        }
        if bytes_to_path(&path).is_file() {
            let mut uri = req.uri.borrow().clone();
            uri.extend_from_slice(&name);
            return Verdict::Internal { uri, args: Some(req.args.borrow().clone()) };
        }
    }
    let dir = bytes_to_path(&root);
    if !dir.is_dir() {
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
        let os = bytes_to_path(&path);
        let there = if f.directory { os.is_dir() } else { os.is_file() };
        if there {
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
    let (active, reading, writing) = (s.active.get(), s.reading.get(), s.writing.get());
    let text = format!(
        "Active connections: {active} \nserver accepts handled requests\n {0} {0} {1} \nReading: {reading} Writing: {writing} Waiting: {2} \n",
        s.accepted.get(),
        s.requests.get(),
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
