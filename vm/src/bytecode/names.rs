//! The names of a function's upvalues and locals as one run of bytes: nobody reads them but errors, hooks and `debug`,
//! and most functions are never asked.

use super::protodef::{LocalVar, Name};

/// A local variable's name and where it lives: see [`LocalVar`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Local<'a> {
    /// Name; internal ones read `(for index)` and the like.
    pub name: &'a [u8],
    /// First instruction at which it is active.
    pub startpc: u32,
    /// First instruction at which it no longer is.
    pub endpc: u32,
    /// Register.
    pub slot: u8,
}

/// Appends a number, seven bits a byte, the lowest first.
fn put(out: &mut Vec<u8>, mut n: u32) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends the name of an upvalue. They come before the locals.
pub fn put_upvalue(out: &mut Vec<u8>, name: &[u8]) {
    put(out, name.len() as u32);
    out.extend_from_slice(name);
}

/// Appends a local.
pub fn put_local(out: &mut Vec<u8>, l: Local) {
    put_upvalue(out, l.name);
    put(out, l.startpc);
    put(out, l.endpc);
    out.push(l.slot);
}

/// The names of one function.
#[derive(Clone, Copy)]
pub struct Names<'a> {
    /// As the functions above have written them; empty when stripped.
    pub bytes: &'a [u8],
    /// How many upvalues there are.
    pub nupvals: usize,
}

impl<'a> Names<'a> {
    /// The names of its upvalues; none when stripped.
    pub fn upvalues(self) -> impl Iterator<Item = &'a [u8]> {
        let mut at = Reader(self.bytes);
        let n = if self.bytes.is_empty() { 0 } else { self.nupvals };
        (0..n).map(move |_| at.name())
    }

    /// Its locals in order of declaration; none when stripped.
    pub fn locals(self) -> impl Iterator<Item = Local<'a>> {
        let mut at = Reader(self.bytes);
        if !self.bytes.is_empty() {
            for _ in 0..self.nupvals {
                at.name();
            }
        }
        std::iter::from_fn(move || {
            if at.0.is_empty() {
                return None;
            }
            let name = at.name();
            let (startpc, endpc) = (at.number(), at.number());
            Some(Local { name, startpc, endpc, slot: at.byte() })
        })
    }

    /// The same as lists.
    pub fn to_lists(self) -> (Vec<Name>, Vec<LocalVar>) {
        let local =
            |l: Local| LocalVar { name: l.name.into(), startpc: l.startpc, endpc: l.endpc, slot: l.slot };
        (self.upvalues().map(Name::from).collect(), self.locals().map(local).collect())
    }
}

/// Reads what was written here; the end reads as zeros.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> u8 {
        let Some((&b, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        b
    }

    fn number(&mut self) -> u32 {
        let (mut n, mut shift) = (0, 0);
        loop {
            let b = self.byte();
            n |= ((b & 0x7f) as u32) << (shift & 31);
            if b < 0x80 {
                return n;
            }
            shift += 7;
        }
    }

    fn name(&mut self) -> &'a [u8] {
        let n = (self.number() as usize).min(self.0.len());
        let (name, rest) = self.0.split_at(n);
        self.0 = rest;
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let long = vec![b'x'; 300];
        let locals = [
            Local { name: b"a", startpc: 1, endpc: 200, slot: 0 },
            Local { name: &long, startpc: 0x1234567, endpc: u32::MAX, slot: 255 },
            Local { name: b"", startpc: 0, endpc: 0, slot: 1 },
        ];
        let mut bytes = Vec::new();
        put_upvalue(&mut bytes, b"");
        put_upvalue(&mut bytes, b"_ENV");
        for l in locals {
            put_local(&mut bytes, l);
        }
        let names = Names { bytes: &bytes, nupvals: 2 };
        assert_eq!(names.upvalues().collect::<Vec<_>>(), [&b""[..], b"_ENV"]);
        assert_eq!(names.locals().collect::<Vec<_>>(), locals);
        let none = Names { bytes: &[], nupvals: 2 };
        assert!(none.upvalues().next().is_none() && none.locals().next().is_none());
    }
}
