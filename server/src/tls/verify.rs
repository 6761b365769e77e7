//! Is the other side's certificate to be trusted? As OpenSSL has it: the handshake checks that it has the key; whether
//! the chain is good is asked afterwards, and the answer is a number with a text.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature, verify_tls13_signature_with_raw_key,
};
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
};
use std::sync::Arc;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// What is wrong with a chain: OpenSSL's number and text.
pub type Wrong = (u16, &'static str);

const NOT_YET_VALID: Wrong = (9, "certificate is not yet valid");
const EXPIRED: Wrong = (10, "certificate has expired");
const CRL_EXPIRED: Wrong = (12, "CRL has expired");
const SELF_SIGNED: Wrong = (18, "self-signed certificate");
const SELF_SIGNED_IN_CHAIN: Wrong = (19, "self-signed certificate in certificate chain");
const NO_ISSUER: Wrong = (20, "unable to get local issuer certificate");
const TOO_LONG: Wrong = (22, "certificate chain too long");
const REVOKED: Wrong = (23, "certificate revoked");

/// Accepts every chain; checks that the server has the key of its certificate.
#[derive(Debug)]
pub struct HasKey(pub Arc<CryptoProvider>);

impl ServerCertVerifier for HasKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        match old_key(cert) {
            None => verify_tls12_signature(message, cert, dss, known),
            Some(key) => {
                let mut all = known.mapping.iter().filter(|m| m.0 == dss.scheme).flat_map(|m| m.1);
                match all.any(|a| a.verify_signature(&key, message, dss.signature()).is_ok()) {
                    true => Ok(HandshakeSignatureValid::assertion()),
                    false => Err(CertificateError::BadSignature.into()),
                }
            }
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        match old_key(cert).and_then(|_| public_key(cert)) {
            None => verify_tls13_signature(message, cert, dss, known),
            Some(key) => verify_tls13_signature_with_raw_key(message, &key, dss, known),
        }
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Asks clients for certificates, and accepts every chain whose key they have.
#[derive(Debug)]
pub struct AnyClient {
    key: HasKey,
    /// Names of issuers that clients are told to choose by.
    hints: Vec<DistinguishedName>,
}

impl AnyClient {
    /// Tells clients the names of these issuers.
    pub fn new(provider: Arc<CryptoProvider>, issuers: &[CertificateDer<'_>]) -> AnyClient {
        let names = issuers.iter().filter_map(|c| X509Certificate::from_der(c).ok());
        let hints = names.map(|(_, c)| c.subject().as_raw().to_vec().into()).collect();
        AnyClient { key: HasKey(provider), hints }
    }
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.key.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.key.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.key.supported_verify_schemes()
    }
}

/// Who checks a chain: certificates say whether they are for servers or for clients.
#[derive(Debug)]
enum Verifier {
    Servers(Arc<WebPkiServerVerifier>),
    Clients(Arc<dyn ClientCertVerifier>),
}

/// Whom one side trusts on the other; nobody by default.
#[derive(Debug, Default)]
pub struct Trust {
    /// `None` trusts nobody.
    verifier: Option<Verifier>,
    /// The other side may show one of these itself.
    roots: Vec<CertificateDer<'static>>,
    /// Certificates between the server's and a trusted one, at most.
    depth: u32,
}

impl Trust {
    /// Trusts servers whose certificates these have signed, unless a list revokes them.
    pub fn new(
        roots: &[CertificateDer<'static>],
        crls: &[CertificateRevocationListDer<'static>],
        depth: u32,
    ) -> Result<Trust, String> {
        Trust::made(roots, depth, |store| {
            let builder = WebPkiServerVerifier::builder_with_provider(store, super::provider().clone());
            let builder = builder.with_crls(crls.iter().cloned()).allow_unknown_revocation_status();
            builder.build().map(Verifier::Servers).map_err(|e| e.to_string())
        })
    }

    /// The same for clients.
    pub fn of_clients(
        roots: &[CertificateDer<'static>],
        crls: &[CertificateRevocationListDer<'static>],
        depth: u32,
    ) -> Result<Trust, String> {
        Trust::made(roots, depth, |store| {
            let builder = WebPkiClientVerifier::builder_with_provider(store, super::provider().clone());
            let builder = builder.with_crls(crls.iter().cloned()).allow_unknown_revocation_status();
            builder.build().map(Verifier::Clients).map_err(|e| e.to_string())
        })
    }

    fn made(
        roots: &[CertificateDer<'static>],
        depth: u32,
        verifier: impl FnOnce(Arc<RootCertStore>) -> Result<Verifier, String>,
    ) -> Result<Trust, String> {
        let mut store = RootCertStore::empty();
        store.add_parsable_certificates(roots.iter().cloned());
        let verifier = (!store.is_empty()).then(|| verifier(Arc::new(store))).transpose()?;
        Ok(Trust { verifier, roots: roots.to_vec(), depth })
    }

    /// Is the chain good?
    pub fn check_chain(&self, chain: &[CertificateDer<'_>]) -> Result<(), Wrong> {
        let Some((leaf, rest)) = chain.split_first() else { return Err(NO_ISSUER) };
        let Some(verifier) = &self.verifier else { return Err(unknown_issuer(chain)) };
        if self.roots.contains(leaf) {
            return check_time(leaf);
        }
        // Nobody else has signed it, and the one who has is not trusted.
        if is_self_signed(leaf) {
            return Err(SELF_SIGNED);
        }
        let now = UnixTime::now();
        let checked = match verifier {
            // The name is asked for apart.
            Verifier::Servers(v) => {
                let name = ServerName::try_from("name.invalid").map_err(|_| NO_ISSUER)?;
                v.verify_server_cert(leaf, rest, &name, &[], now).map(|_| ())
            }
            Verifier::Clients(v) => v.verify_client_cert(leaf, rest, now).map(|_| ()),
        };
        match checked {
            Ok(()) => {}
            Err(Error::InvalidCertificate(why)) => match why {
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {}
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    return Err(NOT_YET_VALID);
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => return Err(EXPIRED),
                CertificateError::Revoked => return Err(REVOKED),
                CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. } => return Err(CRL_EXPIRED),
                CertificateError::UnknownIssuer => return Err(unknown_issuer(chain)),
                CertificateError::BadSignature => return Err((7, "certificate signature failure")),
                CertificateError::UnknownRevocationStatus => {
                    return Err((3, "unable to get certificate CRL"));
                }
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                    return Err((26, "unsuitable certificate purpose"));
                }
                CertificateError::UnhandledCriticalExtension => {
                    return Err((34, "unhandled critical extension"));
                }
                _ => return Err((1, "unspecified certificate verification error")),
            },
            Err(_) => return Err((1, "unspecified certificate verification error")),
        }
        if between(chain) > self.depth as usize { Err(TOO_LONG) } else { Ok(()) }
    }
}

/// The public key of a certificate, with its algorithm.
pub fn public_key(cert: &CertificateDer<'_>) -> Option<SubjectPublicKeyInfoDer<'static>> {
    let (_, c) = X509Certificate::from_der(cert).ok()?;
    Some(c.public_key().raw.to_vec().into())
}

/// The bare public key of a certificate of X.509's first version: rustls reads only later ones, but there is no more to
/// such a certificate than its key.
fn old_key(cert: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, c) = X509Certificate::from_der(cert).ok()?;
    (c.version() == X509Version::V1).then(|| c.public_key().subject_public_key.data.to_vec())
}

/// Is the certificate one of that name? One without alternative names is one of its common name.
pub fn check_name(leaf: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(wanted) = ServerName::try_from(name) else { return false };
    let parsed = rustls::server::ParsedCertificate::try_from(leaf);
    if parsed.is_ok_and(|c| rustls::client::verify_server_name(&c, &wanted).is_ok()) {
        return true;
    }
    let Ok((_, c)) = X509Certificate::from_der(leaf) else { return false };
    if !matches!(wanted, ServerName::DnsName(_)) || !matches!(c.subject_alternative_name(), Ok(None)) {
        return false;
    }
    c.subject().iter_common_name().any(|cn| cn.as_str().is_ok_and(|cn| is_of(cn, name)))
}

/// Is `name` what a common name says: itself, or with another word for a star at the beginning?
fn is_of(common: &str, name: &str) -> bool {
    match common.strip_prefix("*.") {
        Some(rest) => {
            rest.contains('.') && name.split_once('.').is_some_and(|(_, n)| n.eq_ignore_ascii_case(rest))
        }
        None => common.eq_ignore_ascii_case(name),
    }
}

/// Is a certificate valid now?
fn check_time(cert: &CertificateDer<'_>) -> Result<(), Wrong> {
    let Ok((_, c)) = X509Certificate::from_der(cert) else { return Err(NO_ISSUER) };
    let now = UnixTime::now().as_secs() as i64;
    if now < c.validity().not_before.timestamp() {
        Err(NOT_YET_VALID)
    } else if now > c.validity().not_after.timestamp() {
        Err(EXPIRED)
    } else {
        Ok(())
    }
}

fn is_self_signed(cert: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(cert).is_ok_and(|(_, c)| c.subject().as_raw() == c.issuer().as_raw())
}

/// Why nobody known has issued a chain.
fn unknown_issuer(chain: &[CertificateDer<'_>]) -> Wrong {
    match chain {
        [leaf, ..] if is_self_signed(leaf) => SELF_SIGNED,
        [_, rest @ ..] if rest.iter().any(is_self_signed) => SELF_SIGNED_IN_CHAIN,
        _ => NO_ISSUER,
    }
}

/// How many certificates of a good chain lie between its first and what is trusted: the issuers that were sent along, but for
/// one that signed itself.
fn between(chain: &[CertificateDer<'_>]) -> usize {
    let parsed: Vec<_> =
        chain.iter().filter_map(|c| X509Certificate::from_der(c).ok().map(|c| c.1)).collect();
    let Some(mut at) = parsed.first() else { return 0 };
    let mut n = 0;
    while n < parsed.len()
        && let Some(issuer) = parsed.iter().find(|c| c.subject().as_raw() == at.issuer().as_raw())
        && issuer.subject().as_raw() != issuer.issuer().as_raw()
    {
        n += 1;
        at = issuer;
    }
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::sign::CertifiedKey;

    /// A certificate of X.509's first version for the common name `old.test`, made with `openssl x509 -req`, and its key.
    const OLD: &str = include_str!("../../tests/certificates/old.pem");

    fn old() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_slice(OLD.as_bytes()).expect("a certificate");
        (cert, PrivateKeyDer::from_pem_slice(OLD.as_bytes()).expect("a key"))
    }

    #[test]
    fn common_names_count_without_alternative_names() {
        let (old, _) = old();
        assert!(check_name(&old, "old.test") && check_name(&old, "OLD.test"));
        assert!(!check_name(&old, "x.old.test") && !check_name(&old, "127.0.0.1"));
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut p = rcgen::CertificateParams::new(vec!["san.test".to_owned()]).expect("a name");
        p.distinguished_name.push(rcgen::DnType::CommonName, "cn.test");
        let cert = p.self_signed(&key).expect("a certificate");
        assert!(check_name(cert.der(), "san.test") && !check_name(cert.der(), "cn.test"));
        for (common, name, is) in [
            ("*.a.test", "b.a.test", true),
            ("*.a.test", "c.b.a.test", false),
            ("*.a.test", "a.test", false),
            ("*.test", "a.test", false),
        ] {
            assert_eq!(is_of(common, name), is, "{common} {name}");
        }
    }

    #[test]
    fn certificates_of_the_first_version_are_shown_and_accepted() {
        use crate::tls::{client, server};
        let (cert, key) = old();
        let key = super::super::provider().key_provider.load_private_key(key).expect("a key");
        let identity = Arc::new(CertifiedKey::new(vec![cert.clone()], key));
        for version in rustls::ALL_VERSIONS {
            let offer = || crate::tls::names::Offer { versions: vec![version], ..Default::default() };
            let side = server::Side::new(server::ServerSettings {
                offer: offer(),
                identities: vec![identity.clone()],
                record_bytes: 16_384,
                ..Default::default()
            });
            let config = side.expect("a side").config();
            let trust = Trust::new(std::slice::from_ref(&cert), &[], 1).expect("a root");
            let settings = client::ClientSettings { offer: offer(), trust, ..Default::default() };
            let client = client::Client::new(settings);
            run(async {
                let (a, b) = tokio::io::duplex(1 << 16);
                let server = tokio::task::spawn_local(async move {
                    tokio_rustls::TlsAcceptor::from(config).accept(b).await.map(|_| ())
                });
                let io = client.handshake(Some("old.test"), None).expect("a client").over(a).await;
                let io = io.unwrap_or_else(|e| panic!("{e}"));
                server.await.expect("no panic").expect("a handshake");
                assert_eq!(client.check(io.chain(), Some("old.test")), Ok(()));
            });
        }
    }
}
