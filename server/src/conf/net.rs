//! Networks: `192.168.0.0/16`, `2001:db8::/32`, `all`, `unix:`.

use std::net::IpAddr;

/// A set of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// Every client.
    All,
    /// Clients of Unix sockets.
    Unix,
    /// Addresses that begin with these bits.
    V4 {
        /// The address, the rest of its bits zero.
        addr: u32,
        /// How many bits count.
        bits: u8,
    },
    /// The same for IPv6.
    V6 {
        /// The address, the rest of its bits zero.
        addr: u128,
        /// How many bits count.
        bits: u8,
    },
}

/// A network as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// The network.
    pub net: Net,
    /// Bits behind the mask were not zero.
    pub low_bits: bool,
}

/// Reads an address or network; `all` and `unix:` are the caller's.
pub fn parse(text: &[u8]) -> Option<Parsed> {
    let text = std::str::from_utf8(text).ok()?;
    let (addr, mask) = match text.split_once('/') {
        Some((addr, mask)) => (addr, Some(mask)),
        None => (text, None),
    };
    match addr.parse::<IpAddr>().ok()? {
        IpAddr::V4(addr) => {
            let bits = match mask {
                None => 32,
                Some(mask) => mask.parse::<u8>().ok().filter(|b| *b <= 32 && !mask.starts_with('+'))?,
            };
            let whole = u32::from(addr);
            let kept = if bits == 0 { 0 } else { whole & (u32::MAX << (32 - bits)) };
            Some(Parsed { net: Net::V4 { addr: kept, bits }, low_bits: kept != whole })
        }
        IpAddr::V6(addr) => {
            let bits = match mask {
                None => 128,
                Some(mask) => mask.parse::<u8>().ok().filter(|b| *b <= 128 && !mask.starts_with('+'))?,
            };
            let whole = u128::from(addr);
            let kept = if bits == 0 { 0 } else { whole & (u128::MAX << (128 - bits)) };
            Some(Parsed { net: Net::V6 { addr: kept, bits }, low_bits: kept != whole })
        }
    }
}

impl Net {
    /// Whether the client is in it; `None` is a Unix socket's.
    pub fn has(&self, client: Option<IpAddr>) -> bool {
        match (self, client.map(|a| a.to_canonical())) {
            (Net::All, _) | (Net::Unix, None) => true,
            (Net::V4 { addr, bits }, Some(IpAddr::V4(a))) => {
                *bits == 0 || (u32::from(a) ^ addr) >> (32 - bits) == 0
            }
            (Net::V6 { addr, bits }, Some(IpAddr::V6(a))) => {
                *bits == 0 || (u128::from(a) ^ addr) >> (128 - bits) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        let has = |net: &str, a: &str| parse(net.as_bytes()).unwrap().net.has(Some(a.parse().unwrap()));
        assert!(has("127.0.0.0/8", "127.9.9.9") && !has("127.0.0.0/8", "128.0.0.0"));
        assert!(has("0.0.0.0/0", "1.2.3.4") && !has("0.0.0.0/0", "::1"));
        assert!(has("10.0.0.1", "::ffff:10.0.0.1") && !has("10.0.0.1", "10.0.0.2"));
        assert!(has("2001:db8::/32", "2001:db8:1::1") && !has("2001:db8::/32", "2001:db9::1"));
        assert!(parse(b"10.1.2.3/8").unwrap().low_bits);
        for bad in ["", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/x", "::1/129", "a"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
