//! The numbers of interned strings.

/// The numbers of interned strings, by which tables hash them. Strings made one after the other have consecutive
/// numbers: the fields of an object do not collide, and what is made in some order and looked up in the same order
/// lies in that order in a table. Every now and then the count goes on from elsewhere, so that nobody can choose
/// strings by their numbers.
pub struct StrNumbers {
    next: u32,
    left: u32,
    state: u64,
}

impl StrNumbers {
    /// The numbers that follow from a secret.
    pub const fn new(seed: u64) -> StrNumbers {
        StrNumbers { next: 0, left: 0, state: seed }
    }

    /// The next number.
    #[inline(always)]
    pub fn take(&mut self) -> u32 {
        if self.left == 0 {
            self.go_on_elsewhere();
        }
        self.left -= 1;
        let n = self.next;
        self.next = n.wrapping_add(1);
        n
    }

    #[cold]
    fn go_on_elsewhere(&mut self) {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let r = (self.state ^ self.state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let r = (r ^ r >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let r = r ^ r >> 31;
        self.next = r as u32;
        self.left = (r >> 32) as u32 % 256 + 1;
    }
}
