//! Conversions between Lua values and C objects, and between C objects.
//!
//! ```text
//!   Lua value --to_c--> C object --from_c--> Lua value
//!                 \--c_to_c--/
//! ```
//! What a conversion refuses it refuses with LuaJIT's words. A conversion runs no Lua code.

mod c_to_c;
mod from_c;
mod init;
mod number;
mod to_c;

pub use c_to_c::{Flags, c_to_c, compatible_pointees, pointee};
pub use from_c::{bits_from_c, from_c};
pub use init::{init, is_value_initializer};
pub use number::{num_to_i64, num_to_u64};
pub use to_c::{bits_to_c, to_c};

use crate::ctype::name::type_name;
use crate::ctype::{CTypeId, CTypeTable};

/// Why a conversion was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConvertError {
    /// `cannot convert 'from' to 'to'`; about one argument where there are several.
    Cannot(Vec<u8>),
    /// Any other message.
    Other(Vec<u8>),
}

impl ConvertError {
    pub(crate) fn cannot(types: &CTypeTable, from: &str, to: CTypeId) -> ConvertError {
        ConvertError::Cannot(format!("cannot convert '{from}' to '{}'", type_name(types, to)).into_bytes())
    }

    pub(crate) fn too_many(types: &CTypeTable, to: CTypeId) -> ConvertError {
        ConvertError::Other(format!("too many initializers for '{}'", type_name(types, to)).into_bytes())
    }

    /// The message.
    pub fn message(&self) -> &[u8] {
        match self {
            ConvertError::Cannot(m) | ConvertError::Other(m) => m,
        }
    }
}
