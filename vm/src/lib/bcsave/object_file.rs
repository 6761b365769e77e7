//! Object files with one constant symbol, as linkers take them: ELF, PE/COFF and Mach-O.
//!
//! The layout of each is the one LuaJIT writes, byte for byte: fixed headers, the names, the bytes.

/// A machine an object file can be for. Bytecode itself is for all of them.
#[derive(Clone, Copy, Debug)]
pub struct Arch {
    /// Its name on the command line.
    pub name: &'static str,
    /// Bytes of a number, most significant first?
    big: bool,
    /// 64-bit layout?
    wide: bool,
    elf: u16,
    elf_flags: u32,
    /// Its number in PE files, 0 where there are none for it.
    pe: u16,
}

/// Every architecture.
pub const ARCHS: &[Arch] = {
    const fn arch(name: &'static str, big: bool, wide: bool, elf: u16, elf_flags: u32, pe: u16) -> Arch {
        Arch { name, big, wide, elf, elf_flags, pe }
    }
    &[
        arch("x86", false, false, 3, 0, 0x14c),
        arch("x64", false, true, 62, 0, 0x8664),
        arch("arm", false, false, 40, 0, 0x1c0),
        arch("arm64", false, true, 183, 0, 0xaa64),
        arch("arm64be", true, true, 183, 0, 0),
        arch("ppc", true, false, 20, 0, 0),
        arch("mips", true, false, 8, 0x5000_1006, 0),
        arch("mipsel", false, false, 8, 0x5000_1006, 0),
        arch("mips64", true, true, 8, 0x8000_0007, 0),
        arch("mips64el", false, true, 8, 0x8000_0007, 0),
        arch("mips64r6", true, true, 8, 0xa000_0407, 0),
        arch("mips64r6el", false, true, 8, 0xa000_0407, 0),
    ]
};

/// What the files of a system look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// With the system's number in the header.
    Elf(u8),
    /// COFF with an export directive.
    Pe,
    /// Of 64 bits.
    MachO,
}

/// Every system, by its name on the command line.
pub const SYSTEMS: &[(&str, Format)] = &[
    ("linux", Format::Elf(0)),
    ("windows", Format::Pe),
    ("osx", Format::MachO),
    ("freebsd", Format::Elf(9)),
    ("netbsd", Format::Elf(2)),
    ("openbsd", Format::Elf(12)),
    ("dragonfly", Format::Elf(0)),
    ("solaris", Format::Elf(6)),
];

/// The architecture this program runs on.
pub fn native_arch() -> Arch {
    let name = if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" };
    ARCHS.iter().copied().find(|a| a.name == name).unwrap_or(ARCHS[1])
}

/// The format of the system this program runs on.
pub fn native_format() -> Format {
    let name = if cfg!(target_os = "macos") { "osx" } else { std::env::consts::OS };
    SYSTEMS.iter().find(|s| s.0 == name).map_or(Format::Elf(0), |s| s.1)
}

/// An object file in which `symbol` names `bytes`.
pub fn write(format: Format, arch: Arch, symbol: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    match format {
        Format::Elf(system) => Ok(elf(arch, system, symbol, bytes)),
        Format::Pe if arch.pe == 0 => Err("unsupported architecture for Windows".into()),
        Format::Pe => Ok(pe(arch, symbol, bytes)),
        Format::MachO => match arch.name {
            "x64" => Ok(mach_o(0x0100_0007, 3, symbol, bytes)),
            "arm64" => Ok(mach_o(0x0100_000c, 0, symbol, bytes)),
            _ => Err("unsupported architecture for OSX".into()),
        },
    }
}

/// A file in the making.
struct Out {
    bytes: Vec<u8>,
    big: bool,
    /// Are a "word"'s bytes eight?
    wide: bool,
}

impl Out {
    fn new(big: bool, wide: bool) -> Out {
        Out { bytes: Vec::new(), big, wide }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Text in a field of fixed size.
    fn field(&mut self, text: &[u8], size: usize) {
        self.raw(text);
        self.zeros(size - text.len());
    }

    fn zeros(&mut self, n: usize) {
        self.bytes.resize(self.bytes.len() + n, 0);
    }

    fn halves<const N: usize>(&mut self, values: [u16; N]) {
        for v in values {
            self.raw(&if self.big { v.to_be_bytes() } else { v.to_le_bytes() });
        }
    }

    fn longs<const N: usize>(&mut self, values: [u32; N]) {
        for v in values {
            self.raw(&if self.big { v.to_be_bytes() } else { v.to_le_bytes() });
        }
    }

    /// Numbers as wide as the machine's addresses.
    fn words<const N: usize>(&mut self, values: [usize; N]) {
        for v in values {
            match self.wide {
                true if self.big => self.raw(&(v as u64).to_be_bytes()),
                true => self.raw(&(v as u64).to_le_bytes()),
                false => self.longs([v as u32]),
            }
        }
    }
}

/// A section header of an ELF file.
#[derive(Clone, Copy, Default)]
struct ElfSection {
    kind: u32,
    flags: usize,
    at: usize,
    size: usize,
    link: u32,
    info: u32,
    align: usize,
    entry: usize,
}

fn elf(arch: Arch, system: u8, symbol: &str, bytes: &[u8]) -> Vec<u8> {
    const NAMES: [&str; 5] = [".symtab", ".shstrtab", ".strtab", ".rodata", ".note.GNU-stack"];
    let (header, section, entry) = if arch.wide { (64, 64, 24) } else { (52, 40, 16) };
    let symbols_at = header + (NAMES.len() + 1) * section;
    let names_at = symbols_at + 2 * entry;
    let names_size = 1 + NAMES.iter().map(|n| n.len() + 1).sum::<usize>();
    let strings_at = names_at + names_size;
    let data_at = strings_at + symbol.len() + 2;
    let plain = ElfSection { align: 1, ..ElfSection::default() };
    let sections = [
        // One local symbol, the empty one, comes first.
        ElfSection {
            kind: 2,
            link: 3,
            info: 1,
            align: 8,
            entry,
            at: symbols_at,
            size: 2 * entry,
            ..ElfSection::default()
        },
        ElfSection { kind: 3, at: names_at, size: names_size, ..plain },
        ElfSection { kind: 3, at: strings_at, size: symbol.len() + 2, ..plain },
        ElfSection { kind: 1, flags: 2, at: data_at, size: bytes.len(), ..plain },
        ElfSection { kind: 1, at: data_at + bytes.len(), ..plain },
    ];

    let mut o = Out::new(arch.big, arch.wide);
    o.raw(b"\x7fELF");
    o.raw(&[1 + u8::from(arch.wide), 1 + u8::from(arch.big), 1, system]);
    o.zeros(8);
    o.halves([1, arch.elf]);
    o.longs([1]);
    o.words([0, 0, header]);
    o.longs([arch.elf_flags]);
    o.halves([header as u16, 0, 0, section as u16, 1 + NAMES.len() as u16, 2]);
    o.zeros(section);
    let mut name = 1;
    for (s, text) in sections.iter().zip(NAMES) {
        o.longs([name, s.kind]);
        o.words([s.flags, 0, s.at, s.size]);
        o.longs([s.link, s.info]);
        o.words([s.align, s.entry]);
        name += text.len() as u32 + 1;
    }
    o.zeros(entry);
    // A global object in section 4.
    o.longs([1]);
    if !arch.wide {
        o.words([0, bytes.len()]);
    }
    o.raw(&[0x11, 0]);
    o.halves([4]);
    if arch.wide {
        o.words([0, bytes.len()]);
    }
    o.zeros(1);
    for text in NAMES {
        o.field(text.as_bytes(), text.len() + 1);
    }
    o.zeros(1);
    o.field(symbol.as_bytes(), symbol.len() + 1);
    o.raw(bytes);
    o.bytes
}

fn pe(arch: Arch, symbol: &str, bytes: &[u8]) -> Vec<u8> {
    const HEADER: usize = 20;
    const SECTION: usize = 40;
    const SYMBOL: usize = 18;
    // Two symbols for the sections, each with one more entry; the object; the mark of safe handlers.
    const SYMBOLS: usize = 6;
    let directive = format!("   /EXPORT:{symbol},DATA ");
    let symbols_at = HEADER + 2 * SECTION;
    let directive_at = symbols_at + SYMBOLS * SYMBOL + 4 + symbol.len() + 1;
    let data_at = directive_at + directive.len();

    let mut o = Out::new(false, false);
    o.halves([arch.pe, 2]);
    o.longs([0, symbols_at as u32, SYMBOLS as u32]);
    o.halves([0, 0]);
    let sections: [(&[u8], _, _, _); 2] = [
        (b".drectve", directive.len(), directive_at, 0x0010_0a00),
        (b".rdata", bytes.len(), data_at, 0x4030_0040),
    ];
    for (name, size, at, flags) in sections {
        o.field(name, 8);
        o.longs([0, 0, size as u32, at as u32, 0, 0]);
        o.halves([0, 0]);
        o.longs([flags]);
    }
    for (i, (name, size, ..)) in sections.iter().enumerate() {
        o.field(name, 8);
        o.longs([0]);
        o.halves([i as u16 + 1, 0]);
        o.raw(&[3, 1]);
        o.longs([*size as u32]);
        o.zeros(SYMBOL - 4);
    }
    // Its name lies in the table of strings, behind the table's size.
    o.longs([0, 4, 0]);
    o.halves([2, 0]);
    o.raw(&[2, 0]);
    o.raw(b"@feat.00");
    o.longs([1]);
    o.halves([0xffff, 0]);
    o.raw(&[2, 0]);
    o.longs([symbol.len() as u32 + 1 + 4]);
    o.field(symbol.as_bytes(), symbol.len() + 1);
    o.raw(directive.as_bytes());
    o.raw(bytes);
    o.bytes
}

fn mach_o(cpu: u32, subtype: u32, symbol: &str, bytes: &[u8]) -> Vec<u8> {
    const HEADER: usize = 32;
    const SEGMENT: usize = 72;
    const SECTION: usize = 80;
    const SYMTAB: usize = 24;
    const ENTRY: usize = 16;
    let data_at = HEADER + SEGMENT + SECTION + SYMTAB;
    let symbols_at = data_at + bytes.len().next_multiple_of(8);
    // An empty name, an underscore, the name, a zero.
    let strings = (symbol.len() + 3).next_multiple_of(8);

    let mut o = Out::new(false, true);
    o.longs([0xfeed_facf, cpu, subtype, 1, 2, (SEGMENT + SECTION + SYMTAB) as u32, 0, 0]);
    o.longs([0x19, (SEGMENT + SECTION) as u32]);
    o.zeros(16);
    o.words([0, bytes.len(), data_at, bytes.len()]);
    o.longs([1, 1, 1, 0]);
    o.field(b"__data", 16);
    o.field(b"__DATA", 16);
    o.words([0, bytes.len()]);
    o.longs([data_at as u32]);
    o.zeros(SECTION - 52);
    o.longs([2, SYMTAB as u32, symbols_at as u32, 1, (symbols_at + ENTRY) as u32, strings as u32]);
    o.field(bytes, bytes.len().next_multiple_of(8));
    // A global object in section 1.
    o.longs([1]);
    o.raw(&[0xf, 1]);
    o.halves([0]);
    o.words([0]);
    o.raw(b"\0_");
    o.field(symbol.as_bytes(), strings - 2);
    o.bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = b"\x1bLJ\x02 not quite bytecode";

    fn arch(name: &str) -> Arch {
        *ARCHS.iter().find(|a| a.name == name).expect("a known architecture")
    }

    fn file(system: &str, name: &str, symbol: &str) -> Result<Vec<u8>, String> {
        let format = SYSTEMS.iter().find(|s| s.0 == system).expect("a known system").1;
        write(format, arch(name), symbol, BYTES)
    }

    fn fnv1a(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
    }

    /// Sizes and checksums of what LuaJIT's `jit.bcsave` writes around the same bytes.
    #[test]
    fn files_are_those_of_luajit() {
        let wanted: &[(&str, &str, &str, usize, u64)] = &[
            ("linux", "x86", "m", 411, 0x30a9_ee29_991a_e1ae),
            ("linux", "x64", "m", 583, 0xa3a8_fe0f_d1be_e2ab),
            ("linux", "arm", "m", 411, 0xd358_6090_8392_c88b),
            ("linux", "arm64", "m", 583, 0x7ea8_a4c4_0417_c368),
            ("linux", "arm64be", "m", 583, 0xe3f7_3353_885c_6ebd),
            ("linux", "ppc", "m", 411, 0x0695_ad99_e6c9_2516),
            ("linux", "mips", "m", 411, 0x68f3_1b5d_2b12_af2c),
            ("linux", "mipsel", "m", 411, 0x793d_c72f_3b47_589d),
            ("linux", "mips64", "m", 583, 0x1716_83f5_4c91_bfa5),
            ("linux", "mips64el", "m", 583, 0x4c40_bd6b_b0a3_14c8),
            ("linux", "mips64r6", "m", 583, 0xc219_d8ee_33b5_4019),
            ("linux", "mips64r6el", "m", 583, 0x39db_7b4d_0fa8_679c),
            ("freebsd", "x64", "name", 586, 0x195e_cc46_5cde_e029),
            ("netbsd", "x64", "name", 586, 0x8aa7_9086_8630_46d4),
            ("openbsd", "x64", "name", 586, 0xd9eb_19f2_4d51_173a),
            ("dragonfly", "x64", "name", 586, 0x0028_5497_2c81_43b6),
            ("solaris", "x64", "name", 586, 0x4bfe_ad8c_ce9d_41e0),
            ("windows", "x86", "a_b_c", 283, 0x83dd_e73e_9396_9735),
            ("windows", "x64", "a_b_c", 283, 0x6a8d_2ae9_c650_52b2),
            ("windows", "arm", "a_b_c", 283, 0x6e32_9c87_deab_8501),
            ("windows", "arm64", "a_b_c", 283, 0xb9d6_3861_9f9b_00ae),
            ("osx", "x64", "a_b_c", 272, 0xcb04_d6d5_ed84_755c),
            ("osx", "arm64", "a_b_c", 272, 0x0a78_0108_91f4_2fe4),
        ];
        for &(system, arch, name, size, sum) in wanted {
            let got = file(system, arch, &format!("luaJIT_BC_{name}")).expect("a file");
            assert_eq!((got.len(), fnv1a(&got)), (size, sum), "{system} {arch} {name}");
        }
    }

    /// What a linker follows leads to the bytes and to the name.
    #[test]
    fn headers_lead_to_the_symbol() {
        let long =
            |o: &[u8], at: usize| u32::from_le_bytes(o[at..at + 4].try_into().expect("four bytes")) as usize;
        for symbol in ["s", "luaJIT_BC_a_long_module_name_1"] {
            let o = file("windows", "x64", symbol).expect("a file");
            let data = 20 + 40;
            assert_eq!(&o[long(&o, data + 20)..][..long(&o, data + 16)], BYTES);
            let strings = long(&o, 8) + 18 * long(&o, 12);
            assert_eq!(&o[strings + 4..strings + long(&o, strings) - 1], symbol.as_bytes());

            let o = file("osx", "arm64", symbol).expect("a file");
            let section = 32 + 72;
            assert_eq!(&o[long(&o, section + 48)..][..long(&o, section + 40)], BYTES);
            let strings = &o[long(&o, 32 + 72 + 80 + 16)..];
            let name = &strings[long(&o, long(&o, 32 + 72 + 80 + 8))..];
            assert_eq!(&name[..symbol.len() + 2], format!("_{symbol}\0").as_bytes());
            assert_eq!(strings.len(), long(&o, 32 + 72 + 80 + 20));
        }
    }

    #[test]
    fn what_there_is_no_file_for_is_named() {
        for a in ["ppc", "arm64be", "mips64r6el"] {
            assert_eq!(file("windows", a, "s"), Err("unsupported architecture for Windows".into()));
        }
        for a in ["x86", "arm", "arm64be"] {
            assert_eq!(file("osx", a, "s"), Err("unsupported architecture for OSX".into()));
        }
    }
}
