//! Bytes to verified prototypes.

use super::verify::verify;
use super::{MAGIC, NESTING_MAX, STRIPPED, VERSION, kgc_tag, kval_tag};
use crate::bytecode::protodef::{KGc, KVal, LocalVar, Name, ProtoDef};

/// Why bytes are not a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndumpError {
    /// Not this format, or another version of it.
    Incompatible,
    /// This format, but broken.
    Malformed,
}

impl UndumpError {
    /// The message of `load` for a chunk called `name`.
    pub fn message(self, name: &[u8]) -> Vec<u8> {
        let name = match name {
            [b'@' | b'=', rest @ ..] => rest,
            [0x1b, ..] => b"(binary)",
            _ => name,
        };
        let text: &[u8] = match self {
            UndumpError::Incompatible => b": cannot load incompatible bytecode",
            UndumpError::Malformed => b": cannot load malformed bytecode",
        };
        [name, text].concat()
    }
}

type Result<T> = std::result::Result<T, UndumpError>;

/// Reads a function and verifies it. `name` becomes the chunk name of a stripped one.
pub fn undump(bytes: &[u8], name: &[u8]) -> Result<Box<ProtoDef>> {
    let Some([version, flags, rest @ ..]) = bytes.strip_prefix(&MAGIC) else {
        return Err(UndumpError::Incompatible);
    };
    if *version != VERSION || flags & !STRIPPED != 0 {
        return Err(UndumpError::Incompatible);
    }
    // A name that is the bytecode itself says nothing.
    let name = if name.first() == MAGIC.first() { b"=?" } else { name };
    let mut reader = Reader { rest, stripped: flags & STRIPPED != 0, chunkname: name.into() };
    if !reader.stripped {
        reader.chunkname = reader.bytes()?.into();
    }
    let mut def = Box::new(reader.proto(0)?);
    if !reader.rest.is_empty() {
        return Err(UndumpError::Malformed);
    }
    verify(&mut def).map_err(|_| UndumpError::Malformed)?;
    Ok(def)
}

struct Reader<'b> {
    rest: &'b [u8],
    stripped: bool,
    chunkname: Name,
}

impl<'b> Reader<'b> {
    fn take(&mut self, n: usize) -> Result<&'b [u8]> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(UndumpError::Malformed)?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn uleb(&mut self) -> Result<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            n |= ((b & 0x7f) as u64) << shift;
            if b < 0x80 {
                return Ok(n);
            }
        }
        Err(UndumpError::Malformed)
    }

    fn u32(&mut self) -> Result<u32> {
        self.uleb()?.try_into().map_err(|_| UndumpError::Malformed)
    }

    /// A count of items that take at least `size` bytes each.
    fn count(&mut self, size: usize) -> Result<usize> {
        let n = self.u32()? as usize;
        if n.checked_mul(size).is_none_or(|total| total > self.rest.len()) {
            return Err(UndumpError::Malformed);
        }
        Ok(n)
    }

    fn word64(&mut self) -> Result<u64> {
        let b = self.take(8)?;
        Ok(u64::from_le_bytes(b.try_into().map_err(|_| UndumpError::Malformed)?))
    }

    fn bytes(&mut self) -> Result<&'b [u8]> {
        let n = self.count(1)?;
        self.take(n)
    }

    fn list<T>(&mut self, size: usize, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let n = self.count(size)?;
        (0..n).map(|_| item(self)).collect()
    }

    fn proto(&mut self, depth: usize) -> Result<ProtoDef> {
        if depth > NESTING_MAX {
            return Err(UndumpError::Malformed);
        }
        let mut def = ProtoDef {
            flags: self.byte()?,
            numparams: self.byte()?,
            framesize: self.byte()?,
            chunkname: self.chunkname.clone(),
            ..ProtoDef::default()
        };
        if !self.stripped {
            def.firstline = self.u32()?;
            def.lastline = self.u32()?;
        }
        let ncode = self.count(4)?;
        let words = self.take(4 * ncode)?.chunks_exact(4);
        def.code = words.map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]])).collect();
        def.knum = self.list(8, |r| Ok(f64::from_bits(r.word64()?)))?;
        def.kgc = self.list(1, |r| r.constant(depth))?;
        def.upvals = self.list(1, |r| r.u32()?.try_into().map_err(|_| UndumpError::Malformed))?;
        if self.stripped {
            return Ok(def);
        }
        let mut last = 0i64;
        def.lines = self.list(1, |r| {
            let n = r.uleb()?;
            last = last.wrapping_add((n >> 1) as i64 ^ -((n & 1) as i64));
            last.try_into().map_err(|_| UndumpError::Malformed)
        })?;
        def.upvalue_names = self.list(1, |r| Ok(r.bytes()?.into()))?;
        def.locals = self.list(4, |r| {
            let name = r.bytes()?.into();
            Ok(LocalVar { name, startpc: r.u32()?, endpc: r.u32()?, slot: r.byte()? })
        })?;
        Ok(def)
    }

    fn constant(&mut self, depth: usize) -> Result<KGc> {
        Ok(match self.byte()? {
            kgc_tag::STR => KGc::Str(self.bytes()?.into()),
            kgc_tag::PROTO => KGc::Proto(Box::new(self.proto(depth + 1)?)),
            kgc_tag::TABLE => KGc::TableTemplate {
                array: self.list(1, Self::value)?,
                hash: self.list(2, |r| Ok((r.value()?, r.value()?)))?,
            },
            kgc_tag::INT64 => KGc::Int64(self.word64()? as i64),
            kgc_tag::UINT64 => KGc::UInt64(self.word64()?),
            kgc_tag::COMPLEX => KGc::Complex(f64::from_bits(self.word64()?)),
            _ => return Err(UndumpError::Malformed),
        })
    }

    fn value(&mut self) -> Result<KVal> {
        Ok(match self.byte()? {
            kval_tag::NIL => KVal::Nil,
            kval_tag::FALSE => KVal::Bool(false),
            kval_tag::TRUE => KVal::Bool(true),
            kval_tag::NUM => KVal::Num(f64::from_bits(self.word64()?)),
            kval_tag::STR => KVal::Str(self.bytes()?.into()),
            _ => return Err(UndumpError::Malformed),
        })
    }
}
