//! The response of a server: passed on to the client, or not; and what becomes of the connection.

use std::task::Poll;

use super::head::ResponseHead;
use super::link::Link;
use super::peer::{Ended, Picker};
use super::pipe::{BodyEnd, Framing, Pipe};
use super::proxy::{Fault, Home, Job, finish_try, with_info};
use super::send::Sending;
use super::{headers, tunnel};
use crate::conf::model::Level;
use crate::conf::proxy::NextOn;
use crate::flow::Verdict;
use crate::flow::filters::submit;
use crate::http1::body::Decoder;
use crate::http1::clock;
use crate::request::response::{Chunk, Sink};

impl Job<'_> {
    /// The head is there: another server is asked, or the response is passed on.
    pub(super) async fn respond(
        &mut self,
        picker: &mut Picker,
        mut link: Link,
        home: Option<Home>,
        mut head: ResponseHead,
        sending: Sending,
    ) -> Result<Verdict, Fault> {
        let req = self.req;
        let status = head.status;
        with_info(req, |info| {
            if let Some(t) = info.current() {
                t.status = status;
                t.header_ms = clock::monotonic_ms().saturating_sub(t.start_ms);
                t.bytes_sent = link.sent;
            }
        });
        if status >= 300 {
            let why = match status {
                500 => Some(NextOn::HTTP_500),
                502 => Some(NextOn::HTTP_502),
                503 => Some(NextOn::HTTP_503),
                504 => Some(NextOn::HTTP_504),
                403 => Some(NextOn::HTTP_403),
                404 => Some(NextOn::HTTP_404),
                429 => Some(NextOn::HTTP_429),
                _ => None,
            };
            if let Some(why) = why
                && picker.tries > 1
                && self.may_ask_on(why)
            {
                return Err(Fault::Next(why));
            }
            let level = req.level.borrow().clone();
            if self.conf.proxy_intercept_errors && level.error_pages.iter().any(|p| p.codes.contains(&status))
            {
                if status == 401 {
                    let mut res = req.response.borrow_mut();
                    for value in head.headers.all(b"www-authenticate") {
                        res.headers.push(b"WWW-Authenticate", value);
                    }
                }
                self.keep_headers(&mut head);
                return Ok(Verdict::Status(status));
            }
        }
        let method = match &self.conf.proxy_method {
            Some(script) => req.eval(script),
            None => req.method.borrow().clone(),
        };
        let no_body = method.eq_ignore_ascii_case(b"HEAD") || matches!(status, 204 | 304);
        let empty = no_body || (!head.chunked && head.content_length == Some(0));
        let upgrade = status == 101 && req.headers.borrow().get(b"upgrade").is_some();
        if let Some(verdict) = headers::accel_redirect(req, self.conf, &head) {
            self.keep_headers(&mut head);
            self.give_back(picker, link, home, &head, empty && sending.is_done());
            return Ok(verdict);
        }
        headers::copy(req, self.conf, self.pass, &head);
        let buffered = headers::buffering(self.conf, &head);
        let framing = if empty {
            Framing::Nothing
        } else if head.chunked {
            Framing::Decoder(Decoder::chunked())
        } else {
            match head.content_length {
                Some(n) => Framing::Decoder(Decoder::Length(n)),
                None => Framing::UntilClosed,
            }
        };
        self.keep_headers(&mut head);
        if upgrade {
            if !req.is_main() {
                req.log(Level::Error, b"connection upgrade in subrequest");
                return Ok(self.cut_off());
            }
            return Ok(Box::pin(self.upgrade(&mut link)).await);
        }
        let (_, _, read_ms) = self.timeouts();
        let mut pipe = Pipe::new(self.w, req, self.conf, framing);
        pipe.buffered = buffered;
        pipe.read_timeout_ms = read_ms;
        let end = pipe.run(&mut link).await;
        let (length, received) = (pipe.length, pipe.received);
        drop(pipe);
        with_info(req, |info| {
            if let Some(t) = info.current() {
                t.response_length = length;
                t.bytes_received += received;
                t.bytes_sent = link.sent;
            }
        });
        finish_try(req);
        match end {
            BodyEnd::Whole => {
                self.give_back(picker, link, home, &head, sending.is_done());
                Ok(Verdict::Done)
            }
            BodyEnd::Broken => Ok(self.cut_off()),
            BodyEnd::ClientGone => {
                req.keepalive.set(false);
                req.response.borrow_mut().eof = true;
                Ok(Verdict::Status(499))
            }
        }
    }

    /// The response's headers stay with the request, for variables.
    fn keep_headers(&self, head: &mut ResponseHead) {
        let headers = std::mem::take(&mut head.headers);
        with_info(self.req, |info| info.headers = Some(headers));
    }

    /// The connection goes back to its pool if it can serve again.
    fn give_back(
        &self,
        picker: &mut Picker,
        link: Link,
        home: Option<Home>,
        head: &ResponseHead,
        complete: bool,
    ) {
        if let Some(home) = home
            && complete
            && !head.close
            && !link.eof
            && link.unread().is_empty()
            && link.requests < home.requests_max
            && clock::monotonic_ms().saturating_sub(link.born_ms) <= home.time_max_ms
            && !self.req.env.exiting.get()
        {
            home.pool.put(link, home.addr, home.tag, home.idle_ms);
        }
        picker.release(Ended::Well);
    }

    /// The response ends before its time: the client must see that it is not whole.
    pub(super) fn cut_off(&self) -> Verdict {
        let req = self.req;
        req.keepalive.set(false);
        req.flushing.set(true);
        let mut res = req.response.borrow_mut();
        res.eof = true;
        if matches!(res.sink, Sink::Memory(_)) {
            res.fail();
        }
        Verdict::Done
    }

    async fn upgrade(&self, link: &mut Link) -> Verdict {
        let req = self.req;
        req.keepalive.set(false);
        submit(self.w, req, Chunk { head_only: true, flush: true, ..Chunk::default() });
        std::future::poll_fn(|cx| {
            let mut res = req.response.borrow_mut();
            if res.is_quiet() || res.failed {
                return Poll::Ready(());
            }
            res.watch(cx);
            Poll::Pending
        })
        .await;
        let (_, _, read_ms) = self.timeouts();
        let received = tunnel::run(req, link, read_ms).await;
        with_info(req, |info| {
            if let Some(t) = info.current() {
                t.bytes_received += received;
                t.bytes_sent = link.sent;
            }
        });
        let mut res = req.response.borrow_mut();
        res.eof = true;
        Verdict::Done
    }
}
