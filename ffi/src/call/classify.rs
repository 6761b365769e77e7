//! How each argument and the result of a signature travel.

use std::ffi::c_void;
use std::ptr;

use libffi::low::{self, ffi_cif, ffi_type};

use crate::ctype::{CTypeId, CTypeTable, FuncType, Kind};

/// A signature that cannot be called: long double, vectors, oddly packed records by value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotCallable;

/// How one value travels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PassBy {
    /// Nothing (a `void` result).
    Nothing,
    /// An integer register.
    Int {
        /// Size in bytes of the C type.
        bytes: u8,
        /// Whether a smaller value is extended with its sign.
        signed: bool,
    },
    /// A floating point register, single precision.
    F32,
    /// A floating point register, double precision.
    F64,
    /// Some way that libffi knows.
    Other,
}

/// One argument's place in a call buffer.
#[derive(Clone, Copy, Debug)]
pub struct ArgSlot {
    /// Type that the argument is converted to.
    pub ty: CTypeId,
    /// Offset in bytes in the buffer.
    pub offset: u32,
    /// How it travels.
    pub pass: PassBy,
}

/// An `ffi_type` with the element lists that it points to.
pub(crate) struct FfiType {
    root: *mut ffi_type,
    /// Owners of what `root` points to; boxed, so that addresses stay.
    _types: Vec<Box<ffi_type>>,
    _lists: Vec<Box<[*mut ffi_type]>>,
}

impl FfiType {
    pub(crate) fn as_ptr(&self) -> *mut ffi_type {
        self.root
    }

    fn basic(root: *mut ffi_type) -> FfiType {
        FfiType { root, _types: Vec::new(), _lists: Vec::new() }
    }

    fn of_scalar(bytes: u8, unsigned: bool) -> *mut ffi_type {
        use low::types;
        match (bytes, unsigned) {
            (1, true) => &raw mut types::uint8,
            (1, false) => &raw mut types::sint8,
            (2, true) => &raw mut types::uint16,
            (2, false) => &raw mut types::sint16,
            (4, true) => &raw mut types::uint32,
            (4, false) => &raw mut types::sint32,
            (_, true) => &raw mut types::uint64,
            (_, false) => &raw mut types::sint64,
        }
    }

    /// libffi's description of a type.
    pub(crate) fn new(table: &CTypeTable, id: CTypeId) -> Result<FfiType, NotCallable> {
        use low::types;
        Ok(match pass_by(table, id)? {
            PassBy::Nothing => FfiType::basic(&raw mut types::void),
            PassBy::Int { bytes, signed } => FfiType::basic(FfiType::of_scalar(bytes, !signed)),
            PassBy::F32 => FfiType::basic(&raw mut types::float),
            PassBy::F64 => FfiType::basic(&raw mut types::double),
            PassBy::Other => {
                let layout = table.layout(id);
                let size = layout.size.ok_or(NotCallable)?;
                let elements = aggregate_elements(table, id, size)?;
                let mut list: Box<[*mut ffi_type]> =
                    elements.into_iter().chain(std::iter::once(ptr::null_mut())).collect();
                let mut record = Box::new(ffi_type {
                    size: size as usize,
                    alignment: 1 << layout.align_log2,
                    type_: low::type_tag::STRUCT,
                    elements: list.as_mut_ptr(),
                });
                FfiType { root: &raw mut *record, _types: vec![record], _lists: vec![list] }
            }
        })
    }
}

/// How a type travels, if it can.
fn pass_by(table: &CTypeTable, id: CTypeId) -> Result<PassBy, NotCallable> {
    Ok(match table.kind(id) {
        Kind::Void => PassBy::Nothing,
        Kind::Bool => PassBy::Int { bytes: 1, signed: false },
        Kind::Int { bytes: bytes @ 1..=8, unsigned } => PassBy::Int { bytes, signed: !unsigned },
        Kind::Enum(_) => {
            let signed = table.enumeration(id).is_some_and(|e| e.base == CTypeId::INT32);
            PassBy::Int { bytes: 4, signed }
        }
        Kind::Ptr { bytes, .. } => PassBy::Int { bytes, signed: false },
        Kind::Ref { .. } => PassBy::Int { bytes: 8, signed: false },
        Kind::Float { bytes: 4 } => PassBy::F32,
        Kind::Float { bytes: 8 } => PassBy::F64,
        Kind::Complex { .. } => PassBy::Other,
        Kind::Record(_) if table.size(id).is_some_and(|s| s > 0) && !table.is_variable(id) => PassBy::Other,
        Kind::Record(_)
        | Kind::Int { .. }
        | Kind::Float { .. }
        | Kind::Vector { .. }
        | Kind::Array { .. }
        | Kind::Func(_) => {
            return Err(NotCallable);
        }
    })
}

/// Most elements of a record that is described to libffi.
const ELEMENTS_MAX: usize = 4096;

/// The scalars inside an aggregate: `(offset, kind)`.
fn scalars(
    table: &CTypeTable,
    id: CTypeId,
    base: u32,
    out: &mut Vec<(u32, PassBy)>,
    depth: u32,
) -> Result<(), NotCallable> {
    if out.len() > ELEMENTS_MAX || depth > 100 {
        return Err(NotCallable);
    }
    match table.kind(id) {
        Kind::Record(_) => {
            let record = table.record(id).ok_or(NotCallable)?;
            for field in &record.fields {
                if field.name.is_none() && table.record(field.ty).is_none() {
                    continue;
                }
                match field.bits {
                    Some(bits) => {
                        for byte in
                            u32::from(bits.pos) / 8..=(u32::from(bits.pos) + u32::from(bits.width) - 1) / 8
                        {
                            out.push((base + field.offset + byte, PassBy::Int { bytes: 1, signed: false }));
                        }
                    }
                    None => scalars(table, field.ty, base + field.offset, out, depth + 1)?,
                }
            }
        }
        Kind::Array { elem, len } => {
            let crate::ctype::ArrayLen::Fixed(n) = len else { return Ok(()) };
            let size = table.size(elem).ok_or(NotCallable)?;
            // Elements without a size take no part, however many there are.
            for i in 0..if size == 0 { 0 } else { n } {
                scalars(table, elem, base + i * size, out, depth + 1)?;
            }
        }
        Kind::Complex { bytes } => {
            let part = if bytes == 8 { PassBy::F32 } else { PassBy::F64 };
            out.push((base, part));
            out.push((base + u32::from(bytes) / 2, part));
        }
        _ => {
            let pass = pass_by(table, id)?;
            let size = table.size(id).ok_or(NotCallable)?;
            if !base.is_multiple_of((1 << table.layout(id).align_log2).min(size.max(1))) {
                return Err(NotCallable);
            }
            out.push((base, pass));
        }
    }
    Ok(())
}

/// Elements that make libffi classify the aggregate as the C compiler does.
fn aggregate_elements(table: &CTypeTable, id: CTypeId, size: u32) -> Result<Vec<*mut ffi_type>, NotCallable> {
    if size > 64 {
        // Travels in memory: only its size matters.
        let word = FfiType::of_scalar(1, true);
        return if size as usize <= ELEMENTS_MAX * 16 {
            Ok(vec![word; size as usize])
        } else {
            Err(NotCallable)
        };
    }
    let mut parts = Vec::new();
    scalars(table, id, 0, &mut parts, 0)?;
    if cfg!(target_arch = "x86_64") && size <= 16 { Ok(eightbytes(&parts, size)) } else { exact(parts) }
}

/// One or two elements per eight bytes, by System V's rule that an integer anywhere makes the whole eight bytes an integer.
fn eightbytes(parts: &[(u32, PassBy)], size: u32) -> Vec<*mut ffi_type> {
    use low::types;
    let mut out = Vec::new();
    for start in (0..size).step_by(8) {
        let bytes = (size - start).min(8);
        let within = parts.iter().filter(|(offset, _)| (start..start + 8).contains(offset));
        let (mut any, mut all_float, mut doubles) = (false, true, false);
        for (_, pass) in within {
            any = true;
            all_float &= matches!(pass, PassBy::F32 | PassBy::F64);
            doubles |= *pass == PassBy::F64;
        }
        if any && all_float {
            if doubles {
                out.push(&raw mut types::double);
            } else {
                out.push(&raw mut types::float);
                if bytes == 8 {
                    out.push(&raw mut types::float);
                }
            }
            continue;
        }
        let mut left = bytes;
        for step in [8u8, 4, 2, 1] {
            while left >= u32::from(step) {
                out.push(FfiType::of_scalar(step, true));
                left -= u32::from(step);
            }
        }
    }
    out
}

fn exact(mut parts: Vec<(u32, PassBy)>) -> Result<Vec<*mut ffi_type>, NotCallable> {
    use low::types;
    // Members of unions overlap: the first at each place stands for all.
    parts.sort_by_key(|(offset, _)| *offset);
    let mut end = 0;
    let mut out = Vec::new();
    for (offset, pass) in parts {
        if offset < end {
            continue;
        }
        let (ty, bytes) = match pass {
            PassBy::Int { bytes, signed } => (FfiType::of_scalar(bytes, !signed), u32::from(bytes)),
            PassBy::F32 => (&raw mut types::float, 4),
            PassBy::F64 => (&raw mut types::double, 8),
            PassBy::Nothing | PassBy::Other => return Err(NotCallable),
        };
        end = offset + bytes;
        out.push(ty);
    }
    Ok(out)
}

/// A signature made ready for calling.
pub struct Prepared {
    /// The arguments.
    pub args: Box<[ArgSlot]>,
    /// How the result travels.
    pub ret: PassBy,
    /// Declared type of the result.
    pub ret_ty: CTypeId,
    /// Size in bytes of the result's place.
    pub ret_bytes: u32,
    /// Number of declared parameters; the rest are varargs.
    pub fixed: u32,
    /// Whether the function takes varargs.
    pub variadic: bool,
    /// Bytes of the argument buffer.
    pub buffer_bytes: u32,
    /// All arguments fit into registers and can be passed without libffi.
    pub(super) in_registers: bool,
    /// Whether any argument travels in a floating point register.
    pub(super) any_float: bool,
    pub(super) cif: Box<ffi_cif>,
    _arg_types: Vec<FfiType>,
    _arg_list: Box<[*mut ffi_type]>,
    _ret_type: FfiType,
}

/// Integer registers used by the direct path.
pub(super) const INT_REGS: usize = 6;
/// Floating point registers used by the direct path.
pub(super) const FLOAT_REGS: usize = 8;

impl Prepared {
    /// Prepares `func` with `extra` arguments after the declared ones.
    pub fn new(table: &CTypeTable, func: &FuncType, extra: &[CTypeId]) -> Result<Prepared, NotCallable> {
        let mut args = Vec::with_capacity(func.params.len() + extra.len());
        let mut arg_types = Vec::with_capacity(args.capacity());
        let mut offset = 0u32;
        for &ty in func.params.iter().chain(extra) {
            let pass = pass_by(table, ty)?;
            let layout = table.layout(ty);
            let size = if pass == PassBy::Other { layout.size.ok_or(NotCallable)? } else { 8 };
            let align = (1u32 << layout.align_log2).clamp(8, 16);
            offset = offset.next_multiple_of(align);
            arg_types.push(FfiType::new(table, ty)?);
            args.push(ArgSlot { ty, offset, pass });
            offset = offset.checked_add(size).filter(|&o| o < 1 << 24).ok_or(NotCallable)?;
        }
        let ret_type = FfiType::new(table, func.ret)?;
        let ret = pass_by(table, func.ret)?;
        let ret_bytes = table.size(func.ret).unwrap_or(0);

        let mut arg_list: Box<[*mut ffi_type]> = arg_types.iter().map(FfiType::as_ptr).collect();
        let mut cif = Box::new(ffi_cif::default());
        let abi = libffi::raw::ffi_abi_FFI_DEFAULT_ABI;
        // SAFETY: the lists and the types they point to are owned by the value under construction and outlive the cif;
        // the counts are those of the list.
        let status = unsafe {
            if func.variadic {
                low::prep_cif_var(
                    &raw mut *cif,
                    abi,
                    func.params.len(),
                    arg_list.len(),
                    ret_type.as_ptr(),
                    arg_list.as_mut_ptr(),
                )
            } else {
                low::prep_cif(&raw mut *cif, abi, arg_list.len(), ret_type.as_ptr(), arg_list.as_mut_ptr())
            }
        };
        status.map_err(|_| NotCallable)?;

        let ints = args.iter().filter(|a| matches!(a.pass, PassBy::Int { .. })).count();
        let floats = args.iter().filter(|a| matches!(a.pass, PassBy::F32 | PassBy::F64)).count();
        let in_registers = cfg!(target_arch = "x86_64")
            && ints + floats == args.len()
            && ints <= INT_REGS
            && floats <= FLOAT_REGS
            && ret != PassBy::Other;
        Ok(Prepared {
            args: args.into(),
            ret,
            ret_ty: func.ret,
            ret_bytes,
            fixed: func.params.len() as u32,
            variadic: func.variadic,
            buffer_bytes: offset,
            in_registers,
            any_float: floats > 0 || func.variadic,
            cif,
            _arg_types: arg_types,
            _arg_list: arg_list,
            _ret_type: ret_type,
        })
    }

    /// The call interface for a closure of this signature; valid as long as `self`.
    pub fn cif_for_closure(&self) -> *mut ffi_cif {
        self.cif_ptr()
    }

    pub(super) fn cif_ptr(&self) -> *mut ffi_cif {
        ptr::from_ref(&*self.cif).cast_mut()
    }
}

/// A C function's address as libffi wants it.
pub(super) fn code_ptr(address: usize) -> low::CodePtr {
    low::CodePtr::from_ptr(address as *const c_void)
}
