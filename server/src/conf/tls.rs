//! What the `lua_ssl_*` directives say: how Lua's sockets speak TLS.
//!
//! Files are read when a level is finished: what is wrong with them stops the start.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

use super::directive::{Arity, Cx, Row, full_path, simple};
use super::error::Fail;
use super::model::Level as LogLevel;
use super::settings::settings;
use super::tree::Node;
use super::value::number_arg;
use crate::phase::Contexts;
use crate::tls::client::{self, Client, ClientSettings};
use crate::tls::files::{self, Pem};
use crate::tls::names::{self, Offer};
use crate::tls::verify::Trust;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);

/// A path relative to the folder of the configuration.
pub(super) fn path(cx: &Cx<'_>, node: &Node) -> PathBuf {
    let folder = cx.all.file.parent().map(|f| f.join("")).unwrap_or_default();
    full_path(&folder, node.arg(0))
}

pub(super) fn protocols(
    cx: &mut Cx<'_>,
    node: &Node,
) -> Result<Vec<&'static SupportedProtocolVersion>, Fail> {
    let mut spoken = Vec::new();
    for i in 0..node.args.len() {
        let word = node.text(i).into_owned();
        match names::protocol(&word) {
            None => return Err(Fail::Message(format!("invalid value \"{word}\""))),
            Some(Some(v)) => spoken.push(v),
            Some(None) => {
                cx.warn(LogLevel::Warn, node, &format!("protocol \"{word}\" is not supported, ignored"));
            }
        }
    }
    match spoken.is_empty() {
        true => Err(Fail::Message(format!("\"{}\" leaves no supported protocol", node.name()))),
        false => Ok(spoken),
    }
}

pub(super) fn file(cx: &mut Cx<'_>, node: &Node) -> Result<Option<PathBuf>, Fail> {
    Ok(Some(path(cx, node)))
}

pub(super) fn list(_: &mut Cx<'_>, node: &Node) -> Result<String, Fail> {
    Ok(node.text(0).into_owned())
}

/// Ciphers of TLS 1.2 of a list.
pub(super) fn suites(list: &str) -> Result<Vec<SupportedCipherSuite>, String> {
    names::ciphers(list).ok_or_else(|| {
        format!(
            "SSL_CTX_set_cipher_list(\"{list}\") failed (SSL: error:0A0000B9:SSL routines::no cipher match)"
        )
    })
}

/// Certificates of a file, if one is given.
pub(super) fn trusted(file: Option<PathBuf>) -> Result<Option<Vec<CertificateDer<'static>>>, String> {
    file.map(|path| files::certificates(&Pem::File(path, String::new()))).transpose()
}

settings! {
    /// How Lua's sockets speak TLS.
    LuaTls, LuaTlsDraft in scope.lua_tls; LUA_TLS_ROWS {
        /// Versions that are offered.
        lua_ssl_protocols: Vec<&'static SupportedProtocolVersion> = Offer::default().versions, protocols, LEVELS, Arity::AtLeast(1);
        /// Ciphers of TLS 1.2 that are offered.
        lua_ssl_ciphers: String = "DEFAULT".to_owned(), list, LEVELS, Arity::Exactly(1);
        /// Certificates between a server's and a trusted one, at most.
        lua_ssl_verify_depth: u64 = 1, number_arg, LEVELS, Arity::Exactly(1);
        /// Whom they trust.
        lua_ssl_trusted_certificate: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// What is revoked.
        lua_ssl_crl: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// Where secrets are written.
        lua_ssl_key_log: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
    }
}

/// `lua_ssl_certificate` and `lua_ssl_certificate_key` lines of a level.
#[derive(Clone, Debug, Default)]
pub struct OwnFiles {
    certificates: Vec<Pem>,
    keys: Vec<Pem>,
}

/// The rows of the lists.
pub const ROWS: &[Row] = &[
    simple("lua_ssl_certificate", LEVELS, Arity::Exactly(1), |cx, node| {
        let path = path(cx, node);
        cx.scope.lua_tls_files.certificates.push(Pem::File(path, node.text(0).into_owned()));
        Ok(())
    }),
    simple("lua_ssl_certificate_key", LEVELS, Arity::Exactly(1), |cx, node| {
        let path = path(cx, node);
        cx.scope.lua_tls_files.keys.push(Pem::File(path, node.text(0).into_owned()));
        Ok(())
    }),
];

/// What an inner level takes from the level around it.
#[derive(Clone, Debug, Default)]
pub struct TlsInherited {
    draft: LuaTlsDraft,
    files: OwnFiles,
    /// The client of that level.
    pub client: Arc<Client>,
}

/// Settles how a level's sockets speak. Where it says nothing, its client is that of the level around it.
pub fn finish(
    mut draft: LuaTlsDraft,
    mut own: OwnFiles,
    outer: &TlsInherited,
) -> Result<TlsInherited, String> {
    if draft.is_empty() && own.certificates.is_empty() && own.keys.is_empty() {
        return Ok(outer.clone());
    }
    draft.inherit(&outer.draft);
    if own.certificates.is_empty() {
        own.certificates.clone_from(&outer.files.certificates);
    }
    if own.keys.is_empty() {
        own.keys.clone_from(&outer.files.keys);
    }
    let s = draft.finish();
    let suites = suites(&s.lua_ssl_ciphers)?;
    let identities = files::identities(&own.certificates, &own.keys, "lua_ssl_certificate_key")?;
    let trusted = trusted(s.lua_ssl_trusted_certificate)?;
    let crls = s.lua_ssl_crl.as_deref().map(files::crls).transpose()?.unwrap_or_default();
    let depth = u32::try_from(s.lua_ssl_verify_depth).unwrap_or(u32::MAX);
    let trust = trusted.map(|t| Trust::new(&t, &crls, depth)).transpose()?.unwrap_or_default();
    if let Some(path) = &s.lua_ssl_key_log {
        client::open_key_log(path).map_err(|_| format!("open()(\"{}\") failed", path.display()))?;
    }
    let client = Client::new(ClientSettings {
        offer: Offer { versions: s.lua_ssl_protocols, suites },
        identities,
        trust,
        key_log: s.lua_ssl_key_log,
    });
    Ok(TlsInherited { draft, files: own, client: Arc::new(client) })
}
