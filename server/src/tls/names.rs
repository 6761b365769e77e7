//! Names of protocols and ciphers, in OpenSSL's words, and what of them can be spoken here: TLS 1.2 with forward secrecy and
//! authenticated encryption, and TLS 1.3.

use rustls::crypto::SupportedKxGroup;
use rustls::{CipherSuite, NamedGroup, ProtocolVersion, SupportedCipherSuite, SupportedProtocolVersion};

/// What a side offers.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Versions.
    pub versions: Vec<&'static SupportedProtocolVersion>,
    /// Ciphers of TLS 1.2, in order of preference. Those of TLS 1.3 are always offered.
    pub suites: Vec<SupportedCipherSuite>,
}

impl Default for Offer {
    fn default() -> Offer {
        Offer { versions: rustls::ALL_VERSIONS.to_vec(), suites: tls12_suites() }
    }
}

/// Protocols by name, in the words of `ssl_protocols`, and whether they are spoken here.
const PROTOCOLS: &[(&str, Option<&SupportedProtocolVersion>)] = &[
    ("SSLv2", None),
    ("SSLv3", None),
    ("TLSv1", None),
    ("TLSv1.1", None),
    ("TLSv1.2", Some(&rustls::version::TLS12)),
    ("TLSv1.3", Some(&rustls::version::TLS13)),
];

/// The version of that name: `Some(None)` for one that is not spoken, `None` when there is none.
pub fn protocol(word: &str) -> Option<Option<&'static SupportedProtocolVersion>> {
    PROTOCOLS.iter().find(|p| p.0.eq_ignore_ascii_case(word)).map(|p| p.1)
}

/// The name of a version.
pub fn version_name(v: ProtocolVersion) -> &'static str {
    match v {
        ProtocolVersion::TLSv1_2 => "TLSv1.2",
        ProtocolVersion::TLSv1_3 => "TLSv1.3",
        _ => "unknown",
    }
}

/// Ciphers that clients offer and that are not spoken here: number and OpenSSL's name.
const OTHER_CIPHERS: &[(u16, &str)] = &[
    (0x002f, "AES128-SHA"),
    (0x0033, "DHE-RSA-AES128-SHA"),
    (0x0035, "AES256-SHA"),
    (0x0039, "DHE-RSA-AES256-SHA"),
    (0x003c, "AES128-SHA256"),
    (0x003d, "AES256-SHA256"),
    (0x0067, "DHE-RSA-AES128-SHA256"),
    (0x006b, "DHE-RSA-AES256-SHA256"),
    (0x009c, "AES128-GCM-SHA256"),
    (0x009d, "AES256-GCM-SHA384"),
    (0x009e, "DHE-RSA-AES128-GCM-SHA256"),
    (0x009f, "DHE-RSA-AES256-GCM-SHA384"),
    (0x00ff, "TLS_EMPTY_RENEGOTIATION_INFO_SCSV"),
    (0xc009, "ECDHE-ECDSA-AES128-SHA"),
    (0xc00a, "ECDHE-ECDSA-AES256-SHA"),
    (0xc013, "ECDHE-RSA-AES128-SHA"),
    (0xc014, "ECDHE-RSA-AES256-SHA"),
    (0xc023, "ECDHE-ECDSA-AES128-SHA256"),
    (0xc024, "ECDHE-ECDSA-AES256-SHA384"),
    (0xc027, "ECDHE-RSA-AES128-SHA256"),
    (0xc028, "ECDHE-RSA-AES256-SHA384"),
    (0xccaa, "DHE-RSA-CHACHA20-POLY1305"),
];

/// Ciphers, as `$ssl_ciphers` lists them: by name, those without one by number.
pub fn cipher_list(all: &[CipherSuite]) -> String {
    let one = |c: &CipherSuite| match cipher_name(*c) {
        "unknown" => {
            let number = u16::from(*c);
            let other = OTHER_CIPHERS.iter().find(|o| o.0 == number);
            other.map_or_else(|| format!("0x{number:04x}"), |o| o.1.to_owned())
        }
        name => name.to_owned(),
    };
    all.iter().map(one).collect::<Vec<_>>().join(":")
}

/// Groups: OpenSSL's name, number.
const GROUPS: &[(&str, NamedGroup)] = &[
    ("prime256v1", NamedGroup::secp256r1),
    ("secp384r1", NamedGroup::secp384r1),
    ("secp521r1", NamedGroup::secp521r1),
    ("X25519", NamedGroup::X25519),
    ("X448", NamedGroup::X448),
    ("ffdhe2048", NamedGroup::FFDHE2048),
    ("ffdhe3072", NamedGroup::FFDHE3072),
    ("ffdhe4096", NamedGroup::FFDHE4096),
    ("ffdhe6144", NamedGroup::FFDHE6144),
    ("ffdhe8192", NamedGroup::FFDHE8192),
    ("SecP256r1MLKEM768", NamedGroup::secp256r1MLKEM768),
    ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
    ("MLKEM768", NamedGroup::MLKEM768),
    ("MLKEM1024", NamedGroup::MLKEM1024),
];

/// A group, by name, or by number when it has none.
pub fn group_name(g: NamedGroup) -> String {
    let known = GROUPS.iter().find(|k| k.1 == g);
    known.map_or_else(|| format!("0x{:04x}", u16::from(g)), |k| k.0.to_owned())
}

/// Groups of a list like `X25519:prime256v1`, in its order; `auto` leaves the choice. The error is the name that
/// nobody knows, or all names when none of them is there.
pub fn groups(list: &str) -> Result<Vec<&'static dyn SupportedKxGroup>, String> {
    if list == "auto" {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for word in list.split(':').filter(|w| !w.is_empty()) {
        let alias = match word {
            "P-256" | "secp256r1" => "prime256v1",
            "P-384" => "secp384r1",
            "P-521" => "secp521r1",
            other => other,
        };
        let known = GROUPS.iter().find(|k| k.0.eq_ignore_ascii_case(alias)).ok_or_else(|| word.to_owned())?;
        found.extend(super::provider().kx_groups.iter().find(|g| g.name() == known.1).copied());
    }
    if found.is_empty() { Err(list.to_owned()) } else { Ok(found) }
}

/// Ciphers: OpenSSL's name, the suite, whether the server's key is for ECDSA (TLS 1.2 only).
const CIPHERS: &[(&str, CipherSuite, bool)] = &[
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, true),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, false),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, true),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, false),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, true),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, false),
];

/// Those of TLS 1.3.
const CIPHERS13: &[(&str, CipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
];

/// OpenSSL's name of a cipher.
pub fn cipher_name(suite: CipherSuite) -> &'static str {
    let old = CIPHERS.iter().map(|c| (c.0, c.1));
    old.chain(CIPHERS13.iter().copied()).find(|c| c.1 == suite).map_or("unknown", |c| c.0)
}

fn supported(suite: CipherSuite) -> Option<SupportedCipherSuite> {
    super::provider().cipher_suites.iter().copied().find(|s| s.suite() == suite)
}

/// All ciphers of TLS 1.2.
fn tls12_suites() -> Vec<SupportedCipherSuite> {
    CIPHERS.iter().filter_map(|c| supported(c.1)).collect()
}

/// All ciphers of TLS 1.3.
pub fn tls13_suites() -> impl Iterator<Item = SupportedCipherSuite> {
    CIPHERS13.iter().filter_map(|c| supported(c.1))
}

/// Does a word of a list (parts joined by `+`: all must hold) name this cipher?
fn is_named(word: &str, name: &str, ecdsa: bool) -> bool {
    word.split('+').all(|part| match part {
        "ALL" | "DEFAULT" | "HIGH" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "AEAD" => true,
        "ECDSA" | "aECDSA" => ecdsa,
        "RSA" | "aRSA" => part == "aRSA" && !ecdsa,
        "AES" | "AESGCM" => name.contains("AES"),
        "AES128" | "AES256" => name.contains(part),
        "CHACHA20" => name.contains(part),
        "SHA256" | "SHA384" => name.ends_with(part),
        _ => part == name,
    })
}

/// Reads a list in OpenSSL's form (`HIGH:!aNULL:ECDHE-RSA-AES128-GCM-SHA256`). What it names and is not spoken here is
/// as in an OpenSSL that was built without it: nothing. `None` when no cipher of TLS 1.2 is left.
pub fn ciphers(list: &str) -> Option<Vec<SupportedCipherSuite>> {
    let mut chosen: Vec<usize> = Vec::new();
    let mut banned = [false; CIPHERS.len()];
    for word in list.split([':', ',', ' ']).filter(|w| !w.is_empty()) {
        let (sign, name) = match word.as_bytes()[0] {
            s @ (b'!' | b'-' | b'+') => (s, &word[1..]),
            b'@' => continue,
            _ => (b' ', word),
        };
        let named: Vec<usize> =
            (0..CIPHERS.len()).filter(|&i| is_named(name, CIPHERS[i].0, CIPHERS[i].2)).collect();
        match sign {
            b'!' | b'-' => {
                chosen.retain(|i| !named.contains(i));
                named.iter().for_each(|&i| banned[i] |= sign == b'!');
            }
            b'+' => {
                let (last, first): (Vec<_>, Vec<_>) = chosen.iter().partition(|i| named.contains(i));
                chosen = [first, last].concat();
            }
            _ => {
                let fresh = named.into_iter().filter(|i| !banned[*i] && !chosen.contains(i));
                let fresh: Vec<usize> = fresh.collect();
                chosen.extend(fresh);
            }
        }
    }
    let suites: Vec<_> = chosen.into_iter().filter_map(|i| supported(CIPHERS[i].1)).collect();
    (!suites.is_empty()).then_some(suites)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<&'static str> {
        ciphers(list).unwrap_or_default().iter().map(|s| cipher_name(s.suite())).collect()
    }

    #[test]
    fn lists_are_read_as_openssl_reads_them() {
        assert_eq!(names("HIGH:!aNULL:!MD5").len(), 6);
        assert_eq!(names("ECDHE-RSA-AES128-GCM-SHA256"), ["ECDHE-RSA-AES128-GCM-SHA256"]);
        assert_eq!(
            names("ECDHE+AESGCM:!ECDSA:AES128-SHA"),
            ["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"]
        );
        assert_eq!(
            names("CHACHA20:ALL:!AES256:+CHACHA20:@STRENGTH")[..2],
            ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"]
        );
        assert_eq!(names("!ECDSA:ECDSA"), [""; 0]);
        assert!(ciphers("RC4-MD5:DES-CBC3-SHA").is_none() && ciphers("").is_none());
    }

    #[test]
    fn groups_and_offered_ciphers_have_openssls_names() {
        let named =
            |list| groups(list).map(|all| all.iter().map(|g| group_name(g.name())).collect::<Vec<_>>());
        assert_eq!(named("P-384:X25519:X448"), Ok(vec!["secp384r1".to_owned(), "X25519".to_owned()]));
        assert_eq!(named("auto"), Ok(Vec::new()));
        assert_eq!(named("X25519:nothing"), Err("nothing".to_owned()));
        assert_eq!(named("X448"), Err("X448".to_owned()));
        assert_eq!(group_name(NamedGroup::Unknown(0x1a2b)), "0x1a2b");
        let offered = [
            CipherSuite::TLS13_AES_128_GCM_SHA256,
            CipherSuite::TLS_RSA_WITH_AES_128_CBC_SHA,
            CipherSuite::Unknown(0x1a1a),
        ];
        assert_eq!(cipher_list(&offered), "TLS_AES_128_GCM_SHA256:AES128-SHA:0x1a1a");
    }

    #[test]
    fn protocols_are_known_although_not_all_are_spoken() {
        assert!(matches!(protocol("TLSv1.2"), Some(Some(_))));
        assert!(matches!(protocol("SSLv3"), Some(None)));
        assert!(protocol("TLSv2").is_none());
        assert_eq!(cipher_name(CipherSuite::TLS13_AES_128_GCM_SHA256), "TLS_AES_128_GCM_SHA256");
    }
}
