//! What the `ssl_*` directives say: how servers speak TLS.
//!
//! Files are read when a server is finished: what is wrong with them stops the start.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::SupportedProtocolVersion;

use super::directive::{Arity, Cx, Row, simple};
use super::error::{ConfError, Fail};
use super::model::Level as LogLevel;
use super::settings::settings;
use super::tls::{file, list, path, protocols, suites, trusted};
use super::tree::Node;
use super::value::{self, flag_arg, number_arg, size_arg};
use crate::phase::Contexts;
use crate::tls::cache::Zone;
use crate::tls::files::{self, Pem};
use crate::tls::names::{self, Offer};
use crate::tls::server::{Ask, BUILTIN_SESSIONS, Keep, ServerSettings, Side};
use crate::tls::tickets::Tickets;
use crate::tls::verify::Trust;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER);
/// Smallest zone for sessions: eight pages.
const ZONE_BYTES_MIN: u64 = 8 * 4096;

fn ask(_: &mut Cx<'_>, node: &Node) -> Result<Ask, Fail> {
    match node.arg(0) {
        b"off" => Ok(Ask::Off),
        b"on" => Ok(Ask::On),
        b"optional" => Ok(Ask::Optional),
        b"optional_no_ca" => Ok(Ask::OptionalNoCa),
        _ => Err(Fail::Message(format!("invalid value \"{}\"", node.text(0)))),
    }
}

fn seconds(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    value::time_s(node.arg(0)).ok_or_else(Fail::invalid_value)
}

fn session_cache(cx: &mut Cx<'_>, node: &Node) -> Result<Keep, Fail> {
    let mut keep = Keep::Nowhere;
    for i in 0..node.args.len() {
        let word = node.text(i).into_owned();
        let invalid = || Fail::Message(format!("invalid session cache \"{word}\""));
        if word == "off" || word == "none" {
            keep = Keep::Nowhere;
        } else if word == "builtin" {
            keep = builtin(keep, BUILTIN_SESSIONS);
        } else if let Some(number) = word.strip_prefix("builtin:") {
            let most = number.parse().map_err(|_| invalid())?;
            keep = builtin(keep, if most == 0 { BUILTIN_SESSIONS } else { most });
        } else if let Some(rest) = word.strip_prefix("shared:") {
            let (name, size) =
                rest.split_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(invalid)?;
            let bytes = value::size(size.as_bytes()).ok_or_else(invalid)?;
            if bytes < ZONE_BYTES_MIN {
                return Err(Fail::Message(format!("session cache \"{word}\" is too small")));
            }
            keep = Keep::Zone(zone(cx, name, usize::try_from(bytes).map_err(|_| invalid())?)?);
        } else {
            return Err(invalid());
        }
    }
    Ok(keep)
}

/// A zone serves before what a worker keeps for itself.
fn builtin(keep: Keep, most: usize) -> Keep {
    match keep {
        Keep::Zone(_) => keep,
        _ => Keep::Builtin(most),
    }
}

fn zone(cx: &mut Cx<'_>, name: &str, size_bytes: usize) -> Result<Arc<Zone>, Fail> {
    if let Some(known) = cx.all.session_zones.iter().find(|z| z.name == name) {
        if known.size_bytes != size_bytes {
            return Err(Fail::Message(format!(
                "the size {size_bytes} of shared memory zone \"{name}\" conflicts with already declared size {}",
                known.size_bytes
            )));
        }
        return Ok(known.clone());
    }
    let mut others =
        cx.all.shared_dicts.iter().map(|d| &d.name).chain(cx.all.limit_zones.iter().map(|z| &z.name));
    if others.any(|other| other == name) {
        return Err(Fail::Message(format!(
            "the shared memory zone \"{name}\" is already declared for a different use"
        )));
    }
    let zone = Arc::new(Zone { name: name.to_owned(), size_bytes, memory: std::sync::OnceLock::new() });
    cx.all.session_zones.push(zone.clone());
    Ok(zone)
}

settings! {
    /// How servers speak TLS.
    SslSettings, SslDraft in scope.ssl; SSL_ROWS {
        /// Versions that are spoken.
        ssl_protocols: Vec<&'static SupportedProtocolVersion> = Offer::default().versions, protocols, LEVELS, Arity::AtLeast(1);
        /// Ciphers of TLS 1.2 that are spoken.
        ssl_ciphers: String = "HIGH:!aNULL:!MD5".to_owned(), list, LEVELS, Arity::Exactly(1);
        /// Whether their order counts before the client's.
        ssl_prefer_server_ciphers: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Groups for the exchange of keys.
        ssl_ecdh_curve: String = "auto".to_owned(), list, LEVELS, Arity::Exactly(1);
        /// How long a session can be gone on with, in seconds.
        ssl_session_timeout: u64 = 300, seconds, LEVELS, Arity::Exactly(1);
        /// Where sessions are kept.
        ssl_session_cache: Keep = Keep::Nowhere, session_cache, LEVELS, Arity::Between(1, 2);
        /// Whether clients get tickets.
        ssl_session_tickets: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Largest record.
        ssl_buffer_size: u64 = 16 * 1024, size_arg, LEVELS, Arity::Exactly(1);
        /// Whether clients show certificates.
        ssl_verify_client: Ask = Ask::Off, ask, LEVELS, Arity::Exactly(1);
        /// Certificates between a client's and a trusted one, at most.
        ssl_verify_depth: u64 = 1, number_arg, LEVELS, Arity::Exactly(1);
        /// Whom servers trust, and tell clients of.
        ssl_client_certificate: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// Whom they trust besides.
        ssl_trusted_certificate: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// What is revoked.
        ssl_crl: Option<PathBuf> = None, file, LEVELS, Arity::Exactly(1);
        /// Whether every handshake is refused.
        ssl_reject_handshake: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
    }
}

/// The directives that may come more than once on a level.
#[derive(Clone, Debug, Default)]
pub struct SslLists {
    certificates: Vec<Pem>,
    keys: Vec<Pem>,
    ticket_keys: Vec<Vec<u8>>,
}

pub(super) fn pem(cx: &Cx<'_>, node: &Node) -> Result<Pem, Fail> {
    let text = node.text(0);
    if let Some(data) = text.strip_prefix("data:") {
        return Ok(Pem::Data(data.to_owned()));
    }
    let name = node.name();
    if text.contains('$') {
        return Err(Fail::Message(format!("variables in \"{name}\" are not supported yet")));
    }
    if text.starts_with("engine:") || text.starts_with("store:") {
        return Err(Fail::Message(format!("\"{text}\" in \"{name}\" is not supported")));
    }
    Ok(Pem::File(path(cx, node), text.into_owned()))
}

/// The rows of the lists, and of what has no effect here.
pub const ROWS: &[Row] = &[
    simple("ssl_certificate", LEVELS, Arity::Exactly(1), |cx, node| {
        let pem = pem(cx, node)?;
        cx.scope.ssl_lists.certificates.push(pem);
        Ok(())
    }),
    simple("ssl_certificate_key", LEVELS, Arity::Exactly(1), |cx, node| {
        let pem = pem(cx, node)?;
        cx.scope.ssl_lists.keys.push(pem);
        Ok(())
    }),
    simple("ssl_session_ticket_key", LEVELS, Arity::Exactly(1), |cx, node| {
        let key = files::ticket_key(&path(cx, node)).map_err(Fail::Message)?;
        cx.scope.ssl_lists.ticket_keys.push(key);
        Ok(())
    }),
    simple("ssl_dhparam", LEVELS, Arity::Exactly(1), |cx, node| {
        let path = path(cx, node);
        files::is_readable(&path)
            .map_err(|e| ConfError::whole(format!("BIO_new_file(\"{}\") failed ({e})", path.display())))?;
        cx.warn(LogLevel::Warn, node, "\"ssl_dhparam\" ignored: no cipher with DHE is spoken");
        Ok(())
    }),
];

/// Settles how a server speaks; `None` where it has no certificate. The error is a text for the log.
pub fn finish(
    mut draft: SslDraft,
    mut lists: SslLists,
    outer: (&SslDraft, &SslLists),
) -> Result<Option<Arc<Side>>, String> {
    draft.inherit(outer.0);
    for (own, outer) in [(&mut lists.certificates, &outer.1.certificates), (&mut lists.keys, &outer.1.keys)] {
        if own.is_empty() {
            own.clone_from(outer);
        }
    }
    if lists.ticket_keys.is_empty() {
        lists.ticket_keys.clone_from(&outer.1.ticket_keys);
    }
    let s = draft.finish();
    if lists.certificates.is_empty() && !s.ssl_reject_handshake {
        return Ok(None);
    }
    let identities = files::identities(&lists.certificates, &lists.keys, "ssl_certificate_key")?;
    let groups = names::groups(&s.ssl_ecdh_curve)
        .map_err(|group| format!("SSL_CTX_set1_curves_list(\"{}\") failed (SSL: error:0A080106:SSL routines::passed invalid argument:group '{group}' cannot be set)", s.ssl_ecdh_curve))?;
    let issuers = trusted(s.ssl_client_certificate)?;
    let others = trusted(s.ssl_trusted_certificate)?;
    if matches!(s.ssl_verify_client, Ask::On | Ask::Optional) && issuers.is_none() && others.is_none() {
        return Err("no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client".to_owned());
    }
    let (issuers, others) = (issuers.unwrap_or_default(), others.unwrap_or_default());
    let crls = s.ssl_crl.as_deref().map(files::crls).transpose()?.unwrap_or_default();
    let depth = u32::try_from(s.ssl_verify_depth).unwrap_or(u32::MAX);
    let trust = Trust::of_clients(&[&issuers[..], &others[..]].concat(), &crls, depth)?;
    let tickets = match s.ssl_session_tickets {
        false => None,
        true => {
            let lifetime_s = u32::try_from(s.ssl_session_timeout).unwrap_or(u32::MAX);
            Some(Arc::new(Tickets::new(lists.ticket_keys, lifetime_s)?))
        }
    };
    let side = Side::new(ServerSettings {
        offer: Offer { versions: s.ssl_protocols, suites: suites(&s.ssl_ciphers)? },
        groups,
        own_order: s.ssl_prefer_server_ciphers,
        identities,
        ask: s.ssl_verify_client,
        issuers,
        trust,
        tickets,
        keep: s.ssl_session_cache,
        session_s: s.ssl_session_timeout,
        record_bytes: usize::try_from(s.ssl_buffer_size).unwrap_or(usize::MAX),
        reject: s.ssl_reject_handshake,
    })?;
    Ok(Some(Arc::new(side)))
}
