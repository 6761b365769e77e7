//! TLS with a server that requests are passed on to.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};

use super::proxy::{Fault, Job};
use crate::conf::model::Level;
use crate::conf::proxy::NextOn;
use crate::conf::proxy_ssl::ProxySsl;
use crate::conf::upstream::PeerAddr;
use crate::http1::conn::Transport;
use crate::http1::secure::{Begun, shake_failed};
use crate::tls::client::Refused;

impl Job<'_> {
    /// How this request speaks TLS, where it does.
    fn ssl(&self) -> Option<Arc<ProxySsl>> {
        if self.to.ssl { self.req.level.borrow().proxy_ssl.clone() } else { None }
    }

    /// The name of the server that is asked for, without a port.
    fn server_name(&self, ssl: &ProxySsl) -> String {
        let name = match &ssl.name {
            Some(script) => self.req.eval(script),
            None => self.to.host.to_vec(),
        };
        without_port(&String::from_utf8_lossy(&name)).to_owned()
    }

    /// Tells kept connections apart: `tag` for one that is not encrypted; else one that nobody can aim at, from how it is
    /// encrypted and for which name.
    pub(super) fn pool_tag(&self, tag: usize) -> usize {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let Some(ssl) = self.ssl() else { return tag };
        let what = (tag, Arc::as_ptr(&ssl) as usize, self.server_name(&ssl));
        KEYS.get_or_init(RandomState::new).hash_one(what) as usize
    }

    /// Shakes hands with the server, if TLS is spoken.
    pub(super) async fn secure(&mut self, io: Transport, addr: &PeerAddr) -> Result<Transport, Fault> {
        let Some(ssl) = self.ssl() else { return Ok(io) };
        self.req.action.set("SSL handshaking to upstream");
        let name = self.server_name(&ssl);
        let told = (ssl.tells_name && !name.is_empty()).then_some(name.as_str());
        if let Some(name) = told {
            self.req.log(Level::Debug, format!("upstream SSL server name: \"{name}\"").as_bytes());
        }
        let session = ssl.sessions.as_ref().map(|s| s.of(&format!("{addr} {}", told.unwrap_or_default())));
        let handshake = ssl.client.handshake(told, session).map_err(|e| {
            self.req.log(Level::Error, format!("SSL_do_handshake() failed (SSL: {e})").as_bytes());
            Fault::Status(500)
        })?;
        let shaken = self.within(handshake.over(Begun::new(Vec::new(), io))).await?;
        let io = shaken.map_err(|e| {
            self.req.log(Level::Error, shake_failed(&e).as_bytes());
            Fault::Next(NextOn::ERROR)
        })?;
        if ssl.verifies
            && let Err(refused) = ssl.client.check(io.chain(), Some(&name))
        {
            let text = match refused {
                Refused::Chain((number, text)) => {
                    format!("upstream SSL certificate verify error: ({number}:{text})")
                }
                Refused::Name => format!("upstream SSL certificate does not match \"{name}\""),
            };
            self.req.log(Level::Error, text.as_bytes());
            return Err(Fault::Next(NextOn::ERROR));
        }
        self.req.action.set("connecting to upstream");
        Ok(Transport::TlsClient(Box::new(io)))
    }
}

fn without_port(name: &str) -> &str {
    if let Some(rest) = name.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    name.split(':').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::without_port;

    #[test]
    fn names_have_no_port() {
        for (from, to) in [("a.test:8443", "a.test"), ("a.test", "a.test"), ("[::1]:8443", "::1"), ("", "")] {
            assert_eq!(without_port(from), to);
        }
    }
}
