//! What the `proxy_ssl_*` directives say: how requests are passed on over TLS.
//!
//! Files are read where a location passes requests on that may go over TLS: what is wrong with them stops the start.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;

use super::directive::{Arity, Cx, Row};
use super::error::Fail;
use super::settings::settings;
use super::ssl::pem;
use super::tls::{file, list, protocols, suites, trusted};
use super::tree::Node;
use super::value::{flag_arg, number_arg};
use super::variables::Script;
use crate::phase::Contexts;
use crate::tls::client::{Client, ClientSettings};
use crate::tls::files::{self, Pem};
use crate::tls::names::Offer;
use crate::tls::sessions::Sessions;
use crate::tls::verify::Trust;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);

/// A file, or nothing where it is empty: an inner level needs none.
fn own(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Pem>, Fail> {
    if node.arg(0).is_empty() { Ok(None) } else { pem(cx, node).map(Some) }
}

fn name(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Script>, Fail> {
    cx.script(node.arg(0)).map(Some)
}

settings! {
    /// How requests are passed on over TLS.
    ProxySslSettings, ProxySslDraft in scope.proxy_ssl; PROXY_SSL_ROWS {
        /// Versions that are offered.
        proxy_ssl_protocols: Vec<&'static SupportedProtocolVersion> = Offer::default().versions, protocols, LEVELS, Arity::AtLeast(1);
        /// Ciphers of TLS 1.2 that are offered.
        proxy_ssl_ciphers: String = "DEFAULT".to_owned(), list, LEVELS, Arity::Exactly(1);
        /// The server's name, instead of `$proxy_host`.
        proxy_ssl_name: Option<Script> = None, name, LEVELS, Arity::Exactly(1);
        /// Whether the server is told its name.
        proxy_ssl_server_name: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether sessions go on in other connections.
        proxy_ssl_session_reuse: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether the server's certificate must be good, and for its name.
        proxy_ssl_verify: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Certificates between the server's and a trusted one, at most.
        proxy_ssl_verify_depth: u64 = 1, number_arg, LEVELS, Arity::Exactly(1);
        /// Who is trusted.
        proxy_ssl_trusted_certificate: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// What is revoked.
        proxy_ssl_crl: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// A certificate to show.
        proxy_ssl_certificate: Option<Pem> = None, own, LEVELS, Arity::Exactly(1);
        /// Its key.
        proxy_ssl_certificate_key: Option<Pem> = None, own, LEVELS, Arity::Exactly(1);
    }
}

/// How a location passes requests on over TLS.
#[derive(Debug)]
pub struct ProxySsl {
    /// Who speaks.
    pub client: Client,
    /// The server's name; `None` is `$proxy_host`.
    pub name: Option<Script>,
    /// Whether the server is told its name.
    pub tells_name: bool,
    /// Whether it must be trusted.
    pub verifies: bool,
    /// What can be gone on with, by server; `None` where nothing is.
    pub sessions: Option<Sessions>,
}

/// What an inner level takes from the level around it.
#[derive(Clone, Debug, Default)]
pub struct ProxySslInherited {
    draft: ProxySslDraft,
    /// What was made for a level; inner ones that say nothing share it.
    pub made: Option<Arc<ProxySsl>>,
}

/// Applies inheritance; files are read where it is `wanted`. The error is a text for the log.
pub fn finish(
    mut draft: ProxySslDraft,
    wanted: bool,
    outer: &ProxySslInherited,
) -> Result<ProxySslInherited, String> {
    let same = draft.is_empty();
    draft.inherit(&outer.draft);
    let made = match (wanted, same, &outer.made) {
        (_, true, Some(made)) => Some(made.clone()),
        (true, ..) => Some(Arc::new(make(draft.finish())?)),
        (false, ..) => None,
    };
    Ok(ProxySslInherited { draft, made })
}

fn make(s: ProxySslSettings) -> Result<ProxySsl, String> {
    let certificates: Vec<Pem> = s.proxy_ssl_certificate.into_iter().collect();
    let keys: Vec<Pem> = s.proxy_ssl_certificate_key.into_iter().collect();
    let suites = suites(&s.proxy_ssl_ciphers)?;
    let identities = files::identities(&certificates, &keys, "proxy_ssl_certificate_key")?;
    let mut trust = Trust::default();
    if s.proxy_ssl_verify {
        let missing = || "no proxy_ssl_trusted_certificate for proxy_ssl_verify".to_owned();
        let roots = trusted(s.proxy_ssl_trusted_certificate)?.ok_or_else(missing)?;
        let crls = s.proxy_ssl_crl.as_deref().map(files::crls).transpose()?.unwrap_or_default();
        trust = Trust::new(&roots, &crls, u32::try_from(s.proxy_ssl_verify_depth).unwrap_or(u32::MAX))?;
    }
    let offer = Offer { versions: s.proxy_ssl_protocols, suites };
    Ok(ProxySsl {
        client: Client::new(ClientSettings { offer, identities, trust, key_log: None }),
        name: s.proxy_ssl_name,
        tells_name: s.proxy_ssl_server_name,
        verifies: s.proxy_ssl_verify,
        sessions: s.proxy_ssl_session_reuse.then(Sessions::default),
    })
}
