//! OpenSSL's texts for handshakes that failed, where rustls's reason has one.

use rustls::{AlertDescription, Error, InvalidMessage, PeerIncompatible};
use std::io;

/// Alerts of the other side: number, OpenSSL's number and text.
const ALERTS: &[(u8, u32, &str)] = &[
    (10, 0x0A00_03F2, "ssl/tls alert unexpected message"),
    (20, 0x0A00_03FC, "ssl/tls alert bad record mac"),
    (40, 0x0A00_0410, "ssl/tls alert handshake failure"),
    (42, 0x0A00_0412, "ssl/tls alert bad certificate"),
    (43, 0x0A00_0413, "ssl/tls alert unsupported certificate"),
    (44, 0x0A00_0414, "ssl/tls alert certificate revoked"),
    (45, 0x0A00_0415, "ssl/tls alert certificate expired"),
    (46, 0x0A00_0416, "ssl/tls alert certificate unknown"),
    (47, 0x0A00_0417, "ssl/tls alert illegal parameter"),
    (48, 0x0A00_0418, "tlsv1 alert unknown ca"),
    (49, 0x0A00_0419, "tlsv1 alert access denied"),
    (50, 0x0A00_041A, "tlsv1 alert decode error"),
    (51, 0x0A00_041B, "tlsv1 alert decrypt error"),
    (70, 0x0A00_042E, "tlsv1 alert protocol version"),
    (71, 0x0A00_042F, "tlsv1 alert insufficient security"),
    (80, 0x0A00_0438, "tlsv1 alert internal error"),
    (109, 0x0A00_0455, "tlsv13 alert missing extension"),
    (110, 0x0A00_0456, "tlsv1 unsupported extension"),
    (112, 0x0A00_0458, "tlsv1 unrecognized name"),
    (116, 0x0A00_045C, "tlsv13 alert certificate required"),
    (120, 0x0A00_0460, "tlsv1 alert no application protocol"),
];

/// What the log says of a failed handshake behind `SSL: `.
pub fn text(e: &io::Error) -> String {
    let inner = e.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    inner.and_then(known).unwrap_or_else(|| e.to_string())
}

fn known(e: &Error) -> Option<String> {
    let plain = |text: &str| Some(format!("error:{text}"));
    match e {
        Error::AlertReceived(alert) => {
            let number = AlertDescription::into(*alert);
            let (_, code, text) = ALERTS.iter().find(|a| a.0 == number)?;
            Some(format!("error:{code:08X}:SSL routines::{text}:SSL alert number {number}"))
        }
        Error::InvalidMessage(
            InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion,
        ) => plain("0A00010B:SSL routines::wrong version number"),
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13,
        ) => plain("0A000102:SSL routines::unsupported protocol"),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            plain("0A0000C1:SSL routines::no shared cipher")
        }
        Error::NoApplicationProtocol => plain("0A0000EB:SSL routines::no application protocol"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_openssls_texts_where_there_are_some() {
        let of = |e: Error| text(&io::Error::new(io::ErrorKind::InvalidData, e));
        assert_eq!(
            of(Error::AlertReceived(AlertDescription::UnrecognisedName)),
            "error:0A000458:SSL routines::tlsv1 unrecognized name:SSL alert number 112"
        );
        assert_eq!(
            of(Error::InvalidMessage(InvalidMessage::InvalidContentType)),
            "error:0A00010B:SSL routines::wrong version number"
        );
        assert_eq!(
            of(Error::PeerIncompatible(PeerIncompatible::SignatureAlgorithmsExtensionRequired)),
            "error:0A000102:SSL routines::unsupported protocol"
        );
        let other = of(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge));
        assert!(other.contains("HandshakePayloadTooLarge"), "{other}");
        assert_eq!(text(&io::Error::other("odd")), "odd");
    }
}
