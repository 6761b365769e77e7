//! Session tickets whose keys all workers know without talking to each other: a key is made from a secret, which the
//! master draws before it forks, and from the time. A ticket is sealed as a record of TLS 1.3 is, with a key and a
//! starting point that serve no other.

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, Iv, OutboundChunks, OutboundPlainMessage, Tls13AeadAlgorithm,
};
use rustls::crypto::tls13::{Hkdf, HkdfExpander};
use rustls::server::ProducesTickets;
use rustls::{ContentType, ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a secret that is drawn.
const SECRET_BYTES: usize = 48;
/// Bytes in front of what is sealed: the number of the period, and what the key depends on beside it.
const HEAD_BYTES: usize = 8 + SALT_BYTES;
const SALT_BYTES: usize = 16;
/// A record's header.
const RECORD_HEADER_BYTES: usize = 5;
/// Largest ticket: what a record holds.
const PLAIN_BYTES_MAX: usize = 16_000;

/// Makes tickets and reads them again.
pub struct Tickets {
    /// The first seals; all open.
    secrets: Vec<Vec<u8>>,
    lifetime_s: u32,
    suite: &'static Tls13CipherSuite,
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of every text.
        f.debug_struct("Tickets").field("lifetime_s", &self.lifetime_s).finish_non_exhaustive()
    }
}

impl Tickets {
    /// Tickets that can be used for so many seconds at least. The first secret seals, all of them open; without any, one
    /// is drawn. `Err` when the system has no random numbers.
    pub fn new(mut secrets: Vec<Vec<u8>>, lifetime_s: u32) -> Result<Tickets, String> {
        let provider = super::provider();
        if secrets.is_empty() {
            let mut drawn = vec![0; SECRET_BYTES];
            provider.secure_random.fill(&mut drawn).map_err(|_| "no random numbers".to_owned())?;
            secrets.push(drawn);
        }
        let suite = provider.cipher_suites.iter().find_map(SupportedCipherSuite::tls13);
        let suite = suite.ok_or_else(|| "no cipher of TLS 1.3".to_owned())?;
        Ok(Tickets { secrets, lifetime_s: lifetime_s.max(1), suite })
    }

    /// A key holds for as long as a ticket; the one before it still opens.
    fn period(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        now / u64::from(self.lifetime_s)
    }

    /// The key and starting point for what begins with these bytes.
    fn key(&self, secret: &[u8], head: &[u8]) -> (AeadKey, Iv) {
        let (hkdf, aead): (&dyn Hkdf, &dyn Tls13AeadAlgorithm) =
            (self.suite.hkdf_provider, self.suite.aead_alg);
        let from = hkdf.extract_from_secret(None, secret);
        (expand_key(&*from, head, aead.key_len()), Iv::from(expand(&*from, b"iv", head)))
    }

    fn seal(&self, plain: &[u8], period: u64) -> Option<Vec<u8>> {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(&period.to_be_bytes());
        super::provider().secure_random.fill(&mut head[8..]).ok()?;
        let (key, iv) = self.key(self.secrets.first()?, &head);
        let record = OutboundPlainMessage {
            typ: ContentType::ApplicationData,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(plain),
        };
        let sealed = self.suite.aead_alg.encrypter(key, iv).encrypt(record, 0).ok()?.encode();
        Some([&head, sealed.get(RECORD_HEADER_BYTES..)?].concat())
    }

    fn open(&self, ticket: &[u8], period: u64) -> Option<Vec<u8>> {
        let (head, sealed) = ticket.split_at_checked(HEAD_BYTES)?;
        let made = u64::from_be_bytes(head[..8].try_into().ok()?);
        if made != period && made.checked_add(1) != Some(period) {
            return None;
        }
        self.secrets.iter().find_map(|secret| {
            let (key, iv) = self.key(secret, head);
            let mut sealed = sealed.to_vec();
            let record = InboundOpaqueMessage::new(
                ContentType::ApplicationData,
                ProtocolVersion::TLSv1_2,
                &mut sealed,
            );
            let opened = self.suite.aead_alg.decrypter(key, iv).decrypt(record, 0).ok()?;
            Some(opened.payload.to_vec())
        })
    }
}

/// Thirty-two bytes, cut to the key's length by the algorithm itself.
fn expand_key(from: &dyn HkdfExpander, head: &[u8], len: usize) -> AeadKey {
    debug_assert!(len == 32, "the first cipher of TLS 1.3 has keys of 256 bits");
    AeadKey::from(expand::<32>(from, b"key", head))
}

fn expand<const N: usize>(from: &dyn HkdfExpander, what: &[u8], head: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    // Only lengths beyond 255 blocks are refused.
    let _ = from.expand_slice(&[b"moonlit ticket ", what, head], &mut out);
    out
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime_s
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        (plain.len() <= PLAIN_BYTES_MAX).then(|| self.seal(plain, self.period()))?
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, self.period())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_are_opened_by_who_knows_the_secret_until_they_are_old() {
        let of = |secrets: &[u8]| {
            Tickets::new(secrets.iter().map(|s| vec![*s; SECRET_BYTES]).collect(), 300).expect("secrets")
        };
        let (a, both, b) = (of(&[1]), of(&[2, 1]), of(&[2]));
        let ticket = a.seal(b"a session", 7).expect("sealed");
        assert_ne!(ticket, a.seal(b"a session", 7).expect("sealed"));
        for (who, period, opens) in
            [(&a, 7, true), (&a, 8, true), (&both, 8, true), (&a, 9, false), (&a, 6, false), (&b, 7, false)]
        {
            assert_eq!(who.open(&ticket, period).is_some_and(|p| p == b"a session"), opens, "{period}");
        }
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert!(a.open(&changed, 7).is_none(), "byte {at}");
            assert!(a.open(&ticket[..at], 7).is_none(), "length {at}");
        }
        assert!(a.encrypt(&[0; PLAIN_BYTES_MAX + 1]).is_none());
    }

    #[test]
    fn secrets_that_are_drawn_differ_and_are_not_shown() {
        let (a, b) = (Tickets::new(Vec::new(), 300).unwrap(), Tickets::new(Vec::new(), 300).unwrap());
        let ticket = a.encrypt(b"x").expect("sealed");
        assert_eq!(a.decrypt(&ticket).expect("opened"), b"x");
        assert!(b.decrypt(&ticket).is_none());
        assert_eq!(format!("{a:?}"), "Tickets { lifetime_s: 300, .. }");
    }
}
