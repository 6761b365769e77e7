//! C to Lua: function pointers that run Lua functions.
//!
//! ```text
//! C caller -> libffi closure -> enter(slot) -> Vm::call(function, arguments) -> result converted back
//! ```
//! An error in the Lua function is kept, the callback returns zero, and the error is raised when the outer C call returns:
//! nothing unwinds through C. A yield across it is refused by the nested run.

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::thread::ThreadId;

use libffi::low::{self, ffi_cif, ffi_closure};
use moonlit_vm::bytecode::chunkname;
use moonlit_vm::function::closure::Func;
use moonlit_vm::state::Vm;
use moonlit_vm::value::{Value, tag};

use crate::call::{PassBy, Prepared};
use crate::cdata::access;
use crate::convert::{self, Flags};
use crate::ctype::{CTypeId, Kind};
use crate::state::{CallbackError, Ffi};

/// Functions that can be callbacks at the same time.
const CALLBACKS_MAX: usize = 896;

/// One closure. Never moves; its address is known to the machine code that libffi made.
struct Slot {
    ffi: *const Ffi,
    index: usize,
    ty: CTypeId,
    prepared: Rc<Prepared>,
    owner: ThreadId,
    closure: *mut ffi_closure,
    code: usize,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // SAFETY: the closure was allocated for this slot and is freed once, here.
        unsafe { low::closure_free(self.closure) };
    }
}

fn slot(boxed: &dyn std::any::Any) -> Option<&Slot> {
    boxed.downcast_ref::<Box<Slot>>().map(|b| &**b)
}

/// Makes a C function pointer of type `ty` (a function type) that calls `function`.
pub fn make(_vm: &Vm, ffi: &Ffi, ty: CTypeId, function: Value) -> Result<usize, CallbackError> {
    {
        // A freed slot of the same type serves again.
        let mut functions = ffi.callback_functions.borrow_mut();
        let slots = ffi.callback_slots.borrow();
        for (i, s) in slots.iter().enumerate() {
            if let Some(s) = slot(&**s).filter(|s| s.ty == ty && functions[i].is_nil()) {
                functions[i] = function;
                return Ok(s.code);
            }
        }
        if functions.iter().filter(|f| !f.is_nil()).count() >= CALLBACKS_MAX {
            return Err(CallbackError::TooMany);
        }
    }
    let prepared = {
        let types = ffi.types.borrow();
        let p = ffi.prepared(&types, ty).map_err(|_| CallbackError::NotSupported)?;
        let scalar = p.args.iter().all(|a| a.pass != PassBy::Other) && p.ret != PassBy::Other;
        if !scalar || p.variadic {
            return Err(CallbackError::NotSupported);
        }
        p
    };
    let (closure, code) = low::try_closure_alloc().ok_or(CallbackError::TooMany)?;
    let index = ffi.callback_slots.borrow().len();
    let data = Box::new(Slot {
        ffi,
        index,
        ty,
        prepared,
        owner: std::thread::current().id(),
        closure,
        code: code.as_ptr() as usize,
    });
    // SAFETY: the closure was just allocated; the cif lives in `prepared` and `data` in a box, both kept by the slot, which is
    // dropped together with the closure.
    let status = unsafe {
        libffi::raw::ffi_prep_closure_loc(
            closure,
            data.prepared.cif_for_closure(),
            Some(enter),
            std::ptr::from_ref(&*data).cast_mut().cast::<c_void>(),
            code.as_mut_ptr(),
        )
    };
    if status != libffi::raw::ffi_status_FFI_OK {
        return Err(CallbackError::NotSupported);
    }
    let address = data.code;
    ffi.has_callbacks.set(1);
    ffi.callback_slots.borrow_mut().push(Box::new(data));
    ffi.callback_functions.borrow_mut().push(function);
    Ok(address)
}

/// Gives a callback another function, or none (`nil`). Tells whether there is such a callback.
pub fn replace(ffi: &Ffi, address: usize, function: Value) -> bool {
    let slots = ffi.callback_slots.borrow();
    let Some(s) = slots.iter().filter_map(|s| slot(&**s)).find(|s| s.code == address) else { return false };
    let mut functions = ffi.callback_functions.borrow_mut();
    if functions[s.index].is_nil() {
        return false;
    }
    functions[s.index] = function;
    true
}

/// Where libffi's closures arrive.
///
/// # Safety
/// Called by libffi with the slot given at preparation and with arguments as its cif describes them.
unsafe extern "C" fn enter(
    _cif: *mut ffi_cif,
    result: *mut c_void,
    args: *mut *mut c_void,
    data: *mut c_void,
) {
    // SAFETY: the box behind `data` lives as long as the closure.
    let slot = unsafe { &*data.cast::<Slot>() };
    let place = result as usize;
    if slot.prepared.ret != PassBy::Nothing {
        access::fill(place, slot.prepared.ret_bytes.max(8) as usize, 0);
    }
    if std::thread::current().id() != slot.owner {
        return;
    }
    // SAFETY: the slot belongs to this state, which drops its slots before itself.
    let ffi = unsafe { &*slot.ffi };
    let vm = ffi.calling_vm.get();
    let previous_error = ffi.callback_error.take();
    ffi.callback_error.set(previous_error);
    if vm.is_null() || previous_error.is_some() {
        return;
    }
    // SAFETY: a C call made by this VM is under way on this thread (the pointer is set only then), and it does not touch the VM
    // until it is over.
    let vm = unsafe { &mut *vm };
    // SAFETY: libffi passes one pointer per parameter.
    let args = unsafe { std::slice::from_raw_parts(args, slot.prepared.args.len()) };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    ffi.errno.set(errno);
    ffi.callbacks_run.set(ffi.callbacks_run.get().wrapping_add(1));
    // What the callback does is no part of what is being recorded, and code that called it must stay.
    let paused = vm.enter_callback();
    let run = catch_unwind(AssertUnwindSafe(|| run(vm, ffi, slot, args, place)));
    vm.leave_callback(paused);
    if let Ok(Err(error)) = run {
        ffi.callback_error.set(Some(error));
    } else if run.is_err() {
        let text = vm.heap.str(b"internal error in a callback");
        ffi.callback_error.set(Some(Value::obj(text)));
    }
    // SAFETY: always the address of this thread's variable.
    unsafe { *libc::__errno_location() = ffi.errno.get() };
}

/// `source:line: ` of the end of a Lua function: where its result was refused.
fn end_of(vm: &Vm, function: Value) -> Vec<u8> {
    let Some(lua) = function.as_obj::<Func>().and_then(|f| f.as_lua(&vm.heap)) else { return Vec::new() };
    let proto = lua.get(&vm.heap).proto.get(&vm.heap);
    let mut text = chunkname::shorten(proto.chunkname.bytes(&vm.heap));
    text.extend_from_slice(format!(":{}: ", proto.lastline).as_bytes());
    text
}

fn run(vm: &mut Vm, ffi: &Ffi, slot: &Slot, args: &[*mut c_void], place: usize) -> Result<(), Value> {
    let function = ffi.callback_functions.borrow()[slot.index];
    if function.tag() != tag::FUNC {
        return Err(Value::obj(vm.heap.str(b"bad callback")));
    }
    let mut few = [Value::NIL; 8];
    let mut many = Vec::new();
    let values = if args.len() <= few.len() {
        &mut few[..args.len()]
    } else {
        many.resize(args.len(), Value::NIL);
        &mut many[..]
    };
    for ((v, a), addr) in values.iter_mut().zip(&slot.prepared.args).zip(args) {
        *v = convert::from_c(vm, ffi, a.ty, *addr as usize);
    }
    let outer = ffi.calling_vm.get();
    let results = vm.call(function, values);
    ffi.calling_vm.set(outer);
    let results = results.map_err(|_| vm.take_error())?;
    let ty = slot.prepared.ret_ty;
    let types = ffi.types.borrow();
    if types.kind(ty) == Kind::Void {
        return Ok(());
    }
    let value = results.first().copied().unwrap_or(Value::NIL);
    let mut word = [0u8; 16];
    let addr = word.as_mut_ptr() as usize;
    if let Err(e) = convert::to_c(vm, ffi, &types, ty, addr, value, Flags::default()) {
        drop(types);
        let mut message = end_of(vm, function);
        message.extend_from_slice(e.message());
        return Err(Value::obj(vm.heap.str(&message)));
    }
    match slot.prepared.ret {
        // libffi takes small integers as whole registers.
        PassBy::Int { bytes, signed: true } => {
            access::store_int(place, 8, access::load_int(addr, bytes) as u64)
        }
        PassBy::Int { bytes, signed: false } => access::store_int(place, 8, access::load_uint(addr, bytes)),
        PassBy::F32 => access::copy(place, addr, 4),
        _ => access::copy(place, addr, 8),
    }
    Ok(())
}
