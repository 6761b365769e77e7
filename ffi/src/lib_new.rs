//! Making objects for Lua: type arguments, sizes, initialisers. Shared by `ffi.new` and by calling a type.

use std::rc::Rc;

use moonlit_vm::bytecode::ops::Mm;
use moonlit_vm::cdata::Cdata;
use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::state::native::Raised;
use moonlit_vm::string::Str;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

use crate::cdata::{access, as_cdata, new_object, raw_place, type_object};
use crate::convert::{self, ConvertError, Flags};
use crate::cparse::{self, Param};
use crate::ctype::{CTypeId, Field, Kind};
use crate::state::{Ffi, Maker};

/// Objects larger than this ask the heap first.
const LARGE_BYTES: u32 = 64 * 1024;

/// The arguments from `first` on as values of `$`.
pub fn params(vm: &mut Vm, first: usize) -> Result<Vec<Param>, Raised> {
    let mut out = Vec::new();
    for i in first..vm.nargs() {
        let v = vm.arg(i);
        out.push(if let Some(cd) = as_cdata(v) {
            Param::Type(type_object(vm, cd).unwrap_or(raw_place(vm, cd).ty))
        } else if let Some(s) = v.as_obj::<Str>() {
            Param::Name(s.bytes(&vm.heap).into())
        } else if let Some(n) = v.as_num() {
            Param::Number(convert::num_to_i64(n) as i32)
        } else {
            return Err(vm.type_error(i, "type parameter"));
        });
    }
    Ok(out)
}

/// Argument `i` as a type: a type object, any C data, or a declaration in which `$` takes the arguments from
/// `params_from` on.
pub fn check_type(vm: &mut Vm, ffi: &Ffi, i: usize, params_from: Option<usize>) -> Result<CTypeId, Raised> {
    let v = vm.arg(i);
    let extra = params_from.filter(|&p| p < vm.nargs());
    if let Some(s) = v.as_obj::<Str>() {
        let source = s.bytes(&vm.heap);
        if extra.is_none()
            && let Some(id) = ffi.parsed(s.addr(), source)
        {
            return Ok(id);
        }
        let source = source.to_vec();
        let params = match extra {
            Some(first) => params(vm, first)?,
            None => Vec::new(),
        };
        let parsed = cparse::parse_type(&mut ffi.types.borrow_mut(), &source, &params);
        return match parsed {
            Ok(id) => {
                if params.is_empty() {
                    ffi.remember_parsed(&source, id);
                }
                Ok(id)
            }
            Err(e) => Err(refused(vm, &e)),
        };
    }
    let Some(cd) = as_cdata(v) else { return Err(vm.type_error(i, "C type")) };
    if let Some(first) = extra {
        return Err(vm.arg_error(first - 1, b"wrong number of type parameters"));
    }
    Ok(type_object(vm, cd).unwrap_or(raw_place(vm, cd).ty))
}

/// The error of C source: with the place of the call, but for a full table, as in LuaJIT.
pub fn refused(vm: &mut Vm, e: &cparse::CdeclError) -> Raised {
    match e.is_overflow() {
        true => vm.throw_plain(&e.to_bytes()),
        false => vm.throw_str(&e.to_bytes()),
    }
}

/// Argument `i` converted to a C type of at most 8 bytes; its bits.
pub fn check_scalar(vm: &mut Vm, ffi: &Ffi, i: usize, ty: CTypeId) -> Result<u64, Raised> {
    let Some(v) = vm.arg_opt(i) else { return Err(vm.arg_error(i, b"value expected")) };
    let mut word = [0u8; 8];
    let addr = word.as_mut_ptr() as usize;
    let converted = convert::to_c(vm, ffi, &ffi.types.borrow(), ty, addr, v, Flags::default());
    match converted {
        Ok(()) => Ok(u64::from_ne_bytes(word)),
        Err(e) => Err(vm.arg_error(i, e.message())),
    }
}

/// Argument `i` as a 32-bit integer.
pub fn check_int(vm: &mut Vm, ffi: &Ffi, i: usize) -> Result<i32, Raised> {
    Ok(check_scalar(vm, ffi, i, CTypeId::INT32)? as i32)
}

/// Installs or removes (`nil`) the finalizer of an object.
pub fn set_finalizer(vm: &mut Vm, ffi: &Ffi, cd: Gc<Cdata>, f: Value) {
    let on = !f.is_nil();
    if on {
        ffi.finalizers.borrow_mut().insert(cd.addr(), f);
    } else {
        ffi.finalizers.borrow_mut().remove(&cd.addr());
    }
    vm.heap.set_cdata_finalizer(cd, on);
}

/// A new object of type `ty`, initialised from the native's arguments after the first (and after the length, for a `[?]` type).
pub fn construct(vm: &mut Vm, ffi: &Ffi, ty: CTypeId) -> Result<Value, Raised> {
    let (size, variable) = size_of(ffi, ty);
    let mut first = 1;
    let size = if variable {
        let n = check_int(vm, ffi, 1)?;
        first = 2;
        sized(ffi, ty, n)
    } else {
        size
    };
    let Some(size) = size else {
        return Err(vm.arg_error(0, b"size of C type is unknown or too large"));
    };
    let mut few = [Value::NIL; 8];
    let given = vm.nargs().saturating_sub(first);
    let many: Vec<Value>;
    let values = if given <= few.len() {
        for (i, v) in few[..given].iter_mut().enumerate() {
            *v = vm.arg(first + i);
        }
        &few[..given]
    } else {
        many = (first..vm.nargs()).map(|i| vm.arg(i)).collect();
        &many
    };
    match make(vm, ffi, ty, size, values) {
        Ok(v) => Ok(v),
        Err(None) => Err(vm.throw_plain(b"not enough memory")),
        Err(Some(ConvertError::Cannot(text) | ConvertError::Other(text))) => Err(vm.throw_str(&text)),
    }
}

/// How objects of type `ty` are made from numbers, if it is a struct that begins with numbers.
fn find_maker(ffi: &Ffi, ty: CTypeId) -> Option<Rc<Maker>> {
    let types = ffi.types.borrow();
    let record = types.record(ty).filter(|r| r.complete && !r.is_union && !r.variable)?;
    let layout = types.layout(ty);
    let size = layout.size.filter(|&n| n <= LARGE_BYTES)?;
    let number = |f: &&Field| {
        let kind = types.kind(f.ty);
        let simple = matches!(kind, Kind::Int { bytes: 1..=8, .. } | Kind::Float { bytes: 4 | 8 });
        f.name.is_some() && f.bits.is_none() && simple
    };
    let fields = record.fields.iter().take_while(number).map(|f| (f.offset, types.kind(f.ty))).collect();
    let maker = Rc::new(Maker { size, align: 1 << layout.align_log2, fields });
    ffi.remember_maker(ty, maker.clone());
    Some(maker)
}

/// A struct made of numbers only; `None` leaves it to the general way.
#[inline]
fn make_of_numbers(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, args: &[Value]) -> Option<Gc<Cdata>> {
    let maker = ffi.maker(ty).or_else(|| find_maker(ffi, ty))?;
    if args.len() > maker.fields.len() || args.iter().any(|v| !v.is_num()) {
        return None;
    }
    let cd = vm.heap.new_cdata(ty.raw(), maker.size as usize, maker.align as usize);
    let addr = raw_place(vm, cd).addr;
    for ((offset, kind), v) in maker.fields.iter().zip(args) {
        let (at, n) = (addr + *offset as usize, v.num_unchecked());
        match *kind {
            Kind::Float { bytes } => access::store_float(at, bytes, n),
            Kind::Int { bytes: 8, unsigned: true } => access::store_int(at, 8, convert::num_to_u64(n)),
            Kind::Int { bytes, .. } => access::store_int(at, bytes, convert::num_to_i64(n) as u64),
            _ => {}
        }
    }
    Some(cd)
}

/// As [`construct`], from `args`; `None` for whatever would be an error.
pub fn construct_from(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, args: &[Value]) -> Option<Value> {
    if let Some(cd) = make_of_numbers(vm, ffi, ty, args) {
        let metatype = ffi.metatype(&ffi.types.borrow(), ty);
        finish_object(vm, ffi, cd, metatype);
        return Some(Value::obj(cd));
    }
    let (size, variable) = size_of(ffi, ty);
    let (size, values) = if variable {
        let n = args.first()?.as_num()?;
        (sized(ffi, ty, convert::num_to_i64(n) as i32)?, &args[1..])
    } else {
        (size?, args)
    };
    make(vm, ffi, ty, size, values).ok()
}

/// Size of a type in bytes, and whether it is a `[?]` type.
fn size_of(ffi: &Ffi, ty: CTypeId) -> (Option<u32>, bool) {
    let types = ffi.types.borrow();
    let size = types.size(ty);
    (size, types.is_variable(ty))
}

/// Size of a `[?]` type with `n` elements.
fn sized(ffi: &Ffi, ty: CTypeId, n: i32) -> Option<u32> {
    ffi.types.borrow().variable_size(ty, u32::try_from(n).ok()?).ok()
}

/// The object itself; `Err(None)` if there is no memory for it.
fn make(
    vm: &mut Vm,
    ffi: &Ffi,
    ty: CTypeId,
    size: u32,
    values: &[Value],
) -> Result<Value, Option<ConvertError>> {
    if size > LARGE_BYTES && vm.heap.may_alloc(size as usize).is_err() {
        return Err(None);
    }
    let types = ffi.types.borrow();
    let cd = new_object(vm, &types, ty, size);
    if !values.is_empty() {
        let addr = raw_place(vm, cd).addr;
        convert::init(vm, ffi, &types, ty, size, addr, values).map_err(Some)?;
    }
    let is_record = matches!(types.kind(ty), Kind::Record(_));
    let metatype = if is_record { ffi.metatype(&types, ty) } else { None };
    drop(types);
    finish_object(vm, ffi, cd, metatype);
    Ok(Value::obj(cd))
}

/// Gives a new object the finalizer of its metatype.
#[inline]
fn finish_object(vm: &mut Vm, ffi: &Ffi, cd: Gc<Cdata>, metatype: Option<Gc<Table>>) {
    if let Some(t) = metatype {
        let f = vm.meta_field(t, Mm::Gc);
        if !f.is_nil() {
            set_finalizer(vm, ffi, cd, f);
        }
    }
}

/// Size in bytes of an object whose type has no fixed size.
pub fn own_size(vm: &Vm, cd: Gc<Cdata>) -> u32 {
    cd.get(&vm.heap).len
}

/// Writes a pointer or integer into a fresh object of a scalar type: `ffi.cast`.
pub fn cast(vm: &mut Vm, ffi: &Ffi, ty: CTypeId, v: Value) -> Result<Value, Raised> {
    let types = ffi.types.borrow();
    let size = types.size(ty).unwrap_or(8);
    let cd = new_object(vm, &types, ty, size);
    let addr = raw_place(vm, cd).addr;
    let flags = Flags { cast: true, ..Flags::default() };
    let done = convert::to_c(vm, ffi, &types, ty, addr, v, flags);
    drop(types);
    match done {
        Ok(()) => Ok(Value::obj(cd)),
        Err(e) => Err(vm.throw_str(e.message())),
    }
}

/// The address that a pointer-like argument stands for.
pub fn check_pointer(vm: &mut Vm, ffi: &Ffi, i: usize, ty: CTypeId) -> Result<usize, Raised> {
    if vm.arg_opt(i).is_none() {
        return Err(vm.arg_error(i, b"value expected"));
    }
    let bits = check_scalar(vm, ffi, i, ty)?;
    Ok(access::load_pointer(bits.to_ne_bytes().as_ptr() as usize, 8))
}
