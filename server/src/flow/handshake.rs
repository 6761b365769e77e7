//! The handshake of a connection that speaks TLS: the name that the client wants chooses the server, and that one's
//! certificate is shown.

use std::rc::Rc;

use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt;
use tokio_rustls::LazyConfigAcceptor;

use super::Worker;
use super::begin::valid_host;
use crate::http1::conn::Conn;
use crate::http1::secure::{Secured, shake_failed};
use crate::request::with_match;
use crate::tls::server::Hello;

/// The alert of a server that has no such name: a fatal one, number 112, in a record of its own.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// Is this the first byte of a handshake, that of SSL 2 among them?
pub fn begins(first: u8) -> bool {
    first & 0x80 != 0 || first == 22
}

/// Shakes hands. The error is a text for the log; the connection is of no use then.
pub async fn shake(w: Rc<Worker>, conn: Rc<Conn>, listen: usize) -> Result<(), String> {
    let http = w.env.http();
    let listen = w.env.config.listen_of(listen, conn.local).unwrap_or(&http.listens[listen]);
    let start = LazyConfigAcceptor::new(Acceptor::default(), conn.take_stream());
    let mut start = start.await.map_err(|e| shake_failed(&e))?;
    let hello = Hello::of(&start.client_hello());
    let mut name = Vec::new();
    let named = hello.server_name.as_ref().and_then(|n| valid_host(n.as_bytes(), &mut name));
    let named = named.and_then(|()| with_match(|data| listen.names.find(&name, data)));
    let default = http.servers[listen.default_server].ssl.as_ref();
    let own = named.map_or(default, |at| http.servers[at].ssl.as_ref());
    if own.is_some_and(|side| side.reject) {
        // It goes out in one piece or not at all; either way this is the end.
        let _ = start.io.write(&UNRECOGNIZED_NAME).await;
        return Err("handshake rejected".to_owned());
    }
    let side = own.or(default).ok_or_else(|| "no certificate is there".to_owned())?;
    let io = start.into_stream(side.config()).await.map_err(|e| shake_failed(&e))?;
    let negotiated = side.told(&io, hello);
    let server = named.map(|at| (name, at));
    conn.secure(Box::new(io), Rc::new(Secured { negotiated, server }));
    Ok(())
}
