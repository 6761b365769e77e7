//! The request's body: read into memory, into a file when it is large, or thrown away.
//!
//! The futures here are movable and may be polled on the spot; bytes come from
//! the connection's input. Knows nothing of phases.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use super::Request;
use crate::conf::error::os_text;
use crate::conf::model::Level;
use crate::conf::settings::InFileOnly;
use crate::http1::body::{BadChunk, Decoder};

/// Where the body is.
#[derive(Debug, Default)]
pub enum Body {
    /// Still on the wire (or there is none).
    #[default]
    Unread,
    /// Somebody is reading it.
    Reading,
    /// In memory.
    Memory(Vec<u8>),
    /// In a file.
    File(BodyFile),
    /// Thrown away.
    Discarded,
    /// Read by a script from the socket.
    Taken,
    /// Being put together by a script, piece by piece.
    Writing(BodyWriter),
}

/// A body in a file; the file goes with it unless it is to be kept.
#[derive(Debug)]
pub struct BodyFile {
    /// Its path.
    pub path: PathBuf,
    /// Its length.
    pub len: u64,
    /// Whether the file is deleted with the request.
    pub delete: bool,
}

impl Drop for BodyFile {
    fn drop(&mut self) {
        if self.delete {
            // A file that is gone already is what we want.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// A body that a script puts together: in memory up to a limit, then in a file.
#[derive(Debug)]
pub struct BodyWriter {
    data: Vec<u8>,
    keep: usize,
    file: Option<(File, BodyFile)>,
}

impl BodyWriter {
    /// An empty body; beyond `keep` bytes it goes to a file.
    pub fn new(keep: usize) -> BodyWriter {
        BodyWriter { data: Vec::new(), keep, file: None }
    }

    /// Appends a piece. Fails when the file cannot be written.
    pub fn append(&mut self, req: &Request, piece: &[u8]) -> std::io::Result<()> {
        if self.data.len() + piece.len() <= self.keep {
            self.data.extend_from_slice(piece);
            return Ok(());
        }
        self.spill(req)?;
        if piece.len() <= self.keep {
            self.data.extend_from_slice(piece);
            return Ok(());
        }
        let (file, info) = self.file.as_mut().expect("spilled above");
        file.write_all(piece)?;
        info.len += piece.len() as u64;
        Ok(())
    }

    fn spill(&mut self, req: &Request) -> std::io::Result<()> {
        if self.file.is_none() {
            let loc = req.location();
            let temp = &loc.client_body_temp_path;
            let dir = req.env.config.prefix.join(bytes_to_path(&temp.folder));
            let (file, info) = create_temp(&dir, &temp.levels)?;
            req.log(Level::Warn, buffered(&info).as_bytes());
            self.file = Some((file, info));
        }
        let (file, info) = self.file.as_mut().expect("made above");
        file.write_all(&self.data)?;
        info.len += self.data.len() as u64;
        self.data.clear();
        Ok(())
    }

    /// The finished body and its length.
    pub fn finish(mut self, req: &Request) -> std::io::Result<(Body, u64)> {
        if self.file.is_some() {
            self.spill(req)?;
        }
        Ok(match self.file {
            Some((_, f)) => {
                let len = f.len;
                (Body::File(f), len)
            }
            None => {
                let len = self.data.len() as u64;
                (Body::Memory(self.data), len)
            }
        })
    }
}

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The request ends with this status.
    Status(u16),
    /// The client is gone.
    Gone,
}

/// The body's framing and what has been done about it.
#[derive(Debug)]
pub struct Incoming {
    /// What is left of the body; `None` when the request has none.
    pub decoder: Option<Decoder>,
    /// The client waits for `100 Continue`.
    pub expects_continue: bool,
    /// Bytes of the body decoded so far.
    pub received: u64,
}

impl Incoming {
    /// Whether nothing of the body is left on the wire.
    pub fn is_done(&self) -> bool {
        self.decoder.as_ref().is_none_or(Decoder::is_done)
    }
}

/// Reads the whole body. Ready at once when it is there.
pub struct ReadBody {
    req: Rc<Request>,
    data: Vec<u8>,
    file: Option<(File, BodyFile)>,
    started: bool,
    /// It has come with the head: it is no larger than what the head was read into.
    with_head: bool,
}

/// Starts to read the body of `req`.
pub fn read_body(req: &Rc<Request>) -> ReadBody {
    ReadBody { req: req.clone(), data: Vec::new(), file: None, started: false, with_head: false }
}

impl Future for ReadBody {
    type Output = Result<(), BodyError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        let req = me.req.clone();
        if !me.started {
            if !matches!(*req.body.borrow(), Body::Unread) {
                return Poll::Ready(Ok(()));
            }
            me.started = true;
            if req.incoming.borrow().decoder.is_none() {
                *req.body.borrow_mut() = Body::Memory(Vec::new());
                return Poll::Ready(Ok(()));
            }
            me.with_head = came_with_head(&req);
            *req.body.borrow_mut() = Body::Reading;
            if std::mem::take(&mut req.incoming.borrow_mut().expects_continue) {
                req.conn.write_with(|o| o.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
                let _ = req.conn.poll_flush(cx);
            }
            req.conn.arm(req.location().client_body_timeout);
        }
        let result = loop {
            match receive_some(&req, cx, &mut me.data) {
                Poll::Ready(Ok(done)) => {
                    if let Err(e) = me.spill(&req, done) {
                        break Err(e);
                    }
                    if done {
                        break Ok(());
                    }
                }
                Poll::Ready(Err(e)) => break Err(e),
                Poll::Pending => return Poll::Pending,
            }
        };
        req.conn.disarm();
        match result {
            Ok(()) => {
                *req.body.borrow_mut() = match me.file.take() {
                    Some((_, f)) => Body::File(f),
                    None => Body::Memory(std::mem::take(&mut me.data)),
                };
            }
            Err(_) => *req.body.borrow_mut() = Body::Discarded,
        }
        Poll::Ready(result)
    }
}

/// Whether the whole body is there already, in what nginx reads heads into.
fn came_with_head(req: &Request) -> bool {
    let Some(Decoder::Length(len)) = req.incoming.borrow().decoder else { return false };
    let server = req.server.borrow();
    let head = req.head_len as u64;
    let room = match server.client_header_buffer_size {
        small if head <= small => small,
        _ => server.large_client_header_buffers.1,
    };
    len <= req.conn.input_len() as u64 && head + len <= room
}

impl ReadBody {
    /// Moves what is in memory to a file once it is more than the buffer holds.
    fn spill(&mut self, req: &Request, done: bool) -> Result<(), BodyError> {
        let loc = req.location();
        let keep = usize::try_from(loc.client_body_buffer_size).unwrap_or(usize::MAX);
        let rule = loc.client_body_in_file_only;
        let wanted = rule != InFileOnly::Off && done && !self.data.is_empty();
        let fits = self.with_head || self.data.len() <= keep;
        if self.file.is_none() && fits && !wanted {
            return Ok(());
        }
        if self.file.is_some() && self.data.len() < keep && !done {
            return Ok(());
        }
        let write = |me: &mut Self| -> std::io::Result<()> {
            if me.file.is_none() {
                let folder = req.env.config.prefix.join(bytes_to_path(&loc.client_body_temp_path.folder));
                let (file, mut info) = create_temp(&folder, &loc.client_body_temp_path.levels)?;
                info.delete = rule != InFileOnly::On;
                let level = if rule == InFileOnly::Off { Level::Warn } else { Level::Notice };
                req.log(level, buffered(&info).as_bytes());
                me.file = Some((file, info));
            }
            let (file, info) = me.file.as_mut().expect("made above");
            file.write_all(&me.data)?;
            info.len += me.data.len() as u64;
            me.data.clear();
            Ok(())
        };
        write(self).map_err(|e| {
            let text = match &self.file {
                Some((_, info)) => format!("pwrite() \"{}\" failed {}", info.path.display(), os_text(&e)),
                None => {
                    let folder = req.env.config.prefix.join(bytes_to_path(&loc.client_body_temp_path.folder));
                    format!("open() a file in \"{}\" failed {}", folder.display(), os_text(&e))
                }
            };
            req.log(Level::Crit, text.as_bytes());
            BodyError::Status(500)
        })
    }
}

/// What the log says of a body in a file.
fn buffered(info: &BodyFile) -> String {
    format!("a client request body is buffered to a temporary file {}", info.path.display())
}

/// A path from bytes of the configuration.
pub fn bytes_to_path(b: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(b).into()
}

/// A new file below a folder, in folders named after the last digits of its number.
pub fn create_temp(dir: &std::path::Path, levels: &[usize]) -> std::io::Result<(File, BodyFile)> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    loop {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:05}{:07}", std::process::id() % 100_000, n);
        let mut folder = dir.to_path_buf();
        let mut end = name.len();
        for width in levels {
            let from = end.saturating_sub(*width);
            folder.push(&name[from..end]);
            end = from;
        }
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(name);
        match OpenOptions::new().write(true).read(true).create_new(true).open(&path) {
            Ok(f) => return Ok((f, BodyFile { path, len: 0, delete: true })),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Decodes what is there and reads more if there was nothing. Ready with whether the body is complete;
/// then at least one byte was decoded or the body ended.
pub fn receive_some(req: &Request, cx: &mut Context<'_>, out: &mut Vec<u8>) -> Poll<Result<bool, BodyError>> {
    let conn = &req.conn;
    loop {
        let mut incoming = req.incoming.borrow_mut();
        let incoming = &mut *incoming;
        let Some(decoder) = &mut incoming.decoder else { return Poll::Ready(Ok(true)) };
        if decoder.is_done() {
            return Poll::Ready(Ok(true));
        }
        if conn.input_len() > 0 {
            let before = out.len();
            decoder.limit(match req.location().client_max_body_size {
                0 => u64::MAX,
                max => max,
            });
            let decoded = conn.with_input(|b| match decoder.decode(b, out) {
                Ok(n) => (Ok(()), n),
                Err(e) => (Err(e), 0),
            });
            if let Err(fault) = decoded {
                let (status, text) = match fault {
                    BadChunk::Framing => (400, "client sent invalid chunked body".to_owned()),
                    BadChunk::TooLarge { received, size } => {
                        let text = "client intended to send too large chunked body";
                        (413, format!("{text}: {received}+{size} bytes"))
                    }
                };
                req.log(Level::Error, text.as_bytes());
                req.keepalive.set(false);
                return Poll::Ready(Err(BodyError::Status(status)));
            }
            incoming.received += (out.len() - before) as u64;
            if decoder.is_done() {
                return Poll::Ready(Ok(true));
            }
            if out.len() > before {
                return Poll::Ready(Ok(false));
            }
            continue;
        }
        if std::mem::take(&mut incoming.expects_continue) {
            conn.write_with(|o| o.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n"));
        }
        if conn.output_len() > 0 {
            // The client may wait for what is in the output before it sends more.
            let _ = conn.poll_flush(cx);
        }
        match conn.poll_fill(cx) {
            Poll::Ready(Ok(0)) => {
                req.log(Level::Info, b"client prematurely closed connection");
                req.keepalive.set(false);
                // Whatever could be said would be about half a request.
                conn.break_off();
                return Poll::Ready(Err(BodyError::Status(400)));
            }
            Poll::Ready(Ok(_)) => conn.arm(req.location().client_body_timeout),
            Poll::Ready(Err(_)) => {
                req.keepalive.set(false);
                return Poll::Ready(Err(BodyError::Gone));
            }
            Poll::Pending => {
                if conn.poll_deadline(cx) {
                    req.timed_out();
                    req.keepalive.set(false);
                    return Poll::Ready(Err(BodyError::Status(408)));
                }
                return Poll::Pending;
            }
        }
    }
}

/// Throws away what is left of the body. Ready with false when the connection cannot be used again.
pub async fn discard(req: &Rc<Request>) -> bool {
    if req.incoming.borrow().is_done() {
        return true;
    }
    // Who waits for leave to send the body gets none: the connection is closed instead.
    if req.incoming.borrow().expects_continue && req.conn.input_len() == 0 {
        return false;
    }
    let scratch = RefCell::new(Vec::new());
    let limit_ms = crate::http1::clock::monotonic_ms() + req.location().lingering_time;
    req.conn.arm(req.location().lingering_timeout);
    let done = std::future::poll_fn(|cx| {
        loop {
            if crate::http1::clock::monotonic_ms() > limit_ms {
                return Poll::Ready(false);
            }
            let mut out = scratch.borrow_mut();
            out.clear();
            match receive_some(req, cx, &mut out) {
                Poll::Ready(Ok(true)) => return Poll::Ready(true),
                Poll::Ready(Ok(false)) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(false),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
    req.conn.disarm();
    if matches!(*req.body.borrow(), Body::Unread) {
        *req.body.borrow_mut() = Body::Discarded;
    }
    done
}
