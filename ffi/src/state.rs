//! What the ffi of one VM remembers: the type table, metatypes, finalizers, prepared calls.
//!
//! Reached from a native function through the VM's hook object. Shared by `Rc`, because a C call may come back into Lua while
//! an outer one is under way; every borrow of a cell ends before such a call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use moonlit_vm::cell::gc_ref::Gc;
use moonlit_vm::state::Vm;
use moonlit_vm::table::Table;
use moonlit_vm::value::Value;

use crate::call::{Direct, NotCallable, Prepared, VarargCache};
use crate::clib::Library;
use crate::ctype::{CTypeId, CTypeTable, Kind, Member, Name};

/// Makes a C function pointer out of a Lua function; installed by `callback`.
pub type MakeCallback = fn(&Vm, &Ffi, CTypeId, Value) -> Result<usize, CallbackError>;

/// Why no callback was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallbackError {
    /// All slots are taken.
    TooMany,
    /// The signature is one that callbacks do not support.
    NotSupported,
}

/// How an object of a type is made from numbers.
pub struct Maker {
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u32,
    /// Fields in order: offset in bytes and shape; only such that take a number.
    pub fields: Box<[(u32, Kind)]>,
}

/// A C call that compiled code has made and could not use the result of, because a callback ran meanwhile: the interpreter
/// finds it here where it is to make the call, and only takes the result.
#[derive(Default)]
#[repr(C)]
pub struct Made {
    /// Address of the first argument on the stack of the coroutine; 0 when there is no such call.
    pub at: Cell<u64>,
    /// The result as the C function left it, extended to a word if it is an integer.
    pub word: Cell<u64>,
    /// The result as a value, if `word` is none.
    pub value: Cell<Option<Value>>,
}

/// A metatype looked up before.
#[derive(Clone, Copy, Default)]
struct Looked {
    known: bool,
    table: Option<Gc<Table>>,
}

/// Entries of the member cache, a power of two.
const MEMBER_CACHE_ENTRIES: usize = 256;
/// Type strings remembered.
const PARSED_MAX: usize = 4096;
/// Type strings found by the address of their string object, a power of two.
const RECENT_ENTRIES: usize = 64;

/// A type string met before.
struct Recent {
    /// Address of the string object; the text decides, since addresses are used again.
    key: u64,
    text: Box<[u8]>,
    id: CTypeId,
}

struct MemberEntry {
    record: CTypeId,
    /// Address of the string object used as key; the name decides, since addresses are used again.
    key: u64,
    name: Name,
    member: Member,
    read_only: bool,
}

/// The ffi's state.
pub struct Ffi {
    /// All types and declared names.
    pub types: RefCell<CTypeTable>,
    /// Metatables by the number of the unqualified type.
    pub metatypes: RefCell<Vec<Option<Gc<Table>>>>,
    /// Finalizers by address of the C data object.
    pub finalizers: RefCell<HashMap<u64, Value>>,
    /// `errno` as the program sees it between C calls.
    pub errno: Cell<i32>,
    /// The error of a callback, kept until the C call that led to it returns.
    pub callback_error: Cell<Option<Value>>,
    /// Whether a callback was ever made: from then on a C function may come back. Compiled code looks at it.
    pub has_callbacks: Cell<u32>,
    /// Callbacks that ran so far. Compiled code compares it around a C call.
    pub callbacks_run: Cell<u64>,
    /// A C call whose result is still to be taken.
    pub made: Made,
    /// Functions of live callbacks by slot; roots.
    pub callback_functions: RefCell<Vec<Value>>,
    /// Set by the callback module.
    pub make_callback: Cell<Option<MakeCallback>>,
    /// The VM while a C call is under way, else null. Only `callback` looks through it.
    pub calling_vm: Cell<*mut Vm>,
    /// The default namespace.
    pub default_library: Rc<Library>,
    /// Whether the program uses C functions that write to the standard output: Lua's own output goes first then.
    pub shares_stdout: Cell<bool>,
    /// Callback slots; their contents are `callback`'s.
    pub callback_slots: RefCell<Vec<Box<dyn std::any::Any>>>,
    members: RefCell<Vec<Option<MemberEntry>>>,
    /// Metatypes by the number of any type that leads to them; empty after a change.
    looked: RefCell<Vec<Looked>>,
    /// By the number of a type: how it is made, if that is simple.
    makers: RefCell<Vec<Option<Rc<Maker>>>>,
    parsed: RefCell<HashMap<Box<[u8]>, CTypeId>>,
    recent: RefCell<Vec<Option<Recent>>>,
    prepared: RefCell<Vec<Option<Rc<Prepared>>>>,
    /// By the number of an object's type: how it is called.
    direct: RefCell<Vec<Option<Rc<Direct>>>>,
    varargs: RefCell<VarargCache>,
}

impl Ffi {
    /// Key of the metatable that all function pointers share.
    pub const FUNCTION_POINTERS: CTypeId = CTypeId::NONE;

    /// A fresh state whose default namespace is `library`.
    pub fn new(library: Library) -> Ffi {
        Ffi {
            types: RefCell::new(CTypeTable::default()),
            metatypes: RefCell::new(Vec::new()),
            finalizers: RefCell::new(HashMap::new()),
            errno: Cell::new(0),
            callback_error: Cell::new(None),
            has_callbacks: Cell::new(0),
            callbacks_run: Cell::new(0),
            made: Made::default(),
            callback_functions: RefCell::new(Vec::new()),
            make_callback: Cell::new(None),
            calling_vm: Cell::new(std::ptr::null_mut()),
            default_library: Rc::new(library),
            shares_stdout: Cell::new(false),
            callback_slots: RefCell::new(Vec::new()),
            members: RefCell::new((0..MEMBER_CACHE_ENTRIES).map(|_| None).collect()),
            looked: RefCell::new(Vec::new()),
            makers: RefCell::new(Vec::new()),
            parsed: RefCell::new(HashMap::new()),
            recent: RefCell::new((0..RECENT_ENTRIES).map(|_| None).collect()),
            prepared: RefCell::new(Vec::new()),
            direct: RefCell::new(Vec::new()),
            varargs: RefCell::new(VarargCache::default()),
        }
    }

    /// What `name` means in a record, and whether it must not be written; `key` is the address of the string object it came
    /// from.
    #[inline]
    pub fn member(
        &self,
        types: &CTypeTable,
        record: CTypeId,
        key: u64,
        name: &[u8],
    ) -> Option<(Member, bool)> {
        let slot =
            ((key >> 4) as usize ^ (record.raw() as usize).wrapping_mul(31)) & (MEMBER_CACHE_ENTRIES - 1);
        if let Some(e) = &self.members.borrow()[slot]
            && e.key == key
            && e.record == record
            && *e.name == *name
        {
            return Some((e.member, e.read_only));
        }
        let member = types.member(record, name)?;
        let read_only = types.get(record).quals.is_const()
            || matches!(member, Member::Field { ty, .. } if types.is_read_only(ty));
        self.members.borrow_mut()[slot] =
            Some(MemberEntry { record, key, name: name.into(), member, read_only });
        Some((member, read_only))
    }

    /// The type a string without parameters was parsed to before; `key` is the address of the string object.
    #[inline]
    pub fn parsed(&self, key: u64, source: &[u8]) -> Option<CTypeId> {
        let slot = (key >> 4) as usize & (RECENT_ENTRIES - 1);
        if let Some(r) = &self.recent.borrow()[slot]
            && r.key == key
            && *r.text == *source
        {
            return Some(r.id);
        }
        let id = self.parsed.borrow().get(source).copied()?;
        self.recent.borrow_mut()[slot] = Some(Recent { key, text: source.into(), id });
        Some(id)
    }

    /// Remembers a parsed type string. One with a body declares something new each time and is not remembered.
    pub fn remember_parsed(&self, source: &[u8], id: CTypeId) {
        if source.contains(&b'{') {
            return;
        }
        let mut parsed = self.parsed.borrow_mut();
        if parsed.len() >= PARSED_MAX {
            parsed.clear();
        }
        parsed.insert(source.into(), id);
    }

    /// The prepared call of a function type without extra arguments.
    pub fn prepared(&self, types: &CTypeTable, id: CTypeId) -> Result<Rc<Prepared>, NotCallable> {
        let index = id.raw() as usize;
        if let Some(Some(p)) = self.prepared.borrow().get(index) {
            return Ok(p.clone());
        }
        let func = types.signature(id).ok_or(NotCallable)?;
        let p = Rc::new(Prepared::new(types, func, &[])?);
        let mut all = self.prepared.borrow_mut();
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        all[index] = Some(p.clone());
        Ok(p)
    }

    /// How objects of type `id`, functions or pointers to such, are called with words; `None` if that is not known.
    #[inline]
    pub fn direct(&self, id: CTypeId) -> Option<Rc<Direct>> {
        self.direct.borrow().get(id.raw() as usize)?.clone()
    }

    /// Remembers how objects of type `id` are called.
    pub fn remember_direct(&self, id: CTypeId, direct: Rc<Direct>) {
        let mut all = self.direct.borrow_mut();
        let index = id.raw() as usize;
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        all[index] = Some(direct);
    }

    /// The prepared call of a variadic function type with extra arguments of these types.
    pub fn prepared_variadic(
        &self,
        types: &CTypeTable,
        id: CTypeId,
        extra: &[CTypeId],
    ) -> Result<Rc<Prepared>, NotCallable> {
        let func = types.signature(id).ok_or(NotCallable)?;
        self.varargs.borrow_mut().get(types, id, func, extra)
    }

    /// The metatable of a type, found through references and without regard to qualifiers.
    #[inline]
    pub fn metatype(&self, types: &CTypeTable, id: CTypeId) -> Option<Gc<Table>> {
        let index = id.raw() as usize;
        if let Some(l) = self.looked.borrow().get(index)
            && l.known
        {
            return l.table;
        }
        self.find_metatype(types, id)
    }

    #[cold]
    fn find_metatype(&self, types: &CTypeTable, id: CTypeId) -> Option<Gc<Table>> {
        let target = types.deref(id);
        let target = match types.kind(target) {
            Kind::Ptr { to, .. } if matches!(types.kind(to), Kind::Func(_)) => Ffi::FUNCTION_POINTERS,
            _ => types.record(target).map_or(target, |r| r.id),
        };
        let table = self.metatypes.borrow().get(target.raw() as usize).copied().flatten();
        let mut looked = self.looked.borrow_mut();
        let index = id.raw() as usize;
        if looked.len() <= index {
            looked.resize(index + 1, Looked::default());
        }
        looked[index] = Looked { known: true, table };
        table
    }

    /// How objects of a type are made from numbers, if that was found out.
    #[inline]
    pub fn maker(&self, id: CTypeId) -> Option<Rc<Maker>> {
        self.makers.borrow().get(id.raw() as usize)?.clone()
    }

    /// Remembers how objects of a type are made. It must hold for ever.
    pub fn remember_maker(&self, id: CTypeId, maker: Rc<Maker>) {
        let mut all = self.makers.borrow_mut();
        let index = id.raw() as usize;
        if all.len() <= index {
            all.resize(index + 1, None);
        }
        all[index] = Some(maker);
    }

    /// Gives a type its metatable, once and for all. Tells whether it had none.
    pub fn set_metatype(&self, id: CTypeId, t: Gc<Table>) -> bool {
        let mut metatypes = self.metatypes.borrow_mut();
        let index = id.raw() as usize;
        if metatypes.len() <= index {
            metatypes.resize(index + 1, None);
        }
        let free = metatypes[index].is_none();
        if free {
            self.looked.borrow_mut().clear();
            metatypes[index] = Some(t);
        }
        free
    }
}
