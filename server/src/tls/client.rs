//! The client's side of a connection.

use super::names::{self, Offer};
use super::sessions::Session;
use super::verify::{HasKey, Trust, Wrong, check_name};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, HandshakeKind, KeyLog, SignatureScheme};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How a client speaks.
#[derive(Debug, Default)]
pub struct ClientSettings {
    /// What it offers.
    pub offer: Offer,
    /// Certificates of its own, with keys.
    pub identities: Vec<Arc<CertifiedKey>>,
    /// Whom it trusts: nobody, unless told.
    pub trust: Trust,
    /// Where secrets are written for those who look at the traffic.
    pub key_log: Option<PathBuf>,
}

/// A client: what all its connections have in common.
#[derive(Debug, Default)]
pub struct Client {
    settings: ClientSettings,
    /// Made when the first connection needs it.
    config: OnceLock<Result<ClientConfig, String>>,
}

/// One connection's side of a handshake.
pub struct Handshake {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// What can be gone on with.
    pub session: Arc<Session>,
}

/// Chooses a certificate whose key can sign what the server asks for.
#[derive(Debug)]
struct Identities(Vec<Arc<CertifiedKey>>);

impl ResolvesClientCert for Identities {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.iter().find(|k| k.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn has_certs(&self) -> bool {
        !self.0.is_empty()
    }
}

/// Writes secrets in the form that network analysers read.
#[derive(Debug)]
struct SecretsFile(Mutex<std::fs::File>);

impl KeyLog for SecretsFile {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        // Nobody can be told of a full disk here, and the connection does not depend on it.
        let _ = self.0.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
    }
}

/// Opens a file that secrets are added to.
pub fn open_key_log(path: &Path) -> std::io::Result<std::fs::File> {
    std::fs::OpenOptions::new().create(true).append(true).open(path)
}

impl Client {
    /// A client with these settings.
    pub fn new(settings: ClientSettings) -> Client {
        Client { settings, config: OnceLock::new() }
    }

    fn make(&self) -> Result<ClientConfig, String> {
        let s = &self.settings;
        let mut provider = (**super::provider()).clone();
        provider.cipher_suites = names::tls13_suites().chain(s.offer.suites.iter().copied()).collect();
        let provider = Arc::new(provider);
        let verifier = Arc::new(HasKey(provider.clone()));
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&s.offer.versions).map_err(|e| e.to_string())?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = builder.with_client_cert_resolver(Arc::new(Identities(s.identities.clone())));
        if let Some(path) = &s.key_log {
            let file = open_key_log(path).map_err(|e| e.to_string())?;
            config.key_log = Arc::new(SecretsFile(Mutex::new(file)));
        }
        Ok(config)
    }

    /// A handshake with a server, which is told its name when there is one, going on with `session` if the server will.
    pub fn handshake(&self, name: Option<&str>, session: Option<Arc<Session>>) -> Result<Handshake, String> {
        let base = self.config.get_or_init(|| self.make()).as_ref().map_err(Clone::clone)?;
        let named = name.and_then(|n| ServerName::try_from(n.to_owned()).ok());
        let mut config = base.clone();
        config.enable_sni = named.is_some();
        let session = session.unwrap_or_default();
        config.resumption = Resumption::store(session.clone());
        let name = match named {
            Some(n) => n,
            None => ServerName::try_from("name.invalid").map_err(|e| e.to_string())?,
        };
        Ok(Handshake { connector: Arc::new(config).into(), name, session })
    }

    /// Is the server's chain good, and its certificate one of `name` (when there is one)?
    pub fn check(&self, chain: &[CertificateDer<'_>], name: Option<&str>) -> Result<(), Refused> {
        self.settings.trust.check_chain(chain).map_err(Refused::Chain)?;
        match (name, chain.first()) {
            (Some(n), Some(leaf)) if !check_name(leaf, n) => Err(Refused::Name),
            _ => Ok(()),
        }
    }
}

/// Why a server is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its chain is wrong.
    Chain(Wrong),
    /// Its certificate is for others.
    Name,
}

impl Handshake {
    /// Shakes hands over a stream.
    pub async fn over<S: AsyncRead + AsyncWrite + Unpin>(self, io: S) -> std::io::Result<Encrypted<S>> {
        let Handshake { connector, name, session } = self;
        Ok(Encrypted { io: connector.connect(name, io).await?, session })
    }
}

/// An encrypted stream.
pub struct Encrypted<S> {
    /// The stream.
    pub io: TlsStream<S>,
    /// What can be gone on with.
    pub session: Arc<Session>,
}

impl<S> Encrypted<S> {
    /// Did the server go on with a session?
    pub fn is_resumed(&self) -> bool {
        self.io.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The server's certificates, its own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        self.io.get_ref().1.peer_certificates().unwrap_or_default()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Encrypted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.get_mut().io).poll_read(cx, buf) {
            // A peer that closes without saying goodbye has closed.
            Poll::Ready(Err(e)) if e.kind() == io::ErrorKind::UnexpectedEof => Poll::Ready(Ok(())),
            r => r,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Encrypted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
