//! `jit.bcsave`, and the option `-b` of the command line: lists bytecode, or saves it raw, as C source, or as an object file
//! that a linker takes.

mod object_file;

use super::{base, io, set_field};
use crate::chunk::dump::DumpOptions;
use crate::state::Vm;
use crate::state::native::{Entry, NativeResult, NativeRow, Outcome};
use crate::value::Value;
use object_file::{ARCHS, Arch, Format, SYSTEMS};
use std::io::Write;

/// Functions of `jit.bcsave`.
pub const FNS: &[NativeRow] = &[NativeRow::new("jit.bcsave.start", start)];

/// Name of the symbol that holds a module's bytecode.
const SYMBOL_PREFIX: &str = "luaJIT_BC_";

/// How the words are used.
pub const USAGE: &str = "Save bytecode: moonlit -b[options] input output
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

/// What the words ask for.
struct Wanted {
    list: bool,
    dump: DumpOptions,
    name: Option<String>,
    kind: Option<Kind>,
    arch: Arch,
    format: Format,
    /// The input is source text, not the name of a file.
    chunk: bool,
    filename: Option<Vec<u8>>,
    /// Input and output.
    files: Vec<Vec<u8>>,
}

/// Why nothing was saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// The words are no command: [`USAGE`] says which are.
    Usage,
    /// A message.
    Text(Vec<u8>),
}

impl From<&str> for Wrong {
    fn from(text: &str) -> Wrong {
        Wrong::Text(text.as_bytes().to_vec())
    }
}

/// Makes the module known to `require`.
pub fn open(vm: &mut Vm) {
    super::set_preload(vm, "jit.bcsave", NativeRow::new("jit.module", load));
}

fn load(vm: &mut Vm, _: Entry) -> NativeResult {
    let t = vm.heap.new_table(0, 1);
    for row in FNS {
        let f = vm.new_native(*row, &[]);
        set_field(vm, t, "start", Value::obj(f));
    }
    Ok(Outcome::one(Value::obj(t)))
}

/// `jit.bcsave.start(...)`: what `-b` does with these words. As there, what is wrong is told on standard error, and the process
/// ends with code 1.
fn start(vm: &mut Vm, e: Entry) -> NativeResult {
    let words = (0..e.count()).map(|i| Ok(vm.check_str(i)?.bytes(&vm.heap).to_vec()));
    let words = words.collect::<Result<Vec<_>, _>>()?;
    let wrong = match run(vm, &words) {
        Ok(()) => return Ok(Outcome::none()),
        Err(w) => w,
    };
    io::flush_standard(vm);
    let text = match wrong {
        Wrong::Usage => USAGE.as_bytes().to_vec(),
        Wrong::Text(t) => [b"moonlit: ", &t[..], b"\n"].concat(),
    };
    // Nobody is left to be told when standard error is closed.
    let _ = std::io::stderr().write_all(&text);
    std::process::exit(1)
}

/// Does what the words behind `-b` say: options, input and output.
pub fn run(vm: &mut Vm, words: &[Vec<u8>]) -> Result<(), Wrong> {
    let wanted = parse(words)?;
    let input = &wanted.files[0];
    let (code, chunkname) = match wanted.chunk {
        true => (input.clone(), input.clone()),
        false => {
            let path = Some(&input[..]).filter(|p| p != b"-");
            let code = base::read_source(vm, path).map_err(Wrong::Text)?;
            let own = path.map_or(b"=stdin".to_vec(), |p| [b"@", p].concat());
            (code, wanted.filename.as_ref().map_or(own, |f| [b"@", &f[..]].concat()))
        }
    };
    let target = wanted.files.get(1).map_or(&b"-"[..], |f| f);
    let output = if wanted.list {
        vm.list_bytecode(&code, &chunkname).map_err(Wrong::Text)?
    } else {
        let f = vm.load(&code, &chunkname, b"bt", None).map_err(Wrong::Text)?;
        let dumped = vm.dump_function(f, wanted.dump).ok_or("unable to dump given function")?;
        wanted.encode(&dumped, target).map_err(|t| Wrong::Text(t.into_bytes()))?
    };
    if target == b"-" {
        io::write_stdout(vm, &output);
        return Ok(());
    }
    save(target, &output).map_err(|(what, e)| {
        let text = e.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default();
        Wrong::Text([what.as_bytes(), target, b": ", reason.as_bytes()].concat())
    })
}

/// Writes a file; an error comes with the words that stand before its name.
fn save(target: &[u8], bytes: &[u8]) -> Result<(), (&'static str, std::io::Error)> {
    let mut f = std::fs::File::create(path_of(target)).map_err(|e| ("", e))?;
    f.write_all(bytes).map_err(|e| ("cannot write ", e))
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
    let mut w = Wanted {
        list: false,
        dump: DumpOptions { strip: true, deterministic: false },
        name: None,
        kind: None,
        arch: object_file::native_arch(),
        format: object_file::native_format(),
        chunk: false,
        filename: None,
        files: Vec::new(),
    };
    let mut words = words.iter().cloned();
    while let Some(word) = words.next() {
        match &word[..] {
            b"--" => w.files.extend(words.by_ref()),
            [b'-', _, ..] => w.flags(&word, &mut words)?,
            _ => w.files.push(word),
        }
    }
    let fits = match w.list {
        true => (1..=2).contains(&w.files.len()),
        false => w.files.len() == 2,
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
                b'W' => return Err("-W: there is no 32-bit form of this bytecode".into()),
                // What follows the flags is the source.
                b'e' if self.files.is_empty() && i + 1 == flags.len() => self.chunk = true,
                b'n' => {
                    let name = text(&value()?);
                    let ok = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
                    if name.is_empty() || !name.chars().all(ok) {
                        return Err("bad module name".into());
                    }
                    self.name = Some(name.replace(['.', '-'], "_"));
                }
                b't' => {
                    let word = text(&value()?).to_lowercase();
                    let kind = Kind::from_word(&word);
                    self.kind = Some(kind.ok_or("unknown file type")?);
                }
                b'a' => {
                    let word = text(&value()?).to_lowercase();
                    let arch = ARCHS.iter().find(|a| a.name == word);
                    self.arch = *arch.ok_or("unknown architecture")?;
                }
                b'o' => {
                    let word = text(&value()?).to_lowercase();
                    let system = SYSTEMS.iter().find(|s| s.0 == word);
                    self.format = system.ok_or("unknown OS name")?.1;
                }
                b'F' => self.filename = Some(value()?),
                _ => return Err(Wrong::Usage),
            }
        }
        Ok(())
    }

    /// The module's name: given, or the input's (a chunk's, too) without folder and extension.
    fn module(&self) -> Result<String, String> {
        if let Some(n) = &self.name {
            return Ok(n.clone());
        }
        let input = text(&self.files[0]);
        // What ends in a separator has no last part.
        let base = input.rsplit(['/', '\\']).next().filter(|b| !b.is_empty()).unwrap_or(&input);
        let stem = base.rsplit_once('.').map_or(base, |(head, _)| head);
        let ok = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let name: String = stem.chars().take_while(|&c| ok(c)).collect();
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
                let symbol = format!("{SYMBOL_PREFIX}{}", self.module()?);
                object_file::write(self.format, self.arch, &symbol, bytecode)?
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
            "#ifdef __cplusplus\nextern \"C\"\n#endif\n#ifdef _WIN32\n__declspec(dllexport)\n\
             #elif (defined(__ELF__) || defined(__MACH__) || defined(__psp2__)) \
             && !((defined(__sun__) && defined(__svr4__)) || defined(__CELLOS_LV2__))\n\
             __attribute__((visibility(\"default\")))\n#endif\n\
             const unsigned char {SYMBOL_PREFIX}{name}[] = {{\n"
        ),
    };
    // A line's numbers count with a comma each.
    let mut width = 0;
    for (i, b) in bytecode.iter().enumerate() {
        let word = b.to_string();
        width += word.len() + 1;
        if width > 78 {
            out.push_str(",\n");
            width = word.len() + 1;
        } else if i > 0 {
            out.push(',');
        }
        out.push_str(&word);
    }
    out.push_str("\n};\n");
    out.into_bytes()
}
