//! Shared libraries: opening by LuaJIT's name rules, finding symbols.
//!
//! Knows no types and no VM. The default namespace covers the program with everything linked into it, then libm, and, each
//! opened when a symbol was found nowhere else, libcrypto, libssl and libz.

use std::cell::OnceCell;
use std::ffi::{CStr, CString, c_void};

use crate::symbols::SymbolSource;

/// Libraries tried for a symbol that the program does not have: names in the order of preference.
const FALLBACKS: &[&[&CStr]] = &[
    &[c"libm.so.6"],
    &[c"libcrypto.so.3", c"libcrypto.so.1.1", c"libcrypto.so"],
    &[c"libssl.so.3", c"libssl.so.1.1", c"libssl.so"],
    &[c"libz.so.1", c"libz.so"],
];

/// Longest linker script that is read, bytes.
const SCRIPT_BYTES_MAX: u64 = 64 * 1024;

/// A handle of the dynamic linker; closed when dropped.
struct Handle(*mut c_void);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: the handle came from `dlopen` and is closed once, here.
        unsafe { libc::dlclose(self.0) };
    }
}

impl Handle {
    fn open(name: &CStr, flags: i32) -> Result<Handle, Vec<u8>> {
        // SAFETY: `name` is a C string; loading runs the library's constructors, which is what was asked for.
        let handle = unsafe { libc::dlopen(name.as_ptr(), flags) };
        if handle.is_null() { Err(last_error()) } else { Ok(Handle(handle)) }
    }

    fn symbol(&self, name: &CStr) -> Option<usize> {
        // SAFETY: the handle is open as long as `self` lives; `name` is a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address as usize)
    }
}

fn last_error() -> Vec<u8> {
    // SAFETY: `dlerror` returns null or a C string that stays valid until the next call on this thread.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() { b"unknown error".to_vec() } else { CStr::from_ptr(text).to_bytes().to_vec() }
    }
}

/// A namespace of C symbols.
pub struct Library {
    /// `None` for the default namespace.
    handle: Option<Handle>,
    fallbacks: Vec<OnceCell<Option<Handle>>>,
    sources: Vec<Box<dyn SymbolSource>>,
}

impl Library {
    /// The default namespace, `ffi.C`.
    pub fn default_namespace() -> Library {
        Library {
            handle: None,
            fallbacks: FALLBACKS.iter().map(|_| OnceCell::new()).collect(),
            sources: Vec::new(),
        }
    }

    /// Opens a library.
    ///
    /// A name without a slash gets `.so` if it has no dot and `lib` if it does not begin with it. A linker script in place of
    /// a library is followed. `global` makes its symbols visible to libraries opened later. The error is the linker's text.
    pub fn open(name: &[u8], global: bool) -> Result<Library, Vec<u8>> {
        let flags = libc::RTLD_LAZY | if global { libc::RTLD_GLOBAL } else { libc::RTLD_LOCAL };
        let file = file_name(name);
        let handle = match c_string(&file).and_then(|n| Handle::open(&n, flags)) {
            Ok(handle) => handle,
            Err(error) => match script_target(&error) {
                Some(target) => Handle::open(&target, flags)?,
                None => return Err(error),
            },
        };
        Ok(Library { handle: Some(handle), fallbacks: Vec::new(), sources: Vec::new() })
    }

    /// Adds a source of symbols, asked after everything else.
    pub fn add_source(&mut self, source: Box<dyn SymbolSource>) {
        self.sources.push(source);
    }

    /// Address of a symbol. The error is the linker's text.
    pub fn symbol(&self, name: &[u8]) -> Result<usize, Vec<u8>> {
        let c_name = c_string(name)?;
        if let Some(handle) = &self.handle {
            return handle.symbol(&c_name).ok_or_else(last_error);
        }
        // SAFETY: `RTLD_DEFAULT` needs no handle; `c_name` is a C string.
        let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c_name.as_ptr()) };
        if !address.is_null() {
            return Ok(address as usize);
        }
        let error = last_error();
        for source in &self.sources {
            if let Some(address) = source.address(name) {
                return Ok(address);
            }
        }
        for (cell, names) in self.fallbacks.iter().zip(FALLBACKS) {
            let handle = cell.get_or_init(|| {
                names.iter().find_map(|n| Handle::open(n, libc::RTLD_LAZY | libc::RTLD_LOCAL).ok())
            });
            if let Some(address) = handle.as_ref().and_then(|h| h.symbol(&c_name)) {
                return Ok(address);
            }
        }
        Err(error)
    }
}

/// C's own stream for a standard descriptor (0 to 2): a `FILE *`.
pub fn standard_file(descriptor: u8) -> Option<usize> {
    let name = [c"stdin", c"stdout", c"stderr"][usize::from(descriptor.min(2))];
    // SAFETY: `RTLD_DEFAULT` needs no handle; the symbol, where it exists, is a variable that holds a pointer.
    unsafe {
        let variable = libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) as *const usize;
        if variable.is_null() { None } else { Some(*variable) }
    }
}

/// Whether a C function of this name writes to C's standard output.
pub fn writes_stdout(name: &[u8]) -> bool {
    const NAMES: &[&[u8]] = &[
        b"printf",
        b"vprintf",
        b"puts",
        b"putchar",
        b"putc",
        b"fputc",
        b"fputs",
        b"fwrite",
        b"fprintf",
        b"vfprintf",
        b"putchar_unlocked",
        b"puts_unlocked",
    ];
    NAMES.contains(&name)
}

/// Makes C's standard output write at once, so that it does not mix its order with what Lua writes to the same descriptor.
pub fn unbuffer_stdout() {
    if let Some(file) = standard_file(1) {
        // SAFETY: `file` is C's `stdout`; no buffer is handed over.
        unsafe { libc::setvbuf(file as *mut libc::FILE, std::ptr::null_mut(), libc::_IONBF, 0) };
    }
}

fn c_string(bytes: &[u8]) -> Result<CString, Vec<u8>> {
    CString::new(bytes).map_err(|_| b"name contains a zero byte".to_vec())
}

/// The file name for a library name.
fn file_name(name: &[u8]) -> Vec<u8> {
    let mut file = name.to_vec();
    if !name.contains(&b'/') {
        if !name.contains(&b'.') {
            file.extend_from_slice(b".so");
        }
        if !file.starts_with(b"lib") {
            file.splice(0..0, *b"lib");
        }
    }
    file
}

/// The library that a GNU linker script names, if the linker's complaint is about such a file.
fn script_target(error: &[u8]) -> Option<CString> {
    use std::io::Read as _;
    use std::os::unix::ffi::OsStrExt as _;
    if !error.starts_with(b"/") {
        return None;
    }
    let end = error.iter().position(|&b| b == b':')?;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(&error[..end]));
    let mut text = Vec::new();
    std::fs::File::open(path).ok()?.take(SCRIPT_BYTES_MAX).read_to_end(&mut text).ok()?;
    if !text.starts_with(b"/* GNU ld script") {
        return None;
    }
    let keyword = |word: &[u8]| text.windows(word.len()).position(|w| w == word).map(|at| at + word.len());
    let mut rest = &text[keyword(b"GROUP").or_else(|| keyword(b"INPUT"))?..];
    rest = &rest[rest.iter().position(|&b| b == b'(')? + 1..];
    let name = rest.split(|b| b.is_ascii_whitespace() || *b == b')').find(|w| !w.is_empty())?;
    CString::new(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn library_names_get_prefix_and_suffix_only_where_missing() {
        for (name, file) in [
            ("z", "libz.so"),
            ("libz", "libz.so"),
            ("z.so.1", "libz.so.1"),
            ("./z", "./z"),
            ("/a/b.so", "/a/b.so"),
        ] {
            assert_eq!(file_name(name.as_bytes()), file.as_bytes(), "{name}");
        }
    }

    #[test]
    fn default_namespace_has_libc_and_libm() {
        let lib = Library::default_namespace();
        assert!(lib.symbol(b"strlen").is_ok());
        assert!(lib.symbol(b"cos").is_ok());
        let error = lib.symbol(b"no_such_symbol_anywhere").expect_err("not defined");
        assert!(String::from_utf8_lossy(&error).ends_with("undefined symbol: no_such_symbol_anywhere"));
    }

    #[test]
    fn a_missing_library_is_an_error_with_the_linkers_words() {
        let Err(error) = Library::open(b"surely_not_there", false) else { panic!("opened") };
        let text = String::from_utf8_lossy(&error).into_owned();
        assert_eq!(text, "libsurely_not_there.so: cannot open shared object file: No such file or directory");
    }

    #[test]
    fn sources_are_asked_for_what_no_library_has() {
        struct One;
        impl SymbolSource for One {
            fn address(&self, name: &[u8]) -> Option<usize> {
                (name == b"only_here").then_some(0x1234)
            }
        }
        let mut lib = Library::default_namespace();
        lib.add_source(Box::new(One));
        assert_eq!(lib.symbol(b"only_here"), Ok(0x1234));
    }
}
