//! Registers: a stack above the active locals.

use super::*;
use crate::limits::SLOTS_MAX;

impl Compiler<'_> {
    /// Makes room for `n` registers without taking them.
    pub(super) fn bump(&mut self, n: u32) -> Result<()> {
        let size = self.fs.free + n;
        if size > self.fs.framesize {
            if size as usize >= SLOTS_MAX {
                return Err(self.error_near("function or expression too complex"));
            }
            self.fs.framesize = size;
        }
        Ok(())
    }

    /// Takes the next `n` registers.
    pub(super) fn reserve(&mut self, n: u32) -> Result<()> {
        self.bump(n)?;
        self.fs.free += n;
        Ok(())
    }

    /// Gives back a register if it is a temporary.
    pub(super) fn free_reg(&mut self, reg: Reg) {
        if reg >= self.fs.nactive {
            self.fs.free -= 1;
            debug_assert_eq!(reg, self.fs.free, "registers are freed in reverse order");
        }
    }
}
