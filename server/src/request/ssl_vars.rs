//! Variables of connections that speak TLS.

use super::escape::{Place, escape};
use crate::conf::variables::Builtin;
use crate::http1::clock;
use crate::tls::certificate::{self, Who};
use crate::tls::names;
use crate::tls::server::Negotiated;

/// Appends the value. False when there is none: what is empty counts as that.
pub fn write(n: &Negotiated, which: Builtin, out: &mut Vec<u8>) -> bool {
    let value = value(n, which).unwrap_or_default();
    out.extend_from_slice(value.as_bytes());
    !value.is_empty()
}

fn value(n: &Negotiated, which: Builtin) -> Option<String> {
    let text = |t: &str| Some(t.to_owned());
    let client = n.chain.first();
    match which {
        Builtin::SslProtocol => text(names::version_name(n.protocol)),
        Builtin::SslCipher => text(names::cipher_name(n.cipher?)),
        Builtin::SslCiphers => Some(names::cipher_list(&n.hello.ciphers)),
        Builtin::SslCurve => Some(names::group_name(n.group?)),
        Builtin::SslCurves => {
            Some(n.hello.groups.iter().map(|g| names::group_name(*g)).collect::<Vec<_>>().join(":"))
        }
        Builtin::SslServerName => n.hello.server_name.clone(),
        Builtin::SslAlpnProtocol => n.alpn.as_ref().map(|p| String::from_utf8_lossy(p).into_owned()),
        Builtin::SslSessionReused => text(if n.resumed { "r" } else { "." }),
        Builtin::SslClientVerify => match (client, n.verified) {
            (None, _) => text("NONE"),
            (_, Ok(())) => text("SUCCESS"),
            (_, Err((_, why))) => Some(format!("FAILED:{why}")),
        },
        Builtin::SslClientRawCert => client.map(certificate::pem),
        // A header goes on where a line begins with a tabulator.
        Builtin::SslClientCert => client.map(|c| certificate::pem(c).trim_end().replace('\n', "\n\t")),
        Builtin::SslClientEscapedCert => client.map(|c| {
            let mut out = Vec::new();
            escape(certificate::pem(c).as_bytes(), Place::Component, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        }),
        Builtin::SslClientFingerprint => client.map(certificate::fingerprint),
        Builtin::SslClientSDn => certificate::name(client?, Who::Subject),
        Builtin::SslClientIDn => certificate::name(client?, Who::Issuer),
        Builtin::SslClientSDnLegacy => certificate::legacy_name(client?, Who::Subject),
        Builtin::SslClientIDnLegacy => certificate::legacy_name(client?, Who::Issuer),
        Builtin::SslClientSerial => certificate::serial(client?),
        Builtin::SslClientVStart => certificate::valid_from(client?),
        Builtin::SslClientVEnd => certificate::valid_to(client?),
        Builtin::SslClientVRemain => {
            let now_s = i64::try_from(clock::now_ms() / 1000).unwrap_or(i64::MAX);
            certificate::days_left(client?, now_s).map(|days| days.to_string())
        }
        _ => None,
    }
}
