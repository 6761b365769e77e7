//! The body of a response on its way from a server to the client: read ahead as far as the buffers and a
//! file allow, or piece by piece.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::rc::Rc;
use std::task::{Context, Poll};

use super::link::Link;
use crate::conf::model::Level;
use crate::conf::proxy::ProxyConf;
use crate::flow::Worker;
use crate::flow::filters::submit;
use crate::http1::body::Decoder;
use crate::http1::clock;
use crate::http1::deadline::Deadline;
use crate::request::Request;
use crate::request::body::{BodyFile, bytes_to_path, create_temp};
use crate::request::response::{Chunk, Sink};

/// How the end of the body is found.
pub enum Framing {
    /// There is no body.
    Nothing,
    /// By the length or by chunks.
    Decoder(Decoder),
    /// By the end of the connection.
    UntilClosed,
}

/// How the body ended.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// It is complete.
    Whole,
    /// The server broke off, or took too long; the log knows.
    Broken,
    /// The client is gone.
    ClientGone,
}

/// A body under way.
pub struct Pipe<'a> {
    /// The worker.
    pub w: &'a Rc<Worker>,
    /// The request.
    pub req: &'a Rc<Request>,
    /// The settings.
    pub conf: &'a ProxyConf,
    /// Whether it is read ahead.
    pub buffered: bool,
    /// How its end is found.
    pub framing: Framing,
    /// Time limit between two reads.
    pub read_timeout_ms: u64,
    /// Bytes of the body so far.
    pub length: u64,
    /// Bytes read from the server.
    pub received: u64,
    ready: Vec<u8>,
    spill: Option<Spill>,
    rate: u64,
    began_s: u64,
    pause: Option<std::pin::Pin<Box<tokio::time::Sleep>>>,
}

/// What does not fit in memory while the client is slow.
struct Spill {
    file: File,
    info: BodyFile,
    read: u64,
}

impl<'a> Pipe<'a> {
    /// A pipe with nothing in it.
    pub fn new(w: &'a Rc<Worker>, req: &'a Rc<Request>, conf: &'a ProxyConf, framing: Framing) -> Pipe<'a> {
        let rate = conf.proxy_limit_rate.as_ref().map(|script| req.eval(script));
        let rate = rate.and_then(|text| crate::conf::value::size(&text)).unwrap_or(0);
        Pipe {
            w,
            req,
            conf,
            buffered: true,
            framing,
            read_timeout_ms: conf.proxy_read_timeout,
            length: 0,
            received: 0,
            ready: Vec::new(),
            spill: None,
            rate,
            began_s: clock::monotonic_ms() / 1000,
            pause: None,
        }
    }

    /// Decodes what was read. True when the body is complete; the error is a line for the log.
    fn decode(&mut self, link: &mut Link) -> Result<bool, &'static str> {
        let before = self.ready.len();
        let ready = &mut self.ready;
        let done = match &mut self.framing {
            Framing::Nothing => return Ok(true),
            Framing::UntilClosed => {
                link.with_unread(|b| {
                    ready.extend_from_slice(b);
                    ((), b.len())
                });
                link.eof
            }
            Framing::Decoder(decoder) => {
                let r = link.with_unread(|b| match decoder.decode(b, ready) {
                    Ok(n) => (Ok(()), n),
                    Err(_) => (Err("upstream sent invalid chunked response"), 0),
                });
                r?;
                decoder.is_done()
            }
        };
        self.length += (self.ready.len() - before) as u64;
        Ok(done)
    }

    /// A line for bytes behind the body's end; the connection is not used again.
    fn warn_of_more(&self, link: &Link) {
        let text: &[u8] = match &self.framing {
            _ if link.unread().is_empty() => return,
            Framing::Decoder(Decoder::Length(_)) => {
                b"upstream sent more data than specified in \"Content-Length\" header"
            }
            Framing::Decoder(Decoder::Chunked(_)) => b"upstream sent data after final chunk",
            _ => return,
        };
        self.req.log(Level::Warn, text);
    }

    /// The client takes no more at the moment.
    fn is_jammed(&self) -> bool {
        if !matches!(self.req.response.borrow().sink, Sink::Client) {
            return !self.req.response.borrow().lane.is_empty();
        }
        let (_, size) = self.conf.proxy_buffers;
        let busy = self.conf.proxy_busy_buffers_size.unwrap_or(2 * size.max(self.conf.proxy_buffer_size));
        let busy = if self.buffered { usize::try_from(busy).unwrap_or(usize::MAX) } else { 0 };
        let out = self.req.conn.output_len();
        out > busy || !self.req.response.borrow().is_quiet()
    }

    fn pass_on(&mut self, last: bool) {
        let data = std::mem::take(&mut self.ready);
        if data.is_empty() && !last {
            return;
        }
        self.req.flushing.set(true);
        submit(self.w, self.req, Chunk { data, last, flush: true, ..Chunk::default() });
    }

    /// Bytes that may be read now: what the buffers hold, within the rate.
    fn room(&mut self, cx: &mut Context<'_>) -> usize {
        let (count, size) = self.conf.proxy_buffers;
        let all = usize::try_from(count * size).unwrap_or(usize::MAX);
        let mut room = if self.buffered {
            all.saturating_sub(self.ready.len())
        } else {
            usize::try_from(self.conf.proxy_buffer_size).unwrap_or(usize::MAX)
        };
        if self.rate > 0 {
            if let Some(pause) = &mut self.pause {
                if std::future::Future::poll(pause.as_mut(), cx).is_pending() {
                    return 0;
                }
                self.pause = None;
            }
            let now_s = clock::monotonic_ms() / 1000;
            let allowed = self.rate * (now_s - self.began_s + 1);
            let left = allowed.saturating_sub(self.received);
            if left == 0 {
                let ms = (self.received - allowed) * 1000 / self.rate + 1;
                let mut pause = Box::pin(tokio::time::sleep(std::time::Duration::from_millis(ms)));
                let _ = std::future::Future::poll(pause.as_mut(), cx);
                self.pause = Some(pause);
                return 0;
            }
            room = room.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        room
    }

    /// Moves what is in memory to the file. False when it holds no more, or cannot be written.
    fn spill(&mut self) -> bool {
        let max = self.conf.proxy_max_temp_file_size;
        let held = self.spill.as_ref().map_or(0, |s| s.info.len);
        if max == 0 || held >= max {
            return false;
        }
        let result = self.write_spill();
        if let Err(e) = result {
            let text = format!("failed to write a response to a temporary file ({e})");
            self.req.log(Level::Crit, text.as_bytes());
            return false;
        }
        true
    }

    fn write_spill(&mut self) -> std::io::Result<()> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => {
                let temp = &self.conf.proxy_temp_path;
                let folder = self.req.env.config.prefix.join(bytes_to_path(&temp.folder));
                let (file, info) = create_temp(&folder, &temp.levels)?;
                let text =
                    format!("an upstream response is buffered to a temporary file {}", info.path.display());
                self.req.log(Level::Warn, text.as_bytes());
                none.insert(Spill { file, info, read: 0 })
            }
        };
        spill.file.seek(SeekFrom::Start(spill.info.len))?;
        spill.file.write_all(&self.ready)?;
        spill.info.len += self.ready.len() as u64;
        self.ready.clear();
        Ok(())
    }

    /// Takes the next piece back from the file. False when there is none.
    fn unspill(&mut self) -> std::io::Result<bool> {
        let Some(spill) = &mut self.spill else { return Ok(false) };
        let left = spill.info.len - spill.read;
        if left == 0 {
            // Everything has gone out: the file begins anew.
            spill.file.set_len(0)?;
            spill.info.len = 0;
            spill.read = 0;
            return Ok(false);
        }
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(32 * 1024);
        let mut piece = vec![0u8; n];
        spill.file.seek(SeekFrom::Start(spill.read))?;
        spill.file.read_exact(&mut piece)?;
        spill.read += n as u64;
        self.req.flushing.set(true);
        submit(self.w, self.req, Chunk { data: piece, flush: true, ..Chunk::default() });
        Ok(true)
    }

    fn spilled(&self) -> bool {
        self.spill.as_ref().is_some_and(|s| s.info.len > s.read)
    }

    /// Reads the body to its end. The link is free for another request when it is `Whole`, unless bytes
    /// are left in it.
    pub async fn run(&mut self, link: &mut Link) -> BodyEnd {
        self.req.action.set("reading upstream");
        match self.decode(link) {
            Ok(true) => {
                self.warn_of_more(link);
                self.pass_on(true);
                return BodyEnd::Whole;
            }
            Ok(false) => {}
            Err(text) => {
                self.req.log(Level::Error, text.as_bytes());
                return BodyEnd::Broken;
            }
        }
        if self.ready.is_empty() || self.holds_back() {
            // The head does not wait for the body; whether it goes out before it is another question.
            if !self.buffered {
                self.req.flushing.set(true);
            }
            submit(self.w, self.req, Chunk { head_only: true, flush: !self.buffered, ..Chunk::default() });
        }
        let mut deadline = Deadline::new();
        deadline.arm(self.read_timeout_ms);
        let mut done = false;
        let mut jam = Jam::default();
        std::future::poll_fn(|cx| self.poll(link, cx, &mut deadline, &mut done, &mut jam)).await
    }

    fn poll(
        &mut self,
        link: &mut Link,
        cx: &mut Context<'_>,
        deadline: &mut Deadline,
        done: &mut bool,
        jam: &mut Jam,
    ) -> Poll<BodyEnd> {
        loop {
            if self.req.gone.get() || self.req.response.borrow().failed {
                return Poll::Ready(BodyEnd::ClientGone);
            }
            let jammed = self.is_jammed();
            // What waits in the file is older than what is in memory.
            if !jammed && self.spilled() {
                match self.unspill() {
                    Ok(_) => continue,
                    Err(e) => {
                        let text = format!("failed to read a response from a temporary file ({e})");
                        self.req.log(Level::Crit, text.as_bytes());
                        return Poll::Ready(BodyEnd::Broken);
                    }
                }
            }
            let hold_back = !*done && self.holds_back();
            if !jammed && !self.spilled() && (*done || (!self.ready.is_empty() && !hold_back)) {
                self.pass_on(*done);
                if *done {
                    return Poll::Ready(BodyEnd::Whole);
                }
                continue;
            }
            if *done {
                // All is read; the client takes its time.
                if self.wait_for_client(cx, jam) {
                    return Poll::Ready(BodyEnd::ClientGone);
                }
                return Poll::Pending;
            }
            if jammed && self.wait_for_client(cx, jam) {
                return Poll::Ready(BodyEnd::ClientGone);
            }
            let full = jammed && (!self.buffered || (self.room_is_out() && !self.spill()));
            let room = if full { 0 } else { self.room(cx) };
            if room == 0 {
                deadline.disarm();
                return Poll::Pending;
            }
            match link.poll_fill(cx, room.min(64 * 1024)) {
                Poll::Ready(Ok(0)) => match self.decode(link) {
                    Ok(true) => *done = true,
                    _ => {
                        self.req.log(Level::Error, b"upstream prematurely closed connection");
                        self.pass_on(false);
                        return Poll::Ready(BodyEnd::Broken);
                    }
                },
                Poll::Ready(Ok(n)) => {
                    self.received += n as u64;
                    deadline.arm(self.read_timeout_ms);
                    match self.decode(link) {
                        Ok(end) => {
                            *done = end;
                            if end {
                                self.warn_of_more(link);
                            }
                        }
                        Err(text) => {
                            self.req.log(Level::Error, text.as_bytes());
                            return Poll::Ready(BodyEnd::Broken);
                        }
                    }
                }
                Poll::Ready(Err(e)) => {
                    let text = format!("recv() failed {}", crate::conf::error::os_text(&e));
                    self.req.log(Level::Error, text.as_bytes());
                    self.pass_on(false);
                    return Poll::Ready(BodyEnd::Broken);
                }
                Poll::Pending => {
                    if deadline.poll(cx) {
                        self.req.log(Level::Error, b"upstream timed out (110: Connection timed out)");
                        return Poll::Ready(BodyEnd::Broken);
                    }
                    if client_is_gone(self.req, self.conf, cx) {
                        return Poll::Ready(BodyEnd::ClientGone);
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    /// Whether what is there waits for more, to go out in larger pieces.
    fn holds_back(&self) -> bool {
        let (_, size) = self.conf.proxy_buffers;
        self.buffered
            && self.ready.len() < usize::try_from(size).unwrap_or(usize::MAX)
            && !matches!(self.framing, Framing::Decoder(Decoder::Chunked(_)))
    }

    fn room_is_out(&self) -> bool {
        let (count, size) = self.conf.proxy_buffers;
        self.ready.len() >= usize::try_from(count * size).unwrap_or(usize::MAX)
    }

    /// Registers for the moment when the client has taken something. True when it took too long.
    fn wait_for_client(&self, cx: &mut Context<'_>, jam: &mut Jam) -> bool {
        self.req.response.borrow_mut().watch(cx);
        if !matches!(self.req.response.borrow().sink, Sink::Client) {
            return false;
        }
        if !self.req.response.borrow().is_quiet() {
            // A filter waits; the lane wakes us.
            return false;
        }
        let conn = &self.req.conn;
        self.req.flushing.set(true);
        let _ = conn.poll_flush(cx);
        let sent = conn.bytes_sent.get();
        if jam.sent != Some(sent) {
            jam.sent = Some(sent);
            jam.deadline.arm(self.req.location().send_timeout);
        }
        if !self.is_jammed() {
            // Enough went out: look again at once.
            cx.waker().wake_by_ref();
            return false;
        }
        if jam.deadline.poll(cx) {
            self.req.log(Level::Info, b"client timed out (110: Connection timed out)");
            conn.break_off();
            self.req.gone.set(true);
            self.req.keepalive.set(false);
            return true;
        }
        false
    }
}

/// Whether the client has left, where that ends the request to the server.
pub fn client_is_gone(req: &Request, conf: &ProxyConf, cx: &mut Context<'_>) -> bool {
    if conf.proxy_ignore_client_abort || !req.incoming.borrow().is_done() || req.conn.input_len() > 0 {
        return false;
    }
    let gone = req.conn.is_broken()
        || req.conn.at_eof()
        || (req.conn.poll_readable(cx).is_ready()
            && matches!(req.conn.poll_fill(cx), Poll::Ready(Ok(0) | Err(_))));
    if gone {
        let text = b"client prematurely closed connection, so upstream connection is closed too";
        req.log(Level::Info, text);
        req.gone.set(true);
    }
    gone
}

/// How long the client has taken nothing.
#[derive(Default)]
struct Jam {
    deadline: Deadline,
    sent: Option<u64>,
}
