//! Sending a request: its head, then its body from memory, from a file or as the client sends it.

use std::fs::File;
use std::io::Read;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::link::Link;
use crate::http1::body::{write_chunk, write_last_chunk};
use crate::request::Request;
use crate::request::body::{Body, BodyError, receive_some};

/// Bodies up to this size go out with the head in one write.
const JOINED_BYTES_MAX: usize = 32 * 1024;
/// Read from a file, or from the client, at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// Why sending ended early.
#[derive(Debug)]
pub enum SendFault {
    /// The server's side failed.
    Server(std::io::Error),
    /// The client's side failed.
    Client(BodyError),
    /// The body's file cannot be read.
    File(std::io::Error),
}

/// Where the body comes from.
pub enum Source {
    /// There is none (any more).
    Nothing,
    /// The request's body in memory.
    Memory {
        /// Bytes sent so far.
        at: usize,
    },
    /// The request's body in a file.
    File(File),
    /// The client, as it sends.
    Client {
        /// It is sent on in chunks.
        chunked: bool,
    },
}

/// A request being sent.
pub struct Sending {
    /// The head, with a small body behind it.
    first: Vec<u8>,
    head_len: usize,
    /// Bytes of `first` sent.
    first_at: usize,
    buf: Vec<u8>,
    at: usize,
    source: Source,
    /// Something of the client's body has been used: the request cannot be sent again.
    pub used_client: bool,
}

impl Sending {
    /// Begins with the head; `with_body` is false when the body is not passed on.
    pub fn new(req: &Request, mut head: Vec<u8>, source: Source) -> Sending {
        let mut source = source;
        let head_len = head.len();
        if let Source::Memory { .. } = source {
            source = match &*req.body.borrow() {
                Body::Memory(data) if data.is_empty() => Source::Nothing,
                Body::Memory(data) if data.len() <= JOINED_BYTES_MAX => {
                    head.extend_from_slice(data);
                    Source::Nothing
                }
                Body::Memory(_) => Source::Memory { at: 0 },
                _ => Source::Nothing,
            };
        }
        Sending { first: head, head_len, first_at: 0, buf: Vec::new(), at: 0, source, used_client: false }
    }

    /// The head that it began with.
    pub fn head(&self) -> &[u8] {
        &self.first[..self.head_len]
    }

    /// Whether everything is sent.
    pub fn is_done(&self) -> bool {
        self.first_at == self.first.len()
            && self.at == self.buf.len()
            && matches!(self.source, Source::Nothing)
    }

    /// Whether the client's body is still being read.
    pub fn reads_client(&self) -> bool {
        matches!(self.source, Source::Client { .. })
    }

    /// Sends as much as goes. Ready when all is sent. `progress` becomes true when bytes were taken.
    pub fn poll(
        &mut self,
        req: &Rc<Request>,
        link: &mut Link,
        cx: &mut Context<'_>,
        progress: &mut bool,
    ) -> Poll<Result<(), SendFault>> {
        while self.first_at < self.first.len() {
            match link.poll_send(cx, &self.first[self.first_at..]) {
                Poll::Ready(Ok(n)) if n > 0 => {
                    self.first_at += n;
                    *progress = true;
                }
                Poll::Ready(Ok(_)) => {
                    return Poll::Ready(Err(SendFault::Server(std::io::ErrorKind::WriteZero.into())));
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(SendFault::Server(e))),
                Poll::Pending => return Poll::Pending,
            }
        }
        loop {
            while self.at < self.buf.len() {
                match link.poll_send(cx, &self.buf[self.at..]) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        self.at += n;
                        *progress = true;
                    }
                    Poll::Ready(Ok(_)) => {
                        return Poll::Ready(Err(SendFault::Server(std::io::ErrorKind::WriteZero.into())));
                    }
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(SendFault::Server(e))),
                    Poll::Pending => return Poll::Pending,
                }
            }
            self.buf.clear();
            self.at = 0;
            match &mut self.source {
                Source::Nothing => return Poll::Ready(Ok(())),
                Source::Memory { at } => {
                    let body = req.body.borrow();
                    let Body::Memory(data) = &*body else {
                        self.source = Source::Nothing;
                        continue;
                    };
                    while *at < data.len() {
                        match link.poll_send(cx, &data[*at..]) {
                            Poll::Ready(Ok(n)) if n > 0 => {
                                *at += n;
                                *progress = true;
                            }
                            Poll::Ready(Ok(_)) => {
                                let e = std::io::ErrorKind::WriteZero.into();
                                return Poll::Ready(Err(SendFault::Server(e)));
                            }
                            Poll::Ready(Err(e)) => return Poll::Ready(Err(SendFault::Server(e))),
                            Poll::Pending => return Poll::Pending,
                        }
                    }
                    self.source = Source::Nothing;
                }
                Source::File(file) => {
                    self.buf.resize(PIECE_BYTES, 0);
                    let n = match file.read(&mut self.buf) {
                        Ok(n) => n,
                        Err(e) => return Poll::Ready(Err(SendFault::File(e))),
                    };
                    self.buf.truncate(n);
                    if n == 0 {
                        self.source = Source::Nothing;
                    }
                }
                Source::Client { chunked } => {
                    let chunked = *chunked;
                    let mut data = Vec::new();
                    let done = match receive_some(req, cx, &mut data) {
                        Poll::Ready(Ok(done)) => done,
                        Poll::Ready(Err(e)) => return Poll::Ready(Err(SendFault::Client(e))),
                        Poll::Pending => return Poll::Pending,
                    };
                    self.used_client |= !data.is_empty();
                    if chunked {
                        write_chunk(&mut self.buf, &data);
                    } else {
                        self.buf = data;
                    }
                    if done {
                        if chunked {
                            write_last_chunk(&mut self.buf, &[]);
                        }
                        *req.body.borrow_mut() = Body::Discarded;
                        self.source = Source::Nothing;
                    }
                }
            }
        }
    }
}
