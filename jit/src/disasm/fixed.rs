//! Machine code of ARM, ARM64, PowerPC and MIPS as text: one instruction is four bytes.

use super::Line;
use capstone::{Arch, Capstone, CsResult, Endian, InsnGroupType, Mode, NO_EXTRA_MODE};

/// Bytes of an instruction.
pub const LEN: usize = 4;

/// A machine.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its name, as in the name of its module.
    pub name: &'static str,
    arch: Arch,
    /// What its instructions are looked up in, one after the other.
    modes: &'static [Mode],
    /// Most significant byte first?
    pub big: bool,
}

/// Every machine. Instructions of ARM64 are little-endian where data is not.
pub const MACHINES: &[Machine] = {
    const fn machine(name: &'static str, arch: Arch, modes: &'static [Mode], big: bool) -> Machine {
        Machine { name, arch, modes, big }
    }
    // The sixth release as the crate knows it is of 32 bits; what has 64 is as it was.
    const R6: &[Mode] = &[Mode::Mips32R6, Mode::Mips64];
    &[
        machine("arm", Arch::ARM, &[Mode::Arm], false),
        machine("arm64", Arch::ARM64, &[Mode::Arm], false),
        machine("arm64be", Arch::ARM64, &[Mode::Arm], false),
        machine("ppc", Arch::PPC, &[Mode::Mode32], true),
        machine("mips", Arch::MIPS, &[Mode::Mips64], true),
        machine("mipsel", Arch::MIPS, &[Mode::Mips64], false),
        machine("mips64", Arch::MIPS, &[Mode::Mips64], true),
        machine("mips64el", Arch::MIPS, &[Mode::Mips64], false),
        machine("mips64r6", Arch::MIPS, R6, true),
        machine("mips64r6el", Arch::MIPS, R6, false),
    ]
};

/// The instruction at the begin of `code`, which lies at `address`. It may be none: its length is that of one.
pub fn line(machine: &Machine, code: &[u8], address: u64) -> Line {
    let found =
        code.get(..LEN).and_then(|c| machine.modes.iter().find_map(|m| decode(machine, *m, c, address)));
    let (text, branch) = found.unzip();
    Line { len: LEN, text, branch: branch.flatten(), data: None, last: false }
}

/// Text, and the address it jumps to. `None` for bytes that are no instruction of the mode.
fn decode(machine: &Machine, mode: Mode, code: &[u8], address: u64) -> Option<(String, Option<u64>)> {
    let endian = if machine.big { Endian::Big } else { Endian::Little };
    let found = || -> CsResult<_> {
        let mut cs = Capstone::new_raw(machine.arch, mode, NO_EXTRA_MODE, Some(endian))?;
        cs.set_detail(true)?;
        let all = cs.disasm_count(code, address, 1)?;
        let Some(i) = all.first() else { return Ok(None) };
        let jumps =
            [InsnGroupType::CS_GRP_JUMP, InsnGroupType::CS_GRP_CALL, InsnGroupType::CS_GRP_BRANCH_RELATIVE];
        let groups = cs.insn_detail(i)?;
        let jumps = groups.groups().iter().any(|g| jumps.contains(&u32::from(g.0)));
        let (word, operands) = (i.mnemonic().unwrap_or_default(), i.op_str().unwrap_or_default());
        // The address is the last operand.
        let target = operands.rsplit(", ").next().unwrap_or_default().trim_start_matches('#');
        let target = target.strip_prefix("0x").and_then(|d| u64::from_str_radix(d, 16).ok());
        Ok(Some((format!("{word} {operands}").trim_end().to_string(), target.filter(|_| jumps))))
    };
    found().ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_has_its_words() {
        let text = |name: &str, code: u32| {
            let m = MACHINES.iter().find(|m| m.name == name).expect("a known machine");
            let l = line(m, &if m.big { code.to_be_bytes() } else { code.to_le_bytes() }, 0x1000);
            (l.text.unwrap_or_default(), l.branch)
        };
        let rows = [
            ("arm", 0xe52de004, "str lr, [sp, #-4]!", None),
            ("arm", 0xeafffffe, "b #0x1000", Some(0x1000)),
            ("arm", 0xffffffff, "", None),
            ("arm64", 0xa9bf7bfd, "stp x29, x30, [sp, #-0x10]!", None),
            ("arm64be", 0x17ffffff, "b #0xffc", Some(0xffc)),
            ("ppc", 0x7c0802a6, "mflr r0", None),
            ("ppc", 0x48000008, "b 0x1008", Some(0x1008)),
            ("mips", 0x1000ffff, "b 0x1000", Some(0x1000)),
            ("mipsel", 0x24840001, "addiu $a0, $a0, 1", None),
            ("mips64", 0x64840001, "daddiu $a0, $a0, 1", None),
            ("mips64el", 0x64840001, "daddiu $a0, $a0, 1", None),
            ("mips64r6", 0x64840001, "daddiu $a0, $a0, 1", None),
            ("mips64r6el", 0x00851098, "mul $v0, $a0, $a1", None),
        ];
        for (name, code, want, branch) in rows {
            assert_eq!(text(name, code), (want.to_string(), branch), "{name} {code:08x}");
        }
    }

    #[test]
    fn less_than_an_instruction_is_none() {
        assert_eq!(
            line(&MACHINES[0], &[1, 2, 3], 0),
            Line { len: 4, text: None, branch: None, data: None, last: false }
        );
    }
}
