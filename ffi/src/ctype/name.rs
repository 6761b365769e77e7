//! How a type is written in messages and by `tostring`.
//!
//! A C type reads from the inside out, so the text grows on both sides of a middle. The walk is a loop and the text is
//! bounded: declarations may nest types as deeply as they like.

use super::info::{ArrayLen, Kind, Quals};
use super::{CTypeId, CTypeTable};

/// Longest text of a type, as in LuaJIT; a longer one is shown as `?`.
const NAME_BYTES_MAX: usize = 512;

struct Builder {
    /// Pieces before the middle, outermost last.
    left: Vec<String>,
    right: String,
    bytes: usize,
    /// Whether an identifier put in front now must be separated from what follows.
    needs_space: bool,
}

impl Builder {
    fn push_left(&mut self, text: &str) {
        self.bytes += text.len();
        self.left.push(text.to_owned());
    }

    fn word(&mut self, text: &str) {
        if self.needs_space {
            self.push_left(" ");
        }
        self.push_left(text);
        self.needs_space = true;
    }

    fn punct(&mut self, text: &str) {
        self.push_left(text);
    }

    fn append(&mut self, text: &str) {
        self.bytes += text.len();
        self.right.push_str(text);
    }

    fn quals(&mut self, quals: Quals) {
        if quals.is_volatile() {
            self.word("volatile");
        }
        if quals.is_const() {
            self.word("const");
        }
    }

    fn finish(mut self) -> String {
        if self.bytes >= NAME_BYTES_MAX {
            return "?".to_owned();
        }
        self.left.reverse();
        let mut text = self.left.concat();
        text.push_str(&self.right);
        text
    }
}

/// The text of a type: `int`, `const char *`, `int (*)()`, `struct foo`.
///
/// Typedef names are not kept: `int32_t` reads `int`. Never fails.
pub fn type_name(table: &CTypeTable, id: CTypeId) -> String {
    let mut b = Builder { left: Vec::new(), right: String::new(), bytes: 0, needs_space: false };
    let mut id = id;
    // A pointer or reference was written last: arrays and functions need parentheses.
    let mut pointer = false;
    loop {
        if b.bytes >= NAME_BYTES_MAX {
            break;
        }
        let ty = table.get(id);
        match ty.kind {
            Kind::Void => b.word("void"),
            Kind::Bool => b.word("bool"),
            Kind::Int { bytes: 1, unsigned } => {
                if unsigned == table.abi().char_unsigned {
                    b.word("char");
                } else {
                    b.word(if unsigned { "unsigned char" } else { "signed char" });
                }
            }
            Kind::Int { bytes, unsigned } => {
                match bytes {
                    2 => b.word(if unsigned { "unsigned short" } else { "short" }),
                    4 => b.word(if unsigned { "unsigned int" } else { "int" }),
                    _ => b.word(&format!("{}int{}_t", if unsigned { "u" } else { "" }, u32::from(bytes) * 8)),
                };
            }
            Kind::Float { bytes } => b.word(match bytes {
                4 => "float",
                8 => "double",
                _ => "long double",
            }),
            Kind::Complex { bytes } => b.word(if bytes == 8 { "complex float" } else { "complex" }),
            Kind::Vector { elem, bytes } => {
                b.word(&format!("__attribute__((vector_size({bytes})))"));
                b.quals(ty.quals);
                id = elem;
                continue;
            }
            Kind::Ptr { to, bytes } => {
                b.quals(ty.quals);
                if bytes == 4 {
                    b.word("__ptr32");
                }
                b.punct("*");
                b.needs_space = true;
                pointer = true;
                id = to;
                continue;
            }
            Kind::Ref { to } => {
                b.punct("&");
                b.needs_space = true;
                pointer = true;
                id = to;
                continue;
            }
            Kind::Array { elem, len } => {
                if pointer {
                    b.punct("(");
                    b.append(")");
                    pointer = false;
                }
                b.needs_space = true;
                match len {
                    ArrayLen::Fixed(n) => b.append(&format!("[{n}]")),
                    ArrayLen::Unknown => b.append("[]"),
                    ArrayLen::Variable => b.append("[?]"),
                }
                id = elem;
                continue;
            }
            Kind::Func(_) => {
                if pointer {
                    b.punct("(");
                    b.append(")");
                    pointer = false;
                }
                b.needs_space = true;
                b.append("()");
                match table.signature(id) {
                    Some(func) => id = func.ret,
                    None => break,
                }
                continue;
            }
            Kind::Record(_) | Kind::Enum(_) => {
                let (keyword, tag, own) = tag_of(table, id);
                b.word(&match tag {
                    Some(tag) => String::from_utf8_lossy(tag).into_owned(),
                    None => own.raw().to_string(),
                });
                b.word(keyword);
            }
        }
        b.quals(ty.quals);
        break;
    }
    b.finish()
}

fn tag_of(table: &CTypeTable, id: CTypeId) -> (&'static str, Option<&super::Name>, CTypeId) {
    if let Some(record) = table.record(id) {
        return (if record.is_union { "union" } else { "struct" }, record.tag.as_ref(), record.id);
    }
    match table.enumeration(id) {
        Some(e) => ("enum", e.tag.as_ref(), e.id),
        None => ("void", None, id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_pointers_end_in_a_question_mark() {
        let mut table = CTypeTable::default();
        let mut id = CTypeId::INT32;
        for _ in 0..100_000 {
            id = table.ptr_to(id);
        }
        assert_eq!(type_name(&table, id), "?");
    }

    #[test]
    fn basic_names_follow_size_and_sign() {
        let table = CTypeTable::default();
        for (id, text) in [
            (CTypeId::CCHAR, "const char"),
            (CTypeId::UINT8, "unsigned char"),
            (CTypeId::UINT64, "uint64_t"),
            (CTypeId::P_CVOID, "const void *"),
            (CTypeId::COMPLEX_FLOAT, "complex float"),
            (CTypeId::A_CCHAR, "const char []"),
        ] {
            assert_eq!(type_name(&table, id), text);
        }
    }
}
