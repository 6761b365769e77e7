//! Certificates, keys and revocation lists from PEM files, with OpenSSL's words for what is wrong.

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

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

fn read(path: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|e| not_opened(path, &e))?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| not_opened(path, &e))?;
    Ok(bytes)
}

/// What is wrong with the text of a PEM file where something was expected.
fn no_start_line(what: &str) -> String {
    format!("SSL: error:0480006C:PEM routines::no start line:Expecting: {what}")
}

fn bad_pem(e: pem::Error) -> String {
    format!("SSL: error:04800064:PEM routines::bad base64 decode: {e}")
}

/// Certificates: a chain, the leaf first, or those that are trusted.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let told = |call: &str, e: String| {
        format!("cannot load certificate \"{}\": {call}() failed ({e})", path.display())
    };
    let bytes = read(path).map_err(|e| told("BIO_new_file", e))?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|e| told("PEM_read_bio_X509_AUX", bad_pem(e)))?;
    match all.is_empty() {
        true => Err(told("PEM_read_bio_X509_AUX", no_start_line("TRUSTED CERTIFICATE"))),
        false => Ok(all),
    }
}

/// A private key.
pub fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let bytes = read(path).map_err(|e| format!("BIO_new_file() failed ({e})"))?;
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
pub fn identity(certificate: &Path, key_file: &Path) -> Result<Arc<CertifiedKey>, String> {
    let chain = certificates(certificate)?;
    let told = |e: String| format!("cannot load certificate key \"{}\": {e}", key_file.display());
    let key = key(key_file).map_err(told)?;
    let key = super::provider().key_provider.load_private_key(key);
    let key = key.map_err(|e| told(format!("PEM_read_bio_PrivateKey() failed (SSL: {e})")))?;
    let both = CertifiedKey::new(chain, key);
    match both.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {
            Ok(Arc::new(both))
        }
        Err(_) => Err(format!(
            "SSL_CTX_use_PrivateKey(\"{}\") failed (SSL: error:05800074:x509 certificate routines::key values mismatch)",
            key_file.display()
        )),
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
