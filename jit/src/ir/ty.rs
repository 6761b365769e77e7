//! Types of IR values. Names in dumps are LuaJIT's three-letter ones.

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        /// Type of an IR value.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Ty { $($(#[$doc])* $name,)* }

        impl Ty {
            /// All types, in order.
            pub const ALL: &'static [Ty] = &[$(Ty::$name,)*];

            /// Three-letter name.
            pub const fn name(self) -> &'static str {
                match self { $(Ty::$name => $text,)* }
            }
        }
    };
}

types! {
    /// `nil`; also the type of instructions without a result.
    Nil "nil";
    /// `false`.
    False "fal";
    /// `true`.
    True "tru";
    /// Light userdata (the whole tagged word).
    LightUd "lud";
    /// String object.
    Str "str";
    /// Upvalue object (internal).
    Upval "upv";
    /// Coroutine.
    Thread "thr";
    /// Prototype (internal).
    Proto "pro";
    /// Function.
    Func "fun";
    /// Raw pointer, or a frame link.
    P64 "p64";
    /// C data.
    Cdata "cdt";
    /// Table.
    Tab "tab";
    /// Userdata.
    Udata "udt";
    /// 32-bit float.
    Float "flt";
    /// Lua number.
    Num "num";
    /// 8-bit signed.
    I8 "i8 ";
    /// 8-bit unsigned.
    U8 "u8 ";
    /// 16-bit signed.
    I16 "i16";
    /// 16-bit unsigned.
    U16 "u16";
    /// 32-bit signed.
    Int "int";
    /// 32-bit unsigned.
    U32 "u32";
    /// 64-bit signed.
    I64 "i64";
    /// 64-bit unsigned.
    U64 "u64";
}

impl Ty {
    /// From its name as printed (trailing blanks may be missing).
    pub fn from_name(s: &str) -> Option<Ty> {
        Ty::ALL.iter().copied().find(|t| t.name().trim_end() == s)
    }

    /// `nil`, `false` or `true`: the type alone is the value.
    pub const fn is_pri(self) -> bool {
        matches!(self, Ty::Nil | Ty::False | Ty::True)
    }

    /// A pointer to a heap object.
    pub const fn is_gc(self) -> bool {
        matches!(
            self,
            Ty::Str | Ty::Upval | Ty::Thread | Ty::Proto | Ty::Func | Ty::Cdata | Ty::Tab | Ty::Udata
        )
    }

    /// An integer that lives in 32 bits (the narrow ones are extended when loaded).
    pub const fn is_int32(self) -> bool {
        matches!(self, Ty::I8 | Ty::U8 | Ty::I16 | Ty::U16 | Ty::Int | Ty::U32)
    }

    /// A 64-bit integer.
    pub const fn is_int64(self) -> bool {
        matches!(self, Ty::I64 | Ty::U64)
    }

    /// Any integer.
    pub const fn is_int(self) -> bool {
        self.is_int32() || self.is_int64()
    }

    /// Signed integer.
    pub const fn is_signed(self) -> bool {
        matches!(self, Ty::I8 | Ty::I16 | Ty::Int | Ty::I64)
    }

    /// A number of Lua: [`Ty::Num`] or the narrowed [`Ty::Int`].
    pub const fn is_number(self) -> bool {
        matches!(self, Ty::Num | Ty::Int)
    }

    /// Floating point.
    pub const fn is_fp(self) -> bool {
        matches!(self, Ty::Num | Ty::Float)
    }

    /// Can it stand in a Lua stack slot (after boxing)?
    pub const fn is_lua(self) -> bool {
        self.is_pri()
            || self.is_number()
            || matches!(self, Ty::LightUd | Ty::Str | Ty::Thread | Ty::Func | Ty::Cdata | Ty::Tab | Ty::Udata)
    }

    /// The value tag (`!index` in the order of the VM's tags); meaningless for numbers and raw integers.
    pub const fn tag_index(self) -> u32 {
        match self {
            Ty::Nil => 0,
            Ty::False => 1,
            Ty::True => 2,
            Ty::LightUd => 3,
            Ty::Str => 4,
            Ty::Upval => 5,
            Ty::Thread => 6,
            Ty::Proto => 7,
            Ty::Func => 8,
            Ty::P64 => 9,
            Ty::Cdata => 10,
            Ty::Tab => 11,
            Ty::Udata => 12,
            Ty::Float
            | Ty::Num
            | Ty::I8
            | Ty::U8
            | Ty::I16
            | Ty::U16
            | Ty::Int
            | Ty::U32
            | Ty::I64
            | Ty::U64 => 13,
        }
    }
}
