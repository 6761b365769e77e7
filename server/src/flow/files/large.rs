//! Files larger than a piece: sent by the kernel where nothing has to see their bytes, else read piece by piece as
//! the client takes them.

use std::fs::File;
use std::rc::Rc;

use super::{cut_short, read};
use crate::conf::model::Level;
use crate::flow::filters::{passed, submit};
use crate::flow::{Verdict, Worker};
use crate::phase::Phase;
use crate::request::Request;
use crate::request::response::{Chunk, Sink};

/// Bytes of one call where the configuration sets no limit.
const CALL_BYTES_MAX: u64 = 1 << 30;
/// Least and most bytes read at a time.
const PIECE_MIN: u64 = 4096;
const PIECE_MAX: u64 = 4 << 20;

/// Sends a file of this length; the response's head is ready.
pub async fn send(w: &Rc<Worker>, req: &Rc<Request>, path: &[u8], file: &Rc<File>, len: u64) -> Verdict {
    let by_kernel = may_go_past_memory(req);
    if by_kernel && req.location().tcp_nopush {
        // The head goes out with the first bytes of the file.
        cork(req, true);
    }
    let ticket = submit(w, req, Chunk { head_only: true, ..Chunk::default() });
    if !passed(req, ticket).await || req.response.borrow().refused.is_some() {
        return Verdict::Done;
    }
    if req.response.borrow().header_only {
        submit(w, req, Chunk { last: true, ..Chunk::default() });
        return Verdict::Done;
    }
    let (from, to) = take_part(req).unwrap_or((0, len));
    let verdict = if by_kernel && is_plain(req) {
        let sent = send_by_kernel(req, path, file, from, to).await;
        if sent {
            submit(w, req, Chunk { last: true, ..Chunk::default() });
        }
        Verdict::Done
    } else {
        send_by_pieces(w, req, file, from, to).await
    };
    if by_kernel && req.location().tcp_nopush {
        cork(req, false);
    }
    verdict
}

fn cork(req: &Request, on: bool) {
    // Unix sockets have no such option, and do not need it.
    let _ = req.conn.with_socket(|s| s.set_tcp_cork(on));
}

/// Whether the configuration and the connection allow it; the filters have their say later.
fn may_go_past_memory(req: &Request) -> bool {
    let loc = req.location();
    loc.sendfile
        && req.is_main()
        && loc.lua.get(Phase::BodyFilter).is_none()
        && matches!(req.response.borrow().sink, Sink::Client)
        && req.conn.takes_files()
}

/// The part that was asked for, where nothing but its filter stands before the body: then it is read by itself.
fn take_part(req: &Request) -> Option<(u64, u64)> {
    let mut res = req.response.borrow_mut();
    let part = res.part.filter(|_| res.early_filters.len() == 1)?;
    res.early_filters.clear();
    res.part = None;
    Some(part)
}

/// Whether nobody wants to see the body's bytes or puts anything around them.
fn is_plain(req: &Request) -> bool {
    let res = req.response.borrow();
    res.early_filters.is_empty()
        && res.filters.is_empty()
        && res.outer_filters.is_empty()
        && !res.chunked
        && !res.failed
        && res.is_quiet()
        && req.queue.borrow().is_empty()
}

/// Sends a part of the file; false when the client has gone or the file has become shorter.
async fn send_by_kernel(req: &Rc<Request>, path: &[u8], file: &File, from: u64, to: u64) -> bool {
    if !drained(req).await {
        return false;
    }
    let max = match req.location().sendfile_max_chunk {
        0 => CALL_BYTES_MAX,
        n => n.min(CALL_BYTES_MAX),
    };
    let mut at = from;
    while at < to {
        let mut begun = false;
        let sent = std::future::poll_fn(|cx| {
            if !begun {
                begun = true;
                req.conn.arm(req.location().send_timeout);
            }
            let want = usize::try_from((to - at).min(max)).unwrap_or(usize::MAX);
            match req.conn.poll_send_file(cx, file, at, want) {
                std::task::Poll::Pending if req.conn.poll_deadline(cx) => std::task::Poll::Ready(None),
                other => other.map(Some),
            }
        })
        .await;
        req.conn.disarm();
        match sent {
            Some(Ok(0)) => {
                let mut line = b"sendfile() reported that \"".to_vec();
                line.extend_from_slice(path);
                line.extend_from_slice(format!("\" was truncated at {at}").as_bytes());
                req.log(Level::Alert, &line);
                end(req);
                return false;
            }
            Some(Ok(n)) => {
                if req.debugging() {
                    let want = (to - at).min(max);
                    req.log(Level::Debug, format!("sendfile: {n} of {want} @{at}").as_bytes());
                }
                at += n as u64;
                req.response.borrow_mut().body_bytes_sent += n as u64;
                // One client that takes all it gets must not keep the others waiting.
                tokio::task::yield_now().await;
            }
            Some(Err(e)) => {
                let text = format!("sendfile() failed {}", crate::conf::error::os_text(&e));
                req.log(Level::Info, text.as_bytes());
                end(req);
                req.gone.set(true);
                return false;
            }
            None => {
                timed_out(req);
                return false;
            }
        }
    }
    true
}

fn end(req: &Request) {
    req.keepalive.set(false);
    req.conn.break_off();
}

fn timed_out(req: &Request) {
    req.log(Level::Info, b"client timed out (110: Connection timed out)");
    req.timed_out();
    end(req);
    req.gone.set(true);
}

async fn send_by_pieces(w: &Rc<Worker>, req: &Rc<Request>, file: &File, from: u64, to: u64) -> Verdict {
    let (number, size) = req.location().output_buffers;
    let piece = number.saturating_mul(size).clamp(PIECE_MIN, PIECE_MAX);
    let mut at = from;
    while at < to {
        let want = (to - at).min(piece) as usize;
        let Some(data) = read(file, at, want) else { return cut_short(req) };
        at += want as u64;
        let ticket = submit(w, req, Chunk { data, last: at == to, ..Chunk::default() });
        if at == to || !passed(req, ticket).await {
            break;
        }
        if req.is_main() && !drained(req).await {
            break;
        }
    }
    Verdict::Done
}

/// Waits until everything so far has gone out; false when the client does not take it.
async fn drained(req: &Rc<Request>) -> bool {
    req.flushing.set(true);
    let timeout = req.location().send_timeout;
    let mut left = usize::MAX;
    let done = std::future::poll_fn(|cx| {
        if let std::task::Poll::Ready(r) = req.conn.poll_drained(cx) {
            return std::task::Poll::Ready(Some(r.is_ok()));
        }
        let now = req.conn.output_len();
        if now < left {
            left = now;
            req.conn.arm(timeout);
        }
        if req.conn.poll_deadline(cx) { std::task::Poll::Ready(None) } else { std::task::Poll::Pending }
    })
    .await;
    req.conn.disarm();
    done.unwrap_or_else(|| {
        timed_out(req);
        false
    })
}
