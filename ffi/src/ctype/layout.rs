//! Where the members of a struct or union go.
//!
//! The rules are those of the System V ABI as GCC applies them, including packed records, `#pragma pack` and bit
//! fields. Pure arithmetic over sizes; knows no declarations.
//!
//! ```text
//! bit cursor ->  | a:3 | b:7 |      c (aligned)     | d:20 | ...
//!                ^ storage unit of a and b          ^ moved here if d would cross a unit of its type
//! ```

use super::builtin::Abi;
use super::info::BitRange;
use super::table::{SIZE_LIMIT_BYTES, SizeError};

/// What the layout must know about one member.
#[derive(Clone, Copy, Debug)]
pub struct FieldShape {
    /// Size in bytes; 0 for a flexible array.
    pub size: u32,
    /// log2 of the natural alignment of its type.
    pub align_log2: u8,
    /// Width of a bit field.
    pub bits: Option<u8>,
    /// Whether it has a name (unnamed bit fields are only padding).
    pub named: bool,
    /// log2 of an alignment given by an attribute on this member.
    pub user_align_log2: Option<u8>,
    /// Whether `packed` was said on this member or on its record.
    pub packed: bool,
    /// log2 of the `#pragma pack` in force.
    pub pragma_log2: Option<u8>,
}

/// Where one member went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Offset in bytes; for a bit field that of the unit it is read through.
    pub offset: u32,
    /// Bits inside the unit.
    pub bits: Option<BitRange>,
}

/// A record under construction.
pub struct Layouter {
    abi: Abi,
    is_union: bool,
    cursor_bits: u64,
    size_bits: u64,
    align_log2: u8,
}

impl Layouter {
    /// An empty struct or union.
    pub fn new(abi: Abi, is_union: bool) -> Layouter {
        Layouter { abi, is_union, cursor_bits: 0, size_bits: 0, align_log2: 0 }
    }

    /// Places the next member.
    pub fn place(&mut self, field: &FieldShape) -> Result<Placed, SizeError> {
        let start = if self.is_union { 0 } else { self.cursor_bits };
        let (placed, end) = match field.bits {
            None => self.place_plain(field, start),
            Some(width) => self.place_bits(field, width, start),
        };
        if end >= SIZE_LIMIT_BYTES * 8 {
            return Err(SizeError);
        }
        self.cursor_bits = end;
        self.size_bits = self.size_bits.max(end);
        Ok(placed)
    }

    fn place_plain(&mut self, field: &FieldShape, start: u64) -> (Placed, u64) {
        let mut align = if field.packed { 0 } else { field.align_log2 };
        if let Some(user) = field.user_align_log2 {
            align = if field.packed { user } else { align.max(user) };
        }
        if let Some(pragma) = field.pragma_log2 {
            align = align.min(pragma);
        }
        self.align_log2 = self.align_log2.max(align);
        let start = align_up(start, 8u64 << align);
        (Placed { offset: (start / 8) as u32, bits: None }, start + u64::from(field.size) * 8)
    }

    fn place_bits(&mut self, field: &FieldShape, width: u8, start: u64) -> (Placed, u64) {
        let unit_bits = u64::from(field.size) * 8;
        let type_align_bits = 8u64 << field.align_log2;
        let mut start = start;
        if width == 0 {
            let mut align = type_align_bits;
            if let Some(user) = field.user_align_log2 {
                align = align.max(8 << user);
            }
            start = align_up(start, align);
            if self.abi.unnamed_bits_align {
                self.align_log2 = self.align_log2.max(field.align_log2);
            }
            return (Placed { offset: (start / 8) as u32, bits: None }, start);
        }
        if let Some(user) = field.user_align_log2 {
            let user = field.pragma_log2.map_or(user, |p| user.min(p));
            start = align_up(start, 8 << user);
            self.align_log2 = self.align_log2.max(user);
        }
        let width_bits = u64::from(width);
        if field.pragma_log2.is_none() && !field.packed {
            let units = (start % type_align_bits + width_bits).div_ceil(type_align_bits);
            if units > unit_bits / type_align_bits {
                start = align_up(start, type_align_bits);
            }
        }
        if field.named || self.abi.unnamed_bits_align {
            let mut align = field.align_log2;
            if let Some(pragma) = field.pragma_log2 {
                align = align.min(pragma);
            } else if field.packed {
                align = 0;
            }
            self.align_log2 = self.align_log2.max(align);
        }
        // Read through a unit of the declared type where the field fits into one, else from its first byte.
        let unit = start / unit_bits * unit_bits;
        let base = if start + width_bits <= unit + unit_bits { unit } else { start / 8 * 8 };
        let placed =
            Placed { offset: (base / 8) as u32, bits: Some(BitRange { pos: (start - base) as u8, width }) };
        (placed, start + width_bits)
    }

    /// Size in bytes and log2 of the alignment, after an `aligned` attribute on the record.
    pub fn finish(self, user_align_log2: Option<u8>) -> Result<(u32, u8), SizeError> {
        let align_log2 = self.align_log2.max(user_align_log2.unwrap_or(0));
        let size = align_up(self.size_bits, 8 << align_log2) / 8;
        if size >= SIZE_LIMIT_BYTES {
            return Err(SizeError);
        }
        Ok((size as u32, align_log2))
    }
}

fn align_up(value: u64, align: u64) -> u64 {
    value.div_ceil(align) * align
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(size: u32) -> FieldShape {
        FieldShape {
            size,
            align_log2: size.trailing_zeros() as u8,
            bits: None,
            named: true,
            user_align_log2: None,
            packed: false,
            pragma_log2: None,
        }
    }

    fn layout(fields: &[FieldShape]) -> (Vec<Placed>, u32, u8) {
        let mut l = Layouter::new(Abi::X86_64, false);
        let placed = fields.iter().map(|f| l.place(f).expect("small")).collect();
        let (size, align) = l.finish(None).expect("small");
        (placed, size, align)
    }

    #[test]
    fn padding_goes_before_members_and_at_the_end() {
        let (placed, size, align) = layout(&[plain(1), plain(4), plain(1)]);
        assert_eq!(placed.iter().map(|p| p.offset).collect::<Vec<_>>(), [0, 4, 8]);
        assert_eq!((size, align), (12, 2));
    }

    #[test]
    fn bit_field_that_would_cross_its_unit_moves_to_the_next() {
        let bits = |n| FieldShape { bits: Some(n), ..plain(4) };
        let (placed, size, _) = layout(&[bits(20), bits(20)]);
        assert_eq!(placed[1], Placed { offset: 4, bits: Some(BitRange { pos: 0, width: 20 }) });
        assert_eq!(size, 8);
    }

    #[test]
    fn packed_bit_fields_follow_each_other() {
        let bits = |n| FieldShape { bits: Some(n), packed: true, ..plain(4) };
        let (placed, size, align) = layout(&[bits(20), bits(20)]);
        assert_eq!(placed[1], Placed { offset: 2, bits: Some(BitRange { pos: 4, width: 20 }) });
        assert_eq!((size, align), (5, 0));
    }

    #[test]
    fn a_record_of_two_gigabytes_is_refused() {
        let mut l = Layouter::new(Abi::X86_64, false);
        assert!(l.place(&plain(0x4000_0000)).is_ok());
        assert_eq!(l.place(&plain(0x4000_0000)), Err(SizeError));
    }
}
