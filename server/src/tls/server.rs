//! The server's side of a connection.

use super::cache::{Builtin, InZone, Zone};
use super::names::{self, Offer};
use super::tickets::Tickets;
use super::verify::{AnyClient, Trust, Wrong};
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, StoresServerSessions};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig, SignatureScheme};
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::server::TlsStream;

/// Protocols over TLS that are spoken here, by preference.
const ALPN: [&[u8]; 3] = [b"http/1.1", b"http/1.0", b"http/0.9"];
/// Sessions that `builtin` keeps when no number is given.
pub const BUILTIN_SESSIONS: usize = 20_480;
/// Largest and smallest record.
const RECORD_BYTES: (usize, usize) = (64, 16_384);

/// Whether a server asks its clients for certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// It does not.
    #[default]
    Off,
    /// A request without a good one is refused.
    On,
    /// One that is shown must be good.
    Optional,
    /// One that is shown may be of an issuer that nobody knows.
    OptionalNoCa,
}

/// Where sessions are kept that are not in tickets.
#[derive(Clone, Debug, Default)]
pub enum Keep {
    /// Nowhere.
    #[default]
    Nowhere,
    /// In each worker, so many at most.
    Builtin(usize),
    /// In a zone.
    Zone(Arc<Zone>),
}

/// How a server speaks.
#[derive(Debug, Default)]
pub struct ServerSettings {
    /// What it speaks.
    pub offer: Offer,
    /// Groups for the exchange of keys; empty for all.
    pub groups: Vec<&'static dyn SupportedKxGroup>,
    /// Whether its own order of ciphers counts.
    pub own_order: bool,
    /// Its certificates with their keys.
    pub identities: Vec<Arc<CertifiedKey>>,
    /// Whether clients show certificates.
    pub ask: Ask,
    /// Issuers that clients are told of.
    pub issuers: Vec<CertificateDer<'static>>,
    /// Whom it trusts.
    pub trust: Trust,
    /// Makes tickets, if any are given out.
    pub tickets: Option<Arc<Tickets>>,
    /// Where other sessions are kept.
    pub keep: Keep,
    /// How long.
    pub session_s: u64,
    /// Largest record, in bytes.
    pub record_bytes: usize,
    /// Every handshake is refused.
    pub reject: bool,
}

/// What a server speaks with.
#[derive(Debug)]
pub struct Side {
    config: Arc<ServerConfig>,
    /// Whether clients show certificates.
    pub ask: Ask,
    trust: Trust,
    /// Every handshake is refused.
    pub reject: bool,
}

impl Side {
    /// Prepares what all connections have in common. The error is a text for the log.
    pub fn new(s: ServerSettings) -> Result<Side, String> {
        let mut provider = (**super::provider()).clone();
        provider.cipher_suites = names::tls13_suites().chain(s.offer.suites.iter().copied()).collect();
        if !s.groups.is_empty() {
            provider.kx_groups = s.groups;
        }
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&s.offer.versions).map_err(|e| e.to_string())?;
        let builder = match s.ask {
            Ask::Off => builder.with_no_client_auth(),
            _ => builder.with_client_cert_verifier(Arc::new(AnyClient::new(provider, &s.issuers))),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Identities(s.identities)));
        config.ignore_client_order = s.own_order;
        config.alpn_protocols = ALPN.iter().map(|p| p.to_vec()).collect();
        config.max_fragment_size = Some(s.record_bytes.clamp(RECORD_BYTES.0, RECORD_BYTES.1));
        if let Some(tickets) = s.tickets {
            config.ticketer = tickets;
        }
        config.session_storage = match s.keep {
            Keep::Nowhere => Arc::new(NoServerSessionStorage {}),
            Keep::Builtin(most) => Arc::new(Builtin::new(most, Duration::from_secs(s.session_s)))
                as Arc<dyn StoresServerSessions>,
            Keep::Zone(zone) => Arc::new(InZone { zone, lifetime_ms: s.session_s.saturating_mul(1000) }),
        };
        Ok(Side { config: Arc::new(config), ask: s.ask, trust: s.trust, reject: s.reject })
    }

    /// What the handshake goes on with.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// What a handshake came to.
    pub fn told<S>(&self, io: &TlsStream<S>, hello: Hello) -> Negotiated {
        let conn = io.get_ref().1;
        let chain: Vec<_> =
            conn.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect();
        let verified = match chain.is_empty() {
            true => Ok(()),
            false => self.trust.check_chain(&chain),
        };
        Negotiated {
            protocol: conn.protocol_version().unwrap_or(ProtocolVersion::Unknown(0)),
            cipher: conn.negotiated_cipher_suite().map(|s| s.suite()),
            group: conn.negotiated_key_exchange_group().map(|g| g.name()),
            resumed: conn.handshake_kind() == Some(HandshakeKind::Resumed),
            alpn: conn.alpn_protocol().map(<[u8]>::to_vec),
            hello,
            chain,
            verified,
        }
    }
}

/// Chooses the certificate that a client can read, by the client's order.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let by = |scheme: &SignatureScheme| self.0.iter().find(|k| k.key.choose_scheme(&[*scheme]).is_some());
        hello.signature_schemes().iter().find_map(by).cloned()
    }
}

/// What a client said first.
#[derive(Clone, Debug, Default)]
pub struct Hello {
    /// The name of the server that it wants.
    pub server_name: Option<String>,
    /// Its ciphers.
    pub ciphers: Vec<CipherSuite>,
    /// Its groups.
    pub groups: Vec<NamedGroup>,
}

impl Hello {
    /// Keeps what is asked for later.
    pub fn of(hello: &ClientHello<'_>) -> Hello {
        Hello {
            server_name: hello.server_name().map(str::to_owned),
            ciphers: hello.cipher_suites().to_vec(),
            groups: hello.named_groups().unwrap_or_default().to_vec(),
        }
    }
}

/// What a handshake came to.
#[derive(Debug)]
pub struct Negotiated {
    /// The version.
    pub protocol: ProtocolVersion,
    /// The cipher.
    pub cipher: Option<CipherSuite>,
    /// The group of the exchange of keys; none in a session of TLS 1.2 that goes on.
    pub group: Option<NamedGroup>,
    /// An earlier session goes on.
    pub resumed: bool,
    /// The protocol over it.
    pub alpn: Option<Vec<u8>>,
    /// What the client said first.
    pub hello: Hello,
    /// The client's certificates, its own first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether they are good; `Ok` without any.
    pub verified: Result<(), Wrong>,
}

impl Negotiated {
    /// Is a request refused because of the client's certificate?
    pub fn refused(&self, ask: Ask) -> Option<Refusal> {
        match (ask, self.verified) {
            (Ask::Off, _) => None,
            (Ask::OptionalNoCa, Err(wrong)) if UNKNOWN_ISSUER.contains(&wrong.0) => None,
            (_, Err(wrong)) => Some(Refusal::Wrong(wrong)),
            (Ask::On, Ok(())) if self.chain.is_empty() => Some(Refusal::Missing),
            _ => None,
        }
    }
}

/// Numbers of OpenSSL that say that nobody knows the issuer.
const UNKNOWN_ISSUER: [u16; 5] = [18, 19, 20, 21, 27];

/// Why a client's request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its certificate is wrong.
    Wrong(Wrong),
    /// It has none.
    Missing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_clients_are_asked_for_as_the_server_wants() {
        let mut n = Negotiated {
            protocol: ProtocolVersion::TLSv1_3,
            cipher: None,
            group: None,
            resumed: false,
            alpn: None,
            hello: Hello::default(),
            chain: Vec::new(),
            verified: Ok(()),
        };
        assert_eq!(n.refused(Ask::On), Some(Refusal::Missing));
        assert_eq!(n.refused(Ask::Optional), None);
        n.chain.push(CertificateDer::from(vec![0]));
        assert_eq!(n.refused(Ask::On), None);
        n.verified = Err((18, "self-signed certificate"));
        assert_eq!(n.refused(Ask::Optional), Some(Refusal::Wrong((18, "self-signed certificate"))));
        assert_eq!((n.refused(Ask::OptionalNoCa), n.refused(Ask::Off)), (None, None));
        n.verified = Err((10, "certificate has expired"));
        assert!(n.refused(Ask::OptionalNoCa).is_some());
    }
}
