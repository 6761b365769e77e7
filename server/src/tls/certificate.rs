//! What variables tell of a certificate, in OpenSSL's forms.

use base64_simd::STANDARD;
use rustls::pki_types::CertificateDer;
use sha1::{Digest, Sha1};
use x509_parser::prelude::{ASN1Time, AttributeTypeAndValue, FromDer, X509Certificate, X509Name};

/// Columns of a line of PEM.
const PEM_COLUMNS: usize = 64;

/// The certificate as PEM, with a line end after its last line.
pub fn pem(cert: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode_to_string(cert.as_ref());
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(PEM_COLUMNS) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// SHA-1 of the certificate in hexadecimal digits.
pub fn fingerprint(cert: &CertificateDer<'_>) -> String {
    Sha1::digest(cert.as_ref()).iter().map(|b| format!("{b:02x}")).collect()
}

/// Whose name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The certificate's owner.
    Subject,
    /// Who has signed it.
    Issuer,
}

fn parsed<R>(cert: &CertificateDer<'_>, f: impl FnOnce(&X509Certificate<'_>) -> R) -> Option<R> {
    X509Certificate::from_der(cert).ok().map(|(_, c)| f(&c))
}

fn name_of<'a>(c: &'a X509Certificate<'a>, who: Who) -> &'a X509Name<'a> {
    match who {
        Who::Subject => c.subject(),
        Who::Issuer => c.issuer(),
    }
}

/// A name by RFC 2253: the last part first, what has a meaning there escaped.
pub fn name(cert: &CertificateDer<'_>, who: Who) -> Option<String> {
    parsed(cert, |c| {
        let mut parts: Vec<String> = Vec::new();
        for rdn in name_of(c, who).iter_rdn() {
            let all: Vec<String> = rdn.iter().map(|a| format!("{}={}", key(a), escaped(value(a)))).collect();
            parts.push(all.join("+"));
        }
        parts.reverse();
        parts.join(",")
    })
}

/// A name in the form that was used before: `/C=US/CN=name`.
pub fn legacy_name(cert: &CertificateDer<'_>, who: Who) -> Option<String> {
    parsed(cert, |c| {
        let mut out = String::new();
        for a in name_of(c, who).iter_attributes() {
            out.push('/');
            out.push_str(&key(a));
            out.push('=');
            for b in value(a) {
                match b {
                    b' '..=b'~' => out.push(char::from(*b)),
                    _ => out.push_str(&format!("\\x{b:02X}")),
                }
            }
        }
        out
    })
}

/// The number, in hexadecimal digits.
pub fn serial(cert: &CertificateDer<'_>) -> Option<String> {
    parsed(cert, |c| {
        let digits: String =
            c.raw_serial().iter().skip_while(|b| **b == 0).map(|b| format!("{b:02X}")).collect();
        if digits.is_empty() { "00".to_owned() } else { digits }
    })
}

/// From when it is valid.
pub fn valid_from(cert: &CertificateDer<'_>) -> Option<String> {
    parsed(cert, |c| time(c.validity().not_before))
}

/// Until when it is valid.
pub fn valid_to(cert: &CertificateDer<'_>) -> Option<String> {
    parsed(cert, |c| time(c.validity().not_after))
}

/// Days that are left at this time, in seconds since 1970.
pub fn days_left(cert: &CertificateDer<'_>, now_s: i64) -> Option<u64> {
    parsed(cert, |c| {
        let left = c.validity().not_after.timestamp().saturating_sub(now_s);
        u64::try_from(left).unwrap_or(0) / 86_400
    })
}

fn time(t: ASN1Time) -> String {
    let t = t.to_datetime();
    let month: &str = &t.month().to_string()[..3];
    format!("{month} {:2} {:02}:{:02}:{:02} {} GMT", t.day(), t.hour(), t.minute(), t.second(), t.year())
}

/// Short names of what names are made of; the others go by their numbers.
const KEYS: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "street"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.13", "description"),
    ("2.5.4.15", "businessCategory"),
    ("2.5.4.17", "postalCode"),
    ("2.5.4.41", "name"),
    ("2.5.4.42", "GN"),
    ("2.5.4.43", "initials"),
    ("2.5.4.44", "generationQualifier"),
    ("2.5.4.46", "dnQualifier"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

fn key(a: &AttributeTypeAndValue<'_>) -> String {
    let number = a.attr_type().to_id_string();
    KEYS.iter().find(|k| k.0 == number).map_or(number, |k| k.1.to_owned())
}

fn value<'a>(a: &'a AttributeTypeAndValue<'a>) -> &'a [u8] {
    a.as_slice()
}

fn escaped(value: &[u8]) -> String {
    let mut out = String::new();
    for (i, b) in value.iter().enumerate() {
        let edge = i == 0 || i + 1 == value.len();
        match b {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' => out.extend(['\\', char::from(*b)]),
            b' ' if edge => out.push_str("\\ "),
            b'#' if i == 0 => out.push_str("\\#"),
            b' '..=b'~' => out.push(char::from(*b)),
            _ => out.push_str(&format!("\\{b:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber, date_time_ymd};

    #[test]
    fn certificates_are_told_in_openssls_forms() {
        let mut p = CertificateParams::new(vec!["a.test".to_owned()]).expect("a name");
        p.distinguished_name = rcgen::DistinguishedName::new();
        p.distinguished_name.push(DnType::CountryName, "SE");
        p.distinguished_name.push(DnType::OrganizationName, "A, B + \u{e4} ");
        p.distinguished_name.push(DnType::CommonName, "#name");
        p.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc]));
        p.not_before = date_time_ymd(2024, 1, 5);
        p.not_after = date_time_ymd(2031, 12, 25);
        let cert = p.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        let c = cert.der();
        assert_eq!(name(c, Who::Subject).unwrap(), "CN=\\#name,O=A\\, B \\+ \\C3\\A4\\ ,C=SE");
        assert_eq!(legacy_name(c, Who::Issuer).unwrap(), "/C=SE/O=A, B + \\xC3\\xA4 /CN=#name");
        assert_eq!(serial(c).unwrap(), "0ABC");
        assert_eq!(valid_from(c).unwrap(), "Jan  5 00:00:00 2024 GMT");
        assert_eq!(valid_to(c).unwrap(), "Dec 25 00:00:00 2031 GMT");
        assert_eq!(days_left(c, 1_955_923_200), Some(0));
        assert_eq!(days_left(c, 1_955_923_200 - 3 * 86_400), Some(3));
        assert_eq!(pem(c).lines().next(), Some("-----BEGIN CERTIFICATE-----"));
        assert!(pem(c).lines().all(|l| l.len() <= 64) && pem(c).ends_with("CERTIFICATE-----\n"));
        assert_eq!(fingerprint(c).len(), 40);
        assert!(name(&CertificateDer::from(vec![1, 2]), Who::Subject).is_none());
    }
}
