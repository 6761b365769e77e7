//! The table of all C types and declared names of one VM.
//!
//! Interning: a type is added once. Sizes of arrays are fixed when the array type is made (its element must be complete),
//! so asking for a size never walks more than one step.

use std::collections::HashMap;
use std::rc::Rc;

use super::CTypeId;
use super::builtin::{self, Abi};
use super::info::{
    ArrayLen, CType, Constant, EnumType, Field, FuncType, Kind, Member, Name, Quals, Record, Symbol,
};

/// A C object of unknown size, or of more than 2^31 - 1 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SizeError;

/// Size and alignment of a type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Size in bytes; `None` for incomplete types, functions, `void` and arrays without a length.
    pub size: Option<u32>,
    /// log2 of the alignment.
    pub align_log2: u8,
}

/// Largest size of a C object, exclusive.
pub const SIZE_LIMIT_BYTES: u64 = 0x8000_0000;

const UNKNOWN: u32 = u32::MAX;

struct Entry {
    ty: CType,
    /// Size in bytes or `UNKNOWN`; not used for records and enums, which can be completed later.
    size: u32,
    align_log2: u8,
    /// Reference to this type, once there is one.
    reference: Option<CTypeId>,
    /// Unqualified pointer to this type, once there is one.
    pointer: Option<CTypeId>,
}

/// All types, tags and ordinary names of one VM.
pub struct CTypeTable {
    abi: Abi,
    types: Vec<Entry>,
    interned: HashMap<CType, CTypeId>,
    records: Vec<Record>,
    enums: Vec<EnumType>,
    funcs: Vec<Rc<FuncType>>,
    func_index: HashMap<Rc<FuncType>, u32>,
    tags: HashMap<Name, CTypeId>,
    names: HashMap<Name, Symbol>,
    /// Names and tags (`true`) declared since the last `begin`.
    journal: Vec<(bool, Name)>,
}

impl Default for CTypeTable {
    fn default() -> Self {
        Self::new(Abi::host())
    }
}

impl CTypeTable {
    /// A table with the predefined types of `abi`.
    pub fn new(abi: Abi) -> CTypeTable {
        let mut table = CTypeTable {
            abi,
            types: Vec::new(),
            interned: HashMap::new(),
            records: Vec::new(),
            enums: Vec::new(),
            funcs: Vec::new(),
            func_index: HashMap::new(),
            tags: HashMap::new(),
            names: HashMap::new(),
            journal: Vec::new(),
        };
        builtin::populate(&mut table);
        table
    }

    /// The ABI that sizes follow.
    pub fn abi(&self) -> Abi {
        self.abi
    }

    pub(super) fn push_fixed(&mut self, index: usize, ty: CType) {
        debug_assert_eq!(index, self.types.len());
        let id = self.push(ty);
        // `NONE` looks like void but must not be what a search for void finds.
        if index != 0 {
            self.interned.insert(ty, id);
        }
    }

    pub(super) fn push_ctypeid(&mut self) {
        let id = self.new_enum(None);
        debug_assert_eq!(id, CTypeId::CTYPEID);
        self.complete_enum(id, CTypeId::INT32);
    }

    fn push(&mut self, ty: CType) -> CTypeId {
        let layout = self.compute(&ty);
        let id = CTypeId::from_raw(self.types.len() as u32);
        self.types.push(Entry {
            ty,
            size: layout.size.unwrap_or(UNKNOWN),
            align_log2: layout.align_log2,
            reference: None,
            pointer: None,
        });
        id
    }

    /// Natural layout by shape, then the explicit alignment.
    fn compute(&self, ty: &CType) -> Layout {
        let (size, align) = match ty.kind {
            Kind::Void | Kind::Func(_) => (None, 0),
            Kind::Bool => (Some(1), 0),
            Kind::Int { bytes, .. } | Kind::Float { bytes } | Kind::Ptr { bytes, .. } => {
                (Some(u32::from(bytes)), (bytes.trailing_zeros() as u8).min(4))
            }
            Kind::Complex { bytes } => (Some(u32::from(bytes)), (bytes / 2).trailing_zeros() as u8),
            Kind::Vector { bytes, .. } => (Some(bytes), (bytes.trailing_zeros() as u8).min(4)),
            Kind::Ref { .. } => (Some(8), 3),
            Kind::Array { elem, len } => {
                let inner = self.layout(elem);
                let size = match (inner.size, len) {
                    (Some(size), ArrayLen::Fixed(n)) => u32::try_from(u64::from(size) * u64::from(n)).ok(),
                    (_, ArrayLen::Fixed(_) | ArrayLen::Unknown | ArrayLen::Variable) => None,
                };
                (size, inner.align_log2)
            }
            Kind::Record(_) | Kind::Enum(_) => (None, 0),
        };
        Layout { size, align_log2: ty.align_log2.unwrap_or(align) }
    }

    /// The id of `ty`, added if it was not there.
    pub fn intern(&mut self, ty: CType) -> CTypeId {
        if let Some(&id) = self.interned.get(&ty) {
            return id;
        }
        let id = self.push(ty);
        self.interned.insert(ty, id);
        id
    }

    /// Number of types; ids below it are valid.
    pub fn len(&self) -> u32 {
        self.types.len() as u32
    }

    /// Never: there are always the predefined types.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Whether `id` belongs to this table.
    pub fn contains(&self, id: CTypeId) -> bool {
        id.index() < self.types.len()
    }

    /// Description of `id`.
    pub fn get(&self, id: CTypeId) -> CType {
        self.types[id.index()].ty
    }

    /// Shape of `id`.
    pub fn kind(&self, id: CTypeId) -> Kind {
        self.types[id.index()].ty.kind
    }

    /// Size and alignment of `id`.
    pub fn layout(&self, id: CTypeId) -> Layout {
        let entry = &self.types[id.index()];
        match entry.ty.kind {
            Kind::Record(index) => {
                let record = &self.records[index as usize];
                Layout {
                    size: record.complete.then_some(record.size),
                    align_log2: entry.ty.align_log2.unwrap_or(0).max(record.align_log2),
                }
            }
            Kind::Enum(index) => Layout {
                size: self.enums[index as usize].complete.then_some(4),
                align_log2: entry.ty.align_log2.unwrap_or(2),
            },
            Kind::Void
            | Kind::Bool
            | Kind::Int { .. }
            | Kind::Float { .. }
            | Kind::Complex { .. }
            | Kind::Vector { .. }
            | Kind::Ptr { .. }
            | Kind::Ref { .. }
            | Kind::Array { .. }
            | Kind::Func(_) => {
                Layout { size: (entry.size != UNKNOWN).then_some(entry.size), align_log2: entry.align_log2 }
            }
        }
    }

    /// Size in bytes, if known.
    pub fn size(&self, id: CTypeId) -> Option<u32> {
        self.layout(id).size
    }

    /// Whether objects of this type need a length when made: a `[?]` array or a record that ends in one.
    pub fn is_variable(&self, id: CTypeId) -> bool {
        match self.kind(id) {
            Kind::Array { len, .. } => len == ArrayLen::Variable,
            Kind::Record(index) => self.records[index as usize].variable,
            _ => false,
        }
    }

    /// Size in bytes of a `[?]` type with `n` elements.
    pub fn variable_size(&self, id: CTypeId, n: u32) -> Result<u32, SizeError> {
        let (fixed, array) = match self.kind(id) {
            Kind::Record(index) => {
                let record = &self.records[index as usize];
                (u64::from(record.size), record.fields.last().map(|f| f.ty))
            }
            _ => (0, Some(id)),
        };
        let Some(array) = array else { return Err(SizeError) };
        let Kind::Array { elem, .. } = self.kind(array) else { return Err(SizeError) };
        let elem_size = u64::from(self.size(elem).ok_or(SizeError)?);
        let total = fixed + elem_size * u64::from(n);
        if total < SIZE_LIMIT_BYTES { Ok(total as u32) } else { Err(SizeError) }
    }

    /// Pointer to `to`.
    pub fn ptr_to(&mut self, to: CTypeId) -> CTypeId {
        if let Some(id) = self.types[to.index()].pointer {
            return id;
        }
        let id = self.intern(CType::plain(Kind::Ptr { to, bytes: 8 }));
        self.types[to.index()].pointer = Some(id);
        id
    }

    /// Reference to `to`; a reference to a reference is that reference.
    pub fn ref_to(&mut self, to: CTypeId) -> CTypeId {
        if let Some(id) = self.types[to.index()].reference {
            return id;
        }
        if let Kind::Ref { .. } = self.kind(to) {
            return to;
        }
        let id = self.intern(CType::plain(Kind::Ref { to }));
        self.types[to.index()].reference = Some(id);
        id
    }

    /// The reference to `to`, if it was made before.
    pub fn known_ref(&self, to: CTypeId) -> Option<CTypeId> {
        self.types[to.index()].reference
    }

    /// The pointer to `to`, if it was made before.
    pub fn known_ptr(&self, to: CTypeId) -> Option<CTypeId> {
        self.types[to.index()].pointer
    }

    /// Array of `elem`. The element's size must be known, and the whole must stay below 2 GB.
    pub fn array_of(&mut self, elem: CTypeId, len: ArrayLen) -> Result<CTypeId, SizeError> {
        let size = u64::from(self.size(elem).ok_or(SizeError)?);
        if let ArrayLen::Fixed(n) = len
            && size * u64::from(n) >= SIZE_LIMIT_BYTES
        {
            return Err(SizeError);
        }
        Ok(self.intern(CType::plain(Kind::Array { elem, len })))
    }

    /// `id` with `quals` added. The qualifiers of an array are those of its elements.
    pub fn qualified(&mut self, id: CTypeId, quals: Quals) -> CTypeId {
        if quals.is_empty() {
            return id;
        }
        // Down through the dimensions, then back up.
        let mut dims = Vec::new();
        let mut inner = id;
        while let Kind::Array { elem, len } = self.kind(inner) {
            dims.push((len, self.get(inner).align_log2));
            inner = elem;
        }
        let ty = self.get(inner);
        if matches!(ty.kind, Kind::Ref { .. } | Kind::Func(_)) || ty.quals.contains(quals) {
            return id;
        }
        let mut result = self.intern(CType { quals: ty.quals.with(quals), ..ty });
        for (len, align_log2) in dims.into_iter().rev() {
            result = self.intern(CType {
                kind: Kind::Array { elem: result, len },
                quals: Quals::NONE,
                align_log2,
            });
        }
        result
    }

    /// `id` without its own qualifiers and explicit alignment (those of what it points to stay).
    pub fn unqualified(&mut self, id: CTypeId) -> CTypeId {
        let ty = self.get(id);
        if ty.quals.is_empty() && ty.align_log2.is_none() {
            return id;
        }
        self.intern(CType::plain(ty.kind))
    }

    /// `id` with an alignment given by an attribute.
    pub fn aligned(&mut self, id: CTypeId, align_log2: u8) -> CTypeId {
        let ty = self.get(id);
        self.intern(CType { align_log2: Some(align_log2), ..ty })
    }

    /// The type behind a reference, or `id` itself.
    pub fn deref(&self, id: CTypeId) -> CTypeId {
        if let Kind::Ref { to } = self.kind(id) { to } else { id }
    }

    /// Qualifiers of `id`; of an array, those of its elements.
    pub fn quals(&self, id: CTypeId) -> Quals {
        let mut id = id;
        loop {
            let ty = self.get(id);
            match ty.kind {
                Kind::Array { elem, .. } => id = elem,
                _ => return ty.quals,
            }
        }
    }

    /// Whether objects of this type cannot be assigned: `const`, or a record with a `const` member.
    pub fn is_read_only(&self, id: CTypeId) -> bool {
        self.quals(id).is_const() || self.record(id).is_some_and(|r| r.has_const)
    }

    // Records.

    /// A new incomplete struct or union.
    pub fn new_record(&mut self, is_union: bool, tag: Option<Name>) -> CTypeId {
        let index = self.records.len() as u32;
        let id = self.intern(CType::plain(Kind::Record(index)));
        self.records.push(Record {
            is_union,
            tag,
            id,
            complete: false,
            variable: false,
            has_const: false,
            size: 0,
            align_log2: 0,
            fields: Vec::new(),
            members: HashMap::new(),
        });
        id
    }

    /// The record that `id` names, if it names one.
    pub fn record(&self, id: CTypeId) -> Option<&Record> {
        match self.kind(id) {
            Kind::Record(index) => Some(&self.records[index as usize]),
            _ => None,
        }
    }

    /// Gives a record its body. Fields come laid out; names of anonymous inner records are made visible here.
    pub fn complete_record(&mut self, id: CTypeId, body: RecordBody) {
        let Kind::Record(index) = self.kind(id) else { return };
        let mut members: HashMap<Name, Member> = HashMap::with_capacity(body.fields.len());
        for (name, constant) in body.consts {
            members.insert(name, Member::Const(constant));
        }
        for field in &body.fields {
            match &field.name {
                // The first of two fields with one name wins, as a search from the front would have it.
                Some(name) => {
                    members.entry(name.clone()).or_insert(Member::Field {
                        ty: field.ty,
                        offset: field.offset,
                        bits: field.bits,
                    });
                }
                None => {
                    let quals = self.get(field.ty).quals;
                    let inner: Vec<(Name, Member)> = match self.kind(field.ty) {
                        Kind::Record(inner) => self.records[inner as usize]
                            .members
                            .iter()
                            .map(|(n, m)| (n.clone(), *m))
                            .collect(),
                        Kind::Enum(inner) => {
                            let inner = &self.enums[inner as usize];
                            let ty = inner.base;
                            let one = |(n, v): (&Name, &i64)| {
                                (n.clone(), Member::Const(Constant { ty, value: *v }))
                            };
                            inner.consts.iter().map(one).collect()
                        }
                        _ => Vec::new(),
                    };
                    for (name, member) in inner {
                        let member = match member {
                            Member::Field { ty, offset, bits } => Member::Field {
                                ty: self.qualified(ty, quals),
                                offset: offset + field.offset,
                                bits,
                            },
                            Member::Const(_) => member,
                        };
                        members.entry(name).or_insert(member);
                    }
                }
            }
        }
        let has_const = body.fields.iter().any(|f| self.is_read_only(f.ty));
        let record = &mut self.records[index as usize];
        record.has_const = has_const;
        record.fields = body.fields;
        record.members = members;
        record.size = body.size;
        record.align_log2 = body.align_log2;
        record.variable = body.variable;
        record.complete = true;
    }

    /// What `name` means inside the record `id`.
    pub fn member(&self, id: CTypeId, name: &[u8]) -> Option<Member> {
        self.record(id)?.members.get(name).copied()
    }

    // Enums.

    /// A new incomplete enum.
    pub fn new_enum(&mut self, tag: Option<Name>) -> CTypeId {
        let index = self.enums.len() as u32;
        self.enums.push(EnumType {
            tag,
            id: CTypeId::NONE,
            complete: false,
            base: CTypeId::UINT32,
            consts: HashMap::new(),
        });
        let id = self.intern(CType::plain(Kind::Enum(index)));
        self.enums[index as usize].id = id;
        id
    }

    /// The enum that `id` names, if it names one.
    pub fn enumeration(&self, id: CTypeId) -> Option<&EnumType> {
        match self.kind(id) {
            Kind::Enum(index) => Some(&self.enums[index as usize]),
            _ => None,
        }
    }

    /// Adds a member to an enum under construction.
    pub fn add_enum_const(&mut self, id: CTypeId, name: Name, value: i64) {
        if let Kind::Enum(index) = self.kind(id) {
            self.enums[index as usize].consts.insert(name, value);
        }
    }

    /// Ends the body of an enum: its values are held in `base`.
    pub fn complete_enum(&mut self, id: CTypeId, base: CTypeId) {
        if let Kind::Enum(index) = self.kind(id) {
            let e = &mut self.enums[index as usize];
            e.base = base;
            e.complete = true;
        }
    }

    // Functions.

    /// The type of a function with this signature.
    pub fn func(&mut self, func: FuncType) -> CTypeId {
        if let Some(&index) = self.func_index.get(&func) {
            return self.intern(CType::plain(Kind::Func(index)));
        }
        let func = Rc::new(func);
        let index = self.funcs.len() as u32;
        self.funcs.push(func.clone());
        self.func_index.insert(func, index);
        self.intern(CType::plain(Kind::Func(index)))
    }

    /// Signature of a function type.
    pub fn signature(&self, id: CTypeId) -> Option<&Rc<FuncType>> {
        match self.kind(id) {
            Kind::Func(index) => Some(&self.funcs[index as usize]),
            _ => None,
        }
    }

    // Names.

    /// The record or enum with this tag.
    pub fn tag(&self, name: &[u8]) -> Option<CTypeId> {
        self.tags.get(name).copied()
    }

    /// Begins a group of declarations that can be taken back.
    pub fn begin(&mut self) {
        self.journal.clear();
    }

    /// Forgets the names and tags declared since `begin`. The types stay, unreachable: objects may have them.
    pub fn take_back(&mut self) {
        for (is_tag, name) in std::mem::take(&mut self.journal) {
            if is_tag {
                self.tags.remove(&name);
            } else {
                self.names.remove(&name);
            }
        }
    }

    /// Declares a tag.
    pub fn declare_tag(&mut self, name: Name, id: CTypeId) {
        self.journal.push((true, name.clone()));
        self.tags.insert(name, id);
    }

    /// What an ordinary name stands for.
    pub fn symbol(&self, name: &[u8]) -> Option<&Symbol> {
        self.names.get(name)
    }

    /// Declares an ordinary name. A second declaration of a name is ignored; tells whether this was the first.
    pub fn declare(&mut self, name: Name, symbol: Symbol) -> bool {
        match self.names.entry(name) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(slot) => {
                self.journal.push((false, slot.key().clone()));
                slot.insert(symbol);
                true
            }
        }
    }
}

/// The body of a struct or union, laid out.
#[derive(Default)]
pub struct RecordBody {
    /// Members in declaration order.
    pub fields: Vec<Field>,
    /// Scoped constants.
    pub consts: Vec<(Name, Constant)>,
    /// Size in bytes.
    pub size: u32,
    /// log2 of the alignment.
    pub align_log2: u8,
    /// Whether it ends in a `[?]` array.
    pub variable: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_ids_name_the_types_they_promise() {
        let table = CTypeTable::default();
        assert_eq!(table.size(CTypeId::INT64), Some(8));
        assert_eq!(table.size(CTypeId::COMPLEX_DOUBLE), Some(16));
        assert_eq!(table.kind(CTypeId::P_CCHAR), Kind::Ptr { to: CTypeId::CCHAR, bytes: 8 });
        assert_eq!(table.size(CTypeId::CTYPEID), Some(4));
        assert_eq!(table.size(CTypeId::VOID), None);
        assert!(table.get(CTypeId::CCHAR).quals.is_const());
    }

    #[test]
    fn equal_types_have_equal_ids() {
        let mut table = CTypeTable::default();
        assert_eq!(table.ptr_to(CTypeId::VOID), CTypeId::P_VOID);
        let a = table.array_of(CTypeId::INT32, ArrayLen::Fixed(3)).expect("int has a size");
        let b = table.array_of(CTypeId::INT32, ArrayLen::Fixed(3)).expect("int has a size");
        assert_eq!(a, b);
        assert_eq!(table.unqualified(CTypeId::CCHAR), CTypeId::INT8);
    }

    #[test]
    fn arrays_of_two_gigabytes_are_refused() {
        let mut table = CTypeTable::default();
        assert!(table.array_of(CTypeId::INT32, ArrayLen::Fixed(0x1fff_ffff)).is_ok());
        assert_eq!(table.array_of(CTypeId::INT32, ArrayLen::Fixed(0x2000_0000)), Err(SizeError));
        assert_eq!(table.array_of(CTypeId::VOID, ArrayLen::Fixed(1)), Err(SizeError));
    }

    #[test]
    fn qualifying_an_array_qualifies_its_elements() {
        let mut table = CTypeTable::default();
        let inner = table.array_of(CTypeId::INT32, ArrayLen::Fixed(3)).expect("int has a size");
        let outer = table.array_of(inner, ArrayLen::Fixed(2)).expect("int[3] has a size");
        let outer = table.qualified(outer, Quals::CONST);
        assert!(table.quals(outer).is_const());
        assert!(table.get(outer).quals.is_empty());
        assert_eq!(table.size(outer), Some(24));
    }
}
