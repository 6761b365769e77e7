//! Certificates, keys and revocation lists from PEM files, with OpenSSL's words for what is wrong.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Longest key for tickets.
const TICKET_KEY_BYTES_MAX: u64 = 80;

/// What OpenSSL's queue of errors says of a file that cannot be opened.
fn not_opened(path: &Path, e: &std::io::Error) -> String {
    let shown = e.to_string();
    let reason = shown.split(" (os error").next().unwrap_or_default();
    let number = e.raw_os_error().unwrap_or(0);
    let then = match e.kind() {
        std::io::ErrorKind::NotFound => "error:10000080:BIO routines::no such file",
        _ => "error:10080002:BIO routines::system lib",
    };
    format!(
        "SSL: error:{:08X}:system library::{reason}:calling fopen({}, r) {then}",
        0x8000_0000u32 | number as u32,
        path.display()
    )
}

/// Looks whether a file can be read. The error is OpenSSL's text.
pub fn is_readable(path: &Path) -> Result<(), String> {
    std::fs::File::open(path).map(|_| ()).map_err(|e| not_opened(path, &e))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| not_opened(path, &e))?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| not_opened(path, &e))?;
    Ok(bytes)
}

/// Where a certificate or key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pem {
    /// In a file, and how that was written.
    File(PathBuf, String),
    /// In the configuration: `data:TEXT`.
    Data(String),
}

impl std::fmt::Display for Pem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Pem::File(path, _) => write!(f, "{}", path.display()),
            Pem::Data(text) => write!(f, "data:{text}"),
        }
    }
}

impl Pem {
    fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Pem::File(path, _) => read(path),
            Pem::Data(text) => Ok(text.clone().into_bytes()),
        }
    }
}

/// What is wrong with the text of a PEM file where something was expected.
fn no_start_line(what: &str) -> String {
    format!("SSL: error:0480006C:PEM routines::no start line:Expecting: {what}")
}

fn bad_pem(e: pem::Error) -> String {
    format!("SSL: error:04800064:PEM routines::bad base64 decode: {e}")
}

/// Certificates: a chain, the leaf first, or those that are trusted.
pub fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |call: &str, e: String| format!("cannot load certificate \"{pem}\": {call}() failed ({e})");
    let bytes = pem.bytes().map_err(|e| told("BIO_new_file", e))?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| told("PEM_read_bio_X509_AUX", bad_pem(e)))?;
    match all.is_empty() {
        true => Err(told("PEM_read_bio_X509_AUX", no_start_line("TRUSTED CERTIFICATE"))),
        false => Ok(all),
    }
}

/// A private key.
pub fn key(pem: &Pem) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = pem.bytes().map_err(|e| format!("BIO_new_file() failed ({e})"))?;
    let fail = |e: &str| format!("PEM_read_bio_PrivateKey() failed ({e})");
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| match e {
        pem::Error::NoItemsFound => fail(&match memchr::memmem::find(&bytes, b"ENCRYPTED PRIVATE KEY") {
            Some(_) => "encrypted keys are not supported yet".to_owned(),
            None => no_start_line("ANY PRIVATE KEY"),
        }),
        e => fail(&bad_pem(e)),
    })
}

/// A chain with its key, which must fit.
pub fn identity(certificate: &Pem, key_file: &Pem) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(certificate)?;
    let told = |e: String| format!("cannot load certificate key \"{key_file}\": {e}");
    let key = key(key_file).map_err(told)?;
    let key = super::provider().key_provider.load_private_key(key);
    let key = key.map_err(|e| told(format!("PEM_read_bio_PrivateKey() failed (SSL: {e})")))?;
    let of_key = key.public_key();
    let fits = of_key.is_none_or(|of_key| {
        let of_leaf = chain.first().and_then(super::verify::public_key);
        of_leaf.is_some_and(|of_leaf| of_leaf.as_ref() == of_key.as_ref())
    });
    match fits {
        true => Ok(Arc::new(CertifiedKey::new(chain, key))),
        false => Err(format!(
            "SSL_CTX_use_PrivateKey(\"{key_file}\") failed (SSL: error:05800074:x509 certificate routines::key values mismatch)"
        )),
    }
}

/// Certificates, each with the key in the same place. `directive` is the one that gives keys.
pub fn identities(
    certificates: &[Pem],
    keys: &[Pem],
    directive: &str,
) -> Result<Vec<Arc<CertifiedKey>>, String> {
    if certificates.len() > keys.len()
        && let Some(last) = certificates.last()
    {
        let last = match last {
            Pem::File(_, written) => written.clone(),
            Pem::Data(_) => last.to_string(),
        };
        return Err(format!("no \"{directive}\" is defined for certificate \"{last}\""));
    }
    certificates.iter().zip(keys).map(|(c, k)| identity(c, k)).collect()
}

/// A key for tickets: its bytes as they are. `Err` is a text for the log.
pub fn ticket_key(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::File::open(path).and_then(|f| {
        let mut bytes = Vec::new();
        f.take(TICKET_KEY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = bytes.map_err(|e| {
        let shown = e.to_string();
        let reason = shown.split(" (os error").next().unwrap_or_default();
        let number = e.raw_os_error().unwrap_or(0);
        format!("open() \"{}\" failed ({number}: {reason})", path.display())
    })?;
    match bytes.len() {
        48 | 80 => Ok(bytes),
        _ => Err(format!("\"{}\" must be 48 or 80 bytes", path.display())),
    }
}

/// Revocation lists.
pub fn crls(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let told =
        |call: &str, e: String| format!("cannot load CRL \"{}\": {call}() failed ({e})", path.display());
    let bytes = read(path).map_err(|e| told("BIO_new_file", e))?;
    let all = CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| told("PEM_read_bio_X509_CRL", bad_pem(e)))?;
    match all.is_empty() {
        true => Err(told("PEM_read_bio_X509_CRL", no_start_line("X509 CRL"))),
        false => Ok(all),
    }
}
