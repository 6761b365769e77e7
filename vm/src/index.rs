//! Small typed indices.

macro_rules! index_type {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(transparent)]
        pub struct $name(u32);

        impl $name {
            /// From a number.
            #[inline(always)]
            pub const fn new(n: u32) -> $name {
                $name(n)
            }

            /// As a number.
            #[inline(always)]
            pub const fn get(self) -> u32 {
                self.0
            }

            /// As an index.
            #[inline(always)]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

index_type! {
    /// Row in the VM's table of native functions.
    NativeId, "n"
}
index_type! {
    /// Number of a trace; 0 is none.
    TraceNo, "t"
}
