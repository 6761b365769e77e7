//! After `101 Switching Protocols`: bytes in both directions until one side closes.

use std::rc::Rc;
use std::task::{Context, Poll};

use super::link::Link;
use crate::conf::model::Level;
use crate::http1::deadline::Deadline;
use crate::request::Request;

/// Bytes held for a side that does not take them.
const HELD_BYTES_MAX: usize = 64 * 1024;

/// Passes bytes on in both directions; returns those received from and sent to the server.
pub async fn run(req: &Rc<Request>, link: &mut Link, read_timeout_ms: u64) -> u64 {
    req.action.set("proxying upgraded connection");
    let mut tunnel = Tunnel { up: Vec::new(), at: 0, received: 0, deadline: Deadline::new() };
    tunnel.deadline.arm(read_timeout_ms);
    std::future::poll_fn(|cx| tunnel.poll(req, link, read_timeout_ms, cx)).await;
    tunnel.received
}

struct Tunnel {
    /// On its way to the server.
    up: Vec<u8>,
    at: usize,
    received: u64,
    deadline: Deadline,
}

impl Tunnel {
    fn poll(
        &mut self,
        req: &Rc<Request>,
        link: &mut Link,
        timeout_ms: u64,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let conn = &req.conn;
        loop {
            let mut moved = false;
            // From the server to the client.
            let unread = link.unread().len();
            if unread > 0 && conn.output_len() < HELD_BYTES_MAX {
                link.with_unread(|b| (conn.write_with(|out| out.extend_from_slice(b)), b.len()));
                moved = true;
            }
            if conn.output_len() > 0 {
                let before = conn.output_len();
                if let Poll::Ready(Err(_)) = conn.poll_flush(cx) {
                    req.gone.set(true);
                    return Poll::Ready(());
                }
                moved |= conn.output_len() < before;
            }
            if link.unread().is_empty() && !link.eof && conn.output_len() < HELD_BYTES_MAX {
                match link.poll_fill(cx, HELD_BYTES_MAX) {
                    Poll::Ready(Ok(n)) => {
                        self.received += n as u64;
                        moved = true;
                    }
                    Poll::Ready(Err(e)) => {
                        let text = format!("recv() failed {}", crate::conf::error::os_text(&e));
                        req.log(Level::Error, text.as_bytes());
                        return Poll::Ready(());
                    }
                    Poll::Pending => {}
                }
            }
            if link.eof && link.unread().is_empty() && conn.output_len() == 0 {
                return Poll::Ready(());
            }
            // From the client to the server.
            if self.at == self.up.len() {
                self.up.clear();
                self.at = 0;
                if conn.input_len() == 0 && !conn.at_eof() {
                    match conn.poll_fill(cx) {
                        Poll::Ready(Ok(_)) => moved = true,
                        Poll::Ready(Err(_)) => {
                            req.gone.set(true);
                            return Poll::Ready(());
                        }
                        Poll::Pending => {}
                    }
                }
                if conn.input_len() > 0 {
                    conn.with_input(|b| (self.up.extend_from_slice(b), b.len()));
                    moved = true;
                } else if conn.at_eof() {
                    return Poll::Ready(());
                }
            }
            while self.at < self.up.len() {
                match link.poll_send(cx, &self.up[self.at..]) {
                    Poll::Ready(Ok(n)) if n > 0 => {
                        self.at += n;
                        moved = true;
                    }
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            if !moved {
                if self.deadline.poll(cx) {
                    req.log(Level::Error, b"upstream timed out (110: Connection timed out)");
                    return Poll::Ready(());
                }
                return Poll::Pending;
            }
            self.deadline.arm(timeout_ms);
        }
    }
}
