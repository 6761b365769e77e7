//! Declaration specifiers: keywords, attributes, struct, union and enum bodies.

use super::CdeclError;
use super::decl::{DeclaratorMode, Mode, Parser};
use super::error::text;
use super::lexer::{self, Token};
use crate::ctype::layout::{FieldShape, Layouter};
use crate::ctype::table::RecordBody;
use crate::ctype::{ArrayLen, CType, CTypeId, CallConv, Constant, Field, Kind, Name, Quals, Symbol};

/// Keywords; several spellings each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Keyword {
    Void,
    Bool,
    Char,
    Int,
    /// `__int8` and its relatives: size in bytes
    IntN(u8),
    Float,
    Double,
    Short,
    Long,
    Signed,
    Unsigned,
    Complex,
    Const,
    Volatile,
    Restrict,
    Inline,
    Typedef,
    Extern,
    Static,
    Auto,
    Register,
    Struct,
    Union,
    Enum,
    Extension,
    Attribute,
    Asm,
    Declspec,
    Conv(CallConv),
    PtrSize(u8),
    Sizeof,
    Alignof,
}

/// The keyword that `text` spells, if any.
pub(super) fn keyword(text: &[u8]) -> Option<Keyword> {
    use Keyword::*;
    Some(match text {
        b"void" => Void,
        b"_Bool" | b"bool" => Bool,
        b"char" => Char,
        b"int" => Int,
        b"__int8" => IntN(1),
        b"__int16" => IntN(2),
        b"__int32" => IntN(4),
        b"__int64" => IntN(8),
        b"float" => Float,
        b"double" => Double,
        b"short" => Short,
        b"long" => Long,
        b"signed" | b"__signed" | b"__signed__" => Signed,
        b"unsigned" => Unsigned,
        b"_Complex" | b"complex" | b"__complex" | b"__complex__" => Complex,
        b"const" | b"__const" | b"__const__" => Const,
        b"volatile" | b"__volatile" | b"__volatile__" => Volatile,
        b"restrict" | b"__restrict" | b"__restrict__" => Restrict,
        b"inline" | b"__inline" | b"__inline__" => Inline,
        b"typedef" => Typedef,
        b"extern" => Extern,
        b"static" => Static,
        b"auto" => Auto,
        b"register" => Register,
        b"struct" => Struct,
        b"union" => Union,
        b"enum" => Enum,
        b"__extension__" => Extension,
        b"__attribute__" | b"__attribute" => Attribute,
        b"asm" | b"__asm" | b"__asm__" => Asm,
        b"__declspec" => Declspec,
        b"__cdecl" => Conv(CallConv::C),
        b"__stdcall" => Conv(CallConv::Stdcall),
        b"__fastcall" => Conv(CallConv::Fastcall),
        b"__thiscall" => Conv(CallConv::Thiscall),
        b"__ptr32" => PtrSize(4),
        b"__ptr64" => PtrSize(8),
        b"sizeof" => Sizeof,
        b"__alignof__" | b"__alignof" | b"_Alignof" | b"alignof" => Alignof,
        _ => return None,
    })
}

impl Keyword {
    /// Whether a type name may begin with it.
    pub(super) fn begins_type(self) -> bool {
        use Keyword::*;
        match self {
            Void | Bool | Char | Int | IntN(_) | Float | Double | Short | Long | Signed | Unsigned
            | Complex | Const | Volatile | Restrict | Inline | Typedef | Extern | Static | Auto
            | Register | Struct | Union | Enum | Extension | Attribute | Declspec => true,
            Asm | Conv(_) | PtrSize(_) | Sizeof | Alignof => false,
        }
    }
}

/// What attributes said.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Attrs {
    pub packed: bool,
    pub align_log2: Option<u8>,
    pub vector_bytes: Option<u32>,
    pub mode: Option<ModeAttr>,
    pub conv: Option<CallConv>,
    pub ptr_bytes: Option<u8>,
}

/// The machine mode of `__attribute__((mode(...)))`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct ModeAttr {
    bytes: u8,
    vector_bytes: Option<u32>,
}

impl Attrs {
    pub(super) fn merge(&mut self, other: Attrs) {
        self.packed |= other.packed;
        self.align_log2 = other.align_log2.or(self.align_log2);
        self.vector_bytes = other.vector_bytes.or(self.vector_bytes);
        self.mode = other.mode.or(self.mode);
        self.conv = other.conv.or(self.conv);
        self.ptr_bytes = other.ptr_bytes.or(self.ptr_bytes);
    }
}

/// Storage classes, as a set.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Storage(u8);

impl Storage {
    pub(super) const NONE: Storage = Storage(0);
    pub(super) const TYPEDEF: Storage = Storage(1);
    pub(super) const EXTERN: Storage = Storage(2);
    pub(super) const STATIC: Storage = Storage(4);
    pub(super) const REGISTER: Storage = Storage(8);
    /// What is allowed at file scope.
    pub(super) const FILE: Storage = Storage(1 | 2 | 4);

    pub(super) fn has(self, other: Storage) -> bool {
        self.0 & other.0 != 0
    }
}

/// The result of reading declaration specifiers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Specifiers {
    pub ty: CTypeId,
    pub storage: Storage,
    pub attrs: Attrs,
    /// A struct, union or enum specifier, which may stand without a declarator.
    pub tagged: bool,
}

/// Arithmetic words seen so far.
#[derive(Default)]
struct Words {
    base: Option<Keyword>,
    short: bool,
    long: u8,
    signed: bool,
    unsigned: bool,
    complex: bool,
}

impl Words {
    fn any(&self) -> bool {
        self.base.is_some() || self.short || self.long > 0 || self.signed || self.unsigned || self.complex
    }

    fn resolve(&self, char_unsigned: bool, long_double_bytes: u8) -> Kind {
        let sized = |bytes| Kind::Int { bytes, unsigned: self.unsigned };
        if self.complex {
            return Kind::Complex { bytes: if self.base == Some(Keyword::Float) { 8 } else { 16 } };
        }
        match self.base {
            Some(Keyword::Void) => Kind::Void,
            Some(Keyword::Bool) => Kind::Bool,
            Some(Keyword::Float) => Kind::Float { bytes: 4 },
            Some(Keyword::Double) => Kind::Float { bytes: if self.long > 0 { long_double_bytes } else { 8 } },
            Some(Keyword::Char) => {
                Kind::Int { bytes: 1, unsigned: self.unsigned || (char_unsigned && !self.signed) }
            }
            Some(Keyword::IntN(bytes)) => sized(bytes),
            _ if self.short => sized(2),
            _ if self.long > 0 => sized(8),
            _ => sized(4),
        }
    }
}

impl Parser<'_, '_> {
    /// Declaration specifiers, `allowed` being the storage classes that may appear.
    pub(super) fn specifiers(&mut self, allowed: Storage) -> Result<Specifiers, CdeclError> {
        let mut words = Words::default();
        let mut named: Option<CTypeId> = None;
        let mut storage = Storage::NONE;
        let mut quals = Quals::NONE;
        let mut attrs = Attrs::default();
        let mut tagged = false;
        loop {
            if self.token() == Token::Dollar {
                if named.is_some() || words.any() {
                    break;
                }
                let Some(id) = self.peek_param_type()? else { break };
                named = Some(id);
                self.take_param();
                self.advance()?;
                continue;
            }
            if self.token() != Token::Ident {
                break;
            }
            let Some(kw) = self.keyword() else {
                if named.is_some() || words.any() {
                    break;
                }
                let Some(&Symbol::Type(id)) = self.table().symbol(self.slice()) else { break };
                named = Some(id);
                self.advance()?;
                continue;
            };
            let class = match kw {
                Keyword::Typedef => Storage::TYPEDEF,
                Keyword::Extern => Storage::EXTERN,
                Keyword::Static => Storage::STATIC,
                Keyword::Register => Storage::REGISTER,
                Keyword::Auto => Storage(128),
                _ => Storage::NONE,
            };
            if class != Storage::NONE {
                if !allowed.has(class) {
                    return Err(self.error_near(text::BAD_STORAGE));
                }
                storage = Storage(storage.0 | class.0);
                self.advance()?;
                continue;
            }
            match kw {
                Keyword::Const => quals = quals.with(Quals::CONST),
                Keyword::Volatile => quals = quals.with(Quals::VOLATILE),
                Keyword::Restrict | Keyword::Inline | Keyword::Extension => {}
                Keyword::Attribute
                | Keyword::Declspec
                | Keyword::Asm
                | Keyword::Conv(_)
                | Keyword::PtrSize(_) => {
                    self.attributes(&mut attrs)?;
                    continue;
                }
                Keyword::Short | Keyword::Long | Keyword::Signed | Keyword::Unsigned | Keyword::Complex => {
                    if named.is_some() {
                        break;
                    }
                    match kw {
                        Keyword::Short => words.short = true,
                        Keyword::Long => words.long += u8::from(words.long < 2),
                        Keyword::Signed => words.signed = true,
                        Keyword::Unsigned => words.unsigned = true,
                        _ => words.complex = true,
                    }
                }
                Keyword::Void
                | Keyword::Bool
                | Keyword::Char
                | Keyword::Int
                | Keyword::IntN(_)
                | Keyword::Float
                | Keyword::Double => {
                    // `_Bool int` is an int.
                    let widened = words.base == Some(Keyword::Bool) && kw == Keyword::Int;
                    if named.is_some() || (words.base.is_some() && !widened) {
                        break;
                    }
                    words.base = Some(kw);
                }
                Keyword::Struct | Keyword::Union | Keyword::Enum => {
                    if named.is_some() || words.any() {
                        break;
                    }
                    self.advance()?;
                    named = Some(if kw == Keyword::Enum {
                        self.enum_specifier()?
                    } else {
                        self.record_specifier(kw == Keyword::Union)?
                    });
                    tagged = true;
                    continue;
                }
                Keyword::Typedef
                | Keyword::Extern
                | Keyword::Static
                | Keyword::Auto
                | Keyword::Register
                | Keyword::Sizeof
                | Keyword::Alignof => break,
            }
            self.advance()?;
        }
        let base = match named {
            Some(id) => id,
            None if words.any() => {
                let abi = self.table().abi();
                self.table_mut().intern(CType::plain(words.resolve(abi.char_unsigned, abi.long_double_bytes)))
            }
            None => return Err(self.error_near(text::SPECIFIER_EXPECTED)),
        };
        let base = self.apply_type_attrs(base, &attrs)?;
        let ty = self.table_mut().qualified(base, quals);
        Ok(Specifiers { ty, storage, attrs, tagged })
    }

    /// Applies `mode` and `vector_size` to a scalar type.
    pub(super) fn apply_type_attrs(&mut self, id: CTypeId, attrs: &Attrs) -> Result<CTypeId, CdeclError> {
        let mut id = id;
        let mut vector_bytes = attrs.vector_bytes;
        if let Some(mode) = attrs.mode {
            let ty = self.table().get(id);
            let kind = match ty.kind {
                Kind::Int { unsigned, .. } => Kind::Int { bytes: mode.bytes, unsigned },
                Kind::Float { .. } if mode.bytes == 4 || mode.bytes == 8 => Kind::Float { bytes: mode.bytes },
                Kind::Complex { .. } if mode.bytes == 4 || mode.bytes == 8 => {
                    Kind::Complex { bytes: mode.bytes * 2 }
                }
                other => other,
            };
            id = self.table_mut().intern(CType { kind, ..ty });
            vector_bytes = vector_bytes.or(mode.vector_bytes);
        }
        if let Some(bytes) = vector_bytes {
            let elem_ok =
                matches!(self.table().kind(id), Kind::Int { .. } | Kind::Float { .. } | Kind::Complex { .. });
            let elem_bytes = self.table().size(id).unwrap_or(0);
            if !elem_ok || !bytes.is_power_of_two() || elem_bytes == 0 || bytes % elem_bytes != 0 {
                return Err(self.error(text::INVALID_SIZE));
            }
            let quals = self.table().get(id).quals;
            let elem = self.table_mut().unqualified(id);
            id = self.table_mut().intern(CType { quals, ..CType::plain(Kind::Vector { elem, bytes }) });
        }
        Ok(id)
    }

    /// Any number of `__attribute__`, `__declspec`, calling conventions and pointer sizes. An `__asm__` rename sets the
    /// parser's link name.
    pub(super) fn attributes(&mut self, attrs: &mut Attrs) -> Result<(), CdeclError> {
        while self.token() == Token::Ident {
            match self.keyword() {
                Some(Keyword::Extension) => self.advance()?,
                Some(Keyword::Attribute) => {
                    self.advance()?;
                    self.gcc_attributes(attrs)?;
                }
                Some(Keyword::Asm) => {
                    self.advance()?;
                    self.asm_rename()?;
                }
                Some(Keyword::Declspec) => {
                    self.advance()?;
                    self.msvc_attributes(attrs)?;
                }
                Some(Keyword::Conv(conv)) => {
                    attrs.conv = Some(conv);
                    self.advance()?;
                }
                Some(Keyword::PtrSize(bytes)) => {
                    attrs.ptr_bytes = Some(bytes);
                    self.advance()?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    fn asm_rename(&mut self) -> Result<(), CdeclError> {
        self.expect(Token::LParen)?;
        let mut name = Vec::new();
        if self.token() != Token::Str {
            return Err(self.error_expected(b"<string>"));
        }
        while self.token() == Token::Str {
            let slice = self.slice();
            match lexer::unescape(&slice[1..slice.len() - 1]) {
                Ok(part) => name.extend_from_slice(&part),
                Err(_) => return Err(self.error_near(text::BAD_ESCAPE)),
            }
            self.advance()?;
        }
        self.expect(Token::RParen)?;
        self.set_link_name(name.into());
        Ok(())
    }

    fn gcc_attributes(&mut self, attrs: &mut Attrs) -> Result<(), CdeclError> {
        self.expect(Token::LParen)?;
        self.expect(Token::LParen)?;
        while self.token() != Token::RParen {
            if self.token() == Token::Ident {
                let raw = self.slice();
                let name = raw
                    .strip_prefix(b"__")
                    .and_then(|r| r.strip_suffix(b"__"))
                    .filter(|r| !r.is_empty())
                    .unwrap_or(raw);
                self.advance()?;
                match name {
                    b"packed" => attrs.packed = true,
                    b"aligned" => {
                        let align = if self.accept(Token::LParen)? {
                            let n = self.constant_size()?;
                            self.expect(Token::RParen)?;
                            n
                        } else {
                            16
                        };
                        attrs.align_log2 = Some(align_log2(align));
                    }
                    b"vector_size" => {
                        self.expect(Token::LParen)?;
                        attrs.vector_bytes = Some(self.constant_size()?);
                        self.expect(Token::RParen)?;
                    }
                    b"mode" => {
                        self.expect(Token::LParen)?;
                        if self.token() != Token::Ident {
                            return Err(self.error_expected(b"<identifier>"));
                        }
                        attrs.mode = machine_mode(self.slice()).or(attrs.mode);
                        self.advance()?;
                        self.expect(Token::RParen)?;
                    }
                    b"cdecl" => attrs.conv = Some(CallConv::C),
                    b"stdcall" => attrs.conv = Some(CallConv::Stdcall),
                    b"fastcall" => attrs.conv = Some(CallConv::Fastcall),
                    b"thiscall" => attrs.conv = Some(CallConv::Thiscall),
                    _ => {
                        if self.token() == Token::LParen {
                            self.skip_balanced(Token::LParen, Token::RParen)?;
                        }
                    }
                }
            }
            if !self.accept(Token::Comma)? {
                break;
            }
        }
        self.expect(Token::RParen)?;
        self.expect(Token::RParen)
    }

    fn msvc_attributes(&mut self, attrs: &mut Attrs) -> Result<(), CdeclError> {
        self.expect(Token::LParen)?;
        while self.token() == Token::Ident {
            let name = self.slice();
            self.advance()?;
            if name == b"align" {
                self.expect(Token::LParen)?;
                let n = self.constant_size()?;
                self.expect(Token::RParen)?;
                attrs.align_log2 = Some(align_log2(n));
            } else if self.token() == Token::LParen {
                self.skip_balanced(Token::LParen, Token::RParen)?;
            }
        }
        self.expect(Token::RParen)
    }

    /// Passes over a bracketed group; the current token is the opening one.
    pub(super) fn skip_balanced(&mut self, open: Token, close: Token) -> Result<(), CdeclError> {
        let mut depth = 0u32;
        loop {
            let token = self.token();
            if token == Token::Eof {
                return Err(self.error_expected(if close == Token::RParen { b")" } else { b"}" }));
            }
            self.advance()?;
            if token == open {
                depth += 1;
            } else if token == close {
                depth -= 1;
                if depth == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// A tag: declared, or new. Tells also whether a body follows.
    fn tag(&mut self, make: TagKind) -> Result<(CTypeId, bool), CdeclError> {
        let mut name: Option<Name> = None;
        if self.token() == Token::Ident && self.keyword().is_none() {
            name = Some(self.slice().into());
            self.advance()?;
        } else if self.token() == Token::Dollar
            && let Some(given) = self.peek_param_name()?
        {
            name = Some(given);
            self.take_param();
            self.advance()?;
        }
        let body = self.token() == Token::LBrace;
        let Some(name) = name else {
            if !body {
                return Err(self.error_expected(b"{"));
            }
            return Ok((self.new_tagged(make, None), true));
        };
        if let Some(id) = self.table().tag(&name) {
            let (kind, complete) = match (self.table().record(id), self.table().enumeration(id)) {
                (Some(r), _) => (if r.is_union { TagKind::Union } else { TagKind::Struct }, r.complete),
                (_, Some(e)) => (TagKind::Enum, e.complete),
                (None, None) => (make, false),
            };
            if kind != make || (body && complete) {
                return Err(self.error_redefinition(&name));
            }
            return Ok((id, body));
        }
        if self.mode() == Mode::SingleType {
            let name = String::from_utf8_lossy(&name).into_owned();
            return Err(self.error(&format!("undeclared or implicit tag '{name}'")));
        }
        let id = self.new_tagged(make, Some(name.clone()));
        self.table_mut().declare_tag(name, id);
        Ok((id, body))
    }

    fn new_tagged(&mut self, make: TagKind, tag: Option<Name>) -> CTypeId {
        match make {
            TagKind::Struct => self.table_mut().new_record(false, tag),
            TagKind::Union => self.table_mut().new_record(true, tag),
            TagKind::Enum => self.table_mut().new_enum(tag),
        }
    }

    fn record_specifier(&mut self, is_union: bool) -> Result<CTypeId, CdeclError> {
        let mut attrs = Attrs::default();
        self.attributes(&mut attrs)?;
        let (id, body) = self.tag(if is_union { TagKind::Union } else { TagKind::Struct })?;
        if !body {
            return Ok(id);
        }
        self.enter()?;
        self.expect(Token::LBrace)?;
        let pragma_log2 = self.pragma_pack();
        let mut members: Vec<PendingField> = Vec::new();
        let mut consts: Vec<(Name, Constant)> = Vec::new();
        let mut flexible = false;
        while self.token() != Token::RBrace {
            if self.token() == Token::Hash {
                self.directive()?;
                continue;
            }
            let specs = self.specifiers(Storage::STATIC)?;
            if flexible {
                return Err(self.error_expected(b"}"));
            }
            let can_be_anonymous = specs.tagged || self.table().record(specs.ty).is_some();
            if self.token() == Token::Semicolon && can_be_anonymous {
                // An anonymous struct, union or enum, or one named by a typedef: its names belong to this record too.
                let anonymous = match (self.table().record(specs.ty), self.table().enumeration(specs.ty)) {
                    (Some(record), _) => record.complete,
                    (None, e) => e.is_some(),
                };
                if anonymous {
                    members.push(PendingField { name: None, ty: specs.ty, bits: None, attrs: specs.attrs });
                } else {
                    return Err(self.error(text::INVALID_SIZE));
                }
                self.advance()?;
                continue;
            }
            loop {
                if flexible {
                    return Err(self.error_expected(b"}"));
                }
                let d = self.declarator(specs.ty, &specs.attrs, DeclaratorMode::Member)?;
                if specs.storage.has(Storage::STATIC) {
                    let Some(name) = d.name else { return Err(self.error_expected(b"<identifier>")) };
                    let constant = self.static_const(d.ty)?;
                    consts.push((name, constant));
                } else {
                    let mut member_attrs = specs.attrs;
                    member_attrs.merge(d.attrs);
                    let mut bits = None;
                    if self.token() == Token::Colon {
                        bits = Some(self.bit_width(d.ty, d.name.is_some())?);
                        self.attributes(&mut member_attrs)?;
                    } else if d.name.is_none() {
                        return Err(self.error_expected(b"<identifier>"));
                    }
                    if let Kind::Array { len: ArrayLen::Unknown | ArrayLen::Variable, .. } =
                        self.table().kind(d.ty)
                    {
                        flexible = true;
                    } else if self.table().is_variable(d.ty) {
                        flexible = true;
                    }
                    members.push(PendingField { name: d.name, ty: d.ty, bits, attrs: member_attrs });
                }
                if !self.accept(Token::Comma)? {
                    break;
                }
            }
            self.expect(Token::Semicolon)?;
        }
        self.advance()?;
        self.leave();
        self.attributes(&mut attrs)?;
        let body = self.lay_out(is_union, members, consts, &attrs, pragma_log2)?;
        self.table_mut().complete_record(id, body);
        Ok(id)
    }

    /// `: width` after a member's declarator.
    fn bit_width(&mut self, ty: CTypeId, named: bool) -> Result<u8, CdeclError> {
        let bad = self.error_near(text::BAD_VALUE);
        self.advance()?;
        let width = self.constant_size()?;
        let limit = match self.table().kind(ty) {
            Kind::Bool => 1,
            Kind::Int { bytes: bytes @ 1..=8, .. } => u32::from(bytes) * 8,
            Kind::Enum(_) => 32,
            _ => return Err(bad),
        };
        if width > limit || (width == 0 && named) {
            return Err(bad);
        }
        Ok(width as u8)
    }

    fn lay_out(
        &mut self,
        is_union: bool,
        members: Vec<PendingField>,
        consts: Vec<(Name, Constant)>,
        attrs: &Attrs,
        pragma_log2: Option<u8>,
    ) -> Result<RecordBody, CdeclError> {
        let mut layouter = Layouter::new(self.table().abi(), is_union);
        let mut body = RecordBody { consts, ..RecordBody::default() };
        for member in members {
            let table = self.table();
            let layout = table.layout(member.ty);
            let is_array = matches!(table.kind(member.ty), Kind::Array { .. });
            let anonymous_enum =
                member.name.is_none() && member.bits.is_none() && table.enumeration(member.ty).is_some();
            let size = match layout.size {
                Some(_) if anonymous_enum => 0,
                Some(size) => size,
                None if is_array && !is_union => 0,
                None => return Err(self.error(text::INVALID_SIZE)),
            };
            body.variable |= table.is_variable(member.ty);
            let shape = FieldShape {
                size,
                align_log2: if anonymous_enum { 0 } else { layout.align_log2 },
                bits: member.bits,
                named: member.name.is_some(),
                user_align_log2: member.attrs.align_log2,
                packed: attrs.packed || member.attrs.packed,
                pragma_log2,
            };
            let Ok(placed) = layouter.place(&shape) else { return Err(self.error(text::INVALID_SIZE)) };
            if member.name.is_none() && member.bits.is_some() {
                continue;
            }
            body.fields.push(Field {
                name: member.name,
                ty: member.ty,
                offset: placed.offset,
                bits: placed.bits,
            });
        }
        match layouter.finish(attrs.align_log2) {
            Ok((size, align_log2)) => {
                body.size = size;
                body.align_log2 = align_log2;
                Ok(body)
            }
            Err(_) => Err(self.error(text::INVALID_SIZE)),
        }
    }

    fn enum_specifier(&mut self) -> Result<CTypeId, CdeclError> {
        let mut attrs = Attrs::default();
        self.attributes(&mut attrs)?;
        let (id, body) = self.tag(TagKind::Enum)?;
        if !body {
            return Ok(id);
        }
        self.expect(Token::LBrace)?;
        let mut base = CTypeId::UINT32;
        let mut value = super::expr::Const::new(0, true);
        while self.token() != Token::RBrace {
            let name: Name = if self.token() == Token::Dollar {
                let Some(name) = self.peek_param_name()? else {
                    return Err(self.error_expected(b"<identifier>"));
                };
                self.take_param();
                name
            } else if self.token() == Token::Ident && self.keyword().is_none() {
                self.slice().into()
            } else {
                return Err(self.error_expected(b"<identifier>"));
            };
            if self.table().symbol(&name).is_some() {
                return Err(self.error_redefinition(&name));
            }
            self.advance()?;
            if self.accept(Token::Assign)? {
                value = self.constant()?;
                if !value.unsigned && (value.bits as i32) < 0 {
                    base = CTypeId::INT32;
                }
            }
            let number = value.value();
            let ty = if number < 0 { CTypeId::INT32 } else { CTypeId::UINT32 };
            self.table_mut().add_enum_const(id, name.clone(), number);
            self.table_mut().declare(name, Symbol::Const(Constant { ty, value: number }));
            value.bits = value.bits.wrapping_add(1);
            if !self.accept(Token::Comma)? {
                break;
            }
        }
        self.expect(Token::RBrace)?;
        self.attributes(&mut attrs)?;
        self.table_mut().complete_enum(id, base);
        Ok(id)
    }

    /// `= value` of a `static const`: an integer constant of at most 32 bits.
    pub(super) fn static_const(&mut self, ty: CTypeId) -> Result<Constant, CdeclError> {
        let info = self.table().get(ty);
        self.expect(Token::Assign)?;
        let value = self.constant()?;
        let kind = match self.table().enumeration(ty) {
            Some(e) => self.table().kind(e.base),
            None => info.kind,
        };
        let value = match kind {
            _ if !info.quals.is_const() => return Err(self.error(text::INVALID_TYPE)),
            Kind::Int { bytes: 1, unsigned: true } => i64::from(value.bits as u8),
            Kind::Int { bytes: 1, unsigned: false } => i64::from(value.bits as i8),
            Kind::Int { bytes: 2, unsigned: true } => i64::from(value.bits as u16),
            Kind::Int { bytes: 2, unsigned: false } => i64::from(value.bits as i16),
            Kind::Int { bytes: 4, unsigned: true } => i64::from(value.bits),
            Kind::Int { bytes: 4, unsigned: false } => i64::from(value.bits as i32),
            _ => return Err(self.error(text::INVALID_TYPE)),
        };
        Ok(Constant { ty, value })
    }
}

struct PendingField {
    name: Option<Name>,
    ty: CTypeId,
    bits: Option<u8>,
    attrs: Attrs,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum TagKind {
    Struct,
    Union,
    Enum,
}

/// log2 of an alignment in bytes, rounded down, at most 2^15.
fn align_log2(bytes: u32) -> u8 {
    (bytes.max(1).ilog2() as u8).min(15)
}

fn machine_mode(name: &[u8]) -> Option<ModeAttr> {
    let name = name.strip_prefix(b"__").and_then(|n| n.strip_suffix(b"__")).unwrap_or(name);
    let scalar = |name: &[u8]| match name {
        b"QI" | b"byte" => Some(1u8),
        b"HI" => Some(2),
        b"SI" | b"SF" | b"SC" => Some(4),
        b"DI" | b"DF" | b"DC" | b"word" | b"pointer" => Some(8),
        b"TI" => Some(16),
        b"OI" => Some(32),
        _ => None,
    };
    if let Some(rest) = name.strip_prefix(b"V") {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        let lanes: u32 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let bytes = scalar(&rest[digits..])?;
        return Some(ModeAttr { bytes, vector_bytes: Some(lanes.checked_mul(u32::from(bytes))?) });
    }
    scalar(name).map(|bytes| ModeAttr { bytes, vector_bytes: None })
}
