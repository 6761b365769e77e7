//! C object to C object.

use super::ConvertError;
use super::number::{num_to_i64, num_to_u64};
use crate::cdata::access::{self, Scalar};
use crate::ctype::name::type_name;
use crate::ctype::{ArrayLen, CTypeId, CTypeTable, Kind};

/// How strict a conversion is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags {
    /// A cast: integers become pointers, qualifiers may go.
    pub cast: bool,
    /// The source is a Lua value that has no C type of its own; errors name the Lua type.
    pub from_lua: bool,
    /// Where the object under construction ends, for arrays whose type has no length.
    pub end: Option<usize>,
}

/// What a pointer, reference, array, struct or function stands for when a pointer to it is wanted.
pub fn pointee(types: &CTypeTable, id: CTypeId) -> Option<CTypeId> {
    match types.kind(id) {
        Kind::Ptr { to, .. } | Kind::Ref { to } => Some(to),
        Kind::Array { elem, .. } => Some(elem),
        Kind::Record(_) | Kind::Func(_) => Some(id),
        _ => None,
    }
}

/// Whether a pointer to `from` may become a pointer to `to`. `ignore_quals` is for comparisons and `istype`.
pub fn compatible_pointees(types: &CTypeTable, to: CTypeId, from: CTypeId, ignore_quals: bool) -> bool {
    let (mut to, mut from) = (to, from);
    let mut same = false;
    // One level of pointers per round.
    loop {
        if to == from {
            return true;
        }
        let (tq, fq) = (types.quals(to), types.quals(from));
        let (a, b) = (types.get(to), types.get(from));
        if same {
            if tq != fq {
                return false;
            }
        } else if !ignore_quals {
            if !tq.contains(fq) {
                return false;
            }
            if a.kind == Kind::Void || b.kind == Kind::Void {
                return true;
            }
        }
        let sizes_equal = types.size(to) == types.size(from);
        match (a.kind, b.kind) {
            (Kind::Ptr { to: ta, bytes: x }, Kind::Ptr { to: tb, bytes: y }) => {
                if x != y {
                    return false;
                }
                (to, from, same) = (ta, tb, true);
            }
            (Kind::Array { elem: ta, .. }, Kind::Array { elem: tb, .. }) => {
                if !sizes_equal {
                    return false;
                }
                (to, from, same) = (ta, tb, true);
            }
            (Kind::Int { bytes: x, .. }, Kind::Int { bytes: y, .. })
            | (Kind::Float { bytes: x }, Kind::Float { bytes: y }) => {
                return x == y;
            }
            (Kind::Record(x), Kind::Record(y)) => return x == y,
            (Kind::Enum(_), Kind::Enum(_)) => return sizes_equal,
            // Functions are not compared in depth.
            (Kind::Func(_), Kind::Func(_)) => return true,
            (x, y) => return x == y,
        }
    }
}

fn refused(types: &CTypeTable, to: CTypeId, from: CTypeId, flags: Flags) -> ConvertError {
    let source = if flags.from_lua {
        match types.kind(from) {
            Kind::Bool | Kind::Int { .. } | Kind::Float { .. } => "number".to_owned(),
            Kind::Array { .. } => "string".to_owned(),
            _ => "nil".to_owned(),
        }
    } else {
        type_name(types, from)
    };
    ConvertError::cannot(types, &source, to)
}

/// The integer behind an enum, else the type itself.
#[inline]
fn plain_kind(types: &CTypeTable, id: CTypeId) -> Kind {
    match types.kind(id) {
        Kind::Enum(_) => types.enumeration(id).map_or(Kind::Void, |e| types.kind(e.base)),
        kind => kind,
    }
}

#[inline]
fn store_scalar(kind: Kind, addr: usize, value: Scalar) -> bool {
    match (kind, value) {
        (Kind::Int { bytes: 9.., .. }, _) => return false,
        (Kind::Int { bytes, .. }, Scalar::Int(v)) => access::store_int(addr, bytes, v as u64),
        (Kind::Int { bytes, .. }, Scalar::Uint(v)) => access::store_int(addr, bytes, v),
        (Kind::Int { bytes: 8, unsigned: true }, Scalar::Float(v)) => {
            access::store_int(addr, 8, num_to_u64(v))
        }
        (Kind::Int { bytes, .. }, Scalar::Float(v)) => access::store_int(addr, bytes, num_to_i64(v) as u64),
        (Kind::Float { bytes: bytes @ (4 | 8) }, v) => access::store_float(addr, bytes, to_float(v)),
        (Kind::Bool, Scalar::Int(v)) => access::store_int(addr, 1, u64::from(v != 0)),
        (Kind::Bool, Scalar::Uint(v)) => access::store_int(addr, 1, u64::from(v != 0)),
        (Kind::Bool, Scalar::Float(v)) => access::store_int(addr, 1, u64::from(v != 0.0)),
        (Kind::Complex { bytes }, v) => {
            access::store_float(addr, bytes / 2, to_float(v));
            access::store_float(addr + usize::from(bytes / 2), bytes / 2, 0.0);
        }
        _ => return false,
    }
    true
}

fn to_float(v: Scalar) -> f64 {
    match v {
        Scalar::Int(v) => v as f64,
        Scalar::Uint(v) => v as f64,
        Scalar::Float(v) => v,
    }
}

/// Converts the object of type `from` at `src` into the object of type `to` at `dst`.
pub fn c_to_c(
    types: &CTypeTable,
    to: CTypeId,
    dst: usize,
    from: CTypeId,
    src: usize,
    flags: Flags,
) -> Result<(), ConvertError> {
    let d = match plain_kind(types, to) {
        // Making a reference is making a pointer.
        Kind::Ref { to } => Kind::Ptr { to, bytes: 8 },
        kind => kind,
    };
    let s = plain_kind(types, from);
    if let Some(value) = access::load_scalar(s, src) {
        if s == Kind::Bool && matches!(d, Kind::Complex { .. } | Kind::Vector { .. }) {
            return Err(refused(types, to, from, flags));
        }
        if store_scalar(d, dst, value) {
            return Ok(());
        }
        match (d, value) {
            (Kind::Ptr { bytes, .. }, _) if flags.cast && s != Kind::Bool => {
                let address = match value {
                    Scalar::Int(v) => v as u64,
                    Scalar::Uint(v) => v,
                    Scalar::Float(v) if flags.from_lua => num_to_i64(v) as u64,
                    Scalar::Float(_) => return Err(refused(types, to, from, flags)),
                };
                access::store_pointer(dst, bytes, address as usize);
                return Ok(());
            }
            (Kind::Vector { elem, bytes }, _) => {
                // One scalar for all lanes.
                let lane = types.size(elem).unwrap_or(bytes).max(1);
                for offset in (0..bytes).step_by(lane as usize) {
                    c_to_c(types, elem, dst + offset as usize, from, src, flags)?;
                }
                return Ok(());
            }
            _ => return Err(refused(types, to, from, flags)),
        }
    }
    match (d, s) {
        (Kind::Complex { bytes: x }, Kind::Complex { bytes: y }) => {
            for part in 0..2usize {
                let v = access::load_float(src + part * usize::from(y / 2), y / 2);
                access::store_float(dst + part * usize::from(x / 2), x / 2, v);
            }
            Ok(())
        }
        (Kind::Vector { .. }, Kind::Complex { bytes }) => {
            // The real part for all lanes.
            let part = if bytes == 8 { CTypeId::FLOAT } else { CTypeId::DOUBLE };
            c_to_c(types, to, dst, part, src, flags)
        }
        (_, Kind::Complex { bytes }) => {
            let re = access::load_float(src, bytes / 2);
            let im = access::load_float(src + usize::from(bytes / 2), bytes / 2);
            let value = if d == Kind::Bool {
                Scalar::Uint(u64::from(re != 0.0 || im != 0.0))
            } else {
                Scalar::Float(re)
            };
            if store_scalar(d, dst, value) { Ok(()) } else { Err(refused(types, to, from, flags)) }
        }
        (Kind::Int { bytes: bytes @ 1..=8, .. }, Kind::Ptr { bytes: size, .. }) if flags.cast => {
            access::store_int(dst, bytes, access::load_pointer(src, size) as u64);
            Ok(())
        }
        (Kind::Int { bytes: bytes @ 1..=8, .. }, Kind::Array { .. } | Kind::Record(_) | Kind::Func(_))
            if flags.cast =>
        {
            access::store_int(dst, bytes, src as u64);
            Ok(())
        }
        (Kind::Ptr { to: target, bytes }, Kind::Ptr { to: source, bytes: size }) => {
            if !flags.cast && !compatible_pointees(types, target, source, false) {
                return Err(refused(types, to, from, flags));
            }
            access::store_pointer(dst, bytes, access::load_pointer(src, size));
            Ok(())
        }
        (Kind::Ptr { to: target, bytes }, Kind::Array { .. } | Kind::Record(_) | Kind::Func(_)) => {
            let source = pointee(types, from).unwrap_or(from);
            if !flags.cast && !compatible_pointees(types, target, source, false) {
                return Err(refused(types, to, from, flags));
            }
            access::store_pointer(dst, bytes, src);
            Ok(())
        }
        (Kind::Array { elem: target, len }, Kind::Array { elem: source, .. }) => {
            let size = types.size(to);
            let fits = len != ArrayLen::Variable && size.is_some() && size == types.size(from);
            if flags.cast || !fits || !compatible_pointees(types, target, source, false) {
                return Err(refused(types, to, from, flags));
            }
            access::copy(dst, src, size.unwrap_or(0) as usize);
            Ok(())
        }
        (Kind::Record(x), Kind::Record(y)) if x == y && !flags.cast && !types.is_variable(to) => {
            access::copy(dst, src, types.size(to).unwrap_or(0) as usize);
            Ok(())
        }
        (Kind::Int { bytes: x @ 9.., .. }, Kind::Int { bytes: y, .. })
        | (Kind::Float { bytes: x @ 9.. }, Kind::Float { bytes: y })
            if x == y =>
        {
            access::copy(dst, src, usize::from(x));
            Ok(())
        }
        (Kind::Vector { bytes: x, .. }, Kind::Vector { bytes: y, .. }) if x == y => {
            access::copy(dst, src, x as usize);
            Ok(())
        }
        _ => Err(refused(types, to, from, flags)),
    }
}
