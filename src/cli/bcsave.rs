//! `-b`: lists bytecode, or saves it raw, as C source, or as an object file that a linker takes.

use super::script::{Cli, Done, Failed};
use crate::native::DumpOptions;
use moonlit_vm::lib::base;

/// Name of the symbol that holds a module's bytecode.
const SYMBOL_PREFIX: &str = "luaJIT_BC_";

const USAGE: &str = "Save bytecode: moonlit -b[options] input output
  -l        Only list bytecode.
  -s        Strip debug info (default).
  -g        Keep debug info.
  -X        64-bit bytecode (there is no other).
  -d        Generate bytecode in deterministic manner.
  -n name   Set module name (default: from the input name).
  -t type   Set output file type (default: from the output name).
  -a arch   Architecture of an object file (default: native).
  -o os     Operating system of an object file (default: native).
  -F name   Override filename (default: input filename).
  -e chunk  Use chunk string as input.
  --        Stop handling options.
  -         Use stdin as input and/or stdout as output.

File types: c cc h obj o raw (default)
";

/// Kinds of output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Raw,
    C,
    Header,
    Object,
}

impl Kind {
    fn from_word(word: &str) -> Option<Kind> {
        Some(match word {
            "raw" => Kind::Raw,
            "c" | "cc" => Kind::C,
            "h" => Kind::Header,
            "o" | "obj" => Kind::Object,
            _ => return None,
        })
    }
}

/// Machines an object file can be for: name and ELF machine number. Bytecode itself is for all of them.
const ARCHS: &[(&str, u16)] = &[("x64", 62), ("arm64", 183)];
/// Architectures LuaJIT knows besides.
const OTHER_ARCHS: &[&str] =
    &["x86", "arm", "arm64be", "ppc", "mips", "mipsel", "mips64", "mips64el", "mips64r6", "mips64r6el"];
/// Systems whose object files are ELF.
const ELF_SYSTEMS: &[&str] = &["linux", "freebsd", "netbsd", "openbsd", "dragonfly", "solaris"];
/// Systems LuaJIT knows besides.
const OTHER_SYSTEMS: &[&str] = &["windows", "osx"];

/// What the words ask for.
struct Wanted {
    list: bool,
    dump: DumpOptions,
    name: Option<String>,
    kind: Option<Kind>,
    machine: u16,
    chunk: Option<Vec<u8>>,
    filename: Option<Vec<u8>>,
    files: Vec<Vec<u8>>,
}

/// Why the words are no command.
enum Wrong {
    Usage,
    Text(String),
}

/// Runs `-b`; the first word is `-b` with the flags behind it.
pub fn start(cli: &mut Cli, words: &[Vec<u8>]) -> Done {
    let wanted = match parse(words) {
        Ok(w) => w,
        Err(Wrong::Usage) => {
            eprint!("{USAGE}");
            return Err(Failed);
        }
        Err(Wrong::Text(t)) => return fail(cli, t.as_bytes()),
    };
    let (code, chunkname) = match &wanted.chunk {
        Some(c) => (c.clone(), c.clone()),
        None => {
            let path = Some(&wanted.files[0][..]).filter(|p| p != b"-");
            let code = match base::read_source(&mut cli.vm, path) {
                Ok(c) => c,
                Err(e) => return fail(cli, &e),
            };
            let own = path.map_or(b"=stdin".to_vec(), |p| [b"@", p].concat());
            (code, wanted.filename.as_ref().map_or(own, |f| [b"@", &f[..]].concat()))
        }
    };
    let target = wanted.files.get(wanted.chunk.is_none() as usize).map_or(&b"-"[..], |f| f);
    let output = if wanted.list {
        cli.vm.list_bytecode(&code, &chunkname)
    } else {
        let dumped = cli.vm.load(&code, &chunkname, b"bt", None).and_then(|f| {
            cli.vm.dump_function(f, wanted.dump).ok_or_else(|| b"unable to dump given function".to_vec())
        });
        dumped.and_then(|d| wanted.encode(&d, target).map_err(String::into_bytes))
    };
    let written = match &output {
        Err(message) => return fail(cli, message),
        Ok(bytes) if target == b"-" => {
            moonlit_vm::lib::io::write_stdout(&mut cli.vm, bytes);
            Ok(())
        }
        Ok(bytes) => std::fs::write(path_of(target), bytes),
    };
    written.map_err(|e| {
        let text = e.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_string();
        cli.report(&[target, b": ", reason.as_bytes()].concat());
        Failed
    })
}

fn fail(cli: &mut Cli, text: &[u8]) -> Done {
    cli.report(text);
    Err(Failed)
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> &std::path::Path {
    use std::os::unix::ffi::OsStrExt;
    std::path::Path::new(std::ffi::OsStr::from_bytes(bytes))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse(words: &[Vec<u8>]) -> Result<Wanted, Wrong> {
    let native = ARCHS.iter().find(|a| a.0 == if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" });
    let mut w = Wanted {
        list: false,
        dump: DumpOptions { strip: true, deterministic: false },
        name: None,
        kind: None,
        machine: native.map_or(62, |a| a.1),
        chunk: None,
        filename: None,
        files: Vec::new(),
    };
    let mut words = words.iter().enumerate().map(|(i, word)| match i {
        // `-bl` is `-l`; a bare `-b` is no word.
        0 => [b"-", &word[2..]].concat(),
        _ => word.clone(),
    });
    if let Some(first) = words.next()
        && first != b"-"
    {
        w.flags(&first, &mut words)?;
    }
    while let Some(word) = words.next() {
        match &word[..] {
            b"--" => w.files.extend(words.by_ref()),
            [b'-', _, ..] => w.flags(&word, &mut words)?,
            _ => w.files.push(word),
        }
    }
    let inputs = w.chunk.is_none() as usize;
    let fits = if w.list {
        w.files.len() >= inputs && w.files.len() <= inputs + 1
    } else {
        w.files.len() == inputs + 1
    };
    if fits { Ok(w) } else { Err(Wrong::Usage) }
}

impl Wanted {
    /// One word of flags; a flag that takes a value is the last of its word.
    fn flags(&mut self, word: &[u8], rest: &mut impl Iterator<Item = Vec<u8>>) -> Result<(), Wrong> {
        let flags = &word[1..];
        for (i, &c) in flags.iter().enumerate() {
            let mut value = || match i + 1 == flags.len() {
                true => rest.next().ok_or(Wrong::Usage),
                false => Err(Wrong::Usage),
            };
            match c {
                b'l' => self.list = true,
                b's' => self.dump.strip = true,
                b'g' => self.dump.strip = false,
                b'd' => self.dump.deterministic = true,
                b'X' => {}
                b'W' => return Err(Wrong::Text("-W: there is no 32-bit form of this bytecode".into())),
                b'e' if self.chunk.is_none() && self.files.is_empty() => self.chunk = Some(value()?),
                b'n' => {
                    let name = text(&value()?);
                    let ok = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                    if name.is_empty() || !name.chars().all(ok) {
                        return Err(Wrong::Text("bad module name".into()));
                    }
                    self.name = Some(name.replace(['.', '-'], "_"));
                }
                b't' => {
                    let word = text(&value()?).to_lowercase();
                    let kind = Kind::from_word(&word);
                    self.kind = Some(kind.ok_or_else(|| Wrong::Text("unknown file type".into()))?);
                }
                b'a' => {
                    let word = text(&value()?).to_lowercase();
                    self.machine = match ARCHS.iter().find(|a| a.0 == word) {
                        Some(a) => a.1,
                        None if OTHER_ARCHS.contains(&&word[..]) => {
                            return Err(Wrong::Text(format!("no object files for architecture '{word}'")));
                        }
                        None => return Err(Wrong::Text("unknown architecture".into())),
                    };
                }
                b'o' => {
                    let word = text(&value()?).to_lowercase();
                    if OTHER_SYSTEMS.contains(&&word[..]) {
                        return Err(Wrong::Text(format!("no object files for OS '{word}'")));
                    }
                    if !ELF_SYSTEMS.contains(&&word[..]) {
                        return Err(Wrong::Text("unknown OS name".into()));
                    }
                }
                b'F' => self.filename = Some(value()?),
                _ => return Err(Wrong::Usage),
            }
        }
        Ok(())
    }

    /// The module's name: given, or the input's without folder and extension.
    fn module(&self) -> Result<String, String> {
        if let Some(n) = &self.name {
            return Ok(n.clone());
        }
        let input = self.files.first().filter(|_| self.chunk.is_none()).map(|f| text(f));
        let base = input.as_deref().map(|f| f.rsplit('/').next().unwrap_or(f));
        let stem = base.map(|b| b.rsplit_once('.').map_or(b, |(head, _)| head));
        let ok = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let name: String = stem.unwrap_or_default().chars().take_while(|&c| ok(c)).collect();
        match name.is_empty() {
            true => Err("cannot derive module name, use -n name".into()),
            false => Ok(name.replace(['.', '-'], "_")),
        }
    }

    fn encode(&self, bytecode: &[u8], target: &[u8]) -> Result<Vec<u8>, String> {
        let kind = self.kind.unwrap_or_else(|| {
            let name = text(target).to_lowercase();
            name.rsplit_once('.').and_then(|(_, ext)| Kind::from_word(ext)).unwrap_or(Kind::Raw)
        });
        Ok(match kind {
            Kind::Raw => bytecode.to_vec(),
            Kind::C => c_source(&self.module()?, bytecode, false),
            Kind::Header => c_source(&self.module()?, bytecode, true),
            Kind::Object => {
                elf::object(&format!("{SYMBOL_PREFIX}{}", self.module()?), bytecode, self.machine)
            }
        })
    }
}

/// Bytecode as a C array: of external linkage, or for a header.
fn c_source(name: &str, bytecode: &[u8], header: bool) -> Vec<u8> {
    let mut out = match header {
        true => format!(
            "#define {SYMBOL_PREFIX}{name}_SIZE {}\nstatic const unsigned char {SYMBOL_PREFIX}{name}[] = {{\n",
            bytecode.len()
        ),
        false => format!(
            "#ifdef __cplusplus\nextern \"C\"\n#endif\n#ifdef _WIN32\n__declspec(dllexport)\n#endif\n\
             const unsigned char {SYMBOL_PREFIX}{name}[] = {{\n"
        ),
    };
    let mut width = 0;
    for (i, b) in bytecode.iter().enumerate() {
        let word = b.to_string();
        if width + word.len() + 1 > 78 {
            out.push_str(",\n");
            width = 0;
        } else if i > 0 {
            out.push(',');
            width += 1;
        }
        out.push_str(&word);
        width += word.len();
    }
    out.push_str("\n};\n");
    out.into_bytes()
}

/// Relocatable ELF files with one read-only object.
mod elf {
    const HEADER: usize = 64;
    const SECTION: usize = 64;
    const SYMBOL: usize = 24;
    const NAMES: &[u8] = b"\0.symtab\0.shstrtab\0.strtab\0.rodata\0.note.GNU-stack\0";

    fn name(of: &[u8]) -> u32 {
        let at = NAMES.windows(of.len() + 1).position(|w| &w[..of.len()] == of && w[of.len()] == 0);
        at.map_or(0, |a| a as u32)
    }

    /// A section header.
    struct Section {
        name: &'static [u8],
        kind: u32,
        flags: u64,
        at: usize,
        size: usize,
        link: u32,
        info: u32,
        align: u64,
        entry: u64,
    }

    /// 64-bit little-endian object file: `symbol` names `bytes`.
    pub(super) fn object(symbol: &str, bytes: &[u8], machine: u16) -> Vec<u8> {
        let strings = [b"\0", symbol.as_bytes(), b"\0"].concat();
        let sections_at = HEADER;
        let symbols_at = sections_at + 6 * SECTION;
        let names_at = symbols_at + 2 * SYMBOL;
        let strings_at = names_at + NAMES.len();
        let data_at = (strings_at + strings.len()).next_multiple_of(32);
        let section = |name, kind, flags, at, size| Section {
            name,
            kind,
            flags,
            at,
            size,
            link: 0,
            info: 0,
            align: 1,
            entry: 0,
        };
        let sections = [
            Section { align: 0, ..section(b"", 0, 0, 0, 0) },
            // One local symbol, the empty one, comes first.
            Section {
                link: 3,
                info: 1,
                align: 8,
                entry: SYMBOL as u64,
                ..section(b".symtab", 2, 0, symbols_at, 2 * SYMBOL)
            },
            section(b".shstrtab", 3, 0, names_at, NAMES.len()),
            section(b".strtab", 3, 0, strings_at, strings.len()),
            Section { align: 32, ..section(b".rodata", 1, 2, data_at, bytes.len()) },
            section(b".note.GNU-stack", 1, 0, data_at, 0),
        ];
        let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        for half in [1u16, machine] {
            out.extend(half.to_le_bytes());
        }
        out.extend(1u32.to_le_bytes());
        for long in [0u64, 0, sections_at as u64] {
            out.extend(long.to_le_bytes());
        }
        out.extend(0u32.to_le_bytes());
        for half in [HEADER as u16, 0, 0, SECTION as u16, sections.len() as u16, 2] {
            out.extend(half.to_le_bytes());
        }
        for s in &sections {
            out.extend(name(s.name).to_le_bytes());
            out.extend(s.kind.to_le_bytes());
            for long in [s.flags, 0, s.at as u64, s.size as u64] {
                out.extend(long.to_le_bytes());
            }
            out.extend(s.link.to_le_bytes());
            out.extend(s.info.to_le_bytes());
            out.extend(s.align.to_le_bytes());
            out.extend(s.entry.to_le_bytes());
        }
        // An empty symbol comes first.
        out.resize(symbols_at + SYMBOL, 0);
        out.extend(1u32.to_le_bytes());
        // A global object in section 4.
        out.extend([0x11, 0]);
        out.extend(4u16.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(NAMES);
        out.extend_from_slice(&strings);
        out.resize(data_at, 0);
        out.extend_from_slice(bytes);
        out
    }
}
