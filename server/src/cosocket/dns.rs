//! DNS messages: a question out, addresses or services in. Pure bytes.
//!
//! An answer counts only if it repeats our question; pointers and records are
//! followed a bounded number of times, whatever the message claims.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest name in its text form.
const NAME_BYTES_MAX: usize = 253;
/// Longest label.
const LABEL_BYTES_MAX: usize = 63;
/// How many pointers a name may have.
const POINTERS_MAX: usize = 16;
/// How many aliases lead to an address at most.
const ALIASES_MAX: usize = 16;
/// Length of a message's header.
const HEADER_BYTES: usize = 12;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Where a service is.
    Srv,
}

impl Kind {
    fn number(self) -> u16 {
        match self {
            Kind::A => 1,
            Kind::Aaaa => 28,
            Kind::Srv => 33,
        }
    }
}

/// A name as it is asked for: lower case, without the trailing dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name(String);

impl Name {
    /// The name; `None` when no name server could know it.
    pub fn new(text: &str) -> Option<Name> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |l: &str| !l.is_empty() && l.len() <= LABEL_BYTES_MAX;
        if text.len() > NAME_BYTES_MAX || !text.split('.').all(fits) {
            return None;
        }
        Some(Name(text.to_ascii_lowercase()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn write(&self, out: &mut Vec<u8>) {
        for label in self.0.split('.') {
            out.push(label.len() as u8);
            out.extend_from_slice(label.as_bytes());
        }
        out.push(0);
    }
}

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its number.
    pub id: u16,
    /// The name.
    pub name: Name,
    /// What is asked for.
    pub kind: Kind,
}

impl Question {
    /// The message.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + self.name.0.len() + 6);
        out.extend_from_slice(&self.id.to_be_bytes());
        // Recursion desired; one question.
        out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        self.name.write(&mut out);
        out.extend_from_slice(&self.kind.number().to_be_bytes());
        out.extend_from_slice(&[0, 1]);
        out
    }

    /// Reads an answer to this question; `None` when it is none.
    pub fn decode(&self, message: &[u8]) -> Option<Answer> {
        let mut r = Reader { all: message, at: 0 };
        let id = r.u16()?;
        let flags = r.u16()?;
        let (questions, records) = (r.u16()?, r.u16()?);
        r.skip(4)?;
        if id != self.id || flags & 0x8000 == 0 || questions != 1 {
            return None;
        }
        let asked = r.name()?;
        if asked != self.name.0 || r.u16()? != self.kind.number() || r.u16()? != 1 {
            return None;
        }
        let (code, truncated) = ((flags & 15) as u8, flags & 0x200 != 0);
        let mut answer = Answer { code, truncated, found: Vec::new(), services: Vec::new(), ttl_s: 0 };
        if answer.code == 0 && !answer.truncated {
            self.collect(&mut r, records, &mut answer);
        }
        Some(answer)
    }

    /// Addresses or services of the name and of the names it is an alias of.
    fn collect(&self, r: &mut Reader<'_>, records: u16, answer: &mut Answer) {
        let mut list = Vec::new();
        for _ in 0..records {
            // What is broken behind good records does not spoil them.
            let Some(record) = r.record() else { break };
            list.push(record);
        }
        let mut name = self.name.0.clone();
        let mut ttl_s = u32::MAX;
        for _ in 0..ALIASES_MAX {
            for record in list.iter().filter(|x| x.name == name) {
                match (&record.data, self.kind) {
                    (Data::A(ip), Kind::A) => answer.found.push(IpAddr::V4(*ip)),
                    (Data::Aaaa(ip), Kind::Aaaa) => answer.found.push(IpAddr::V6(*ip)),
                    (Data::Service(at), Kind::Srv) => answer.services.push(at.clone()),
                    _ => continue,
                }
                ttl_s = ttl_s.min(record.ttl_s);
            }
            if !answer.found.is_empty() || !answer.services.is_empty() {
                answer.ttl_s = ttl_s;
                return;
            }
            let alias = list.iter().find_map(|x| match &x.data {
                Data::Alias(to) if x.name == name => Some((to, x.ttl_s)),
                _ => None,
            });
            let Some((to, alias_ttl)) = alias else { return };
            ttl_s = ttl_s.min(alias_ttl);
            name.clone_from(to);
        }
    }
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The response code; 0 is no error.
    pub code: u8,
    /// The answer did not fit: ask again over TCP.
    pub truncated: bool,
    /// The addresses.
    pub found: Vec<IpAddr>,
    /// Where the service is.
    pub services: Vec<Service>,
    /// How long they hold.
    pub ttl_s: u32,
}

/// One place of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Those of the least number come first.
    pub priority: u16,
    /// Its share among those of one priority.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host.
    pub target: String,
}

struct Record {
    name: String,
    ttl_s: u32,
    data: Data,
}

enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Alias(String),
    Service(Service),
    Other,
}

struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn u8(&mut self) -> Option<u8> {
        let b = *self.all.get(self.at)?;
        self.at += 1;
        Some(b)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes([self.u8()?, self.u8()?]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from(self.u16()?) << 16 | u32::from(self.u16()?))
    }

    fn skip(&mut self, n: usize) -> Option<()> {
        self.at = self.at.checked_add(n).filter(|at| *at <= self.all.len())?;
        Some(())
    }

    /// A name in lower case, pointers followed.
    fn name(&mut self) -> Option<String> {
        let mut out = String::new();
        let (mut at, mut after, mut pointers) = (self.at, None, 0);
        loop {
            let n = *self.all.get(at)?;
            at += 1;
            match n {
                0 => break,
                1..=63 => {
                    let label = self.all.get(at..at + usize::from(n))?;
                    at += usize::from(n);
                    if !out.is_empty() {
                        out.push('.');
                    }
                    out.extend(label.iter().map(|b| b.to_ascii_lowercase() as char));
                    if out.len() > 4 * NAME_BYTES_MAX {
                        return None;
                    }
                }
                0xc0..=0xff => {
                    let low = *self.all.get(at)?;
                    after.get_or_insert(at + 1);
                    at = usize::from(u16::from_be_bytes([n & 0x3f, low]));
                    pointers += 1;
                    if pointers > POINTERS_MAX {
                        return None;
                    }
                }
                _ => return None,
            }
        }
        self.at = after.unwrap_or(at);
        Some(out)
    }

    fn record(&mut self) -> Option<Record> {
        let name = self.name()?;
        let (kind, class) = (self.u16()?, self.u16()?);
        let ttl_s = self.u32()?;
        let len = usize::from(self.u16()?);
        let start = self.at;
        self.skip(len)?;
        let bytes = &self.all[start..self.at];
        let data = match (kind, class) {
            (1, 1) => Data::A(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?)),
            (28, 1) => Data::Aaaa(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)),
            (5, 1) => Data::Alias(Reader { all: self.all, at: start }.name()?),
            (33, 1) => {
                let mut r = Reader { all: self.all, at: start };
                let (priority, weight, port) = (r.u16()?, r.u16()?, r.u16()?);
                Data::Service(Service { priority, weight, port, target: r.name()? })
            }
            _ => Data::Other,
        };
        // The topmost bit would make the time negative; such times mean zero.
        let ttl_s = if ttl_s > i32::MAX as u32 { 0 } else { ttl_s };
        Some(Record { name, ttl_s, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question { id: 0x1234, name: Name::new("Www.Example.org.").unwrap(), kind: Kind::A }
    }

    fn answer(records: &[&[u8]]) -> Vec<u8> {
        let mut m = question().encode();
        m[2] = 0x81;
        m[7] = records.len() as u8;
        for r in records {
            m.extend_from_slice(r);
        }
        m
    }

    #[test]
    fn names_that_nobody_can_know_are_refused() {
        assert_eq!(Name::new("A.b.").unwrap().as_str(), "a.b");
        for bad in ["", ".", "a..b", &"x".repeat(64), &"a.".repeat(127)] {
            assert_eq!(Name::new(bad).is_none(), bad.len() != 254, "{bad}");
        }
        assert!(Name::new(&"ab.".repeat(85)).is_none());
    }

    #[test]
    fn addresses_are_found_through_aliases() {
        let q = question();
        let alias = b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10";
        let a = b"\x01A\xc0\x10\0\x01\0\x01\0\0\0\x0a\0\x04\x7f\0\0\x02";
        let other = b"\x01z\xc0\x10\0\x01\0\x01\0\0\0\x0a\0\x04\x7f\0\0\x03";
        let got = q.decode(&answer(&[other, a, alias])).unwrap();
        assert_eq!(got.found, ["127.0.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!((got.code, got.ttl_s), (0, 10));
    }

    #[test]
    fn services_are_found_with_their_priorities() {
        let mut q = question();
        q.kind = Kind::Srv;
        let mut m = q.encode();
        (m[2], m[7]) = (0x81, 2);
        m.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x1e\0\x0a\0\x01\0\x05\x1f\x90\x01a\xc0\x10");
        m.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x0a\0\x0b\0\x02\0\0\0\x50\x01B\x01c\0");
        let got = q.decode(&m).unwrap();
        let at = |priority, weight, port, target: &str| Service {
            priority,
            weight,
            port,
            target: target.to_owned(),
        };
        assert_eq!(got.services, [at(1, 5, 8080, "a.example.org"), at(2, 0, 80, "b.c")]);
        assert_eq!((got.ttl_s, got.found.len()), (10, 0));
        for n in 0..m.len() {
            let _ = q.decode(&m[..n]);
        }
    }

    #[test]
    fn foreign_and_broken_messages_are_no_answers() {
        let q = question();
        let mut m = answer(&[]);
        assert_eq!(q.decode(&m).unwrap().found.len(), 0);
        m[3] = 3;
        assert_eq!(q.decode(&m).unwrap().code, 3);
        m[0] ^= 1;
        assert!(q.decode(&m).is_none(), "another number");
        let mut m = answer(&[]);
        m[14] ^= 1;
        assert!(q.decode(&m).is_none(), "another name");
        assert!(q.decode(&question().encode()).is_none(), "a question");
        // A name that points at itself, and every cut of a good message.
        let m = answer(&[b"\xc0\x21\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04"]);
        assert!(q.decode(&m).unwrap().found.is_empty());
        let good = answer(&[b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04\x01\x02\x03\x04"]);
        assert_eq!(q.decode(&good).unwrap().found.len(), 1);
        for n in 0..good.len() {
            let _ = q.decode(&good[..n]);
        }
    }
}
