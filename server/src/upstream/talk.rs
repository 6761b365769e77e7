//! A request on its way to a server, until the head of the response is there.

use std::task::Poll;

use super::create::BodyFraming;
use super::head::{self, HeadFault, ResponseHead};
use super::link::Link;
use super::pipe::client_is_gone;
use super::proxy::{Fault, Job, with_info};
use super::send::{SendFault, Sending, Source};
use crate::conf::error::os_text;
use crate::conf::model::Level;
use crate::conf::proxy::NextOn;
use crate::http1::deadline::Deadline;
use crate::request::body::{Body, BodyError};

impl Job<'_> {
    /// Sends the request and reads the head of the response.
    pub(super) async fn talk(&mut self, link: &mut Link) -> Result<(ResponseHead, Sending), Fault> {
        let source = match self.framing {
            _ if self.conf.proxy_set_body.is_some() || !self.conf.proxy_pass_request_body => Source::Nothing,
            BodyFraming::None => Source::Nothing,
            _ if self.unbuffered => {
                self.req.conn.arm(self.req.location().client_body_timeout);
                Source::Client { chunked: self.framing == BodyFraming::Chunked }
            }
            _ => match &*self.req.body.borrow() {
                Body::File(file) => match std::fs::File::open(&file.path) {
                    Ok(file) => Source::File(file),
                    Err(e) => {
                        let text = format!("open() \"{}\" failed {}", file.path.display(), os_text(&e));
                        self.req.log(Level::Crit, text.as_bytes());
                        return Err(Fault::Status(500));
                    }
                },
                Body::Memory(_) => Source::Memory { at: 0 },
                _ => Source::Nothing,
            },
        };
        let mut sending = Sending::new(self.req, std::mem::take(&mut self.head), source);
        let (_, send_ms, read_ms) = self.timeouts();
        let mut deadline = Deadline::new();
        deadline.arm(send_ms);
        self.req.action.set("sending request to upstream");
        let max = usize::try_from(self.conf.proxy_buffer_size).unwrap_or(usize::MAX);
        let mut sent_all = false;
        let result = std::future::poll_fn(|cx| {
            let mut progress = false;
            if !sent_all {
                match sending.poll(self.req, link, cx, &mut progress) {
                    Poll::Ready(Ok(())) => {
                        sent_all = true;
                        self.req.action.set("reading response header from upstream");
                        deadline.arm(read_ms);
                    }
                    Poll::Ready(Err(fault)) => return Poll::Ready(Err(self.send_fault(fault))),
                    Poll::Pending => {
                        if progress {
                            deadline.arm(send_ms);
                        }
                        if sending.reads_client() {
                            // The client has its own time limit.
                            deadline.arm(send_ms.max(read_ms));
                        }
                    }
                }
                self.sent |= link.sent > 0;
            }
            loop {
                match link.poll_fill(cx, max) {
                    Poll::Ready(Ok(0)) => {
                        self.req.action.set("reading response header from upstream");
                        self.req.log(Level::Error, b"upstream prematurely closed connection");
                        return Poll::Ready(Err(Fault::Next(NextOn::ERROR)));
                    }
                    Poll::Ready(Ok(n)) => {
                        self.req.action.set("reading response header from upstream");
                        with_info(self.req, |info| {
                            if let Some(t) = info.current() {
                                t.bytes_received += n as u64;
                            }
                        });
                        match self.parse(link, max) {
                            Ok(Some(head)) => return Poll::Ready(Ok(head)),
                            Ok(None) => deadline.arm(read_ms),
                            Err(fault) => return Poll::Ready(Err(fault)),
                        }
                    }
                    Poll::Ready(Err(e)) => {
                        self.req.action.set("reading response header from upstream");
                        self.req.log(Level::Error, format!("recv() failed {}", os_text(&e)).as_bytes());
                        return Poll::Ready(Err(Fault::Next(NextOn::ERROR)));
                    }
                    Poll::Pending => break,
                }
            }
            if deadline.poll(cx) {
                self.req.log(Level::Error, b"upstream timed out (110: Connection timed out)");
                return Poll::Ready(Err(Fault::Next(NextOn::TIMEOUT)));
            }
            if client_is_gone(self.req, self.conf, cx) {
                return Poll::Ready(Err(Fault::Status(499)));
            }
            Poll::Pending
        })
        .await;
        match result {
            Ok(head) => {
                if matches!(head.status, 300..) {
                    // Another server may be asked: its request begins with the same bytes.
                    self.head = sending.head().to_vec();
                }
                Ok((head, sending))
            }
            Err(fault) => {
                self.head = sending.head().to_vec();
                Err(fault)
            }
        }
    }

    fn send_fault(&self, fault: SendFault) -> Fault {
        match fault {
            SendFault::Server(e) => {
                self.req.log(Level::Error, format!("writev() failed {}", os_text(&e)).as_bytes());
                Fault::Next(NextOn::ERROR)
            }
            SendFault::Client(BodyError::Status(s)) => Fault::Status(s),
            SendFault::Client(BodyError::Gone) => Fault::Status(499),
            SendFault::File(e) => {
                self.req.log(Level::Crit, format!("read() failed {}", os_text(&e)).as_bytes());
                Fault::Status(500)
            }
        }
    }

    /// The head, if it is all there. Interim responses are passed over.
    fn parse(&self, link: &mut Link, max: usize) -> Result<Option<ResponseHead>, Fault> {
        loop {
            match head::parse(link.unread()) {
                Ok(Some((head, len))) => {
                    link.consume(len);
                    if head.bare {
                        self.req.log(Level::Error, b"upstream sent no valid HTTP/1.0 header");
                    }
                    if matches!(head.status, 100 | 102..=199) {
                        continue;
                    }
                    return Ok(Some(head));
                }
                Ok(None) if link.unread().len() >= max => {
                    self.req.log(Level::Error, b"upstream sent too big header");
                    return Err(Fault::Next(NextOn::INVALID_HEADER));
                }
                Ok(None) => return Ok(None),
                Err(HeadFault::Invalid(text)) => {
                    self.req.log(Level::Error, &text);
                    return Err(Fault::Next(NextOn::INVALID_HEADER));
                }
            }
        }
    }
}
